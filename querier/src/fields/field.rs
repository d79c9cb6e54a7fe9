//! One field: how many values it has, what they look like, where they come from.

use std::collections::BTreeSet;

use hashbrown::HashSet;
use model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::kind::FieldKind;

/// Different values that are counted one by one; beyond, their number is estimated.
const EXACT_MAX: usize = 1_000_000;
/// Bits of a hash that choose a register of the estimate. Its standard error is 1.04 / sqrt(2^14),
/// 0.8 %.
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// What a counted value takes, bytes: a hash and a byte of control, at average fill.
const COUNTED_BYTES: u64 = 16;
/// What a value that is kept takes beside its text.
const KEPT_BYTES: u64 = 48;

/// A parser that found a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parser {
    Json,
    Logfmt,
}

/// What is known of a field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    kind: Option<FieldKind>,
    counted: Counted,
    /// Hash of the value that came last: most often it comes again.
    last: Option<u64>,
    /// The first values in order, if values are wanted.
    kept: BTreeSet<Box<str>>,
    json: bool,
    logfmt: bool,
    /// Whether it is in records besides lines.
    stored: bool,
    /// Keys that lead to it in the earliest JSON line that has it, and the time of that line.
    path: Option<(Timestamp, Vec<String>)>,
}

#[derive(Clone, Debug)]
enum Counted {
    /// Hashes of values.
    Exact(HashSet<u64>),
    /// HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007), far above the numbers where it has a
    /// bias.
    Estimated(Box<[u8]>),
}

impl Default for Counted {
    fn default() -> Self {
        Counted::Exact(HashSet::new())
    }
}

impl Field {
    /// Adds a value; keeps it if it is among the first `kept_max`. Gives the bytes that this took.
    pub(super) fn add(&mut self, value: &str, kept_max: Option<usize>) -> u64 {
        let hash = xxh3_64(value.as_bytes());
        if self.last.replace(hash) == Some(hash) || !self.counted.add(hash) {
            return 0;
        }
        if self.kind != Some(FieldKind::Text)
            && let Some(kind) = FieldKind::of(value)
        {
            self.kind = Some(self.kind.map_or(kind, |known| known.and(kind)));
        }
        let kept = kept_max.map_or(0, |max| self.keep(value, max));
        COUNTED_BYTES + kept
    }

    fn keep(&mut self, value: &str, max: usize) -> u64 {
        let full = self.kept.len() >= max;
        if max == 0 || full && self.kept.last().is_some_and(|last| **last <= *value) {
            return 0;
        }
        self.kept.insert(value.into());
        if self.kept.len() > max {
            self.kept.pop_last();
        }
        KEPT_BYTES + value.len() as u64
    }

    pub(super) fn add_parser(&mut self, parser: Parser) {
        match parser {
            Parser::Json => self.json = true,
            Parser::Logfmt => self.logfmt = true,
        }
    }

    pub(super) fn set_stored(&mut self) {
        self.stored = true;
    }

    /// Whether all its values are what parsers find in lines.
    pub(crate) fn is_of_lines(&self) -> bool {
        !self.stored && (self.json || self.logfmt)
    }

    /// Whether a line of this time may say where the field is.
    pub(super) fn wants_path(&self, at: Timestamp) -> bool {
        self.path.as_ref().is_none_or(|(known, _)| at < *known)
    }

    pub(super) fn set_path(&mut self, at: Timestamp, path: Vec<String>) {
        self.path = Some((at, path));
    }

    /// Adds what another sink found.
    pub(super) fn merge(&mut self, other: Field, kept_max: Option<usize>) {
        self.kind = match (self.kind, other.kind) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
        self.counted.merge(other.counted);
        self.kept.extend(other.kept);
        while self.kept.len() > kept_max.unwrap_or(0) {
            self.kept.pop_last();
        }
        self.json |= other.json;
        self.logfmt |= other.logfmt;
        self.stored |= other.stored;
        self.path = match (self.path.take(), other.path) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// `string`, `int`, …
    pub(crate) fn kind(&self) -> &'static str {
        self.kind.unwrap_or(FieldKind::Text).as_str()
    }

    /// How many different values.
    pub(crate) fn cardinality(&self) -> u64 {
        self.counted.len()
    }

    /// Parsers that find it, by name.
    pub(crate) fn parsers(&self) -> impl Iterator<Item = &'static str> {
        let named = [(self.json, "json"), (self.logfmt, "logfmt")];
        named
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| name)
    }

    /// The keys that lead to it in JSON; empty if it is in none.
    pub(crate) fn json_path(&self) -> &[String] {
        self.path.as_ref().map_or(&[], |(_, path)| path)
    }

    /// The values that were kept, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|value| &**value)
    }
}

impl Counted {
    /// Whether the value may be new.
    fn add(&mut self, hash: u64) -> bool {
        match self {
            Counted::Exact(hashes) => {
                if !hashes.insert(hash) {
                    return false;
                }
                if hashes.len() > EXACT_MAX {
                    self.estimate();
                }
            }
            Counted::Estimated(registers) => count(registers, hash),
        }
        true
    }

    /// Goes over to estimating.
    fn estimate(&mut self) -> &mut [u8] {
        if let Counted::Exact(hashes) = self {
            let mut registers = vec![0; REGISTERS].into_boxed_slice();
            for hash in hashes.iter() {
                count(&mut registers, *hash);
            }
            *self = Counted::Estimated(registers);
        }
        match self {
            Counted::Estimated(registers) => registers,
            Counted::Exact(_) => &mut [],
        }
    }

    fn merge(&mut self, other: Counted) {
        match other {
            Counted::Exact(hashes) => {
                for hash in hashes {
                    self.add(hash);
                }
            }
            Counted::Estimated(theirs) => {
                for (ours, theirs) in self.estimate().iter_mut().zip(theirs) {
                    *ours = theirs.max(*ours);
                }
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Counted::Exact(hashes) => hashes.len() as u64,
            Counted::Estimated(registers) => {
                let m = REGISTERS as f64;
                let sum: f64 = registers
                    .iter()
                    .map(|rank| (-f64::from(*rank)).exp2())
                    .sum();
                let alpha = 0.7213 / (1.0 + 1.079 / m);
                (alpha * m * m / sum).round() as u64
            }
        }
    }
}

fn count(registers: &mut [u8], hash: u64) {
    let register = (hash >> (64 - REGISTER_BITS)) as usize;
    let rank = (hash << REGISTER_BITS)
        .leading_zeros()
        .min(64 - REGISTER_BITS) as u8
        + 1;
    registers[register] = registers[register].max(rank);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_kept_and_all_are_counted() {
        let (mut a, mut b) = (Field::default(), Field::default());
        for n in 0..40 {
            let value = format!("v{:02}", (n * 7) % 40);
            let field = if n % 3 == 0 { &mut a } else { &mut b };
            field.add(&value, Some(3));
            field.add(&value, Some(3));
        }
        b.add("v00", Some(3));
        a.merge(b, Some(3));
        assert_eq!(a.cardinality(), 40);
        assert_eq!(a.values().collect::<Vec<_>>(), ["v00", "v01", "v02"]);
    }

    #[test]
    fn very_many_values_are_estimated_to_one_hundredth_wherever_they_were_counted() {
        let (mut whole, mut half) = (Counted::default(), Counted::default());
        let mut other = Counted::default();
        let many = 1_500_000_u64;
        for n in 0..many {
            let hash = xxh3_64(&n.to_le_bytes());
            whole.add(hash);
            if n % 2 == 0 {
                half.add(hash)
            } else {
                other.add(hash)
            };
        }
        assert!(matches!(half, Counted::Exact(_)));
        half.merge(other);
        assert_eq!(half.len(), whole.len());
        let error = whole.len().abs_diff(many) as f64 / many as f64;
        assert!(error < 0.03, "{error}");
    }
}
