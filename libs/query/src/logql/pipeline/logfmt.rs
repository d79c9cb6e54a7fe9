//! `logfmt`: `key=value key="quoted value"`.

use super::convert::{clean_text, push_clean};
use super::json_scan::escape;
use super::label_filter::Place;
use super::names::{NameId, sanitize_into};
use super::row::{Category, Key, Row, StageError};

/// How a line is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogfmtOptions {
    /// Stop with an error at the first pair that is wrong, rather than leave it out.
    pub(super) strict: bool,
    /// Set labels for keys without value.
    pub(super) keep_empty: bool,
}

/// `label="key"`
#[derive(Clone, Debug)]
pub(super) struct LogfmtField {
    pub(super) label: NameId,
    pub(super) key: Box<str>,
}

/// A key and its value: between the quotes if it had any, and whether it has escapes.
struct Pair<'a> {
    key: &'a [u8],
    value: &'a [u8],
    escaped: bool,
}

struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
}

/// Sets a label for each pair.
pub(super) fn parse(row: &mut Row, line: &[u8], options: LogfmtOptions, key: &mut String) {
    if row.wants_no_more() {
        return;
    }
    let mut scanner = Scanner { line, at: 0 };
    while let Some(next) = scanner.next() {
        let pair = match next {
            Ok(pair) => pair,
            Err(problem) if options.strict => {
                row.set_parser_error(StageError::Logfmt, &problem.message());
                row.passes_early(Place::Error);
                return;
            }
            Err(_) => continue,
        };
        if pair.value.is_empty() && !options.keep_empty {
            continue;
        }
        let Some(id) = label_of(row, pair.key, key) else {
            continue;
        };
        set(row, id, &pair);
        if !row.passes_early(Place::Label(id)) || row.wants_no_more() {
            return;
        }
    }
}

/// Sets a label for each field, empty if the line lacks its key. As in Loki, a key that is itself
/// the label of a field sets it too, the last of equal keys counts, and where the query wants only
/// some labels, a key that is none of them and no field's label is not looked at.
pub(super) fn parse_fields(
    row: &mut Row,
    line: &[u8],
    strict: bool,
    fields: &[LogfmtField],
    key: &mut String,
) {
    if row.wants_no_more() {
        return;
    }
    for field in fields {
        if !row.is_taken(field.label) {
            row.set(Category::Parsed, field.label, "");
        }
    }
    let mut scanner = Scanner { line, at: 0 };
    while let Some(next) = scanner.next() {
        let pair = match next {
            Ok(pair) => pair,
            Err(problem) if strict => {
                return row.set_parser_error(StageError::Logfmt, &problem.message());
            }
            Err(_) => continue,
        };
        key.clear();
        push_key(key, pair.key);
        let own = fields
            .iter()
            .map(|field| field.label)
            .find(|label| row.names.text(*label) == key);
        if own.is_none() && !row.wants_name(key) {
            continue;
        }
        let of_key = fields.iter().find(|field| *field.key == **key);
        let Some(label) = of_key.map(|field| field.label).or(own) else {
            continue;
        };
        let label = match row.is_taken(label) {
            false => label,
            true => {
                let extracted = row.names.extracted(label);
                if !row.may_parse(extracted) {
                    break;
                }
                extracted
            }
        };
        match clean_text(pair.value).is_some() {
            true => set(row, label, &pair),
            false => row.set(Category::Parsed, label, ""),
        }
        if row.wants_no_more() {
            break;
        }
    }
}

/// Keys and values as they stand in the line; `None` for a pair that is wrong.
pub(super) fn pairs(line: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut scanner = Scanner { line, at: 0 };
    std::iter::from_fn(move || {
        let pair = scanner.next()?;
        Some(pair.ok().map(|pair| (pair.key, pair.value)))
    })
}

fn label_of(row: &mut Row, raw: &[u8], key: &mut String) -> Option<NameId> {
    match row.parsed_key(raw) {
        Key::Name(id) => return Some(id),
        Key::Unwanted => return None,
        Key::Unclean => {}
    }
    key.clear();
    push_key(key, raw);
    match key.is_empty() {
        true => None,
        false => row.parsed_name_of(key),
    }
}

fn push_key(key: &mut String, raw: &[u8]) {
    match std::str::from_utf8(raw) {
        Ok(text) => sanitize_into(key, text, true),
        Err(_) => sanitize_into(key, &String::from_utf8_lossy(raw), true),
    }
}

fn set(row: &mut Row, id: NameId, pair: &Pair<'_>) {
    let start = row.text_mut().len();
    match pair.escaped {
        true => {
            let text = row.text_mut();
            unquote(pair.value, |part| push_clean(text, part));
        }
        false => push_clean(row.text_mut(), pair.value),
    }
    row.set_from(Category::Parsed, id, start);
}

/// What is wrong with a pair, and at which byte.
#[derive(Clone, Copy)]
struct Problem {
    place: usize,
    what: &'static str,
}

impl Problem {
    /// Counts bytes from 1.
    fn message(self) -> String {
        format!(
            "logfmt syntax error at pos {} : {}",
            self.place + 1,
            self.what
        )
    }
}

impl<'a> Scanner<'a> {
    /// The next pair, or what is wrong with it; `None` at the end of the line.
    fn next(&mut self) -> Option<Result<Pair<'a>, Problem>> {
        let line = self.line;
        while line.get(self.at).is_some_and(|b| *b <= b' ') {
            self.at += 1;
        }
        let start = self.at;
        let rest = line.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest
            .iter()
            .position(|b| *b <= b' ' || matches!(b, b'=' | b'"'))
            .unwrap_or(rest.len());
        let key = &rest[..length];
        self.at += length;
        match rest.get(length) {
            Some(b'=') if !key.is_empty() => {
                if !is_valid_key(key) {
                    return Some(Err(self.fail(self.at, "invalid key")));
                }
                self.at += 1;
                Some(self.value(key))
            }
            Some(byte @ (b'=' | b'"')) => Some(Err(self.unexpected(*byte))),
            _ if !is_valid_key(key) => Some(Err(self.fail(self.at, "invalid key"))),
            _ => Some(Ok(Pair {
                key,
                value: &[],
                escaped: false,
            })),
        }
    }

    fn value(&mut self, key: &'a [u8]) -> Result<Pair<'a>, Problem> {
        let rest = &self.line[self.at..];
        if rest.first() == Some(&b'"') {
            return self.quoted(key);
        }
        let length = rest
            .iter()
            .position(|b| *b <= b' ' || matches!(b, b'=' | b'"'))
            .unwrap_or(rest.len());
        self.at += length;
        match rest.get(length) {
            Some(byte @ (b'=' | b'"')) => Err(self.unexpected(*byte)),
            _ => Ok(Pair {
                key,
                value: &rest[..length],
                escaped: false,
            }),
        }
    }

    fn quoted(&mut self, key: &'a [u8]) -> Result<Pair<'a>, Problem> {
        let open = self.at;
        let mut at = open + 1;
        let mut escaped = false;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &self.line[at..]) {
            at += found;
            if self.line[at] == b'"' {
                self.at = at + 1;
                let value = &self.line[open + 1..at];
                if escaped && !unquote(value, |_| {}) {
                    return Err(Problem {
                        place: self.at,
                        what: "invalid quoted value",
                    });
                }
                return Ok(Pair {
                    key,
                    value,
                    escaped,
                });
            }
            escaped = true;
            at = (at + 2).min(self.line.len());
        }
        self.at = self.line.len();
        Err(self.fail(self.at, "unterminated quoted value"))
    }

    fn unexpected(&mut self, byte: u8) -> Problem {
        let what = match byte {
            b'"' => "unexpected '\"'",
            _ => "unexpected '='",
        };
        self.fail(self.at, what)
    }

    /// Leaves out the rest of the word.
    fn fail(&mut self, place: usize, what: &'static str) -> Problem {
        while self.line.get(self.at).is_some_and(|b| *b > b' ') {
            self.at += 1;
        }
        Problem { place, what }
    }
}

fn is_valid_key(key: &[u8]) -> bool {
    key.is_ascii() || clean_text(key).is_some()
}

/// Gives the parts of a text between quotes with its escapes resolved; false if an escape is
/// wrong.
fn unquote(text: &[u8], mut part: impl FnMut(&[u8])) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        part(&rest[..at]);
        let behind = &rest[at + 1..];
        let (character, length) = match behind {
            [b'\'', ..] => ('\'', 1),
            _ => match escape(behind) {
                Some(found) => found,
                // Half of a pair: a character that is none.
                None if half_pair(behind) => (' ', 5),
                None => return false,
            },
        };
        part(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &behind[length..];
    }
    part(rest);
    true
}

fn half_pair(behind: &[u8]) -> bool {
    behind.first() == Some(&b'u')
        && behind
            .get(1..5)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}
