//! Log segments: encode, open, search, merge; and the format of the write-ahead log. Sync and pure:
//! bytes in, bytes out.
//!
#![doc = include_str!("../FORMAT.md")]
#![warn(missing_docs)]

mod decode;
mod encode;
mod error;
mod filter;
mod footer;
mod format;
mod merge;
mod metadata;
mod outcomes;
mod patterns;
mod plan;
mod search;
mod segment;
mod template;
pub mod wal;
mod wire;
mod writer;

pub use decode::by_template::{ClassRows, SlotValues, TemplateRows};
pub use decode::{ChunkStats, Scratch};
pub use encode::encode;
pub use error::Error;
pub use format::RECORD_BYTES_MAX;
pub use merge::{ReadAt, RowFilter, merge, merge_filtered};
pub use patterns::{PatternFinder, VARIABLE};
pub use plan::{Pieces, Plan, PlannedChunk, PlannedStream, ScanSpec, Wanted};
pub use segment::{Opened, PartBytes, Segment, StreamEntry, TAIL_BYTES};

use model::{TenantId, Timestamp};

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Cheap to write: for flushing.
    Fast,
    /// In between: for merges whose output will be merged again.
    Passing,
    /// Small: for merging, whose output is kept.
    Small,
}

impl Compression {
    pub(crate) fn level(self) -> i32 {
        match self {
            Compression::Fast => 1,
            Compression::Passing => 3,
            Compression::Small => 7,
        }
    }

    /// The footer is small, and every reader reads it.
    pub(crate) fn footer_level(self) -> i32 {
        match self {
            Compression::Fast | Compression::Passing => 3,
            Compression::Small => 6,
        }
    }

    pub(crate) fn timestamp_level(self) -> usize {
        match self {
            Compression::Fast | Compression::Passing => 4,
            Compression::Small => 8,
        }
    }
}

/// How to write a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Bytes of lines and metadata after which a chunk is closed; 1 KiB to 64 MiB.
    pub chunk_bytes: usize,
    /// How hard to compress.
    pub compression: Compression,
}

impl Default for EncodeOptions {
    /// Chunks of 3 MiB, compressed fast.
    fn default() -> Self {
        EncodeOptions {
            chunk_bytes: 3 << 20,
            compression: Compression::Fast,
        }
    }
}

/// What one tenant has in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSummary {
    /// The tenant.
    pub tenant: TenantId,
    /// Records, copies removed.
    pub records: u64,
    /// Bytes of lines and metadata values.
    pub content_bytes: u64,
    /// Time of the earliest record, included.
    pub first: Timestamp,
    /// Time of the latest record, included.
    pub last: Timestamp,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The tenants that have records, in order; empty when no record was left to write.
    pub tenants: Vec<TenantSummary>,
    /// Size of the object.
    pub object_bytes: u64,
}
