//! Lines put together again from templates and variables.

use crate::decode::lines::{Choice, LineIndex};
use crate::footer::{ChunkEntry, Templates};

/// The lines of one chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) index: &'a LineIndex,
    pub(crate) chunk: &'a ChunkEntry,
    pub(crate) templates: &'a Templates,
    /// The text of all values.
    pub(crate) text: &'a [u8],
    /// The indices block.
    pub(crate) indices: &'a [u8],
}

/// Parts up to this length are copied without a call, if there is as much text behind their start.
const SHORT: usize = 16;

/// Adds a part of the text to the line.
#[inline(always)]
fn put(line: &mut Vec<u8>, text: &[u8], start: usize, end: usize) {
    let length = end - start;
    if length <= SHORT
        && let Some(rest) = text.get(start..)
        && let Some(whole) = rest.first_chunk::<SHORT>()
    {
        let end = line.len() + length;
        line.extend_from_slice(whole);
        line.truncate(end);
    } else {
        line.extend_from_slice(&text[start..end]);
    }
}

impl Lines<'_> {
    /// Adds the line of a row to `out`.
    #[inline]
    pub(crate) fn append(&self, row: usize, out: &mut Vec<u8>) {
        let local = usize::from(self.index.locals[row]);
        self.append_of(local, self.index.occurrences[row] as usize, out);
    }

    /// Adds the line of a template's `row`th row to `out`.
    #[inline(always)]
    pub(crate) fn append_of(&self, local: usize, row: usize, out: &mut Vec<u8>) {
        let fixed = self.templates.text.as_slice();
        let range = self.templates.text_range(self.chunk.templates[local]);
        // Taken out, so that its length need not be written back after each part.
        let mut line = std::mem::take(out);
        let mut at = range.start;
        for column in self.index.columns(local) {
            let value = column.choice.value(row, self.indices);
            let (start, end) = self.index.place(column, value);
            put(
                &mut line,
                fixed,
                column.before.0 as usize,
                column.before.1 as usize,
            );
            put(&mut line, self.text, start, end);
            at = column.before.1 as usize;
        }
        put(&mut line, fixed, at, range.end);
        *out = line;
    }

    /// The length of a row's line.
    pub(crate) fn length(&self, row: usize) -> u32 {
        let local = usize::from(self.index.locals[row]);
        let row = self.index.occurrences[row] as usize;
        let mut length = self.templates.text(self.chunk.templates[local]).len();
        for column in self.index.columns(local) {
            let value = column.choice.value(row, self.indices);
            let (start, end) = self.index.place(column, value);
            length += end - start;
        }
        length as u32
    }
}

/// The lengths of all lines of a chunk, added up column by column.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    /// By template, then by row of the template.
    of: Vec<u32>,
    /// Where those of each template start.
    bases: Vec<u32>,
    /// Those of the values of one column.
    values: Vec<u32>,
}

impl Lengths {
    /// Replaces those of the chunk before.
    pub(crate) fn fill(&mut self, lines: &Lines<'_>) {
        self.of.clear();
        self.bases.clear();
        for local in 0..lines.index.counts.len() {
            self.bases.push(self.of.len() as u32);
            self.fill_template(lines, local);
        }
    }

    fn fill_template(&mut self, lines: &Lines<'_>, local: usize) {
        let columns = lines.index.columns(local).iter();
        let fixed: u32 = columns.filter_map(|c| lines.index.fixed_length(c)).sum();
        let text = lines.templates.text(lines.chunk.templates[local]).len() as u32;
        let start = self.of.len();
        let rows = lines.index.counts[local] as usize;
        self.of.resize(start + rows, text + fixed);
        let of = &mut self.of[start..];
        for column in lines.index.columns(local) {
            if lines.index.fixed_length(column).is_some() {
                continue;
            }
            self.values.clear();
            self.values.extend(lines.index.lengths(column));
            let values = self.values.as_slice();
            match column.choice {
                Choice::Own => of.iter_mut().zip(values).for_each(|(of, n)| *of += n),
                choice => {
                    for (row, of) in of.iter_mut().enumerate() {
                        *of += values[choice.value(row, lines.indices)];
                    }
                }
            }
        }
    }

    /// The length of a row's line.
    pub(crate) fn get(&self, row: usize, index: &LineIndex) -> u32 {
        let base = self.bases[usize::from(index.locals[row])];
        self.of[(base + index.occurrences[row]) as usize]
    }
}
