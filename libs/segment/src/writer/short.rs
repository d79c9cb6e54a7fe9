//! Short lines that were taken apart lately. A process that writes a few bytes at a time writes the same
//! few again and again, and to find their tokens anew takes longer than to look them up.

use crate::template::RAW;
use crate::writer::split::{MASKS, Split};

/// Longest line that is remembered, bytes.
pub(crate) const SHORT_LINE_MAX: usize = 16;
/// Most variables of a line that is remembered.
const VARIABLES_MAX: usize = 4;
/// So many lines are remembered, each at the one place that its hash gives it: 64 KiB.
const LINES: usize = 2_048;

/// How a line was taken apart.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    line: u128,
    /// [`RAW`] where there is no line.
    template: u32,
    length: u8,
    cut: u8,
    kind: u8,
    variables: u8,
    /// Start and end of each variable.
    places: [[u8; 2]; VARIABLES_MAX],
}

/// The template of a line, and how it came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) template: u32,
    pub(crate) cut: usize,
    pub(crate) kind: usize,
}

#[derive(Debug)]
pub(crate) struct ShortLines {
    /// Empty until the first short line comes.
    lines: Vec<Remembered>,
}

impl ShortLines {
    pub(crate) fn new() -> Self {
        ShortLines { lines: Vec::new() }
    }

    /// The bytes of the line of `length` bytes, at most [`SHORT_LINE_MAX`], that `padded` begins with; and
    /// its place.
    #[inline]
    fn locate(padded: &[u8], length: usize) -> (u128, usize) {
        let mut bytes = [0; SHORT_LINE_MAX];
        bytes.copy_from_slice(&padded[..SHORT_LINE_MAX]);
        let line = u128::from_le_bytes(bytes) & MASKS[length];
        let mixed = (line as u64 ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ ((line >> 64) as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mixed = mixed ^ mixed >> 29;
        (line, (mixed >> 20) as usize % LINES)
    }

    /// The template of the line, and its variables in `split`, if the line is remembered.
    #[inline]
    pub(crate) fn find(&self, split: &mut Split, padded: &[u8], length: usize) -> Option<Found> {
        let (line, place) = Self::locate(padded, length);
        let found = self.lines.get(place)?;
        if found.line != line || usize::from(found.length) != length || found.template == RAW {
            return None;
        }
        split.variables.clear();
        let places = found.places.iter().take(usize::from(found.variables));
        let places = places.map(|[start, end]| (u32::from(*start), u32::from(*end)));
        split.variables.extend(places);
        Some(Found {
            template: found.template,
            cut: usize::from(found.cut),
            kind: usize::from(found.kind),
        })
    }

    /// Remembers the line whose variables are in `split`, if it has few.
    pub(crate) fn keep(&mut self, split: &Split, padded: &[u8], length: usize, found: Found) {
        if split.variables.len() > VARIABLES_MAX {
            return;
        }
        if self.lines.is_empty() {
            let none = Remembered {
                line: 0,
                template: RAW,
                length: 0,
                cut: 0,
                kind: 0,
                variables: 0,
                places: [[0; 2]; VARIABLES_MAX],
            };
            self.lines = vec![none; LINES];
        }
        let (line, place) = Self::locate(padded, length);
        let mut places = [[0; 2]; VARIABLES_MAX];
        for (place, (start, end)) in places.iter_mut().zip(&split.variables) {
            *place = [*start as u8, *end as u8];
        }
        self.lines[place] = Remembered {
            line,
            template: found.template,
            length: length as u8,
            cut: found.cut as u8,
            kind: found.kind as u8,
            variables: split.variables.len() as u8,
            places,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::split::{Cut, PaddedText};

    #[test]
    fn a_line_that_was_kept_is_found_with_its_variables_and_no_other_is() {
        let mut lines = ShortLines::new();
        let (mut split, mut text) = (Split::default(), PaddedText::default());
        let all = [
            "",
            "\0",
            "a",
            "a\0",
            "t12=3",
            "t12=4",
            "0123456789abcdef",
            "1 2 3 4",
        ];
        for (n, line) in all.iter().enumerate() {
            text.set(line.as_bytes());
            assert_eq!(lines.find(&mut split, text.bytes(), line.len()), None);
            split.scan(text.bytes(), line.len());
            split.choose(line.len(), Cut::Digits);
            let found = Found {
                template: n as u32 + 1,
                cut: n % 2,
                kind: 255 - n,
            };
            lines.keep(&split, text.bytes(), line.len(), found);
            let variables = std::mem::take(&mut split.variables);
            let again = lines.find(&mut split, text.bytes(), line.len());
            assert_eq!(
                (again, &split.variables),
                (Some(found), &variables),
                "{line:?}"
            );
        }
        text.set(b"1 2 3 4 5");
        split.scan(text.bytes(), 9);
        split.choose(9, Cut::Digits);
        let found = Found {
            template: 1,
            cut: 0,
            kind: 0,
        };
        lines.keep(&split, text.bytes(), 9, found);
        assert_eq!(
            lines.find(&mut split, text.bytes(), 9),
            None,
            "too many variables"
        );
    }
}
