//! The write-ahead log's format: file header, record frame, batch payload.
//!
//! What it is: bytes to batches and back. What it is *not*: it opens no file, and it does not decide
//! which damage is a crash's and which is the disk's; it only brings the proof ([`synced_after`]).
//!
//! ```text
//! file    [ header 64 ][ record ][ record ] ...
//!
//! header  0  magic "PHAROWAL"     8  version u32, 3   12 zero u32
//!         16 ingester u64         24 file number u64
//!         32 number of the file before, 0 = none  u64
//!         40 end of the file before: bytes after it were never acknowledged  u64
//!         48 zero u64             56 xxh3-64 of bytes 0..56
//!
//! record  0  magic "PWR1"         4  payload bytes u32
//!         8  sequence u64         16 group start: file offset of the group's first record  u64
//!         24 xxh3-64 of payload   32 xxh3-64 of bytes 0..32, seeded with the file number
//!         40 payload
//!
//! payload 0  ingester u64         8  head sequence u64     16 batch id u128
//!         32 slot i64             40 ring version u64      48 shard u32
//!         52 tenant bytes u32     56 streams u32           60 rows u32
//!         64 line bytes u32       68 keys u32              72 rows with pairs u32 (0 or rows)
//!         76 pairs u32            80 value bytes u32       84 bytes of the text part u32
//!         88 streams that the file named before, which have numbers below; 0 = numbers begin anew  u32
//!         92 text part: tenant; per stream: number u32, rows u32, and if the number is the next one,
//!            so that the stream gets it: id u128, labels u32, per label name bytes u32, value bytes
//!            u32, name, value; per key: bytes u32, key; pair keys u32 each
//!         then timestamps i64, line ends u32, row ends u32, value ends u32, lines, values
//! ```
//!
//! All numbers are little-endian. Invariants:
//! - Sequences of one file ascend by one. A record's group start is at or before its own offset.
//! - A group is written after the group before it was synced. So a frame whose group starts after
//!   offset `x` proves that everything before `x` had reached the disk: damage there is the disk's
//!   doing, not that of a crash.
//! - A number names a stream that stands in full in the same record or an earlier one of the same file,
//!   so a record that is sound up to its place needs nothing that is not. Numbering begins anew where a
//!   record says that nothing is known: in the first of a file, behind a write that failed, and when very
//!   many streams have one.
//! - The large columns are written from where they are, without a copy ([`Record::parts`]).
//! - Decoding checks every length and index before it allocates or slices.

mod decode;
mod encode;
mod error;
mod header;
mod reader;
mod streams;
#[cfg(test)]
mod tests;

pub use decode::{StreamCache, decode_payload};
pub use encode::{Record, encode_payload};
pub use error::Error;
pub use header::{FILE_HEADER_BYTES, FileHeader, RECORD_HEADER_BYTES, RecordHeader};
pub use reader::{Entry, Reader, synced_after};
pub use streams::NamedStreams;

use model::{BatchId, HeadId, HeadKey};

/// Longest payload, bytes. A batch above it is refused on writing; a frame that claims more is
/// damaged.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// Which batch a record holds and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filing {
    /// The head that the batch feeds.
    pub head: HeadId,
    /// The batch's idempotency key.
    pub batch_id: BatchId,
    /// What the head's batches are filed under.
    pub key: HeadKey,
}

// Columns are written as they lie in memory.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "the WAL needs a little-endian machine"
);
