//! Columns of variables: one for each (template, slot) of a chunk.
//!
//! A column stores its values one by one, or, when they repeat, the distinct ones in order of
//! appearance and for each row which one it is. The text goes to one of three blocks by the bytes
//! that occur, so that a search opens only the block in which its needle can be.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::filter::FilterBuilder;
use crate::format::{COLUMN_DICTIONARY, COLUMN_FIXED, INDEX_GROUPS, TEXTS, WIDE, index_group};
use crate::template::Stamp;
use crate::wire::put_varint;

/// Most distinct values of a dictionary: numbers of two bytes.
const DISTINCT_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct VariableColumns {
    pub(crate) lengths: Vec<u8>,
    pub(crate) indices: [Vec<u8>; INDEX_GROUPS],
    pub(crate) texts: [Vec<u8>; TEXTS.len()],
    /// How much of the text is lines stored whole.
    pub(crate) whole_bytes: usize,
    distinct: Vec<(u32, u32)>,
    numbers: Vec<u16>,
    table: HashTable<(u64, u16)>,
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

    /// Adds the column of the lines stored whole.
    pub(crate) fn push_whole(&mut self, text: &[u8], places: &[(u32, u32)]) {
        self.lengths.push(0);
        for (start, end) in places {
            put_varint(&mut self.lengths, u64::from(end - start));
            self.texts[0].extend_from_slice(&text[*start as usize..*end as usize]);
        }
        self.whole_bytes += self.texts[0].len();
    }

    /// Adds a column: `places` are its values in `text`, one per row. Its values go to the filter.
    pub(crate) fn push(
        &mut self,
        text: &[u8],
        places: &[(u32, u32)],
        filter: &mut FilterBuilder,
    ) -> Stamp {
        let value = |place: &(u32, u32)| &text[place.0 as usize..place.1 as usize];
        let dictionary = self.find_distinct(text, places);
        let stored = match dictionary {
            true => self.distinct.as_slice(),
            false => places,
        };
        let mut stamp = Stamp::default();
        for value in stored.iter().map(value) {
            let of = Stamp::of(value);
            stamp.add(of);
            if of.has_digit() {
                filter.insert_token(value);
            }
        }
        let class = stamp.class();
        let length = |place: &(u32, u32)| place.1 - place.0;
        let first = stored.first().map_or(0, length);
        let fixed = stored.iter().all(|place| length(place) == first);
        let head = class as u8
            | if dictionary { COLUMN_DICTIONARY } else { 0 }
            | if fixed { COLUMN_FIXED } else { 0 };
        self.lengths.push(head);
        if dictionary {
            put_varint(&mut self.lengths, stored.len() as u64);
        }
        for place in &stored[..if fixed { 1 } else { stored.len() }] {
            put_varint(&mut self.lengths, u64::from(length(place)));
        }
        for value in stored.iter().map(value) {
            self.texts[class].extend_from_slice(value);
        }
        if dictionary && stored.len() > 1 {
            let group = index_group(stored.len());
            self.indices[group].extend(self.numbers.iter().map(|n| *n as u8));
            if group == WIDE {
                let high = self.numbers.iter().map(|n| (n >> 8) as u8);
                self.indices[WIDE + 1].extend(high);
            }
        }
        stamp
    }

    /// Finds the distinct values and the number of each value; false when they do not repeat
    /// enough for a dictionary.
    fn find_distinct(&mut self, text: &[u8], places: &[(u32, u32)]) -> bool {
        let limit = (places.len() / 2).min(DISTINCT_MAX);
        self.distinct.clear();
        self.numbers.clear();
        if limit == 0 {
            return false;
        }
        self.table.clear();
        let mut last: (&[u8], u16) = (&[], 0);
        for place in places {
            let value = &text[place.0 as usize..place.1 as usize];
            if value != last.0 || self.distinct.is_empty() {
                let hash = xxh3_64(value);
                let same = |entry: &(u64, u16)| {
                    let place = self.distinct[usize::from(entry.1)];
                    entry.0 == hash && text[place.0 as usize..place.1 as usize] == *value
                };
                let number = match self.table.find(hash, same) {
                    Some(entry) => entry.1,
                    None if self.distinct.len() == limit => return false,
                    None => {
                        let number = self.distinct.len() as u16;
                        self.distinct.push(*place);
                        self.table
                            .insert_unique(hash, (hash, number), |entry| entry.0);
                        number
                    }
                };
                last = (value, number);
            }
            self.numbers.push(last.1);
        }
        true
    }
}
