//! The levels of all lines of a template, found out by looking at a few.

use query::logql::pipeline::level::{level_fields, level_words, normalise, of_line};

use super::shape::{Fixed, Template, marker};

/// What the level of a line depends on, unless one of [its variables](Template::level_keys) is the
/// name of a level's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LevelRule {
    /// On nothing.
    Always(&'static str),
    /// It is this one, unless what should be a number is none and spoils the line.
    Numbers(&'static str),
    /// It is this one, unless a variable has a word that tells a level.
    Words(&'static str),
    /// On the value of this variable, which is that of a level's field; if it names no level, on
    /// words as well.
    Slot(usize),
}

impl Template<'_> {
    fn level_with<'v>(
        &self,
        fixed: &Fixed<'_>,
        value: impl Fn(usize) -> Option<&'v [u8]>,
    ) -> &'static str {
        let line = self.line(|slot, line| {
            match fixed.get(slot).copied().flatten().or_else(|| value(slot)) {
                Some(value) => line.extend_from_slice(value),
                None => line.extend_from_slice(&marker(slot)),
            }
        });
        of_line(&line)
    }

    /// The level of lines in which one variable has this value and the others tell nothing.
    pub(super) fn level_of(&self, fixed: &Fixed<'_>, slot: usize, value: &[u8]) -> &'static str {
        self.level_with(fixed, |at| (at == slot).then_some(value))
    }

    /// What the level of lines depends on in which the deciding variables are fixed, those at `bare`
    /// being numbers; `None` when it is to be seen from the lines.
    pub(super) fn level_rule(
        &self,
        fixed: &Fixed<'_>,
        bare: &[(usize, bool)],
    ) -> Option<LevelRule> {
        let base = self.level_with(fixed, |_| None);
        let is_free = |slot: &usize| fixed.get(*slot).copied().flatten().is_none();
        let free = || (0..self.slots.len()).filter(is_free);
        if free().next().is_none() {
            return Some(LevelRule::Always(base));
        }
        let is_bare = |slot: usize| bare.iter().any(|(bare, _)| *bare == slot);
        // What JSON has without quotes is no text, and so no level.
        let with = |word| self.level_with(fixed, |slot| (!is_bare(slot)).then_some(word));
        // Two spellings that name different levels in fields, and are no words of lines.
        let (warn, trace) = (&b"wrn"[..], &b"trc"[..]);
        if with(warn) != with(trace) {
            let tells = |slot: &usize| {
                self.level_of(fixed, *slot, warn) != self.level_of(fixed, *slot, trace)
            };
            return free().find(tells).map(LevelRule::Slot);
        }
        // A word counts where it is the first one.
        let word = &b"trace"[..];
        let fixed_text = fixed.iter().flatten();
        let stands = fixed_text.chain([&self.text]).any(|text| has(text, word));
        Some(match with(word) == "trace" || stands {
            true => LevelRule::Words(base),
            false if free().any(is_bare) => LevelRule::Numbers(base),
            false => LevelRule::Always(base),
        })
    }

    /// Variables that may be the name of a level's field, or a part of it.
    pub(super) fn level_keys(&self) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| {
            let behind = &self.text[*slot as usize..];
            let is_key = match behind.first() {
                Some(b'=') => true,
                Some(b'.') => starts(behind, b".level"),
                Some(b'"') => behind[1..].trim_ascii_start().first() == Some(&b':'),
                _ => false,
            };
            is_key.then_some(number)
        })
    }
}

/// Whether a value of a level's field names a level, so that nothing else of the line matters.
pub(super) fn names_level(value: &[u8]) -> bool {
    let levels = [
        "trace", "debug", "info", "warn", "error", "critical", "fatal",
    ];
    std::str::from_utf8(value).is_ok_and(|value| levels.contains(&normalise(value)))
}

/// Whether a variable at the beginning of a JSON value without quotes is no number, so that the line may
/// be no JSON.
pub(super) fn is_no_number(value: &[u8]) -> bool {
    !value.iter().all(u8::is_ascii_digit) && !matches!(value, b"true" | b"false" | b"null")
}

/// Whether a text is the name of a level's field in any case, or a part of one.
pub(super) fn is_level_key(key: &[u8]) -> bool {
    let is = |part: &str| part.as_bytes().eq_ignore_ascii_case(key);
    level_fields().any(|field| field.split('.').any(is))
}

/// Whether a word that tells a level is in the text, in any case.
pub(super) fn has_level_word(text: &[u8]) -> bool {
    // Most bytes begin no word: first letters only.
    const FIRST: [bool; 256] = {
        let mut first = [false; 256];
        let letters = b"tdfcewiTDFCEWI";
        let mut at = 0;
        while at < letters.len() {
            first[letters[at] as usize] = true;
            at += 1;
        }
        first
    };
    debug_assert!(level_words().all(|word| FIRST[word.as_bytes()[0] as usize]));
    text.iter().enumerate().any(|(at, byte)| {
        FIRST[*byte as usize] && level_words().any(|word| starts(&text[at..], word.as_bytes()))
    })
}

fn starts(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|part| part.eq_ignore_ascii_case(word))
}

fn has(text: &[u8], word: &[u8]) -> bool {
    (0..text.len()).any(|at| starts(&text[at..], word))
}
