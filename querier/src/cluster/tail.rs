//! What all ingesters acknowledge, as one stream.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{BatchId, NodeId};
use rpc::{HeldBatch, SearchApi, TailError, TailReceiver, TailSender};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;

/// Batches that wait for a receiver, and their bytes.
const BATCHES_MAX: usize = 64;
const BYTES_MAX: usize = 32 << 20;
/// Ids that are remembered to tell copies: those of some seconds at a high rate, 16 bytes each twice.
const IDS_MAX: usize = 64 << 10;
/// How long to leave an ingester alone whose tail has ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

type Heard = Result<HeldBatch, u64>;

/// Follows the tails of all ingesters for as long as somebody listens.
pub(super) fn merged(shared: Arc<Shared>) -> TailReceiver {
    let tail = TailSender::new(BATCHES_MAX, BYTES_MAX);
    let receiver = tail.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            () = follow_all(&shared, &tail) => {}
            () = tail.unwatched() => {}
        }
    });
    receiver
}

async fn follow_all(shared: &Arc<Shared>, tail: &TailSender) {
    let (heard, mut hears) = mpsc::channel(BATCHES_MAX);
    let mut followed: BTreeMap<NodeId, (Arc<str>, AbortOnDropHandle<()>)> = BTreeMap::new();
    let mut seen = Seen::default();
    loop {
        let catalog = shared.meta.catalog();
        let members: BTreeMap<NodeId, &Arc<str>> = catalog
            .cluster
            .ingesters()
            .map(|member| (member.id, &member.address))
            .collect();
        followed.retain(|id, (address, _)| members.get(id).is_some_and(|now| *now == address));
        for (id, address) in members {
            followed.entry(id).or_insert_with(|| {
                let port = shared.port(id, address);
                let task = tokio::spawn(follow(port, heard.clone()));
                (Arc::clone(address), AbortOnDropHandle::new(task))
            });
        }
        // Also when one has moved to another address, which changes no ring.
        let changed = async {
            let mut version = catalog.version;
            loop {
                let newer = shared.meta.changed(version).await;
                if !newer.cluster.ingesters().eq(catalog.cluster.ingesters()) {
                    return;
                }
                version = newer.version;
            }
        };
        tokio::pin!(changed);
        loop {
            tokio::select! {
                () = &mut changed => break,
                next = hears.recv() => match next {
                    Some(Ok(held)) => if seen.is_new(held.id) {
                        tail.send(held);
                    },
                    Some(Err(missed)) => tail.missed(missed),
                    None => return,
                },
            }
        }
    }
}

/// Hands on the tail of one ingester; asks for it again when it ends.
async fn follow(port: Arc<dyn SearchApi>, heard: mpsc::Sender<Heard>) {
    loop {
        let mut tail = port.tail();
        loop {
            let next = match tail.recv().await {
                Ok(held) => Ok(held),
                Err(TailError::Missed(batches)) => Err(batches),
                Err(TailError::Ended) => break,
            };
            if heard.send(next).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// The newest batch ids.
#[derive(Default)]
struct Seen {
    ids: HashSet<BatchId>,
    order: VecDeque<BatchId>,
}

impl Seen {
    fn is_new(&mut self, id: BatchId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_told_from_new_ones_and_memory_is_bounded() {
        let mut seen = Seen::default();
        assert!(seen.is_new(BatchId(1)) && !seen.is_new(BatchId(1)));
        let more = 2..IDS_MAX as u128 + 2;
        assert!(more.map(BatchId).all(|id| seen.is_new(id)));
        assert!(seen.is_new(BatchId(1)), "the oldest is forgotten");
        assert_eq!((seen.ids.len(), seen.order.len()), (IDS_MAX, IDS_MAX));
    }
}
