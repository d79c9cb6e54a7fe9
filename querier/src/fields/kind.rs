//! What values of a field look like.

use query::logql::pipeline::{parse_bytes, parse_duration, parse_float};

/// The narrowest type that reads all values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Boolean,
    Int,
    Float,
    Duration,
    Bytes,
    Text,
}

impl FieldKind {
    /// The type of one value; an empty one has none.
    pub(super) fn of(value: &str) -> Option<FieldKind> {
        const BOOLEANS: [&str; 10] = [
            "t", "T", "TRUE", "true", "True", "f", "F", "FALSE", "false", "False",
        ];
        if value.is_empty() {
            return None;
        }
        // Numbers begin so; that is cheaper than to hear why another text is none.
        let begins = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b' ');
        let number = value.as_bytes().first().is_some_and(begins);
        let word = matches!(value.as_bytes()[0], b'i' | b'I' | b'n' | b'N');
        Some(if number && value.parse::<i64>().is_ok() {
            FieldKind::Int
        } else if (number || word) && parse_float(value).is_ok() {
            FieldKind::Float
        } else if BOOLEANS.contains(&value) {
            FieldKind::Boolean
        } else if number && parse_duration(value).is_ok() {
            FieldKind::Duration
        } else if number && parse_bytes(value).is_ok() {
            FieldKind::Bytes
        } else {
            FieldKind::Text
        })
    }

    /// The type of values of which some have this one, some the other.
    pub(super) fn and(self, other: FieldKind) -> FieldKind {
        match (self, other) {
            (a, b) if a == b => a,
            (FieldKind::Int, FieldKind::Float) | (FieldKind::Float, FieldKind::Int) => {
                FieldKind::Float
            }
            _ => FieldKind::Text,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            FieldKind::Boolean => "boolean",
            FieldKind::Int => "int",
            FieldKind::Float => "float",
            FieldKind::Duration => "duration",
            FieldKind::Bytes => "bytes",
            FieldKind::Text => "string",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_all(values: &[&str]) -> Option<&'static str> {
        let kinds = values.iter().filter_map(|value| FieldKind::of(value));
        kinds.reduce(FieldKind::and).map(FieldKind::as_str)
    }

    #[test]
    fn kinds_are_the_narrowest_that_fit_all_values() {
        for (values, want) in [
            (&["17"][..], Some("int")),
            (&["17", "-1.5"], Some("float")),
            (&["true", "F"], Some("boolean")),
            (&["1m30s", "", "2ms"], Some("duration")),
            (&["10KB"], Some("bytes")),
            (&["1 GiB", "1B ", "1,000"], Some("bytes")),
            (&["1_000", "0x1p4", "NaN", "-Inf"], Some("float")),
            (&["1d"], Some("string")),
            (&["nil"], Some("string")),
            (&["10KB", "10"], Some("string")),
            (&["ten"], Some("string")),
            (&[""], None),
        ] {
            assert_eq!(of_all(values), want, "{values:?}");
        }
    }
}
