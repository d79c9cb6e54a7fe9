use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A test of a line that only its own code understands (a regular expression, an address range, a
/// pattern), together with what is known about every line that passes it.
pub trait LineMatcher: fmt::Debug + Send + Sync {
    /// Whether the line passes.
    fn is_match(&self, line: &[u8]) -> bool;

    /// Texts of which *each* is contained, byte for byte, in *every* line that passes. May be
    /// empty when nothing is known; a reader may skip lines that lack one of them.
    fn required_literals(&self) -> &[Box<[u8]>] {
        &[]
    }

    /// Whether the answer is known to be the same for every line (`.*` and the like).
    fn always(&self) -> Option<bool> {
        None
    }

    /// Given when a line passes for a short stretch of it, whatever stands around that: then many
    /// lines can be looked through at one go.
    fn in_text(&self) -> Option<&dyn TextMatcher> {
        None
    }
}

/// Finds the stretches for which a [`LineMatcher`] lets lines pass. A text passes exactly if such a
/// stretch is in it.
pub trait TextMatcher {
    /// The first stretch that starts at or behind `from`: none that is found there starts before
    /// it. It has at least one byte and at most [`STRETCH_BYTES_MAX`]. `None` if there is none any
    /// more; `from` is at most the length of the text.
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>>;

    /// Whether all stretches are made of ASCII letters, digits, `_` and bytes from 0x80 on: then a
    /// line passes exactly if one of its longest runs of such bytes does.
    fn is_of_tokens(&self) -> bool {
        false
    }
}

/// Most bytes that a [`TextMatcher`] finds: a find that straddles two lines has to be looked for
/// again in one of them, and that must not cost more than a line does.
pub const STRETCH_BYTES_MAX: usize = 256;

/// One test of a line.
#[derive(Clone, Debug)]
pub enum LineTest {
    /// The line contains these bytes anywhere; the empty text is contained in every line.
    Contains(Box<[u8]>),
    /// Anything else.
    Matches(Arc<dyn LineMatcher>),
}

impl LineTest {
    /// Whether the line passes this test.
    pub fn is_match(&self, line: &[u8]) -> bool {
        match self {
            LineTest::Contains(needle) => contains(line, needle),
            LineTest::Matches(matcher) => matcher.is_match(line),
        }
    }
}

/// Passes when any of the tests does, or, if negated, when none does.
#[derive(Clone, Debug)]
pub struct LineClause {
    /// `!=`, `!~`, `!>`.
    pub negated: bool,
    /// At least one test.
    pub any: Vec<LineTest>,
}

impl LineClause {
    /// Whether the line passes this clause.
    pub fn is_match(&self, line: &[u8]) -> bool {
        self.any.iter().any(|test| test.is_match(line)) != self.negated
    }
}

/// Passes when every clause does; the empty filter passes every line. This is what a query pushes
/// down to heads and segments: the line filters that stand before anything that changes the line.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// All must pass.
    pub clauses: Vec<LineClause>,
}

impl LineFilter {
    /// Whether the line passes every clause.
    pub fn is_match(&self, line: &[u8]) -> bool {
        self.clauses.iter().all(|clause| clause.is_match(line))
    }

    /// Whether every line passes without being looked at.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }
}

/// Plain substring search by the first byte. Readers that search much keep a prepared searcher of
/// their own; this is the definition that theirs must agree with.
fn contains(line: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return true;
    };
    let mut line = line;
    while let Some(at) = line.iter().position(|byte| byte == first) {
        line = &line[at + 1..];
        if line.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(negated: bool, needles: &[&str]) -> LineClause {
        LineClause {
            negated,
            any: needles
                .iter()
                .map(|n| LineTest::Contains(n.as_bytes().into()))
                .collect(),
        }
    }

    #[test]
    fn contains_finds_needles_at_both_ends_and_inside() {
        for needle in ["", "a", "aab", "ab", "b", "aaab"] {
            assert!(contains(b"aaab", needle.as_bytes()), "{needle}");
        }
        assert!(!contains(b"aaab", b"ba"));
        assert!(!contains(b"", b"a"));
    }

    #[test]
    fn a_clause_is_an_or_and_its_negation_a_nor() {
        assert!(clause(false, &["x", "b"]).is_match(b"abc"));
        assert!(!clause(true, &["x", "b"]).is_match(b"abc"));
        assert!(clause(true, &["x", "y"]).is_match(b"abc"));
    }

    #[test]
    fn a_filter_is_an_and() {
        let filter = LineFilter {
            clauses: vec![clause(false, &["a"]), clause(true, &["c"])],
        };
        assert!(filter.is_match(b"ab"));
        assert!(!filter.is_match(b"abc"));
        assert!(LineFilter::default().is_match(b""));
    }
}
