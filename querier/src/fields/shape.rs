//! What the parsers make of all lines of a template, found out by parsing one.
//!
//! The variables of a template are tokens: letters, digits, `_` and what is not ASCII, between other
//! bytes. None of these has a meaning to the parsers inside of a text, so a variable can change what
//! a line is made of in these ways only: as a part of a key, as the beginning of a JSON value without
//! quotes, and behind a backslash. The text of a template has no digit. So a line in which each
//! variable is a number of its own tells, wherever digits come out, which variable that is.

use query::logql::pipeline::RowLabels;

use super::field::Parser;
use super::found::is_error;
use super::parsers::Parsers;

/// What stands for the first variable; each next one has the next number. Templates have at most
/// 128, so all are equally long.
const FIRST_MARKER: usize = 1000;
const MARKER_BYTES: usize = 4;

/// The text of a template, and where its variables stand.
#[derive(Clone, Copy)]
pub(super) struct Template<'a> {
    pub(super) text: &'a [u8],
    pub(super) slots: &'a [u32],
}

/// Variables on which it depends which fields a line has.
#[derive(Debug, Default)]
pub(super) struct Deciding {
    /// In keys.
    pub(super) keys: Vec<usize>,
    /// At the beginning of JSON values without quotes; whether they are the whole value.
    pub(super) bare: Vec<(usize, bool)>,
}

/// The fields of all lines of a template in which the deciding variables have certain values.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) parser: Parser,
    pub(super) fields: Vec<Made>,
}

impl Shape {
    /// What its fields take in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let parts = |made: &Made| -> usize {
            let parts = made.parts.iter().map(|part| match part {
                Part::Text(text) => size_of::<Part>() + text.len(),
                Part::Slot(_) => size_of::<Part>(),
            });
            size_of::<Made>() + made.name.len() + parts.sum::<usize>()
        };
        self.fields.iter().map(parts).sum::<usize>() as u64
    }
}

/// A field, and what its values are put together of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) name: Box<str>,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    Slot(usize),
}

/// The values that deciding variables have, by slot.
pub(super) type Fixed<'a> = [Option<&'a [u8]>];

/// The text that stands for a variable.
pub(super) fn marker(slot: usize) -> [u8; MARKER_BYTES] {
    let mut number = FIRST_MARKER + slot;
    let mut digits = [0; MARKER_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

impl<'a> Template<'a> {
    /// The line with these values of the variables.
    pub(super) fn line(&self, mut value: impl FnMut(usize, &mut Vec<u8>)) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.text.len() + 8 * self.slots.len());
        let mut at = 0;
        for (number, slot) in self.slots.iter().enumerate() {
            line.extend_from_slice(&self.text[at..*slot as usize]);
            value(number, &mut line);
            at = *slot as usize;
        }
        line.extend_from_slice(&self.text[at..]);
        line
    }

    /// The line with markers for the variables that are not fixed.
    pub(super) fn marked(&self, fixed: &Fixed<'_>) -> Vec<u8> {
        self.line(|slot, line| match fixed.get(slot).copied().flatten() {
            Some(value) => line.extend_from_slice(value),
            None => line.extend_from_slice(&marker(slot)),
        })
    }

    pub(super) fn is_json(&self) -> bool {
        let first = self.text.iter().position(|b| !b.is_ascii_whitespace());
        let slot = self.slots.first().map_or(usize::MAX, |slot| *slot as usize);
        first.is_some_and(|first| self.text[first] == b'{' && first < slot)
    }

    /// What it depends on which fields a line has; `None` when that is to be seen from the lines.
    pub(super) fn deciding(&self, parsers: &mut Parsers) -> Option<Deciding> {
        if self.text.iter().any(u8::is_ascii_digit) {
            return None;
        }
        let before = |slot: &u32| (*slot as usize).checked_sub(1).map(|at| self.text[at]);
        if self.slots.iter().any(|slot| before(slot) == Some(b'\\')) {
            return None;
        }
        let line = self.marked(&[]);
        let mut keys = Vec::new();
        if let Some((_, labels)) = parsers.parse(0, &line) {
            for (name, _) in labels.parsed() {
                let parts = parts_of(name, self.slots.len())?;
                keys.extend(parts.into_iter().filter_map(|part| match part {
                    Part::Slot(slot) => Some(slot),
                    Part::Text(_) => None,
                }));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let bare = match self.is_json() {
            true => self.bare(),
            false => Vec::new(),
        };
        Some(Deciding { keys, bare })
    }

    /// Variables with which JSON values without quotes begin: those behind a colon.
    fn bare(&self) -> Vec<(usize, bool)> {
        let mut bare = Vec::new();
        let mut slots = self.slots.iter().map(|slot| *slot as usize).peekable();
        let (mut quoted, mut escaped, mut before) = (false, false, b' ');
        for at in 0..=self.text.len() {
            if slots.next_if_eq(&at).is_some() {
                if !quoted && before == b':' {
                    let next = self.text.get(at).copied().unwrap_or(b' ');
                    let whole = matches!(next, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']');
                    let slot = self.slots.len() - slots.len() - 1;
                    bare.push((slot, whole));
                }
                before = b'0';
            }
            let Some(byte) = self.text.get(at).copied() else {
                break;
            };
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                before = byte;
            }
        }
        bare
    }

    /// The fields of lines in which the deciding variables are fixed to these values; `None` when
    /// they are to be seen from the lines.
    pub(super) fn shape(&self, parsers: &mut Parsers, fixed: &Fixed<'_>) -> Option<Shape> {
        let line = self.marked(fixed);
        let Some((parser, labels)) = parsers.parse(0, &line) else {
            return Some(Shape {
                parser: Parser::Logfmt,
                fields: Vec::new(),
            });
        };
        let fields = fields_of(&labels, self.slots.len())?;
        Some(Shape { parser, fields })
    }
}

fn fields_of(labels: &RowLabels<'_>, slots: usize) -> Option<Vec<Made>> {
    let made = |(name, value): (&str, &str)| {
        let parts = parts_of(value, slots)?;
        let name = name.into();
        Some(Made { name, parts })
    };
    // A key with the name of an error is no field, as in Loki.
    let parsed = labels.parsed().filter(|(name, _)| !is_error(name));
    parsed.map(made).collect()
}

/// Takes a text apart at the markers; `None` if other digits are in it.
fn parts_of(text: &str, slots: usize) -> Option<Vec<Part>> {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_digit) {
        if at > 0 {
            parts.push(Part::Text(rest[..at].into()));
        }
        let digits = &rest[at..];
        let end = digits.find(|c| !is_digit(c)).unwrap_or(digits.len());
        let number: usize = digits[..end].parse().ok()?;
        let slot = number.checked_sub(FIRST_MARKER)?;
        if end != MARKER_BYTES || slot >= slots {
            return None;
        }
        parts.push(Part::Slot(slot));
        rest = &digits[end..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use query::logql::ast::Stage;
    use query::logql::pipeline::Pipeline;

    use super::*;

    fn parsers() -> Parsers {
        let logfmt = Stage::Logfmt {
            strict: false,
            keep_empty: false,
            fields: Vec::new(),
        };
        let compile = |stage| Pipeline::compile(&[stage], None).unwrap();
        Parsers::new(&compile(Stage::Json(Vec::new())), &compile(logfmt))
    }

    /// A line with `<>` for its variables.
    fn template(line: &str) -> (Vec<u8>, Vec<u32>) {
        let (mut text, mut slots) = (Vec::new(), Vec::new());
        for (at, part) in line.split("<>").enumerate() {
            if at > 0 {
                slots.push(text.len() as u32);
            }
            text.extend_from_slice(part.as_bytes());
        }
        (text, slots)
    }

    /// Fields with `<0>`, `<1>`, … for variables.
    fn fields(line: &str) -> Vec<String> {
        let (text, slots) = template(line);
        let template = Template {
            text: &text,
            slots: &slots,
        };
        let shape = template.shape(&mut parsers(), &vec![None; slots.len()]);
        let part = |part: &Part| match part {
            Part::Text(text) => text.to_string(),
            Part::Slot(slot) => format!("<{slot}>"),
        };
        let field = |made: Made| {
            let parts: Vec<String> = made.parts.iter().map(part).collect();
            format!("{}={}", made.name, parts.concat())
        };
        shape.unwrap().fields.into_iter().map(field).collect()
    }

    #[test]
    fn a_template_tells_what_its_lines_are_made_of() {
        for (line, want) in [
            (
                r#"{"a":"x <>-<>","b":{"c":<>.<>}}"#,
                vec!["a=x <0>-<1>", "b_c=<2>.<3>"],
            ),
            (r#"{"a":[<>],"b":"\"<>"}"#, vec![r#"b="<1>"#]),
            ("<> took=<>ms <>", vec!["took=<1>ms"]),
            ("no pair <>", vec![]),
        ] {
            assert_eq!(fields(line), want, "{line}");
        }
    }

    #[test]
    fn keys_and_values_without_quotes_decide() {
        for (line, want) in [
            (
                r#"{"a<>":<>,"b":"<>","c": <>.<>}"#,
                Some((vec![0], vec![(1, true), (3, false)])),
            ),
            ("<>=<> a=<>", Some((vec![0], vec![]))),
            (r#"{"a":"\<>"}"#, None),
        ] {
            let (text, slots) = template(line);
            let template = Template {
                text: &text,
                slots: &slots,
            };
            let deciding = template.deciding(&mut parsers());
            let found = deciding.map(|deciding| (deciding.keys, deciding.bare));
            assert_eq!(found, want, "{line}");
        }
    }
}
