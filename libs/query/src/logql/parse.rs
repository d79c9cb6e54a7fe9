//! LogQL from text to [`ast`](super::ast).
//!
//! ```text
//! text --token--> Vec<Token> --log, filter, metric--> Expr
//! ```
//!
//! Hand-written, one pass, linear in the text; nesting is bounded by [`NESTING_MAX`], the height
//! of the tree by [`HEIGHT_MAX`], the text by [`TEXT_BYTES_MAX`], so no input can exhaust the
//! stack, which grows as needed. Errors have the words and positions of Loki: a syntax error stops at once and carries a
//! position; an error of meaning is reported only when the syntax of the whole text is right.

mod check;
mod filter;
mod log;
mod metric;
mod number;
mod stage;
mod token;
mod units;
mod variants;

use std::fmt;

use super::ast::{Expr, LabelFilter, LogExpr, Matcher, MetricExpr};
use super::deep;
use token::{Kind, Token};

pub(crate) use number::underscores_are_right;
pub(crate) use units::{format_bytes, format_duration, is_shown, quote, unquote};
pub use units::{parse_bytes, parse_duration};
pub use variants::parse_variants;

/// Longest text that is parsed, bytes, excluded (as in Loki).
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Deepest nesting of parentheses and calls; those of a condition on labels are counted apart.
/// What is printed has more of them than what was parsed: at most two at each level of a tree,
/// where the right side of an operation counts as one too.
pub const NESTING_MAX: usize = 2 * HEIGHT_MAX;
/// Greatest height of a numeric expression: `a + b + c` has 3.
pub const HEIGHT_MAX: usize = 2048;
/// Most regular expressions in one query: compiling one may take some milliseconds.
pub const REGEXES_MAX: usize = 512;

/// Why a text is no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Line, from 1. With `column` 0 too: not about one place. Like Loki it is 0 with a column
    /// for operators of two characters, durations and ranges.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl ParseError {
    /// An error of meaning, which has no position.
    pub(crate) fn meaning(message: impl Into<String>) -> Self {
        ParseError {
            message: message.into(),
            line: 0,
            column: 0,
        }
    }

    /// What the caller is expected to do.
    pub fn kind(&self) -> model::Kind {
        model::Kind::Invalid
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 && self.column == 0 {
            write!(f, "parse error : {}", self.message)
        } else {
            write!(
                f,
                "parse error at line {}, col {}: {}",
                self.line, self.column, self.message
            )
        }
    }
}

impl std::error::Error for ParseError {}

/// Parses a query of either kind.
///
/// # Errors
/// [`ParseError`] in Loki's words.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.query()?;
    parser.finish()?;
    Ok(expr)
}

/// Parses a query of either kind that need not run: a stage may hold a template, a path or an
/// address that is none.
///
/// # Errors
/// [`ParseError`] in Loki's words.
pub(super) fn parse_form(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.query()?;
    parser.meaning.map_or(Ok(expr), Err)
}

/// Parses a query that gives lines.
///
/// # Errors
/// As [`parse`], and when the query gives numbers.
pub fn parse_log(text: &str) -> Result<LogExpr, ParseError> {
    match parse(text)? {
        Expr::Log(log) => Ok(log),
        Expr::Metric(_) => Err(ParseError::meaning("only log selector is supported")),
    }
}

/// Parses a query that gives numbers.
///
/// # Errors
/// As [`parse`], and when the query gives lines.
pub fn parse_metric(text: &str) -> Result<MetricExpr, ParseError> {
    match parse(text)? {
        Expr::Metric(metric) => Ok(metric),
        Expr::Log(_) => Err(ParseError::meaning("only sample expression is supported")),
    }
}

/// Parses the selector of a series request (`match[]`). Unlike in a query, it may be empty.
///
/// # Errors
/// As [`parse`], and when there is anything but a selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    if parser.is_empty_selector() {
        return Ok(Vec::new());
    }
    match parser.query()? {
        Expr::Log(log) if log.stages.is_empty() => {
            parser.finish()?;
            Ok(log.selector)
        }
        _ => {
            parser.finish()?;
            Err(ParseError::meaning("only label matchers are supported"))
        }
    }
}

/// Parses a condition on labels alone: what stands after `|`.
///
/// # Errors
/// As [`parse`].
pub fn parse_label_filter(text: &str) -> Result<LabelFilter, ParseError> {
    let mut parser = Parser::new(text)?;
    let filter = parser.label_filter(true)?;
    parser.end()?;
    parser.finish()?;
    Ok(filter)
}

/// The state of one parse. The grammar is spread over the modules.
struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Parentheses and calls that are open.
    nesting: usize,
    /// Regular expressions found so far.
    regexes: usize,
    /// The first error of meaning.
    meaning: Option<ParseError>,
    /// The first stage that cannot be run.
    stage_problem: Option<ParseError>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        if text.len() >= TEXT_BYTES_MAX {
            return Err(ParseError::meaning(format!(
                "input size too long ({} > {TEXT_BYTES_MAX})",
                text.len()
            )));
        }
        let (tokens, unreadable) = token::tokens(text);
        let unreadable = unreadable.map(|problem| {
            ParseError::meaning(format!("unable to parse literal as a float: {problem}"))
        });
        Ok(Parser {
            text,
            tokens,
            at: 0,
            nesting: 0,
            regexes: 0,
            meaning: unreadable,
            stage_problem: None,
        })
    }

    /// The whole text as one expression.
    fn query(&mut self) -> Result<Expr, ParseError> {
        let expr = self.expr()?;
        self.end()?;
        Ok(expr)
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.kind() {
            Kind::End => Ok(()),
            _ => Err(self.unexpected(&[])),
        }
    }

    fn finish(self) -> Result<(), ParseError> {
        self.meaning.or(self.stage_problem).map_or(Ok(()), Err)
    }

    /// Remembers an error of meaning; the first one is reported, after all syntax errors.
    fn note(&mut self, message: impl Into<String>) {
        if self.meaning.is_none() {
            self.meaning = Some(ParseError::meaning(message));
        }
    }

    /// What comes next; after the end, the end.
    fn token(&self) -> &Token {
        self.token_after(0)
    }

    fn token_after(&self, count: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + count).min(last)]
    }

    fn kind(&self) -> &Kind {
        &self.token().kind
    }

    /// The text of the token that comes next.
    fn raw(&self) -> &'a str {
        let token = self.token();
        &self.text[token.start..token.end]
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    /// Whether a word or operator of the language comes next.
    fn is(&self, word: &str) -> bool {
        matches!(self.kind(), Kind::Word(w) if *w == word)
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.is(word);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, word: &'static str) -> Result<(), ParseError> {
        if self.take(word) {
            Ok(())
        } else {
            Err(self.unexpected(&[word]))
        }
    }

    fn identifier(&mut self, expecting: &[&str]) -> Result<String, ParseError> {
        match self.kind() {
            Kind::Identifier => {
                let name = self.raw().to_owned();
                self.advance();
                Ok(name)
            }
            _ => Err(self.unexpected(expecting)),
        }
    }

    fn string(&mut self, expecting: &[&str]) -> Result<String, ParseError> {
        match self.kind() {
            Kind::String(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => Err(self.unexpected(expecting)),
        }
    }

    /// `(a, b)`, possibly empty, without the opening parenthesis.
    fn names_until_parenthesis(&mut self) -> Result<Vec<String>, ParseError> {
        let mut names = Vec::new();
        if self.take(")") {
            return Ok(names);
        }
        names.push(self.identifier(&["IDENTIFIER", ")"])?);
        while !self.take(")") {
            if !self.take(",") {
                return Err(self.unexpected(&[",", ")"]));
            }
            names.push(self.identifier(&["IDENTIFIER"])?);
        }
        Ok(names)
    }

    /// Enters one more level of nesting for the time of `inner`.
    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.nested_below(NESTING_MAX, inner)
    }

    fn nested_below<T>(
        &mut self,
        levels_max: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.nesting >= levels_max {
            return Err(self.too_deep(levels_max));
        }
        self.nesting += 1;
        let result = deep(|| inner(self));
        self.nesting -= 1;
        result
    }

    fn too_deep(&self, levels_max: usize) -> ParseError {
        self.error_here(format!(
            "query nests too deeply (more than {levels_max} levels)"
        ))
    }

    fn error_here(&self, message: String) -> ParseError {
        self.error_at(self.token(), message)
    }

    fn error_at(&self, token: &Token, message: String) -> ParseError {
        ParseError {
            message,
            line: token.line,
            column: token.column,
        }
    }

    /// The token that comes next is none of those that may stand here. Loki names the expected
    /// ones only when they are at most four.
    fn unexpected(&self, expecting: &[&str]) -> ParseError {
        self.unexpected_token(self.token(), expecting)
    }

    fn unexpected_token(&self, token: &Token, expecting: &[&str]) -> ParseError {
        if let Kind::Bad(message) = &token.kind {
            return self.error_at(token, message.clone());
        }
        let mut message = format!("syntax error: unexpected {}", token.kind);
        for (at, name) in expecting.iter().enumerate() {
            message.push_str(if at == 0 { ", expecting " } else { " or " });
            message.push_str(name);
        }
        self.error_at(token, message)
    }
}

#[cfg(test)]
mod tests;
