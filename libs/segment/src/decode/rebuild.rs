//! Lines put together again from templates and variables.

use crate::decode::line_buffer::LineBuffer;
use crate::decode::lines::{Choice, LineIndex};
use crate::decode::recipes::{Recipe, Recipes};
use crate::footer::{ChunkEntry, Templates};

/// The lines of one chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) index: &'a LineIndex,
    /// None until values and text are read: lines cannot be put together before.
    pub(crate) recipes: &'a Recipes,
    pub(crate) chunk: &'a ChunkEntry,
    pub(crate) templates: &'a Templates,
    /// The text of all values.
    pub(crate) text: &'a [u8],
    /// The indices block.
    pub(crate) indices: &'a [u8],
}

impl Lines<'_> {
    /// Adds the line of a row to `out`.
    #[inline]
    pub(crate) fn append(&self, row: usize, out: &mut LineBuffer) {
        let local = usize::from(self.index.locals[row]);
        let row = self.index.occurrences[row] as usize;
        *out = self.with_line(self.recipes.of(local), row, std::mem::take(out));
    }

    /// The buffer and behind it the line of a template's `row`th row.
    #[inline(always)]
    pub(crate) fn with_line(
        &self,
        recipe: Recipe<'_>,
        row: usize,
        mut line: LineBuffer,
    ) -> LineBuffer {
        for part in recipe.parts {
            let value = part.column.choice.value(row, self.indices);
            let (start, end) = self.index.place(&part.column, value);
            let before = (part.before.0 as usize, part.before.1 as usize);
            line = line.put(recipe.text, before.0, before.1);
            line = line.put(self.text, start, end);
        }
        let (start, end) = recipe.tail;
        line.put(recipe.text, start as usize, end as usize)
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
