use std::borrow::Cow;

/// Why a text is not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1:{}: parse error: {problem}", at + 1)]
pub struct LabelTextError {
    /// Byte of the text, from 0, at which the trouble starts.
    pub at: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads `{name="value", other='value', third=`value`}`: names of `[a-zA-Z_][a-zA-Z0-9_]*`, values
/// quoted as in Go, white space anywhere between, a trailing comma allowed. Names are not checked
/// for being unique; `{}` gives no pairs.
///
/// # Errors
/// The first place at which the text is something else.
pub fn parse_labels(text: &str) -> Result<Vec<(&str, Cow<'_, str>)>, LabelTextError> {
    let mut scanner = Scanner { text, at: 0 };
    let mut pairs = Vec::new();
    scanner.expect('{')?;
    loop {
        scanner.skip_space();
        if scanner.take('}') {
            break;
        }
        let name = scanner.name()?;
        scanner.expect('=')?;
        let value = scanner.value()?;
        pairs.push((name, value));
        scanner.skip_space();
        if !scanner.take(',') {
            scanner.expect('}')?;
            break;
        }
    }
    scanner.skip_space();
    match scanner.peek() {
        None => Ok(pairs),
        Some(found) => Err(scanner.error(format!("unexpected '{found}' after the last '}}'"))),
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len()
            - self
                .rest()
                .trim_start_matches([' ', '\t', '\n', '\r'])
                .len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), LabelTextError> {
        self.skip_space();
        if self.take(wanted) {
            return Ok(());
        }
        Err(self.unexpected(&format!("'{wanted}'")))
    }

    fn name(&mut self) -> Result<&'a str, LabelTextError> {
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        let name = &rest[..length];
        if !model::is_valid_label_name(name) {
            return Err(self.unexpected("a label name or '}'"));
        }
        self.at += length;
        Ok(name)
    }

    fn value(&mut self) -> Result<Cow<'a, str>, LabelTextError> {
        self.skip_space();
        let start = self.at;
        let Some(quote @ ('"' | '\'' | '`')) = self.peek() else {
            return Err(self.unexpected("a quoted value"));
        };
        self.at += 1;
        let body = self.rest();
        let mut escaped = false;
        for (index, byte) in body.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quote != '`' => escaped = true,
                b'\n' if quote != '`' => break,
                _ if byte == quote as u8 => {
                    let inner = &body[..index];
                    let value = self.unquote(inner, quote)?;
                    self.at = start + index + 2;
                    return Ok(value);
                }
                _ => {}
            }
        }
        self.at = start;
        Err(self.error("the quoted value has no end".to_owned()))
    }

    /// Undoes Go's escapes in the text between two quotes, which starts at `self.at`.
    fn unquote(&self, inner: &'a str, quote: char) -> Result<Cow<'a, str>, LabelTextError> {
        if quote == '`' || !inner.contains('\\') {
            return Ok(Cow::Borrowed(inner));
        }
        let mut bytes = Vec::with_capacity(inner.len());
        let mut at = 0;
        while at < inner.len() {
            let rest = &inner[at..];
            let Some(escape) = rest.strip_prefix('\\') else {
                let plain = rest.find('\\').unwrap_or(rest.len());
                bytes.extend_from_slice(&rest.as_bytes()[..plain]);
                at += plain;
                continue;
            };
            let Some(length) = unescape(escape, quote, &mut bytes) else {
                return Err(LabelTextError {
                    at: self.at + at,
                    problem: "unknown escape in the quoted value".to_owned(),
                });
            };
            at += 1 + length;
        }
        let value = String::from_utf8(bytes).map_err(|_| LabelTextError {
            at: self.at,
            problem: "the quoted value is not UTF-8 once its escapes are undone".to_owned(),
        })?;
        Ok(Cow::Owned(value))
    }

    fn unexpected(&self, wanted: &str) -> LabelTextError {
        match self.peek() {
            Some(found) => self.error(format!("unexpected '{found}', want {wanted}")),
            None => self.error(format!("unexpected end, want {wanted}")),
        }
    }

    fn error(&self, problem: String) -> LabelTextError {
        LabelTextError {
            at: self.at,
            problem,
        }
    }
}

/// Appends what the escape (without its backslash) stands for and returns how long it is.
fn unescape(escape: &str, quote: char, bytes: &mut Vec<u8>) -> Option<usize> {
    let kind = escape.chars().next()?;
    let number = |digits: usize, radix, from: usize| {
        let digits = escape.get(from..from + digits)?;
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        u32::from_str_radix(digits, radix).ok()
    };
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '\'' | '"' if kind == quote => kind as u8,
        'x' => {
            bytes.push(u8::try_from(number(2, 16, 1)?).ok()?);
            return Some(3);
        }
        '0'..='7' => {
            bytes.push(u8::try_from(number(3, 8, 0)?).ok()?);
            return Some(3);
        }
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let character = char::from_u32(number(digits, 16, 1)?)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(1 + digits);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let pairs = parse_labels(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_owned()))
            .collect()
    }

    #[test]
    fn label_sets_of_every_form_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, want) in [
            ("{}", vec![]),
            (" { } ", vec![]),
            (r#"{a="b"}"#, vec![pair("a", "b")]),
            (r#"{a="b",}"#, vec![pair("a", "b")]),
            (
                r#"{ a = "b" , _c1="d" }"#,
                vec![pair("a", "b"), pair("_c1", "d")],
            ),
            (r#"{a="b}c,d"}"#, vec![pair("a", "b}c,d")]),
            (
                r#"{a='b"c', d=`e\f`}"#,
                vec![pair("a", "b\"c"), pair("d", "e\\f")],
            ),
            (
                r#"{a="\"\\\n\t\x41\101\u00e9\U0001F600"}"#,
                vec![pair("a", "\"\\\n\tAA\u{e9}\u{1f600}")],
            ),
            (r#"{a="\xc3\xa9"}"#, vec![pair("a", "\u{e9}")]),
            (r#"{a="Grüße"}"#, vec![pair("a", "Grüße")]),
            (r#"{a=""}"#, vec![pair("a", "")]),
            (r#"{a="1",a="2"}"#, vec![pair("a", "1"), pair("a", "2")]),
        ] {
            assert_eq!(parsed(text), want, "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what_was_wanted() {
        for (text, want) in [
            ("", "1:1: parse error: unexpected end, want '{'"),
            ("a", "1:1: parse error: unexpected 'a', want '{'"),
            (
                "{",
                "1:2: parse error: unexpected end, want a label name or '}'",
            ),
            (
                "{1=\"x\"}",
                "1:2: parse error: unexpected '1', want a label name or '}'",
            ),
            ("{a-b=\"x\"}", "1:3: parse error: unexpected '-', want '='"),
            (
                "{a=b}",
                "1:4: parse error: unexpected 'b', want a quoted value",
            ),
            ("{a=\"b\"", "1:7: parse error: unexpected end, want '}'"),
            (
                "{a=\"b\" c=\"d\"}",
                "1:8: parse error: unexpected 'c', want '}'",
            ),
            ("{a=\"b}", "1:4: parse error: the quoted value has no end"),
            (
                "{a=\"b\n\"}",
                "1:4: parse error: the quoted value has no end",
            ),
            ("{a=\"b\\", "1:4: parse error: the quoted value has no end"),
            (
                "{a=\"x\\q\"}",
                "1:6: parse error: unknown escape in the quoted value",
            ),
            (
                "{a=\"\\'\"}",
                "1:5: parse error: unknown escape in the quoted value",
            ),
            (
                "{a=\"\\x+1\"}",
                "1:5: parse error: unknown escape in the quoted value",
            ),
            (
                "{a=\"\\ud800\"}",
                "1:5: parse error: unknown escape in the quoted value",
            ),
            (
                "{a=\"\\xff\"}",
                "1:5: parse error: the quoted value is not UTF-8 once its escapes are undone",
            ),
            (
                "{a=\"b\"}x",
                "1:8: parse error: unexpected 'x' after the last '}'",
            ),
        ] {
            let error = parse_labels(text).expect_err(text);
            assert_eq!(error.to_string(), want, "{text}");
        }
    }
}
