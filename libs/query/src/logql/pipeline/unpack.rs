//! `unpack`: undoes the `pack` stage of the agents. `_entry` becomes the line, the other texts
//! become labels.

use super::json_scan::{JsonError, JsonValue, Scanner, unescape_into};
use super::label_filter::Place;
use super::names::sanitize_into;
use super::row::{Category, Row, StageError};

const ENTRY: &str = "_entry";

/// Texts of one packed line; kept between rows for its memory.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    texts: String,
    /// End of key and end of value in `texts`.
    pairs: Vec<(usize, usize)>,
    entry: String,
}

/// Sets labels and gives the new line, if the line is a packed one. A line that is not a JSON
/// object sets `JSONParserErr`.
pub(super) fn unpack<'s>(row: &mut Row, line: &[u8], scratch: &'s mut Unpacked) -> Option<&'s str> {
    // As in Loki, nothing is unpacked when nobody wants labels, not even the line.
    if line.is_empty() || row.wants_no_more() {
        return None;
    }
    let packed = match read(line, scratch) {
        Ok(packed) => packed,
        Err(details) => {
            row.set_parser_error(StageError::Json, details);
            return None;
        }
    };
    if !packed {
        return None;
    }
    // Names first: of equal keys the last one counts, unlike in other parsers.
    let mut start = 0;
    let mut ids = Vec::with_capacity(scratch.pairs.len());
    for (key_end, end) in &scratch.pairs {
        ids.push(row.parsed_name_of(&scratch.texts[start..*key_end]));
        start = *end;
    }
    for (id, (key_end, end)) in ids.into_iter().zip(&scratch.pairs) {
        let Some(id) = id else { continue };
        row.set(Category::Parsed, id, &scratch.texts[*key_end..*end]);
        if !row.passes_early(Place::Label(id)) {
            break;
        }
    }
    Some(&scratch.entry)
}

/// Reads all texts of the object; true if `_entry` was among them.
fn read(line: &[u8], scratch: &mut Unpacked) -> Result<bool, &'static str> {
    scratch.texts.clear();
    scratch.pairs.clear();
    scratch.entry.clear();
    if line.first() != Some(&b'{') {
        return Err("expecting json object(6), but it is not");
    }
    let mut scanner = Scanner::new(line);
    scanner.take(b'{');
    let mut packed = false;
    let mut first = true;
    let mut name = String::new();
    while let Some((key, escaped)) = scanner.member(first).map_err(JsonError::as_str)? {
        first = false;
        let JsonValue::Text(value, value_escaped) = scanner.value().map_err(JsonError::as_str)?
        else {
            continue;
        };
        name.clear();
        unescape_into(&mut name, key, escaped);
        if name == ENTRY {
            packed = true;
            scratch.entry.clear();
            unescape_into(&mut scratch.entry, value, value_escaped);
            continue;
        }
        sanitize_into(&mut scratch.texts, &name, true);
        let key_end = scratch.texts.len();
        unescape_into(&mut scratch.texts, value, value_escaped);
        scratch.pairs.push((key_end, scratch.texts.len()));
    }
    Ok(packed)
}
