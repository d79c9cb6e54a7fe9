//! `json`: every member of an object as a label, nested names joined by `_`.

use super::json_scan::{JsonError, JsonValue, Scanner, unescape_into};
use super::label_filter::Place;
use super::names::{NameId, sanitize_into};
use super::row::{Category, Key, Row, StageError};

/// Objects nested deeper than this are left out, so that the stack is bounded.
const DEPTH_MAX: usize = 256;

/// Why the walk ended.
enum End {
    /// Nobody wants anything that may still come.
    Enough,
    Wrong(JsonError),
}

/// Reads the line's members into the row. A line that is not an object sets `JSONParserErr`; the
/// members before the place that is wrong are kept.
pub(super) fn parse(row: &mut Row, line: &[u8], key: &mut String) {
    if row.wants_no_more() {
        return;
    }
    key.clear();
    let mut scanner = Scanner::new(line);
    let end = match scanner.take(b'{') {
        true => object(row, &mut scanner, key, 0),
        false => Err(End::Wrong(JsonError::Object)),
    };
    if let Err(End::Wrong(error)) = end {
        row.set_parser_error(StageError::Json, error.as_str());
    }
}

/// The members of an object whose `{` was taken; `key` holds the name of the object.
fn object(
    row: &mut Row,
    scanner: &mut Scanner<'_>,
    key: &mut String,
    depth: usize,
) -> Result<(), End> {
    let prefix = key.len();
    let mut first = true;
    while let Some((name, escaped)) = scanner.member(first).map_err(End::Wrong)? {
        first = false;
        let is_whole_key = prefix == 0 && !escaped;
        match scanner.value().map_err(End::Wrong)? {
            JsonValue::Object(members) => {
                push_name(key, name, escaped);
                if depth < DEPTH_MAX && row.wants_prefix(key) {
                    // A scanner of its own: the object ends where its braces do.
                    let mut inner = Scanner::new(members);
                    inner.take(b'{');
                    object(row, &mut inner, key, depth + 1)?;
                }
            }
            value @ (JsonValue::Text(..) | JsonValue::Plain(_)) => {
                let known = match is_whole_key {
                    true => row.parsed_key(name),
                    false => Key::Unclean,
                };
                let id = match known {
                    Key::Name(id) => Some(id),
                    Key::Unwanted => None,
                    Key::Unclean => {
                        push_name(key, name, escaped);
                        match key.is_empty() {
                            true => None,
                            false => row.parsed_name_of(key),
                        }
                    }
                };
                if let Some(id) = id {
                    set(row, id, value)?;
                }
            }
            JsonValue::Null | JsonValue::Array(_) => {}
        }
        key.truncate(prefix);
    }
    Ok(())
}

fn set(row: &mut Row, id: NameId, value: JsonValue<'_>) -> Result<(), End> {
    let start = row.text_mut().len();
    match value {
        JsonValue::Text(text, escaped) => unescape_into(row.text_mut(), text, escaped),
        JsonValue::Plain(text) => super::convert::push_clean(row.text_mut(), text),
        _ => {}
    }
    row.set_from(Category::Parsed, id, start);
    match !row.passes_early(Place::Label(id)) || row.wants_no_more() {
        true => Err(End::Enough),
        false => Ok(()),
    }
}

/// Appends a name behind those of the objects around it; a blank one adds nothing.
fn push_name(key: &mut String, name: &[u8], escaped: bool) {
    let mut clean = String::new();
    let text = match std::str::from_utf8(name) {
        Ok(text) if !escaped => text,
        _ => {
            unescape_into(&mut clean, name, escaped);
            &clean
        }
    };
    if text.trim().is_empty() {
        return;
    }
    let first = key.is_empty();
    if !first {
        key.push('_');
    }
    sanitize_into(key, text, first);
}
