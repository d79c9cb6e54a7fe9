use prometheus::{IntCounter, IntGauge, Registry};

/// What an ingester counts. One per ingester; several may share a process with registries of their
/// own.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) wal_bytes: IntCounter,
    pub(crate) wal_batches: IntCounter,
    pub(crate) wal_groups: IntCounter,
    pub(crate) wal_failures: IntCounter,
    pub(crate) heads: IntGauge,
    pub(crate) head_bytes: IntGauge,
    pub(crate) duplicates: IntCounter,
    pub(crate) replayed: IntCounter,
    pub(crate) covered: IntCounter,
    pub(crate) flushes: IntCounter,
    pub(crate) flush_failures: IntCounter,
    pub(crate) flush_object_bytes: IntCounter,
    pub(crate) covered_heads: IntCounter,
    pub(crate) pulled_batches: IntCounter,
    pub(crate) unreachable_owners: IntCounter,
    pub(crate) merges: IntCounter,
    pub(crate) merge_failures: IntCounter,
    pub(crate) merge_read_bytes: IntCounter,
    pub(crate) corrupt_segments: IntCounter,
    pub(crate) delete_searches: IntCounter,
    pub(crate) delete_rewrites: IntCounter,
    pub(crate) expired_segments: IntCounter,
    pub(crate) deleted_objects: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        // tidy: long because it lists all metrics
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("pharos_ingester_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("pharos_ingester_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Metrics {
            wal_bytes: counter("wal_bytes_total", "Bytes of batches written to the log")?,
            wal_batches: counter("wal_batches_total", "Batches written to the log")?,
            wal_groups: counter(
                "wal_fsync_groups_total",
                "Groups of batches, each synced to disk once",
            )?,
            wal_failures: counter(
                "wal_failures_total",
                "Groups that could not be written or synced",
            )?,
            heads: gauge("heads", "Heads in memory")?,
            head_bytes: gauge(
                "head_bytes",
                "Bytes of batches in heads, those on their way to the log included",
            )?,
            duplicates: counter(
                "duplicate_batches_total",
                "Batches that had been stored already",
            )?,
            replayed: counter(
                "replayed_batches_total",
                "Batches read back from the log at start",
            )?,
            covered: counter(
                "replay_covered_batches_total",
                "Batches of the log that were in the catalog already at start",
            )?,
            flushes: counter("flushes_total", "Heads committed to the catalog")?,
            flush_failures: counter(
                "flush_failures_total",
                "Flushes that failed and are tried again",
            )?,
            flush_object_bytes: counter(
                "flush_object_bytes_total",
                "Bytes of segments written by flushes",
            )?,
            covered_heads: counter("covered_heads_total", "Heads that another owner stored")?,
            pulled_batches: counter(
                "pulled_batches_total",
                "Batches that only other owners had, stored by this one",
            )?,
            unreachable_owners: counter(
                "unreachable_owners_total",
                "Times that another owner of a shard did not answer a flush",
            )?,
            merges: counter("merges_total", "Merges and retention rewrites committed")?,
            merge_failures: counter(
                "merge_failures_total",
                "Merges that failed and are tried again",
            )?,
            merge_read_bytes: counter(
                "merge_read_bytes_total",
                "Bytes of segments that merges read",
            )?,
            corrupt_segments: counter(
                "corrupt_segments_total",
                "Segments that were found damaged or missing, and are left alone for an hour",
            )?,
            delete_searches: counter(
                "delete_searches_total",
                "Segments searched for records of delete requests",
            )?,
            delete_rewrites: counter(
                "delete_rewrites_total",
                "Segments rewritten without records of delete requests",
            )?,
            expired_segments: counter(
                "expired_segments_total",
                "Segments dropped whole because no record was to be kept",
            )?,
            deleted_objects: counter("deleted_objects_total", "Objects removed from storage")?,
        })
    }
}
