//! The words of a template, as Go cuts them.

use crate::logql::parse::quote;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What cannot be cut; the word is the problem.
    Error,
    End,
    Text,
    Open,
    Close,
    Space,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    /// Any other visible character.
    Char,
    Bool,
    CharConstant,
    Complex,
    Field,
    Identifier,
    Number,
    RawString,
    String,
    Variable,
    /// `.`, `nil` or a word of the language.
    Keyword,
}

/// A word, and the line that it begins in.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    /// As problems name it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            Kind::Keyword => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let short: String = self.text.chars().take(10).collect();
                format!("{}...", quote(&short))
            }
            _ => quote(&self.text),
        }
    }

    pub(super) fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }
}

const KEYWORDS: [&str; 12] = [
    ".", "block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template",
    "with",
];
const DIGITS: &str = "0123456789_";
const HEX_DIGITS: &str = "0123456789abcdefABCDEF_";

/// Cuts a template, one word at a time.
pub(super) struct Lexer<'s> {
    source: &'s str,
    start: usize,
    pos: usize,
    /// The line in which the word begins, and where that was found out.
    line: usize,
    counted: usize,
    is_inside: bool,
    parens: usize,
    is_over: bool,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Lexer<'s> {
        Lexer {
            source,
            start: 0,
            pos: 0,
            line: 1,
            counted: 0,
            is_inside: false,
            parens: 0,
            is_over: false,
        }
    }

    pub(super) fn next(&mut self) -> Token {
        loop {
            if self.is_over {
                self.start = self.source.len();
                self.pos = self.start;
                return self.token(Kind::End);
            }
            let token = match self.is_inside {
                true => Some(self.inside()),
                false => self.outside(),
            };
            if let Some(token) = token {
                return token;
            }
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn token(&mut self, kind: Kind) -> Token {
        let token = Token {
            kind,
            text: self.source[self.start..self.pos].to_owned(),
            line: self.line(),
        };
        self.start = self.pos;
        token
    }

    fn line(&mut self) -> usize {
        self.line += self.source[self.counted..self.start].matches('\n').count();
        self.counted = self.start;
        self.line
    }

    fn error(&mut self, text: impl Into<String>) -> Token {
        self.is_over = true;
        Token {
            kind: Kind::Error,
            text: text.into(),
            line: self.line(),
        }
    }

    /// Text up to the next action, or the beginning of that, or a comment: that is no word.
    fn outside(&mut self) -> Option<Token> {
        let open = self.rest().find("{{");
        let text = open.unwrap_or(self.rest().len());
        if text > 0 {
            self.pos += text;
            return Some(self.token(Kind::Text));
        }
        if open.is_none() {
            return Some(self.token(Kind::End));
        }
        let inner = &self.rest()[2..];
        let trimmed = match inner.strip_prefix('-') {
            Some(after) if after.starts_with(is_space) => &after[1..],
            _ => inner,
        };
        let marker = inner.len() - trimmed.len();
        if let Some(comment) = trimmed.strip_prefix("/*") {
            let Some(end) = comment.find("*/") else {
                return Some(self.error("unclosed comment"));
            };
            self.pos += 2 + marker + 2 + end + 2;
            let Some(close) = self.at_close() else {
                return Some(self.error("comment ends before closing delimiter"));
            };
            self.pos += close;
            self.start = self.pos;
            return None;
        }
        self.pos += 2;
        let token = self.token(Kind::Open);
        self.pos += marker;
        self.start = self.pos;
        (self.is_inside, self.parens) = (true, 0);
        Some(token)
    }

    /// The length of the end of an action, if it is here.
    fn at_close(&self) -> Option<usize> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some(2);
        }
        let marked = rest.strip_prefix(is_space)?;
        marked.starts_with("-}}").then_some(4)
    }

    fn close(&mut self, length: usize) -> Token {
        self.pos += length - 2;
        self.start = self.pos;
        self.pos += 2;
        self.is_inside = false;
        self.token(Kind::Close)
    }

    fn inside(&mut self) -> Token {
        if let Some(length) = self.at_close() {
            return match self.parens {
                0 => self.close(length),
                _ => self.error("unclosed left paren"),
            };
        }
        let Some(c) = self.take() else {
            return self.error("unclosed action");
        };
        match c {
            c if is_space(c) => self.space(),
            '=' => self.token(Kind::Assign),
            ':' => match self.take() {
                Some('=') => self.token(Kind::Declare),
                _ => self.error("expected :="),
            },
            '|' => self.token(Kind::Pipe),
            '"' => self.quoted(),
            '`' => match self.rest().find('`') {
                Some(end) => {
                    self.pos += end + 1;
                    self.token(Kind::RawString)
                }
                None => self.error("unterminated raw quoted string"),
            },
            '$' => self.named(Kind::Variable),
            '\'' => self.char_constant(),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) && self.peek().is_some() => {
                self.named(Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos -= 1;
                self.number()
            }
            c if is_word(c) => self.word(),
            '(' => {
                self.parens += 1;
                self.token(Kind::LeftParen)
            }
            ')' if self.parens == 0 => self.error("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.token(Kind::RightParen)
            }
            c if c.is_ascii_graphic() => self.token(Kind::Char),
            c => self.error(format!(
                "unrecognized character in action: {}",
                code_point(c)
            )),
        }
    }

    fn space(&mut self) -> Token {
        let first = self.start;
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
        // The last blank may belong to the mark before the end.
        if self.rest().starts_with("-}}") {
            self.pos -= 1;
            if self.pos == first {
                return self.close(4);
            }
        }
        self.token(Kind::Space)
    }

    fn quoted(&mut self) -> Token {
        loop {
            match self.take() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.take();
                }
                Some('"') => return self.token(Kind::String),
                Some('\\' | '\n') | None => return self.error("unterminated quoted string"),
                Some(_) => {}
            }
        }
    }

    fn char_constant(&mut self) -> Token {
        loop {
            match self.take() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.take();
                }
                Some('\'') => return self.token(Kind::CharConstant),
                Some('\\' | '\n') | None => {
                    return self.error("unterminated character constant");
                }
                Some(_) => {}
            }
        }
    }

    /// A field or a variable, its first character taken.
    fn named(&mut self, kind: Kind) -> Token {
        if self.at_terminator() {
            return match kind {
                Kind::Variable => self.token(kind),
                _ => self.token(Kind::Keyword),
            };
        }
        self.run_of_word();
        match self.at_terminator() {
            true => self.token(kind),
            false => self.bad_character(),
        }
    }

    fn word(&mut self) -> Token {
        self.run_of_word();
        if !self.at_terminator() {
            return self.bad_character();
        }
        let word = &self.source[self.start..self.pos];
        let kind = match word {
            "true" | "false" => Kind::Bool,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.token(kind)
    }

    fn run_of_word(&mut self) {
        while self.peek().is_some_and(is_word) {
            self.take();
        }
    }

    fn bad_character(&mut self) -> Token {
        let c = self.peek().map_or_else(String::new, code_point);
        self.error(format!("bad character {c}"))
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with("}}"),
        }
    }

    fn number(&mut self) -> Token {
        let mut kind = Kind::Number;
        let mut is_good = self.scan_number();
        if is_good && self.peek().is_some_and(|c| matches!(c, '+' | '-')) {
            kind = Kind::Complex;
            is_good = self.scan_number() && self.source[..self.pos].ends_with('i');
        }
        match is_good {
            true => self.token(kind),
            false => {
                let text = quote(&self.source[self.start..self.pos]);
                self.error(format!("bad number syntax: {text}"))
            }
        }
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = DIGITS;
        if self.accept("0") {
            digits = match () {
                () if self.accept("xX") => HEX_DIGITS,
                () if self.accept("oO") => "01234567_",
                () if self.accept("bB") => "01_",
                () => DIGITS,
            };
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits {
            DIGITS => self.accept("eE"),
            HEX_DIGITS => self.accept("pP"),
            _ => false,
        };
        if exponent {
            self.accept("+-");
            self.accept_run(DIGITS);
        }
        self.accept("i");
        let is_alone = !self.peek().is_some_and(is_word);
        if !is_alone {
            self.take();
        }
        is_alone
    }

    fn accept(&mut self, any: &str) -> bool {
        let found = self.peek().is_some_and(|c| any.contains(c));
        self.pos += usize::from(found);
        found
    }

    fn accept_run(&mut self, any: &str) {
        while self.accept(any) {}
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

/// `U+0026 '&'`
fn code_point(c: char) -> String {
    match c.is_control() {
        true => format!("U+{:04X}", u32::from(c)),
        false => format!("U+{:04X} '{c}'", u32::from(c)),
    }
}
