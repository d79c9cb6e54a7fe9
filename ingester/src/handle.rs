use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{BatchId, HeadKey, NodeId, RingVersion};
use parking_lot::Mutex;
use rpc::{
    Command, Error, HeldBatch, IngestApi, IngestRequest, MemberState, MetaApi, OwnerApi, Recent,
    RecentRequest, ReconcileRequest, Reconciled, SearchApi, TailReceiver, TailSender,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::alarm::Alarm;
use crate::closed_deletes;
use crate::maintenance::Maintenance;
use crate::task::Message;

/// A running ingester; clones are the same one. When the last is dropped without
/// [`shutdown`](Ingester::shutdown), it ends as after a crash: the log keeps what is not flushed.
#[derive(Clone, Debug)]
pub struct Ingester {
    shared: Arc<Shared>,
}

struct Shared {
    id: u64,
    meta: Arc<dyn MetaApi>,
    messages: mpsc::Sender<Message>,
    tail: TailSender,
    maintenance: Maintenance,
    owner_timeout: Duration,
    alarm: Alarm,
    /// Of the task, and of the log's thread.
    ends: Mutex<Option<(JoinHandle<()>, oneshot::Receiver<()>)>>,
}

impl Ingester {
    pub(crate) fn new(
        id: u64,
        meta: Arc<dyn MetaApi>,
        messages: mpsc::Sender<Message>,
        tail: TailSender,
        maintenance: Maintenance,
        owner_timeout: Duration,
        (task, thread, alarm): (JoinHandle<()>, oneshot::Receiver<()>, Alarm),
    ) -> Self {
        Ingester {
            shared: Arc::new(Shared {
                id,
                meta,
                messages,
                tail,
                maintenance,
                owner_timeout,
                alarm,
                ends: Mutex::new(Some((task, thread))),
            }),
        }
    }

    /// The number that the coordinator gave this ingester.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Merges small segments until nothing is left to merge, applies retention, and returns how many
    /// merges, rewrites and drops were committed.
    ///
    /// # Errors
    /// What stopped it; the catalog is as consistent as before.
    pub async fn merge_now(&self) -> Result<u64, Error> {
        self.shared.maintenance.merge_now().await
    }

    /// Removes objects whose grace has passed, and objects that nothing names; returns how many.
    ///
    /// # Errors
    /// What stopped it; the rest is tried again later.
    pub async fn clean_now(&self) -> Result<u64, Error> {
        self.shared.maintenance.clean_now().await
    }

    /// Leaves the cluster: takes batches until others own its shards, which is when enough ingesters know
    /// of that; then it refuses them and answers reads, and when all that it holds is stored, the
    /// coordinator forgets it. What fails is tried again
    /// until the future is dropped; calling it again, after a restart too, goes on where it ended.
    /// Then [`shutdown`](Self::shutdown) has nothing left to do.
    ///
    /// # Errors
    /// What the coordinator answered, `Unavailable` when the ingester has stopped.
    pub async fn leave(&self) -> Result<(), Error> {
        let (node, meta) = (NodeId(self.shared.id), &self.shared.meta);
        if !meta.catalog().cluster.members.contains_key(&node) {
            return Ok(());
        }
        let leaving = Command::SetState(node, MemberState::Leaving);
        meta.propose(leaving).await?;
        // No ring from here on has this ingester in it.
        let ring = self.replaced().await;
        self.ask(|reply| Message::Leave { reply }).await?;
        meta.propose(Command::Drained(node, ring)).await?;
        match meta.propose(Command::Forget(node)).await {
            Err(error) if meta.catalog().cluster.members.contains_key(&node) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the current ring is one without this ingester, and returns its version.
    async fn replaced(&self) -> RingVersion {
        let (node, meta) = (NodeId(self.shared.id), &self.shared.meta);
        let mut catalog = meta.catalog();
        loop {
            let cluster = &catalog.cluster;
            let is_owner = cluster.ring.members.contains_key(&node);
            // Who was forgotten meanwhile is not waited for by anybody.
            if !is_owner || !cluster.members.contains_key(&node) {
                return cluster.ring.version;
            }
            catalog = meta.changed(catalog.version).await;
        }
    }

    /// Returns, with the reason, when a part of the ingester has ended by a defect: it does not work any
    /// more, and the process had better end. What is not stored is in the log.
    pub async fn failed(&self) -> Error {
        self.shared.alarm.rung().await
    }

    /// Refuses new batches, flushes everything that no other owner is to flush first, ends the task
    /// and the log's thread. What is not flushed stays in the log and is read back at the next start.
    ///
    /// # Errors
    /// What kept the heads from being flushed.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let flush = async {
            tokio::select! {
                biased;
                // What the others wait for may never come.
                error = self.failed() => Err(error),
                flushed = self.ask(|reply| Message::Shutdown { reply }) => flushed,
            }
        };
        let (flushed, ()) = tokio::join!(flush, self.shared.maintenance.stop());
        // The task may have ended already: then there is nothing to stop.
        let _ = self.shared.messages.send(Message::Stop).await;
        let ends = self.shared.ends.lock().take();
        if let Some((task, thread)) = ends {
            let ended = task.await.is_ok();
            if !ended || thread.await.is_err() {
                tracing::error!("a part of the ingester ended with a panic, a defect");
            }
        }
        flushed
    }

    async fn ask(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Message,
    ) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.shared.messages.send(message(reply)).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[async_trait]
impl IngestApi for Ingester {
    #[tracing::instrument(skip_all, fields(batches = requests.len() as i64))]
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        let batches: Vec<_> = requests.iter().map(|r| Arc::clone(&r.batch)).collect();
        self.ask(|reply| Message::Ingest { requests, reply })
            .await?;
        let shared = &self.shared;
        closed_deletes::wait(&*shared.meta, &batches, shared.owner_timeout).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.ask(|reply| Message::Flush { reply }).await
    }
}

#[async_trait]
impl OwnerApi for Ingester {
    #[tracing::instrument(skip_all, fields(batches = request.ids.len() as i64))]
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Reconcile { request, reply };
        let sent = self.shared.messages.send(message).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Pull { key, ids, reply };
        let sent = self.shared.messages.send(message).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

#[async_trait]
impl SearchApi for Ingester {
    #[tracing::instrument(skip_all, fields(tenant = %request.tenant))]
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Recent {
            tenant: request.tenant.clone(),
            range: request.range,
            reply,
        };
        let sent = self.shared.messages.send(message).await;
        sent.map_err(|_| stopped())?;
        let mut heads = answer.await.map_err(|_| stopped())?;
        // Covered, and not yet dropped here: this ingester has not heard of it.
        heads.retain(|head| !request.covered.contains(head.head.sequence));
        // Whole batches: cutting would copy, and costs more than it saves inside of one process.
        let mut known = HashMap::new();
        for head in &mut heads {
            head.batches.retain(|held| {
                let mut streams = held.batch.streams.iter();
                streams.any(|stream| request.wants(stream, &mut known))
            });
        }
        heads.retain(|head| !head.batches.is_empty());
        let version = self.shared.meta.catalog().version;
        Ok(Recent { heads, version })
    }

    fn tail(&self) -> TailReceiver {
        self.shared.tail.subscribe()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn stopped() -> Error {
    Error::Unavailable("the ingester has stopped; send again to another or later".to_owned())
}

#[cfg(test)]
mod tests;
