use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that several requests share, counted in KiB.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Semaphore,
    total: u32,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).max(1);
        let total = total.min(Semaphore::MAX_PERMITS.try_into().unwrap_or(u32::MAX));
        Budget {
            free: Semaphore::new(total as usize),
            total,
        }
    }

    /// Takes `bytes` until the permit is dropped, or nothing if there is not enough left.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire_many(self.units(bytes)).ok()
    }

    /// The same, but waits until others have given back enough. `None` never comes, for the budget
    /// is never closed.
    pub(crate) async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.free.acquire_many(self.units(bytes)).await.ok()
    }

    /// What is larger than the whole budget gets all of it, once nobody else has any.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1 << 10))
            .unwrap_or(u32::MAX)
            .min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_missing_until_it_is_given_back() {
        let budget = Budget::new(10 << 10);
        let first = budget.try_take(6 << 10).unwrap();
        assert!(budget.try_take((4 << 10) + 1).is_none());
        let _second = budget.try_take(4 << 10).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(first);
        assert!(budget.try_take(6 << 10).is_some());
    }

    #[test]
    fn more_than_the_whole_passes_alone() {
        let budget = Budget::new(10 << 10);
        let all = budget.try_take(usize::MAX).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(all);
        assert!(budget.try_take(1).is_some());
    }
}
