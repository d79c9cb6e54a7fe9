//! `detected_level`: how bad a record says it is.
//!
//! Looked for in this order: labels and metadata that name a level, fields of the line (JSON or
//! logfmt), words of the line. Texts that name no known level give `unknown`.

use model::Labels;

use super::json_scan::{JsonValue, Scanner};

/// The label under which the level is shown.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Names that hold a level, most telling first: in the line, and as a label.
const FIELDS: [(&str, &str); 15] = [
    ("level", "level"),
    ("LEVEL", "LEVEL"),
    ("Level", "Level"),
    ("log.level", "log_level"),
    ("severity", "severity"),
    ("SEVERITY", "SEVERITY"),
    ("Severity", "Severity"),
    ("SeverityText", "SeverityText"),
    ("lvl", "lvl"),
    ("LVL", "LVL"),
    ("Lvl", "Lvl"),
    ("severity_text", "severity_text"),
    ("Severity_Text", "Severity_Text"),
    ("SEVERITY_TEXT", "SEVERITY_TEXT"),
    ("severity_number", "severity_number"),
];
/// Words of a line, in the order in which they count, with the level they stand for.
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

/// Names of fields that hold a level as a text, most telling first.
pub fn level_fields() -> impl Iterator<Item = &'static str> {
    let names = FIELDS.iter().map(|(raw, _)| *raw);
    names.filter(|name| *name != "severity_number")
}

/// Whether a label or a metadata key of this name holds a level.
pub fn names_level(name: &str) -> bool {
    FIELDS
        .iter()
        .any(|(raw, label)| name == *raw || name == *label)
}

/// Words of a line, in lower case, that may tell its level when no field of it does.
pub fn level_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}

/// The level of a record: one of `trace debug info warn error critical fatal unknown`.
pub fn detect(line: &[u8], labels: &Labels, metadata: &[(&str, &str)]) -> &'static str {
    let from_metadata = |name: &str| {
        metadata
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    };
    for (raw, label) in FIELDS {
        let value = labels
            .get(label)
            .or_else(|| from_metadata(label))
            .or_else(|| from_metadata(raw));
        if let Some(value) = value {
            return normalise(value);
        }
    }
    of_line(line)
}

fn of_line(line: &[u8]) -> &'static str {
    let found = match line.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => json_field(line),
        _ => logfmt_field(line),
    };
    match found.and_then(known) {
        Some(level) => level,
        None => word_level(line),
    }
}

/// The value of the first member, at the top, that names a level.
fn json_field(line: &[u8]) -> Option<&str> {
    let mut scanner = Scanner::new(line);
    scanner.take(b'{');
    let mut first = true;
    while let Ok(Some((key, _))) = scanner.member(first) {
        first = false;
        let value = scanner.value().ok()?;
        let (JsonValue::Text(value, _) | JsonValue::Plain(value)) = value else {
            continue;
        };
        if is_field(key) {
            return std::str::from_utf8(value).ok();
        }
    }
    None
}

fn logfmt_field(line: &[u8]) -> Option<&str> {
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'=', &line[from..]) {
        let at = from + found;
        let start = line[..at]
            .iter()
            .rposition(|b| *b <= b' ')
            .map_or(0, |before| before + 1);
        if is_field(&line[start..at]) {
            let value = &line[at + 1..];
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let end = value
                .iter()
                .position(|b| *b <= b' ' || *b == b'"')
                .unwrap_or(value.len());
            return std::str::from_utf8(&value[..end]).ok();
        }
        from = at + 1;
    }
    None
}

fn is_field(key: &[u8]) -> bool {
    FIELDS.iter().any(|(raw, _)| raw.as_bytes() == key)
}

fn word_level(line: &[u8]) -> &'static str {
    WORDS
        .iter()
        .find(|(word, _)| has_word(line, word.as_bytes()))
        .map_or("unknown", |(_, level)| *level)
}

/// Whether the word stands alone at its first appearance, in any case.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let (lower, upper) = (word[0], word[0].to_ascii_uppercase());
    let found = memchr::memchr2_iter(lower, upper, text).find(|at| {
        text[*at..]
            .get(..word.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(word))
    });
    let of_word = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || !b.is_ascii())
    };
    found.is_some_and(|at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        !of_word(before) && !of_word(text.get(at + word.len()))
    })
}

fn normalise(value: &str) -> &'static str {
    known(value).unwrap_or("unknown")
}

/// The level that a text names in one of its usual spellings, or by its OpenTelemetry number.
fn known(value: &str) -> Option<&'static str> {
    if let Ok(number) = value.parse::<u32>() {
        return Some(match number {
            1..=4 => "trace",
            5..=8 => "debug",
            9..=12 => "info",
            13..=16 => "warn",
            17..=20 => "error",
            21..=24 => "fatal",
            _ => return None,
        });
    }
    let names: [(&[&str], &'static str); 7] = [
        (&["trace", "trc"], "trace"),
        (&["debug", "dbg"], "debug"),
        (
            &["info", "inf", "information", "informational", "notice"],
            "info",
        ),
        (&["warn", "wrn", "warning"], "warn"),
        (&["error", "err", "eror"], "error"),
        (
            &["critical", "crit", "emerg", "emergency", "alert"],
            "critical",
        ),
        (&["fatal", "panic"], "fatal"),
    ];
    names
        .iter()
        .find(|(spellings, _)| spellings.iter().any(|s| s.eq_ignore_ascii_case(value)))
        .map(|(_, level)| *level)
}
