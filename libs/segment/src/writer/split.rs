//! Lines split into template and variables.
//!
//! A token is a longest run of ASCII letters, digits, `_` and bytes from 0x80 on. Tokens
//! with a digit are variables; everything else, in order, is the text of the template; the slots
//! say where in that text the variables stand. Since tokens are longest runs, two slots never
//! touch, and a variable is always followed by a separator or the end of the line: the search
//! (`search.rs`) builds on that. (The idea of the split: CLP, OSDI'21.)
//!
//! Tokens are found 64 bytes at a time, as bit masks, so that the core is not made to guess at each
//! byte where a token ends.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::format::{SLOTS_MAX, TEMPLATE_TEXT_MAX};
use crate::template::is_token;

/// Bytes that may be read behind a text: zeros, which are no token.
pub(crate) const PAD: usize = BLOCK_BYTES;
const BLOCK_BYTES: usize = 64;

/// A line and [`PAD`] zeros, at least.
#[derive(Debug, Default)]
pub(crate) struct PaddedText {
    bytes: Vec<u8>,
}

impl PaddedText {
    #[inline]
    pub(crate) fn set(&mut self, line: &[u8]) {
        let room = line.len() + PAD;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let (text, behind) = self.bytes.split_at_mut(line.len());
        text.copy_from_slice(line);
        behind[..PAD].copy_from_slice(&[0; PAD]);
    }

    /// The line, the zeros behind it, and then perhaps what is left of a longer line.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A longest run of token bytes, by its place in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    start: u32,
    /// The highest bit: whether it holds a digit. Records are far below 2^31 bytes.
    end_and_digit: u32,
}

impl Token {
    const DIGIT: u32 = 1 << 31;

    #[inline]
    fn new(start: usize, end: usize, digit: bool) -> Self {
        Token {
            start: start as u32,
            end_and_digit: end as u32 | u32::from(digit) << 31,
        }
    }

    #[inline]
    pub(crate) fn has_digit(self) -> bool {
        self.end_and_digit & Self::DIGIT != 0
    }

    #[inline]
    pub(crate) fn place(self) -> (u32, u32) {
        (self.start, self.end_and_digit & !Self::DIGIT)
    }
}

/// Which of 64 bytes belong to tokens, and which are digits; the first byte is the lowest bit.
#[inline]
fn classify(block: &[u8; BLOCK_BYTES]) -> (u64, u64) {
    let (mut tokens, mut digits) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
    // Without a branch, so that the compiler does it for many bytes at a time.
    for ((byte, token), digit) in block.iter().zip(&mut tokens).zip(&mut digits) {
        let is_digit = byte.wrapping_sub(b'0') < 10;
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_other = (*byte == b'_') | (*byte >= 0x80);
        *digit = u8::from(is_digit);
        *token = u8::from(is_digit | is_letter | is_other);
    }
    (gather(&tokens), gather(&digits))
}

/// The lowest bits of the bytes side by side.
#[inline]
fn gather(bytes: &[u8; BLOCK_BYTES]) -> u64 {
    let words = bytes.as_chunks::<8>().0.iter().enumerate();
    words.fold(0, |bits, (at, word)| {
        let bit = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | bit << (8 * at)
    })
}

/// Gives the tokens of the line of `length` bytes that `padded` begins with, until `go_on`, asked
/// after each 64 bytes, says false. Behind the line at least [`PAD`] bytes follow: zeros.
#[inline]
pub(crate) fn tokens<T>(
    padded: &[u8],
    length: usize,
    state: &mut T,
    mut take: impl FnMut(&mut T, Token),
    mut go_on: impl FnMut(&mut T) -> bool,
) {
    if length <= TINY_BYTES {
        tiny_tokens(&padded[..length], |token| take(state, token));
        go_on(state);
        return;
    }
    // Whether a token goes on from the block before, where it starts, whether it had a digit.
    let (mut open, mut start, mut seen) = (0, 0, 0);
    for (block, base) in padded
        .as_chunks()
        .0
        .iter()
        .zip((0..length).step_by(BLOCK_BYTES))
    {
        let (token, digit) = classify(block);
        let shifted = token << 1 | open;
        let mut starts = token & !shifted;
        let mut ends = shifted & !token;
        // Added to its token, a digit carries over to the bit behind: where the token ends.
        let (carried, seen_last) = token.overflowing_add(digit | seen & token);
        let with_digit = carried | seen;
        if open == 0 {
            start = base + starts.trailing_zeros() as usize;
            starts &= starts.wrapping_sub(1);
        }
        while ends != 0 {
            let end = ends.trailing_zeros();
            ends &= ends - 1;
            let has_digit = with_digit >> end & 1 == 1;
            take(state, Token::new(start, base + end as usize, has_digit));
            start = base + starts.trailing_zeros() as usize;
            starts &= starts.wrapping_sub(1);
        }
        (open, seen) = (token >> 63, u64::from(seen_last));
        if !go_on(state) {
            return;
        }
    }
    if open == 1 {
        take(state, Token::new(start, length, seen == 1));
    }
}

/// Lines up to this length are looked at byte by byte, which is less work than a block.
const TINY_BYTES: usize = 12;

fn tiny_tokens(line: &[u8], mut take: impl FnMut(Token)) {
    let (mut start, mut digit) = (0, false);
    for (at, byte) in line.iter().enumerate() {
        if is_token(*byte) {
            digit |= byte.is_ascii_digit();
            continue;
        }
        if at > start {
            take(Token::new(start, at, digit));
        }
        (start, digit) = (at + 1, false);
    }
    if line.len() > start {
        take(Token::new(start, line.len(), digit));
    }
}

/// How a line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Tokens with a digit are variables.
    Digits = 0,
    /// All tokens are variables: what is left is the line's punctuation.
    Shape = 1,
}

/// A line taken apart. Kept and used again, so that nothing is allocated per line.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// Tokens of the line that was scanned last, and whether they are all.
    tokens: Vec<Token>,
    complete: bool,
    /// How many of them have a digit.
    digits: usize,
    /// The template's text and what was copied behind it in haste.
    text: Vec<u8>,
    text_bytes: usize,
    pub(crate) slots: Vec<u32>,
    pub(crate) variables: Vec<(u32, u32)>,
}

/// A line with more tokens than this has too many variables or too much other text.
const TOKENS_MAX: usize = SLOTS_MAX + TEMPLATE_TEXT_MAX / 2;
/// Pieces up to this length are copied as if they were so long.
const PIECE_BYTES: usize = 16;

impl Split {
    /// Finds the tokens of the line of `length` bytes that `padded` begins with; false when it
    /// cannot have a template, however it is cut.
    pub(crate) fn scan(&mut self, padded: &[u8], length: usize) -> bool {
        self.tokens.clear();
        let mut found = (&mut self.tokens, 0);
        let fits = |found: &mut (&mut Vec<Token>, usize)| {
            found.1 <= SLOTS_MAX && found.0.len() <= TOKENS_MAX
        };
        let take = |found: &mut (&mut Vec<Token>, usize), token: Token| {
            found.0.push(token);
            found.1 += usize::from(token.has_digit());
        };
        tokens(padded, length, &mut found, take, fits);
        self.complete = fits(&mut found);
        self.digits = found.1;
        self.complete
    }

    /// How many tokens the line has that was scanned last, and how many of them have a digit.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.tokens.len(), self.digits)
    }

    /// The tokens of the line that was scanned last; `None` if it has too many.
    pub(crate) fn all_tokens(&self) -> Option<&[Token]> {
        self.complete.then_some(&self.tokens)
    }

    /// Chooses the variables of the line whose tokens were found last; false when it has too many, or
    /// too much other text to be a template.
    pub(crate) fn choose(&mut self, length: usize, cut: Cut) -> bool {
        self.variables.clear();
        let all = self.tokens.iter();
        match cut {
            Cut::Digits => {
                let chosen = all.filter(|token| token.has_digit());
                self.variables.extend(chosen.map(|token| token.place()));
            }
            Cut::Shape if self.tokens.len() > SLOTS_MAX => return false,
            Cut::Shape => self.variables.extend(all.map(|token| token.place())),
        }
        let variable_bytes: usize = self.variables.iter().map(|v| (v.1 - v.0) as usize).sum();
        self.text_bytes = length - variable_bytes;
        self.text_bytes <= TEMPLATE_TEXT_MAX
    }

    /// A number that lines of equal template share, made of little of the line whose variables were
    /// chosen last.
    #[inline]
    pub(crate) fn mark(&self, padded: &[u8]) -> u64 {
        let mut first = [0; PIECE_BYTES / 2];
        first.copy_from_slice(&padded[..PIECE_BYTES / 2]);
        let bytes = self
            .variables
            .first()
            .map_or(self.text_bytes, |v| v.0 as usize);
        let mask = MASKS[bytes.min(first.len())] as u64;
        let counts = (self.text_bytes << 8 | self.variables.len()) as u64;
        let mixed = (u64::from_le_bytes(first) & mask).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ counts.wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ mixed >> 32
    }

    /// Whether the line whose variables were chosen last has the template with this text and these
    /// slots.
    pub(crate) fn matches(&self, padded: &[u8], text: &[u8], slots: &[u32]) -> bool {
        if text.len() != self.text_bytes || slots.len() != self.variables.len() {
            return false;
        }
        let (mut compared, mut at) = (0, 0);
        for ((start, end), slot) in self.variables.iter().zip(slots) {
            let piece = *start as usize - compared;
            if at + piece != *slot as usize || !equal(padded, compared, text, at, piece) {
                return false;
            }
            at += piece;
            compared = *end as usize;
        }
        equal(padded, compared, text, at, text.len() - at)
    }

    /// Takes the line apart whose variables were chosen last.
    pub(crate) fn cut(&mut self, padded: &[u8], length: usize) {
        if self.text.len() < self.text_bytes + PIECE_BYTES {
            self.text.resize(self.text_bytes + PIECE_BYTES, 0);
        }
        self.slots.clear();
        let (mut copied, mut at) = (0, 0);
        for (start, end) in &self.variables {
            let piece = *start as usize - copied;
            copy(padded, copied, &mut self.text, at, piece);
            at += piece;
            self.slots.push(at as u32);
            copied = *end as usize;
        }
        copy(padded, copied, &mut self.text, at, length - copied);
    }

    /// The text of the template.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text[..self.text_bytes]
    }

    pub(crate) fn hash(&self) -> u64 {
        let slots = bytemuck::cast_slice(&self.slots);
        xxh3_64_with_seed(slots, xxh3_64(self.text()))
    }
}

/// Copies `count` bytes; short ones as [`PIECE_BYTES`], for which there must be room on both sides.
#[inline]
fn copy(from: &[u8], start: usize, to: &mut [u8], at: usize, count: usize) {
    if count <= PIECE_BYTES {
        to[at..at + PIECE_BYTES].copy_from_slice(&from[start..start + PIECE_BYTES]);
    } else {
        to[at..at + count].copy_from_slice(&from[start..start + count]);
    }
}

/// Bits of the first bytes, so many.
pub(crate) const MASKS: [u128; PIECE_BYTES + 1] = {
    let mut masks = [u128::MAX; PIECE_BYTES + 1];
    let mut count = 0;
    while count < PIECE_BYTES {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};

/// Whether `count` bytes are equal; short pieces are compared as one number, where there is room.
#[inline]
fn equal(one: &[u8], start: usize, other: &[u8], at: usize, count: usize) -> bool {
    if count <= PIECE_BYTES
        && let Some(one) = one[start..].first_chunk::<PIECE_BYTES>()
        && let Some(other) = other[at..].first_chunk::<PIECE_BYTES>()
    {
        let differing = u128::from_le_bytes(*one) ^ u128::from_le_bytes(*other);
        return differing & MASKS[count] == 0;
    }
    one[start..start + count] == other[at..at + count]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template::has_digit;

    fn split(line: &[u8]) -> (Vec<u8>, Vec<u32>, Vec<&[u8]>) {
        let mut split = Split::default();
        let mut text = PaddedText::default();
        text.set(line);
        assert!(split.scan(text.bytes(), line.len()));
        assert!(split.choose(line.len(), Cut::Digits));
        split.cut(text.bytes(), line.len());
        let variables = split.variables.iter();
        let variables = variables.map(|(a, b)| &line[*a as usize..*b as usize]);
        let (text, slots) = (split.text().to_vec(), split.slots.clone());
        (text, slots, variables.collect())
    }

    #[test]
    fn tokens_with_a_digit_are_variables() {
        let (text, slots, variables) = split(b"took 12ms at a1:80, ok");
        assert_eq!(text, b"took  at :, ok");
        assert_eq!(slots, [5, 9, 10]);
        assert_eq!(variables, [&b"12ms"[..], b"a1", b"80"]);
    }

    #[test]
    fn a_line_may_be_all_variable_or_all_text() {
        assert_eq!(split(b"7"), (vec![], vec![0], vec![&b"7"[..]]));
        assert_eq!(split(b""), (vec![], vec![], vec![]));
        assert_eq!(split(b"a b").1, []);
    }

    /// Byte by byte.
    fn naive(line: &[u8]) -> Vec<(u32, u32, bool)> {
        let mut found = Vec::new();
        let mut start = 0;
        for token in line.split(|byte| !is_token(*byte)) {
            if !token.is_empty() {
                let end = start + token.len();
                found.push((start as u32, end as u32, has_digit(token)));
            }
            start += token.len() + 1;
        }
        found
    }

    fn check(line: &[u8]) {
        let mut text = PaddedText::default();
        text.set(line);
        let mut found = Vec::new();
        let take = |found: &mut Vec<_>, token: Token| {
            let (start, end) = token.place();
            found.push((start, end, token.has_digit()));
        };
        tokens(text.bytes(), line.len(), &mut found, take, |_| true);
        assert_eq!(found, naive(line), "{:?}", String::from_utf8_lossy(line));
    }

    #[test]
    fn every_byte_is_classed_at_every_place() {
        for byte in 0..=255 {
            for at in 0..66 {
                let mut line = vec![b' '; 66];
                line[at] = byte;
                check(&line);
                check(&line[at..66.min(at + 5)]);
                let mut line = vec![b'x'; 130];
                line[at] = byte;
                check(&line);
            }
        }
    }

    proptest! {
        #[test]
        fn tokens_are_those_found_byte_by_byte(
            line in prop::collection::vec(prop::sample::select(&b"ab09_ -=:\xc3\xff\0@[`{/"[..]), 0..300),
        ) {
            check(&line);
        }
    }
}
