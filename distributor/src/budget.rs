use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that several requests share, counted in KiB.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).max(1);
        let total = total.min(Semaphore::MAX_PERMITS.try_into().unwrap_or(u32::MAX));
        Budget {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// A share of nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share {
            free: Arc::clone(&self.free),
            total: self.total,
            bytes: 0,
            permit: None,
        }
    }

    /// Takes `bytes` until the permit is dropped, once others have given back enough. `None` never
    /// comes, for the budget is never closed.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = units(bytes, self.total);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}

/// What is larger than the whole budget gets all of it, once nobody else has any.
fn units(bytes: usize, total: u32) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10))
        .unwrap_or(u32::MAX)
        .min(total)
}

/// What one request has of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    free: Arc<Semaphore>,
    total: u32,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so many bytes more; `false`, and none of them, if there is not enough left.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let grown = self.bytes.saturating_add(bytes);
        let more = units(grown, self.total) - units(self.bytes, self.total);
        if more > 0 {
            let Ok(taken) = Arc::clone(&self.free).try_acquire_many_owned(more) else {
                return false;
            };
            match &mut self.permit {
                Some(permit) => permit.merge(taken),
                none => *none = Some(taken),
            }
        }
        self.bytes = grown;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_missing_until_it_is_given_back() {
        let budget = Budget::new(10 << 10);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.try_grow(6 << 10));
        assert!(!second.try_grow((4 << 10) + 1));
        assert!(second.try_grow(4 << 10));
        assert!(!budget.share().try_grow(1));
        drop(first);
        assert!(second.try_grow(6 << 10));
    }

    #[test]
    fn what_grows_in_small_steps_takes_no_more_than_at_once() {
        let budget = Budget::new(10 << 10);
        let mut share = budget.share();
        for _ in 0..10 << 10 {
            assert!(share.try_grow(1));
        }
        assert!(!budget.share().try_grow(1));
        drop(share);
        assert!(budget.share().try_grow(10 << 10));
    }

    #[test]
    fn more_than_the_whole_passes_alone() {
        let budget = Budget::new(10 << 10);
        let mut all = budget.share();
        assert!(all.try_grow(11 << 10) && all.try_grow(usize::MAX));
        assert!(!budget.share().try_grow(1));
        drop(all);
        assert!(budget.share().try_grow(1));
    }
}
