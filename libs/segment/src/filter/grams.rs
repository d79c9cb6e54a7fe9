//! What of a token stands in the filters: the token, or some grams of its long runs.

use xxhash_rust::xxh3::xxh3_64;

use super::TokenHash;
use crate::format::FILTER_TOKEN_MIN;

/// Bytes of a gram, and how many grams side by side are looked at for the one that is kept.
const GRAM_BYTES: usize = 7;
const WINDOW_GRAMS: usize = 6;
/// Shortest run that is stored by its grams: one window.
pub(super) const RUN_BYTES_MIN: usize = GRAM_BYTES + WINDOW_GRAMS - 1;

/// Gives the hashes under which a token stands in the filters.
///
/// A run of at least 12 letters and digits, with a digit among them, stands there by some of its
/// 7-byte grams: of each 6 grams side by side the one with the least hash. A part of the run that
/// is at least 12 bytes long has whole windows of its own, and so some of the same grams: that is
/// why a part of an id can be asked for. A token without such a run stands there whole. (Local
/// minimizers: Schleimer, Wilkerson, Aiken, "Winnowing", SIGMOD'03.)
#[inline]
pub(crate) fn token_hashes(token: &[u8], mut take: impl FnMut(TokenHash)) {
    if token.len() < FILTER_TOKEN_MIN {
        return;
    }
    let by_grams = token.len() >= RUN_BYTES_MIN && gram_hashes(token, &mut take);
    if !by_grams {
        take(TokenHash((xxh3_64(token) >> 32) as u32));
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
    let mut take = |least: u64| take(mixed(least));
    let mut ends = ends(&gram_block(run).0);
    // Hashes of grams are as different as the grams: each step of the mixing can be undone.
    let mut last = ends[0];
    take(last);
    let mut at = WINDOW_GRAMS;
    while at + GRAM_BYTES <= run.len() {
        let (block, count) = gram_block(&run[at..]);
        let (mut found, mut new) = ([0; WINDOW_GRAMS + 1], 0);
        let mut least = u64::MAX;
        for (gram, end) in block[..count].iter().zip(&ends[1..]) {
            least = least.min(*gram);
            let window = least.min(*end);
            found[new] = window;
            new += usize::from(window != last);
            last = window;
        }
        found[..new].iter().for_each(|least| take(*least));
        ends = self::ends(&block);
        at += WINDOW_GRAMS;
    }
}

/// The hash of a gram in the filters: mixed again, as of six hashes the least is a small number.
#[inline]
fn mixed(gram: u64) -> TokenHash {
    let mixed = gram.wrapping_mul(0x9fb2_1c65_1e98_df25);
    TokenHash(((mixed ^ mixed >> 29) >> 32) as u32)
}

/// The hashes of all grams that are digits and nothing else. Of those there are few kinds, so that
/// where numbers are many they tell less than others.
pub(crate) fn decimal_grams(token: &[u8]) -> Vec<TokenHash> {
    let grams = token.windows(GRAM_BYTES);
    let decimal = grams.filter(|gram| gram.iter().all(u8::is_ascii_digit));
    decimal.map(|gram| mixed(gram_block(gram).0[0])).collect()
}

/// The hashes of up to a window of grams at the beginning of `bytes`, and how many there are.
#[inline]
fn gram_block(bytes: &[u8]) -> ([u64; WINDOW_GRAMS], usize) {
    let hash = |gram: u64| {
        let value = (gram & (u64::MAX >> 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    let mut block = [u64::MAX; WINDOW_GRAMS];
    let count = (bytes.len() + 1)
        .saturating_sub(GRAM_BYTES)
        .min(WINDOW_GRAMS);
    let mut padded = [0; 16];
    match bytes.first_chunk::<RUN_BYTES_MIN>() {
        Some(whole) => padded[..RUN_BYTES_MIN].copy_from_slice(whole),
        None => padded[..bytes.len()].copy_from_slice(bytes),
    }
    let whole = u128::from_le_bytes(padded);
    for (at, place) in block[..count].iter_mut().enumerate() {
        *place = hash((whole >> (8 * at)) as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(token: &[u8]) -> Vec<u32> {
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
    fn naive_run_hashes(run: &[u8]) -> Vec<u32> {
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
        mixed
            .map(|mixed| ((mixed ^ mixed >> 29) >> 32) as u32)
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn the_grams_of_a_run_are_the_least_of_its_windows(
            run in proptest::collection::vec(proptest::sample::select(&b"01ab"[..]), RUN_BYTES_MIN..90),
        ) {
            let mut found = Vec::new();
            run_hashes(&run, &mut |hash| found.push(hash.0));
            proptest::prop_assert_eq!(found, naive_run_hashes(&run));
        }
    }
}
