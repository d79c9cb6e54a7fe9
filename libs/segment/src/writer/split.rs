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

/// Bytes that may be read behind a text: zeros, which are no token.
pub(crate) const PAD: usize = BLOCK_BYTES;
const BLOCK_BYTES: usize = 64;

/// A line and [`PAD`] zeros.
#[derive(Debug, Default)]
pub(crate) struct PaddedText {
    bytes: Vec<u8>,
}

impl PaddedText {
    #[inline]
    pub(crate) fn set(&mut self, line: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.bytes.extend_from_slice(&[0; PAD]);
    }

    /// The line and the zeros behind it.
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

/// Which of the first `length` bytes, up to 64, belong to tokens, and which are digits; the first
/// byte is the lowest bit. Of bytes behind these none is said to be either if they are zeros.
#[inline]
fn classify(block: &[u8; BLOCK_BYTES], length: usize) -> (u64, u64) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Adding these to seven bits sets the eighth from the byte named on.
    const fn from(byte: u8) -> u64 {
        (0x80 - byte as u64) * 0x0101_0101_0101_0101
    }
    let (mut tokens, mut digits) = (0, 0);
    let words = block.as_chunks::<8>().0;
    for (at, bytes) in words.iter().take(length.div_ceil(8)).enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let low = word & !HIGH;
        let digit = (low + from(b'0')) & !(low + from(b'9' + 1)) & !word & HIGH;
        let lower = low | 0x2020_2020_2020_2020;
        let letter = (lower + from(b'a')) & !(lower + from(b'z' + 1));
        let underscore = !((low ^ 0x5f5f_5f5f_5f5f_5f5f) + !HIGH);
        let token = (word | digit | letter | underscore) & HIGH;
        tokens |= gather(token) << (8 * at);
        digits |= gather(digit) << (8 * at);
    }
    (tokens, digits)
}

/// The highest bits of the eight bytes side by side.
#[inline]
fn gather(high: u64) -> u64 {
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Gives the tokens of the line of `length` bytes that `padded` begins with, until `take` says
/// false. Behind the line [`PAD`] bytes follow, those up to the next multiple of 64 zeros.
#[inline]
pub(crate) fn tokens(padded: &[u8], length: usize, mut take: impl FnMut(Token) -> bool) {
    // Of a token that goes on from the block before: where it starts, and whether it had a digit.
    let mut open: Option<(usize, bool)> = None;
    let mut before = 0;
    let mut base = 0;
    while let Some(block) = padded[base..].first_chunk()
        && base < length
    {
        let (token, digit) = classify(block, length - base);
        let shifted = token << 1 | before;
        let mut starts = token & !shifted;
        let mut ends = shifted & !token;
        before = token >> 63;
        while ends != 0 {
            let end = ends.trailing_zeros();
            ends &= ends - 1;
            let upto = digit & ((1 << end) - 1);
            let (start, seen) = match open.take() {
                Some((start, seen)) => (start, seen | (upto != 0)),
                None => {
                    let start = starts.trailing_zeros();
                    starts &= starts.wrapping_sub(1);
                    (base + start as usize, upto >> start != 0)
                }
            };
            if !take(Token::new(start, base + end as usize, seen)) {
                return;
            }
        }
        if before == 1 {
            open = match open {
                Some((start, seen)) => Some((start, seen | (digit != 0))),
                None => {
                    let start = starts.trailing_zeros();
                    Some((base + start as usize, digit >> start != 0))
                }
            };
        }
        base += BLOCK_BYTES;
    }
    if let Some((start, seen)) = open {
        take(Token::new(start, length, seen));
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
        let (mut digits, found) = (0, &mut self.tokens);
        self.complete = true;
        tokens(padded, length, |token| {
            found.push(token);
            digits += usize::from(token.has_digit());
            self.complete = digits <= SLOTS_MAX && found.len() <= TOKENS_MAX;
            self.complete
        });
        self.complete
    }

    /// The tokens of the line that was scanned last; `None` if it has too many.
    pub(crate) fn all_tokens(&self) -> Option<&[Token]> {
        self.complete.then_some(&self.tokens)
    }

    /// Takes the line apart whose tokens were found last; false when it has too many variables or
    /// too much other text to be a template.
    pub(crate) fn cut(&mut self, padded: &[u8], length: usize, cut: Cut) -> bool {
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
        if self.text_bytes > TEMPLATE_TEXT_MAX {
            return false;
        }
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
        true
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template::{has_digit, is_token};

    fn split(line: &[u8]) -> (Vec<u8>, Vec<u32>, Vec<&[u8]>) {
        let mut split = Split::default();
        let mut text = PaddedText::default();
        text.set(line);
        assert!(split.scan(text.bytes(), line.len()));
        assert!(split.cut(text.bytes(), line.len(), Cut::Digits));
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
        tokens(text.bytes(), line.len(), |token| {
            let (start, end) = token.place();
            found.push((start, end, token.has_digit()));
            true
        });
        assert_eq!(found, naive(line), "{:?}", String::from_utf8_lossy(line));
    }

    #[test]
    fn every_byte_is_classed_at_every_place() {
        for byte in 0..=255 {
            for at in 0..66 {
                let mut line = vec![b' '; 66];
                line[at] = byte;
                check(&line);
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
