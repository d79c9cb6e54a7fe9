//! A forward scanner over JSON text that never builds a tree and is as lenient as the one Loki
//! uses: numbers are not checked, and what follows the outer object is not looked at.

/// What is wrong with a text that should be JSON, in the words users of Loki know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    Object,
    Array,
    Text,
    UnknownValue,
    Malformed,
    Escape,
}

impl JsonError {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            JsonError::Object => "Value looks like object, but can't find closing '}' symbol",
            JsonError::Array => "Value is array, but can't find closing ']' symbol",
            JsonError::Text => "Value is string, but can't find closing '\"' symbol",
            JsonError::UnknownValue => "Unknown value type",
            JsonError::Malformed => "Malformed JSON error",
            JsonError::Escape => "Encountered an invalid escape sequence in a string",
        }
    }
}

/// A value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonValue<'a> {
    /// Between the quotes, escapes as written; whether there are any.
    Text(&'a [u8], bool),
    /// A number or boolean, as written.
    Plain(&'a [u8]),
    Null,
    /// With its braces.
    Object(&'a [u8]),
    /// With its brackets.
    Array(&'a [u8]),
}

/// A position in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Scanner { bytes, at: 0 }
    }

    /// How many bytes were taken.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not a blank, not taken.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the byte if it is the next one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let same = self.peek() == Some(byte);
        if same {
            self.at += 1;
        }
        same
    }

    /// The next member of an object whose `{` was taken: its key (as a text value) and where its
    /// value starts. `None` at the `}`.
    pub(super) fn member(&mut self, first: bool) -> Result<Option<(&'a [u8], bool)>, JsonError> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !first {
            if !self.take(b',') {
                return Err(match self.peek() {
                    None => JsonError::Array,
                    Some(_) => JsonError::Object,
                });
            }
            // A comma before the end is let pass.
            if self.take(b'}') {
                return Ok(None);
            }
        }
        match self.peek() {
            Some(b'"') => self.at += 1,
            Some(_) => return Err(JsonError::Object),
            None if first => return Err(JsonError::Malformed),
            None => return Err(JsonError::Array),
        }
        let key = self.text().map_err(|_| JsonError::Malformed)?;
        if key.1 && !unescapes(key.0) {
            return Err(JsonError::Escape);
        }
        if !self.take(b':') {
            return Err(JsonError::Malformed);
        }
        Ok(Some(key))
    }

    /// The next value, taken whole.
    pub(super) fn value(&mut self) -> Result<JsonValue<'a>, JsonError> {
        match self.peek() {
            None => Err(JsonError::Malformed),
            Some(b'"') => {
                self.at += 1;
                self.text()
                    .map(|(text, escaped)| JsonValue::Text(text, escaped))
            }
            Some(b'{') => self
                .block(b'{', b'}', JsonError::Object)
                .map(JsonValue::Object),
            Some(b'[') => self
                .block(b'[', b']', JsonError::Array)
                .map(JsonValue::Array),
            Some(_) => self.plain(),
        }
    }

    /// A text whose opening quote was taken; true if it has escapes.
    pub(super) fn text(&mut self) -> Result<(&'a [u8], bool), JsonError> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(JsonError::Text);
            };
            self.at += found;
            if self.bytes[self.at] == b'"' {
                let text = &self.bytes[start..self.at];
                self.at += 1;
                return Ok((text, escaped));
            }
            escaped = true;
            self.at = (self.at + 2).min(self.bytes.len());
        }
    }

    fn block(&mut self, open: u8, close: u8, error: JsonError) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(found) = memchr::memchr3(open, close, b'"', &self.bytes[self.at..]) {
            let byte = self.bytes[self.at + found];
            self.at += found + 1;
            if byte == b'"' {
                self.text().map_err(|_| error)?;
            } else if byte == open {
                depth += 1;
            } else {
                depth -= 1;
                if depth == 0 {
                    return Ok(&self.bytes[start..self.at]);
                }
            }
        }
        Err(error)
    }

    fn plain(&mut self) -> Result<JsonValue<'a>, JsonError> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']'))
            .unwrap_or(rest.len());
        let token = &rest[..length];
        self.at += length;
        match token {
            b"null" => Ok(JsonValue::Null),
            b"true" | b"false" => Ok(JsonValue::Plain(token)),
            [b'0'..=b'9' | b'-', ..] => Ok(JsonValue::Plain(token)),
            _ => Err(JsonError::UnknownValue),
        }
    }
}

/// Whether all escapes of a text are right.
fn unescapes(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        match escape(&rest[at + 1..]) {
            Some((_, length)) => rest = &rest[at + 1 + length..],
            None => return false,
        }
    }
    true
}

/// Appends the text between two quotes with its escapes resolved; nothing if one is wrong.
pub(super) fn unescape_into(out: &mut String, text: &[u8], escaped: bool) {
    if !escaped {
        return super::convert::push_clean(out, text);
    }
    let start = out.len();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        super::convert::push_clean(out, &rest[..at]);
        match escape(&rest[at + 1..]) {
            Some((character, length)) => {
                out.push(match character {
                    '\u{fffd}' => ' ',
                    character => character,
                });
                rest = &rest[at + 1 + length..];
            }
            None => return out.truncate(start),
        }
    }
    super::convert::push_clean(out, rest);
}

/// The character of an escape whose backslash was taken, and how many bytes follow the backslash.
pub(super) fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex4(&bytes[1..])?;
            if let Some(character) = char::from_u32(high) {
                return Some((character, 5));
            }
            if bytes.get(5) != Some(&b'\\') || bytes.get(6) != Some(&b'u') {
                return None;
            }
            let low = hex4(&bytes[7..])?;
            if !(0xdc00..0xe000).contains(&low) || high >= 0xdc00 {
                return None;
            }
            let character = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?;
            return Some((character, 11));
        }
        _ => return None,
    };
    Some((simple, 1))
}

fn hex4(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.iter().try_fold(0, |value, byte| {
        Some(value * 16 + char::from(*byte).to_digit(16)?)
    })
}
