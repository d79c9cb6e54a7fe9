//! A line filter prepared for one segment: decided on the templates first.
//!
//! For each test and each template there is one of three verdicts: every line of the template
//! passes, none does, or it depends on the variables. The walk that finds out needs no
//! backtracking, because a variable is a longest run of token bytes: where a needle meets a slot,
//! the needle's own separators say how much of it the variable must be.

use std::sync::Arc;

use memchr::memmem::Finder;
use model::{LineFilter, LineMatcher, LineTest};

use crate::filter::TokenHash;
use crate::footer::Templates;
use crate::format::FILTER_TOKEN_MIN;
use crate::template::{RAW, Stamp, has_digit, is_token};

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

    fn not(self) -> Verdict {
        match self {
            Verdict::No => Verdict::All,
            Verdict::All => Verdict::No,
            Verdict::Maybe => Verdict::Maybe,
        }
    }
}

/// A text that is looked for.
#[derive(Debug)]
struct Needle {
    bytes: Box<[u8]>,
    finder: Finder<'static>,
}

/// A token that every passing line has as a whole token, if its template leaves the test open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) token: TokenHash,
    /// Whether that also holds for lines stored whole.
    pub(crate) raw: bool,
}

#[derive(Debug)]
enum Kind {
    Contains(Needle),
    Matches(Arc<dyn LineMatcher>, Vec<Needle>),
}

#[derive(Debug)]
pub(crate) struct Test {
    kind: Kind,
    verdicts: Box<[Verdict]>,
    pub(crate) probes: Vec<Probe>,
}

#[derive(Debug)]
struct Clause {
    negated: bool,
    tests: std::ops::Range<usize>,
}

/// Which lines of a chunk a token filter has ruled out for one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refuted {
    pub(crate) templated: bool,
    pub(crate) raw: bool,
}

/// The whole filter.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) tests: Vec<Test>,
    clauses: Vec<Clause>,
}

impl Search {
    pub(crate) fn new(filter: &LineFilter, templates: &Templates) -> Self {
        let mut tests = Vec::new();
        let mut clauses = Vec::new();
        for clause in &filter.clauses {
            let start = tests.len();
            tests.extend(clause.any.iter().map(|test| Test::new(test, templates)));
            clauses.push(Clause {
                negated: clause.negated,
                tests: start..tests.len(),
            });
        }
        Search { tests, clauses }
    }

    /// What is known of the lines of a template in a chunk.
    pub(crate) fn verdict(&self, template: u32, refuted: &[Refuted]) -> Verdict {
        let mut whole = Verdict::All;
        for clause in &self.clauses {
            let mut any = Verdict::No;
            for at in clause.tests.clone() {
                let refuted = refuted.get(at).copied().unwrap_or_default();
                any = any.or(self.tests[at].verdict(template, refuted));
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

    /// Whether the filter lets the line pass.
    pub(crate) fn is_match(&self, line: &[u8]) -> bool {
        self.clauses.iter().all(|clause| {
            let tests = &self.tests[clause.tests.clone()];
            tests.iter().any(|test| test.is_match(line)) != clause.negated
        })
    }

    /// A text that every open line of the template holds inside its variables, if one is known:
    /// when the template's variables in a chunk lack it, no line of the template passes.
    pub(crate) fn required(&self, template: u32) -> Option<&Finder<'static>> {
        let clause = self.clauses.iter().find(|clause| {
            let open = |test: &Test| test.verdicts[template as usize] == Verdict::Maybe;
            let tests = &self.tests[clause.tests.clone()];
            !clause.negated && tests.len() == 1 && tests.iter().all(open)
        })?;
        let needles = match &self.tests[clause.tests.start].kind {
            Kind::Contains(needle) => std::slice::from_ref(needle),
            Kind::Matches(_, needles) if template == RAW => needles.as_slice(),
            Kind::Matches(..) => &[],
        };
        let whole = |needle: &&Needle| template == RAW || needle.bytes.iter().all(|b| is_token(*b));
        needles.iter().find(whole).map(|needle| &needle.finder)
    }
}

impl Test {
    fn new(test: &LineTest, templates: &Templates) -> Self {
        let kind = match test {
            LineTest::Contains(needle) => Kind::Contains(Needle::new(needle)),
            LineTest::Matches(matcher) => {
                let literals = matcher.required_literals().iter();
                let literals = literals.filter(|literal| !literal.is_empty());
                let needles = literals.map(|literal| Needle::new(literal)).collect();
                Kind::Matches(Arc::clone(matcher), needles)
            }
        };
        let numbers = 0..templates.len() as u32;
        let verdicts: Box<[Verdict]> = numbers.map(|t| kind.verdict(templates, t)).collect();
        let needles = match &kind {
            Kind::Contains(needle) => std::slice::from_ref(needle),
            Kind::Matches(_, needles) => needles,
        };
        let probes = needles
            .iter()
            .flat_map(|needle| needle.probes(templates, &verdicts))
            .collect();
        Test {
            kind,
            verdicts,
            probes,
        }
    }

    fn verdict(&self, template: u32, refuted: Refuted) -> Verdict {
        let refuted = if template == RAW {
            refuted.raw
        } else {
            refuted.templated
        };
        match self.verdicts[template as usize] {
            Verdict::Maybe if refuted => Verdict::No,
            verdict => verdict,
        }
    }

    fn is_match(&self, line: &[u8]) -> bool {
        match &self.kind {
            Kind::Contains(needle) => needle.finder.find(line).is_some(),
            Kind::Matches(matcher, needles) => {
                needles.iter().all(|n| n.finder.find(line).is_some()) && matcher.is_match(line)
            }
        }
    }
}

impl Kind {
    fn verdict(&self, templates: &Templates, template: u32) -> Verdict {
        match self {
            Kind::Contains(needle) => needle.verdict(templates, template),
            Kind::Matches(matcher, needles) => {
                if let Some(always) = matcher.always() {
                    return Verdict::of(always);
                }
                if template != RAW && templates.slots(template).is_empty() {
                    return Verdict::of(matcher.is_match(templates.text(template)));
                }
                let lacks = |needle: &Needle| needle.verdict(templates, template) == Verdict::No;
                match needles.iter().any(lacks) {
                    true => Verdict::No,
                    false => Verdict::Maybe,
                }
            }
        }
    }
}

impl Needle {
    fn new(bytes: &[u8]) -> Self {
        Needle {
            bytes: bytes.into(),
            finder: Finder::new(bytes).into_owned(),
        }
    }

    fn verdict(&self, templates: &Templates, template: u32) -> Verdict {
        if self.bytes.is_empty() {
            return Verdict::All;
        }
        if template == RAW {
            return Verdict::Maybe;
        }
        let text = templates.text(template);
        let slots = templates.slots(template);
        if self.finder.find(text).is_some() && self.is_between(text, slots) {
            return Verdict::All;
        }
        let stamps = templates.stamps(template);
        match self.may_touch(text, slots, stamps) {
            true => Verdict::Maybe,
            false => Verdict::No,
        }
    }

    /// Whether a stretch of text between two slots holds the needle.
    fn is_between(&self, text: &[u8], slots: &[u32]) -> bool {
        let mut start = 0;
        let ends = slots.iter().map(|slot| *slot as usize);
        for end in ends.chain([text.len()]) {
            if self.finder.find(&text[start..end]).is_some() {
                return true;
            }
            start = end;
        }
        false
    }

    /// Whether the needle may be found in a place that takes in a variable or a part of one.
    fn may_touch(&self, text: &[u8], slots: &[u32], stamps: &[Stamp]) -> bool {
        if slots.is_empty() {
            return false;
        }
        let head = token_run(&self.bytes);
        if head > 0 {
            // It starts inside a variable: its first token is the end of that variable.
            let stamp = Stamp::of(&self.bytes[..head]);
            for (slot, (at, of)) in slots.iter().zip(stamps).enumerate() {
                let rest = &self.bytes[head..];
                if of.may_hold(stamp) && walk(text, slots, stamps, *at as usize, slot + 1, rest) {
                    return true;
                }
            }
        }
        let last = slots[slots.len() - 1] as usize;
        memchr::memchr_iter(self.bytes[0], &text[..last]).any(|at| {
            let slot = slots.partition_point(|slot| *slot as usize <= at);
            walk(text, slots, stamps, at, slot, &self.bytes)
        })
    }

    /// Tokens of the needle that are whole tokens of each passing line.
    fn probes(&self, templates: &Templates, verdicts: &[Verdict]) -> Vec<Probe> {
        let mut probes = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let run = token_run(&self.bytes[at..]);
            let token = &self.bytes[at..at + run];
            let bounded = at > 0 && at + run < self.bytes.len();
            if run >= FILTER_TOKEN_MIN && has_digit(token) {
                let raw = bounded || templates.raw_token_longest as usize <= run;
                if bounded || is_whole(token, templates, verdicts) {
                    probes.push(Probe {
                        token: TokenHash::of(token),
                        raw,
                    });
                }
            }
            at += run.max(1);
        }
        probes
    }
}

/// Whether no variable that may hold this token is longer than it: then it is the variable.
fn is_whole(token: &[u8], templates: &Templates, verdicts: &[Verdict]) -> bool {
    let stamp = Stamp::of(token);
    let open = (RAW + 1..templates.len() as u32)
        .filter(|template| verdicts[*template as usize] == Verdict::Maybe);
    open.flat_map(|template| templates.stamps(template))
        .all(|of| !of.may_hold(stamp) || of.longest as usize <= token.len())
}

fn token_run(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|byte| !is_token(*byte));
    end.unwrap_or(bytes.len())
}

/// Whether the needle may stand where `text[at..]` begins, the next slot being number `slot`.
fn walk(
    text: &[u8],
    slots: &[u32],
    stamps: &[Stamp],
    mut at: usize,
    mut slot: usize,
    mut needle: &[u8],
) -> bool {
    while let Some(first) = needle.first() {
        if slots.get(slot).is_some_and(|place| *place as usize == at) {
            let run = token_run(needle);
            if run == 0 || !stamps[slot].may_hold(Stamp::of(&needle[..run])) {
                return false;
            }
            needle = &needle[run..];
            slot += 1;
        } else {
            if text.get(at) != Some(first) {
                return false;
            }
            at += 1;
            needle = &needle[1..];
        }
    }
    true
}
