//! The distributor: takes logs in, checks them, and hands them to the owners of their shards.
//!
//! What it is: the receivers (Loki push, OTLP over HTTP and gRPC, plain JSON), the limits, and the
//! cut into one batch per shard, and the way of each batch to the owners of its shard
//! ([`ClusterIngest`]). What it is *not*: it stores nothing; what it keeps are caches, and for a
//! while batches that a quorum has and other owners do not have yet.
//!
//! ```text
//! http.rs grpc.rs        one request: tenant, format, encoding
//! body.rs                its body, with its share of the memory for those that wait
//!        |
//! Distributor::push      decompress -> proto decoder -> Session (limits, streams, shards)
//!        |               -> rate limit -> IngestApi::ingest
//! ClusterIngest          ring -> owners -> each owner's IngestApi; yes when a quorum has each batch
//! status.rs              the one table from errors to statuses
//! ```
//!
//! Invariants:
//! - A record is either in a batch or counted among the refused, never both, never neither.
//! - A malformed body, or one over a rate limit, is refused as a whole: nothing of it is stored.
//! - Good records are stored although others of the same request are refused.
//! - No cache, buffer pool or queue in here grows without a bound.

mod body;
mod budget;
mod cache;
mod cluster;
mod config;
mod error;
mod grpc;
mod heat;
mod http;
mod metrics;
mod options;
mod push;
mod rate;
mod refusal;
mod session;
mod shard_batch;
mod sources;
mod status;
mod streams;

pub use cluster::{ClusterConfig, ClusterIngest, ClusterMetrics, live_distributors, shards_in_use};
pub use config::{Config, Limits};
pub use error::Error;
pub use grpc::{GrpcService, grpc_service};
pub use http::{http_router, otlp_router};
pub use metrics::Metrics;
pub use options::{Options, Settings};
/// Most labels of a stream and metadata pairs of a record that limits may allow.
pub use proto::PAIRS_MAX;
/// Attributes of OTLP resources that become labels of streams.
pub use proto::otlp::INDEXED_ATTRIBUTES;
pub use push::{Distributor, Format, Outcome};
pub use refusal::{Reason, Refusals};
pub use sources::Sources;
