//! Running one query: its turn, its thread, its budget, its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::Timestamp;
use query::Budget;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Permit};
use crate::rules::Reports;
use crate::source::{Backend, Seen, SnapshotSource, Tally};
use crate::tail::Tails;
use crate::tenants::{Tenants, TenantsSource};
use crate::{Clock, Config, Error, Metrics};

const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What a querier is made of.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) tails: Tails,
    /// The line of other queriers' shares.
    pub(crate) shares: Admission,
    /// How rules are that are evaluated here.
    pub(crate) rules: Reports,
}

/// How long a query waited and worked, and where its records came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effort {
    pub(crate) queue_nanos: i64,
    pub(crate) exec_nanos: i64,
    pub(crate) tally: Arc<Tally>,
}

/// Ends a query that nobody waits for any more.
pub(crate) struct Guard {
    pub(crate) budget: Arc<Budget>,
    pub(crate) cancelled: CancellationToken,
}

impl Guard {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Guard {
            budget: Arc::clone(budget),
            cancelled: CancellationToken::new(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.budget.cancel();
        self.cancelled.cancel();
    }
}

/// So much later than now; a year, if that is longer than anybody can wait.
pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + A_YEAR)
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs `work` on a thread of its own once it is this tenant's turn, `time` long at most. When the future is
    /// dropped, the work ends at its next look at the budget.
    ///
    /// # Errors
    /// Those of the work; `Timeout` when it takes too long, `TooManyQueries` when the line is full.
    #[tracing::instrument(skip_all, fields(tenant = %tenants.first()))]
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenants: &Tenants,
        time: Duration,
        work: impl FnOnce(&TenantsSource, &Budget) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Effort), Error> {
        let config = &self.config;
        let budget = Arc::new(Budget::new(
            config.query_memory_bytes_max,
            config.query_rows_max,
        ));
        let guard = Guard::new(&budget);
        let ends = after(time);
        let done = tokio::time::timeout_at(ends, self.take_turn(tenants, &guard, ends, work));
        match done.await {
            Ok(done) => done,
            Err(_) => {
                budget.time_out();
                Err(Error::Timeout)
            }
        }
    }

    async fn take_turn<T: Send + 'static>(
        &self,
        tenants: &Tenants,
        guard: &Guard,
        ends: Instant,
        work: impl FnOnce(&TenantsSource, &Budget) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Effort), Error> {
        let arrived = self.now();
        let permit = self.enter(tenants).await?;
        let started = self.now();
        let tally = Arc::new(Tally::default());
        let seen = Seen::by(tenants.iter());
        let sources = tenants.iter().map(|tenant| SnapshotSource {
            backend: self.backend.clone(),
            tenant: tenant.clone(),
            cancelled: guard.cancelled.clone(),
            tally: Arc::clone(&tally),
            seen: Arc::clone(&seen),
            ends,
        });
        let source = TenantsSource {
            sources: sources.collect(),
        };
        let budget = Arc::clone(&guard.budget);
        let (running, span) = (self.metrics.running.clone(), tracing::Span::current());
        let done = self.backend.blocking.run(move || {
            let _permit: Permit = permit;
            running.inc();
            let _ended = scopeguard(|| running.dec());
            span.in_scope(|| work(&source, &budget))
        });
        let done = done
            .await
            .map_err(|error| Error::Internal(format!("query ended without an answer: {error}")))?;
        self.count(&tally);
        let effort = Effort {
            queue_nanos: started - arrived,
            exec_nanos: self.now() - started,
            tally,
        };
        done.map(|value| (value, effort))
    }

    async fn enter(&self, tenants: &Tenants) -> Result<Permit, Error> {
        let waiting = &self.metrics.waiting;
        waiting.inc();
        let _left = scopeguard(|| waiting.dec());
        let entered = self.admission.enter(tenants.first()).await;
        entered.map_err(|_| Error::TooManyQueries)
    }

    /// Adds what was done in this process.
    pub(crate) fn count(&self, tally: &Tally) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let own = |heads: &AtomicU64, chunks: &AtomicU64, shares: &AtomicU64| {
            (get(heads) + get(chunks)).saturating_sub(get(shares))
        };
        let metrics = &self.metrics;
        let rows = own(&tally.head_rows, &tally.chunk_rows, &tally.share_rows);
        let bytes = own(&tally.head_bytes, &tally.chunk_bytes, &tally.share_bytes);
        metrics.rows.inc_by(rows);
        metrics.bytes.inc_by(bytes);
        let chunks = get(&tally.chunks).saturating_sub(get(&tally.share_chunks));
        metrics.chunks.inc_by(chunks);
        let cache = self.backend.segments.bytes();
        metrics
            .segment_cache_bytes
            .set(i64::try_from(cache).unwrap_or(i64::MAX));
    }
}

/// Runs `f` when it goes out of scope, also when the future around it is dropped.
pub(crate) fn scopeguard<F: FnMut()>(f: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(f)
}
