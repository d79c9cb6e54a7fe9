//! The ingester: takes batches, keeps them safe, makes segments of them, and answers for what is not
//! in a segment yet.
//!
//! What it is: the owner's side of a write. [`Ingester`] is the handle and implements
//! [`rpc::IngestApi`] and [`rpc::SearchApi`], and for the other owners of its shards
//! [`rpc::OwnerApi`]; everything else happens in its task and threads. What it is *not*: it does not
//! shard, validate or limit (the distributor does), and it runs no query.
//!
//! ```text
//! Ingester --Message--> Task(State) --AppendJob--> WalThread --fdatasync--> Appended
//!                         |  |  '-----FlushJob---> ask the other owners (reconcile, pull)
//!                         |  |                     -> segment::encode -> object -> CommitFlush -> Flushed
//!                         |  '-- recent(): batches of heads, shared, not copied
//!                         '----- tail(): acknowledged batches
//! Maintenance: merge, retention, deletion, orphans; one job at a time, among ingesters by lease
//! ```
//!
//! Invariants:
//! - What is acknowledged is in a synced log record or in a committed segment, at every moment.
//! - `state.rs` decides and has no effects; the task and its helpers have effects and decide
//!   nothing.
//! - Records may be stored twice after a retry or a crash, never zero times; readers and merges drop
//!   copies by identity.

mod alarm;
mod closed_deletes;
mod codec;
mod config;
mod deletes;
mod error;
mod flush;
mod handle;
mod lease;
mod maintenance;
mod merge;
mod metrics;
mod objects;
mod options;
mod patterns;
mod placement;
mod rings;
mod start;
mod state;
mod storage_clock;
mod survey;
mod task;
mod wal;

pub use config::{Config, MergeConfig};
pub use error::Error;
pub use handle::Ingester;
pub use merge::{MergePlan, PlanOptions, plan_merges};
pub use metrics::Metrics;
pub use options::{Options, Settings};
pub use patterns::label_pattern;
/// Most bytes of the line and of the values of the metadata of a record that can be stored, inclusive.
pub use segment::RECORD_BYTES_MAX;
pub use start::{Clock, Deps};
pub use storage_clock::StorageClock;
pub use survey::{Survey, clusters_in, survey};
pub use wal::{LogFile, LogFiles, LogFolder};
