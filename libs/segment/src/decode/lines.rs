//! Lines of one chunk, put together again from templates and variables.

use std::ops::Range;

use crate::error::Damage;
use crate::footer::{ChunkEntry, Templates};
use crate::format::{
    CHUNK_VARIABLES_MAX, COLUMN_DICTIONARY, COLUMN_FIXED, INDEX_GROUPS, SLOTS_MAX, TEXTS, WIDE,
    index_group,
};
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
    /// First variable of each template of the list.
    firsts: Vec<u32>,
    /// Number of the value of each variable.
    numbers: Vec<u32>,
    /// Where each value stands in the text.
    places: Vec<(u32, u32)>,
    /// First place and template of each column.
    columns: Vec<(u32, u16)>,
}

/// The groups of the indices block.
fn read_groups(block: &[u8]) -> Result<[Cursor<'_>; INDEX_GROUPS], Damage> {
    let mut groups = [const { Cursor::new(&[]) }; INDEX_GROUPS];
    if block.is_empty() {
        return Ok(groups);
    }
    let mut cursor = Cursor::new(block);
    let mut lengths = [0; INDEX_GROUPS];
    for length in &mut lengths[..INDEX_GROUPS - 1] {
        *length = cursor.count()?;
    }
    for (group, length) in groups.iter_mut().zip(&lengths[..INDEX_GROUPS - 1]) {
        *group = Cursor::new(cursor.take(*length)?);
    }
    groups[INDEX_GROUPS - 1] = cursor;
    Ok(groups)
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

    /// Reads the lengths and indices blocks.
    pub(crate) fn read_variables(
        &mut self,
        lengths: &[u8],
        indices: &[u8],
        chunk: &ChunkEntry,
        templates: &Templates,
    ) -> Result<(), Damage> {
        self.count(chunk);
        self.firsts.clear();
        self.numbers.clear();
        self.places.clear();
        self.columns.clear();
        let mut lengths = Cursor::new(lengths);
        let mut indices = read_groups(indices)?;
        let bounds = chunk.text_starts();
        let mut ends = bounds;
        for (local, template) in chunk.templates.iter().enumerate() {
            self.firsts.push(self.numbers.len() as u32);
            for _ in 0..templates.slots(*template).len() {
                self.columns.push((self.places.len() as u32, local as u16));
                let rows = self.counts[local] as usize;
                self.read_column(rows, &mut lengths, &mut indices, &mut ends, &bounds)?;
            }
        }
        lengths.finish()?;
        indices.iter().try_for_each(Cursor::finish)?;
        match (0..TEXTS.len()).all(|class| ends[class] == bounds[class + 1]) {
            true => Ok(()),
            false => Err(Damage::new(
                format!("values up to {:?}", &bounds[1..]),
                format!("{:?}", &ends[..TEXTS.len()]),
            )),
        }
    }

    fn count(&mut self, chunk: &ChunkEntry) {
        self.counts.clear();
        self.counts.resize(chunk.templates.len(), 0);
        self.occurrences.clear();
        for local in &self.locals {
            let count = &mut self.counts[usize::from(*local)];
            self.occurrences.push(*count);
            *count += 1;
        }
    }

    fn read_column(
        &mut self,
        rows: usize,
        lengths: &mut Cursor<'_>,
        indices: &mut [Cursor<'_>; INDEX_GROUPS],
        ends: &mut [usize; TEXTS.len() + 1],
        bounds: &[usize; TEXTS.len() + 1],
    ) -> Result<(), Damage> {
        if self.numbers.len() + rows > CHUNK_VARIABLES_MAX + SLOTS_MAX {
            let expected = format!("at most {CHUNK_VARIABLES_MAX} variables");
            return Err(Damage::new(expected, self.numbers.len() + rows));
        }
        let head = lengths.byte()?;
        let class = usize::from(head & 3);
        if class >= TEXTS.len() || head > (3 | COLUMN_DICTIONARY | COLUMN_FIXED) {
            return Err(Damage::new("the head of a column", head));
        }
        let first = self.places.len() as u32;
        let values = match head & COLUMN_DICTIONARY {
            0 => rows,
            _ => lengths.small()? as usize,
        };
        if values > rows || (values == 0 && rows > 0) {
            return Err(Damage::new(format!("1 to {rows} values"), values));
        }
        let fixed = match head & COLUMN_FIXED {
            0 => None,
            _ => Some(lengths.small()? as usize),
        };
        let limit = bounds[class + 1];
        let mut end = ends[class];
        for _ in 0..values {
            let length = match fixed {
                Some(length) => length,
                None => lengths.small()? as usize,
            };
            let start = end;
            end = start + length;
            if end > limit {
                return Err(Damage::new(format!("values up to {limit}"), end));
            }
            self.places.push((start as u32, end as u32));
        }
        ends[class] = end;
        if head & COLUMN_DICTIONARY == 0 {
            self.numbers.extend(first..first + values as u32);
            return Ok(());
        }
        self.read_indices(rows, values, first, indices)
    }

    /// Reads which value each row of a column with a dictionary has; `first` is its first value.
    fn read_indices(
        &mut self,
        rows: usize,
        values: usize,
        first: u32,
        indices: &mut [Cursor<'_>; INDEX_GROUPS],
    ) -> Result<(), Damage> {
        let start = self.numbers.len();
        match values {
            1 => self.numbers.resize(start + rows, first),
            _ => {
                let low = indices[index_group(values)].take(rows)?.iter();
                self.numbers.extend(low.map(|low| u32::from(*low)));
            }
        }
        if values > 256 {
            let high = indices[WIDE + 1].take(rows)?;
            for (number, high) in self.numbers[start..].iter_mut().zip(high) {
                *number |= u32::from(*high) << 8;
            }
        }
        if values > 1 {
            let mut largest = 0;
            for number in &mut self.numbers[start..] {
                largest = largest.max(*number);
                *number += first;
            }
            if largest as usize >= values {
                return Err(Damage::new(format!("a value below {values}"), largest));
            }
        }
        Ok(())
    }

    /// Which template of the list has this byte of the text among its values; the classes' texts
    /// ascend separately, so all columns are looked at.
    pub(crate) fn owners(&self, hits: &[usize], mut take: impl FnMut(usize)) {
        for (at, (first, local)) in self.columns.iter().enumerate() {
            let next = self.columns.get(at + 1);
            let end = next.map_or(self.places.len(), |next| next.0 as usize);
            let places = &self.places[*first as usize..end];
            if let (Some(first), Some(last)) = (places.first(), places.last()) {
                let from = hits.partition_point(|hit| *hit < first.0 as usize);
                if hits.get(from).is_some_and(|hit| *hit < last.1 as usize) {
                    take(usize::from(*local));
                }
            }
        }
    }

    fn place(&self, variable: usize) -> Range<usize> {
        let (start, end) = self.places[self.numbers[variable] as usize];
        start as usize..end as usize
    }

    /// The first variable of a row and the distance from each to the next.
    fn variables(&self, row: usize) -> (usize, usize) {
        let local = usize::from(self.locals[row]);
        let first = self.firsts[local] + self.occurrences[row];
        (first as usize, self.counts[local] as usize)
    }

    /// Adds the line of a row to `out`.
    #[inline]
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
            out.extend_from_slice(&text[self.place(variable)]);
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
            length += self.place(variable).len();
            variable += step;
        }
        length as u32
    }
}
