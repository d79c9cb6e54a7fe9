//! What the syntax tree of an expression tells about the lines that match.

use model::STRETCH_BYTES_MAX;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{NESTING_MAX, translate};

/// Most texts that a list of texts (`a|b|c`) may have to be treated as one.
const TEXTS_MAX: usize = 64;

/// Texts of which each stands, byte for byte, in every line in which `text` is found. Empty when
/// nothing is known or when `text` is no regular expression.
pub fn required_literals(text: &str) -> Vec<Box<[u8]>> {
    let Some(hir) = syntax_tree(text) else {
        return Vec::new();
    };
    let mut runs = Runs::default();
    runs.add(&hir);
    runs.end_run();
    let mut found = runs.found;
    found.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    found.dedup();
    found
}

/// Whether the search gives the same answer for every line.
pub(super) fn always(text: &str) -> Option<bool> {
    let hir = syntax_tree(text)?;
    matches_everywhere(&hir).then_some(true)
}

/// Whether a search finds short stretches of which each depends on nothing around it: see
/// [`model::LineMatcher::in_text`]; and whether all of them lie inside tokens.
pub(super) fn stretches(text: &str) -> Option<bool> {
    let hir = syntax_tree(text)?;
    let properties = hir.properties();
    let is_short = properties.maximum_len()? <= STRETCH_BYTES_MAX;
    let is_free = properties.minimum_len() > Some(0) && properties.look_set().is_empty();
    (is_short && is_free).then(|| has_tokens(&hir))
}

fn has_tokens(hir: &Hir) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().copied().all(is_token),
        HirKind::Class(Class::Bytes(class)) => {
            let mut ranges = class.ranges().iter();
            ranges.all(|range| (range.start()..=range.end()).all(is_token))
        }
        HirKind::Class(Class::Unicode(class)) => class.ranges().iter().all(|range| {
            let ascii = u32::from(range.start())..=u32::from(range.end()).min(0x7f);
            ascii.into_iter().all(|code| is_token(code as u8))
        }),
        HirKind::Repetition(repetition) => has_tokens(&repetition.sub),
        HirKind::Capture(capture) => has_tokens(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(has_tokens),
    }
}

/// The substrings of which one must be in a line, when that is all the expression says.
pub(super) fn substrings(text: &str) -> Option<Vec<Box<[u8]>>> {
    let hir = syntax_tree(text)?;
    let mut needles = Vec::new();
    collect_substrings(&hir, &mut needles)?;
    Some(needles)
}

/// The texts that the expression, anchored, matches, when it is a list of texts.
pub(super) fn exact_values(text: &str) -> Option<Vec<Box<str>>> {
    let hir = syntax_tree(text)?;
    let mut values = Vec::new();
    collect_values(&hir, &mut values)?;
    Some(values)
}

/// A text with which every match begins.
pub(super) fn prefix(text: &str) -> Option<Box<[u8]>> {
    fn first(hir: &Hir) -> Option<Box<[u8]>> {
        match hir.kind() {
            HirKind::Literal(literal) => Some(literal.0.clone()),
            HirKind::Capture(capture) => first(&capture.sub),
            HirKind::Concat(parts) => first(parts.first()?),
            _ => None,
        }
    }
    first(&syntax_tree(text)?)
}

fn syntax_tree(text: &str) -> Option<Hir> {
    let translated = translate(text).ok()?;
    regex_syntax::ParserBuilder::new()
        .nest_limit(NESTING_MAX)
        .utf8(false)
        .build()
        .parse(&translated)
        .ok()
}

/// Whether the empty text matches at every place: then a search cannot fail.
fn matches_everywhere(hir: &Hir) -> bool {
    let properties = hir.properties();
    properties.look_set().is_empty() && properties.minimum_len() == Some(0)
}

fn collect_substrings(hir: &Hir, needles: &mut Vec<Box<[u8]>>) -> Option<()> {
    match hir.kind() {
        HirKind::Literal(literal) if needles.len() < TEXTS_MAX => {
            needles.push(literal.0.clone());
            Some(())
        }
        HirKind::Capture(capture) => collect_substrings(&capture.sub, needles),
        HirKind::Alternation(parts) => parts
            .iter()
            .try_for_each(|p| collect_substrings(p, needles)),
        // At the ends of a search, what may be empty says nothing: `.*a.*` is `a`.
        HirKind::Concat(parts) => {
            let mut rest = parts.as_slice();
            while let Some((first, tail)) = rest.split_first()
                && matches_everywhere(first)
            {
                rest = tail;
            }
            while let Some((last, head)) = rest.split_last()
                && matches_everywhere(last)
            {
                rest = head;
            }
            match rest {
                [only] => collect_substrings(only, needles),
                _ => None,
            }
        }
        _ => None,
    }
}

fn collect_values(hir: &Hir, values: &mut Vec<Box<str>>) -> Option<()> {
    match hir.kind() {
        HirKind::Literal(literal) if values.len() < TEXTS_MAX => {
            values.push(std::str::from_utf8(&literal.0).ok()?.into());
            Some(())
        }
        HirKind::Empty if values.len() < TEXTS_MAX => {
            values.push("".into());
            Some(())
        }
        HirKind::Capture(capture) => collect_values(&capture.sub, values),
        HirKind::Alternation(parts) => parts.iter().try_for_each(|p| collect_values(p, values)),
        _ => None,
    }
}

/// Collects runs of literals that stand side by side.
#[derive(Default)]
struct Runs {
    run: Vec<u8>,
    found: Vec<Box<[u8]>>,
}

impl Runs {
    fn add(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Literal(literal) => self.run.extend_from_slice(&literal.0),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.add(part)),
            HirKind::Capture(capture) => self.add(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min >= 1 => {
                // The first turn follows what stands before, the last one precedes what follows.
                self.add(&repetition.sub);
                self.end_run();
                if repetition.max == Some(1) {
                    return;
                }
                let mut last = Runs::default();
                last.add(&repetition.sub);
                if last.found.is_empty() {
                    self.run = last.run;
                }
            }
            // Width 0: what stands before and after are neighbours.
            HirKind::Look(_) | HirKind::Empty => {}
            HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Alternation(_) => self.end_run(),
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.found.push(std::mem::take(&mut self.run).into());
        }
    }
}
