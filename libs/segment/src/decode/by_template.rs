//! The rows of a chunk template by template, their lines taken apart: for whoever can tell from a
//! template what its lines are made of, and so need not put them together.

use bytes::Bytes;
use model::{Labels, Timestamp};

use super::open_chunk::{Decoded, OpenChunk};
use super::select::Filter;
use super::{Buffers, ChunkStats, Selected};
use crate::Error;
use crate::decode::Scratch;
use crate::decode::line_buffer::LineBuffer;
use crate::decode::lines::Column;
use crate::decode::rebuild::Lines;
use crate::plan::{Plan, PlannedChunk, Wanted};
use crate::template::RAW;

/// The selected rows of some streams of a chunk.
#[derive(Debug)]
pub struct ClassRows<'a> {
    decoded: &'a Decoded<'a>,
    rows: &'a [u32],
}

/// Those of them that have one template. Rows are named by their number in the chunk.
#[derive(Clone, Copy, Debug)]
pub struct TemplateRows<'a> {
    lines: Lines<'a>,
    local: usize,
    rows: &'a [u32],
}

/// The values that stand at one place of a template's lines in a chunk, numbered from 0.
#[derive(Clone, Copy, Debug)]
pub struct SlotValues<'a> {
    lines: Lines<'a>,
    column: &'a Column,
}

impl Plan {
    /// The rows of a chunk that are of the streams, the range and the line filter of the plan, for
    /// each class of streams that `class_of` makes, from 0, in order. `bytes` are the parts that
    /// [`reads_of`](Self::reads_of) names for these wanted columns, which must be all.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_by_template(
        &self,
        chunk: &PlannedChunk,
        wanted: &Wanted,
        bytes: &[Bytes],
        scratch: &mut Scratch,
        class_of: &mut dyn FnMut(&std::sync::Arc<Labels>) -> usize,
        take: &mut dyn FnMut(usize, &ClassRows<'_>),
    ) -> Result<ChunkStats, Error> {
        let mut finish =
            |mut open: OpenChunk<'_>, filter: Option<Filter<'_>>, buffers: &mut Buffers| {
                let mut stats = ChunkStats::default();
                let mut classes: Vec<Vec<u32>> = Vec::new();
                for stream in &chunk.streams {
                    let range = open.rows(stream, self.range)?;
                    stats.rows_processed += range.len() as u64;
                    let selected = match &filter {
                        None => Selected::Range(range),
                        Some(filter) => {
                            buffers.selection.select(&open.lines(), range, filter);
                            Selected::List(buffers.selection.rows())
                        }
                    };
                    if selected.len() == 0 {
                        continue;
                    }
                    stats.rows_matched += selected.len() as u64;
                    let class = class_of(&stream.labels);
                    if classes.len() <= class {
                        classes.resize(class + 1, Vec::new());
                    }
                    selected.for_each(|row| classes[class].push(row as u32));
                }
                if stats.rows_matched == 0 {
                    return Ok(stats);
                }
                let decoded = &open.decoded()?;
                for (class, rows) in classes
                    .iter()
                    .enumerate()
                    .filter(|(_, rows)| !rows.is_empty())
                {
                    take(class, &ClassRows { decoded, rows });
                }
                Ok(stats)
            };
        self.decode_with(chunk, wanted, &|| self.range, bytes, scratch, &mut finish)
    }
}

impl<'a> ClassRows<'a> {
    /// The rows, stream by stream, each ascending by time; never none.
    pub fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// The time of a row.
    pub fn timestamp(&self, row: u32) -> Timestamp {
        self.decoded.timestamps[row as usize]
    }

    /// The structured metadata of a row, in order of key.
    pub fn metadata(&self, row: u32) -> impl Iterator<Item = (&str, &str)> {
        let columns = self.decoded.metadata.iter();
        columns.flat_map(move |columns| columns.row_text(row as usize))
    }

    /// The keys of the chunk's structured metadata, ascending; not all need be of these rows.
    pub fn metadata_keys(&self) -> impl Iterator<Item = &str> {
        let columns = self.decoded.metadata.iter();
        columns.flat_map(|columns| columns.keys())
    }

    /// Gives each pair of these rows' metadata: at least once, and mostly no more.
    pub fn each_metadata(&self, take: impl FnMut(&str, &str)) {
        if let Some(columns) = self.decoded.metadata {
            columns.each_pair(self.rows, take);
        }
    }

    /// Gives the rows of each template.
    pub fn each_template(&self, mut take: impl FnMut(&TemplateRows<'_>)) {
        let lines = self.decoded.lines;
        let locals = || {
            let rows = self.rows.iter();
            rows.map(|row| (*row, usize::from(lines.index.locals[*row as usize])))
        };
        let mut ends = vec![0u32; lines.chunk.templates.len()];
        locals().for_each(|(_, local)| ends[local] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut rows = vec![0; self.rows.len()];
        // Each start moves up to the end.
        for (row, local) in locals() {
            rows[ends[local] as usize] = row;
            ends[local] += 1;
        }
        let mut start = 0;
        for (local, end) in ends.iter().enumerate() {
            let rows = &rows[start..*end as usize];
            start = *end as usize;
            if !rows.is_empty() {
                take(&TemplateRows { lines, local, rows });
            }
        }
    }
}

impl<'a> TemplateRows<'a> {
    /// The template's number in the segment.
    pub fn template(&self) -> u32 {
        self.lines.chunk.templates[self.local]
    }

    /// Whether lines are stored whole, each a value of its own of the only slot.
    pub fn is_whole(&self) -> bool {
        self.template() == RAW
    }

    /// The lines without their variables, which are not empty and have only ASCII letters, digits,
    /// `_` and bytes from 0x80 on, none of which is next to them in the text. Not for lines that
    /// are stored whole.
    pub fn text(&self) -> &'a [u8] {
        self.lines.templates.text(self.template())
    }

    /// Where the variables stand in the text, strictly ascending.
    pub fn slots(&self) -> &'a [u32] {
        self.lines.templates.slots(self.template())
    }

    /// The rows, never none.
    pub fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// Whether these are all rows of the chunk with the template.
    pub fn is_all(&self) -> bool {
        self.rows.len() == self.lines.index.counts[self.local] as usize
    }

    /// The values of a slot.
    pub fn slot(&self, slot: usize) -> SlotValues<'a> {
        SlotValues {
            lines: self.lines,
            column: &self.lines.index.columns(self.local)[slot],
        }
    }

    /// Adds the line of one of these rows to `out`.
    pub fn append_line(&self, row: u32, out: &mut Vec<u8>) {
        let mut line = LineBuffer::behind(std::mem::take(out));
        self.lines.append(row as usize, &mut line);
        *out = line.into_text();
    }
}

impl<'a> SlotValues<'a> {
    /// How many values; they are different where there are fewer than rows.
    pub fn len(&self) -> usize {
        self.column.values as usize
    }

    /// Whether there are none, which is so only of templates without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value.
    pub fn get(&self, value: usize) -> &'a [u8] {
        let (start, end) = self.lines.index.place(self.column, value);
        &self.lines.text[start..end]
    }

    /// The text of all values, one behind the other.
    pub fn text(&self) -> &'a [u8] {
        &self.lines.text[self.lines.index.extent(self.column)]
    }

    /// Which value a row of the template has.
    pub fn of_row(&self, row: u32) -> usize {
        let row = self.lines.index.occurrences[row as usize] as usize;
        self.column.choice.value(row, self.lines.indices)
    }

    /// Whether values may have other bytes than `0-9`, `a-f`, `A-F` and `_`.
    pub fn may_have_words(&self) -> bool {
        let words = self.lines.chunk.text_starts()[1];
        self.lines.index.extent(self.column).start < words
    }
}
