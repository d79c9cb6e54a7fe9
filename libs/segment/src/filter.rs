//! Token filters: split-block Bloom filters over the variables of a chunk, and their transposed
//! place in the object.
//!
//! A filter is a number of 32-byte blocks; a token sets one bit in each of some of the eight words
//! of one block. Chunks with equally many blocks and bits form a group; a group stores block 0 of all its
//! chunks, then block 1 of all, and so on, so that one token reads one strip of a group.
//! (Split-block filter: Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom
//! filters", 2007.)

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::format::{CHECKSUM_BYTES, FILTER_BLOCK_BYTES, FILTER_TOKEN_MIN};

const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The hash of a token in the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenHash(u64);

impl TokenHash {
    #[inline]
    pub(crate) fn of(token: &[u8]) -> Self {
        TokenHash(xxh3_64(token))
    }

    fn block(self, blocks: usize) -> usize {
        (((self.0 >> 32) * blocks as u64) >> 32) as usize
    }

    fn bit(self, word: usize) -> u32 {
        1 << ((self.0 as u32).wrapping_mul(SALTS[word]) >> 27)
    }

    /// The words in which it sets a bit: so many, side by side, the last next to the first.
    fn words(self, bits: usize) -> impl Iterator<Item = usize> {
        let first = self.0 as usize & 7;
        (first..first + bits).map(|word| word & 7)
    }

    /// Whether the block (of [`FILTER_BLOCK_BYTES`]) may hold the token, if tokens set so many bits.
    pub(crate) fn may_be_in(self, block: &[u8], bits: usize) -> bool {
        let words = block.as_chunks::<4>().0;
        self.words(bits)
            .all(|word| u32::from_le_bytes(words[word]) & self.bit(word) != 0)
    }
}

/// Bytes of a gram, and how many grams side by side are looked at for the one that is kept.
const GRAM_BYTES: usize = 8;
const WINDOW_GRAMS: usize = 8;
/// Shortest run that is stored by its grams: one window.
const RUN_BYTES_MIN: usize = GRAM_BYTES + WINDOW_GRAMS - 1;

/// Gives the hashes under which a token stands in the filters.
///
/// A run of at least 15 letters and digits, with a digit among them, stands there by some of its
/// 8-byte grams: of each 8 grams side by side the one with the least hash. A part of the run that
/// is at least 15 bytes long has whole windows of its own, and so some of the same grams: that is
/// why a part of an id can be asked for. A token without such a run stands there whole. (Local
/// minimizers: Schleimer, Wilkerson, Aiken, "Winnowing", SIGMOD'03.)
#[inline]
pub(crate) fn token_hashes(token: &[u8], mut take: impl FnMut(TokenHash)) {
    if token.len() < FILTER_TOKEN_MIN {
        return;
    }
    let by_grams = token.len() >= RUN_BYTES_MIN && gram_hashes(token, &mut take);
    if !by_grams {
        take(TokenHash::of(token));
    }
}

/// Gives the grams of all long runs in `text`; false when there is no such run.
pub(crate) fn gram_hashes(text: &[u8], take: &mut impl FnMut(TokenHash)) -> bool {
    let is_run = text
        .iter()
        .fold(true, |is, byte| is & byte.is_ascii_alphanumeric());
    if is_run {
        return gram_hashes_of_run(text, take);
    }
    let mut any = false;
    for run in text.split(|byte| !byte.is_ascii_alphanumeric()) {
        any |= gram_hashes_of_run(run, take);
    }
    any
}

fn gram_hashes_of_run(run: &[u8], take: &mut impl FnMut(TokenHash)) -> bool {
    let is_long = run.len() >= RUN_BYTES_MIN && run.iter().any(u8::is_ascii_digit);
    if is_long {
        run_hashes(run, take);
    }
    is_long
}

/// Gives the least gram of each window, one that windows side by side share once. The least of a
/// window is the least of the end of one block of grams and the beginning of the next (van Herk,
/// Pattern Recognition Letters 13, 1992), so that the core has nothing to guess.
fn run_hashes(run: &[u8], take: &mut impl FnMut(TokenHash)) {
    // Mixed again: of eight hashes the least is a small number.
    let mut take = |least: u64| {
        let mixed = least.wrapping_mul(0x9fb2_1c65_1e98_df25);
        take(TokenHash(mixed ^ mixed >> 29));
    };
    let mut ends = ends(&gram_block(run).0);
    // Hashes of grams are as different as the grams: each step of the mixing can be undone.
    let mut last = ends[0];
    take(last);
    let mut at = WINDOW_GRAMS;
    while at + GRAM_BYTES <= run.len() {
        let (block, count) = gram_block(&run[at..]);
        let (mut found, mut new) = ([0; WINDOW_GRAMS], 0);
        let mut least = u64::MAX;
        for (gram, end) in block[..count].iter().zip(&ends[1..]) {
            least = least.min(*gram);
            let window = least.min(*end);
            found[new % WINDOW_GRAMS] = window;
            new += usize::from(window != last);
            last = window;
        }
        found[..new].iter().for_each(|least| take(*least));
        ends = self::ends(&block);
        at += WINDOW_GRAMS;
    }
}

/// The hashes of up to a window of grams at the beginning of `bytes`, and how many there are.
#[inline]
fn gram_block(bytes: &[u8]) -> ([u64; WINDOW_GRAMS], usize) {
    let hash = |gram: &[u8]| {
        let mut array = [0; GRAM_BYTES];
        array.copy_from_slice(gram);
        let value = u64::from_le_bytes(array).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    let mut block = [u64::MAX; WINDOW_GRAMS];
    if let Some(whole) = bytes.first_chunk::<RUN_BYTES_MIN>() {
        for (at, place) in block.iter_mut().enumerate() {
            *place = hash(&whole[at..at + GRAM_BYTES]);
        }
        return (block, WINDOW_GRAMS);
    }
    let grams = bytes.windows(GRAM_BYTES);
    let count = grams.len();
    for (place, gram) in block.iter_mut().zip(grams) {
        *place = hash(gram);
    }
    (block, count)
}

/// The least from each gram of a block on; at last of none.
#[inline]
fn ends(block: &[u64; WINDOW_GRAMS]) -> [u64; WINDOW_GRAMS + 1] {
    let mut ends = [u64::MAX; WINDOW_GRAMS + 1];
    for at in (0..WINDOW_GRAMS).rev() {
        ends[at] = ends[at + 1].min(block[at]);
    }
    ends
}

/// The filter of one chunk.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Bits that a token sets: 1 to 8.
    pub(crate) bits: usize,
    /// At least one block.
    pub(crate) blocks: Vec<[u32; 8]>,
}

impl Filter {
    /// What groups go by.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.blocks.len(), self.bits)
    }

    /// Room of `blocks` for so many tokens, with as many bits each as serve best: 0.7 times the bits
    /// there are for each; a power of two, so that chunks of like size have filters of equal size.
    fn build(hashes: &[TokenHash], blocks: usize) -> Self {
        let best = blocks * 256 * 7 / 10 / hashes.len().max(1);
        let bits = 1 << (best + best / 2).clamp(1, 8).ilog2();
        let mut filter = Filter {
            bits,
            blocks: vec![[0; 8]; blocks],
        };
        for hash in hashes {
            let block = &mut filter.blocks[hash.block(blocks)];
            for word in hash.words(bits) {
                block[word] |= hash.bit(word);
            }
        }
        filter
    }
}

/// Tokens seen of late, so that those of like lines are not taken again and again.
const RECENT: usize = 2_048;

/// Collects the tokens of one chunk.
#[derive(Debug)]
pub(crate) struct FilterBuilder {
    hashes: Vec<TokenHash>,
    recent: Box<[u64]>,
    /// Most blocks of the filter.
    blocks_max: usize,
    /// So many chunks get no filter, because the one before had too many tokens.
    skip: usize,
}

/// Fifths of the bits there may be for which tokens are taken; with more than that a filter would tell
/// little.
const ROOM_FIFTHS: usize = 4;
/// Behind a chunk with too many tokens, so many go without a filter and are not looked at.
const SKIP_CHUNKS: usize = 3;

impl FilterBuilder {
    /// A filter that takes at most about 2 % of a chunk of so many bytes.
    pub(crate) fn new(chunk_bytes: usize) -> Self {
        let blocks = (chunk_bytes / 48 / FILTER_BLOCK_BYTES).clamp(1, 1 << 16);
        FilterBuilder {
            hashes: Vec::new(),
            recent: vec![0; RECENT].into(),
            blocks_max: 1 << blocks.ilog2(),
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
        self.hashes.len() > self.blocks_max * 256 / 5 * ROOM_FIFTHS
    }

    #[inline]
    fn insert(&mut self, token: TokenHash) {
        let recent = &mut self.recent[token.0 as usize % RECENT];
        if *recent != token.0 {
            *recent = token.0;
            self.hashes.push(token);
        }
    }

    /// The filter: nine bits or more for each token (one false answer in 60 or fewer), but in all no
    /// more than about 2 % of the chunk's text and a twelfth of its `stored_bytes`; one block that
    /// says yes to all when that would leave too little for a filter to tell anything, and for some
    /// chunks behind one with by far too many tokens. Empties the builder.
    pub(crate) fn seal(&mut self, stored_bytes: usize) -> Filter {
        let wanted = (self.hashes.len() * 9).div_ceil(256).next_power_of_two();
        let limit = (stored_bytes / 12 / FILTER_BLOCK_BYTES).max(1);
        let limit = (1 << limit.ilog2()).min(self.blocks_max);
        let overflows = self.overflows();
        let none = overflows || self.skip > 0 || self.hashes.len() > limit * 256;
        self.skip = match overflows {
            true => SKIP_CHUNKS,
            false => self.skip.saturating_sub(1),
        };
        let filter = match none {
            true => Filter {
                bits: 1,
                blocks: vec![[u32::MAX; 8]],
            },
            false => Filter::build(&self.hashes, wanted.min(limit)),
        };
        self.hashes.clear();
        self.recent.fill(0);
        filter
    }
}

/// Where the filters of equally large chunks stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterGroup {
    /// Offset in the object.
    pub(crate) offset: u64,
    /// Blocks per filter, at least 1.
    pub(crate) blocks: usize,
    /// Bits that a token sets: 1 to 8.
    pub(crate) bits: usize,
    /// The chunks, ascending.
    pub(crate) chunks: Vec<u32>,
}

impl FilterGroup {
    pub(crate) fn strip_bytes(&self) -> usize {
        self.chunks.len() * FILTER_BLOCK_BYTES + CHECKSUM_BYTES
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        (self.strip_bytes() * self.blocks) as u64
    }

    /// Where the strip of this token stands.
    pub(crate) fn strip(&self, token: TokenHash) -> Range<u64> {
        let bytes = self.strip_bytes() as u64;
        let start = self.offset + token.block(self.blocks) as u64 * bytes;
        start..start + bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[[u32; 8]], block: usize) -> Vec<u8> {
        words[block].iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn hashes(token: &[u8]) -> Vec<u64> {
        let mut hashes = Vec::new();
        token_hashes(token, |hash| hashes.push(hash.0));
        hashes
    }

    #[test]
    fn a_part_of_a_long_run_has_only_hashes_of_the_whole() {
        let id = b"4f8a0c93d17be2650f3344aa91c7d05be8";
        let whole = hashes(id);
        assert!(whole.len() < 14, "{}", whole.len());
        for start in 0..=id.len() - RUN_BYTES_MIN {
            for end in start + RUN_BYTES_MIN..=id.len() {
                let part = hashes(&id[start..end]);
                assert!(!part.is_empty());
                assert!(part.iter().all(|hash| whole.contains(hash)));
            }
        }
        assert_eq!(hashes(&[b'7'; 40]).len(), 1);
        assert_eq!(hashes(b"123456").len(), 0);
        assert_eq!(hashes(b"1234567").len(), 1);
    }

    /// Looks at all grams of each window.
    fn naive_run_hashes(run: &[u8]) -> Vec<u64> {
        let grams: Vec<u64> = run
            .windows(GRAM_BYTES)
            .map(|g| gram_block(g).0[0])
            .collect();
        let mut least: Vec<u64> = grams
            .windows(WINDOW_GRAMS)
            .filter_map(|window| window.iter().min().copied())
            .collect();
        least.dedup();
        let mixed = least.iter().map(|l| l.wrapping_mul(0x9fb2_1c65_1e98_df25));
        mixed.map(|mixed| mixed ^ mixed >> 29).collect()
    }

    proptest::proptest! {
        #[test]
        fn the_grams_of_a_run_are_the_least_of_its_windows(
            run in proptest::collection::vec(proptest::sample::select(&b"01ab"[..]), 15..90),
        ) {
            let mut found = Vec::new();
            run_hashes(&run, &mut |hash| found.push(hash.0));
            proptest::prop_assert_eq!(found, naive_run_hashes(&run));
        }
    }

    #[test]
    fn every_token_is_found_and_most_others_are_not() {
        for (count, stored, most) in [
            (0u32, 1 << 20, 0),
            (1, 1 << 20, 30),
            (50, 1 << 20, 30),
            (5_000, 1 << 20, 30),
            (40_000, 1 << 20, 150),
            (40_000, 1 << 17, 700),
            (1_000_000, 1 << 20, 1_000),
        ] {
            let mut builder = FilterBuilder::new(3 << 20);
            let tokens: Vec<TokenHash> = (0..count)
                .map(|n| TokenHash::of(&n.to_le_bytes()))
                .collect();
            tokens.iter().for_each(|token| builder.insert(*token));
            let filter = builder.seal(stored);
            assert!(filter.blocks.len() * FILTER_BLOCK_BYTES <= (stored / 12).max(32));
            let holds = |token: &TokenHash| {
                let block = token.block(filter.blocks.len());
                token.may_be_in(&bytes(&filter.blocks, block), filter.bits)
            };
            assert!(tokens.iter().all(holds));
            let foreign = (count..count + 1_000)
                .map(|n| TokenHash::of(&n.to_le_bytes()))
                .filter(holds)
                .count();
            assert!(foreign <= most, "{count} in {stored}: {foreign} of 1000");
        }
    }
}
