//! Shares of other queriers' queries that a run is doing: what it reads for them is not read for a
//! query of its own.

use std::sync::Arc;

use super::Net;
use crate::invariants::Event;

/// As long as it lives the run does a share.
pub(super) struct Doing {
    net: Arc<Net>,
    life: u64,
}

impl Net {
    /// A run begins to do a share.
    pub(super) fn doing(self: &Arc<Self>, life: u64) -> Doing {
        *self.shares.lock().entry(life).or_default() += 1;
        self.checks.see(&Event::ReadsForOthers { life });
        Doing {
            net: Arc::clone(self),
            life,
        }
    }

    /// Whether a run is doing a share.
    pub(crate) fn does_shares(&self, life: u64) -> bool {
        self.shares.lock().contains_key(&life)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        let mut shares = self.net.shares.lock();
        if let Some(count) = shares.get_mut(&self.life) {
            *count -= 1;
            if *count == 0 {
                shares.remove(&self.life);
            }
        }
    }
}
