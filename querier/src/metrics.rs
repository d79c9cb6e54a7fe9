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
                "time from the request to the whole answer, by route",
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
                "requests that got an error, by reason",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Metrics {
            query_seconds,
            failures,
            running: gauge("pharos_querier_running", "queries that run now")?,
            waiting: gauge("pharos_querier_waiting", "queries that wait for their turn")?,
            rows: counter("pharos_querier_rows_total", "records looked at")?,
            bytes: counter(
                "pharos_querier_bytes_total",
                "bytes of lines looked at, as they were received",
            )?,
            chunks: counter("pharos_querier_chunks_total", "chunks of segments decoded")?,
            segment_cache_bytes: gauge(
                "pharos_querier_segment_cache_bytes",
                "memory of opened segments",
            )?,
            tails: gauge("pharos_querier_tails", "open tail connections")?,
            tail_dropped: counter(
                "pharos_querier_tail_dropped_total",
                "entries that slow tail clients did not get",
            )?,
        })
    }
}
