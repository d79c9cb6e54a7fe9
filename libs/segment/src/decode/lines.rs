//! Where the lines of one chunk have their parts: templates by rows, values by columns.

use std::ops::Range;

use crate::error::Damage;
use crate::footer::{ChunkEntry, Templates};
use crate::format::{
    CHUNK_VARIABLES_MAX, COLUMN_DICTIONARY, COLUMN_FIXED, INDEX_GROUPS, SLOTS_MAX, TEXTS, WIDE,
    index_group,
};
use crate::wire::Cursor;

/// What is known of the lines of a chunk. Buffers are kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct LineIndex {
    /// Place of each row's template in the chunk's list.
    pub(crate) locals: Vec<u16>,
    /// How many rows of the same template stand before the row.
    pub(crate) occurrences: Vec<u32>,
    /// Rows of each template of the list.
    pub(crate) counts: Vec<u32>,
    /// Columns of all templates of the list, in order.
    pub(crate) columns: Vec<Column>,
    /// First column of each template of the list, and the end of the last one's.
    pub(crate) firsts: Vec<u32>,
    /// Where the values of columns start that differ in length, and where the last of each ends.
    starts: Vec<u32>,
}

/// The values of one slot of a template in a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The text before the slot, in the dictionary's text.
    pub(crate) before: (u32, u32),
    /// Which value a row has; known once the indices are read.
    pub(crate) choice: Choice,
    /// How many values.
    pub(crate) values: u32,
    /// Values of one length: where the first starts in the text; else its place among the starts.
    pub(super) first: u32,
    /// The length of each value, or [`VARIED`].
    pub(super) length: u32,
}

const VARIED: u32 = u32::MAX;

/// Which value of a column a row has; the places are those of the first row's byte in the
/// indices block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// Each row has its own.
    Own,
    /// All rows have the only one.
    Only,
    /// A byte says which.
    Low(u32),
    /// A low and a high byte say which.
    Wide(u32, u32),
    /// The indices were not read yet.
    Unread,
}

impl Choice {
    /// The number of the value of the template's `row`th row; `indices` is the indices block.
    #[inline(always)]
    pub(crate) fn value(self, row: usize, indices: &[u8]) -> usize {
        match self {
            Choice::Own => row,
            Choice::Only | Choice::Unread => 0,
            Choice::Low(low) => usize::from(indices[low as usize + row]),
            Choice::Wide(low, high) => {
                let low = indices[low as usize + row];
                usize::from(low) | usize::from(indices[high as usize + row]) << 8
            }
        }
    }
}

/// A group of the indices block that is read from front to back.
#[derive(Clone, Copy, Default)]
struct Group {
    at: usize,
    end: usize,
}

impl Group {
    /// Where the next so many indices start.
    fn take(&mut self, rows: usize) -> Result<usize, Damage> {
        if self.end - self.at < rows {
            let expected = format!("{rows} more indices");
            return Err(Damage::new(expected, self.end - self.at));
        }
        self.at += rows;
        Ok(self.at - rows)
    }
}

/// The groups of the indices block.
fn read_groups(block: &[u8]) -> Result<[Group; INDEX_GROUPS], Damage> {
    let mut groups = [Group::default(); INDEX_GROUPS];
    if block.is_empty() {
        return Ok(groups);
    }
    let mut cursor = Cursor::new(block);
    let mut lengths = [0; INDEX_GROUPS];
    for length in &mut lengths[..INDEX_GROUPS - 1] {
        *length = cursor.count()?;
    }
    for (group, length) in groups.iter_mut().zip(&lengths[..INDEX_GROUPS - 1]) {
        let at = block.len() - cursor.left();
        cursor.take(*length)?;
        let end = at + length;
        *group = Group { at, end };
    }
    groups[INDEX_GROUPS - 1] = Group {
        at: block.len() - cursor.left(),
        end: block.len(),
    };
    Ok(groups)
}

/// Reads which value each row of a column with several has.
fn choice(
    groups: &mut [Group; INDEX_GROUPS],
    indices: &[u8],
    rows: usize,
    values: usize,
) -> Result<Choice, Damage> {
    let low = groups[index_group(values)].take(rows)?;
    let lows = &indices[low..low + rows];
    let (choice, largest) = match values > 256 {
        false => {
            let largest = lows.iter().fold(0, |largest, low| largest.max(*low));
            (Choice::Low(low as u32), u32::from(largest))
        }
        true => {
            let high = groups[WIDE + 1].take(rows)?;
            let pairs = lows.iter().zip(&indices[high..high + rows]);
            let numbers = pairs.map(|(low, high)| u16::from_le_bytes([*low, *high]));
            let largest = numbers.fold(0, u16::max);
            (Choice::Wide(low as u32, high as u32), u32::from(largest))
        }
    };
    match largest as usize >= values {
        true => Err(Damage::new(format!("a value below {values}"), largest)),
        false => Ok(choice),
    }
}

/// What is being read of the lengths block.
struct Reading<'a> {
    lengths: Cursor<'a>,
    /// End of what was read of the text of each class.
    ends: [usize; TEXTS.len() + 1],
    /// Where the text of each class starts, and the end of the last one's.
    bounds: [usize; TEXTS.len() + 1],
    /// Variables so far.
    variables: usize,
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
        // Folded, not `max()`: that is done many at a time.
        let largest = self
            .locals
            .iter()
            .fold(0, |largest, local| largest.max(*local));
        match rows > 0 && usize::from(largest) >= known {
            true => Err(Damage::new(format!("a template below {known}"), largest)),
            false => Ok(()),
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
        self.read_lengths(lengths, chunk, templates)?;
        self.read_indices(indices)
    }

    /// Reads the lengths block: which values stand where, but not yet which rows have them.
    pub(crate) fn read_lengths(
        &mut self,
        lengths: &[u8],
        chunk: &ChunkEntry,
        templates: &Templates,
    ) -> Result<(), Damage> {
        self.count(chunk);
        self.columns.clear();
        self.firsts.clear();
        self.starts.clear();
        let bounds = chunk.text_starts();
        let mut reading = Reading {
            lengths: Cursor::new(lengths),
            ends: bounds,
            bounds,
            variables: 0,
        };
        for (local, template) in chunk.templates.iter().enumerate() {
            self.firsts.push(self.columns.len() as u32);
            let rows = self.counts[local] as usize;
            let start = templates.text_range(*template).start as u32;
            let mut at = start;
            for slot in templates.slots(*template) {
                let before = (at, start + slot);
                let column = reading.column(rows, before, &mut self.starts)?;
                self.columns.push(column);
                at = before.1;
            }
        }
        self.firsts.push(self.columns.len() as u32);
        reading.finish()
    }

    /// Reads the indices block, after the lengths.
    pub(crate) fn read_indices(&mut self, indices: &[u8]) -> Result<(), Damage> {
        let mut groups = read_groups(indices)?;
        for local in 0..self.counts.len() {
            let rows = self.counts[local] as usize;
            let columns = self.firsts[local] as usize..self.firsts[local + 1] as usize;
            for column in &mut self.columns[columns] {
                if let Choice::Unread = column.choice {
                    column.choice = choice(&mut groups, indices, rows, column.values as usize)?;
                }
            }
        }
        match groups.iter().find(|group| group.at != group.end) {
            Some(group) => {
                let left = group.end - group.at;
                Err(Damage::new("the end", format!("{left} more bytes")))
            }
            None => Ok(()),
        }
    }

    fn count(&mut self, chunk: &ChunkEntry) {
        self.counts.clear();
        self.counts.resize(chunk.templates.len(), 0);
        self.occurrences.clear();
        let counts = &mut self.counts;
        self.occurrences.extend(self.locals.iter().map(|local| {
            let count = &mut counts[usize::from(*local)];
            *count += 1;
            *count - 1
        }));
    }

    /// The columns of a template of the list.
    #[inline(always)]
    pub(crate) fn columns(&self, local: usize) -> &[Column] {
        &self.columns[self.firsts[local] as usize..self.firsts[local + 1] as usize]
    }

    /// Where a value of a column stands in the text.
    #[inline(always)]
    pub(crate) fn place(&self, column: &Column, value: usize) -> (usize, usize) {
        let first = column.first as usize;
        if column.length == VARIED {
            let starts = &self.starts[first + value..first + value + 2];
            return (starts[0] as usize, starts[1] as usize);
        }
        let length = column.length as usize;
        let start = first + value * length;
        (start, start + length)
    }

    /// The length of all values of a column, if they have the same.
    pub(crate) fn fixed_length(&self, column: &Column) -> Option<u32> {
        (column.length != VARIED).then_some(column.length)
    }

    /// The length of each value of a column.
    pub(crate) fn lengths(&self, column: &Column) -> impl Iterator<Item = u32> {
        (0..column.values as usize).map(|value| {
            let (start, end) = self.place(column, value);
            (end - start) as u32
        })
    }

    /// The text of all values of a column.
    pub(crate) fn extent(&self, column: &Column) -> Range<usize> {
        match (column.values as usize).checked_sub(1) {
            Some(last) => self.place(column, 0).0..self.place(column, last).1,
            None => 0..0,
        }
    }

    /// The value that stands at this place of the text of a column.
    pub(crate) fn value_at(&self, column: &Column, at: usize) -> usize {
        let first = column.first as usize;
        if column.length != VARIED {
            return (at - first) / (column.length as usize).max(1);
        }
        let starts = &self.starts[first..first + column.values as usize];
        starts
            .partition_point(|start| *start as usize <= at)
            .saturating_sub(1)
    }

    /// The values of a column at these places of the text, ascending; more than one of them may be in
    /// the same.
    pub(crate) fn values_at<'h>(
        &self,
        column: &Column,
        places: &'h [usize],
    ) -> impl Iterator<Item = (usize, usize)> + use<'_, 'h> {
        let (column, extent) = (*column, self.extent(column));
        let from = places.partition_point(|place| *place < extent.start);
        let here = places[from..].iter().copied();
        here.take_while(move |place| *place < extent.end)
            .map(move |place| (self.value_at(&column, place), place))
    }
}

impl Reading<'_> {
    /// The next column, of a template with so many rows.
    fn column(
        &mut self,
        rows: usize,
        before: (u32, u32),
        starts: &mut Vec<u32>,
    ) -> Result<Column, Damage> {
        self.variables += rows;
        if self.variables > CHUNK_VARIABLES_MAX + SLOTS_MAX {
            let expected = format!("at most {CHUNK_VARIABLES_MAX} variables");
            return Err(Damage::new(expected, self.variables));
        }
        let head = self.lengths.byte()?;
        let class = usize::from(head & 3);
        if class >= TEXTS.len() || head > (3 | COLUMN_DICTIONARY | COLUMN_FIXED) {
            return Err(Damage::new("the head of a column", head));
        }
        let values = match head & COLUMN_DICTIONARY {
            0 => rows,
            _ => self.lengths.small()? as usize,
        };
        if values > rows || (values == 0 && rows > 0) {
            return Err(Damage::new(format!("1 to {rows} values"), values));
        }
        let start = self.ends[class];
        let (first, length) = match head & COLUMN_FIXED {
            0 => {
                let first = starts.len();
                self.varied(values, class, starts)?;
                (first, VARIED)
            }
            _ => {
                let length = self.lengths.small()?;
                let end = start as u64 + u64::from(length) * values as u64;
                self.take_text(class, end)?;
                (start, length)
            }
        };
        let choice = match head & COLUMN_DICTIONARY {
            0 => Choice::Own,
            _ if values <= 1 => Choice::Only,
            _ => Choice::Unread,
        };
        Ok(Column {
            before,
            choice,
            values: values as u32,
            first: first as u32,
            length,
        })
    }

    /// Reads the lengths of values that differ in them.
    fn varied(&mut self, values: usize, class: usize, starts: &mut Vec<u32>) -> Result<(), Damage> {
        let mut end = self.ends[class] as u64;
        let limit = self.bounds[class + 1] as u64;
        starts.reserve(values + 1);
        starts.push(end as u32);
        for _ in 0..values {
            end += u64::from(self.lengths.small()?);
            if end > limit {
                break;
            }
            starts.push(end as u32);
        }
        self.take_text(class, end)
    }

    fn take_text(&mut self, class: usize, end: u64) -> Result<(), Damage> {
        let limit = self.bounds[class + 1];
        if end > limit as u64 {
            return Err(Damage::new(format!("values up to {limit}"), end));
        }
        self.ends[class] = end as usize;
        Ok(())
    }

    /// Checks that everything was read.
    fn finish(&self) -> Result<(), Damage> {
        self.lengths.finish()?;
        match (0..TEXTS.len()).all(|class| self.ends[class] == self.bounds[class + 1]) {
            true => Ok(()),
            false => Err(Damage::new(
                format!("values up to {:?}", &self.bounds[1..]),
                format!("{:?}", &self.ends[..TEXTS.len()]),
            )),
        }
    }
}
