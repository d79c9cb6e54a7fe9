//! What is asked about the lines of heads, which are whole: each is looked at by itself.

use model::{Labels, OutcomeSet, Outcomes, Row};

use super::rows::text;

/// A question about the lines of one stream.
pub(super) struct HeadOutcomes<'a> {
    asked: &'a Outcomes,
    labels: &'a Labels,
    /// The outcomes with which a record without metadata is of use.
    useful: OutcomeSet,
    is_asked: bool,
}

/// Whether a record is of use.
pub(super) enum Useful {
    No,
    /// With the outcome of its line, if blocks have that.
    Yes(Option<u8>),
}

impl<'a> HeadOutcomes<'a> {
    pub(super) fn new(asked: &'a Outcomes, labels: &'a Labels) -> Self {
        let test = asked.test.as_ref();
        HeadOutcomes {
            asked,
            labels,
            useful: test.map_or(OutcomeSet::ALL, |test| test.useful(labels, &[])),
            is_asked: asked.property.is_asked(labels),
        }
    }

    pub(super) fn of(&self, row: Row<'_>) -> Useful {
        let useful = self.useful_of(row);
        if useful == OutcomeSet::NONE {
            return Useful::No;
        }
        if !self.is_asked || !self.asked.wanted && useful == OutcomeSet::ALL {
            return Useful::Yes(None);
        }
        let outcome = self.asked.property.of_line(row.line());
        match useful.has(outcome) {
            true => Useful::Yes(self.asked.wanted.then_some(outcome)),
            false => Useful::No,
        }
    }

    fn useful_of(&self, row: Row<'_>) -> OutcomeSet {
        match &self.asked.test {
            Some(test) if row.metadata().any(|(key, _)| test.reads(key)) => {
                let pairs = row.metadata().map(|(key, value)| (key, text(value)));
                let pairs: Vec<(&str, &str)> = pairs.collect();
                test.useful(self.labels, &pairs)
            }
            _ => self.useful,
        }
    }
}
