use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{BatchId, Timestamp};

/// Where time and randomness come from.
#[derive(Clone)]
pub struct Sources {
    /// The time now.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A batch id that was never given before, by any process.
    pub batch_id: Arc<dyn Fn() -> BatchId + Send + Sync>,
    /// A number that senders do not know: with it labels are hashed where they are remembered.
    pub seed: u64,
    /// Among how many distributors the rate of a tenant is divided; 0 counts as 1.
    pub distributors: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Into how many shards streams are cut now, by the ring in use; never fewer than before, 0 counts
    /// as 1.
    pub shards: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Sources {
    /// This clock, and batch ids drawn from the operating system's randomness: two keyed hashes of
    /// a counter, the keys of which no other process has.
    pub fn new(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let high = std::hash::RandomState::new();
        let low = std::hash::RandomState::new();
        let counter = AtomicU64::new(0);
        let batch_id = move || {
            let count = counter.fetch_add(1, Ordering::Relaxed);
            // Two halves of different kinds, for the keys of two states of one thread are related.
            let high = high.hash_one((count, "high"));
            let low = low.hash_one((count, "low"));
            BatchId(u128::from(high) << 64 | u128::from(low))
        };
        Sources {
            now,
            batch_id: Arc::new(batch_id),
            seed: std::hash::RandomState::new().hash_one("seed"),
            distributors: Arc::new(|| 1),
            shards: Arc::new(|| 1),
        }
    }

    /// As one of so many distributors as `distributors` says from time to time.
    pub fn among(mut self, distributors: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        self.distributors = Arc::new(distributors);
        self
    }

    /// With streams cut into as many shards as `shards` says from time to time.
    pub fn cut(mut self, shards: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        self.shards = Arc::new(shards);
        self
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_ids_differ_within_and_between_sources() {
        let make = || Sources::new(Arc::new(|| 0));
        let (one, two) = (make(), make());
        let mut ids: Vec<_> = (0..1000)
            .flat_map(|_| [(one.batch_id)(), (two.batch_id)()])
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 2000);
    }
}
