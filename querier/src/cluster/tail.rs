//! What all ingesters acknowledge, as one stream.
//!
//! A batch that is acknowledged is heard from each of its owners, and handed on once. When so many
//! tails are broken that all owners of some batch may be among them, that is told as a batch missed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{BatchId, NodeId};
use rpc::{Cluster, HeldBatch, SearchApi, TailError, TailReceiver, TailSender};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;

/// Batches that wait for a receiver, and their bytes.
const BATCHES_MAX: usize = 64;
const BYTES_MAX: usize = 32 << 20;
/// Ids that are remembered to tell copies: those of some seconds at a high rate, 16 bytes each twice.
const IDS_MAX: usize = 64 << 10;
/// How long to leave an ingester alone whose tail has ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long an ingester's tail counts as broken after it was: its last batches may be lost on their
/// way, and come to other owners so much later.
pub(super) const DOUBT: Duration = Duration::from_secs(30);
/// How long is waited for tails before batches that were missed are told as such.
const BEGIN_PATIENCE: Duration = Duration::from_secs(4);

/// What one ingester's tail says.
enum Heard {
    Begun,
    Batch(HeldBatch),
    Missed(u64),
    Ended,
}

/// Follows the tails of all ingesters for as long as somebody listens.
pub(super) fn merged(shared: Arc<Shared>) -> TailReceiver {
    let tail = TailSender::waiting(BATCHES_MAX, BYTES_MAX);
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
    let mut deaf = Deaf::default();
    let patience = tokio::time::sleep(BEGIN_PATIENCE);
    tokio::pin!(patience);
    loop {
        let catalog = shared.meta.catalog();
        let members: BTreeMap<NodeId, &Arc<str>> = catalog
            .cluster
            .ingesters()
            .map(|member| (member.id, &member.address))
            .collect();
        followed.retain(|id, (address, _)| members.get(id).is_some_and(|now| *now == address));
        deaf.quorum = write_quorum(&catalog.cluster);
        deaf.tails.retain(|id, _| members.contains_key(id));
        for (id, address) in members {
            followed.entry(id).or_insert_with(|| {
                // That of one at a new address ended with the old one.
                tell(tail, deaf.ends(id, Instant::now()));
                let port = shared.port(id, address);
                let task = tokio::spawn(follow(id, port, heard.clone()));
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
                biased;
                () = &mut changed => break,
                () = &mut patience, if !deaf.begun => {
                    tail.missed(1);
                    deaf.begun = true;
                }
                next = hears.recv() => match next {
                    Some((_, Heard::Batch(held))) => if seen.is_new(held.id) {
                        tail.send(held);
                    },
                    Some((_, Heard::Missed(missed))) => tail.missed(missed),
                    Some((id, Heard::Begun)) => tell(tail, deaf.begins(id, Instant::now())),
                    Some((id, Heard::Ended)) => tell(tail, deaf.ends(id, Instant::now())),
                    None => return,
                },
            }
            if deaf.begun {
                tail.begin();
            }
        }
    }
}

/// Which tails are broken, or were a moment ago. As long as they are fewer than the owners that have a
/// batch, one of these is heard.
#[derive(Default)]
struct Deaf {
    /// By ingester: since when its tail is whole, if it is.
    tails: BTreeMap<NodeId, Option<Instant>>,
    /// Those whose tail was whole once.
    heard: BTreeSet<NodeId>,
    /// So many owners have each batch that is acknowledged.
    quorum: usize,
    /// Whether enough tails have been whole at once, or were waited for long enough.
    begun: bool,
}

impl Deaf {
    /// Whether batches may have been missed.
    fn ends(&mut self, id: NodeId, now: Instant) -> bool {
        let before = self.tails.insert(id, None);
        before.flatten().is_some() && self.may_miss(now)
    }

    /// Whether batches may have been missed until now.
    fn begins(&mut self, id: NodeId, now: Instant) -> bool {
        let missed = self.begun && self.may_miss(now);
        // One that was never heard has lost nothing on its way.
        let doubt = match self.heard.insert(id) {
            true => DOUBT,
            false => Duration::ZERO,
        };
        self.tails
            .insert(id, Some(now.checked_sub(doubt).unwrap_or(now)));
        let broken = self.tails.values().filter(|tail| tail.is_none());
        self.begun |= broken.count() < self.quorum;
        missed
    }

    fn may_miss(&self, now: Instant) -> bool {
        let doubtful = self
            .tails
            .values()
            .filter(|tail| tail.is_none_or(|since| now.duration_since(since) < DOUBT));
        doubtful.count() >= self.quorum
    }
}

/// Nobody knows how many batches passed by, so that a gap counts as one.
fn tell(tail: &TailSender, gap: bool) {
    if gap {
        tail.missed(1);
    }
}

/// So many owners have each batch that is acknowledged.
fn write_quorum(cluster: &Cluster) -> usize {
    let members = cluster.ring.members.len();
    cluster
        .shape
        .as_ref()
        .map_or(1, |shape| shape.write_quorum(shape.owners_among(members)))
}

/// Hands on the tail of one ingester; asks for it again when it ends.
async fn follow(id: NodeId, port: Arc<dyn SearchApi>, heard: mpsc::Sender<(NodeId, Heard)>) {
    loop {
        let mut tail = port.tail();
        if tail.begun().await && heard.send((id, Heard::Begun)).await.is_err() {
            return;
        }
        loop {
            let next = match tail.recv().await {
                Ok(held) => Heard::Batch(held),
                Err(TailError::Missed(batches)) => Heard::Missed(batches),
                Err(TailError::Ended) => break,
            };
            if heard.send((id, next)).await.is_err() {
                return;
            }
        }
        if heard.send((id, Heard::Ended)).await.is_err() {
            return;
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

    /// Three tails that have been whole for long.
    fn listening(quorum: usize) -> (Deaf, Instant) {
        let (mut deaf, now) = (Deaf::default(), Instant::now());
        deaf.quorum = quorum;
        for id in [1, 2, 3].map(NodeId) {
            assert!(!deaf.ends(id, now));
        }
        for id in [1, 2, 3].map(NodeId) {
            assert!(!deaf.begins(id, now));
        }
        assert!(deaf.begun);
        (deaf, now + DOUBT)
    }

    #[test]
    fn a_broken_tail_is_no_gap_as_long_as_other_owners_are_heard() {
        let (mut deaf, now) = listening(2);
        assert!(!deaf.ends(NodeId(1), now));
        assert!(!deaf.ends(NodeId(1), now), "it is still broken");
        assert!(deaf.ends(NodeId(2), now), "a batch of both may pass by");
        assert!(deaf.begins(NodeId(2), now), "until now");
        assert!(
            deaf.begins(NodeId(1), now),
            "and the last ones of the other"
        );
        let (mut deaf, now) = listening(1);
        assert!(deaf.ends(NodeId(3), now), "the only owner of some");
    }

    #[test]
    fn a_tail_that_broke_long_ago_is_forgotten() {
        let (mut deaf, now) = listening(2);
        assert!(!deaf.ends(NodeId(1), now));
        assert!(!deaf.begins(NodeId(1), now));
        let later = now + DOUBT;
        assert!(!deaf.ends(NodeId(2), later));
        assert!(deaf.ends(NodeId(3), later));
    }

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
