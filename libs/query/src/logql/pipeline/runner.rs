//! A pipeline at work: one worker's mutable memory.

use std::sync::Arc;

use model::Labels;
use xxhash_rust::xxh3::Xxh3;

use super::level::{self, DETECTED_LEVEL};
use super::row::{Category, ERROR_DETAILS_LABEL, ERROR_LABEL, Row};
use super::series::{LabelPairs, Series, SeriesId, SeriesTable};
use super::stage::{LineState, Scratch, Work};
use super::{Inner, unwrap};
use crate::Halt;

/// Runs rows through a [`Pipeline`](super::Pipeline). Made by
/// [`Pipeline::runner`](super::Pipeline::runner); one per worker.
#[derive(Debug)]
pub struct Runner {
    pub(super) pipeline: Arc<Inner>,
    pub(super) row: Row,
    pub(super) line: LineState,
    pub(super) scratch: Scratch,
    pub(super) series: SeriesTable,
    /// Whether `detected_level` is added.
    pub(super) level: bool,
    /// What the labels of the stream say of it.
    pub(super) stream_level: StreamLevel,
    /// Ends what takes long.
    pub(super) halt: Halt,
    /// Rows pass unchanged, with their stream's labels.
    pub(super) trivial: bool,
}

/// What the labels of a stream say of the level of its records.
#[derive(Debug, Default)]
pub(super) struct StreamLevel {
    /// `detected_level` is one of them, so that none is added.
    is_shown: bool,
    /// One of them names a level: this one.
    is_told: bool,
    text: String,
}

impl StreamLevel {
    /// Whether it may be the line's own level that counts.
    fn is_open(&self) -> bool {
        !self.is_shown && !self.is_told
    }

    fn read(&mut self, labels: &Labels) {
        let level = level::of_labels(labels);
        self.is_shown = labels.get(DETECTED_LEVEL).is_some();
        self.is_told = level.is_some();
        self.text.clear();
        self.text.push_str(level.unwrap_or_default());
    }
}

/// What is known of a row's line.
#[derive(Clone, Copy)]
enum Of<'a> {
    Line(&'a [u8]),
    /// The level that it tells.
    Outcome(u8),
}

impl<'a> Of<'a> {
    fn line(self) -> &'a [u8] {
        match self {
            Of::Line(line) => line,
            Of::Outcome(_) => &[],
        }
    }
}

/// A row that passed.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// As the stages left it.
    pub line: &'a [u8],
    /// Labels of all three kinds.
    pub labels: RowLabels<'a>,
    /// The unwrapped number, if the pipeline unwraps one; 0 if it could not be read.
    pub value: Option<f64>,
    /// What rows have in common that are copies under `distinct`; 0 without that stage.
    pub distinct: u128,
    /// Values of the labels of `sort`, where it stands; an absent one is empty.
    pub sort: &'a [String],
}

/// A row that passed, for aggregation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Look it up with [`Runner::series`].
    pub series: SeriesId,
    /// The unwrapped number, if the pipeline unwraps one; 0 if it could not be read.
    pub value: Option<f64>,
    /// Length of the line as the stages left it, bytes.
    pub line_bytes: usize,
}

/// The labels of a row, valid until the next row is run.
#[derive(Clone, Copy, Debug)]
pub struct RowLabels<'a> {
    pub(super) row: &'a Row,
}

impl Runner {
    /// Ends what takes long on one row when this is set: the row that is run then has an error, and
    /// is of no use, as those that follow are.
    #[must_use]
    pub fn halted_by(mut self, halt: &Halt) -> Self {
        self.halt = halt.clone();
        self
    }

    /// Rows of a stream with these labels follow. To be called once per block.
    pub fn stream(&mut self, labels: &Arc<Labels>) {
        self.row.begin();
        self.row.stream(labels);
        if self.level {
            self.stream_level.read(labels);
        }
        self.series.next_stream();
    }

    /// Runs one row: its time in nanoseconds, its stored line (which must have passed the
    /// pushed-down filter) and its structured metadata. `None` if a stage filters it out.
    pub fn run<'a>(
        &'a mut self,
        timestamp: i64,
        line: &'a [u8],
        metadata: &[(&str, &str)],
    ) -> Option<Output<'a>> {
        let value = self.process(timestamp, Of::Line(line), metadata)?;
        Some(Output {
            line: self.line.get(line),
            labels: RowLabels { row: &self.row },
            value,
            distinct: self.scratch.keys.distinct,
            sort: &self.scratch.keys.sort,
        })
    }

    /// As [`run`](Self::run), for aggregation: gives the row's series under the runner's
    /// grouping.
    pub fn sample(
        &mut self,
        timestamp: i64,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Option<Sample> {
        let value = self.process(timestamp, Of::Line(line), metadata)?;
        Some(Sample {
            series: self.series.of(&self.row),
            value,
            line_bytes: self.line.get(line).len(),
        })
    }

    /// As [`sample`](Self::sample), of a row whose line nobody looks at but for its level, which is
    /// known: the outcome of [`columns_beside_level`](super::Pipeline::columns_beside_level). The
    /// sample has no length of the line.
    pub fn sample_of_outcome(
        &mut self,
        timestamp: i64,
        outcome: u8,
        metadata: &[(&str, &str)],
    ) -> Option<Sample> {
        let value = self.process(timestamp, Of::Outcome(outcome), metadata)?;
        Some(Sample {
            series: self.series.of(&self.row),
            value,
            line_bytes: 0,
        })
    }

    /// Whether rows of the current stream may have the level of their lines.
    pub fn looks_at_outcomes(&self) -> bool {
        self.level && self.stream_level.is_open()
    }

    /// If every row of the current stream passes and has the same series, whatever its line and
    /// metadata: that series. Then no row needs to be run.
    pub fn stream_series(&mut self) -> Option<SeriesId> {
        if !self.trivial {
            return None;
        }
        self.row.begin();
        Some(self.series.of(&self.row))
    }

    /// The labels behind a number.
    pub fn series(&self, id: SeriesId) -> &Series {
        self.series.get(id)
    }

    /// All series seen so far, in order of their numbers.
    pub fn all_series(&self) -> impl ExactSizeIterator<Item = &Series> {
        self.series.all()
    }

    fn process(
        &mut self,
        timestamp: i64,
        of: Of<'_>,
        metadata: &[(&str, &str)],
    ) -> Option<Option<f64>> {
        let line = of.line();
        if self.row.begin() {
            self.series.next_stream();
        }
        self.line.begin();
        self.row.add_metadata(metadata);
        if self.level {
            self.add_level(of, metadata);
        }
        let pipeline = &self.pipeline;
        let mut work = Work {
            row: &mut self.row,
            line: &mut self.line,
            scratch: &mut self.scratch,
            input: line,
            timestamp,
            halt: &self.halt,
            now: pipeline.now.unwrap_or(timestamp),
        };
        for step in &pipeline.steps {
            if !step.apply(&mut work) {
                return None;
            }
        }
        match &pipeline.unwrap {
            None => Some(None),
            Some(unwrap) => unwrap::apply(unwrap, &mut self.row).map(Some),
        }
    }

    fn add_level(&mut self, of: Of<'_>, metadata: &[(&str, &str)]) {
        let stream = &self.stream_level;
        let told = metadata.iter().find(|(name, _)| *name == DETECTED_LEVEL);
        let level = match told {
            _ if stream.is_shown => return,
            Some((_, level)) if level::normalise(level) == *level => return,
            Some((_, level)) => level::normalise(level),
            None if stream.is_told => &stream.text,
            None => match of {
                Of::Line(line) => level::of_record(line, metadata),
                Of::Outcome(outcome) => level::of_outcome(outcome, metadata),
            },
        };
        self.row.add_metadata_pair(DETECTED_LEVEL, level);
    }
}

impl<'a> RowLabels<'a> {
    /// Whether the row has exactly the labels of its stream.
    pub fn is_plain(&self) -> bool {
        self.row.is_plain()
    }

    /// Whether a stage failed on this row.
    pub fn has_error(&self) -> bool {
        self.row.has_error()
    }

    /// `__error__`, empty if there is none.
    pub fn error(&self) -> &'a str {
        self.row.error()
    }

    /// `__error_details__`, empty if there are none.
    pub fn error_details(&self) -> &'a str {
        self.row.error_details()
    }

    /// The value of a label of any kind, the errors included.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        match name {
            ERROR_LABEL => Some(self.row.error()).filter(|e| !e.is_empty()),
            ERROR_DETAILS_LABEL => Some(self.row.error_details()).filter(|e| !e.is_empty()),
            name => self.row.get(self.row.names.find(name)?),
        }
    }

    /// The stream's labels that are neither dropped nor replaced, by name; labels that a stage set
    /// under this kind come last.
    pub fn stream(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let row = self.row;
        row.visible_base()
            .map(|(_, id, value)| (row.names.text(id), value))
            .chain(entries(row, Category::Stream))
    }

    /// Structured metadata.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        entries(self.row, Category::Metadata)
    }

    /// Labels that stages made, the errors included.
    pub fn parsed(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let row = self.row;
        let error = (ERROR_LABEL, row.error());
        let details = (ERROR_DETAILS_LABEL, row.shown_details());
        entries(row, Category::Parsed).chain(
            [error, details]
                .into_iter()
                .filter(|(_, value)| !value.is_empty()),
        )
    }

    /// Labels of all kinds, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.stream().chain(self.metadata()).chain(self.parsed())
    }

    /// Labels of all kinds, sorted by name.
    pub fn to_pairs(&self) -> LabelPairs {
        let mut pairs: Vec<(Box<str>, Box<str>)> = self
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        pairs.sort_unstable();
        pairs.into()
    }

    /// What rows must have in common to be copies under `distinct`: equal for rows of which each
    /// of these labels has the same value, an absent one counting as empty.
    pub fn distinct_key(&self, names: &[String]) -> u128 {
        let mut hash = Xxh3::new();
        for name in names {
            let value = self.get(name).unwrap_or("");
            hash.update(&(value.len() as u64).to_le_bytes());
            hash.update(value.as_bytes());
        }
        hash.digest128()
    }
}

fn entries(row: &Row, category: Category) -> impl Iterator<Item = (&str, &str)> {
    row.entries()
        .filter(move |entry| entry.category == category)
        .map(|entry| (row.names.text(entry.name), row.entry_value(entry)))
}
