//! Lines of one chunk, put together again from templates and variables.

use std::ops::Range;

use crate::error::Damage;
use crate::footer::{ChunkEntry, Templates};
use crate::wire::Cursor;

/// Where each row's template and variables are. Buffers are kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct LineIndex {
    /// Place of each row's template in the chunk's list.
    pub(crate) locals: Vec<u16>,
    /// How many rows of the same template stand before the row.
    occurrences: Vec<u32>,
    /// Rows of each template of the list.
    counts: Vec<u32>,
    /// First variable of each template of the list; one more for the end.
    firsts: Vec<u32>,
    /// End of each variable in the text.
    ends: Vec<u32>,
}

impl LineIndex {
    /// Reads the templates block.
    pub(crate) fn read_templates(
        &mut self,
        block: &[u8],
        chunk: &ChunkEntry,
    ) -> Result<(), Damage> {
        let rows = chunk.rows as usize;
        let known = chunk.templates.len();
        self.locals.clear();
        let mut cursor = Cursor::new(block);
        match known {
            1 => self.locals.resize(rows, 0),
            _ => {
                let low = cursor.take(rows)?;
                self.locals.extend(low.iter().map(|low| u16::from(*low)));
            }
        }
        if known > 256 {
            for (local, high) in self.locals.iter_mut().zip(cursor.take(rows)?) {
                *local |= u16::from(*high) << 8;
            }
        }
        cursor.finish()?;
        match self.locals.iter().max() {
            Some(max) if usize::from(*max) >= known => {
                Err(Damage::new(format!("a template below {known}"), max))
            }
            _ => Ok(()),
        }
    }

    /// Reads the lengths block; `text_bytes` is the length of the text block.
    pub(crate) fn read_lengths(
        &mut self,
        block: &[u8],
        text_bytes: usize,
        chunk: &ChunkEntry,
        templates: &Templates,
    ) -> Result<(), Damage> {
        self.counts.clear();
        self.counts.resize(chunk.templates.len(), 0);
        self.occurrences.clear();
        for local in &self.locals {
            let count = &mut self.counts[usize::from(*local)];
            self.occurrences.push(*count);
            *count += 1;
        }
        self.firsts.clear();
        let mut values = 0u64;
        for (template, count) in chunk.templates.iter().zip(&self.counts) {
            self.firsts.push(values as u32);
            values += templates.slots(*template).len() as u64 * u64::from(*count);
        }
        self.firsts.push(values as u32);
        if values > block.len() as u64 {
            let expected = format!("lengths of {values} variables");
            return Err(Damage::new(expected, block.len()));
        }
        self.ends.clear();
        self.ends.reserve(values as usize);
        let mut end = 0u64;
        let mut cursor = Cursor::new(block);
        for _ in 0..values {
            end = end.saturating_add(cursor.varint()?);
            self.ends.push(end as u32);
        }
        cursor.finish()?;
        if end != text_bytes as u64 {
            return Err(Damage::new(format!("{text_bytes} bytes of variables"), end));
        }
        Ok(())
    }

    fn value(&self, at: usize) -> Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[at] as usize
    }

    /// Where all variables of a template of the list stand in the text.
    pub(crate) fn region(&self, local: usize) -> Range<usize> {
        let (first, end) = (self.firsts[local] as usize, self.firsts[local + 1] as usize);
        match first == end {
            true => 0..0,
            false => self.value(first).start..self.value(end - 1).end,
        }
    }

    /// The first variable of a row and the distance from each to the next.
    fn variables(&self, row: usize) -> (usize, usize) {
        let local = usize::from(self.locals[row]);
        let first = self.firsts[local] + self.occurrences[row];
        (first as usize, self.counts[local] as usize)
    }

    /// Adds the line of a row to `out`.
    pub(crate) fn append(
        &self,
        row: usize,
        chunk: &ChunkEntry,
        templates: &Templates,
        text: &[u8],
        out: &mut Vec<u8>,
    ) {
        let template = chunk.templates[usize::from(self.locals[row])];
        let fixed = templates.text(template);
        let (mut variable, step) = self.variables(row);
        let mut at = 0;
        for slot in templates.slots(template) {
            out.extend_from_slice(&fixed[at..*slot as usize]);
            out.extend_from_slice(&text[self.value(variable)]);
            at = *slot as usize;
            variable += step;
        }
        out.extend_from_slice(&fixed[at..]);
    }

    /// The length of a row's line.
    pub(crate) fn length(&self, row: usize, chunk: &ChunkEntry, templates: &Templates) -> u32 {
        let template = chunk.templates[usize::from(self.locals[row])];
        let (mut variable, step) = self.variables(row);
        let mut length = templates.text(template).len();
        for _ in templates.slots(template) {
            length += self.value(variable).len();
            variable += step;
        }
        length as u32
    }
}
