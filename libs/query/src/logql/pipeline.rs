//! The stages of a log pipeline: everything between a stored record and what the aggregation or
//! the answer sees.
//!
//! What it is: `&[Stage]` compiled once ([`Pipeline`], shared by all workers), and a worker's
//! memory that runs rows through it ([`Runner`]). What it is *not*: it reads no records, merges no
//! answers and has no clock.
//!
//! ```text
//! stages --compile--> pushed_line_filter --> the source skips lines
//!                     steps --> Runner::run / Runner::sample, row by row
//! ```
//!
//! Invariants:
//! - A stage that fails never drops its row: it sets `__error__` and `__error_details__`.
//! - A row that is dropped costs no allocation, once the runner's buffers have grown.
//! - A runner that needs only some labels gives the same values for these as one that needs all,
//!   on lines that are well-formed. As in Loki, parsers stop at the last label that is wanted: an
//!   error behind it is not seen.
//! - Of equal keys the first counts, in one line and over several parsers.

mod capture;
mod choose;
mod convert;
mod decolorize;
mod ip;
mod json;
mod json_path;
mod json_scan;
mod label_filter;
pub mod level;
mod line_filter;
mod logfmt;
mod names;
mod order;
mod path;
mod pattern;
mod row;
mod runner;
mod series;
mod stage;
mod template;
mod unpack;
mod unwrap;

use std::sync::Arc;

use model::{Kind, LineColumn, LineFilter, Outcomes};

use self::label_filter::{Condition, Place};
use self::names::{NameId, Names, without_suffix};
use self::row::{Hints, Row};
use self::series::{Grouping, SeriesTable};
use self::stage::{LineState, Scratch, Step};
use self::unwrap::UnwrapStep;
use super::ast::{Stage, Unwrap};
use crate::Halt;

pub use self::convert::{parse_bytes, parse_duration, parse_float};
pub(crate) use self::order::idle_formats;
pub use self::row::{Category, ERROR_DETAILS_LABEL, ERROR_LABEL, PRESERVE_ERROR_LABEL};
pub use self::runner::{Output, RowLabels, Runner, Sample};
pub use self::series::{LabelPairs, Series, SeriesId, labels_hash};
pub use self::template::{AlertData, AlertQueries, AlertSample, AlertTemplate};

/// Compiled stages: immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

/// Which labels the consumer of a pipeline looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelNeed {
    /// All of them: log queries.
    All,
    /// Only these, in a metric query: `by (a, b)`; none for `by ()`.
    Only(Vec<String>),
    /// All but these, in a metric query: `without (a)`, and without names no grouping at all. An
    /// unwrapped label is left out by itself.
    Without(Vec<String>),
}

/// Why stages do not compile. The parser refuses most of these before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Not RE2.
    #[error("invalid regular expression {text:?}: {error}")]
    Regex {
        /// As written.
        text: String,
        /// What is wrong.
        error: String,
    },
    /// `regexp` without a named group.
    #[error("at least one named capture must be supplied")]
    NoCapture,
    /// A group whose name is no label name.
    #[error("invalid capture label name '{0}'")]
    CaptureName(String),
    /// Two groups of one name.
    #[error("duplicate extracted label name '{0}'")]
    DuplicateCapture(String),
    /// `pattern` without anything.
    #[error(
        "parse error at line 1, col 1: syntax error: unexpected $end, expecting IDENTIFIER or LITERAL"
    )]
    PatternEmpty,
    /// `pattern` without a named capture.
    #[error("at least one capture is required: invalid pattern {0:?}")]
    PatternNoCapture(String),
    /// Captures with nothing between them.
    #[error("found consecutive capture '{0}': invalid pattern {1:?}")]
    PatternAdjacent(String, String),
    /// A capture named twice.
    #[error("duplicate capture name ({0}): invalid pattern {1:?}")]
    PatternDuplicate(String, String),
    /// A named capture in a line filter.
    #[error("named captures are not allowed: found '<{0}>'")]
    PatternNamed(String),
    /// Not an address, range or block.
    #[error("ip: invalid pattern: {0:?}")]
    Ip(String),
    /// `ip` where a regular expression or a pattern is asked for.
    #[error("ip: invalid operation")]
    IpOperation,
    /// What a field of `json` or `logfmt` names is no place: the text, and what is wrong with it.
    #[error("cannot parse expression [{0}]: {1}")]
    Path(String, String),
    /// Not a Go template, or one that calls an unknown function.
    #[error("invalid template: {0}")]
    Template(String),
}

#[derive(Clone, Debug)]
struct Inner {
    pushed: LineFilter,
    steps: Vec<Step>,
    unwrap: Option<UnwrapStep>,
    /// Names of the stages.
    names: Names,
    /// Labels that every stream of the query has.
    guaranteed: Vec<String>,
    detect_level: bool,
    now: Option<i64>,
}

impl CompileError {
    /// Always the query's fault.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Pipeline {
    /// Compiles stages, and the number that is taken from each row. `distinct` and `sort` only
    /// take their values here: they work on the merged answer.
    ///
    /// # Errors
    /// [`CompileError`] names the part that is wrong.
    pub fn compile(stages: &[Stage], unwrap: Option<&Unwrap>) -> Result<Self, CompileError> {
        let mut names = Names::default();
        let mut regexps = 0;
        let mut pushed = LineFilter::default();
        let mut steps: Vec<Step> = Vec::new();
        let mut stored_line = true;
        for stage in order::filters_first(stages) {
            let Some(step) = Step::compile(stage, &mut names, &mut regexps)? else {
                continue;
            };
            stored_line &= !step.changes_line();
            match step {
                // Stages before it do not change the line, so it may run before them.
                Step::LineFilter(clause) if stored_line => pushed.clauses.push(clause),
                step => steps.push(step),
            }
        }
        let unwrap = match unwrap {
            Some(unwrap) => Some(UnwrapStep::compile(unwrap, &mut names)?),
            None => None,
        };
        Ok(Pipeline {
            inner: Arc::new(Inner {
                pushed,
                steps,
                unwrap,
                names,
                guaranteed: Vec::new(),
                detect_level: false,
                now: None,
            }),
        })
    }

    /// Adds `detected_level` to the metadata of rows that have none, where somebody looks at it.
    #[must_use]
    pub fn with_detected_level(self, on: bool) -> Self {
        self.with(|inner| inner.detect_level = on)
    }

    /// Says which labels every selected stream has (those that the selector wants not to be
    /// empty): metadata cannot hold them, and so may not be needed.
    #[must_use]
    pub fn with_guaranteed_labels(self, names: impl IntoIterator<Item = String>) -> Self {
        self.with(|inner| inner.guaranteed = names.into_iter().collect())
    }

    /// What `now` gives in templates, nanoseconds; otherwise it gives the row's time.
    #[must_use]
    pub fn with_now(self, now: i64) -> Self {
        self.with(|inner| inner.now = Some(now))
    }

    /// Line filters that may run on the stored line: all before the first stage that changes the
    /// line. The runner does not run them again.
    pub fn pushed_line_filter(&self) -> LineFilter {
        self.inner.pushed.clone()
    }

    /// Whether the line that comes out may not be the stored one: then its length is not known
    /// from the stored one's.
    pub fn changes_line(&self) -> bool {
        self.inner.steps.iter().any(Step::changes_line)
    }

    /// What the pipeline must see of a record, after the pushed-down filters, for this need: lines
    /// (nothing or bytes), and whether structured metadata. The consumer adds what it shows
    /// itself; if it looks at the line or its length and [`changes_line`](Self::changes_line), it
    /// needs bytes.
    pub fn columns(&self, need: &LabelNeed) -> (LineColumn, bool) {
        let (lines, metadata, outcomes) = self.columns_beside_level(need);
        match outcomes {
            Some(_) => (LineColumn::Bytes, metadata),
            None => (lines, metadata),
        }
    }

    /// As [`columns`](Self::columns), but lines are not needed for their level: what is asked about
    /// that instead, if anything is.
    pub fn columns_beside_level(&self, need: &LabelNeed) -> (LineColumn, bool, Option<Outcomes>) {
        let (reads, hints) = self.plan(need, &mut self.inner.names.clone());
        let parses = hints.wanted.as_ref().is_none_or(|w| !w.is_empty());
        let mut steps = self.inner.steps.iter();
        let lines = match steps.any(|step| step.reads_line() || (parses && step.is_parser())) {
            true => LineColumn::Bytes,
            false => LineColumn::None,
        };
        let metadata = match &reads {
            None => true,
            Some(names) => names
                .iter()
                .any(|name| !self.inner.guaranteed.iter().any(|known| known == name)),
        };
        let outcomes = self.needs_level(&reads).then(|| Outcomes {
            property: level::property(),
            wanted: lines != LineColumn::Bytes,
            test: level::test(&self.inner.steps, &self.inner.names),
        });
        (lines, metadata, outcomes)
    }

    /// A worker's memory, for a consumer with this need, which is also the grouping of
    /// [`Runner::sample`].
    pub fn runner(&self, need: &LabelNeed) -> Runner {
        let mut names = self.inner.names.clone();
        let (reads, hints) = self.plan(need, &mut names);
        let level = self.needs_level(&reads);
        let grouping = self.grouping(need, &mut names);
        let mut row = Row::new(names, hints);
        row.names.pin();
        let by_stream = match &reads {
            None => false,
            Some(names) => names
                .iter()
                .all(|name| self.inner.guaranteed.iter().any(|known| known == name)),
        };
        Runner {
            row,
            line: LineState::default(),
            scratch: Scratch::new(&self.inner.steps),
            series: SeriesTable::new(grouping),
            level,
            stream_level: runner::StreamLevel::default(),
            halt: Halt::default(),
            trivial: self.inner.steps.is_empty() && self.inner.unwrap.is_none() && by_stream,
            pipeline: Arc::clone(&self.inner),
        }
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        change(&mut inner);
        Pipeline {
            inner: Arc::new(inner),
        }
    }

    fn needs_level(&self, reads: &Option<Vec<String>>) -> bool {
        self.inner.detect_level
            && reads
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == level::DETECTED_LEVEL))
    }

    /// Conditions that parsers try as soon as they set the label: as in Loki, those on one label,
    /// the first for each, unless the consumer names the labels that it wants.
    fn early(&self, need: &LabelNeed) -> Arc<[(Place, Condition)]> {
        if matches!(need, LabelNeed::Only(names) if !names.is_empty()) {
            return Arc::default();
        }
        let steps = self.inner.steps.iter().filter_map(|step| match step {
            Step::Condition(condition) => Some(condition),
            _ => None,
        });
        let last = self.inner.unwrap.as_ref().map(|unwrap| &*unwrap.filters);
        let last = match last {
            Some([only]) => Some(only),
            _ => None,
        };
        let mut early: Vec<(Place, Condition)> = Vec::new();
        for condition in steps.chain(last) {
            if let Some(place) = condition.only_place()
                && !early.iter().any(|(known, _)| *known == place)
            {
                early.push((place, condition.clone()));
            }
        }
        early.into()
    }

    fn grouping(&self, need: &LabelNeed, names: &mut Names) -> Grouping {
        let ids = |list: &[String], names: &mut Names| {
            let mut ids: Vec<NameId> = list.iter().map(|name| names.id(name)).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        match need {
            LabelNeed::All => Grouping::Without(Vec::new()),
            LabelNeed::Only(list) => Grouping::By(ids(list, names)),
            LabelNeed::Without(list) => {
                let mut gone = ids(list, names);
                gone.extend(self.inner.unwrap.as_ref().map(|unwrap| unwrap.label));
                Grouping::Without(gone)
            }
        }
    }

    /// Names of the labels that anybody reads (`None`: any), and what parsers may leave out.
    fn plan(&self, need: &LabelNeed, names: &mut Names) -> (Option<Vec<String>>, Hints) {
        let mut places = Vec::new();
        let mut known = true;
        let mut wanted_places = Vec::new();
        for step in &self.inner.steps {
            known &= step.visit_reads(&mut |place| places.push(place));
            step.visit_wanted(&mut |place| wanted_places.push(place));
        }
        let mut visit = |place: Place| {
            places.push(place);
            wanted_places.push(place);
        };
        if let Some(unwrap) = &self.inner.unwrap {
            visit(Place::Label(unwrap.label));
            for filter in &unwrap.filters {
                filter.visit_places(&mut visit);
            }
        }
        let LabelNeed::Only(list) = need else {
            let hints = Hints {
                wanted: None,
                any_read: !known,
                preserve_error: false,
                early: self.early(need),
            };
            return (None, hints);
        };
        let mut reads = texts(&places, list, names);
        let wanted_texts = texts(&wanted_places, list, names);
        let preserve_error = wanted_texts.iter().any(|name| name == ERROR_LABEL);
        let mut wanted: Vec<NameId> = Vec::new();
        for name in &wanted_texts {
            for name in [Some(name.as_str()), without_suffix(name)] {
                let id = name.map(|name| names.id(name));
                wanted.extend(id.filter(|id| !wanted.contains(id)));
            }
        }
        let hints = Hints {
            wanted: Some(wanted),
            any_read: !known,
            preserve_error,
            early: self.early(need),
        };
        let labels_only = |name: &String| name != ERROR_LABEL && name != ERROR_DETAILS_LABEL;
        reads.retain(labels_only);
        (known.then_some(reads), hints)
    }
}

/// Names of places and names of others, each once.
fn texts(places: &[Place], others: &[String], names: &Names) -> Vec<String> {
    let places = places.iter().map(|place| match place {
        Place::Label(id) => names.text(*id),
        Place::Error => ERROR_LABEL,
        Place::ErrorDetails => ERROR_DETAILS_LABEL,
    });
    let mut texts: Vec<String> = Vec::new();
    for name in places.chain(others.iter().map(String::as_str)) {
        if !texts.iter().any(|known| known == name) {
            texts.push(name.to_owned());
        }
    }
    texts
}

#[cfg(test)]
mod tests;
