//! What tokens are, and the stamps of variables: what is known of all values of a slot. How lines are
//! split stands in `writer/split.rs`. (The idea of the stamps: LogGrep, EuroSys'23.)

/// The template of lines that are stored whole: no text, one slot.
pub(crate) const RAW: u32 = 0;

const TOKEN: [bool; 256] = {
    let mut classes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        byte += 1;
    }
    classes
};

/// Whether the byte belongs to a token: a longest run of ASCII letters, digits, `_` and bytes from
/// 0x80 on.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
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
pub(crate) const NUMBER_MASK: u64 = 3 << 52;
/// And of `a-f` and `A-F`.
pub(crate) const HEX_MASK: u64 = NUMBER_MASK | 0x3f | 0x3f << 26;

/// Bits of [`MASKS`] of digits; and of `a-f`; of all letters and digits.
const DIGIT_MASK: u64 = 1 << 52;
const LOWER_HEX_MASK: u64 = DIGIT_MASK | 0x3f;
const ALPHANUMERIC_MASK: u64 = (1 << 53) - 1;
/// So many bytes are looked at together.
const BLOCK_BYTES: usize = 64;

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

    /// What [`of`](Self::of) gives for all values of a column added up: the values one behind the
    /// other, the length of each and of the longest.
    pub(crate) fn of_column(
        values: &[u8],
        lengths: impl Iterator<Item = u32>,
        longest: u32,
    ) -> Self {
        let mask = mask_of(values);
        let mut hex = 0;
        if mask & !NUMBER_MASK == 0 {
            hex = longest;
        } else {
            let mut start = 0;
            for length in lengths {
                let end = start + length as usize;
                // Most values are no longer than the longest run of those before.
                if length > hex {
                    hex = longer_hex(&values[start..end], hex);
                }
                start = end;
            }
        }
        Stamp { mask, longest, hex }
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

/// The masks of all bytes together. Text that can bring nothing new is looked at a block at a time, without
/// a table.
fn mask_of(bytes: &[u8]) -> u64 {
    let known = |mask: u64, bits: u64| mask & bits == bits;
    let mut mask = 0;
    for block in bytes.chunks(BLOCK_BYTES) {
        let brings_nothing = if known(mask, ALPHANUMERIC_MASK) {
            block
                .iter()
                .fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
        } else if known(mask, LOWER_HEX_MASK) {
            let is_hex = |byte: u8| (byte.wrapping_sub(b'0') < 10) | (byte.wrapping_sub(b'a') < 6);
            block.iter().fold(true, |all, byte| all & is_hex(*byte))
        } else if known(mask, DIGIT_MASK) {
            block
                .iter()
                .fold(true, |all, byte| all & byte.is_ascii_digit())
        } else {
            false
        };
        if !brings_nothing {
            mask = block
                .iter()
                .fold(mask, |mask, byte| mask | MASKS[*byte as usize]);
        }
    }
    mask
}

/// What counts as the value's run of hexadecimal digits, if that is longer than `best`, else `best`.
fn longer_hex(value: &[u8], mut best: u32) -> u32 {
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
    if value.len() <= SHORT || value.iter().all(is_number) {
        return best.max(value.len() as u32);
    }
    let mut at = 0;
    // A longer run has a digit at each of `best + 1` bytes: seen from the last, the first other byte
    // tells where such a run can begin.
    while let Some(window) = value.get(at..=at + best as usize) {
        match window.iter().rposition(|byte| !byte.is_ascii_hexdigit()) {
            Some(other) => at += other + 1,
            None => {
                let rest = &value[at..];
                let end = rest.iter().position(|byte| !byte.is_ascii_hexdigit());
                let run = end.unwrap_or(rest.len());
                best = run as u32;
                at += run + 1;
            }
        }
    }
    best
}

fn hex_run(value: &[u8]) -> u32 {
    let (mut longest, mut run) = (0, 0);
    for byte in value {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_has_the_sum_of_its_values_stamps(
            values in prop::collection::vec(
                prop::collection::vec(prop::sample::select(&b"0123456789abcdefgz_Z\xff"[..]), 0..40),
                0..20,
            ),
            numbers in any::<bool>(),
        ) {
            let mut expected = Stamp::default();
            let (mut joined, mut lengths) = (Vec::new(), Vec::new());
            for mut value in values {
                if numbers {
                    value.retain(|byte| byte.is_ascii_digit() || *byte == b'_');
                }
                expected.add(Stamp::of(&value));
                joined.extend_from_slice(&value);
                lengths.push(value.len() as u32);
            }
            let found = Stamp::of_column(&joined, lengths.into_iter(), expected.longest);
            prop_assert_eq!(found, expected);
        }
    }
}
