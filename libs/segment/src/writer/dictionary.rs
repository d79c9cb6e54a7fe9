//! The writer's dictionary of templates: which lines share one, and which are stored whole.

use hashbrown::{HashSet, HashTable};

use crate::format::{TEMPLATE_TEXT_MAX, TEMPLATES_MAX};
use crate::template::{RAW, Stamp};
use crate::writer::short::{Found, SHORT_LINE_MAX, ShortLines};
use crate::writer::split::{Cut, Split};

#[derive(Debug)]
struct Entry {
    hash: u64,
    text_end: u32,
    slot_end: u32,
}

/// The templates of a segment that is being written, by number; 0 is [`RAW`].
#[derive(Debug)]
pub(crate) struct Dictionary {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    text: Vec<u8>,
    slots: Vec<u32>,
    stamps: Vec<Stamp>,
    /// The template seen last, by mark of the line ([`Split::mark`]).
    lately: Box<[u32]>,
    short: ShortLines,
    /// Hashes seen once while few lines share a template.
    candidates: HashSet<u64>,
    rows: u64,
    /// How many templates were taken, and how many lines had one of them of late, by way to cut: in all,
    /// and by kind of line.
    taken: [Taken; 2],
    taken_of_kind: [[Taken; KINDS]; 2],
    /// How lines did of late, by way to cut and by kind of line.
    tries: [[Tries; KINDS]; 2],
    /// Length of the longest token in a line that is stored whole.
    pub(crate) raw_token_longest: u32,
}

/// Most hashes that wait for a second line like theirs: 64 Ki * 8 bytes.
const CANDIDATES_MAX: usize = 65_536;
/// Of so many kinds of lines, the template seen last is tried first.
const MARKS: usize = 4_096;
/// Most slots of all templates: their stamps take 4 MiB.
const SLOTS_TOTAL_MAX: usize = 1 << 18;
/// After so many rows, what was tried counts half.
const FORGET_ROWS: u64 = 8_192;
/// How many templates are taken, beside one for so many lines that had one: of all lines, by way to cut;
/// and of lines of one kind, so that random text does not live on the credit of others.
/// At the first line that has the template.
const FIRSTS: ([u32; 2], u32) = ([256, 64], 32);
const FIRSTS_OF_KIND: (u32, u32) = (16, 16);
/// At the second.
const SECONDS: ([u32; 2], u32) = ([512, 256], 8);
const SECONDS_OF_KIND: (u32, u32) = (48, 8);

/// Templates of one way to cut.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    hits: u32,
    admitted: u32,
}

impl Taken {
    /// Whether fewer were taken than `free` and one for so many hits.
    fn is_below(self, free: u32, hits: u32) -> bool {
        self.admitted < free + self.hits / hits
    }
}

/// Lines are of one kind if they have equally many tokens, and equally many of them have a digit;
/// from 15 on all count as equally many.
const KINDS: usize = 256;

fn kind(split: &Split) -> usize {
    let (tokens, digits) = split.counts();
    tokens.min(15) << 4 | digits.min(15)
}

/// How one way to cut did for one kind of line: those that have no templates need not be cut.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    lines: u32,
    hits: u32,
}

impl Tries {
    /// Whether hardly a line had a template.
    fn is_vain(&self) -> bool {
        self.lines >= 256 && self.hits < self.lines / 8
    }
}

impl Dictionary {
    pub(crate) fn new() -> Self {
        Dictionary {
            table: HashTable::new(),
            entries: vec![Entry {
                hash: 0,
                text_end: 0,
                slot_end: 1,
            }],
            text: Vec::new(),
            slots: vec![0],
            stamps: vec![Stamp::default()],
            lately: vec![RAW; MARKS].into(),
            short: ShortLines::new(),
            candidates: HashSet::new(),
            rows: 0,
            taken: [Taken::default(); 2],
            taken_of_kind: [[Taken::default(); KINDS]; 2],
            tries: [[Tries::default(); KINDS]; 2],
            raw_token_longest: 0,
        }
    }

    /// Takes the line of `length` bytes apart that `padded` begins with, and gives the number of its
    /// template, [`RAW`] when the line is better stored whole.
    ///
    /// Lines whose words differ from line to line make a template each; they are cut to their shape
    /// then, in which words are variables too.
    pub(crate) fn number(&mut self, split: &mut Split, padded: &[u8], length: usize) -> u32 {
        self.rows += 1;
        if self.rows.is_multiple_of(FORGET_ROWS) {
            self.forget();
        }
        if length > SHORT_LINE_MAX {
            return self.number_of(split, padded, length).template;
        }
        match self.short.find(split, padded, length) {
            Some(found) => {
                let tries = &mut self.tries[found.cut][found.kind];
                tries.lines += 1;
                tries.hits += 1;
                self.count_hit(found.cut, found.kind);
                found.template
            }
            None => {
                let found = self.number_of(split, padded, length);
                if found.template != RAW {
                    self.short.keep(split, padded, length, found);
                }
                found.template
            }
        }
    }

    fn number_of(&mut self, split: &mut Split, padded: &[u8], length: usize) -> Found {
        let raw = Found {
            template: RAW,
            cut: 0,
            kind: 0,
        };
        if !split.scan(padded, length) {
            return raw;
        }
        let kind = kind(split);
        for cut in [Cut::Digits, Cut::Shape] {
            let tries = &mut self.tries[cut as usize][kind];
            // A way that did not lead to templates long enough is tried now and then only.
            if tries.is_vain() && !self.rows.is_multiple_of(16) {
                continue;
            }
            tries.lines += 1;
            if !split.choose(length, cut) {
                continue;
            }
            let mark = split.mark(padded) as usize % MARKS;
            let mut number = self.lately[mark];
            if number == RAW || !split.matches(padded, self.text(number), self.slots(number)) {
                split.cut(padded, length);
                number = self.find(split, cut as usize, kind);
            } else {
                self.count_hit(cut as usize, kind);
            }
            if number != RAW {
                self.lately[mark] = number;
                self.tries[cut as usize][kind].hits += 1;
                return Found {
                    template: number,
                    cut: cut as usize,
                    kind,
                };
            }
        }
        raw
    }

    /// What was seen long ago counts half. What was tried in vain stays in mind: else it would be tried
    /// again and again.
    fn forget(&mut self) {
        for tries in self.tries.iter_mut().flatten() {
            if !tries.is_vain() {
                tries.lines /= 2;
                tries.hits /= 2;
            }
        }
        let of_kind = self.taken_of_kind.iter_mut().flatten();
        for Taken { hits, admitted } in self.taken.iter_mut().chain(of_kind) {
            if *hits >= *admitted * 4 {
                *hits /= 2;
                *admitted /= 2;
            }
        }
    }

    fn count_hit(&mut self, cut: usize, kind: usize) {
        self.taken[cut].hits += 1;
        self.taken_of_kind[cut][kind].hits += 1;
    }

    fn find(&mut self, split: &Split, cut: usize, kind: usize) -> u32 {
        let hash = split.hash();
        let found = self.table.find(hash, |number| {
            self.entries[*number as usize].hash == hash
                && self.text(*number) == split.text()
                && self.slots(*number) == split.slots
        });
        if let Some(number) = found {
            let number = *number;
            self.count_hit(cut, kind);
            return number;
        }
        if !self.admits(hash, split, cut, kind) {
            return RAW;
        }
        self.taken[cut].admitted += 1;
        self.taken_of_kind[cut][kind].admitted += 1;
        let number = self.entries.len() as u32;
        self.text.extend_from_slice(split.text());
        self.slots.extend_from_slice(&split.slots);
        self.stamps.resize(self.slots.len(), Stamp::default());
        self.entries.push(Entry {
            hash,
            text_end: self.text.len() as u32,
            slot_end: self.slots.len() as u32,
        });
        let entries = &self.entries;
        self.table
            .insert_unique(hash, number, |n| entries[*n as usize].hash);
        number
    }

    /// Templates are taken freely while they are few for the lines seen; else at the second line
    /// that has them, so that a text without templates does not fill the dictionary with itself;
    /// and not at all while those taken are hardly used.
    fn admits(&mut self, hash: u64, split: &Split, cut: usize, kind: usize) -> bool {
        let full = self.entries.len() >= TEMPLATES_MAX
            || self.text.len() + split.text().len() > TEMPLATE_TEXT_MAX * 64
            || self.slots.len() + split.slots.len() > SLOTS_TOTAL_MAX;
        let (all, of_kind) = (self.taken[cut], self.taken_of_kind[cut][kind]);
        let seconds = all.is_below(SECONDS.0[cut], SECONDS.1)
            && of_kind.is_below(SECONDS_OF_KIND.0, SECONDS_OF_KIND.1);
        if full || !seconds {
            return false;
        }
        let firsts = all.is_below(FIRSTS.0[cut], FIRSTS.1)
            && of_kind.is_below(FIRSTS_OF_KIND.0, FIRSTS_OF_KIND.1);
        if firsts || self.candidates.remove(&hash) {
            return true;
        }
        if self.candidates.len() >= CANDIDATES_MAX {
            self.candidates.clear();
        }
        self.candidates.insert(hash);
        false
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn text(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number
            .checked_sub(1)
            .map_or(0, |n| self.entries[n].text_end);
        &self.text[start as usize..self.entries[number].text_end as usize]
    }

    fn slot_range(&self, number: u32) -> std::ops::Range<usize> {
        let number = number as usize;
        let start = number
            .checked_sub(1)
            .map_or(0, |n| self.entries[n].slot_end);
        start as usize..self.entries[number].slot_end as usize
    }

    pub(crate) fn slots(&self, number: u32) -> &[u32] {
        &self.slots[self.slot_range(number)]
    }

    pub(crate) fn stamps(&self, number: u32) -> &[Stamp] {
        &self.stamps[self.slot_range(number)]
    }

    pub(crate) fn stamp(&mut self, number: u32, slot: usize, stamp: Stamp) {
        let at = self.slot_range(number).start + slot;
        self.stamps[at].add(stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::split::PaddedText;

    fn number(dictionary: &mut Dictionary, line: &[u8]) -> u32 {
        let mut text = PaddedText::default();
        text.set(line);
        dictionary.number(&mut Split::default(), text.bytes(), line.len())
    }

    #[test]
    fn equal_text_with_other_slots_is_another_template() {
        let mut dictionary = Dictionary::new();
        let first = number(&mut dictionary, b"1 =");
        assert_ne!(first, number(&mut dictionary, b" 1="));
        assert_eq!(first, number(&mut dictionary, b"2 ="));
    }

    #[test]
    fn lines_of_ever_new_words_share_their_shape() {
        let mut dictionary = Dictionary::new();
        let word = |n: u32| -> String {
            let digits = format!("{:x}", n.wrapping_mul(0x9e37_79b9));
            digits.bytes().map(|b| char::from(b'a' + b % 26)).collect()
        };
        let lines: Vec<String> = (0..40_000u32)
            .map(|n| format!("user={} took={}", word(n), n % 7))
            .collect();
        let mut numbers: Vec<u32> = lines
            .iter()
            .map(|line| number(&mut dictionary, line.as_bytes()))
            .collect();
        let last = numbers.split_off(10_000);
        assert!(last.iter().all(|n| *n != RAW));
        assert!(dictionary.len() < 3_000, "{}", dictionary.len());
    }
}
