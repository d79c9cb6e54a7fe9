//! `json a="x.y[0]"`: chosen places of a document.

use super::json_scan::{JsonValue, Scanner, unescape_into};
use super::row::{Category, Row, StageError};
use super::{CompileError, names::NameId};

/// Longest path, in steps.
const STEPS_MAX: usize = 256;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Member(Box<str>),
    Index(usize),
}

/// A label and where its value stands.
#[derive(Clone, Debug)]
pub(super) struct JsonField {
    pub(super) label: NameId,
    pub(super) path: Vec<PathStep>,
}

/// Reads a path: `a.b[0]["c d"]`.
pub(super) fn parse_path(text: &str) -> Result<Vec<PathStep>, CompileError> {
    let wrong = || CompileError::JsonPath(text.to_owned());
    let mut steps = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return Err(wrong());
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let (step, tail) = bracket(inside).ok_or_else(wrong)?;
            steps.push(step);
            rest = tail;
            continue;
        }
        let dotted = rest.strip_prefix('.');
        if dotted.is_some() == steps.is_empty() {
            return Err(wrong());
        }
        let name = dotted.unwrap_or(rest);
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (member, tail) = name.split_at(end);
        if !is_path_name(member) {
            return Err(wrong());
        }
        steps.push(PathStep::Member(member.into()));
        rest = tail;
    }
    match steps.is_empty() {
        true => Err(wrong()),
        false => Ok(steps),
    }
}

/// What stands between `[` and `]`, and the text after.
fn bracket(inside: &str) -> Option<(PathStep, &str)> {
    if !inside.starts_with('"') {
        let (index, tail) = inside.split_once(']')?;
        return Some((PathStep::Index(index.trim().parse().ok()?), tail));
    }
    // Without escapes: the name ends at the next quote.
    let (name, tail) = inside[1..].split_once('"')?;
    let tail = tail.trim_start().strip_prefix(']')?;
    Some((PathStep::Member(name.into()), tail))
}

fn is_path_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Sets each field to the value at its place, or to nothing. A line that is not JSON sets
/// `JSONParserErr`.
pub(super) fn parse(row: &mut Row, line: &[u8], fields: &[JsonField]) {
    if line.is_empty() || row.wants_no_more() {
        return;
    }
    if !matches!(Scanner::new(line).peek(), Some(b'{' | b'"' | b'[')) {
        return row.set_parser_error(StageError::Json, "");
    }
    for field in fields {
        let Ok(value) = lookup(line, &field.path) else {
            row.set_parser_error(StageError::Json, "Malformed JSON error");
            continue;
        };
        let label = match row.is_taken(field.label) {
            true => row.names.extracted(field.label),
            false => field.label,
        };
        let start = row.text_mut().len();
        match value {
            Some(JsonValue::Text(text, escaped)) => unescape_into(row.text_mut(), text, escaped),
            Some(JsonValue::Plain(text) | JsonValue::Object(text)) => {
                super::convert::push_clean(row.text_mut(), text);
            }
            // As in Loki, escapes of texts inside are resolved.
            Some(JsonValue::Array(text)) => {
                unescape_into(row.text_mut(), text, text.contains(&b'\\'));
            }
            Some(JsonValue::Null) => {}
            None => {
                if row.get(field.label).is_none() {
                    row.set(Category::Parsed, field.label, "");
                }
                continue;
            }
        }
        row.set_from(Category::Parsed, label, start);
    }
}

/// The value at a path; `None` if there is no such place.
fn lookup<'a>(
    document: &'a [u8],
    path: &[PathStep],
) -> Result<Option<JsonValue<'a>>, super::json_scan::JsonError> {
    let mut here = Scanner::new(document);
    for step in path {
        let found = match step {
            PathStep::Member(name) => enter_member(&mut here, name)?,
            PathStep::Index(index) => enter_index(&mut here, *index)?,
        };
        if !found {
            return Ok(None);
        }
    }
    here.value().map(Some)
}

fn enter_member(here: &mut Scanner<'_>, wanted: &str) -> Result<bool, super::json_scan::JsonError> {
    if !here.take(b'{') {
        return Ok(false);
    }
    let mut first = true;
    let mut name = String::new();
    while let Some((key, escaped)) = here.member(first)? {
        first = false;
        let same = match escaped {
            false => key == wanted.as_bytes(),
            true => {
                name.clear();
                unescape_into(&mut name, key, true);
                name == wanted
            }
        };
        if same {
            return Ok(true);
        }
        here.value()?;
    }
    Ok(false)
}

fn enter_index(here: &mut Scanner<'_>, index: usize) -> Result<bool, super::json_scan::JsonError> {
    if !here.take(b'[') {
        return Ok(false);
    }
    for _ in 0..index {
        if here.peek() == Some(b']') {
            return Ok(false);
        }
        here.value()?;
        if !here.take(b',') {
            return Ok(false);
        }
    }
    Ok(here.peek().is_some_and(|byte| byte != b']'))
}
