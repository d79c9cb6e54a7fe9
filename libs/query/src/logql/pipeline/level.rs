//! `detected_level`: how bad a record says it is, found as Loki's distributor finds it.
//!
//! Looked for in this order: labels of the stream that name a level, then structured metadata, then
//! OpenTelemetry's number, fields of the line (JSON or logfmt), words of the line. Labels and
//! metadata may say anything; lines that name no known level give `unknown`.

mod classes;
mod test;

use model::Labels;

use super::json_scan::{JsonValue, Scanner};
use super::logfmt;

pub(super) use classes::property;
pub(super) use test::test;

/// The label under which the level is shown.
pub const DETECTED_LEVEL: &str = "detected_level";

/// The metadata in which OpenTelemetry's number is kept.
const SEVERITY_NUMBER: &str = "severity_number";

/// All levels that lines have.
pub(super) const LEVELS: [&str; 8] = [
    "trace", "debug", "info", "warn", "error", "critical", "fatal", UNKNOWN,
];

/// The level of what tells none.
const UNKNOWN: &str = "unknown";

/// Usual spellings of levels in lower case, with the level they stand for.
const SPELLINGS: [(&[&str], &str); 7] = [
    (&["trace", "trc"], "trace"),
    (&["debug", "dbg"], "debug"),
    (&["info", "inf", "information"], "info"),
    (&["warn", "wrn", "warning"], "warn"),
    (&["error", "err"], "error"),
    (&["critical"], "critical"),
    (&["fatal"], "fatal"),
];

/// Names of labels, metadata and fields that hold a level, most telling first.
const FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// The names as they may end in any case, before the `=` of a pair.
const KEYS: [&[u8]; 5] = [
    b"level",
    b"severity",
    b"severitytext",
    b"lvl",
    b"severity_text",
];

/// Words of a line, with the level they stand for. The one that stands first counts.
const WORDS: [(&str, &str); 9] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("error", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
];

/// So deep in a JSON line fields are looked for: those at the top, and those of objects there.
const JSON_DEPTH: usize = 2;

/// Names of fields that hold a level as a text, most telling first.
pub fn level_fields() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().copied()
}

/// Whether a label of a stream of this name holds a level.
pub fn label_names_level(name: &str) -> bool {
    FIELDS.contains(&name)
}

/// Whether a metadata key of this name holds a level, or a number that stands for one.
pub fn names_level(name: &str) -> bool {
    label_names_level(name) || name == SEVERITY_NUMBER
}

/// Words of a line, in lower case, that may tell its level when no field of it does.
pub fn level_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}

/// The level of a record: one of `trace debug info warn error critical fatal unknown`, or what its
/// labels or metadata say instead.
pub fn detect<'a>(line: &[u8], labels: &'a Labels, metadata: &[(&str, &'a str)]) -> &'a str {
    of_labels(labels).unwrap_or_else(|| of_record(line, metadata))
}

/// The level that the labels of a stream tell; it is that of all its records.
pub fn of_labels(labels: &Labels) -> Option<&str> {
    let value = FIELDS.iter().find_map(|name| labels.get(name));
    value.map(normalise)
}

/// Whether the level of a record of such a stream may be that of its line.
fn is_asked_of_line(labels: &Labels) -> bool {
    labels.get(DETECTED_LEVEL).is_none() && of_labels(labels).is_none()
}

/// The level of a record whose stream tells none.
pub fn of_record<'a>(line: &[u8], metadata: &[(&str, &'a str)]) -> &'a str {
    of_metadata(metadata).unwrap_or_else(|| of_line(line))
}

/// As [`of_record`], when only the place of the line's level among [`LEVELS`] is known.
pub(super) fn of_outcome<'a>(outcome: u8, metadata: &[(&str, &'a str)]) -> &'a str {
    let level = LEVELS.get(usize::from(outcome)).copied();
    of_metadata(metadata).unwrap_or(level.unwrap_or(UNKNOWN))
}

/// The level that structured metadata tells, when the stream tells none.
pub(super) fn of_metadata<'a>(metadata: &[(&str, &'a str)]) -> Option<&'a str> {
    let told = |name: &str| {
        let found = metadata.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    };
    if let Some(value) = FIELDS.iter().find_map(|name| told(name)) {
        return Some(normalise(value));
    }
    let number = told(SEVERITY_NUMBER).filter(|number| !number.is_empty());
    number.map(of_number)
}

/// A level in the spelling that is shown; a text that names none stays as it is.
pub fn normalise(value: &str) -> &str {
    known(value.as_bytes()).unwrap_or(value)
}

fn of_number(number: &str) -> &'static str {
    match number.parse::<i64>() {
        Err(_) => "info",
        Ok(0) => UNKNOWN,
        Ok(..=4) => "trace",
        Ok(..=8) => "debug",
        Ok(..=12) => "info",
        Ok(..=16) => "warn",
        Ok(..=20) => "error",
        Ok(..=24) => "fatal",
        Ok(_) => UNKNOWN,
    }
}

/// The level of a line whose record has no labels or metadata that tell it.
pub fn of_line(line: &[u8]) -> &'static str {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let first = line.iter().find(|byte| !is_blank(byte));
    let last = || line.iter().rfind(|byte| !is_blank(byte));
    let found = match first {
        Some(b'{') if last() == Some(&b'}') => json_field(line, 0).unwrap_or_default(),
        _ => logfmt_field(line),
    };
    found.and_then(known).unwrap_or_else(|| word_level(line))
}

/// The value of the first text that is named as a level; an error where the JSON ends early.
fn json_field(object: &[u8], depth: usize) -> Result<Option<&[u8]>, ()> {
    let mut scanner = Scanner::new(object);
    if depth >= JSON_DEPTH || !scanner.take(b'{') {
        return Ok(None);
    }
    let mut first = true;
    while let Some((key, _)) = scanner.member(first).map_err(|_| ())? {
        first = false;
        match scanner.value().map_err(|_| ())? {
            JsonValue::Text(value, _) if is_field(key) => return Ok(Some(value)),
            JsonValue::Object(inner) => {
                if let Some(value) = json_field(inner, depth + 1)? {
                    return Ok(Some(value));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

fn is_field(key: &[u8]) -> bool {
    FIELDS.iter().any(|name| name.as_bytes() == key)
}

/// The value of the most telling key, in any case, of the pairs before the first that is wrong.
fn logfmt_field(line: &[u8]) -> Option<&[u8]> {
    if !memchr::memchr_iter(b'=', line).any(|at| ends_as_field(&line[..at])) {
        return None;
    }
    let mut best: Option<(usize, &[u8])> = None;
    for pair in logfmt::pairs(line) {
        let Some((key, value)) = pair else { break };
        let rank = FIELDS
            .iter()
            .position(|name| name.as_bytes().eq_ignore_ascii_case(key));
        match rank {
            Some(0) => return Some(value),
            Some(rank) if best.is_none_or(|(best, _)| rank < best) => best = Some((rank, value)),
            _ => {}
        }
    }
    best.map(|(_, value)| value)
}

fn ends_as_field(text: &[u8]) -> bool {
    KEYS.iter().any(|key| {
        let start = text.len().checked_sub(key.len());
        start.is_some_and(|start| text[start..].eq_ignore_ascii_case(key))
    })
}

/// Bytes that may stand before a word, and behind it.
const BEFORE: [bool; 256] = table(b" \t\n[({\"'=|");
const BEHIND: [bool; 256] = table(b" \t\n[](){}:,!\"'=|");
/// First letters of words.
const FIRST: [bool; 256] = table(b"tdfcewiTDFCEWI");

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
}

/// The level of the first word of the line that stands for one, in any case.
fn word_level(line: &[u8]) -> &'static str {
    let mut before = true;
    for (at, byte) in line.iter().enumerate() {
        if before
            && FIRST[usize::from(*byte)]
            && let Some(level) = word_at(&line[at..])
        {
            return level;
        }
        before = BEFORE[usize::from(*byte)];
    }
    UNKNOWN
}

fn word_at(text: &[u8]) -> Option<&'static str> {
    let found = WORDS.iter().find(|(word, _)| {
        let part = text.get(..word.len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
            && text
                .get(word.len())
                .is_none_or(|byte| BEHIND[usize::from(*byte)])
    });
    found.map(|(_, level)| *level)
}

/// The level that a text names in one of its usual spellings.
fn known(value: &[u8]) -> Option<&'static str> {
    let is = |spelling: &&str| value.eq_ignore_ascii_case(spelling.as_bytes());
    let found = SPELLINGS.iter().find(|(of, _)| of.iter().any(is));
    found.map(|(_, level)| *level)
}
