//! The line filter, prepared for searching much text that is not indexed.

use memchr::memmem::Finder;
use model::{LineClause, LineFilter, LineTest};

/// A line filter with its searchers built once.
#[derive(Debug)]
pub(super) struct LineSearch<'a> {
    /// A text that every passing line holds: looked for in many lines at once.
    required: Option<Finder<'a>>,
    clauses: Vec<Clause<'a>>,
}

#[derive(Debug)]
struct Clause<'a> {
    negated: bool,
    any: Vec<Test<'a>>,
}

#[derive(Debug)]
enum Test<'a> {
    Contains(Box<Finder<'a>>),
    Matches {
        literals: Vec<Finder<'a>>,
        matcher: &'a dyn model::LineMatcher,
    },
}

impl<'a> LineSearch<'a> {
    pub(super) fn new(filter: &'a LineFilter) -> Self {
        let required = filter
            .clauses
            .iter()
            .filter_map(required_literal)
            .max_by_key(|literal| literal.len())
            .filter(|literal| !literal.is_empty())
            .map(Finder::new);
        LineSearch {
            required,
            clauses: filter.clauses.iter().map(Clause::new).collect(),
        }
    }

    /// Whether the line passes every clause.
    pub(super) fn is_match(&self, line: &[u8]) -> bool {
        self.clauses.iter().all(|clause| clause.is_match(line))
    }

    /// Calls `found` with each line of `lines` that passes, in order. Line `n` ends at `ends[n]`
    /// and starts where the one before ends; `first` is the start of the first one.
    pub(super) fn each_match(
        &self,
        lines: &[u8],
        first: usize,
        ends: &[u32],
        mut found: impl FnMut(usize),
    ) {
        let start_of = |at: usize| match at.checked_sub(1) {
            None => first,
            Some(before) => ends[before] as usize,
        };
        let Some(required) = &self.required else {
            for (at, end) in ends.iter().enumerate() {
                if self.is_match(&lines[start_of(at)..*end as usize]) {
                    found(at);
                }
            }
            return;
        };
        let end = ends.last().map_or(first, |end| *end as usize);
        let text = &lines[..end];
        let mut from = first;
        while let Some(offset) = text.get(from..).and_then(|rest| required.find(rest)) {
            // The hit may straddle two lines: then the line holds it only if the clauses say so.
            let hit = from + offset;
            let at = ends.partition_point(|end| *end as usize <= hit);
            let end = ends[at] as usize;
            let whole = hit + required.needle().len() <= end;
            if whole && self.is_match(&lines[start_of(at)..end]) {
                found(at);
            }
            from = if whole { end } else { hit + 1 };
        }
    }
}

/// A text that a line must hold to pass the clause.
fn required_literal(clause: &LineClause) -> Option<&[u8]> {
    match (clause.negated, clause.any.as_slice()) {
        (false, [LineTest::Contains(needle)]) => Some(needle),
        (false, [LineTest::Matches(matcher)]) => matcher
            .required_literals()
            .iter()
            .map(|literal| &**literal)
            .max_by_key(|literal| literal.len()),
        _ => None,
    }
}

impl<'a> Clause<'a> {
    fn new(clause: &'a LineClause) -> Self {
        let test = |test: &'a LineTest| match test {
            LineTest::Contains(needle) => Test::Contains(Box::new(Finder::new(needle))),
            LineTest::Matches(matcher) => Test::Matches {
                literals: matcher
                    .required_literals()
                    .iter()
                    .map(Finder::new)
                    .collect(),
                matcher: &**matcher,
            },
        };
        Clause {
            negated: clause.negated,
            any: clause.any.iter().map(test).collect(),
        }
    }

    fn is_match(&self, line: &[u8]) -> bool {
        self.any.iter().any(|test| test.is_match(line)) != self.negated
    }
}

impl Test<'_> {
    fn is_match(&self, line: &[u8]) -> bool {
        match self {
            Test::Contains(finder) => finder.find(line).is_some(),
            Test::Matches { literals, matcher } => {
                literals.iter().all(|literal| literal.find(line).is_some())
                    && matcher.is_match(line)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(clauses: &[(bool, Vec<String>)]) -> LineFilter {
        LineFilter {
            clauses: clauses
                .iter()
                .map(|(negated, needles)| LineClause {
                    negated: *negated,
                    any: needles
                        .iter()
                        .map(|needle| LineTest::Contains(needle.as_bytes().into()))
                        .collect(),
                })
                .collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn searching_many_lines_at_once_finds_what_testing_each_finds(
            lines in prop::collection::vec("[ab]{0,5}", 0..20),
            clauses in prop::collection::vec(
                (any::<bool>(), prop::collection::vec("[ab]{0,3}", 1..3)), 0..3),
            skipped in 0usize..3,
        ) {
            let filter = filter(&clauses);
            let search = LineSearch::new(&filter);
            let mut text = Vec::new();
            let mut ends = Vec::new();
            for line in &lines {
                text.extend_from_slice(line.as_bytes());
                ends.push(text.len() as u32);
            }
            let skipped = skipped.min(lines.len());
            let first = skipped.checked_sub(1).map_or(0, |at| ends[at] as usize);
            let mut found = Vec::new();
            search.each_match(&text, first, &ends[skipped..], |at| found.push(at + skipped));
            let want: Vec<usize> = (skipped..lines.len())
                .filter(|at| filter.is_match(lines[*at].as_bytes()))
                .collect();
            prop_assert_eq!(found, want);
        }
    }
}
