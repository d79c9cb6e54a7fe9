use std::sync::Arc;

use bytes::Bytes;
use model::Signal;
use rpc::{Command, FlushCommit, MetaApi, SegmentId, SegmentMeta};
use store::ObjectStorage;

use crate::metrics::Metrics;
use crate::start::Clock;
use crate::state::FlushJob;
use crate::{Error, codec, objects};

/// Turns heads into committed segments.
#[derive(Clone)]
pub(crate) struct Flusher {
    pub(crate) storage: ObjectStorage,
    pub(crate) meta: Arc<dyn MetaApi>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

impl Flusher {
    /// Encodes, uploads, commits. A head that the catalog covers already is done: an earlier commit
    /// may have succeeded though its answer was lost.
    ///
    /// # Errors
    /// Whatever refused; nothing is lost, and an object that stays behind is removed as an orphan.
    #[tracing::instrument(name = "flush", skip_all, fields(head = job.head.sequence as i64, batches = job.batches.len() as i64))]
    pub(crate) async fn run(&self, job: FlushJob) -> Result<(), Error> {
        let head = job.head;
        if self.meta.catalog().covers(head) {
            return Ok(());
        }
        let segment = match job.batches.is_empty() {
            true => None,
            false => Some(self.write(&job).await?),
        };
        let path = segment.as_ref().map(|segment| Arc::clone(&segment.path));
        let commit = FlushCommit {
            key: job.key,
            heads: vec![head],
            digest: job.digest,
            segments: segment.into_iter().collect(),
        };
        match self.meta.propose(Command::CommitFlush(commit)).await {
            Ok(_) => Ok(()),
            Err(rpc::Error::Conflict(_)) if self.meta.catalog().covers(head) => {
                let catalog = self.meta.catalog();
                let live = |path: &Arc<str>| catalog.segments.values().any(|s| s.path == *path);
                if let Some(path) = path.filter(|path| !live(path)) {
                    // The commit named another attempt's object, so nobody reads this one.
                    self.storage.delete(&path).await?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, job: &FlushJob) -> Result<SegmentMeta, Error> {
        let now = (self.clock)();
        let unique = format!("h{:x}-{}", job.head.sequence, job.attempt);
        let path = objects::path(Signal::Logs, now, job.head.ingester, &unique);
        let batches = job.batches.clone();
        let encoding = tokio::task::spawn_blocking(move || {
            let mut object = Vec::new();
            let written = codec::encode(&batches, &mut object)?;
            Ok::<_, Error>((written, object))
        });
        let (written, object) = encoding.await.map_err(|error| {
            Error::Stopped(format!("encoding a segment ended early: {error}"))
        })??;
        self.storage.put(&path, vec![Bytes::from(object)]).await?;
        self.metrics.flush_object_bytes.inc_by(written.object_bytes);
        tracing::debug!(
            path,
            object_bytes = written.object_bytes,
            "flushed a head to an object"
        );
        Ok(SegmentMeta {
            id: SegmentId(0),
            signal: Signal::Logs,
            path: path.into(),
            object_bytes: written.object_bytes,
            created: now,
            level: 0,
            tenants: written.tenants,
        })
    }
}
