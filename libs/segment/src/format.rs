//! The constants of FORMAT.md.

/// First bytes of a segment.
pub(crate) const HEAD_MAGIC: [u8; 8] = *b"PHAROSLG";
/// Last bytes of a segment.
pub(crate) const TAIL_MAGIC: [u8; 8] = *b"PHSEGEND";
/// The version that this release writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 2;
/// Bytes of the trailer.
pub(crate) const TRAILER_BYTES: usize = 40;
/// Bytes of the checksum behind each block and each row of filters.
pub(crate) const CHECKSUM_BYTES: usize = 8;

/// Most templates of a segment, [`RAW`](crate::template::RAW) included: numbers fit 16 bits.
pub(crate) const TEMPLATES_MAX: usize = 32_768;
/// Most bytes of text in one template.
pub(crate) const TEMPLATE_TEXT_MAX: usize = 65_536;
/// Most variables in one template.
pub(crate) const SLOTS_MAX: usize = 128;
/// Most bytes of the line and of the values of the metadata of one record, inclusive.
pub const RECORD_BYTES_MAX: u64 = 1 << 28;
/// Most bytes of one block before compression: a full chunk and one more record.
pub(crate) const BLOCK_RAW_MAX: u64 = 1 << 30;
/// zstd never expands more than this (128 KiB out of a 3-byte block, rounded up).
pub(crate) const EXPANSION_MAX: u64 = 65_536;
/// Tokens shorter than this are not in the filters.
pub(crate) const FILTER_TOKEN_MIN: usize = 7;
/// Most rows of the filters of a segment; the space of hashes is cut into a multiple of it.
pub(crate) const FILTER_ROWS_MAX: usize = 1 << 10;
/// Most parts into which the space of hashes is cut, in units of [`FILTER_ROWS_MAX`].
pub(crate) const FILTER_UNITS_MAX: u64 = (1 << 22) - 1;

/// Most rows of one chunk.
pub(crate) const CHUNK_ROWS_MAX: usize = 1 << 18;
/// Most variables of one chunk, of its last line not counted.
pub(crate) const CHUNK_VARIABLES_MAX: usize = 1 << 21;

/// The blocks of a chunk, in the order in which they stand in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Block {
    /// Which template each row has.
    Templates = 0,
    /// Time of each row.
    Timestamps = 1,
    /// How each column of variables is stored, and the length of each value.
    Lengths = 2,
    /// Which value of its column's dictionary each variable is.
    Indices = 3,
    /// Values of columns with other letters than those of hexadecimal numbers; whole lines.
    Words = 4,
    /// Values of columns of digits, `_` and at least one of `a-f`, `A-F`.
    Hex = 5,
    /// Values of columns of digits and `_`.
    Numbers = 6,
    /// Structured metadata.
    Metadata = 7,
}

pub(crate) const BLOCKS: [Block; 8] = [
    Block::Templates,
    Block::Timestamps,
    Block::Lengths,
    Block::Indices,
    Block::Words,
    Block::Hex,
    Block::Numbers,
    Block::Metadata,
];

/// The blocks that hold text, by class.
pub(crate) const TEXTS: [Block; 3] = [Block::Words, Block::Hex, Block::Numbers];

/// Head of a column of variables: class in the low two bits, and these.
pub(crate) const COLUMN_DICTIONARY: u8 = 4;
/// All values are equally long.
pub(crate) const COLUMN_FIXED: u8 = 8;

/// Indices stand in groups, so that those of like size are compressed together: of columns with up
/// to 4, 16, 256 and more values, the last as low bytes and, in a group of their own, high bytes.
pub(crate) const INDEX_GROUPS: usize = 5;
/// The group of the low bytes of columns with more than 256 values.
pub(crate) const WIDE: usize = 3;

/// The group of a column with this many values.
pub(crate) fn index_group(values: usize) -> usize {
    match values {
        0..=4 => 0,
        5..=16 => 1,
        17..=256 => 2,
        _ => WIDE,
    }
}
