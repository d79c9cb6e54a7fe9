//! The words of Pharos: tenants, streams, log batches, time ranges, matchers and line tests.
//!
//! What it is: plain data and the arithmetic that belongs to it. What it is *not*: no serde, no
//! I/O, no clock, no async. Every other crate depends on this one; this one depends on no other.
//!
//! Invariants:
//! - Time is a signed 64-bit count of nanoseconds since 1970 ([`Timestamp`]); a [`TimeRange`]
//!   includes its start and excludes its end.
//! - [`Labels`] are sorted by name, names are unique, and no value is empty.
//! - A [`StreamId`] depends on tenant, signal and labels alone, never on the process that
//!   computed it: it may be stored and sent.
//! - A log record's identity is (stream, timestamp, line, metadata); see [`RecordIdentity`].
#![warn(missing_docs)]

mod batch;
mod block;
mod error;
mod identity;
mod labels;
mod line_property;
mod line_test;
mod matcher;
mod placement;
mod tenant;
mod time;

pub use batch::{LogBatch, LogBatchBuilder, MetadataKey, Row, StreamRows};
pub use block::{Columns, Flow, LineColumn, LineRows, MetadataRows, RowBlock};
pub use error::Kind;
pub use identity::{BatchId, Digest, RecordIdentity, StreamId};
pub use labels::{Labels, LabelsError, is_valid_label_name};
pub use line_property::{
    LineProperty, OUTCOMES_MAX, OutcomeSet, OutcomeTest, Outcomes, ValueBounds,
};
pub use line_test::{
    LineClause, LineFilter, LineMatcher, LineTest, STRETCH_BYTES_MAX, TextMatcher,
};
pub use matcher::{LabelMatcher, MatchOp, Selector, ValuePattern};
pub use placement::{HeadId, HeadKey, NodeId, RingVersion, Shard, Slot, SlotLength};
pub use tenant::{TenantError, TenantId};
pub use time::{NANOS_PER_MILLI, NANOS_PER_SECOND, TimeRange, Timestamp};

/// Which of the three kinds of data a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Log lines.
    Logs,
}

impl Signal {
    /// The name used in object paths, metrics and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
        }
    }
}
