//! What work costs, in simulated time.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The prices. Zero everywhere simulates faults only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// Of one call to whom it is made: reading, dispatching, answering.
    pub(crate) call: Duration,
    /// Of a byte of a batch to an owner: checking, logging, filing.
    pub(crate) owner_byte_picos: u64,
    /// Of a byte of a request to a distributor: decoding, sorting.
    pub(crate) distributor_byte_picos: u64,
    /// Between two processes; 0 = as many as one likes.
    pub(crate) wire_bytes_per_second: u64,
    /// Each simulated byte stands for so many.
    pub(crate) scale: u64,
}

/// The price of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallCost {
    pub(crate) way: Duration,
    pub(crate) processor: Duration,
}

/// One core: does one thing after another.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    free_at: Mutex<Option<Instant>>,
}

impl Costs {
    pub(crate) const NONE: Costs = Costs {
        call: Duration::ZERO,
        owner_byte_picos: 0,
        distributor_byte_picos: 0,
        wire_bytes_per_second: 0,
        scale: 1,
    };

    pub(crate) fn of_call(&self, what: &str, bytes: usize) -> CallCost {
        let bytes = (bytes as u64).saturating_mul(self.scale);
        let way = match self.wire_bytes_per_second {
            0 => Duration::ZERO,
            speed => Duration::from_secs_f64(bytes as f64 / speed as f64),
        };
        let filed = match what {
            "ingest" => picos(bytes.saturating_mul(self.owner_byte_picos)),
            _ => Duration::ZERO,
        };
        CallCost {
            way,
            processor: self.call + filed,
        }
    }

    /// Of batches for an owner in the same process: there is no call, and the same to be filed.
    pub(crate) fn of_filing(&self, bytes: usize) -> Duration {
        let bytes = (bytes as u64).saturating_mul(self.scale);
        picos(bytes.saturating_mul(self.owner_byte_picos))
    }

    pub(crate) fn of_request(&self, bytes: usize) -> Duration {
        let bytes = (bytes as u64).saturating_mul(self.scale);
        self.call + picos(bytes.saturating_mul(self.distributor_byte_picos))
    }
}

fn picos(picos: u64) -> Duration {
    Duration::from_nanos(picos / 1000)
}

impl Processor {
    /// Waits for its turn, and until it is done.
    pub(crate) async fn work(&self, cost: Duration) {
        if cost.is_zero() {
            return;
        }
        let done = {
            let mut free_at = self.free_at.lock();
            let now = Instant::now();
            let begins = free_at.map_or(now, |at| at.max(now));
            *free_at.insert(begins + cost)
        };
        tokio::time::sleep_until(done).await;
    }
}
