//! A line filter prepared for one segment: decided on the templates first.
//!
//! For each test and each template there is one of three verdicts: every line of the template
//! passes, none does, or it depends on the variables. The walk that finds out needs no
//! backtracking, because a variable is a longest run of token bytes: where a needle meets a slot,
//! the needle's own separators say how much of it the variable must be.

mod needle;

use std::ops::Range;
use std::sync::Arc;

use model::{LineFilter, LineMatcher, LineTest, TextMatcher};

use crate::footer::Templates;
use crate::format::TEXTS;
use crate::template::{RAW, Stamp};
pub(crate) use needle::Required;
use needle::{Needle, Probe, stretches, token_run};

/// What a template says about a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No line passes.
    No,
    /// Every line passes.
    All,
    /// Only the whole line can tell.
    Maybe,
}

impl Verdict {
    fn of(passes: bool) -> Self {
        if passes { Verdict::All } else { Verdict::No }
    }

    fn or(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::All, _) | (_, Verdict::All) => Verdict::All,
            (Verdict::No, Verdict::No) => Verdict::No,
            _ => Verdict::Maybe,
        }
    }

    fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::No, _) | (_, Verdict::No) => Verdict::No,
            (Verdict::All, Verdict::All) => Verdict::All,
            _ => Verdict::Maybe,
        }
    }

    fn not(self) -> Verdict {
        match self {
            Verdict::No => Verdict::All,
            Verdict::All => Verdict::No,
            Verdict::Maybe => Verdict::Maybe,
        }
    }
}

/// Every passing line contains all needles; without a matcher, that is enough to pass.
#[derive(Debug)]
struct Condition {
    needles: Vec<Needle>,
    matcher: Option<Arc<dyn LineMatcher>>,
}

#[derive(Debug)]
pub(crate) struct Test {
    condition: Condition,
    verdicts: Box<[Verdict]>,
    pub(crate) probes: Vec<Probe>,
    /// The bit of a test that values decide, else 0.
    bit: u8,
}

#[derive(Debug)]
struct Clause {
    negated: bool,
    tests: Range<usize>,
}

/// Which probes a chunk's filter lacks: for each test a bit per probe.
pub(crate) type Refuted = Vec<u64>;

/// Most probes of one test: as many as there are bits.
const PROBES_MAX: usize = 64;

/// The whole filter.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) tests: Vec<Test>,
    clauses: Vec<Clause>,
}

impl Search {
    pub(crate) fn new(filter: &LineFilter, templates: &Templates) -> Self {
        let mut tests: Vec<Test> = Vec::new();
        let mut clauses = Vec::new();
        let mut bit = 1u8;
        for clause in &filter.clauses {
            let start = tests.len();
            for test in &clause.any {
                let mut test = Test::new(test, templates);
                if bit != 0 && test.condition.is_of_values() {
                    test.bit = bit;
                    bit <<= 1;
                }
                tests.push(test);
            }
            clauses.push(Clause {
                negated: clause.negated,
                tests: start..tests.len(),
            });
        }
        Search { tests, clauses }
    }

    /// What is known of the lines of a template in a chunk.
    pub(crate) fn verdict(&self, template: u32, refuted: &[u64]) -> Verdict {
        self.verdict_with(template, refuted, 0, 0)
    }

    /// As [`verdict`](Self::verdict), of a line of which it is known whether its values pass some
    /// tests: `decided` are the bits of those tests, `passed` those that one of its values passes.
    pub(crate) fn verdict_with(
        &self,
        template: u32,
        refuted: &[u64],
        decided: u8,
        passed: u8,
    ) -> Verdict {
        let mut whole = Verdict::All;
        for clause in &self.clauses {
            let mut any = Verdict::No;
            for at in clause.tests.clone() {
                let refuted = refuted.get(at).copied().unwrap_or_default();
                let test = &self.tests[at];
                let verdict = match test.verdict(template, refuted) {
                    Verdict::Maybe if test.bit & decided != 0 => {
                        Verdict::of(test.bit & passed != 0)
                    }
                    verdict => verdict,
                };
                any = any.or(verdict);
            }
            let clause = if clause.negated { any.not() } else { any };
            match clause {
                Verdict::No => return Verdict::No,
                Verdict::All => {}
                Verdict::Maybe => whole = Verdict::Maybe,
            }
        }
        whole
    }

    /// Whether a test is open for lines of the template that is not among those decided.
    pub(crate) fn is_undecided(&self, template: u32, refuted: &[u64], decided: u8) -> bool {
        let mut tests = self.tests.iter().enumerate();
        tests.any(|(at, test)| {
            let refuted = refuted.get(at).copied().unwrap_or_default();
            test.bit & decided == 0 && test.verdict(template, refuted) == Verdict::Maybe
        })
    }

    /// The tests that token filters are asked about, clause by clause: those first by which most
    /// chunks are left out. Where no clause can be refuted by them, all tests with a probe together,
    /// since these may decide lines of a chunk.
    pub(crate) fn asked(&self) -> Vec<Range<usize>> {
        let has_probes = |at: usize| !self.tests[at].probes.is_empty();
        let refutable = |clause: &&Clause| {
            !clause.negated && !clause.tests.is_empty() && clause.tests.clone().all(has_probes)
        };
        let clauses = self.clauses.iter().filter(refutable);
        let mut asked: Vec<Range<usize>> = clauses.map(|clause| clause.tests.clone()).collect();
        let worst = |tests: &Range<usize>| {
            let tests = self.tests[tests.clone()].iter();
            tests.map(|test| test.probes.first().map(Probe::rank)).max()
        };
        asked.sort_by_key(|tests| (tests.len(), worst(tests)));
        if asked.is_empty() {
            asked.push(0..self.tests.len());
        }
        asked
    }

    /// Whether the filter lets the line pass.
    pub(crate) fn is_match(&self, line: &[u8]) -> bool {
        self.clauses.iter().all(|clause| {
            let tests = &self.tests[clause.tests.clone()];
            tests.iter().any(|test| test.is_match(line)) != clause.negated
        })
    }

    /// The filter as one that many lines can be looked through with at one go.
    pub(crate) fn in_text(&self) -> Option<InText<'_>> {
        match (self.clauses.as_slice(), self.tests.as_slice()) {
            ([clause], [test]) if test.condition.is_in_text() => Some(InText {
                negated: clause.negated,
                test,
            }),
            _ => None,
        }
    }

    /// The texts that open lines hold inside their variables, of tests that values do not decide: first
    /// those that are held by the fewest.
    pub(crate) fn required(&self) -> Vec<Required<'_>> {
        let mut required: Vec<Required<'_>> = self.required_by(|test| test.bit == 0).collect();
        required.sort_by_key(Required::rank);
        required
    }

    /// All texts that open lines hold inside their variables.
    pub(crate) fn all_required(&self) -> impl Iterator<Item = Required<'_>> {
        self.required_by(|_| true)
    }

    fn required_by(&self, of: impl Fn(&Test) -> bool) -> impl Iterator<Item = Required<'_>> {
        let clauses = self.clauses.iter();
        let single = clauses.filter(|clause| !clause.negated && clause.tests.len() == 1);
        let tests = single.map(|clause| &self.tests[clause.tests.start]);
        let needles = tests
            .filter(move |test| of(test))
            .flat_map(|test| &test.condition.needles);
        needles.filter_map(Needle::required)
    }

    /// The last of the classes of text that tell which lines of these templates pass, if values do.
    pub(crate) fn class_of(&self, templates: &[u32], refuted: &[u64]) -> Option<usize> {
        let bits = self.of_values().fold(0, |bits, test| bits | test.bit);
        let is_undecided = |template: &u32| self.is_undecided(*template, refuted, bits);
        if templates.iter().any(is_undecided) {
            return None;
        }
        let is_open = |test: &OfValues<'_>| templates.iter().any(|t| test.is_open(*t, refuted));
        let classes = self.of_values().filter(is_open).map(|test| test.class);
        classes.max()
    }

    /// The tests that can be made on values.
    pub(crate) fn of_values(&self) -> impl Iterator<Item = OfValues<'_>> {
        let tests = self.tests.iter().enumerate();
        let tests = tests.filter(|(_, test)| test.bit != 0);
        tests.map(|(at, test)| OfValues {
            bit: test.bit,
            class: test.condition.class(),
            at,
            test,
        })
    }
}

/// A filter of one test, which looks for stretches whatever stands around them.
pub(crate) struct InText<'a> {
    negated: bool,
    test: &'a Test,
}

impl InText<'_> {
    /// Calls `take` for the lines that pass, in order; they stand side by side in `text`, and `ends`
    /// are their ends.
    pub(crate) fn each_match(&self, text: &[u8], ends: &[u32], mut take: impl FnMut(usize)) {
        let (mut from, mut line) = (0, 0);
        while let Some(found) = self.test.condition.find(text, from) {
            let before = line;
            line += ends[before..].partition_point(|end| *end as usize <= found.start);
            if self.negated {
                (before..line).for_each(&mut take);
            }
            let end = ends[line] as usize;
            // What straddles two lines is in neither, but there may be more in the first.
            let start = line
                .checked_sub(1)
                .map_or(0, |before| ends[before] as usize);
            let passes = found.end <= end || self.test.is_match(&text[start..end]);
            if passes != self.negated {
                take(line);
            }
            (from, line) = (end, line + 1);
        }
        if self.negated {
            (line..ends.len()).for_each(take);
        }
    }
}

/// A test that each value decides by itself: a line whose template leaves it open passes if one of
/// its values, taken as a line, does.
pub(crate) struct OfValues<'a> {
    pub(crate) bit: u8,
    /// The last of the classes of text that may hold what is looked for.
    pub(crate) class: usize,
    at: usize,
    test: &'a Test,
}

impl OfValues<'_> {
    /// Whether the test depends on the values of a template's lines.
    pub(crate) fn is_open(&self, template: u32, refuted: &[u64]) -> bool {
        let refuted = refuted.get(self.at).copied().unwrap_or_default();
        self.test.verdict(template, refuted) == Verdict::Maybe
    }

    /// The first find that starts at or behind `from`; it may straddle values.
    pub(crate) fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        self.test.condition.find(text, from)
    }

    /// Whether a value passes.
    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.test.is_match(value)
    }
}

impl Test {
    fn new(test: &LineTest, templates: &Templates) -> Self {
        let condition = match test {
            LineTest::Contains(needle) => Condition {
                needles: vec![Needle::new(needle, templates)],
                matcher: None,
            },
            LineTest::Matches(matcher) => {
                let literals = matcher.required_literals().iter();
                let literals = literals.filter(|literal| !literal.is_empty());
                Condition {
                    needles: literals
                        .map(|literal| Needle::new(literal, templates))
                        .collect(),
                    matcher: Some(Arc::clone(matcher)),
                }
            }
        };
        let numbers = 0..templates.len() as u32;
        let verdicts: Box<[Verdict]> = numbers.map(|t| condition.verdict(templates, t)).collect();
        let needles = condition.needles.iter();
        let mut probes: Vec<Probe> = needles
            .flat_map(|needle| needle.probes(templates, &verdicts))
            .collect();
        // Ids that begin alike, with a time or a counter, differ towards their end.
        probes.reverse();
        probes.sort_by_key(Probe::rank);
        probes.truncate(PROBES_MAX);
        Test {
            condition,
            verdicts,
            probes,
            bit: 0,
        }
    }

    fn verdict(&self, template: u32, refuted: u64) -> Verdict {
        let verdict = self.verdicts[template as usize];
        if verdict != Verdict::Maybe || refuted == 0 {
            return verdict;
        }
        let lacks = |(at, probe): (usize, &Probe)| {
            let holds = &probe.templates;
            refuted >> at & 1 == 1 && holds.as_ref().is_none_or(|holds| holds[template as usize])
        };
        match self.probes.iter().enumerate().any(lacks) {
            true => Verdict::No,
            false => Verdict::Maybe,
        }
    }

    fn is_match(&self, line: &[u8]) -> bool {
        let mut needles = self.condition.needles.iter();
        needles.all(|needle| needle.finder.find(line).is_some())
            && self
                .condition
                .matcher
                .as_ref()
                .is_none_or(|m| m.is_match(line))
    }
}

impl Condition {
    /// Whether a line passes exactly if one of its tokens does.
    fn is_of_values(&self) -> bool {
        match (&self.matcher, self.needles.as_slice()) {
            (Some(matcher), _) => {
                let of_tokens = matcher.in_text().is_some_and(TextMatcher::is_of_tokens);
                matcher.always().is_none() && of_tokens
            }
            (None, [needle]) => {
                !needle.bytes.is_empty() && token_run(&needle.bytes) == needle.bytes.len()
            }
            _ => false,
        }
    }

    /// Whether a line passes exactly if [`find`](Self::find) finds something in it.
    fn is_in_text(&self) -> bool {
        match (&self.matcher, self.needles.as_slice()) {
            (Some(matcher), _) => matcher.always().is_none() && matcher.in_text().is_some(),
            (None, [needle]) => !needle.bytes.is_empty(),
            _ => false,
        }
    }

    /// The first find that starts at or behind `from`.
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        if let Some(matcher) = &self.matcher {
            return matcher.in_text()?.find(text, from);
        }
        let needle = self.needles.first()?;
        let at = from + needle.finder.find(text.get(from..)?)?;
        Some(at..at + needle.bytes.len())
    }

    /// The last of the classes of text that hold all needles.
    fn class(&self) -> usize {
        let classes = self.needles.iter();
        let classes = classes.map(|needle| Stamp::of_needle(&needle.bytes).class());
        classes.min().unwrap_or(TEXTS.len() - 1)
    }

    fn verdict(&self, templates: &Templates, template: u32) -> Verdict {
        let needles = self.needles.iter();
        let found = needles.map(|needle| needle.verdicts[template as usize]);
        let Some(matcher) = &self.matcher else {
            return found.fold(Verdict::All, Verdict::and);
        };
        if let Some(always) = matcher.always() {
            return Verdict::of(always);
        }
        let (text, slots) = (templates.text(template), templates.slots(template));
        if template != RAW && slots.is_empty() {
            return Verdict::of(matcher.is_match(text));
        }
        if self.is_of_values() && stretches(text, slots).any(|part| matcher.is_match(part)) {
            return Verdict::All;
        }
        Verdict::Maybe.and(found.fold(Verdict::All, Verdict::and))
    }
}
