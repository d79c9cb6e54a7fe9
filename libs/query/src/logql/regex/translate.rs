//! RE2's syntax to that of the `regex` crate.

use std::fmt::Write as _;

use super::{NESTING_MAX, RegexError};

/// Most often that `{n,m}` may repeat, as in RE2.
const REPEAT_MAX: u32 = 1000;
/// Longest `{n,m}` that is looked for: what is longer cannot be within [`REPEAT_MAX`]. It keeps
/// `{{{{` linear.
const REPEAT_BYTES_MAX: usize = 24;
/// Longest `[:name:]` that is looked for, for the same reason.
const POSIX_BYTES_MAX: usize = 16;

/// Rewrites an expression in RE2's syntax so that the `regex` crate understands the same.
///
/// # Errors
/// [`RegexError`] for what RE2 refuses. Some of it is left to the crate (unknown Unicode classes,
/// duplicate group names).
pub fn translate(text: &str) -> Result<String, RegexError> {
    let mut translator = Translator {
        text,
        at: 0,
        out: String::with_capacity(text.len() + 8),
        open: 0,
        repeatable: false,
        last_repeat: None,
    };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    text: &'a str,
    /// Byte offset of what comes next.
    at: usize,
    out: String,
    /// Groups not yet closed.
    open: u32,
    /// Whether something stands before that can be repeated.
    repeatable: bool,
    /// Where the repetition operator starts that stands directly before.
    last_repeat: Option<usize>,
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), RegexError> {
        while let Some(c) = self.peek() {
            match c {
                '(' => self.group()?,
                ')' => {
                    if self.open == 0 {
                        return Err(RegexError::new("unexpected )", self.text));
                    }
                    self.open -= 1;
                    self.next();
                    self.emit(")", true);
                }
                '|' => {
                    self.next();
                    self.emit("|", false);
                }
                '[' => self.class()?,
                '.' | '^' | '$' => {
                    self.next();
                    self.out.push(c);
                    self.repeatable = true;
                    self.last_repeat = None;
                }
                '*' | '+' | '?' => self.repeat(1)?,
                '{' => match self.counted_repeat()? {
                    Some(length) => self.repeat(length)?,
                    None => {
                        self.next();
                        self.literal('{');
                    }
                },
                '\\' => self.escape()?,
                c => {
                    self.next();
                    self.literal(c);
                }
            }
        }
        if self.open > 0 {
            return Err(RegexError::new("missing closing )", self.text));
        }
        Ok(())
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, text: &str, repeatable: bool) {
        self.out.push_str(text);
        self.repeatable = repeatable;
        self.last_repeat = None;
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.repeatable = true;
        self.last_repeat = None;
    }

    /// An operator of `length` bytes (without a `?` that makes it lazy).
    fn repeat(&mut self, length: usize) -> Result<(), RegexError> {
        let start = self.at;
        let lazy = self.rest()[length..].starts_with('?');
        let end = start + length + usize::from(lazy);
        if let Some(before) = self.last_repeat {
            let problem = "invalid nested repetition operator";
            return Err(RegexError::new(problem, &self.text[before..end]));
        }
        if !self.repeatable {
            let problem = "missing argument to repetition operator";
            return Err(RegexError::new(problem, &self.text[start..end]));
        }
        self.out.push_str(&self.text[start..end]);
        self.at = end;
        self.last_repeat = Some(start);
        Ok(())
    }

    /// The length of `{n}`, `{n,}` or `{n,m}` here; `None` when it is none of these and so stands
    /// for itself.
    fn counted_repeat(&self) -> Result<Option<usize>, RegexError> {
        let near = self.rest().bytes().take(REPEAT_BYTES_MAX);
        let Some(end) = near.into_iter().position(|b| b == b'}') else {
            return Ok(None);
        };
        let (low, high) = match self.rest()[1..end].split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (&self.rest()[1..end], None),
        };
        let is_count = |t: &str| {
            !t.is_empty()
                && t.bytes().all(|b| b.is_ascii_digit())
                && (t.len() == 1 || !t.starts_with('0'))
        };
        if !is_count(low) || high.is_some_and(|h| !h.is_empty() && !is_count(h)) {
            return Ok(None);
        }
        let value = |t: &str| t.parse::<u32>().unwrap_or(u32::MAX);
        let low = value(low);
        let high = high.filter(|h| !h.is_empty()).map(value);
        if low > REPEAT_MAX || high.is_some_and(|h| h > REPEAT_MAX || h < low) {
            let part = &self.rest()[..=end];
            return Err(RegexError::new("invalid repeat count", part));
        }
        Ok(Some(end + 1))
    }

    fn group(&mut self) -> Result<(), RegexError> {
        if self.open >= NESTING_MAX {
            return Err(RegexError::new("expression nests too deeply", self.text));
        }
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix("(?P<").or(rest.strip_prefix("(?<")) {
            // `(?<=` and `(?<!` are look-behinds, which RE2 does not have.
            let prefix = rest.len() - after.len();
            let Some(end) = after.find('>') else {
                return Err(RegexError::new("invalid named capture", rest));
            };
            let name = &after[..end];
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty() || !name.bytes().all(word) {
                let part = &rest[..prefix + end + 1];
                return Err(RegexError::new("invalid named capture", part));
            }
            self.at += prefix + end + 1;
            self.open += 1;
            // `1a` is a name in Go, and no label: that is `_1a`.
            let prefix = if name.as_bytes()[0].is_ascii_digit() {
                "_"
            } else {
                ""
            };
            let _ = write!(self.out, "(?P<{prefix}{name}>");
            self.repeatable = false;
            self.last_repeat = None;
            return Ok(());
        }
        if rest.starts_with("(?") {
            return self.flags();
        }
        self.next();
        self.open += 1;
        self.emit("(", false);
        Ok(())
    }

    /// `(?flags)` or `(?flags:`
    fn flags(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        let refuse = |end: usize| {
            let mut end = end.min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            Err(RegexError::new(
                "invalid or unsupported Perl syntax",
                &rest[..end],
            ))
        };
        let mut negated = false;
        let mut any = false;
        for (at, byte) in rest.bytes().enumerate().skip(2) {
            match byte {
                b'i' | b'm' | b's' | b'U' => any = true,
                b'-' if !negated => {
                    negated = true;
                    any = false;
                }
                b')' | b':' if any || (!negated && byte == b':') || (!negated && at == 2) => {
                    let text = &rest[..=at];
                    self.at += text.len();
                    if byte == b':' {
                        self.open += 1;
                    }
                    // `(?)` sets nothing; the crate refuses it.
                    if text != "(?)" {
                        self.out.push_str(text);
                    }
                    self.repeatable = false;
                    self.last_repeat = None;
                    return Ok(());
                }
                _ => return refuse(at + 1),
            }
        }
        Err(RegexError::new("missing closing )", self.text))
    }

    /// A `\` outside a class.
    fn escape(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (literal, length) = match quoted.find("\\E") {
                Some(end) => (&quoted[..end], end + 4),
                None => (quoted, rest.len()),
            };
            for c in literal.chars() {
                self.literal(c);
            }
            self.at += length;
            return Ok(());
        }
        let simple = match rest.as_bytes().get(1) {
            // `\E` without `\Q` is nothing in Go.
            Some(b'E') => Some(""),
            Some(b'A') => Some(r"\A"),
            Some(b'z') => Some(r"\z"),
            Some(b'b') => Some(r"(?-u:\b)"),
            Some(b'B') => Some(r"(?-u:\B)"),
            _ => None,
        };
        if let Some(simple) = simple {
            self.at += 2;
            if !simple.is_empty() {
                self.emit(simple, true);
            }
            return Ok(());
        }
        if let Some(class) = self.perl_class()? {
            let _ = write!(self.out, "[{class}]");
            self.repeatable = true;
            self.last_repeat = None;
            return Ok(());
        }
        let c = self.escaped_char()?;
        self.literal(c);
        Ok(())
    }

    /// `\d`, `\pL`, `\p{Greek}`, ... as an item of a class, if one stands here.
    fn perl_class(&mut self) -> Result<Option<String>, RegexError> {
        let rest = self.rest();
        let class = match rest.as_bytes().get(1) {
            Some(b'd') => "0-9",
            Some(b'D') => "[^0-9]",
            Some(b's') => r"\t\n\x0C\r ",
            Some(b'S') => r"[^\t\n\x0C\r ]",
            Some(b'w') => "0-9A-Za-z_",
            Some(b'W') => "[^0-9A-Za-z_]",
            Some(b'p' | b'P') => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(class.to_owned()))
    }

    fn unicode_class(&mut self) -> Result<String, RegexError> {
        let rest = self.rest();
        let negated = rest.starts_with("\\P");
        let problem = "invalid character class range";
        let (name, length) = match rest[2..].chars().next() {
            None => return Err(RegexError::new(problem, rest)),
            Some('{') => match rest.find('}') {
                Some(end) => (&rest[3..end], end + 1),
                None => return Err(RegexError::new(problem, rest)),
            },
            Some(c) => (&rest[2..2 + c.len_utf8()], 2 + c.len_utf8()),
        };
        let (name, inverted) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) {
            return Err(RegexError::new(problem, &rest[..length]));
        }
        self.at += length;
        let p = if negated == inverted { 'p' } else { 'P' };
        Ok(format!("\\{p}{{{name}}}"))
    }

    /// The character that a `\` and what follows stand for.
    fn escaped_char(&mut self) -> Result<char, RegexError> {
        let start = self.at;
        self.next();
        let Some(c) = self.next() else {
            return Err(RegexError::new(
                "trailing backslash at end of expression",
                "",
            ));
        };
        let code = match c {
            // One digit would be a reference to a group, which RE2 does not have.
            '1'..='7' if self.peek().is_some_and(|d| d.is_digit(8)) => self.octal(c),
            '0' => self.octal(c),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c as u32),
            _ => None,
        };
        code.and_then(char::from_u32)
            .ok_or_else(|| RegexError::new("invalid escape sequence", &self.text[start..self.at]))
    }

    fn octal(&mut self, first: char) -> Option<u32> {
        let mut code = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|d| d.to_digit(8)) else {
                break;
            };
            self.next();
            code = code * 8 + digit;
        }
        Some(code)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        if self.peek() == Some('{') {
            let end = self.rest().find('}')?;
            let digits = &self.rest()[1..end];
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let code = u32::from_str_radix(digits, 16).ok()?;
            self.at += end + 1;
            return Some(code);
        }
        let high = self.next()?.to_digit(16)?;
        let low = self.next()?.to_digit(16)?;
        Some(high * 16 + low)
    }

    /// `[...]`
    fn class(&mut self) -> Result<(), RegexError> {
        let start = self.at;
        let unclosed = |t: &Self| RegexError::new("missing closing ]", &t.text[start..]);
        self.next();
        self.out.push('[');
        if self.peek() == Some('^') {
            self.next();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let item = self.at;
            match self.peek() {
                None => return Err(unclosed(self)),
                Some(']') if !first => break,
                Some('[') if self.posix_length().is_some() => self.posix_class()?,
                Some('\\') => match self.perl_class()? {
                    Some(class) => self.out.push_str(&class),
                    None => self.class_range(item)?,
                },
                Some(_) => self.class_range(item)?,
            }
            first = false;
        }
        self.next();
        self.emit("]", true);
        Ok(())
    }

    /// The length of the `[:name:]` that stands here.
    fn posix_length(&self) -> Option<usize> {
        let rest = self.rest().as_bytes();
        let near = &rest[..rest.len().min(POSIX_BYTES_MAX)];
        let end = near.windows(2).position(|pair| pair == b":]")?;
        near.starts_with(b"[:").then_some(end + 2)
    }

    fn posix_class(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        let end = self.posix_length().unwrap_or(rest.len());
        let name = rest[..end].trim_matches(|c| "[]:^".contains(c));
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        if !known.contains(&name) {
            return Err(RegexError::new(
                "invalid character class range",
                &rest[..end],
            ));
        }
        self.out.push_str(&rest[..end]);
        self.at += end;
        Ok(())
    }

    /// `a` or `a-z`, which starts at `start`.
    fn class_range(&mut self, start: usize) -> Result<(), RegexError> {
        let low = self.class_char()?;
        let mut high = low;
        let mut after = self.rest().chars();
        if after.next() == Some('-') && !matches!(after.next(), None | Some(']')) {
            self.next();
            high = self.class_char()?;
        }
        if high < low {
            let part = &self.text[start..self.at];
            return Err(RegexError::new("invalid character class range", part));
        }
        push_literal(&mut self.out, low);
        if high != low {
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, RegexError> {
        match self.peek() {
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.next();
                Ok(c)
            }
            None => Err(RegexError::new("missing closing ]", self.text)),
        }
    }
}

/// A character as itself, inside or outside a class.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        let _ = write!(out, "\\x{:02X}", c as u32);
    } else {
        out.push(c);
    }
}
