//! What stands between quotes behind `json a=` and `logfmt a=`: small languages of their own, with
//! Loki's words for what is wrong in them.

use std::iter::Peekable;
use std::str::Chars;

/// One step of a path into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Member(Box<str>),
    Index(usize),
}

/// Longest path, in steps.
const STEPS_MAX: usize = 256;

#[derive(Debug, PartialEq)]
enum Token {
    Dot,
    Open,
    Close,
    Text(String),
    Name(String),
    Index(usize),
    End,
}

/// Splits a text into tokens. What is none ends the text; its problem is only reported if the text
/// could end there.
struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    problem: Option<String>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Lexer {
            rest: text.chars().peekable(),
            problem: None,
        }
    }

    /// The next token of a path, of which `.`, `[`, `]` and numbers are parts.
    fn path_token(&mut self) -> Token {
        self.skip_space();
        match self.rest.peek() {
            Some('0'..='9') => return self.index(),
            Some('.') => Token::Dot,
            Some('[') => Token::Open,
            Some(']') => Token::Close,
            _ => return self.token(),
        }
        .after(|| self.rest.next())
    }

    /// A name, a quoted text or the end.
    fn token(&mut self) -> Token {
        self.skip_space();
        match self.rest.peek().copied() {
            None | Some('\0') => Token::End,
            Some(c) if starts_name(c) => {
                let mut name = String::new();
                while let Some(c) = self.rest.next_if(|c| starts_name(*c) || c.is_ascii_digit()) {
                    name.push(c);
                }
                Token::Name(name)
            }
            Some('"') => {
                self.rest.next();
                let ends = |c: &char| matches!(c, '"' | ']' | '\0');
                let mut text = String::new();
                while let Some(c) = self.rest.next_if(|c| !ends(c)) {
                    text.push(c);
                }
                self.rest.next();
                Token::Text(text)
            }
            Some(c) => self.fail(format!("unexpected char {c}")),
        }
    }

    fn index(&mut self) -> Token {
        let mut digits = String::new();
        while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(c);
        }
        match self.rest.peek() {
            Some('.') => self.fail("cannot use float as array index".to_owned()),
            Some(' ' | '\t' | '\n' | ']') => match digits.parse() {
                Ok(index) => Token::Index(index),
                Err(error) => self.fail(error.to_string()),
            },
            other => {
                let shown = other.copied().unwrap_or('\0');
                self.fail(format!("non-integer value: {shown}"))
            }
        }
    }

    fn fail(&mut self, problem: String) -> Token {
        self.problem = Some(problem);
        self.rest = "".chars().peekable();
        Token::End
    }

    fn skip_space(&mut self) {
        while self
            .rest
            .next_if(|c| matches!(c, ' ' | '\t' | '\n'))
            .is_some()
        {}
    }
}

impl Token {
    fn after<T>(self, effect: impl FnOnce() -> T) -> Self {
        effect();
        self
    }

    fn unexpected(&self, expecting: &str) -> String {
        let name = match self {
            Token::Dot => "DOT",
            Token::Open => "LSB",
            Token::Close => "RSB",
            Token::Text(_) => "STRING",
            Token::Name(_) => "FIELD",
            Token::Index(_) => "INDEX",
            Token::End => "$end",
        };
        match expecting {
            "" => format!("syntax error: unexpected {name}"),
            expecting => format!("syntax error: unexpected {name}, expecting {expecting}"),
        }
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Reads a path: `a.b[0]["c d"]`.
pub(super) fn parse_path(text: &str) -> Result<Vec<PathStep>, String> {
    let mut lexer = Lexer::new(text);
    let mut steps = Vec::new();
    loop {
        let first = steps.is_empty();
        let step = match lexer.path_token() {
            Token::End if !first => break,
            Token::Name(name) if first => PathStep::Member(name.into()),
            Token::Dot if !first => match lexer.path_token() {
                Token::Name(name) => PathStep::Member(name.into()),
                other => return Err(other.unexpected("FIELD")),
            },
            Token::Open => {
                let step = match lexer.path_token() {
                    Token::Text(name) => PathStep::Member(name.into()),
                    Token::Index(index) => PathStep::Index(index),
                    other => return Err(other.unexpected("STRING or INDEX")),
                };
                match lexer.path_token() {
                    Token::Close => step,
                    other => return Err(other.unexpected("RSB")),
                }
            }
            other if first => return Err(other.unexpected("LSB or FIELD")),
            other => return Err(other.unexpected("")),
        };
        if steps.len() == STEPS_MAX {
            return Err(format!("a path has at most {STEPS_MAX} steps"));
        }
        steps.push(step);
    }
    lexer.problem.map_or(Ok(steps), Err)
}

/// Reads the key of a field of `logfmt`: a name, or a quoted text. Several quoted texts are a key
/// that no line has.
pub(super) fn parse_key(text: &str) -> Result<String, String> {
    let mut lexer = Lexer::new(text);
    let mut key = match lexer.token() {
        Token::Name(key) | Token::Text(key) => key,
        other => return Err(other.unexpected("STRING or KEY")),
    };
    loop {
        match lexer.token() {
            Token::Text(more) => key.push_str(&format!("%!(EXTRA string={more})")),
            Token::End => break,
            _ => return Err("syntax error: unexpected KEY".to_owned()),
        }
    }
    lexer.problem.map_or(Ok(key), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_members_and_indexes() {
        let member = |name: &str| PathStep::Member(name.into());
        let path = parse_path(r#" a . b_1[ 0 ]["c d"] "#).unwrap();
        let want = [
            member("a"),
            member("b_1"),
            PathStep::Index(0),
            member("c d"),
        ];
        assert_eq!(path, want);
        assert_eq!(parse_path(r#"["x"]"#).unwrap(), [member("x")]);
    }

    #[test]
    fn what_is_no_path_is_named() {
        for (text, problem) in [
            ("", "syntax error: unexpected $end, expecting LSB or FIELD"),
            ("a.", "syntax error: unexpected $end, expecting FIELD"),
            (".a", "syntax error: unexpected DOT, expecting LSB or FIELD"),
            ("a b", "syntax error: unexpected FIELD"),
            (
                "a[b]",
                "syntax error: unexpected FIELD, expecting STRING or INDEX",
            ),
            (
                "a[-1]",
                "syntax error: unexpected $end, expecting STRING or INDEX",
            ),
            (r#"a["b"#, "syntax error: unexpected $end, expecting RSB"),
            ("a-b", "unexpected char -"),
        ] {
            assert_eq!(parse_path(text).unwrap_err(), problem, "{text}");
        }
    }

    #[test]
    fn keys_are_one_name_or_one_text() {
        assert_eq!(parse_key("a_1").unwrap(), "a_1");
        assert_eq!(parse_key(r#""a.b""#).unwrap(), "a.b");
        for (text, problem) in [
            ("", "syntax error: unexpected $end, expecting STRING or KEY"),
            ("a b", "syntax error: unexpected KEY"),
            ("a.b", "unexpected char ."),
            (
                "1a",
                "syntax error: unexpected $end, expecting STRING or KEY",
            ),
        ] {
            assert_eq!(parse_key(text).unwrap_err(), problem, "{text}");
        }
    }
}
