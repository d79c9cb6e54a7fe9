use crate::rules::RuleMetrics;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// What the querier counts, all under `pharos_querier_`.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) query_seconds: HistogramVec,
    pub(crate) failures: IntCounterVec,
    pub(crate) running: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) rows: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) chunks: IntCounter,
    pub(crate) segment_cache_bytes: IntGauge,
    pub(crate) tails: IntGauge,
    pub(crate) tail_dropped: IntCounter,
    pub(crate) shares: ShareMetrics,
    pub(crate) shares_done: IntCounter,
    pub(crate) recent: RecentMetrics,
    pub(crate) rules: RuleMetrics,
}

/// Slices of spread queries, by what became of them.
#[derive(Clone, Debug)]
pub(crate) struct ShareMetrics {
    pub(crate) here: IntCounter,
    pub(crate) there: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) slow: IntCounter,
}

/// What came of asking ingesters for recent records.
#[derive(Clone, Debug)]
pub(crate) struct RecentMetrics {
    pub(crate) answered: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) again: IntCounter,
    pub(crate) late: IntCounter,
    pub(crate) incomplete: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When one of the names is taken already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let query_seconds = HistogramVec::new(
            HistogramOpts::new(
                "pharos_querier_query_seconds",
                "Time from the request to the whole answer, by route",
            )
            .buckets(vec![
                0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0,
            ]),
            &["route"],
        )?;
        registry.register(Box::new(query_seconds.clone()))?;
        let failures = IntCounterVec::new(
            Opts::new(
                "pharos_querier_failures_total",
                "Requests that got an error, by reason",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Metrics {
            rules: RuleMetrics::new(registry)?,
            shares: ShareMetrics::new(registry)?,
            shares_done: counter(
                "pharos_querier_shares_total",
                "Shares of other queriers' queries that were done here",
            )?,
            recent: RecentMetrics::new(registry)?,
            query_seconds,
            failures,
            running: gauge("pharos_querier_running", "Queries that run now")?,
            waiting: gauge("pharos_querier_waiting", "Queries that wait for their turn")?,
            rows: counter("pharos_querier_rows_total", "Records looked at")?,
            bytes: counter(
                "pharos_querier_bytes_total",
                "Bytes of lines looked at, as they were received",
            )?,
            chunks: counter("pharos_querier_chunks_total", "Chunks of segments decoded")?,
            segment_cache_bytes: gauge(
                "pharos_querier_segment_cache_bytes",
                "Memory of opened segments",
            )?,
            tails: gauge("pharos_querier_tails", "Open tail connections")?,
            tail_dropped: counter(
                "pharos_querier_tail_dropped_total",
                "Entries that slow tail clients did not get",
            )?,
        })
    }
}

impl ShareMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let slices = counters(
            registry,
            "pharos_querier_slices_total",
            "Slices of queries that were spread: done here, there (by another querier), or here because another failed or was slow",
            "done",
        )?;
        Ok(ShareMetrics {
            here: slices.with_label_values(&["here"]),
            there: slices.with_label_values(&["there"]),
            failed: slices.with_label_values(&["failed"]),
            slow: slices.with_label_values(&["slow"]),
        })
    }
}

impl RecentMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let calls = counters(
            registry,
            "pharos_querier_recent_calls_total",
            "Calls to ingesters for recent records: answered, failed, made again because the first was slow, not waited for because enough others had answered (late)",
            "outcome",
        )?;
        let incomplete = IntCounter::new(
            "pharos_querier_recent_incomplete_total",
            "Queries that failed because too few owners of a shard answered",
        )?;
        registry.register(Box::new(incomplete.clone()))?;
        Ok(RecentMetrics {
            answered: calls.with_label_values(&["answered"]),
            failed: calls.with_label_values(&["failed"]),
            again: calls.with_label_values(&["again"]),
            late: calls.with_label_values(&["late"]),
            incomplete,
        })
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
