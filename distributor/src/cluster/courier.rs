//! One request's way to the owners: does what a [`Delivery`] decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, RingVersion};
use rpc::{Error, IngestRequest};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::delivery::{Action, CallId, Delivery, Placed};
use super::{LATE_UNIT_BYTES, Shared, stamp};

/// One try to reach an owner may take so long.
pub(super) const CALL_PATIENCE: Duration = Duration::from_secs(5);

type Done = (CallId, NodeId, Duration, Result<(), Error>);

/// Does what a [`Delivery`] decides.
pub(super) struct Courier {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Vec<IngestRequest>,
    /// Of the catalog by which owners were chosen last.
    pub(super) version: u64,
    /// Ended when the courier is dropped.
    pub(super) calls: JoinSet<Done>,
    /// Owners whose last call failed.
    pub(super) failed: HashSet<NodeId>,
}

impl Courier {
    pub(super) async fn deliver(
        mut self,
        placed: Placed,
        tell: oneshot::Sender<Result<(), Error>>,
    ) {
        let batches = self.requests.iter().map(|r| (r.batch_id, r.shard));
        let mut delivery = Delivery::new(self.shared.patience(), batches.collect(), placed);
        let began = Instant::now();
        let mut tell = Some(tell);
        let mut late = None;
        loop {
            self.act(&mut delivery, began.elapsed(), &mut tell);
            if delivery.is_answered() && late.is_none() {
                late = self.admit_late(&delivery);
                if late.is_none() {
                    return self.shared.metrics.unserved(delivery.unserved().count());
                }
            }
            if delivery.is_done(began.elapsed()) {
                let unserved = delivery.unserved().count();
                return self.shared.metrics.unserved(unserved);
            }
            let wake = began + delivery.wake_at();
            let gone = async {
                match &mut tell {
                    Some(tell) => tell.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.calls.join_next() => {
                    if let Ok(done) = done {
                        self.take(&mut delivery, began.elapsed(), done);
                    }
                }
                catalog = self.shared.meta.changed(self.version), if delivery.wants_newer_ring() => {
                    self.version = catalog.version;
                    if catalog.cluster.ring.version > delivery.ring() {
                        delivery.placed_anew(self.shared.place(&catalog, &self.requests));
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = gone => return,
            }
        }
    }

    /// Does what is to be done by now: sends, and tells who asked.
    fn act(
        &mut self,
        delivery: &mut Delivery,
        elapsed: Duration,
        tell: &mut Option<oneshot::Sender<Result<(), Error>>>,
    ) {
        let shared = Arc::clone(&self.shared);
        let mut may_hedge = || shared.pace.lock().may_hedge();
        for action in delivery.step(elapsed, &mut may_hedge) {
            match action {
                Action::Send {
                    call,
                    node,
                    ring,
                    batches,
                    hedge,
                } => self.send(call, node, ring, &batches, hedge),
                Action::Answer(result) => {
                    shared.metrics.answered(&result);
                    // Who asked may have left.
                    let _ = tell.take().map(|tell| tell.send(result));
                }
            }
        }
    }

    /// Takes an owner's answer.
    fn take(&mut self, delivery: &mut Delivery, elapsed: Duration, done: Done) {
        let (call, node, took, result) = done;
        self.shared.learn(node, took, &result);
        match result {
            Ok(()) => {
                if delivery.is_answered() {
                    self.shared.metrics.late(delivery.news(call));
                }
                delivery.acked(call);
            }
            Err(error) => {
                self.failed.insert(node);
                delivery.failed(elapsed, call, error);
            }
        }
    }

    /// Room to go on after the answer; `None` when there is none, or nobody is worth it.
    fn admit_late(&self, delivery: &Delivery) -> Option<OwnedSemaphorePermit> {
        let mut unserved = delivery.unserved();
        if unserved.all(|node| self.shared.is_suspect(node)) {
            return None;
        }
        let bytes = self.requests.iter().map(|r| r.batch.memory_bytes());
        let units = bytes.sum::<usize>().div_ceil(LATE_UNIT_BYTES);
        let units = u32::try_from(units).ok()?;
        Arc::clone(&self.shared.late)
            .try_acquire_many_owned(units)
            .ok()
    }

    fn send(
        &mut self,
        call: CallId,
        node: NodeId,
        ring: RingVersion,
        batches: &[usize],
        hedge: bool,
    ) {
        let shared = &self.shared;
        let catalog = shared.meta.catalog();
        let port = match catalog.cluster.members.get(&node) {
            Some(member) => Ok(shared.port(node, &member.address)),
            None => Err(Error::Unavailable("it has left the cluster".to_owned())),
        };
        let mut requests: Vec<IngestRequest> = batches
            .iter()
            .map(|at| self.requests[*at].clone())
            .collect();
        stamp(&mut requests, ring);
        let again = !hedge && self.failed.remove(&node);
        shared.metrics.called(hedge, again);
        if hedge {
            tracing::debug!(node = node.0, "an owner is slow; asking it a second time");
        } else {
            shared.pace.lock().called();
        }
        self.calls.spawn(async move {
            let began = Instant::now();
            let result = match port {
                Ok(port) => tokio::time::timeout(CALL_PATIENCE, port.ingest(requests)).await,
                Err(error) => Ok(Err(error)),
            };
            let result = result.unwrap_or_else(|_| {
                let waited = CALL_PATIENCE.as_millis();
                Err(Error::Unavailable(format!("no answer within {waited} ms")))
            });
            (call, node, began.elapsed(), result)
        });
    }
}
