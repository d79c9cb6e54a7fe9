//! Structured metadata of a chunk as columns: one per key, in order of key.
//!
//! Each column says which rows have the key (all, a bitmap, or a list) and holds their values
//! (dictionary, decimal integers, or text), whichever is smallest for its density.

use hashbrown::HashMap;

use crate::error::Damage;
use crate::wire::{Cursor, put_bytes, put_varint};

const ROWS_ALL: u8 = 0;
const ROWS_BITMAP: u8 = 1;
const ROWS_LIST: u8 = 2;

const VALUES_TEXT: u8 = 0;
const VALUES_DICTIONARY: u8 = 1;
const VALUES_INTEGERS: u8 = 2;

#[derive(Debug, Default)]
struct Column {
    key: Box<str>,
    rows: Vec<u32>,
    ends: Vec<u32>,
    text: Vec<u8>,
}

/// Collects the pairs of one chunk.
#[derive(Debug, Default)]
pub(crate) struct MetadataBuilder {
    columns: Vec<Column>,
    by_key: HashMap<Box<str>, usize>,
}

impl MetadataBuilder {
    pub(crate) fn push(&mut self, row: u32, key: &str, value: &[u8]) {
        let at = match self.by_key.get(key) {
            Some(at) => *at,
            None => {
                self.by_key.insert(key.into(), self.columns.len());
                self.columns.push(Column {
                    key: key.into(),
                    ..Column::default()
                });
                self.columns.len() - 1
            }
        };
        let column = &mut self.columns[at];
        column.rows.push(row);
        column.text.extend_from_slice(value);
        column.ends.push(column.text.len() as u32);
    }

    /// Writes the columns and empties the builder; writes nothing when there are no pairs.
    pub(crate) fn seal(&mut self, rows: usize, out: &mut Vec<u8>) {
        if self.columns.is_empty() {
            return;
        }
        self.columns.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        put_varint(out, self.columns.len() as u64);
        for column in &self.columns {
            put_bytes(out, column.key.as_bytes());
            column.put_rows(rows, out);
            column.put_values(out);
        }
        self.columns.clear();
        self.by_key.clear();
    }
}

impl Column {
    fn value(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|at| self.value(at))
    }

    fn put_rows(&self, rows: usize, out: &mut Vec<u8>) {
        if self.rows.len() == rows {
            out.push(ROWS_ALL);
        } else if self.rows.len() > rows / 8 {
            out.push(ROWS_BITMAP);
            let start = out.len();
            out.resize(start + rows.div_ceil(8), 0);
            for row in &self.rows {
                out[start + *row as usize / 8] |= 1 << (row % 8);
            }
        } else {
            out.push(ROWS_LIST);
            put_varint(out, self.rows.len() as u64);
            let mut next = 0;
            for row in &self.rows {
                put_varint(out, u64::from(row - next));
                next = row + 1;
            }
        }
    }

    fn put_values(&self, out: &mut Vec<u8>) {
        if let Some((words, numbers)) = self.dictionary() {
            out.push(VALUES_DICTIONARY);
            put_varint(out, words.len() as u64);
            words.iter().for_each(|word| put_bytes(out, word));
            let wide = words.len() > 256;
            out.extend(numbers.iter().map(|number| *number as u8));
            if wide {
                out.extend(numbers.iter().map(|number| (number >> 8) as u8));
            }
        } else if let Some(integers) = self.integers() {
            out.push(VALUES_INTEGERS);
            let mut before = 0;
            for integer in integers {
                let step = integer.wrapping_sub(before) as i64;
                put_varint(out, ((step << 1) ^ (step >> 63)) as u64);
                before = integer;
            }
        } else {
            out.push(VALUES_TEXT);
            self.values()
                .for_each(|value| put_varint(out, value.len() as u64));
            out.extend_from_slice(&self.text);
        }
    }

    /// The distinct values in order of appearance and the number of each value, when there are
    /// few enough of them.
    fn dictionary(&self) -> Option<(Vec<&[u8]>, Vec<u16>)> {
        let limit = (self.ends.len() / 2).clamp(1, 65_536);
        let mut words = Vec::new();
        let mut numbers = Vec::with_capacity(self.ends.len());
        let mut by_word: HashMap<&[u8], u16> = HashMap::new();
        for value in self.values() {
            let number = match by_word.get(value) {
                Some(number) => *number,
                None if words.len() == limit => return None,
                None => {
                    let number = words.len() as u16;
                    words.push(value);
                    by_word.insert(value, number);
                    number
                }
            };
            numbers.push(number);
        }
        Some((words, numbers))
    }

    /// The values as integers, when each is a decimal integer written in the one canonical way.
    fn integers(&self) -> Option<Vec<u64>> {
        self.values().map(canonical).collect()
    }
}

fn canonical(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 || (value[0] == b'0' && value.len() > 1) {
        return None;
    }
    let mut number = 0u64;
    for byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    Some(number)
}

/// The pairs of a chunk, row by row.
#[derive(Debug, Default)]
pub(crate) struct MetadataColumns {
    keys: Vec<String>,
    /// All values that occur, texts of a dictionary once.
    text: Vec<u8>,
    /// End of each row's pairs.
    row_ends: Vec<u32>,
    /// Key number and place in `text` of each pair.
    pairs: Vec<(u32, u32, u32)>,
}

impl MetadataColumns {
    /// Reads the block of a chunk with so many rows. With `repair`, values that are not UTF-8 get
    /// replacement characters, so that [`pair_text`](Self::pair_text) can show them.
    pub(crate) fn read(block: &[u8], rows: usize, repair: bool) -> Result<Self, Damage> {
        let mut columns = MetadataColumns::default();
        columns.row_ends.resize(rows, 0);
        if block.is_empty() {
            return Ok(columns);
        }
        let mut cursor = Cursor::new(block);
        let count = cursor.count()?;
        let mut by_column = Vec::new();
        for _ in 0..count {
            columns.keys.push(cursor.text()?.to_owned());
            let at = read_rows(&mut cursor, rows)?;
            let values = columns.read_values(&mut cursor, at.len(), repair)?;
            for row in &at {
                columns.row_ends[*row as usize] += 1;
            }
            by_column.push((at, values));
        }
        cursor.finish()?;
        let mut next = Vec::with_capacity(rows);
        let mut total = 0;
        for end in &mut columns.row_ends {
            next.push(total);
            total += *end;
            *end = total;
        }
        columns.pairs.resize(total as usize, (0, 0, 0));
        for (key, (at, values)) in by_column.into_iter().enumerate() {
            for (row, (start, end)) in at.into_iter().zip(values) {
                let place = &mut next[row as usize];
                columns.pairs[*place as usize] = (key as u32, start, end);
                *place += 1;
            }
        }
        Ok(columns)
    }

    fn read_values(
        &mut self,
        cursor: &mut Cursor<'_>,
        count: usize,
        repair: bool,
    ) -> Result<Vec<(u32, u32)>, Damage> {
        match cursor.byte()? {
            VALUES_TEXT => {
                let mut lengths = Vec::with_capacity(count.min(cursor.left()));
                for _ in 0..count {
                    lengths.push(cursor.count()?);
                }
                let value = |length| Ok(self.keep(cursor.take(length)?, repair));
                lengths.into_iter().map(value).collect()
            }
            VALUES_DICTIONARY => {
                let words = cursor.count()?;
                let words: Vec<(u32, u32)> = (0..words)
                    .map(|_| Ok(self.keep(cursor.bytes()?, repair)))
                    .collect::<Result<_, Damage>>()?;
                let low = cursor.take(count)?;
                let high = match words.len() > 256 {
                    true => cursor.take(count)?,
                    false => &[],
                };
                (0..count)
                    .map(|at| {
                        let high = high.get(at).copied().unwrap_or(0);
                        let number = usize::from(high) << 8 | usize::from(low[at]);
                        words.get(number).copied().ok_or_else(|| {
                            Damage::new(format!("a word below {}", words.len()), number)
                        })
                    })
                    .collect()
            }
            VALUES_INTEGERS => {
                let mut before = 0u64;
                (0..count)
                    .map(|_| {
                        before = before.wrapping_add(cursor.signed()? as u64);
                        Ok(self.keep(before.to_string().as_bytes(), false))
                    })
                    .collect()
            }
            other => Err(Damage::new("a value encoding from 0 to 2", other)),
        }
    }

    fn keep(&mut self, value: &[u8], repair: bool) -> (u32, u32) {
        let start = self.text.len() as u32;
        match String::from_utf8_lossy(value) {
            std::borrow::Cow::Owned(repaired) if repair => {
                self.text.extend_from_slice(repaired.as_bytes());
            }
            _ => self.text.extend_from_slice(value),
        }
        (start, self.text.len() as u32)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs of a row, in order of key.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let start = row.checked_sub(1).map_or(0, |before| self.row_ends[before]);
        let pairs = &self.pairs[start as usize..self.row_ends[row] as usize];
        pairs.iter().map(|(key, start, end)| {
            let value = &self.text[*start as usize..*end as usize];
            (&*self.keys[*key as usize], value)
        })
    }

    /// The keys, ascending.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// Gives each pair that one of the rows has; a value that a dictionary holds once comes once,
    /// unless it is empty. For columns read with `repair`.
    pub(crate) fn each_pair(&self, rows: &[u32], mut take: impl FnMut(&str, &str)) {
        // Texts are told apart by where they start.
        let mut seen = vec![0u64; self.text.len() / 64 + 1];
        for row in rows {
            let row = *row as usize;
            let start = row.checked_sub(1).map_or(0, |before| self.row_ends[before]);
            for (key, start, end) in &self.pairs[start as usize..self.row_ends[row] as usize] {
                let (word, bit) = (*start as usize / 64, 1 << (start % 64));
                if start < end {
                    if seen[word] & bit != 0 {
                        continue;
                    }
                    seen[word] |= bit;
                }
                let value = &self.text[*start as usize..*end as usize];
                let value = std::str::from_utf8(value).unwrap_or("");
                take(&self.keys[*key as usize], value);
            }
        }
    }

    /// As [`row`](Self::row), values as text; for columns read with `repair`.
    pub(crate) fn row_text(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        self.row(row)
            .map(|(key, value)| (key, std::str::from_utf8(value).unwrap_or("")))
    }
}

fn read_rows(cursor: &mut Cursor<'_>, rows: usize) -> Result<Vec<u32>, Damage> {
    match cursor.byte()? {
        ROWS_ALL => Ok((0..rows as u32).collect()),
        ROWS_BITMAP => {
            let bits = cursor.take(rows.div_ceil(8))?;
            let is_set = |row: &u32| bits[*row as usize / 8] >> (row % 8) & 1 == 1;
            Ok((0..rows as u32).filter(is_set).collect())
        }
        ROWS_LIST => {
            let count = cursor.count()?;
            let mut next = 0u64;
            let mut list = Vec::with_capacity(count);
            for _ in 0..count {
                let row = next.saturating_add(cursor.varint()?);
                if row >= rows as u64 {
                    return Err(Damage::new(format!("a row below {rows}"), row));
                }
                list.push(row as u32);
                next = row + 1;
            }
            Ok(list)
        }
        other => Err(Damage::new("a row encoding from 0 to 2", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = Vec<(&'a str, &'a [u8])>;

    fn check(rows: &[Pairs<'_>]) {
        let mut builder = MetadataBuilder::default();
        for (row, pairs) in rows.iter().enumerate() {
            for (key, value) in pairs {
                builder.push(row as u32, key, value);
            }
        }
        let mut block = Vec::new();
        builder.seal(rows.len(), &mut block);
        let columns = MetadataColumns::read(&block, rows.len(), false).unwrap();
        for (row, pairs) in rows.iter().enumerate() {
            let found: Pairs<'_> = columns.row(row).collect();
            assert_eq!(&found, pairs);
        }
        for end in 0..block.len() {
            let _ = MetadataColumns::read(&block[..end], rows.len(), true);
        }
    }

    #[test]
    fn every_encoding_comes_back_exactly() {
        check(&[]);
        check(&[vec![], vec![("k", b"")]]);
        let ids: Vec<String> = (0..600).map(|n| format!("id-{n:04x}")).collect();
        let numbers: Vec<String> = (0..600u64).map(|n| (n * n * 7_919).to_string()).collect();
        let rows: Vec<Pairs<'_>> = (0..600)
            .map(|row| {
                let mut pairs: Pairs<'_> = vec![
                    ("a", if row % 2 == 0 { b"GET" } else { b"\xffPUT" }),
                    ("b", ids[row].as_bytes()),
                    ("c", numbers[row].as_bytes()),
                ];
                if row % 3 == 0 {
                    pairs.push(("d", ids[row / 2].as_bytes()));
                }
                if row % 100 == 7 {
                    pairs.push(("e", b"007"));
                }
                pairs
            })
            .collect();
        check(&rows);
    }

    #[test]
    fn integers_are_only_those_that_print_back_the_same() {
        assert_eq!(canonical(b"0"), Some(0));
        assert_eq!(canonical(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            &b""[..],
            b"00",
            b"+1",
            b"-1",
            b"18446744073709551616",
            b"1a",
        ] {
            assert_eq!(canonical(text), None);
        }
    }
}
