//! Tests that one value of a line decides, made on the values of a chunk: each value is looked at
//! once, however many rows have it, and no line is put together.

use std::ops::Range;

use crate::decode::lines::{Choice, Column, LineIndex};
use crate::format::TEXTS;
use crate::search::{OfValues, Verdict};

/// Which rows have a value that passes a test. Kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct ValueHits {
    /// A bit for each test that was made.
    pub(crate) decided: u8,
    /// Where the masks of each template of the list start, or [`NONE`].
    bases: Vec<u32>,
    /// For each row, a bit for each test that one of its values passes.
    masks: Vec<u8>,
    /// Where the rows of each template of the list start among `holds`, or [`NONE`].
    holders: Vec<u32>,
    /// For each row, whether it has all texts that it needs to pass.
    holds: Vec<bool>,
    /// The values of a column that pass.
    values: Vec<u32>,
    passes: Vec<bool>,
}

/// No row of the template has such a value.
const NONE: u32 = u32::MAX;

/// The values of a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) index: &'a LineIndex,
    /// The templates of the chunk's list.
    pub(crate) templates: &'a [u32],
    /// The text of all values.
    pub(crate) text: &'a [u8],
    /// Where the text of each class starts, and the end of the last one's.
    pub(crate) starts: [usize; TEXTS.len() + 1],
    /// The indices block.
    pub(crate) indices: &'a [u8],
}

impl ValueHits {
    /// Forgets the chunk before.
    pub(crate) fn begin(&mut self, templates: usize) {
        self.decided = 0;
        self.bases.clear();
        self.bases.resize(templates, NONE);
        self.masks.clear();
        self.holders.clear();
        self.holders.resize(templates, NONE);
        self.holds.clear();
    }

    /// Whether it is known of any row that it has what it needs.
    pub(crate) fn has_holders(&self) -> bool {
        !self.holds.is_empty()
    }

    /// Which of a template's rows may pass; `None` when that is known of none.
    pub(crate) fn holders(&self, local: usize) -> Option<&[bool]> {
        let base = self.holders.get(local).copied().unwrap_or(NONE);
        (base != NONE).then(|| &self.holds[base as usize..])
    }

    /// Only rows with one of these values may pass: each is a column of the template and the number of
    /// the value.
    pub(crate) fn hold(
        &mut self,
        local: usize,
        index: &LineIndex,
        indices: &[u8],
        values: &[(usize, usize)],
    ) {
        let rows = index.counts[local] as usize;
        let mut holds = vec![false; rows];
        for of_column in values.chunk_by(|a, b| a.0 == b.0) {
            let column = &index.columns(local)[of_column[0].0];
            self.values.clear();
            let of_column = of_column.iter().map(|(_, value)| *value as u32);
            self.values.extend(of_column);
            self.each_row(column, rows, indices, |row| holds[row] = true);
        }
        match self.holders[local] {
            NONE => {
                self.holders[local] = self.holds.len() as u32;
                self.holds.extend(holds);
            }
            base => {
                let before = &mut self.holds[base as usize..][..rows];
                before.iter_mut().zip(holds).for_each(|(b, h)| *b &= h);
            }
        }
    }

    /// Gives the rows that have one of the found values of a column.
    fn each_row(
        &mut self,
        column: &Column,
        rows: usize,
        indices: &[u8],
        mut take: impl FnMut(usize),
    ) {
        match column.choice {
            Choice::Own => self.values.iter().for_each(|value| take(*value as usize)),
            Choice::Only | Choice::Unread => (0..rows).for_each(take),
            Choice::Low(_) | Choice::Wide(..) => {
                self.passes.clear();
                self.passes.resize(column.values as usize, false);
                for value in &self.values {
                    self.passes[*value as usize] = true;
                }
                let has = |row: &usize| self.passes[column.choice.value(*row, indices)];
                (0..rows).filter(has).for_each(take);
            }
        }
    }

    /// The masks of a template's rows; `None` when none of them has a value that passes a test.
    pub(crate) fn masks(&self, local: usize) -> Option<&[u8]> {
        let base = self.bases.get(local).copied().unwrap_or(NONE);
        (base != NONE).then(|| &self.masks[base as usize..])
    }

    /// Makes a test on the values of templates that are open, and says which those are no more.
    /// Where more than `most` values pass that is not worth while, and the test is left to the lines.
    pub(crate) fn look(
        &mut self,
        test: &OfValues<'_>,
        values: &Values<'_>,
        verdicts: &[Verdict],
        refuted: &[u64],
        most: usize,
    ) {
        let mut left = most;
        let open = |local: usize| {
            let template = values.templates[local];
            verdicts[local] == Verdict::Maybe && test.is_open(template, refuted)
        };
        for class in 0..=test.class {
            if !self.look_in_class(class, test, values, &open, &mut left) {
                // Its bits that stand in masks are not asked for.
                return;
            }
        }
        self.decided |= test.bit;
    }

    /// False when too many values pass.
    fn look_in_class(
        &mut self,
        class: usize,
        test: &OfValues<'_>,
        values: &Values<'_>,
        open: &dyn Fn(usize) -> bool,
        left: &mut usize,
    ) -> bool {
        let (start, end) = (values.starts[class], values.starts[class + 1]);
        let text = &values.text[..end];
        let mut next = test.find(text, start);
        for local in 0..values.templates.len() {
            for column in values.index.columns(local) {
                if next.is_none() {
                    return true;
                }
                let extent = values.index.extent(column);
                let is_here = |found: &Range<usize>| extent.contains(&found.start);
                if !next.as_ref().is_some_and(is_here) {
                    continue;
                }
                if !open(local) {
                    next = test.find(text, extent.end);
                    continue;
                }
                self.values.clear();
                while let Some(found) = next.clone().filter(is_here) {
                    let value = values.index.value_at(column, found.start);
                    let (from, to) = values.index.place(column, value);
                    // What straddles two values is in neither, but there may be more in the first.
                    if found.end <= to || test.is_match(&text[from..to]) {
                        self.values.push(value as u32);
                    }
                    match left.checked_sub(1) {
                        Some(less) => *left = less,
                        None => return false,
                    }
                    next = test.find(text, to);
                }
                if !self.values.is_empty() {
                    self.mark(local, column, test.bit, values);
                }
            }
        }
        true
    }

    /// Marks the rows that have one of the values found in a column.
    fn mark(&mut self, local: usize, column: &Column, bit: u8, values: &Values<'_>) {
        let rows = values.index.counts[local] as usize;
        if self.bases[local] == NONE {
            self.bases[local] = self.masks.len() as u32;
            self.masks.resize(self.masks.len() + rows, 0);
        }
        let base = self.bases[local] as usize;
        let mut masks = std::mem::take(&mut self.masks);
        self.each_row(column, rows, values.indices, |row| masks[base + row] |= bit);
        self.masks = masks;
    }
}
