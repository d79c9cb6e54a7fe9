//! JSON straight into a buffer: an answer is written once, front to back, and never built as a tree.

use model::Labels;

/// A JSON text under way. Commas are put where they belong; brackets are the caller's.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
    /// Whether the next value or key follows another one at its level.
    follows: bool,
}

impl Json {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Json {
            out: Vec::with_capacity(bytes),
            follows: false,
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// `{` … `}`
    pub(crate) fn object(&mut self, inside: impl FnOnce(&mut Json)) {
        self.nest(b'{', b'}', inside);
    }

    /// `[` … `]`
    pub(crate) fn array(&mut self, inside: impl FnOnce(&mut Json)) {
        self.nest(b'[', b']', inside);
    }

    fn nest(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Json)) {
        self.separate();
        self.out.push(open);
        self.follows = false;
        inside(self);
        self.out.push(close);
        self.follows = true;
    }

    fn separate(&mut self) {
        if self.follows {
            self.out.push(b',');
        }
        self.follows = true;
    }

    /// `"name":`
    pub(crate) fn key(&mut self, name: &str) -> &mut Json {
        self.separate();
        self.quoted(name.as_bytes(), false);
        self.out.push(b':');
        self.follows = false;
        self
    }

    /// A text.
    pub(crate) fn string(&mut self, text: &str) {
        self.separate();
        self.quoted(text.as_bytes(), false);
    }

    /// A log line: `<`, `>`, `&` and the two line separators of Unicode are escaped as Loki does, and
    /// bytes that are no UTF-8 become U+FFFD.
    pub(crate) fn line(&mut self, line: &[u8]) {
        self.separate();
        self.quoted(line, true);
    }

    /// A whole number.
    pub(crate) fn int(&mut self, value: impl Into<i128>) {
        self.raw(&value.into().to_string());
    }

    /// A float as a JSON number; what JSON cannot say becomes 0.
    pub(crate) fn float(&mut self, value: f64) {
        self.raw(&format_float(if value.is_finite() { value } else { 0.0 }));
    }

    /// A float as a text, the way Prometheus writes sample values.
    pub(crate) fn sample(&mut self, value: f64) {
        self.string(&format_float(value));
    }

    /// A time as float seconds, to the millisecond.
    pub(crate) fn seconds(&mut self, nanos: i64) {
        let millis = nanos.div_euclid(1_000_000);
        let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
        let (seconds, fraction) = (millis / 1000, millis % 1000);
        if fraction == 0 {
            self.raw(&format!("{sign}{seconds}"));
        } else {
            let fraction = format!("{fraction:03}");
            let fraction = fraction.trim_end_matches('0');
            self.raw(&format!("{sign}{seconds}.{fraction}"));
        }
    }

    /// A time as a text of nanoseconds.
    pub(crate) fn nanos(&mut self, nanos: i64) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(nanos.to_string().as_bytes());
        self.out.push(b'"');
    }

    /// `true`, `null`, a number: text that is JSON already.
    pub(crate) fn raw(&mut self, json: &str) {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Labels as an object of texts.
    pub(crate) fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        self.object(|json| {
            for (name, value) in labels {
                json.key(name).string(value);
            }
        });
    }

    /// A stream's labels as an object of texts.
    pub(crate) fn label_set(&mut self, labels: &Labels) {
        self.labels(labels.iter());
    }

    fn quoted(&mut self, bytes: &[u8], html: bool) {
        self.out.push(b'"');
        for chunk in bytes.utf8_chunks() {
            self.escaped(chunk.valid(), html);
            if !chunk.invalid().is_empty() {
                self.out.extend_from_slice(b"\\ufffd");
            }
        }
        self.out.push(b'"');
    }

    fn escaped(&mut self, text: &str, html: bool) {
        let bytes = text.as_bytes();
        let mut plain = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 => b"",
                b'<' | b'>' | b'&' if html => b"",
                0xe2 if html && matches!(bytes[at..], [_, 0x80, 0xa8 | 0xa9, ..]) => {
                    self.out.extend_from_slice(&bytes[plain..at]);
                    let escape = [&b"\\u2028"[..], b"\\u2029"][usize::from(bytes[at + 2] & 1)];
                    self.out.extend_from_slice(escape);
                    plain = at + 3;
                    continue;
                }
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[plain..at]);
            plain = at + 1;
            if escape.is_empty() {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let high = HEX[usize::from(byte >> 4)];
                let low = HEX[usize::from(byte & 15)];
                self.out
                    .extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            } else {
                self.out.extend_from_slice(escape);
            }
        }
        self.out.extend_from_slice(&bytes[plain..]);
    }
}

/// The shortest decimal that reads back as the same float, never with an exponent.
pub(crate) fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        String::from(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::default();
        write(&mut json);
        String::from_utf8(json.into_bytes()).unwrap()
    }

    #[test]
    fn floats_are_written_without_exponents() {
        for (value, want) in [
            (1.0, "1"),
            (0.0001, "0.0001"),
            (1e21, "1000000000000000000000"),
            (1e-7, "0.0000001"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_float(value), want);
        }
    }

    #[test]
    fn times_are_seconds_to_the_millisecond() {
        for (nanos, want) in [
            (1_700_000_000_000_000_000, "1700000000"),
            (1_700_000_000_120_000_000, "1700000000.12"),
            (1_700_000_000_001_999_999, "1700000000.001"),
            (-500_000_000, "-0.5"),
        ] {
            assert_eq!(written(|json| json.seconds(nanos)), want);
        }
    }

    #[test]
    fn texts_are_escaped_and_values_separated() {
        let text = written(|json| {
            json.object(|json| {
                json.key("a\n").string("<\"\\\u{1}é");
                json.key("b").array(|json| {
                    json.line("<&>\u{2028}\u{2029}é".as_bytes());
                    json.line(b"\xff\t");
                    json.int(-1);
                    json.object(|_| {});
                });
                json.key("c").raw("null");
            });
        });
        let want = r#"{"a\n":"<\"\\\u0001é","b":["\u003c\u0026\u003e\u2028\u2029é","\ufffd\t",-1,{}],"c":null}"#;
        assert_eq!(text, want);
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
        assert!(parsed.is_ok());
    }
}
