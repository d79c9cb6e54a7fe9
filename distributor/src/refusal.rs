use proto::Flaw;

/// Why a single record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The labels of its stream cannot be read.
    InvalidLabels,
    /// Its stream has no labels.
    MissingLabels,
    /// Its stream has too many labels.
    TooManyLabels,
    /// A label's name is too long.
    LabelNameTooLong,
    /// A label's value is too long.
    LabelValueTooLong,
    /// A label's name stands twice.
    DuplicateLabelNames,
    /// The line is too long.
    LineTooLong,
    /// Line, label or metadata is not UTF-8.
    InvalidUtf8,
    /// The time cannot be told.
    InvalidTimestamp,
    /// The record has another shape than the protocol's.
    InvalidRecord,
    /// The record is older than the limit.
    TooOld,
    /// The record is further in the future than the limit.
    TooFarInFuture,
    /// Too many bytes of structured metadata.
    MetadataTooLarge,
    /// Too many pairs of structured metadata.
    MetadataTooMany,
}

impl Reason {
    /// Every reason, in order of its number.
    pub const ALL: [Reason; 14] = [
        Reason::InvalidLabels,
        Reason::MissingLabels,
        Reason::TooManyLabels,
        Reason::LabelNameTooLong,
        Reason::LabelValueTooLong,
        Reason::DuplicateLabelNames,
        Reason::LineTooLong,
        Reason::InvalidUtf8,
        Reason::InvalidTimestamp,
        Reason::InvalidRecord,
        Reason::TooOld,
        Reason::TooFarInFuture,
        Reason::MetadataTooLarge,
        Reason::MetadataTooMany,
    ];

    /// Name in metrics, where Loki has the same reason the same name.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidLabels => "invalid_labels",
            Reason::MissingLabels => "missing_labels",
            Reason::TooManyLabels => "max_label_names_per_series",
            Reason::LabelNameTooLong => "label_name_too_long",
            Reason::LabelValueTooLong => "label_value_too_long",
            Reason::DuplicateLabelNames => "duplicate_label_names",
            Reason::LineTooLong => "line_too_long",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::InvalidTimestamp => "invalid_timestamp",
            Reason::InvalidRecord => "invalid_record",
            Reason::TooOld => "greater_than_max_sample_age",
            Reason::TooFarInFuture => "too_far_in_future",
            Reason::MetadataTooLarge => "structured_metadata_too_large",
            Reason::MetadataTooMany => "structured_metadata_too_many",
        }
    }
}

impl From<&Flaw> for Reason {
    fn from(flaw: &Flaw) -> Self {
        match flaw {
            Flaw::Utf8 { .. } => Reason::InvalidUtf8,
            Flaw::Timestamp(_) => Reason::InvalidTimestamp,
            Flaw::Shape(_) | Flaw::Item { .. } => Reason::InvalidRecord,
        }
    }
}

/// The records of one request that were refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    counts: [u64; Reason::ALL.len()],
    /// What was wrong, for the first few.
    messages: Vec<String>,
}

impl Refusals {
    /// How many messages are kept.
    const MESSAGES_MAX: usize = 10;

    /// Counts one record. `message` is only called while there is room for one more.
    pub(crate) fn add(&mut self, reason: Reason, message: impl FnOnce() -> String) {
        self.counts[reason as usize] += 1;
        if self.messages.len() < Self::MESSAGES_MAX {
            self.messages.push(message());
        }
    }

    /// Counts one record whose message is there already.
    pub(crate) fn add_silently(&mut self, reason: Reason) {
        self.counts[reason as usize] += 1;
    }

    /// How many records were refused.
    pub fn records(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.counts)
    }

    /// What was wrong with the first of them.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// The messages, one per line, and how many records were refused in all; "" for none.
    pub fn text(&self) -> String {
        let mut text = self.messages.join("\n");
        let records = self.records();
        if records > self.messages.len() as u64 {
            text.push_str(&format!("\n{records} lines were refused in all"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_reason_is_its_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn only_the_first_messages_are_kept_but_all_are_counted() {
        let mut refusals = Refusals::default();
        for n in 0..25 {
            refusals.add(Reason::LineTooLong, || format!("line {n}"));
        }
        refusals.add_silently(Reason::TooOld);
        assert_eq!(refusals.records(), 26);
        assert_eq!(refusals.messages().len(), 10);
        assert!(
            refusals
                .text()
                .ends_with("line 9\n26 lines were refused in all")
        );
        let counts: Vec<_> = refusals.counts().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counts, [(Reason::LineTooLong, 25), (Reason::TooOld, 1)]);
    }
}
