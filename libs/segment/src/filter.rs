//! Token filters: for each chunk the set of hashes of what can be asked for, coded short, and the
//! place of all of them in the object.
//!
//! A set keeps of each hash only which of so many equal parts of the space of hashes it falls into:
//! the gaps between those, ascending, as Rice codes. That takes 1.5 bits more than the logarithm of
//! the share of wrong answers, where a Bloom filter takes 1.44 times that logarithm. (Golomb-coded
//! sets: Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007.) All chunks cut
//! the space of hashes into the same rows; a row stands in one piece, so that one read answers for
//! one hash and all chunks.

mod grams;
mod rice;
mod rows;

pub(crate) use grams::{decimal_grams, gram_hashes, token_hashes};
pub(crate) use rows::{Filters, write_filters};

use crate::format::{FILTER_ROWS_MAX, FILTER_UNITS_MAX};
use rice::BitWriter;

/// The hash of a token in the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenHash(pub(crate) u32);

/// How the filter of a chunk is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterSpec {
    /// Hashes that it holds.
    pub(crate) hashes: u32,
    /// Into how many parts it cuts the space of hashes, in units of [`FILTER_ROWS_MAX`] so that
    /// each row has equally many; 0: there is no filter.
    pub(crate) units: u32,
}

impl FilterSpec {
    /// Whether the chunk has no filter and may hold any token.
    pub(crate) fn is_none(&self) -> bool {
        self.units == 0
    }

    /// The parts of the space of hashes.
    fn values(&self) -> u64 {
        u64::from(self.units) * FILTER_ROWS_MAX as u64
    }

    /// The part that a hash falls into.
    #[inline]
    fn value(&self, hash: TokenHash) -> u32 {
        ((u64::from(hash.0) * self.values()) >> 32) as u32
    }

    /// Low bits of a gap: the rest is one half on average, more or less.
    #[inline]
    fn low(&self) -> u32 {
        let mean = self.values() / u64::from(self.hashes.max(1));
        (mean * 11 / 16).max(1).ilog2()
    }

    /// About how many bits the gaps take.
    fn bits(&self) -> u64 {
        let (hashes, low) = (u64::from(self.hashes), self.low());
        let ones = hashes * u64::from(low + 1);
        let zeros = (self.values().saturating_sub(hashes)) >> low;
        match low {
            0 => ones + zeros,
            _ => (ones + zeros).saturating_sub(hashes / 2),
        }
    }

    /// How likely it is that a chunk is thought to hold a hash that it does not hold.
    pub(crate) fn wrong(&self) -> f64 {
        match self.values() {
            0 => 1.0,
            values => (f64::from(self.hashes) / values as f64).min(1.0),
        }
    }

    /// The filter of so many hashes of a chunk that has `stored_bytes` and may have `bytes_max` of
    /// filter. A question that the chunk does not answer reads it in vain with the likelihood
    /// hashes / values: with values in proportion to the bytes, each hash costs the reader as much in
    /// all chunks.
    fn choose(hashes: u32, stored_bytes: usize, bytes_max: usize) -> Self {
        let units = stored_bytes * VALUES_PER_BYTE / FILTER_ROWS_MAX;
        let mut spec = FilterSpec {
            hashes,
            units: units.clamp(1, FILTER_UNITS_MAX as usize) as u32,
        };
        while spec.bits() > bytes_max as u64 * 8 {
            spec.units -= spec.units.div_ceil(8);
            // As many values as hashes: of three questions two are answered wrong.
            if spec.values() < u64::from(hashes) {
                return FilterSpec::default();
            }
        }
        spec
    }
}

/// Parts of the space of hashes for each stored byte of a chunk.
const VALUES_PER_BYTE: usize = 10;

/// The filter of one chunk.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    spec: FilterSpec,
    /// The gaps of all values, not yet cut into rows.
    codes: Vec<u8>,
}

impl Filter {
    fn none() -> Self {
        Filter {
            spec: FilterSpec::default(),
            codes: Vec::new(),
        }
    }

    /// Of hashes that ascend, each once.
    fn build(hashes: &[u32], mut spec: FilterSpec) -> Self {
        let mut values: Vec<u32> = hashes
            .iter()
            .map(|hash| spec.value(TokenHash(*hash)))
            .collect();
        values.dedup();
        spec.hashes = values.len() as u32;
        let mut bits = BitWriter::default();
        let mut next = 0u32;
        for value in &values {
            bits.rice(value - next, spec.low());
            next = value.wrapping_add(1);
        }
        let mut codes = bits.take();
        codes.shrink_to_fit();
        Filter { spec, codes }
    }
}

/// Tokens seen of late, so that those of like lines are not taken again and again.
const RECENT: usize = 2_048;
/// For so many bytes of text one hash is taken at most; with more, a filter would tell little.
const BYTES_PER_HASH: usize = 8;
/// Behind a chunk with too many tokens, so many go without a filter and are not looked at.
const SKIP_CHUNKS: usize = 3;

/// Collects the tokens of one chunk.
#[derive(Debug)]
pub(crate) struct FilterBuilder {
    hashes: Vec<u32>,
    spare: Vec<u32>,
    recent: Box<[u32]>,
    chunk_bytes: usize,
    /// So many chunks get no filter, because the one before had too many tokens.
    skip: usize,
}

impl FilterBuilder {
    /// Of chunks that have about so many bytes of text.
    pub(crate) fn new(chunk_bytes: usize) -> Self {
        FilterBuilder {
            hashes: Vec::new(),
            spare: Vec::new(),
            recent: unseen(),
            chunk_bytes,
            skip: 0,
        }
    }

    /// Adds the hashes of a token.
    #[inline]
    pub(crate) fn insert_token(&mut self, token: &[u8]) {
        if self.skip == 0 && !self.overflows() {
            token_hashes(token, |hash| self.insert(hash));
        }
    }

    fn overflows(&self) -> bool {
        self.hashes.len() > (self.chunk_bytes / BYTES_PER_HASH).max(256)
    }

    #[inline]
    fn insert(&mut self, token: TokenHash) {
        let recent = &mut self.recent[token.0 as usize % RECENT];
        if *recent != token.0 {
            *recent = token.0;
            self.hashes.push(token.0);
        }
    }

    /// The filter; none when what it may take would leave too little for it to tell anything, and
    /// for some chunks behind one with by far too many tokens. It may take a sixteenth of the chunk's
    /// stored bytes; where ids are many and text is long, up to a quarter of them, but no more than
    /// about 3 % of the text. Empties the builder.
    pub(crate) fn seal(&mut self, stored_bytes: usize) -> Filter {
        let overflows = self.overflows();
        let none = overflows || self.skip > 0;
        self.skip = match overflows {
            true => SKIP_CHUNKS,
            false => self.skip.saturating_sub(1),
        };
        let bytes_max = (stored_bytes / 16).max((stored_bytes / 4).min(self.chunk_bytes / 32));
        let filter = match none {
            true => Filter::none(),
            false => {
                sort(&mut self.hashes, &mut self.spare);
                self.hashes.dedup();
                let count = self.hashes.len() as u32;
                match FilterSpec::choose(count, stored_bytes, bytes_max) {
                    spec if spec.is_none() => Filter::none(),
                    spec => Filter::build(&self.hashes, spec),
                }
            }
        };
        self.hashes.clear();
        self.recent = unseen();
        filter
    }
}

/// A table in which no place holds a hash that belongs there.
fn unseen() -> Box<[u32]> {
    (1..=RECENT as u32).collect()
}

/// Sorts by 11 bits at a time, lowest first; few numbers as usual.
fn sort(numbers: &mut Vec<u32>, spare: &mut Vec<u32>) {
    if numbers.len() < 2_048 {
        numbers.sort_unstable();
        return;
    }
    spare.resize(numbers.len(), 0);
    for shift in [0, 11, 22] {
        let digit = |number: &u32| (number >> shift) as usize & 0x7ff;
        let mut places = [0u32; 0x800];
        numbers.iter().for_each(|number| places[digit(number)] += 1);
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for number in numbers.iter() {
            let place = &mut places[digit(number)];
            spare[*place as usize] = *number;
            *place += 1;
        }
        std::mem::swap(numbers, spare);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Compression;
    use crate::writer::blocks::BlockWriter;

    /// The filters as they stand in an object, and their directory.
    fn write(filters: &[Filter]) -> (Vec<u8>, Filters) {
        let mut object = Vec::new();
        let mut out = BlockWriter::new(&mut object, Compression::Fast).unwrap();
        let written = write_filters(filters, &mut out).unwrap();
        (object, written)
    }

    /// The chunks that may hold the hash.
    fn holders(object: &[u8], filters: &Filters, hash: TokenHash) -> Vec<u32> {
        let range = filters.range(filters.row(hash));
        let body = &object[range.start as usize..range.end as usize - 8];
        let mut absent = Vec::new();
        filters
            .scan(body, hash, |chunk| absent.push(chunk))
            .unwrap();
        let chunks = 0..filters.specs.len() as u32;
        chunks.filter(|chunk| !absent.contains(chunk)).collect()
    }

    fn spread(n: u32) -> TokenHash {
        TokenHash(n.wrapping_mul(0x9e37_79b1) ^ 0x5bd1_e995)
    }

    #[test]
    fn every_token_is_found_and_most_others_are_not() {
        for (count, stored, most) in [
            (0u32, 1 << 20, 0),
            (1, 1 << 20, 1),
            (50, 1 << 20, 1),
            (5_000, 1 << 18, 10),
            (40_000, 1 << 20, 10),
            (40_000, 1 << 18, 40),
            (200_000, 1 << 20, 200),
            (1_000_000, 1 << 20, 1_000),
        ] {
            let mut builder = FilterBuilder::new(3 << 20);
            (0..count).for_each(|n| builder.insert(spread(n)));
            let filter = builder.seal(stored);
            assert!(filter.codes.len() <= stored / 4, "{}", filter.codes.len());
            let (object, written) = write(&[filter]);
            assert!(written.stored_bytes() <= stored as u64 / 4 + 10_000);
            let holds = |n: &u32| !holders(&object, &written, spread(*n)).is_empty();
            assert!(
                (0..count)
                    .step_by(count as usize / 500 + 1)
                    .all(|n| holds(&n))
            );
            let foreign = (count..count + 1_000).filter(holds).count();
            assert!(foreign <= most, "{count} in {stored}: {foreign} of 1000");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_says_which_chunks_hold_the_part_that_a_hash_falls_into(
            chunks in prop::collection::vec(
                (prop::collection::vec(any::<u32>(), 0..300), 1usize..100_000, 0u32..20), 1..8),
            asked in prop::collection::vec(any::<u32>(), 20),
        ) {
            let mut filters = Vec::new();
            let mut sets: Vec<Vec<u32>> = Vec::new();
            for (mut hashes, stored, many) in chunks {
                hashes.extend((0..many * 1_000).map(|n| spread(n * many).0));
                hashes.extend([0, u32::MAX]);
                let mut builder = FilterBuilder::new(1 << 20);
                hashes.iter().for_each(|hash| builder.insert(TokenHash(*hash)));
                filters.push(builder.seal(stored));
                sets.push(hashes);
            }
            let (object, written) = write(&filters);
            prop_assert_eq!(written.stored_bytes(), object.len() as u64);
            let some = sets.iter().flat_map(|set| set.iter().step_by(97).copied());
            let asked: Vec<u32> = asked.into_iter().chain(some).chain([0, u32::MAX]).collect();
            for hash in asked.into_iter().map(TokenHash) {
                let chunks = sets.iter().zip(&written.specs).enumerate();
                let holds = chunks.filter(|(_, (set, spec))| {
                    let part = |hash: &u32| spec.value(TokenHash(*hash));
                    spec.is_none() || set.iter().any(|other| part(other) == spec.value(hash))
                });
                let holds: Vec<u32> = holds.map(|(chunk, _)| chunk as u32).collect();
                prop_assert_eq!(holders(&object, &written, hash), holds);
            }
        }

        #[test]
        fn sorting_sorts(mut numbers in prop::collection::vec(any::<u32>(), 0..5_000)) {
            let mut expected = numbers.clone();
            expected.sort_unstable();
            sort(&mut numbers, &mut Vec::new());
            prop_assert_eq!(numbers, expected);
        }
    }
}
