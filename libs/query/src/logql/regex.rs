//! Regular expressions: the syntax of RE2 (as Go has it) on the engine of the `regex` crate.
//!
//! What it is: a translation of the text, the compiled wrappers that [`model::LineMatcher`] and
//! [`model::ValuePattern`] ask for, and what can be told about matching lines without running the
//! expression. What it is *not*: an engine.
//!
//! Differences that the translation removes: `\Q..\E`, a `{` that is no repetition, `[` `&&` `--`
//! inside classes, ASCII-only `\d \s \w \b`, `\<`, octal escapes, and what RE2 refuses but the
//! crate takes (`**`, counts above 1000, flags `x` and `u`).
//!
//! Everything is linear in the text; the compiled size is bounded by [`COMPILED_BYTES_MAX`].

mod captures;
mod literal;
pub(super) mod simplify;
mod translate;

use std::ops::Range;

use model::{LineMatcher, LineTest, TextMatcher, ValuePattern};

pub use captures::{CaptureMemory, CaptureRegex};
pub use literal::required_literals;
pub use translate::translate;

/// Most memory that one compiled expression may take.
pub const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting of groups.
const NESTING_MAX: u32 = 200;

/// Why a text is not a regular expression, in the words of Go's `regexp` package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {problem}: `{part}`")]
pub struct RegexError {
    /// What is wrong.
    pub problem: String,
    /// The part of the expression that is wrong.
    pub part: String,
}

impl RegexError {
    fn new(problem: &str, part: impl Into<String>) -> Self {
        RegexError {
            problem: problem.to_owned(),
            part: part.into(),
        }
    }

    /// An expression that was refused after translation: the crate says what is wrong.
    fn refused(text: &str, error: &regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(_) => {
                RegexError::new("expression too large", text.to_owned())
            }
            // The last line of the crate's message is the reason; those before show the place.
            other => {
                let message = other.to_string();
                let reason = message.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_owned();
                RegexError::new(&reason, text.to_owned())
            }
        }
    }
}

/// Compiles for search anywhere in a text.
///
/// # Errors
/// [`RegexError`] when RE2 would refuse it, or when it is too large.
pub fn compile(text: &str) -> Result<regex::Regex, RegexError> {
    build(text, &translate(text)?)
}

/// As [`compile`], if the expression takes no more than so many bytes when it is compiled.
pub(super) fn compile_small(text: &str, bytes_max: usize) -> Option<regex::Regex> {
    let translated = translate(text).ok()?;
    let mut builder = regex::RegexBuilder::new(&translated);
    let builder = builder.size_limit(bytes_max).nest_limit(NESTING_MAX);
    builder.build().ok()
}

/// Compiles for a match of the whole text, in which `.` also matches line breaks, as in label
/// matchers.
///
/// # Errors
/// As [`compile`].
pub fn compile_anchored(text: &str) -> Result<regex::Regex, RegexError> {
    build(text, &format!("^(?s:{})$", translate(text)?))
}

/// Compiles for a match of the whole text, in which `.` matches no line break, as in
/// `label_replace`. Errors may name the expression with what is put around it.
///
/// # Errors
/// As [`compile`].
pub fn compile_whole(text: &str) -> Result<regex::Regex, RegexError> {
    compile(&format!("^(?:{text})$"))
}

/// Compiles for search anywhere in a line, which may hold bytes that are not UTF-8.
///
/// # Errors
/// As [`compile`].
pub fn compile_bytes(text: &str) -> Result<regex::bytes::Regex, RegexError> {
    regex::bytes::RegexBuilder::new(&translate(text)?)
        .size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| RegexError::refused(text, &error))
}

/// The tests of which one must pass for `|~ text` to pass: plain substrings where the expression
/// says no more than that (`a|b`, `.*a.*`; the empty one for `.*`, which passes every line),
/// otherwise a single [`LineRegex`].
///
/// # Errors
/// As [`compile`].
pub fn line_tests(text: &str) -> Result<Vec<LineTest>, RegexError> {
    let regex = LineRegex::new(text)?;
    // Beside other legs, one that passes every line counts for nothing.
    if regex.always == Some(true)
        && let Some(simple) = simplify::simplify(text, false)
    {
        let every_line = || vec![LineTest::Contains(Box::default())];
        return Ok(tests_of(&simple)?.unwrap_or_else(every_line));
    }
    Ok(match literal::substrings(text) {
        Some(needles) => needles.into_iter().map(LineTest::Contains).collect(),
        None => vec![LineTest::Matches(std::sync::Arc::new(regex))],
    })
}

/// The tests that a simple form stands for; `None` if it is just one that passes every line.
fn tests_of(simple: &simplify::Simple) -> Result<Option<Vec<LineTest>>, RegexError> {
    use simplify::Simple;
    let run = |text: &str| -> Result<Vec<LineTest>, RegexError> {
        let regex = LineRegex::new(text)?;
        Ok(vec![LineTest::Matches(std::sync::Arc::new(regex))])
    };
    Ok(Some(match simple {
        Simple::Always => return Ok(None),
        Simple::NotEmpty => run("(?s).")?,
        Simple::Equal(text, false) | Simple::Contains(text, false) => {
            vec![LineTest::Contains(text.as_bytes().into())]
        }
        Simple::Equal(text, true) | Simple::Contains(text, true) => {
            run(&format!("(?i){}", regex::escape(text)))?
        }
        Simple::Any(parts) => {
            let mut tests = Vec::new();
            for part in parts {
                tests.extend(tests_of(part)?.unwrap_or_default());
            }
            tests
        }
    }))
}

/// `|~ "text"` as one test of a line.
#[derive(Clone, Debug)]
pub struct LineRegex {
    regex: regex::bytes::Regex,
    required: Vec<Box<[u8]>>,
    always: Option<bool>,
    /// Whether its finds are free of what is around them, and if so, inside of tokens.
    stretches: Option<bool>,
}

impl LineRegex {
    /// Compiles `text`.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn new(text: &str) -> Result<Self, RegexError> {
        Ok(LineRegex {
            regex: compile_bytes(text)?,
            required: required_literals(text),
            always: literal::always(text),
            stretches: literal::stretches(text),
        })
    }

    /// The compiled expression.
    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.regex
    }
}

impl LineMatcher for LineRegex {
    fn is_match(&self, line: &[u8]) -> bool {
        self.always.unwrap_or_else(|| self.regex.is_match(line))
    }

    fn required_literals(&self) -> &[Box<[u8]>] {
        &self.required
    }

    fn always(&self) -> Option<bool> {
        self.always
    }

    fn in_text(&self) -> Option<&dyn TextMatcher> {
        self.stretches.map(|_| self as &dyn TextMatcher)
    }
}

impl TextMatcher for LineRegex {
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        self.regex.find_at(text, from).map(|found| found.range())
    }

    fn is_of_tokens(&self) -> bool {
        self.stretches == Some(true)
    }
}

/// `name =~ "text"` as a test of a whole label value.
#[derive(Clone, Debug)]
pub struct ValueRegex {
    regex: regex::Regex,
    /// The only values that can match, when the expression is a short list of texts.
    values: Option<Vec<Box<str>>>,
}

impl ValueRegex {
    /// Compiles `text`, anchored at both ends.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn new(text: &str) -> Result<Self, RegexError> {
        Ok(ValueRegex {
            regex: compile_anchored(text)?,
            values: literal::exact_values(text),
        })
    }

    /// The only values that can match, when the expression is a list of texts (`a|b`).
    pub fn values(&self) -> Option<&[Box<str>]> {
        self.values.as_deref()
    }
}

impl ValuePattern for ValueRegex {
    fn is_match(&self, value: &str) -> bool {
        match &self.values {
            Some(values) => values.iter().any(|v| **v == *value),
            None => self.regex.is_match(value),
        }
    }
}

/// `| name =~ "text"`, a label filter, as a test of a whole label value: what Loki makes of it (see
/// [`simplify`]), where `.` does not match line breaks.
#[derive(Clone, Debug)]
pub(super) enum FilterRegex {
    Simple(simplify::Simple),
    Regex(regex::Regex),
}

impl FilterRegex {
    /// Compiles `text`.
    pub(super) fn new(text: &str) -> Result<Self, RegexError> {
        let translated = translate(text)?;
        let regex = build(text, &format!("^(?:{translated})$"))?;
        Ok(match simplify::simplify(text, true) {
            Some(simple) => FilterRegex::Simple(simple),
            None => FilterRegex::Regex(regex),
        })
    }

    /// Whether every value passes.
    pub(super) fn is_always(&self) -> bool {
        matches!(self, FilterRegex::Simple(simplify::Simple::Always))
    }
}

impl ValuePattern for FilterRegex {
    fn is_match(&self, value: &str) -> bool {
        match self {
            FilterRegex::Simple(simple) => simple.is_match(value),
            FilterRegex::Regex(regex) => regex.is_match(value),
        }
    }
}

fn build(text: &str, translated: &str) -> Result<regex::Regex, RegexError> {
    regex::RegexBuilder::new(translated)
        .size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| RegexError::refused(text, &error))
}

#[cfg(test)]
mod tests;
