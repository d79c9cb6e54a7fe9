//! A text that is looked for, and what templates say about it.

use std::cmp::Reverse;
use std::ops::Range;

use memchr::memmem::Finder;

use super::Verdict;
use crate::filter::{TokenHash, decimal_grams, gram_hashes, token_hashes};
use crate::footer::Templates;
use crate::template::{RAW, Stamp, has_digit, is_token};

/// A text that is looked for.
#[derive(Debug)]
pub(super) struct Needle {
    pub(super) bytes: Box<[u8]>,
    pub(super) finder: Finder<'static>,
    /// A token of it that cannot be in a template's text: where the needle is not decided by the
    /// template, one variable holds this token.
    inner: Option<Finder<'static>>,
    /// Whether a separator stands before and behind it in the needle.
    bounds: (bool, bool),
    pub(super) verdicts: Box<[Verdict]>,
}

/// Something that the filter of a chunk must hold if a line passes that its template leaves open.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) token: TokenHash,
    /// Bytes of the token that it is of.
    length: usize,
    /// It is of a part of it that is digits and nothing else.
    decimal: bool,
    /// The templates for which that holds; `None` for all.
    pub(super) templates: Option<Box<[bool]>>,
}

impl Probe {
    /// Probes with the least rank tell most: those for all templates, of them those of the longest
    /// token, which is the least likely to be everywhere, and of them those with a letter.
    pub(crate) fn rank(&self) -> (bool, Reverse<usize>, bool) {
        (self.templates.is_some(), Reverse(self.length), self.decimal)
    }
}

/// A text that is inside one variable of every passing line that is left open by its template, or
/// anywhere in a passing line that is stored whole.
pub(crate) struct Required<'a> {
    pub(crate) finder: &'a Finder<'static>,
    /// The last of the classes of text that may hold it; it may be in those before too.
    pub(crate) class: usize,
    /// Whether it is the beginning and the end of the variable.
    bounds: (bool, bool),
    verdicts: &'a [Verdict],
}

impl Required<'_> {
    /// Whether the absence of the text decides the lines of this template.
    pub(crate) fn decides(&self, template: u32) -> bool {
        self.verdicts[template as usize] == Verdict::Maybe
    }

    /// Those with the least rank are held by the fewest values.
    pub(super) fn rank(&self) -> (Reverse<usize>, Reverse<usize>) {
        let bounds = usize::from(self.bounds.0) + usize::from(self.bounds.1);
        (Reverse(bounds), Reverse(self.finder.needle().len()))
    }

    /// Whether a value of the template with this extent is one that holds it, if it was found at `place`.
    pub(crate) fn is_held(&self, template: u32, extent: (usize, usize), place: usize) -> bool {
        let end = place + self.finder.needle().len();
        let (begins, ends) = self.bounds;
        end <= extent.1
            // A line that is stored whole has it somewhere.
            && (template == RAW || (!begins || place == extent.0) && (!ends || end == extent.1))
    }
}

impl Needle {
    pub(super) fn new(bytes: &[u8], templates: &Templates) -> Self {
        let inner = match token_run(bytes) == bytes.len() {
            // A needle without a separator is in one variable, if not in the text.
            true => Some(0..bytes.len()),
            false => tokens(bytes)
                .filter(|token| has_digit(&bytes[token.clone()]))
                .max_by_key(Range::len),
        };
        let inner = inner.filter(|inner| !inner.is_empty());
        let bounds = inner.as_ref().map_or((false, false), |inner| {
            (inner.start > 0, inner.end < bytes.len())
        });
        let mut needle = Needle {
            bytes: bytes.into(),
            finder: Finder::new(bytes).into_owned(),
            inner: inner.map(|inner| Finder::new(&bytes[inner]).into_owned()),
            bounds,
            verdicts: Box::default(),
        };
        let numbers = 0..templates.len() as u32;
        needle.verdicts = numbers.map(|t| needle.decide(templates, t)).collect();
        needle
    }

    pub(super) fn required(&self) -> Option<Required<'_>> {
        let finder = self.inner.as_ref()?;
        Some(Required {
            finder,
            class: Stamp::of_needle(finder.needle()).class(),
            bounds: self.bounds,
            verdicts: &self.verdicts,
        })
    }

    fn decide(&self, templates: &Templates, template: u32) -> Verdict {
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
        stretches(text, slots).any(|part| self.finder.find(part).is_some())
    }

    /// Whether the needle may be found in a place that takes in a variable or a part of one.
    fn may_touch(&self, text: &[u8], slots: &[u32], stamps: &[Stamp]) -> bool {
        if slots.is_empty() {
            return false;
        }
        let head = token_run(&self.bytes);
        if head > 0 {
            // It starts inside a variable: its first token is the end of that variable.
            let stamp = Stamp::of_needle(&self.bytes[..head]);
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

    /// What the filter of a chunk must hold if it has an open line with the needle.
    pub(super) fn probes(&self, templates: &Templates, verdicts: &[Verdict]) -> Vec<Probe> {
        let mut probes = Vec::new();
        for place in tokens(&self.bytes) {
            let token = &self.bytes[place.clone()];
            let length = token.len();
            let bounded = place.start > 0 && place.end < self.bytes.len();
            // Only a token with a digit is sure to be in a variable, or in a line stored whole.
            if !has_digit(token) {
                continue;
            }
            let decimal = decimal_grams(token);
            let by_grams = gram_hashes(token, &mut |token| {
                probes.push(Probe {
                    token,
                    length,
                    decimal: decimal.contains(&token),
                    templates: None,
                });
            });
            if by_grams {
                continue;
            }
            let holds = match bounded {
                true => None,
                false => Some(whole_in(token, templates, verdicts)),
            };
            if holds.as_ref().is_none_or(|holds| holds.contains(&true)) {
                token_hashes(token, |token| {
                    probes.push(Probe {
                        token,
                        length,
                        decimal: false,
                        templates: holds.clone(),
                    });
                });
            }
        }
        probes
    }
}

/// The open templates in which no variable that may hold this token is longer than it: there it is
/// the variable.
fn whole_in(token: &[u8], templates: &Templates, verdicts: &[Verdict]) -> Box<[bool]> {
    let stamp = Stamp::of_needle(token);
    let whole = |template: u32| {
        if template == RAW {
            return templates.raw_token_longest as usize <= token.len();
        }
        let mut stamps = templates.stamps(template).iter();
        verdicts[template as usize] == Verdict::Maybe
            && stamps.all(|of| !of.may_hold(stamp) || of.longest as usize <= token.len())
    };
    (0..templates.len() as u32).map(whole).collect()
}

/// The parts of a template's text before, between and behind the slots.
pub(super) fn stretches<'t>(text: &'t [u8], slots: &'t [u32]) -> impl Iterator<Item = &'t [u8]> {
    let mut start = 0;
    let ends = slots.iter().map(|slot| *slot as usize);
    ends.chain([text.len()]).map(move |end| {
        let part = &text[start..end];
        start = end;
        part
    })
}

/// Where the tokens of a text stand.
fn tokens(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].iter().position(|byte| is_token(*byte))?;
        let start = at;
        at += token_run(&text[at..]);
        Some(start..at)
    })
}

pub(super) fn token_run(bytes: &[u8]) -> usize {
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
            if run == 0 || !stamps[slot].may_hold(Stamp::of_needle(&needle[..run])) {
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
