//! Lines split into template and variables.
//!
//! A token is a longest run of ASCII letters, digits, `_` and bytes from 0x80 on. Tokens
//! with a digit are variables; everything else, in order, is the text of the template; the slots
//! say where in that text the variables stand. Since tokens are longest runs, two slots never
//! touch, and a variable is always followed by a separator or the end of the line: the search
//! (`search.rs`) builds on that. (The idea of the split: CLP, OSDI'21; of the stamps: LogGrep,
//! EuroSys'23.)

use xxhash_rust::xxh3::xxh3_64;

use crate::format::{SLOTS_MAX, TEMPLATE_TEXT_MAX};

/// The template of lines that are stored whole: no text, one slot.
pub(crate) const RAW: u32 = 0;

const TOKEN: u8 = 1;
const DIGIT: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_digit() {
            classes[byte] = TOKEN | DIGIT;
        } else if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 {
            classes[byte] = TOKEN;
        }
        byte += 1;
    }
    classes
};

pub(crate) fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] != 0
}

pub(crate) fn has_digit(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_digit)
}

/// One bit for each letter, one for all digits, one for `_`, one for everything else.
const MASKS: [u64; 256] = {
    let mut masks = [1 << 63; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_lowercase() {
            masks[byte] = 1 << (b - b'a');
        } else if b.is_ascii_uppercase() {
            masks[byte] = 1 << (26 + b - b'A');
        } else if b.is_ascii_digit() {
            masks[byte] = 1 << 52;
        } else if b == b'_' {
            masks[byte] = 1 << 53;
        }
        byte += 1;
    }
    masks
};

/// Bits of [`MASKS`] of digits and `_`.
const NUMBER_MASK: u64 = 3 << 52;
/// And of `a-f` and `A-F`.
const HEX_MASK: u64 = NUMBER_MASK | 0x3f | 0x3f << 26;

/// What is known of all values of one slot: which bytes occur, how long the longest is, and how
/// long the longest run of hexadecimal digits (at least: short values count as such runs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) mask: u64,
    pub(crate) longest: u32,
    pub(crate) hex: u32,
}

/// Values up to this length are not searched for runs of hexadecimal digits.
const SHORT: usize = 7;

impl Stamp {
    #[inline]
    pub(crate) fn of(value: &[u8]) -> Self {
        let mut mask = 0;
        for byte in value {
            mask |= MASKS[*byte as usize];
        }
        let hex = match value.len() {
            0..=SHORT => value.len() as u32,
            // Without a letter there is no need to know: a needle has one, or is a number too.
            _ if mask & !NUMBER_MASK == 0 => value.len() as u32,
            _ => hex_run(value),
        };
        Stamp {
            mask,
            longest: value.len() as u32,
            hex,
        }
    }

    /// The stamp of a text that is looked for: its runs are counted exactly.
    pub(crate) fn of_needle(needle: &[u8]) -> Self {
        Stamp {
            hex: hex_run(needle),
            ..Stamp::of(needle)
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, other: Stamp) {
        self.mask |= other.mask;
        self.longest = self.longest.max(other.longest);
        self.hex = self.hex.max(other.hex);
    }

    /// Whether a digit occurs.
    pub(crate) fn has_digit(&self) -> bool {
        self.mask >> 52 & 1 == 1
    }

    /// Whether a value under this stamp may contain a text with the other stamp.
    pub(crate) fn may_hold(&self, other: Stamp) -> bool {
        other.mask & !self.mask == 0 && other.longest <= self.longest && other.hex <= self.hex
    }

    /// Which of [`TEXTS`](crate::format::TEXTS) holds a column of such values.
    pub(crate) fn class(&self) -> usize {
        if self.mask & !HEX_MASK != 0 {
            0
        } else if self.mask & !NUMBER_MASK != 0 {
            1
        } else {
            2
        }
    }
}

fn hex_run(value: &[u8]) -> u32 {
    let (mut longest, mut run) = (0, 0);
    for byte in value {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// A line taken apart. Kept and used again, so that nothing is allocated per line.
#[derive(Debug, Default)]
pub(crate) struct Split {
    pub(crate) text: Vec<u8>,
    pub(crate) slots: Vec<u32>,
    pub(crate) variables: Vec<(u32, u32)>,
}

impl Split {
    /// Takes the line apart; false when it has too many variables or too much other text to be a
    /// template.
    pub(crate) fn split(&mut self, line: &[u8]) -> bool {
        self.cut::<DIGIT>(line)
    }

    /// As [`split`](Self::split), but all tokens are variables: what is left is the line's
    /// punctuation.
    pub(crate) fn split_shape(&mut self, line: &[u8]) -> bool {
        self.cut::<TOKEN>(line)
    }

    /// Tokens with a byte of the class are variables.
    fn cut<const CLASS: u8>(&mut self, line: &[u8]) -> bool {
        self.text.clear();
        self.slots.clear();
        self.variables.clear();
        if line.len() > u32::MAX as usize {
            return false;
        }
        let mut copied = 0;
        let mut at = 0;
        while at < line.len() {
            let class = CLASSES[line[at] as usize];
            if class == 0 {
                at += 1;
                continue;
            }
            let start = at;
            let mut seen = class;
            at += 1;
            while at < line.len() {
                let class = CLASSES[line[at] as usize];
                if class == 0 {
                    break;
                }
                seen |= class;
                at += 1;
            }
            if seen & CLASS != 0 {
                if self.slots.len() == SLOTS_MAX {
                    return false;
                }
                self.text.extend_from_slice(&line[copied..start]);
                self.slots.push(self.text.len() as u32);
                self.variables.push((start as u32, at as u32));
                copied = at;
            }
        }
        self.text.extend_from_slice(&line[copied..]);
        self.text.len() <= TEMPLATE_TEXT_MAX
    }

    pub(crate) fn hash(&self) -> u64 {
        let mut hash = xxh3_64(&self.text);
        for slot in &self.slots {
            hash = (hash ^ u64::from(*slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> (Vec<u8>, Vec<u32>, Vec<&[u8]>) {
        let mut split = Split::default();
        assert!(split.split(line));
        let variables = split.variables.iter();
        let variables = variables.map(|(a, b)| &line[*a as usize..*b as usize]);
        (split.text.clone(), split.slots.clone(), variables.collect())
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
}
