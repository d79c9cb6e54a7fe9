use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::{Kind, NodeId, Timestamp};
use rpc::{Catalog, Command, DeleteId, MetaApi, SegmentId, SegmentMeta, SwapCommit};
use runtime::Blocking;
use segment::{Compression, ReadAt};
use store::ObjectStorage;
use tokio::time::Instant;

use super::MergePlan;
use crate::codec::{self, Written};
use crate::config::nanos;
use crate::deletes::Deletes;
use crate::metrics::Metrics;
use crate::start::Deps;
use crate::storage_clock::StorageClock;
use crate::wal::LogFiles;
use crate::{Config, Error, objects};

/// A read of about a chunk (3 MiB of text, 30 ms of work) waits at most 20 times 10 ms.
const WAIT_STEP: Duration = Duration::from_millis(10);
const WAIT_STEPS: u32 = 20;

/// Merges leave room for so many files of the log: what arrives while some are flushed.
const LOG_FILES_SPARED: u64 = 4;

/// Executes plans, one at a time.
#[derive(Clone)]
pub(crate) struct Merger {
    ingester: u64,
    cluster: Arc<str>,
    /// Temporary files so far: each merge has one of its own, for one that was given up may still
    /// be writing.
    files: Arc<AtomicU64>,
    storage: ObjectStorage,
    meta: Arc<dyn MetaApi>,
    clock: StorageClock,
    blocking: Blocking,
    metrics: Arc<Metrics>,
    folder: PathBuf,
    /// The disk of that folder, and bytes of it that are the log's.
    disk: Option<Arc<dyn LogFiles>>,
    spared_bytes: u64,
    retention_nanos: i64,
    delete_grace: i64,
    /// So long an object may be named: well before it is taken for an orphan.
    unnamed_age_max: Duration,
    enabled: bool,
    interval: Duration,
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicBool>,
}

/// What came of a segment that delete requests are pending for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// None of their records is in it any more, or none ever was.
    Done,
    /// Some of these requests' are, and the disk has no room for the segment without them.
    NoRoom(BTreeSet<DeleteId>),
}

/// A segment's object, read from a blocking thread.
struct ObjectReader {
    storage: ObjectStorage,
    segment: Arc<SegmentMeta>,
    blocking: Blocking,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
    busy: Option<Arc<AtomicBool>>,
}

/// Tells the readers of a job, when the job is dropped, that nobody waits for them.
#[derive(Default)]
struct GiveUp {
    given_up: Arc<AtomicBool>,
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// A file that is removed when nobody needs it any more: at the latest by the work that writes it, also
/// where the job was dropped meanwhile.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Left behind at worst until the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Merger {
    pub(crate) fn new(
        ingester: u64,
        config: &Config,
        deps: &Deps,
        clock: StorageClock,
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
        busy: Arc<AtomicBool>,
    ) -> Self {
        Merger {
            ingester,
            cluster: Arc::clone(&deps.cluster),
            files: Arc::default(),
            storage: deps.storage.clone(),
            meta: Arc::clone(&deps.meta),
            clock,
            blocking: deps.blocking.clone(),
            metrics,
            folder: config.data_dir.join("tmp"),
            disk: deps.log_files.clone(),
            spared_bytes: config.wal_file_bytes_max.saturating_mul(LOG_FILES_SPARED),
            retention_nanos: nanos(config.retention),
            delete_grace: nanos(config.delete_grace),
            unnamed_age_max: config.orphan_age / 2,
            enabled: config.merge.enabled,
            interval: config.merge.interval,
            stop,
            busy,
        }
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the disk has room for what these segments become, beside the log. What is merged is first
    /// written to the disk of the log; a local folder for segments may be on the same one.
    pub(crate) fn has_room(&self, inputs: &[Arc<SegmentMeta>]) -> bool {
        let bytes = inputs
            .iter()
            .map(|segment| segment.object_bytes)
            .sum::<u64>();
        let copies = if self.storage.is_remote() { 1 } else { 2 };
        let needed = bytes
            .saturating_mul(copies)
            .saturating_add(self.spared_bytes);
        match self.disk.as_ref().map(|disk| disk.free_bytes()) {
            Some(Ok(free)) => needed <= free,
            // Then the disk itself has to say.
            Some(Err(_)) | None => true,
        }
    }

    /// Searches a segment for records of the delete requests that are pending for it; rewrites it
    /// without them if there are any. The search needs no room on the disk.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    #[tracing::instrument(name = "delete", skip_all, fields(path = &*segment.path, urgent))]
    pub(crate) async fn delete(
        &self,
        segment: Arc<SegmentMeta>,
        catalog: &Arc<Catalog>,
        now: Timestamp,
        urgent: bool,
    ) -> Result<Removal, Error> {
        let inputs = vec![segment];
        let deletes = Deletes::pending(catalog, &inputs);
        let job = GiveUp::default();
        let ids = deletes.ids();
        let readers = self.readers(inputs.clone(), urgent, &job);
        self.metrics.delete_searches.inc();
        let search = self.blocking.run(move || {
            readers.iter().try_fold(false, |found, reader| {
                Ok::<_, Error>(found || deletes.are_in(reader)?)
            })
        });
        let found = search.await.map_err(|error| {
            Error::Stopped(format!("searching a segment ended early: {error}"))
        })??;
        if !found {
            let pass = Command::PassDeletes {
                deletes: ids,
                segments: inputs.iter().map(|segment| segment.id).collect(),
            };
            self.meta.propose(pass).await?;
            return Ok(Removal::Done);
        }
        if !self.has_room(&inputs) {
            return Ok(Removal::NoRoom(ids));
        }
        let output_level = inputs.iter().map(|segment| segment.level).max();
        let plan = MergePlan {
            inputs,
            output_level,
            passing: false,
        };
        self.run(plan, catalog, now, urgent).await?;
        self.metrics.delete_rewrites.inc();
        Ok(Removal::Done)
    }

    /// Writes the new segment, if there is one, and swaps it in; records of delete requests that are
    /// pending for the inputs are left out. A merge that is not `urgent` makes
    /// way for flushes while memory is short.
    ///
    /// # Errors
    /// `Conflict` when an input is no longer live; whatever refused. Nothing is changed then.
    #[tracing::instrument(name = "merge", skip_all, fields(inputs = plan.inputs.len() as i64, urgent))]
    pub(crate) async fn run(
        &self,
        plan: MergePlan,
        catalog: &Arc<Catalog>,
        now: Timestamp,
        urgent: bool,
    ) -> Result<(), Error> {
        let remove: Vec<SegmentId> = plan.inputs.iter().map(|segment| segment.id).collect();
        let inputs = remove.len();
        let mut deleted = BTreeSet::new();
        let add = match plan.output_level {
            None => None,
            Some(level) => {
                let deletes = Deletes::pending(catalog, &plan.inputs);
                deleted = deletes.ids();
                let job = GiveUp::default();
                let readers = self.readers(plan.inputs, urgent, &job);
                let compression = match plan.passing {
                    true => Compression::Passing,
                    false => Compression::Small,
                };
                let how = (level, compression);
                self.write(readers, how, catalog, now, deletes).await?
            }
        };
        // As after the process was held up for long: others may take it for an orphan.
        let (add, began) = add.map_or((None, None), |(segment, began)| {
            (Some(segment), Some(began))
        });
        if began.is_some_and(|began| began.elapsed() >= self.unnamed_age_max) {
            let text = "storing a merged segment took too long; it is merged again".to_owned();
            return Err(Error::Stopped(text));
        }
        let dropped = add.is_none();
        let path = add.as_ref().map(|segment| Arc::clone(&segment.path));
        let swap = SwapCommit {
            remove,
            add: add.into_iter().collect(),
            deleted,
            delete_after: self.clock.now().await?.saturating_add(self.delete_grace),
        };
        let swapped = self.meta.propose(Command::SwapSegments(swap)).await;
        if let (Err(rpc::Error::Conflict(_)), Some(path)) = (&swapped, &path) {
            // Refused for good; but a rebuild of the catalog may have found the object.
            if self.is_unnamed(path).await {
                self.storage.delete(path).await?;
            }
        }
        swapped?;
        match dropped {
            true => self.metrics.expired_segments.inc_by(inputs as u64),
            false => self.metrics.merges.inc(),
        }
        tracing::info!(inputs, path = path.as_deref(), "merged segments");
        Ok(())
    }

    /// Whether nobody reads an object whose swap was refused: by a catalog that has the refusal, for
    /// what is proposed after it is applied after it. `false` when there is none to be had.
    async fn is_unnamed(&self, path: &str) -> bool {
        let nothing = Command::ReleaseLease {
            name: "refused merge".into(),
            holder: NodeId(self.ingester),
        };
        let caught_up = self.meta.propose(nothing).await.is_ok();
        caught_up && !objects::is_named(&self.meta.catalog(), path)
    }

    fn readers(
        &self,
        inputs: Vec<Arc<SegmentMeta>>,
        urgent: bool,
        job: &GiveUp,
    ) -> Vec<ObjectReader> {
        let readers = inputs.into_iter().map(|segment| ObjectReader {
            storage: self.storage.clone(),
            segment,
            blocking: self.blocking.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: Arc::clone(&self.stop),
            given_up: Arc::clone(&job.given_up),
            busy: (!urgent).then(|| Arc::clone(&self.busy)),
        });
        readers.collect()
    }

    /// With the time before which the object was not there.
    async fn write(
        &self,
        inputs: Vec<ObjectReader>,
        (level, compression): (u32, Compression),
        catalog: &Arc<Catalog>,
        now: Timestamp,
        deletes: Deletes,
    ) -> Result<Option<(SegmentMeta, Instant)>, Error> {
        let first = &inputs[0].segment;
        let signal = first.signal;
        let unique = format!("m{:x}", first.id.0);
        let path = objects::path(&self.cluster, signal, now, self.ingester, &unique);
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary {
            path: self.folder.join(format!("{unique}-{number}.seg")),
        };
        let (merger, catalog) = (self.clone(), Arc::clone(catalog));
        let merging = self.blocking.run(move || {
            let file = &temporary.path;
            let written = merger.merge_to_file(&inputs, &catalog, now, &deletes, compression, file);
            written.map(|written| (written, temporary))
        });
        let (written, temporary) = merging
            .await
            .map_err(|error| Error::Stopped(format!("merging segments ended early: {error}")))??;
        let began = Instant::now();
        if written.tenants.is_empty() {
            return Ok(None);
        }
        self.storage.put_file(&path, &temporary.path).await?;
        let segment = SegmentMeta {
            id: SegmentId(0),
            signal,
            path: path.into(),
            object_bytes: written.object_bytes,
            created: now,
            level,
            tenants: written.tenants,
        };
        Ok(Some((segment, began)))
    }

    fn merge_to_file(
        &self,
        inputs: &[ObjectReader],
        catalog: &Catalog,
        now: Timestamp,
        deletes: &Deletes,
        compression: Compression,
        file: &Path,
    ) -> Result<Written, Error> {
        let failed = |doing| {
            let name = file.display().to_string();
            move |source| Error::File {
                doing,
                file: name,
                source,
            }
        };
        fs::create_dir_all(&self.folder).map_err(failed("make the folder of"))?;
        let readers: Vec<&dyn ReadAt> = inputs.iter().map(|r| r as &dyn ReadAt).collect();
        let keep = |tenant: &_| catalog.kept(tenant, now, self.retention_nanos);
        let out = File::create(file).map_err(failed("make"))?;
        let mut out = BufWriter::with_capacity(256 << 10, out);
        let written = codec::merge(
            &readers,
            &keep,
            &mut deletes.filter(),
            compression,
            &mut out,
        )?;
        out.flush().map_err(failed("write"))?;
        Ok(written)
    }
}

impl ReadAt for ObjectReader {
    fn name(&self) -> &str {
        &self.segment.path
    }

    fn len(&self) -> u64 {
        self.segment.object_bytes
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the ingester is stopping"));
        }
        if self.given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("the job was given up"));
        }
        if let Some(busy) = &self.busy {
            make_way(busy, &self.blocking);
        }
        self.metrics
            .merge_read_bytes
            .inc_by(range.end.saturating_sub(range.start));
        let read = self.storage.range(&self.segment.path, range);
        self.blocking.wait(read).map_err(|error| {
            let kind = match error.kind() {
                Kind::NotFound => io::ErrorKind::NotFound,
                Kind::Corrupt => io::ErrorKind::InvalidData,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, error)
        })
    }
}

/// Waits while memory is short, so that the flushes that free it have the processors; not for long,
/// so that merging goes on, at a tenth of its speed or so, when memory is short for hours.
fn make_way(busy: &AtomicBool, blocking: &Blocking) {
    for _ in 0..WAIT_STEPS {
        if !busy.load(Ordering::Relaxed) {
            return;
        }
        blocking.wait(tokio::time::sleep(WAIT_STEP));
    }
}
