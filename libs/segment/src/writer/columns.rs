//! Columns of variables: one for each (template, slot) of a chunk.
//!
//! A column stores its values one by one, or, when they repeat, the distinct ones in order of
//! appearance and for each row which one it is. The text goes to one of three blocks by the bytes
//! that occur, so that a search opens only the block in which its needle can be.

use crate::filter::FilterBuilder;
use crate::format::{
    COLUMN_DICTIONARY, COLUMN_FIXED, FILTER_TOKEN_MIN, INDEX_GROUPS, TEXTS, WIDE, index_group,
};
use crate::template::{Stamp, has_digit};
use crate::wire::put_varint;
use crate::writer::distinct::{Distinct, Value};
use crate::writer::split::PAD;

#[derive(Debug, Default)]
pub(crate) struct VariableColumns {
    pub(crate) lengths: Vec<u8>,
    pub(crate) indices: [Vec<u8>; INDEX_GROUPS],
    pub(crate) texts: [Vec<u8>; TEXTS.len()],
    /// How much of the text is lines stored whole.
    pub(crate) whole_bytes: usize,
    distinct: Distinct,
}

impl VariableColumns {
    pub(crate) fn clear(&mut self) {
        self.lengths.clear();
        self.whole_bytes = 0;
        self.indices.iter_mut().for_each(Vec::clear);
        self.texts.iter_mut().for_each(Vec::clear);
    }

    /// Puts the groups of indices one behind the other, the length of each but the last in front.
    pub(crate) fn put_indices(&self, out: &mut Vec<u8>) {
        let groups = &self.indices;
        if groups.iter().all(Vec::is_empty) {
            return;
        }
        for group in &groups[..INDEX_GROUPS - 1] {
            put_varint(out, group.len() as u64);
        }
        groups.iter().for_each(|group| out.extend_from_slice(group));
    }

    /// Keeps a line that is stored whole: all of them stand in front of the other texts.
    #[inline]
    pub(crate) fn keep_whole(&mut self, line: &[u8]) -> Value {
        self.texts[0].extend_from_slice(line);
        self.whole_bytes += line.len();
        Value::of_length(line.len())
    }

    /// Adds the column of the lines kept whole, before all others.
    pub(crate) fn push_whole(&mut self, lines: &[Value]) {
        self.lengths.push(0);
        for line in lines {
            put_varint(&mut self.lengths, u64::from(line.length()));
        }
    }

    /// Adds a column: its values in `text`, one per row. They go to the filter.
    pub(crate) fn push(
        &mut self,
        text: &[u8],
        column: &[Value],
        filter: &mut FilterBuilder,
    ) -> Stamp {
        let dictionary = self.distinct.find(text, column);
        let stored = match dictionary {
            true => self.distinct.values(),
            false => column,
        };
        let (mut total, mut shortest, mut longest) = (0, u32::MAX, 0);
        for length in stored.iter().map(|value| value.length()) {
            total += length as usize;
            shortest = shortest.min(length);
            longest = longest.max(length);
        }
        let out = &mut self.texts[0];
        let start = out.len();
        append(text, stored, total, out);
        let lengths = stored.iter().map(|value| value.length());
        let stamp = Stamp::of_column(&out[start..], lengths, longest);
        let class = stamp.class();
        if class > 0 {
            let (words, others) = self.texts.split_at_mut(1);
            others[class - 1].extend_from_slice(&words[0][start..]);
            words[0].truncate(start);
        }
        if stamp.has_digit() && longest as usize >= FILTER_TOKEN_MIN {
            let mut rest = &self.texts[class][self.texts[class].len() - total..];
            for value in stored {
                let (value, others) = rest.split_at(value.length() as usize);
                rest = others;
                if value.len() >= FILTER_TOKEN_MIN && has_digit(value) {
                    filter.insert_token(value);
                }
            }
        }
        let fixed = shortest >= longest;
        let head = class as u8
            | if dictionary { COLUMN_DICTIONARY } else { 0 }
            | if fixed { COLUMN_FIXED } else { 0 };
        self.lengths.push(head);
        if dictionary {
            put_varint(&mut self.lengths, stored.len() as u64);
        }
        if fixed {
            put_varint(&mut self.lengths, u64::from(longest));
        } else if longest < 0x80 {
            let lengths = stored.iter().map(|value| value.length() as u8);
            self.lengths.extend(lengths);
        } else {
            for value in stored {
                put_varint(&mut self.lengths, u64::from(value.length()));
            }
        }
        if dictionary && stored.len() > 1 {
            let group = index_group(stored.len());
            let numbers = self.distinct.numbers();
            self.indices[group].extend(numbers.iter().map(|n| *n as u8));
            if group == WIDE {
                self.indices[WIDE + 1].extend(numbers.iter().map(|n| (n >> 8) as u8));
            }
        }
        stamp
    }
}

/// Adds the values, `total` bytes, one behind the other.
fn append(text: &[u8], values: &[Value], total: usize, out: &mut Vec<u8>) {
    let mut at = out.len();
    let end = at + total;
    out.resize(end + PAD, 0);
    for value in values {
        value.copy(text, &mut out[at..]);
        at += value.length() as usize;
    }
    out.truncate(end);
}
