//! The distinct values of a column, and which one each row has.

use xxhash_rust::xxh3::xxh3_64;

/// Most distinct values of a dictionary: numbers of two bytes.
const DISTINCT_MAX: usize = 65_536;

/// Values up to this length are their own key, and stand nowhere else.
const SHORT_BYTES: usize = 8;

/// A variable of a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Value {
    /// The bytes of a short value, the hash of a long one.
    key: u64,
    /// Where a long value stands in the text.
    start: u32,
    length: u32,
}

impl Value {
    /// The value from `from` to `to` in `padded`, which goes on for at least 8 bytes behind it; a long
    /// one is added to `text`.
    #[inline]
    pub(crate) fn new(padded: &[u8], from: u32, to: u32, text: &mut Vec<u8>) -> Self {
        let (from, length) = (from as usize, (to - from) as usize);
        if length > SHORT_BYTES {
            let bytes = &padded[from..from + length];
            let start = text.len() as u32;
            text.extend_from_slice(bytes);
            return Value {
                key: xxh3_64(bytes),
                start,
                length: length as u32,
            };
        }
        let mut bytes = [0; SHORT_BYTES];
        bytes.copy_from_slice(&padded[from..from + SHORT_BYTES]);
        let mask = u64::MAX.checked_shr(64 - 8 * length as u32).unwrap_or(0);
        Value {
            key: u64::from_le_bytes(bytes) & mask,
            start: 0,
            length: length as u32,
        }
    }

    /// A line of which only the length is known here.
    pub(crate) fn of_length(length: usize) -> Self {
        Value {
            key: 0,
            start: 0,
            length: length as u32,
        }
    }

    /// The bytes of a long value.
    fn bytes(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..][..self.length as usize]
    }

    #[inline]
    pub(crate) fn length(self) -> u32 {
        self.length
    }

    /// Copies it, a short one as [`SHORT_BYTES`], for which there must be room.
    #[inline]
    pub(crate) fn copy(self, text: &[u8], out: &mut [u8]) {
        match self.length as usize {
            0..=SHORT_BYTES => out[..SHORT_BYTES].copy_from_slice(&self.key.to_le_bytes()),
            count => out[..count].copy_from_slice(self.bytes(text)),
        }
    }

    #[inline]
    fn equals(self, other: Value, text: &[u8]) -> bool {
        self.key == other.key
            && self.length == other.length
            && (self.length as usize <= SHORT_BYTES || self.bytes(text) == other.bytes(text))
    }

    /// The high half of a product mixed into the low one, as wyhash does.
    #[inline]
    fn hash(self) -> u64 {
        let key = self.key ^ 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(key) * u128::from(0xd6e8_feb8_6659_fd93 ^ u64::from(self.length));
        (product >> 64) as u64 ^ product as u64
    }
}

/// Finds the distinct values of one column after the other.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    /// The first of each distinct value.
    values: Vec<Value>,
    /// The number of each row's value.
    numbers: Vec<u16>,
    /// By hash, the next free one when taken (Knuth, 6.4, algorithm L): 0, or the number of the
    /// value + 1 in the low 17 bits and some of its hash above them.
    slots: Vec<u32>,
}

const NUMBER_BITS: u32 = 17;
const SLOTS_FIRST: usize = 64;
/// Of a column with so many rows a part is looked at first.
const SAMPLED_ROWS: usize = 2_048;

impl Distinct {
    /// In order of appearance.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// One per row.
    pub(crate) fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// Finds them; false when they do not repeat enough for a dictionary.
    pub(crate) fn find(&mut self, text: &[u8], column: &[Value]) -> bool {
        let limit = (column.len() / 2).min(DISTINCT_MAX);
        if limit == 0 {
            return false;
        }
        if column.len() >= SAMPLED_ROWS {
            // Among 512 of at most half as many values as there are rows, and of those side by side,
            // some are equal; else hardly any are.
            let runs = (column.len() / 64 / SAMPLED_ROWS).clamp(8, 16);
            let sample = column
                .chunks(column.len() / runs)
                .map(|run| &run[..64.min(run.len())]);
            if self.number(text, sample.flatten(), usize::MAX)
                && self.values.len() == self.numbers.len()
            {
                return false;
            }
        }
        self.number(text, column.iter(), limit)
    }

    /// Numbers the values; false when there are more than `limit`.
    fn number<'a>(
        &mut self,
        text: &[u8],
        column: impl Iterator<Item = &'a Value>,
        limit: usize,
    ) -> bool {
        self.values.clear();
        self.numbers.clear();
        let mut size = SLOTS_FIRST;
        self.empty(size);
        for value in column {
            let hash = value.hash();
            let number = match self.lookup(text, *value, hash, size) {
                Ok(number) => number,
                Err(_) if self.values.len() == limit => return false,
                Err(at) => {
                    let number = self.values.len() as u32;
                    self.slots[at] = entry(number, hash);
                    self.values.push(*value);
                    if self.values.len() * 2 > size {
                        size *= 4;
                        self.grow(size);
                    }
                    number
                }
            };
            self.numbers.push(number as u16);
        }
        true
    }

    /// The number of a value, or the free slot for it.
    #[inline]
    fn lookup(&self, text: &[u8], value: Value, hash: u64, size: usize) -> Result<u32, usize> {
        let slots = &self.slots[..size];
        let mut at = hash as usize & (size - 1);
        loop {
            let slot = slots[at];
            if slot == 0 {
                return Err(at);
            }
            let number = (slot & ((1 << NUMBER_BITS) - 1)) - 1;
            if entry(number, hash) == slot && value.equals(self.values[number as usize], text) {
                return Ok(number);
            }
            at = (at + 1) & (size - 1);
        }
    }

    fn empty(&mut self, size: usize) {
        if self.slots.len() < size {
            self.slots.resize(size, 0);
        }
        self.slots[..size].fill(0);
    }

    fn grow(&mut self, size: usize) {
        self.empty(size);
        for (number, value) in self.values.iter().enumerate() {
            let hash = value.hash();
            let mut at = hash as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = entry(number as u32, hash);
        }
    }
}

fn entry(number: u32, hash: u64) -> u32 {
    (hash >> 49 << NUMBER_BITS) as u32 | (number + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::writer::split::PaddedText;

    /// The values as a column, and its text.
    fn column<'a>(values: impl Iterator<Item = &'a [u8]>) -> (Vec<Value>, Vec<u8>) {
        let (mut column, mut text) = (Vec::new(), Vec::new());
        for value in values {
            let mut padded = PaddedText::default();
            padded.set(value);
            column.push(Value::new(padded.bytes(), 0, value.len() as u32, &mut text));
        }
        (column, text)
    }

    fn bytes(value: &Value, text: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 100];
        value.copy(text, &mut out);
        out.truncate(value.length() as usize);
        out
    }

    fn check(values: &[Vec<u8>]) -> Result<(), TestCaseError> {
        let (column, text) = column(values.iter().map(Vec::as_slice));
        let mut expected: Vec<&[u8]> = Vec::new();
        for value in values {
            if !expected.contains(&value.as_slice()) {
                expected.push(value);
            }
        }
        let mut distinct = Distinct::default();
        let found = distinct.find(&text, &column);
        let repeat = values.len() > 1 && expected.len() <= values.len() / 2;
        prop_assert_eq!(found, repeat);
        if found {
            let words = distinct.values().iter().map(|value| bytes(value, &text));
            let words: Vec<Vec<u8>> = words.collect();
            prop_assert_eq!(&words, &expected);
            for (value, number) in values.iter().zip(distinct.numbers()) {
                prop_assert_eq!(&words[usize::from(*number)], value);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_distinct_values_are_those_found_by_comparing_all(
            words in prop::collection::vec(prop::collection::vec(0u8..3, 0..40), 1..100),
            rows in prop::collection::vec(any::<prop::sample::Index>(), 0..500),
        ) {
            let values: Vec<Vec<u8>> = rows.iter().map(|row| row.get(&words).clone()).collect();
            check(&values)?;
        }
    }

    #[test]
    fn a_dictionary_is_full_at_65536_values() {
        for (count, fits) in [(65_536u32, true), (65_537, false)] {
            let rows: Vec<[u8; 4]> = (0..2 * count)
                .map(|row| (row % count).to_le_bytes())
                .collect();
            let (column, text) = column(rows.iter().map(|row| &row[..]));
            let mut distinct = Distinct::default();
            assert_eq!(distinct.find(&text, &column), fits);
            if fits {
                assert_eq!(distinct.values().len(), 65_536);
                assert!(
                    (0..2 * count)
                        .all(|row| { u32::from(distinct.numbers()[row as usize]) == row % count })
                );
            }
        }
    }
}
