use std::collections::{HashMap, VecDeque};

use model::{BatchId, HeadKey};

/// Ids that are remembered at most: 16 bytes each, 8 MiB. An owner that comes back later than that
/// stores its head as a whole; readers and merges drop the copies.
const IDS_MAX: usize = 512 << 10;

/// Which batches of a key are in committed segments: what owners tell each other, so that each batch
/// is stored once. Empty where there are no other owners.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Sorted lists, oldest first.
    keys: HashMap<HeadKey, VecDeque<Box<[BatchId]>>>,
    order: VecDeque<HeadKey>,
    ids: usize,
}

impl Flushed {
    pub(super) fn add(&mut self, key: HeadKey, mut ids: Vec<BatchId>) {
        if ids.is_empty() {
            return;
        }
        ids.sort_unstable();
        self.ids += ids.len();
        self.order.push_back(key);
        self.keys.entry(key).or_default().push_back(ids.into());
        while self.ids > IDS_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn contains(&self, key: &HeadKey, id: BatchId) -> bool {
        let lists = self.keys.get(key);
        lists.is_some_and(|lists| lists.iter().any(|ids| ids.binary_search(&id).is_ok()))
    }

    pub(super) fn of(&self, key: &HeadKey) -> Vec<BatchId> {
        let lists = self.keys.get(key).into_iter().flatten();
        lists.flat_map(|ids| ids.iter().copied()).collect()
    }

    fn forget_oldest(&mut self) {
        let Some(key) = self.order.pop_front() else {
            return;
        };
        if let Some(lists) = self.keys.get_mut(&key) {
            self.ids -= lists.pop_front().map_or(0, |ids| ids.len());
            if lists.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{RingVersion, Shard, Slot};

    use super::*;

    fn key(slot: i64) -> HeadKey {
        HeadKey {
            shard: Shard(0),
            slot: Slot(slot),
            ring: RingVersion(1),
        }
    }

    fn ids(from: usize, count: usize) -> Vec<BatchId> {
        let ids = (from..from + count).rev();
        ids.map(|id| BatchId(id as u128)).collect()
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let mut flushed = Flushed::default();
        flushed.add(key(1), ids(0, 10));
        flushed.add(key(2), ids(100, 2));
        flushed.add(key(1), ids(10, 10));
        assert!(flushed.contains(&key(1), BatchId(0)) && flushed.contains(&key(1), BatchId(19)));
        assert!(!flushed.contains(&key(2), BatchId(0)), "of another key");
        assert_eq!(flushed.of(&key(1)).len(), 20);
        flushed.add(key(3), ids(1000, IDS_MAX - 12));
        assert!(!flushed.contains(&key(1), BatchId(0)) && flushed.contains(&key(1), BatchId(19)));
        assert!(flushed.contains(&key(2), BatchId(101)));
        flushed.add(key(4), ids(0, 2));
        assert_eq!(flushed.of(&key(2)), []);
        assert_eq!(flushed.of(&key(1)).len(), 10);
    }
}
