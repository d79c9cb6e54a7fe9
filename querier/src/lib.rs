//! The querier: Loki's query API over the records of heads and segments.
//!
//! What it is: HTTP in, LogQL parsed and run over a snapshot, JSON out. What it is *not*: it stores
//! nothing and owns nothing: ingesters answer for what is recent ([`ClusterSearch`] asks all of them
//! and wants a quorum of the owners of every shard), the catalog for the rest.
//!
//! ```text
//! http_router ─▶ Call ─▶ logql::parse ─▶ Shared::run ─▶ engine::execute ─▶ SnapshotSource::scan ─▶ Json
//!                                        turn, budget                      heads, segments
//! ```
//!
//! Invariants:
//! - Each record is shown once, however many copies are stored: see [`http_router`] and the
//!   `contest` module.
//! - Heads are read before the catalog, so that nothing slips between the two.
//! - What cannot be read makes the query fail; an answer never gets smaller silently.
#![warn(missing_docs)]

mod admission;
mod cluster;
mod config;
mod error;
mod fields;
mod http;
mod metrics;
mod peers;
mod rules;
mod run;
mod segments;
mod share;
mod source;
mod tail;
mod tenants;

use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use rpc::{MetaApi, SearchApi};
use runtime::Blocking;
use store::ObjectStorage;

pub use cluster::ClusterSearch;
pub use config::{Config, Options};
pub use error::Error;
pub use http::http_router;
pub use metrics::Metrics;
pub use peers::Peers;
pub use rules::Ruler;

/// Says what time it is, nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where a querier finds records.
#[derive(Clone)]
pub struct Sources {
    /// What is not in segments yet.
    pub search: Arc<dyn SearchApi>,
    /// Which segments there are.
    pub meta: Arc<dyn MetaApi>,
    /// The segments.
    pub storage: ObjectStorage,
    /// Records older than this are not shown, unless their tenant has a setting of its own; zero
    /// shows them for ever.
    pub retention: Duration,
}

/// What the distributors of the cluster make of records, for clients that ask for limits.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Labels from which a stream gets its `service_name`, the first that is there.
    pub service_labels: Vec<String>,
    /// Attributes of OTLP resources that become labels.
    pub index_attributes: Vec<String>,
}

/// Answers queries. Cheap to clone; clones share caches, limits and the line of waiting queries.
#[derive(Clone)]
pub struct Querier {
    shared: Arc<run::Shared>,
    discovery: Arc<Discovery>,
}

impl Querier {
    /// A querier over the given sources. Must be called within a tokio runtime, which it uses for
    /// its reads.
    pub fn new(config: Config, sources: Sources, metrics: Metrics, clock: Clock) -> Self {
        Querier::with_blocking(config, sources, metrics, clock, Blocking::threads())
    }

    /// As [`new`](Self::new), with a place of one's own for the work of queries.
    pub fn with_blocking(
        config: Config,
        sources: Sources,
        metrics: Metrics,
        clock: Clock,
        blocking: Blocking,
    ) -> Self {
        let workers = match config.query_workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let Sources {
            search,
            meta,
            storage,
            retention,
        } = sources;
        // Filters are asked for again and again by refreshing dashboards; a quarter of the room that
        // opened segments get is plenty for them.
        let filters = store::RangeCache::new(storage.clone(), config.segment_cache_bytes / 4);
        let backend = source::Backend {
            search,
            meta,
            segments: segments::Segments::new(storage, config.segment_cache_bytes),
            filters,
            runtime: tokio::runtime::Handle::current(),
            blocking,
            workers,
            reads_max: config.query_reads_max.max(1),
            clock: Arc::clone(&clock),
            peers: Arc::default(),
            spread_bytes: config.query_spread_bytes,
            shares: metrics.shares.clone(),
            hiding: source::Hiding::new(i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX)),
        };
        let (shares_max, shares_waiting_max) = (config.queries_max, config.queries_waiting_max);
        let admission = admission::Admission::new(config.queries_max, config.queries_waiting_max);
        Querier {
            shared: Arc::new(run::Shared {
                config,
                backend,
                admission,
                metrics,
                clock,
                tails: tail::Tails::default(),
                shares: admission::Admission::new(shares_max, shares_waiting_max),
                rules: rules::Reports::default(),
            }),
            discovery: Arc::default(),
        }
    }

    /// This querier, telling clients what distributors do.
    #[must_use]
    pub fn telling(self, discovery: Discovery) -> Self {
        Querier {
            discovery: Arc::new(discovery),
            ..self
        }
    }

    /// Has other queriers do shares of large queries from now on. Only the first call counts.
    pub fn share_with(&self, peers: Peers) {
        let _ = self.shared.backend.peers.set(peers);
    }
}

impl std::fmt::Debug for Querier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Querier")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
