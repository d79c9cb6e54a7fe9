//! What of a line its level depends on: the template of the line, and little of its values.
//!
//! [`of_line`] looks at bytes that no value has, and at values in four ways only: whether one *is* a
//! word, a spelling of a level or a name of a field; whether it is UTF-8, as keys of pairs must be;
//! behind a backslash, whether that makes an escape; and where JSON has neither a string nor an
//! object nor an array, whether it begins as a number or is `true`, `false` or `null`. Words are
//! bounded by bytes that no value has, so that what has a word inside is no word.

use std::sync::Arc;

use model::{Labels, LineProperty, ValueBounds};

use super::super::json_scan::escape;
use super::{FIELDS, LEVELS, SPELLINGS, is_asked_of_line, of_line};

/// The level of lines, as a number: the place among [`LEVELS`].
#[derive(Debug)]
pub(crate) struct LineLevel;

/// The level of lines as a source sees it.
pub(crate) fn property() -> Arc<dyn LineProperty> {
    Arc::new(LineLevel)
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// Between bytes that are around no word, field or level.
    Inner,
    /// Beside a point: only of a field's name a part may be here.
    Dotted,
    /// Anywhere else.
    Open,
    /// As `Open`, and JSON may have a number or a literal here.
    Bare,
    /// Behind a backslash.
    Escape,
}

/// Classes: first those of spellings of levels in any case, then those of names of fields, then these.
const CLASSES: [&[u8]; 12] = [
    b"true",
    b"x",
    b"0",
    b"n",
    b"u0041",
    b"q",
    // The same, but not UTF-8; the first of them does not occur.
    b"true\xff",
    b"x\xff",
    b"0\xff",
    b"n\xff",
    b"u0041\xff",
    b"q\xff",
];
const LITERAL: usize = 0;
const PLAIN: usize = 1;
const NUMBER: usize = 2;
const SIMPLE_ESCAPE: usize = 3;
const UNICODE_ESCAPE: usize = 4;
const NO_ESCAPE: usize = 5;
/// From a class to the one that is not UTF-8.
const UNCLEAN: usize = 6;

/// What JSON has beside texts, numbers, objects and arrays.
const LITERALS: [&str; 3] = ["null", "true", "false"];
/// A value that begins so behind a backslash makes an escape.
const ESCAPES: &[u8] = b"bfnrt";

/// The parts of the only name of a field that has a point.
const DOTTED: [&str; 2] = ["log", "level"];

/// Length of the shortest and longest of all texts that [`is_telling`] knows, bytes.
const TELLING_BYTES: std::ops::RangeInclusive<usize> = 3..=13;
const DIGITS: u64 = 1 << 52;
const REST: u64 = 1 << 63;

/// Spellings and names of fields without their points, in the order of their classes.
fn telling() -> impl Iterator<Item = &'static str> {
    let spellings = SPELLINGS.iter().flat_map(|(spellings, _)| *spellings);
    spellings.copied().chain(names())
}

/// The tokens that names of fields are made of.
fn names() -> impl Iterator<Item = &'static str> {
    let whole = FIELDS.iter().filter(|name| !name.contains('.'));
    whole.copied().chain(["log"])
}

const SPELLINGS_COUNT: usize = {
    let (mut count, mut level) = (0, 0);
    while level < SPELLINGS.len() {
        count += SPELLINGS[level].0.len();
        level += 1;
    }
    count
};
/// The name with a point has one token more than the others that no other name is.
const TELLING_COUNT: usize = SPELLINGS_COUNT + FIELDS.len();

fn number(class: usize) -> u8 {
    (TELLING_COUNT + class) as u8
}

/// What a value that is a spelling or a name of a field says: its class, or that it is a name in
/// another case, which is one to logfmt and none to JSON.
enum Telling {
    No,
    Class(u8),
    Itself,
}

/// Whether a value has the length and the first letter of one that tells something.
fn looks_telling(value: &[u8]) -> bool {
    const FIRST: &[u8; 9] = b"tdiwecfls";
    TELLING_BYTES.contains(&value.len()) && FIRST.contains(&value[0].to_ascii_lowercase())
}

fn is_telling(value: &[u8]) -> Telling {
    if !looks_telling(value) {
        return Telling::No;
    }
    let mut spellings = telling().take(SPELLINGS_COUNT);
    if let Some(class) = spellings.position(|s| value.eq_ignore_ascii_case(s.as_bytes())) {
        return Telling::Class(class as u8);
    }
    if let Some(class) = names().position(|name| value == name.as_bytes()) {
        return Telling::Class((SPELLINGS_COUNT + class) as u8);
    }
    match names().any(|name| value.eq_ignore_ascii_case(name.as_bytes())) {
        true => Telling::Itself,
        false => Telling::No,
    }
}

/// Whether a value beside a point may be a part of a field's name.
fn is_of_dotted(value: &[u8]) -> bool {
    DOTTED
        .iter()
        .any(|part| value.eq_ignore_ascii_case(part.as_bytes()))
}

impl Place {
    fn of(number: u8) -> Place {
        [
            Place::Inner,
            Place::Dotted,
            Place::Open,
            Place::Bare,
            Place::Escape,
        ][usize::from(number)]
    }

    /// The place between two bytes; `None` at an end of the line.
    fn between(before: Option<u8>, behind: Option<u8>, may_be_bare: bool) -> Place {
        let begins = match before {
            Some(b'\\') => return Place::Escape,
            Some(b':' | b' ' | b'\t' | b'\n' | b'\r') if may_be_bare => return Place::Bare,
            None | Some(0..=b' ' | b'"' | b'\'' | b'=' | b'|' | b'[' | b'(' | b'{' | b'.') => true,
            Some(_) => false,
        };
        let ends = match behind {
            None | Some(0..=b' ' | b'"' | b'\'' | b'=' | b'|' | b':' | b',' | b'!' | b'.') => true,
            Some(b'[' | b']' | b'(' | b')' | b'{' | b'}') => true,
            Some(_) => false,
        };
        match begins && ends {
            false => Place::Inner,
            true if before == Some(b'.') || behind == Some(b'.') => Place::Dotted,
            true => Place::Open,
        }
    }
}

/// Whether the class is another one for values that are not UTF-8 or have U+FFFD, which no key of a
/// pair may have.
fn is_unclean(value: &[u8]) -> bool {
    !value.is_ascii() && std::str::from_utf8(value).map_or(true, |text| text.contains('\u{fffd}'))
}

/// What an escape is made of by the value behind its backslash; `None` for half of a pair.
fn escape_class(value: &[u8]) -> Option<usize> {
    if ESCAPES.contains(&value[0]) {
        return Some(SIMPLE_ESCAPE);
    }
    let digits = value.get(1..5);
    let is_hex = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    match (value[0], is_hex) {
        (b'u', true) => escape(&value[..5]).map(|_| UNICODE_ESCAPE),
        _ => Some(NO_ESCAPE),
    }
}

/// Calls `take` with each slot, and whether it surely is inside of a string of the JSON that the text
/// may be. So it is while no quote stands in what is neither string nor object nor array: JSON reads
/// such a token up to the next blank, comma or bracket that closes, with all quotes that it has.
fn each_in_string(text: &[u8], slots: &[u32], mut take: impl FnMut(usize, bool)) {
    let mut slots = slots.iter().map(|slot| *slot as usize).peekable();
    let (mut in_string, mut is_sure) = (false, true);
    let mut is_plain = false;
    let mut at = 0;
    loop {
        if slots.next_if_eq(&at).is_some() {
            take(at, in_string && is_sure);
            is_plain |= !in_string;
        }
        let Some(byte) = text.get(at) else { return };
        match byte {
            b'\\' if in_string => at += usize::from(slots.peek() != Some(&(at + 1))),
            b'"' => {
                is_sure &= !is_plain;
                in_string = !in_string;
            }
            _ if in_string => {}
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']' => is_plain = false,
            b':' | b'{' | b'[' => {}
            _ => is_plain = true,
        }
        at += 1;
    }
}

impl LineProperty for LineLevel {
    fn of_line(&self, line: &[u8]) -> u8 {
        let level = of_line(line);
        let place = LEVELS.iter().position(|known| *known == level);
        place.unwrap_or(LEVELS.len() - 1) as u8
    }

    fn is_asked(&self, labels: &Labels) -> bool {
        is_asked_of_line(labels)
    }

    fn places(&self, text: &[u8], slots: &[u32], places: &mut Vec<u8>) {
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_json = first == Some(&b'{');
        let place = |slot: usize, may_be_bare: bool| {
            let before = slot.checked_sub(1).map(|before| text[before]);
            Place::between(before, text.get(slot).copied(), may_be_bare) as u8
        };
        match is_json {
            true => each_in_string(text, slots, |slot, in_string| {
                places.push(place(slot, !in_string));
            }),
            false => {
                places.extend(slots.iter().map(|slot| place(*slot as usize, false)));
            }
        }
    }

    fn class(&self, place: u8, value: &[u8]) -> Option<u8> {
        let place = Place::of(place);
        if value.is_empty() {
            return None;
        }
        let class = match place {
            Place::Escape => escape_class(value)?,
            Place::Inner => PLAIN,
            Place::Dotted if !is_of_dotted(value) => PLAIN,
            Place::Dotted | Place::Open | Place::Bare => match is_telling(value) {
                Telling::Class(class) => return Some(class),
                Telling::Itself => return None,
                Telling::No if place != Place::Bare => PLAIN,
                Telling::No if value[0].is_ascii_digit() => NUMBER,
                Telling::No if LITERALS.iter().any(|l| l.as_bytes() == value) => LITERAL,
                Telling::No => PLAIN,
            },
        };
        Some(match is_unclean(value) {
            true => number(class + UNCLEAN),
            false => number(class),
        })
    }

    fn class_of_all(&self, place: u8, bounds: &ValueBounds) -> Option<u8> {
        let place = Place::of(place);
        if bounds.bytes & REST != 0 {
            return None;
        }
        let class = match place {
            Place::Escape => {
                let may_begin = |byte: &u8| bounds.bytes >> (byte - b'a') & 1 == 1;
                let may_be = ESCAPES.iter().chain(b"u").any(may_begin);
                (!may_be).then_some(NO_ESCAPE)
            }
            Place::Inner => Some(PLAIN),
            Place::Dotted if DOTTED.iter().any(|text| may_be(text, bounds)) => None,
            Place::Open if may_tell(bounds) => None,
            Place::Dotted | Place::Open => Some(PLAIN),
            Place::Bare if bounds.bytes & !DIGITS == 0 => Some(NUMBER),
            Place::Bare if bounds.bytes & DIGITS != 0 || may_tell(bounds) => None,
            Place::Bare if LITERALS.iter().any(|text| may_be(text, bounds)) => None,
            Place::Bare => Some(PLAIN),
        };
        class.map(number)
    }

    fn stand_in(&self, class: u8) -> &[u8] {
        let class = usize::from(class);
        match class.checked_sub(TELLING_COUNT) {
            Some(class) => CLASSES[class],
            None => telling().nth(class).unwrap_or_default().as_bytes(),
        }
    }
}

/// Whether a value within the bounds may be a spelling or a name of a field, in any case.
fn may_tell(bounds: &ValueBounds) -> bool {
    let (shortest, longest) = (bounds.shortest as usize, bounds.longest as usize);
    longest >= *TELLING_BYTES.start()
        && shortest <= *TELLING_BYTES.end()
        && telling().any(|text| may_be(text, bounds))
}

/// Whether a value within the bounds may be this text, in any case.
fn may_be(text: &str, bounds: &ValueBounds) -> bool {
    const LETTERS: u64 = (1 << 26) - 1;
    let letters = (bounds.bytes | bounds.bytes >> 26) & LETTERS;
    (bounds.shortest as usize..=bounds.longest as usize).contains(&text.len())
        && text.bytes().all(|byte| match byte {
            b'_' => bounds.bytes >> 53 & 1 == 1,
            letter => letters >> (letter.to_ascii_lowercase() - b'a') & 1 == 1,
        })
}

#[cfg(test)]
mod tests;
