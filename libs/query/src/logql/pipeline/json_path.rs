//! `json a="x.y[0]"`: chosen places of a document.

use super::json_scan::{JsonError, JsonValue, Scanner, unescape_into};
use super::names::NameId;
use super::path::PathStep;
use super::row::{Category, Row, StageError};

/// A label and where its value stands.
#[derive(Clone, Debug)]
pub(super) struct JsonField {
    pub(super) label: NameId,
    pub(super) path: Vec<PathStep>,
}

/// Sets each field to the value at its place, or to nothing. As in Loki, a line is only looked
/// through until all fields are found: what is wrong with it is an error (`JSONParserErr`) if it
/// starts like no JSON or if a wanted value itself is wrong.
pub(super) fn parse(row: &mut Row, line: &[u8], fields: &[JsonField]) {
    if line.is_empty() || row.wants_no_more() {
        return;
    }
    if !matches!(line.first(), Some(b'{' | b'"' | b'[')) {
        return row.set_parser_error(StageError::Json, "");
    }
    let mut found = 0;
    let mut walk = Walk {
        line,
        fields,
        at: 0,
        names: Vec::new(),
        level: 0,
        done: vec![false; fields.len()],
        left: fields.len(),
    };
    walk.run(&mut |field, value| match value {
        Ok(value) => {
            found += 1;
            set(row, field, value);
        }
        Err(error) => row.set_parser_error(StageError::Json, error.as_str()),
    });
    if found < fields.len() {
        for field in fields {
            if row.get(field.label).is_none() {
                row.set(Category::Parsed, field.label, "");
            }
        }
    }
}

fn set(row: &mut Row, field: &JsonField, value: JsonValue<'_>) {
    let label = match row.is_taken(field.label) {
        true => row.names.extracted(field.label),
        false => field.label,
    };
    let start = row.text_mut().len();
    match value {
        JsonValue::Text(text, escaped) => unescape_into(row.text_mut(), text, escaped),
        JsonValue::Plain(text) | JsonValue::Object(text) => {
            super::convert::push_clean(row.text_mut(), text);
        }
        // As in Loki, escapes of texts inside are resolved.
        JsonValue::Array(text) => {
            unescape_into(row.text_mut(), text, text.contains(&b'\\'));
        }
        JsonValue::Null => {}
    }
    row.set_from(Category::Parsed, label, start);
}

/// What is called with the fields that are found, and with those whose value is wrong.
type Found<'f, 'a> = &'f mut dyn FnMut(&JsonField, Result<JsonValue<'a>, JsonError>);

/// A pass over a document that looks at each key once.
struct Walk<'a, 'q> {
    line: &'a [u8],
    fields: &'q [JsonField],
    at: usize,
    /// Keys of the objects around, and of the last member of the innermost one.
    names: Vec<String>,
    /// How many braces and looked-through brackets are open.
    level: i64,
    done: Vec<bool>,
    left: usize,
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, found: Found<'_, 'a>) {
        let deepest = self.fields.iter().map(|f| f.path.len()).max().unwrap_or(0);
        while let Some(byte) = self.line.get(self.at) {
            self.at += 1;
            let goes_on = match byte {
                b'"' => self.text(deepest, found),
                b'{' => {
                    self.level += 1;
                    true
                }
                b'}' | b']' => {
                    self.level -= 1;
                    true
                }
                b'[' => self.array(found),
                _ => true,
            };
            if !goes_on || self.left == 0 {
                return;
            }
        }
    }

    /// A text whose opening quote was taken; a key if a colon follows. False ends the walk.
    fn text(&mut self, deepest: usize, found: Found<'_, 'a>) -> bool {
        let mut scanner = Scanner::new(&self.line[self.at..]);
        let Ok((key, escaped)) = scanner.text() else {
            return false;
        };
        let end = self.at + scanner.position();
        match scanner.peek() {
            None => return false,
            Some(b':') => {}
            Some(_) => {
                self.at = end;
                return true;
            }
        }
        scanner.take(b':');
        self.at += scanner.position();
        let level = match usize::try_from(self.level) {
            Ok(level) if level > deepest => return true,
            Ok(level) if level > 0 => level,
            _ => {
                if let Some(field) = self.fields.first() {
                    found(field, Err(JsonError::Malformed));
                }
                return false;
            }
        };
        let mut name = String::new();
        unescape_into(&mut name, key, escaped);
        self.names.resize(level, String::new());
        self.names[level - 1] = name;
        for at in 0..self.fields.len() {
            let field = &self.fields[at];
            if !self.done[at] && field.path.len() == level && self.is_inside(field, level) {
                self.done[at] = true;
                self.left -= 1;
                found(field, Scanner::new(&self.line[self.at..]).value());
            }
        }
        true
    }

    /// Whether the first steps of the field's path lead to where the walk is.
    fn is_inside(&self, field: &JsonField, level: usize) -> bool {
        let names = self.names.iter().take(level);
        names.len() == level
            && field
                .path
                .iter()
                .zip(names)
                .all(|(step, name)| matches!(step, PathStep::Member(member) if **member == **name))
    }

    /// An array whose `[` was taken: skipped, unless a field has its place in it. False ends the
    /// walk.
    fn array(&mut self, found: Found<'_, 'a>) -> bool {
        let Ok(level) = usize::try_from(self.level) else {
            if let Some(field) = self.fields.first() {
                found(field, Err(JsonError::Malformed));
            }
            return false;
        };
        let wanted: Vec<usize> = (0..self.fields.len())
            .filter(|at| {
                let field = &self.fields[*at];
                !self.done[*at]
                    && matches!(field.path.get(level), Some(PathStep::Index(_)))
                    && self.is_inside(field, level)
            })
            .collect();
        let start = self.at - 1;
        let mut scanner = Scanner::new(&self.line[start..]);
        if wanted.is_empty() {
            let skipped = scanner.value();
            self.at = start + scanner.position();
            return skipped.is_ok();
        }
        self.level += 1;
        scanner.take(b'[');
        for index in 0.. {
            if scanner.peek() == Some(b']') {
                break;
            }
            let Ok(element) = scanner.value() else { break };
            for &at in &wanted {
                let field = &self.fields[at];
                if field.path.get(level) == Some(&PathStep::Index(index)) {
                    self.done[at] = true;
                    self.left -= 1;
                    if let Some(value) = inside(element, &field.path[level + 1..]) {
                        found(field, Ok(value));
                    }
                }
            }
            if !scanner.take(b',') {
                break;
            }
        }
        self.at = start + scanner.position();
        true
    }
}

/// The value at a path inside an element of an array.
fn inside<'a>(element: JsonValue<'a>, path: &[PathStep]) -> Option<JsonValue<'a>> {
    match element {
        element if path.is_empty() => Some(element),
        JsonValue::Object(text) | JsonValue::Array(text) => lookup(text, path).ok().flatten(),
        _ => None,
    }
}

/// The value at a path; `None` if there is no such place.
fn lookup<'a>(document: &'a [u8], path: &[PathStep]) -> Result<Option<JsonValue<'a>>, JsonError> {
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

fn enter_member(here: &mut Scanner<'_>, wanted: &str) -> Result<bool, JsonError> {
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

fn enter_index(here: &mut Scanner<'_>, index: usize) -> Result<bool, JsonError> {
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
