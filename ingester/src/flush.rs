use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{BatchId, Digest, HeadId, HeadKey, NodeId, Signal};
use parking_lot::Mutex;
use rpc::{
    Catalog, Command, FlushCommit, MetaApi, Network, OwnerApi, ReconcileRequest, Reconciled,
    SegmentId, SegmentMeta,
};
use runtime::Blocking;
use store::ObjectStorage;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::gather::{Gathering, Write};
use crate::config::nanos;
use crate::metrics::Metrics;
use crate::start::{Clock, Deps};
use crate::state::FlushJob;
use crate::{Config, Error, codec, objects};

pub(crate) mod gather;

/// Turns heads into committed segments.
#[derive(Clone)]
pub(crate) struct Flusher {
    cluster: Arc<str>,
    storage: ObjectStorage,
    meta: Arc<dyn MetaApi>,
    clock: Clock,
    blocking: Blocking,
    metrics: Arc<Metrics>,
    network: Option<Arc<dyn Network>>,
    owner_timeout: Duration,
    /// Of other owners' batches, in one flush.
    pulled_bytes_max: usize,
    /// Objects whose commit could not be asked for, or whose answer was lost: to be named again.
    unnamed: Arc<Mutex<HashMap<HeadKey, Unnamed>>>,
    /// So long an object may be named: well before it is taken for an orphan.
    unnamed_age_max: Duration,
    /// Owners that did not answer, and since when: for a while they are not asked again.
    away: Arc<Mutex<HashMap<NodeId, Instant>>>,
}

#[derive(Debug)]
struct Unnamed {
    digest: Digest,
    object: Written,
}

/// An object that the catalog does not name yet.
#[derive(Debug)]
struct Written {
    segment: SegmentMeta,
    /// It was not there before.
    began: Instant,
}

impl Flusher {
    pub(crate) fn new(config: &Config, deps: &Deps, metrics: Arc<Metrics>) -> Self {
        Flusher {
            cluster: Arc::clone(&deps.cluster),
            storage: deps.storage.clone(),
            meta: Arc::clone(&deps.meta),
            clock: Arc::clone(&deps.clock),
            blocking: deps.blocking.clone(),
            metrics,
            network: deps.network.clone(),
            owner_timeout: config.owner_timeout,
            pulled_bytes_max: config.head_bytes_max,
            unnamed: Arc::default(),
            unnamed_age_max: config.orphan_age / 2,
            away: Arc::default(),
        }
    }

    /// Gathers what other owners have, encodes, uploads, commits. Heads that the catalog covers
    /// already are done: an earlier commit may have succeeded though its answer was lost. Returns
    /// batches of the key that are in segments besides those of the job's heads.
    ///
    /// # Errors
    /// `Conflict` when another owner is at it or was faster; whatever refused. Nothing is lost, and
    /// an object that stays behind is removed as an orphan.
    #[tracing::instrument(name = "flush", skip_all, fields(head = job.heads[0].sequence as i64, batches = job.batches.len() as i64))]
    pub(crate) async fn run(&self, job: FlushJob) -> Result<Vec<BatchId>, Error> {
        let own = job.heads.clone();
        if covers_all(&self.meta.catalog(), &own) {
            return Ok(Vec::new());
        }
        let alone = job.others.is_empty();
        let write = match alone {
            true => job.whole(),
            false => self.gather(job).await?,
        };
        if !alone && covers_any(&self.meta.catalog(), &write.heads) {
            // The commit would be refused: spare the object.
            return match covers_all(&self.meta.catalog(), &own) {
                true => Ok(Vec::new()),
                false => Err(faster()),
            };
        }
        let mut committed = self.commit(&write, false).await;
        if let Ok(false) = committed {
            committed = self.commit(&write, true).await;
        }
        match committed {
            Ok(true) => {
                self.metrics.pulled_batches.inc_by(write.pulled as u64);
                Ok(write.stored)
            }
            _ if covers_all(&self.meta.catalog(), &own) => Ok(Vec::new()),
            Ok(false) => Err(Error::Stopped(
                "objects of a flush were named by others; it is tried again".to_owned(),
            )),
            Err(error) => Err(error),
        }
    }

    /// Stores the object and has it named; `false` when the catalog names its path already, as after
    /// a rebuild of it: then another object is needed, in a path of its own when it is written `again`.
    async fn commit(&self, write: &Write, again: bool) -> Result<bool, Error> {
        let object = match write.batches.is_empty() {
            true => None,
            false => Some(self.object_of(write, again).await?),
        };
        if object.as_ref().is_some_and(|object| self.is_old(object)) {
            // As after the process was held up for long: others may take it for an orphan.
            let text = "storing a segment took too long; it is stored again".to_owned();
            return Err(Error::Stopped(text));
        }
        let segment = object.as_ref().map(|object| &object.segment);
        let path = segment.map(|segment| Arc::clone(&segment.path));
        let commit = FlushCommit {
            key: write.key,
            heads: write.heads.clone(),
            digest: write.digest,
            segments: segment.into_iter().cloned().collect(),
        };
        let proposed = self.meta.propose(Command::CommitFlush(commit)).await;
        let Err(error) = proposed else {
            return Ok(true);
        };
        match (&error, path) {
            (rpc::Error::Conflict(_), Some(path)) => {
                if self.was_refused(&write.heads, &path).await {
                    self.storage.delete(&path).await?;
                }
            }
            (rpc::Error::Invalid(_), Some(path))
                if objects::is_named(&self.meta.catalog(), &path) =>
            {
                return Ok(false);
            }
            _ => self.keep_unnamed(write.key, write.digest, object),
        }
        Err(error.into())
    }

    /// Whether a commit that met a conflict was not applied by an earlier try of the coordinator's
    /// to apply it: then nobody reads its object. Its heads and its segment came into the catalog
    /// together, so whatever covers one of the heads tells.
    async fn was_refused(&self, heads: &[HeadId], path: &Arc<str>) -> bool {
        let told = async {
            let mut catalog = self.meta.catalog();
            while !covers_any(&catalog, heads) {
                catalog = self.meta.changed(catalog.version).await;
            }
            !objects::is_named(&catalog, path)
        };
        timeout(self.owner_timeout, told).await.unwrap_or(false)
    }

    /// While the coordinator cannot be asked, a flush is tried again and again; its object is written
    /// once. Should the commit of an earlier try be done yet, then this one's will be refused, for
    /// both name the same heads.
    fn keep_unnamed(&self, key: HeadKey, digest: Digest, object: Option<Written>) {
        if let Some(object) = object {
            let mut unnamed = self.unnamed.lock();
            unnamed.retain(|_, unnamed| !self.is_old(&unnamed.object));
            unnamed.insert(key, Unnamed { digest, object });
        }
    }

    /// The object of an earlier try with the same batches, or a new one.
    async fn object_of(&self, write: &Write, again: bool) -> Result<Written, Error> {
        let unnamed = self.unnamed.lock().remove(&write.key);
        match unnamed {
            Some(Unnamed { digest, object }) if digest == write.digest && !self.is_old(&object) => {
                Ok(object)
            }
            _ => self.write(write, again).await,
        }
    }

    /// Whether others may take it for an orphan before long, by either clock: one may be set, and the
    /// other stands still while a machine sleeps.
    fn is_old(&self, object: &Written) -> bool {
        let oldest = (self.clock)().saturating_sub(nanos(self.unnamed_age_max));
        object.began.elapsed() > self.unnamed_age_max || object.segment.created < oldest
    }

    async fn write(&self, write: &Write, again: bool) -> Result<Written, Error> {
        let (now, began) = ((self.clock)(), Instant::now());
        let head = write.heads[0];
        let again = if again { "-again" } else { "" };
        let unique = format!("h{:x}-{}{again}", head.sequence, write.attempt);
        let path = objects::path(&self.cluster, Signal::Logs, now, head.ingester, &unique);
        let batches = write.batches.iter().map(|held| Arc::clone(&held.batch));
        let batches: Vec<_> = batches.collect();
        let encoding = self.blocking.run(move || {
            // Room for text that does not get smaller; what is not written takes no memory.
            let content = batches.iter().map(|batch| batch.content_bytes());
            let mut object = Vec::with_capacity(content.sum());
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
        let segment = SegmentMeta {
            id: SegmentId(0),
            signal: Signal::Logs,
            path: path.into(),
            object_bytes: written.object_bytes,
            created: now,
            level: 0,
            tenants: written.tenants,
        };
        Ok(Written { segment, began })
    }

    /// # Errors
    /// `Conflict` when the first owner is flushing the key itself.
    async fn gather(&self, job: FlushJob) -> Result<Write, Error> {
        let (key, others) = (job.key, job.others.clone());
        let mut gathering = Gathering::new(job);
        let ids = gathering.own_ids();
        let answers = self.ask(others, ReconcileRequest { key, ids }).await?;
        let catalog = self.meta.catalog();
        for (other, answer) in answers {
            gathering.reconciled(other, answer, &catalog);
        }
        let ids = gathering.wanted();
        if !ids.is_empty() {
            let again = ReconcileRequest { key, ids };
            for (_, answer) in self.ask(gathering.others(), again).await? {
                gathering.learn(answer.flushed);
            }
        }
        while let Some((other, ids)) = gathering.next_pull(self.pulled_bytes_max) {
            let batches = match self.owner(other) {
                Some(owner) => timeout(self.owner_timeout, owner.pull(key, ids)).await,
                None => Ok(Ok(Vec::new())),
            };
            let batches = match batches {
                Ok(Ok(batches)) => batches,
                Ok(Err(error)) => {
                    self.unreachable(other, &error.to_string());
                    Vec::new()
                }
                Err(_) => {
                    self.unreachable(other, "it did not answer in time");
                    Vec::new()
                }
            };
            gathering.pulled(other, batches);
        }
        Ok(gathering.finish())
    }

    /// Asks all at once; leaves out those that do not answer.
    async fn ask(
        &self,
        others: Vec<NodeId>,
        request: ReconcileRequest,
    ) -> Result<Vec<(NodeId, Reconciled)>, Error> {
        let mut asked = JoinSet::new();
        let pause = self.owner_timeout.saturating_mul(3);
        for other in others {
            let away = self.away.lock().get(&other).copied();
            let Some(owner) = self
                .owner(other)
                .filter(|_| away.is_none_or(|since| since.elapsed() >= pause))
            else {
                continue;
            };
            let (request, patience) = (request.clone(), self.owner_timeout);
            asked.spawn(async move { (other, timeout(patience, owner.reconcile(request)).await) });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((other, Ok(Ok(answer)))) => {
                    self.away.lock().remove(&other);
                    answers.push((other, answer));
                }
                Ok((_, Ok(Err(rpc::Error::Conflict(text))))) => {
                    return Err(Error::Meta(rpc::Error::Conflict(text)));
                }
                Ok((other, Ok(Err(error)))) => self.unreachable(other, &error.to_string()),
                Ok((other, Err(_))) => self.unreachable(other, "it did not answer in time"),
                Err(error) => {
                    let text = format!("asking another owner ended early: {error}");
                    return Err(Error::Stopped(text));
                }
            }
        }
        Ok(answers)
    }

    fn unreachable(&self, other: NodeId, error: &str) {
        tracing::warn!(
            node = other.0,
            error,
            "another owner does not answer; it stores what only it has when it is back"
        );
        self.metrics.unreachable_owners.inc();
        self.away.lock().insert(other, Instant::now());
    }

    /// `None` when it is not in the cluster any more.
    fn owner(&self, node: NodeId) -> Option<Arc<dyn OwnerApi>> {
        let catalog = self.meta.catalog();
        let member = catalog.cluster.members.get(&node)?;
        let network = self.network.as_ref()?;
        Some(network.owner(&member.address))
    }
}

fn covers_all(catalog: &Catalog, heads: &[HeadId]) -> bool {
    heads.iter().all(|head| catalog.covers(*head))
}

fn covers_any(catalog: &Catalog, heads: &[HeadId]) -> bool {
    heads.iter().any(|head| catalog.covers(*head))
}

fn faster() -> Error {
    let text = "another owner has covered some of the heads".to_owned();
    Error::Meta(rpc::Error::Conflict(text))
}
