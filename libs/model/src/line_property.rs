//! Properties of lines that have few outcomes, and what can be said of them without a line.

use std::fmt;
use std::sync::Arc;

use crate::Labels;

/// Outcomes are numbers below this.
pub const OUTCOMES_MAX: u8 = 64;

/// A property of a line that only its own code understands (how bad the line says that something is),
/// together with how it depends on the parts of a line: then a reader that has lines in parts, a text
/// with *values* in its slots, need not put them together.
///
/// Values are longest runs of ASCII letters, digits, `_` and bytes from 0x80 on. What matters of a
/// value is its *class*, a number that depends on it and on the *place* where it stands: a line has
/// the outcome of the line that has, instead of each of its values, the [stand-in](Self::stand_in)
/// of the value's class.
pub trait LineProperty: fmt::Debug + Send + Sync {
    /// The outcome of a line, below [`OUTCOMES_MAX`].
    fn of_line(&self, line: &[u8]) -> u8;

    /// Whether anybody looks at the outcomes of lines of a stream with these labels.
    fn is_asked(&self, _labels: &Labels) -> bool {
        true
    }

    /// Adds what kind of place each slot is to `places`. Slots are offsets of the text, strictly
    /// ascending.
    fn places(&self, text: &[u8], slots: &[u32], places: &mut Vec<u8>);

    /// The class of a value at a place of this kind, below 255; `None` if the value itself matters.
    fn class(&self, place: u8, value: &[u8]) -> Option<u8>;

    /// The class of all values within these bounds, if they have the same.
    fn class_of_all(&self, place: u8, bounds: &ValueBounds) -> Option<u8>;

    /// A value of a class.
    fn stand_in(&self, class: u8) -> &[u8];
}

/// What is known of values that nobody looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueBounds {
    /// Which bytes may occur: a bit for each of `a` to `z`, then for each of `A` to `Z`, bit 52 for
    /// digits, bit 53 for `_`, bit 63 for the rest.
    pub bytes: u64,
    /// Length of the shortest, bytes; perhaps there is none so short.
    pub shortest: u32,
    /// Length of the longest, bytes; perhaps there is none so long.
    pub longest: u32,
}

/// Some outcomes: a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeSet(u64);

impl OutcomeSet {
    /// Every outcome.
    pub const ALL: OutcomeSet = OutcomeSet(u64::MAX);
    /// No outcome.
    pub const NONE: OutcomeSet = OutcomeSet(0);

    /// These outcomes, each below [`OUTCOMES_MAX`].
    pub fn of(outcomes: impl IntoIterator<Item = u8>) -> Self {
        let bits = outcomes.into_iter().map(|outcome| 1 << outcome);
        OutcomeSet(bits.fold(0, |all, bit: u64| all | bit))
    }

    /// Whether an outcome is among them.
    pub fn has(self, outcome: u8) -> bool {
        self.0 >> outcome & 1 == 1
    }
}

/// Which records are of use, as far as labels, metadata and the outcome of the line tell. Advice to a
/// source: what it delivers all the same is tested again.
pub trait OutcomeTest: fmt::Debug + Send + Sync {
    /// The outcomes with which a record of these labels and pairs of metadata is of use.
    fn useful(&self, labels: &Labels, metadata: &[(&str, &str)]) -> OutcomeSet;

    /// Whether metadata of this key may change the answer: if no pair of a record has such a key, it
    /// is that without metadata.
    fn reads(&self, key: &str) -> bool;
}

/// What is asked about a property of lines.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// Of what.
    pub property: Arc<dyn LineProperty>,
    /// Whether blocks must have the outcome of each line. Those with the bytes of lines need not.
    pub wanted: bool,
    /// Which records need not be delivered.
    pub test: Option<Arc<dyn OutcomeTest>>,
}
