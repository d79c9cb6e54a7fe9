use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, NodeId};
use parking_lot::Mutex;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use rpc::Error;

/// Seconds: a log synced on a fast disk takes about a millisecond, and a call is given up after 5 s.
const BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// What a [`ClusterIngest`](crate::ClusterIngest) counts.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    seconds: HistogramVec,
    /// Owners of which there are seconds.
    timed: Arc<Mutex<BTreeSet<NodeId>>>,
    failures: [IntCounter; 3],
    hedges: IntCounter,
    retries: IntCounter,
    late: IntCounter,
    unserved: IntCounter,
    quorums: [IntCounter; 2],
}

/// Why a call to an owner failed.
const REASONS: [&str; 3] = ["ring", "refused", "unavailable"];

impl ClusterMetrics {
    /// Makes them and registers them.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "pharos_distributor_owner_seconds",
                "Time until an owner had stored what it was sent, by its number; not of one in the same process that owns all",
            )
            .buckets(BUCKETS.to_vec()),
            &["node"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let failures = IntCounterVec::new(
            Opts::new(
                "pharos_distributor_owner_failures_total",
                "Calls to owners that failed: ring (it knows a newer one), refused (no room), unavailable",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        let quorums = IntCounterVec::new(
            Opts::new(
                "pharos_distributor_quorums_total",
                "Requests that a quorum of the owners of each batch has stored, or not in time",
            ),
            &["reached"],
        )?;
        registry.register(Box::new(quorums.clone()))?;
        Ok(ClusterMetrics {
            seconds,
            timed: Arc::default(),
            failures: REASONS.map(|reason| failures.with_label_values(&[reason])),
            hedges: counter(
                "pharos_distributor_owner_hedges_total",
                "Calls to an owner that was slow, beside the one that it had not answered",
            )?,
            retries: counter(
                "pharos_distributor_owner_retries_total",
                "Calls to an owner after one that failed",
            )?,
            late: counter(
                "pharos_distributor_late_copies_total",
                "Batches that an owner stored after the request was answered",
            )?,
            unserved: counter(
                "pharos_distributor_unserved_owners_total",
                "Owners that were given up after the answer; they fetch what they lack when it is flushed",
            )?,
            quorums: ["yes", "no"].map(|reached| quorums.with_label_values(&[reached])),
        })
    }

    pub(super) fn called(&self, hedge: bool, again: bool) {
        if hedge {
            self.hedges.inc();
        } else if again {
            self.retries.inc();
        }
    }

    pub(super) fn came_back(&self, node: NodeId, took: Duration, result: &Result<(), Error>) {
        let at = match result.as_ref().map_err(Error::kind) {
            Ok(()) => {
                self.timed.lock().insert(node);
                let seconds = self.seconds.with_label_values(&[&node.0.to_string()]);
                return seconds.observe(took.as_secs_f64());
            }
            Err(Kind::Conflict) => 0,
            Err(Kind::Exhausted | Kind::OutOfSpace) => 1,
            Err(_) => 2,
        };
        self.failures[at].inc();
    }

    /// Shows no owners any more that have been forgotten: their numbers never come back.
    pub(super) fn keep(&self, is_member: impl Fn(NodeId) -> bool) {
        self.timed.lock().retain(|id| {
            let kept = is_member(*id);
            if !kept {
                // An error would say that it is gone already.
                let _ = self.seconds.remove_label_values(&[&id.0.to_string()]);
            }
            kept
        });
    }

    /// An owner stored so many batches after the answer.
    pub(super) fn late(&self, batches: usize) {
        self.late.inc_by(batches as u64);
    }

    pub(super) fn unserved(&self, owners: usize) {
        self.unserved.inc_by(owners as u64);
    }

    pub(super) fn answered(&self, result: &Result<(), Error>) {
        self.quorums[usize::from(result.is_err())].inc();
    }
}
