use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// OTLP's `AnyValue`. Only lists and maps own memory when decoded from protobuf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Empty,
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Value<'a>>),
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Value<'_> {
    /// Appends the value as text: scalars bare, lists and maps as JSON.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Value::Empty => {}
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Double(number) if number.is_nan() => out.extend_from_slice(b"NaN"),
            Value::Double(number) if number.is_infinite() => {
                out.extend_from_slice(if *number > 0.0 { b"+Inf" } else { b"-Inf" });
            }
            Value::Bytes(bytes) => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
            Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::List(_) | Value::Map(_) => {
                self.write_json(out);
            }
        }
    }

    /// Appends the value as JSON in the form that Go's encoder gives it: no white space, keys of a
    /// map sorted, of equal keys the last one, `<`, `>` and `&` escaped.
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Empty => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(number) => write_display(number, out),
            Value::Double(number) if number.is_finite() => write_double(*number, out),
            Value::Text(text) => write_quoted(text, out),
            Value::Double(_) | Value::Bytes(_) => {
                out.push(b'"');
                self.write_text(out);
                out.push(b'"');
            }
            Value::List(values) => {
                out.push(b'[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    value.write_json(out);
                }
                out.push(b']');
            }
            Value::Map(entries) => write_map(entries, out),
        }
    }
}

fn write_map(entries: &[(Cow<'_, str>, Value<'_>)], out: &mut Vec<u8>) {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    let mut first = true;
    for (index, (key, value)) in sorted.iter().enumerate() {
        if sorted.get(index + 1).is_some_and(|next| next.0 == *key) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_quoted(key, out);
        out.push(b':');
        value.write_json(out);
    }
    out.push(b'}');
}

pub(super) fn write_display(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

/// Shortest form; with an exponent below 1e-6 and from 1e21 on.
fn write_double(number: f64, out: &mut Vec<u8>) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => {
                write_display(format_args!("{digits}e+{power}"), out);
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        write_display(number, out);
    }
}

fn write_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        value.write_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn scalars_are_bare() {
        for (value, want) in [
            (Value::Empty, ""),
            (Value::Text("a\"<b".into()), "a\"<b"),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::Double(1.5), "1.5"),
            (Value::Double(3.0), "3"),
            (Value::Double(-0.0), "-0"),
            (Value::Double(1e20), "100000000000000000000"),
            (Value::Double(1e21), "1e+21"),
            (Value::Double(1.25e-9), "1.25e-9"),
            (Value::Double(f64::NAN), "NaN"),
            (Value::Double(f64::NEG_INFINITY), "-Inf"),
            (Value::Bytes(b"\xff\x00"[..].into()), "/wA="),
        ] {
            assert_eq!(text(&value), want);
        }
    }

    #[test]
    fn lists_and_maps_are_json_with_sorted_keys() {
        let value = Value::Map(vec![
            ("z".into(), Value::List(vec![Value::Int(1), Value::Empty])),
            ("a<".into(), Value::Text("x\u{1}\n\u{2028}\"".into())),
            ("m".into(), Value::Bool(false)),
            ("m".into(), Value::Bytes(b"hi"[..].into())),
            ("e".into(), Value::Map(Vec::new())),
        ]);
        assert_eq!(
            text(&value),
            r#"{"a\u003c":"x\u0001\n\u2028\"","e":{},"m":"aGk=","z":[1,null]}"#
        );
    }
}
