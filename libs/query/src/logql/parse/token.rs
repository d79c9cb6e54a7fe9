//! Text to tokens.

use std::fmt;

use super::number;
use super::units::{go_duration, parse_bytes, parse_duration, parse_range, unquote};
use crate::logql::pipeline::parse_float;

/// Words that are never names of labels.
const RESERVED: &[&str] = &[
    "and",
    "bool",
    "by",
    "decolorize",
    "drop",
    "group_left",
    "group_right",
    "ignoring",
    "json",
    "keep",
    "label_format",
    "line_format",
    "logfmt",
    "offset",
    "on",
    "or",
    "pattern",
    "regexp",
    "unless",
    "unpack",
    "unwrap",
    "without",
];

/// Words that are functions when `(`, `by (` or `without (` follows, otherwise names.
const FUNCTIONS: &[&str] = &[
    "absent_over_time",
    "approx_topk",
    "avg",
    "avg_over_time",
    "bottomk",
    "bytes",
    "bytes_over_time",
    "bytes_rate",
    "count",
    "count_over_time",
    "count_values",
    "duration",
    "duration_seconds",
    "first_over_time",
    "ip",
    "label_replace",
    "last_over_time",
    "max",
    "max_over_time",
    "min",
    "min_over_time",
    "quantile_over_time",
    "rate",
    "rate_counter",
    "sort",
    "sort_desc",
    "stddev",
    "stddev_over_time",
    "stdvar",
    "stdvar_over_time",
    "sum",
    "sum_over_time",
    "topk",
    "vector",
];

/// Letters of units of durations.
const DURATION_UNITS: &str = "nuµmshdwy";

/// What may stand behind `--`.
const FLAGS: &[&str] = &["strict", "keep-empty"];

/// Operators, longest first.
const OPERATORS: &[&str] = &[
    "=~", "!~", "!=", "!>", "|=", "|~", "|>", "==", ">=", "<=", "{", "}", "(", ")", "]", ",", ".",
    "=", "|", "+", "-", "*", "/", "%", "^", ">", "<",
];

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Where it stands in the text, bytes.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Where it starts, as Loki counts: the line is 0 for what its scanner puts together itself.
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Identifier,
    /// Unescaped.
    String(String),
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    Bytes(u64),
    /// `[5m]`; nanoseconds.
    Range(i64),
    /// `[5m:1m]` and `[5m:]`; nanoseconds.
    Subquery {
        range: i64,
        step: Option<i64>,
        /// What Loki says of it.
        refusal: String,
    },
    /// `--strict`
    Flag,
    /// A reserved word (in lower case) or an operator.
    Word(&'static str),
    /// A word with `(` after it.
    Function(&'static str),
    /// Not a token; says why.
    Bad(String),
    End,
}

/// As Loki's grammar names them.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Identifier | Kind::Bad(_) => "IDENTIFIER",
            Kind::String(_) => "STRING",
            Kind::Number(_) => "NUMBER",
            Kind::Duration(_) => "DURATION",
            Kind::Bytes(_) => "BYTES",
            Kind::Range(_) | Kind::Subquery { .. } => "RANGE",
            Kind::Flag => "FUNCTION_FLAG",
            Kind::Word(word) => word,
            Kind::Function("ip") => "ip",
            Kind::Function("label_replace") => "label_replace",
            Kind::Function("bytes") => "BYTES_CONV",
            Kind::Function("duration") => "DURATION_CONV",
            Kind::Function("duration_seconds") => "DURATION_SECONDS_CONV",
            Kind::Function(name) => return f.write_str(&name.to_ascii_uppercase()),
            Kind::End => "$end",
        })
    }
}

/// All tokens; the last one is `End`, or `Bad` where the text cannot go on. With them what is wrong
/// with the first number that has no value (then it is NaN), though it looks like one.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Option<String>) {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
        column: 1,
        unreadable: None,
    };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token();
        let last = matches!(token.kind, Kind::End | Kind::Bad(_));
        tokens.push(token);
        if last {
            return (tokens, lexer.unreadable);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
    unreadable: Option<String>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Moves over `bytes` bytes, which end at the end of a character.
    fn skip(&mut self, bytes: usize) {
        let end = self.at + bytes;
        for c in self.text[self.at..end].chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.at = end;
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            self.skip(space);
            if self.peek() != Some('#') {
                return;
            }
            let comment = self.rest().find('\n').unwrap_or(self.rest().len());
            self.skip(comment);
        }
    }

    fn token(&mut self) -> Token {
        self.skip_space();
        let (start, mut line, mut column) = (self.at, self.line, self.column);
        let kind = match self.peek() {
            None => {
                if self.text.is_empty() {
                    (line, column) = (0, 0);
                }
                Kind::End
            }
            Some('"') => self.quoted(),
            Some('`') => self.raw_string(),
            Some('[') => self.range(),
            Some(c) if c.is_ascii_digit() || self.starts_fraction() => self.number(),
            Some(c) if c == '_' || c.is_alphabetic() => self.word(),
            Some(_) => self.operator(),
        };
        let composed = match &kind {
            Kind::Word(word) => word.len() == 2 && !word.as_bytes()[0].is_ascii_alphabetic(),
            Kind::Duration(_) | Kind::Bytes(_) | Kind::Range(_) | Kind::Subquery { .. } => true,
            Kind::Flag => true,
            Kind::Bad(_) => self.text[start..].starts_with('['),
            _ => false,
        };
        if composed {
            line = 0;
        }
        Token {
            kind,
            start,
            end: self.at,
            line,
            column,
        }
    }

    fn operator(&mut self) -> Kind {
        let rest = self.rest();
        if let Some(flag) = rest.strip_prefix("--")
            && let Some(flag) = FLAGS.iter().find(|known| flag.starts_with(**known))
            && !rest[2 + flag.len()..].starts_with(|c: char| c.is_alphabetic() || c == '-')
        {
            self.skip(2 + flag.len());
            return Kind::Flag;
        }
        if let Some(duration) = rest.strip_prefix('-')
            && let Some((nanos, length)) = negative(duration)
        {
            self.skip(1 + length);
            return Kind::Duration(nanos);
        }
        match OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            Some(operator) => {
                self.skip(operator.len());
                Kind::Word(operator)
            }
            // As in Loki, any other character is a name.
            None => {
                self.skip(self.peek().map_or(0, char::len_utf8));
                Kind::Identifier
            }
        }
    }

    fn word(&mut self) -> Kind {
        let rest = self.rest();
        let in_word = |c: char| c == '_' || c.is_alphanumeric();
        let length = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.skip(length);
        let find = |list: &[&'static str]| {
            let found = list.iter().find(|known| known.eq_ignore_ascii_case(word));
            found.copied()
        };
        if let Some(reserved) = find(RESERVED) {
            return Kind::Word(reserved);
        }
        match find(FUNCTIONS) {
            Some(function) if self.call_follows() => Kind::Function(function),
            _ => Kind::Identifier,
        }
    }

    /// Whether `(`, `by (` or `without (` comes next.
    fn call_follows(&self) -> bool {
        let rest = self.rest().trim_start();
        let after = ["by", "without"].iter().find_map(|word| {
            let head = rest.get(..word.len())?;
            head.eq_ignore_ascii_case(word)
                .then(|| rest[word.len()..].trim_start())
        });
        rest.starts_with('(') || after.is_some_and(|rest| rest.starts_with('('))
    }

    fn starts_fraction(&self) -> bool {
        let mut bytes = self.rest().bytes();
        bytes.next() == Some(b'.') && bytes.next().is_some_and(|b| b.is_ascii_digit())
    }

    /// A number, or one with a unit, or several of those (`1m30s`).
    fn number(&mut self) -> Kind {
        let rest = self.rest();
        let plain = match number::scan(rest) {
            Ok(length) => length,
            Err(problem) => return Kind::Bad(problem),
        };
        // As in Loki, a unit goes as far as letters of units do, whatever follows.
        let run = |letters: &str| plain + units_end(&rest[plain..], letters);
        let end = run(DURATION_UNITS);
        if end > plain
            && let Some(nanos) = parse_duration(&rest[..end])
        {
            self.skip(end);
            return Kind::Duration(nanos);
        }
        let end = run("BikKMGTP");
        if end > plain
            && let Some(bytes) = parse_bytes(&rest[..end])
        {
            self.skip(end);
            return Kind::Bytes(bytes);
        }
        self.skip(plain);
        let value = parse_float(&rest[..plain]).unwrap_or_else(|problem| {
            self.unreadable.get_or_insert(problem);
            f64::NAN
        });
        Kind::Number(value)
    }

    fn range(&mut self) -> Kind {
        let Some(end) = self.rest().find(']') else {
            return Kind::Bad("missing closing ']' in duration".to_owned());
        };
        let text = &self.rest()[1..end];
        let refusal = match parse_range(text) {
            Ok(nanos) => {
                self.skip(end + 1);
                return Kind::Range(nanos);
            }
            Err(refusal) => refusal,
        };
        let Some((range, step)) = text.split_once(':') else {
            return Kind::Bad(refusal);
        };
        let step = match step.trim() {
            "" => Some(None),
            step => parse_range(step).ok().map(Some),
        };
        match (parse_range(range.trim()), step) {
            (Ok(range), Some(step)) => {
                self.skip(end + 1);
                Kind::Subquery {
                    range,
                    step,
                    refusal,
                }
            }
            _ => Kind::Bad(refusal),
        }
    }

    fn raw_string(&mut self) -> Kind {
        let Some(end) = self.rest()[1..].find('`') else {
            return Kind::Bad("literal not terminated".to_owned());
        };
        let text = self.rest()[1..=end].replace('\r', "");
        self.skip(end + 2);
        Kind::String(text)
    }

    fn quoted(&mut self) -> Kind {
        let rest = self.rest();
        let mut escaped = false;
        let mut end = None;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            match byte {
                b'\n' => break,
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else {
            return Kind::Bad("literal not terminated".to_owned());
        };
        match unquote(&rest[1..end]) {
            Ok(text) => {
                self.skip(end + 1);
                Kind::String(text)
            }
            Err(message) => Kind::Bad(message.to_owned()),
        }
    }
}

/// How far numbers and these letters of units go.
fn units_end(text: &str, letters: &str) -> usize {
    let in_unit = |c: char| c.is_numeric() || c == '.' || letters.contains(c);
    text.find(|c| !in_unit(c)).unwrap_or(text.len())
}

/// The duration that stands right behind a minus, and its length without that. As in Loki it is
/// one token with it, and has no days.
fn negative(text: &str) -> Option<(i64, usize)> {
    let end = units_end(text, DURATION_UNITS);
    let number = &text[..end];
    let nanos = go_duration(number)?;
    Some((-nanos, end))
}
