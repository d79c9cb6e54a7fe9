//! How the filters of all chunks stand in the object: in rows, so that one read tells of a hash in
//! which chunks it may be.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::rice::{BitReader, BitWriter};
use super::{Filter, FilterSpec, TokenHash};
use crate::Error;
use crate::error::Damage;
use crate::format::{CHECKSUM_BYTES, FILTER_ROWS_MAX};
use crate::writer::blocks::BlockWriter;

/// About how long a row is, as long as there need not be more than [`FILTER_ROWS_MAX`].
const ROW_BYTES: usize = 8 << 10;

/// Where the filters stand, and what is needed to read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Where each row begins in the object, and where the last one ends; rows are a power of two.
    pub(crate) starts: Vec<u64>,
    /// By chunk.
    pub(crate) specs: Vec<FilterSpec>,
}

impl Filters {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        match (self.starts.first(), self.starts.last()) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        }
    }

    /// Where a row stands.
    pub(crate) fn range(&self, row: usize) -> Range<u64> {
        self.starts[row]..self.starts[row + 1]
    }

    /// The row that tells of a hash.
    pub(crate) fn row(&self, hash: TokenHash) -> usize {
        row_of(hash, self.rows())
    }

    /// Calls `absent` with each chunk that does not hold a token of this hash, ascending; `body` is
    /// the row of the hash.
    ///
    /// # Errors
    /// When the row is not what was written.
    pub(crate) fn scan(
        &self,
        body: &[u8],
        hash: TokenHash,
        mut absent: impl FnMut(u32),
    ) -> Result<(), Damage> {
        let (rows, row) = (self.rows(), self.row(hash) as u32);
        let mut reader = BitReader::new(body);
        for (chunk, spec) in self.specs.iter().enumerate() {
            if spec.is_none() {
                continue;
            }
            let sought = spec.value(hash) - row * spec.cell_values(rows);
            let found = cell(&mut reader, spec, rows, sought)
                .ok_or_else(|| Damage::new(format!("a filter of chunk {chunk}"), "its end"))?;
            if !found {
                absent(chunk as u32);
            }
        }
        match reader.is_at_end() {
            true => Ok(()),
            false => Err(Damage::new("the end of a row of filters", "more of it")),
        }
    }
}

fn row_of(hash: TokenHash, rows: usize) -> usize {
    ((u64::from(hash.0) * rows as u64) >> 32) as usize
}

/// Reads the values of one chunk in one row; whether the value sought is among them.
#[inline]
fn cell(reader: &mut BitReader<'_>, spec: &FilterSpec, rows: usize, sought: u32) -> Option<bool> {
    let count = spec.count(rows).get(reader)?;
    let (low, mut next, mut found) = (spec.low(), 0u32, false);
    for _ in 0..count {
        let value = next.checked_add(reader.rice(low)?)?;
        found |= value == sought;
        next = value.checked_add(1)?;
    }
    Some(found)
}

/// How the numbers of values in the cells of a chunk are coded: as distances from their mean.
#[derive(Clone, Copy)]
struct CountCode {
    mean: u32,
    low: u32,
}

impl CountCode {
    fn put(self, count: u32, out: &mut BitWriter) {
        let code = match self.mean {
            0 => count,
            mean => {
                let distance = i64::from(count) - i64::from(mean);
                ((distance << 1) ^ (distance >> 63)) as u32
            }
        };
        out.rice(code, self.low);
    }

    #[inline]
    fn get(self, reader: &mut BitReader<'_>) -> Option<u32> {
        let code = reader.rice(self.low)?;
        match self.mean {
            0 => Some(code),
            mean => {
                let distance = i64::from(code >> 1) ^ -i64::from(code & 1);
                u32::try_from(i64::from(mean) + distance).ok()
            }
        }
    }
}

impl FilterSpec {
    /// Values that fall into one row.
    fn cell_values(&self, rows: usize) -> u32 {
        (self.values() / rows as u64) as u32
    }

    fn count(&self, rows: usize) -> CountCode {
        let mean = self.hashes / rows as u32;
        CountCode {
            mean,
            // Hashes fall where they like: the spread of a count is the root of its mean.
            low: mean.max(1).ilog2() / 2,
        }
    }
}

/// Writes the filters of all chunks: row by row, and in a row chunk by chunk.
pub(crate) fn write_filters(
    filters: &[Filter],
    out: &mut BlockWriter<'_>,
) -> Result<Filters, Error> {
    let bytes: usize = filters.iter().map(|filter| filter.codes.len()).sum();
    let rows = 1 << (bytes / ROW_BYTES).clamp(1, FILTER_ROWS_MAX).ilog2();
    let mut written = Filters {
        starts: vec![out.position()],
        specs: filters.iter().map(|filter| filter.spec).collect(),
    };
    let mut values: Vec<Values<'_>> = filters.iter().map(Values::new).collect();
    let mut bits = BitWriter::default();
    let mut cell = Vec::new();
    for row in 0..rows {
        for values in &mut values {
            let spec = values.spec;
            if spec.is_none() {
                continue;
            }
            cell.clear();
            let end = (row as u64 + 1) * u64::from(spec.cell_values(rows));
            while let Some(value) = values.next.filter(|value| u64::from(*value) < end) {
                cell.push(value);
                values.step();
            }
            spec.count(rows).put(cell.len() as u32, &mut bits);
            let mut next = row as u32 * spec.cell_values(rows);
            for value in &cell {
                bits.rice(value - next, spec.low());
                next = value.wrapping_add(1);
            }
        }
        let mut body = bits.take();
        let sum = xxh3_64_with_seed(&body, out.position());
        body.extend_from_slice(&sum.to_le_bytes());
        debug_assert!(body.len() >= CHECKSUM_BYTES);
        out.write_plain(&body)?;
        written.starts.push(out.position());
    }
    Ok(written)
}

/// The values of one chunk, ascending.
struct Values<'a> {
    spec: FilterSpec,
    reader: BitReader<'a>,
    left: u32,
    next: Option<u32>,
}

impl<'a> Values<'a> {
    fn new(filter: &'a Filter) -> Self {
        let mut values = Values {
            spec: filter.spec,
            reader: BitReader::new(&filter.codes),
            left: filter.spec.hashes,
            next: None,
        };
        if values.left > 0 {
            values.left -= 1;
            values.next = values.reader.rice(values.spec.low());
        }
        values
    }

    fn step(&mut self) {
        self.next = match (self.next, self.left.checked_sub(1)) {
            (Some(before), Some(left)) => {
                self.left = left;
                let gap = self.reader.rice(self.spec.low());
                gap.and_then(|gap| before.checked_add(gap)?.checked_add(1))
            }
            _ => None,
        };
    }
}
