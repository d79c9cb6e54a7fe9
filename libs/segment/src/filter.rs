//! Token filters: split-block Bloom filters over the variables of a chunk, and their transposed
//! place in the object.
//!
//! A filter has a power of two of 32-byte blocks; a token sets one bit in each of the eight words
//! of one block. Chunks with equally many blocks form a group; a group stores block 0 of all its
//! chunks, then block 1 of all, and so on, so that one token reads one strip of a group.
//! (Split-block filter: Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom
//! filters", 2007.)

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::format::{CHECKSUM_BYTES, FILTER_BLOCK_BYTES};

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
        (self.0 >> 32) as usize & (blocks - 1)
    }

    fn bit(self, word: usize) -> u32 {
        1 << ((self.0 as u32).wrapping_mul(SALTS[word]) >> 27)
    }

    /// Whether the block (of [`FILTER_BLOCK_BYTES`]) may hold the token.
    pub(crate) fn may_be_in(self, block: &[u8]) -> bool {
        block.chunks_exact(4).enumerate().all(|(word, bytes)| {
            let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bits & self.bit(word) != 0
        })
    }
}

/// Collects the tokens of one chunk.
#[derive(Debug)]
pub(crate) struct FilterBuilder {
    words: Vec<[u32; 8]>,
}

impl FilterBuilder {
    /// A filter that takes at most about 3 % of a chunk of so many bytes.
    pub(crate) fn new(chunk_bytes: usize) -> Self {
        let blocks = (chunk_bytes / 32 / FILTER_BLOCK_BYTES).clamp(1, 1 << 16);
        FilterBuilder {
            words: vec![[0; 8]; 1 << blocks.ilog2()],
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, token: TokenHash) {
        let block = token.block(self.words.len());
        let words = &mut self.words[block];
        for (at, word) in words.iter_mut().enumerate() {
            *word |= token.bit(at);
        }
    }

    /// The filter, folded as small as it gets with at most half of its bits set (about one false
    /// answer in 200); empties the builder.
    pub(crate) fn seal(&mut self) -> Vec<[u32; 8]> {
        let mut words = self.words.clone();
        self.words.fill([0; 8]);
        while words.len() > 1 {
            let half = words.len() / 2;
            let folded: Vec<[u32; 8]> = (0..half)
                .map(|at| std::array::from_fn(|word| words[at][word] | words[at + half][word]))
                .collect();
            let set: u32 = folded.iter().flatten().map(|word| word.count_ones()).sum();
            if set as usize * 2 > half * 256 {
                break;
            }
            words = folded;
        }
        words
    }
}

/// Where the filters of equally large chunks stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterGroup {
    /// Offset in the object.
    pub(crate) offset: u64,
    /// Blocks per filter, a power of two.
    pub(crate) blocks: usize,
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

    #[test]
    fn every_token_is_found_after_folding() {
        for count in [0u32, 1, 50, 5_000, 100_000] {
            let mut builder = FilterBuilder::new(1 << 20);
            let tokens: Vec<TokenHash> = (0..count)
                .map(|n| TokenHash::of(&n.to_le_bytes()))
                .collect();
            tokens.iter().for_each(|token| builder.insert(*token));
            let words = builder.seal();
            for token in &tokens {
                assert!(token.may_be_in(&bytes(&words, token.block(words.len()))));
            }
            let foreign = (count..count + 1_000)
                .map(|n| TokenHash::of(&n.to_le_bytes()))
                .filter(|token| token.may_be_in(&bytes(&words, token.block(words.len()))))
                .count();
            assert!(foreign < 30 || count == 100_000, "{foreign} of 1000");
        }
    }
}
