use std::sync::Arc;

use crate::{Labels, Timestamp};

/// Which columns a block must have; what is not asked for is left empty and costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Time of each row. Without it a block only says how many rows there are.
    pub timestamps: bool,
    /// Lines.
    pub lines: LineColumn,
    /// Structured metadata.
    pub metadata: bool,
}

/// What of the line is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineColumn {
    /// Nothing.
    None,
    /// Its length in bytes.
    Lengths,
    /// Its bytes.
    Bytes,
}

/// Rows of one stream that passed selector, range and line filter. Rows ascend by time (rows of
/// equal time keep the order in which they are stored).
#[derive(Clone, Copy, Debug)]
pub struct RowBlock<'a> {
    /// The stream's labels; two blocks of one stream have equal labels, perhaps not the same `Arc`.
    pub labels: &'a Arc<Labels>,
    /// How many rows, at least 1.
    pub rows: usize,
    /// One per row, ascending; empty if not asked for.
    pub timestamps: &'a [Timestamp],
    /// Lines or their lengths; `None` if not asked for.
    pub lines: LineRows<'a>,
    /// Outcomes of the lines under the property that was asked for; empty if none was, if nobody
    /// [asks](crate::LineProperty::is_asked) in this stream; may be empty where the lines' bytes are
    /// here.
    pub outcomes: &'a [u8],
    /// `None` if not asked for, or if no row of the block has metadata.
    pub metadata: Option<MetadataRows<'a>>,
}

/// The lines of a block, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum LineRows<'a> {
    /// Not asked for.
    None,
    /// Length of each line, bytes.
    Lengths(&'a [u32]),
    /// The lines themselves.
    Bytes {
        /// All lines.
        bytes: &'a [u8],
        /// End of each line in `bytes`; starts where the one before ends, the first at 0.
        ends: &'a [u32],
    },
}

impl<'a> LineRows<'a> {
    /// The line of a row; empty unless bytes were asked for.
    pub fn line(&self, row: usize) -> &'a [u8] {
        match self {
            LineRows::Bytes { bytes, ends } => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                &bytes[start as usize..ends[row] as usize]
            }
            _ => &[],
        }
    }

    /// The length of a row's line in bytes; 0 unless lengths or bytes were asked for.
    pub fn line_length(&self, row: usize) -> usize {
        match self {
            LineRows::None => 0,
            LineRows::Lengths(lengths) => lengths[row] as usize,
            LineRows::Bytes { .. } => self.line(row).len(),
        }
    }
}

/// The structured metadata of a block, row by row.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRows<'a> {
    /// End of each row's pairs in `pairs`.
    pub row_ends: &'a [u32],
    /// Key and value, in order of key within a row.
    pub pairs: &'a [(&'a str, &'a str)],
}

impl<'a> MetadataRows<'a> {
    /// The pairs of a row, in order of key.
    pub fn row(&self, row: usize) -> &'a [(&'a str, &'a str)] {
        let start = row.checked_sub(1).map_or(0, |before| self.row_ends[before]);
        &self.pairs[start as usize..self.row_ends[row] as usize]
    }
}

/// Whether the source should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More, please.
    Continue,
    /// This sink needs no more blocks.
    Stop,
}
