//! One run of a process, from its start to its crash, and its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use model::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// When every simulation begins: 2023-11-14 22:13:20 UTC.
pub(crate) const EPOCH: Timestamp = 1_700_000_000_000_000_000;

/// One run of a process. What it had begun goes on after its crash, as code; but whatever it does
/// then reaches nobody: every way out of a process looks here first.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) address: Arc<str>,
    /// Counts the runs of all processes.
    pub(crate) number: u64,
    dead: watch::Sender<bool>,
}

impl Life {
    pub(crate) fn new(address: &Arc<str>, number: u64) -> Self {
        Life {
            address: Arc::clone(address),
            number,
            dead: watch::Sender::new(false),
        }
    }

    pub(crate) fn end(&self) {
        self.dead.send_replace(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.dead.borrow()
    }

    pub(crate) async fn over(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is part of this value.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// What the future gives, unless the process crashes before.
    pub(crate) async fn live<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.over() => None,
            done = future => Some(done),
        }
    }

    /// Waits; for ever if the process crashes meanwhile.
    pub(crate) async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.halt_if_over().await;
    }

    /// Never goes on once the process has crashed.
    pub(crate) async fn halt_if_over(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

/// A clock that is wrong by a time that may change.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    began: Instant,
    ahead_nanos: AtomicI64,
    changes: AtomicU64,
}

impl SkewedClock {
    /// `began` is the beginning of the simulation.
    pub(crate) fn new(began: Instant, ahead_nanos: i64) -> Self {
        SkewedClock {
            began,
            ahead_nanos: AtomicI64::new(ahead_nanos),
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, ahead_nanos: i64) {
        self.ahead_nanos.store(ahead_nanos, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was set.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        EPOCH
            .saturating_add(passed)
            .saturating_add(self.ahead_nanos.load(Ordering::Relaxed))
    }
}
