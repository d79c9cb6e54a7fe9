//! Which fields the lines of a query have: in their metadata, in JSON, in logfmt. Every line of the
//! range counts; nothing is sampled.
//!
//! What it is: a [`Sink`] that runs the query's pipeline and then the parsers that a query would
//! use over each line, and keeps what it found of each field. What it is *not*: it reads nothing
//! and knows no answer's form.
//!
//! Invariant: the answer is a function of the set of records, however they are split over sinks.

mod columns;
mod field;
mod found;
mod kind;
mod level;
mod levels;
mod parsers;
mod shape;
mod size;
mod split;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    Columns, Flow, Labels, LabelsError, LineColumn, RowBlock, Selector, TimeRange, Timestamp,
};
use query::logql::ast::Stage;
use query::logql::pipeline::{CompileError, LabelNeed, Pipeline, RowLabels, Runner};
use query::{Budget, BudgetError, ScanOrder, ScanRequest, Sink};

use columns::Templates;
pub(crate) use field::Field;
use found::{Found, is_error};
use parsers::Parsers;
pub(crate) use size::shown as shown_size;

/// The fields of some lines, by name.
pub(crate) type Fields = BTreeMap<Box<str>, Field>;

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Detector {
    pipeline: Pipeline,
    json: Pipeline,
    logfmt: Pipeline,
    /// Whether stages may change labels of the stream from line to line.
    relabels: bool,
    detect_level: bool,
    only: Option<Only>,
}

/// One field of which the values are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Only {
    pub(crate) name: String,
    /// Most values, the first in order.
    pub(crate) values_max: usize,
}

impl Detector {
    /// For lines that pass these stages; of one field or of all.
    ///
    /// # Errors
    /// When a stage does not compile.
    pub(crate) fn new(
        stages: &[Stage],
        detect_level: bool,
        now: Timestamp,
        only: Option<Only>,
    ) -> Result<Self, CompileError> {
        let logfmt = Stage::Logfmt {
            strict: false,
            keep_empty: false,
            fields: Vec::new(),
        };
        let is_filter = |stage: &Stage| matches!(stage, Stage::LineFilter(_));
        Ok(Detector {
            pipeline: Pipeline::compile(stages, None)?
                .with_detected_level(detect_level)
                .with_now(now),
            json: Pipeline::compile(&[Stage::Json(Vec::new())], None)?,
            logfmt: Pipeline::compile(&[logfmt], None)?,
            relabels: !stages.iter().all(is_filter),
            detect_level,
            only,
        })
    }

    /// Whether the fields of a line are those of the line as it is stored, so that its parts may be
    /// looked at without it.
    pub(crate) fn takes_parts(&self) -> bool {
        !self.relabels
    }

    /// The scan that finds the lines.
    pub(crate) fn request(&self, selector: Selector, range: TimeRange) -> ScanRequest {
        ScanRequest {
            selector,
            range,
            line_filter: self.pipeline.pushed_line_filter(),
            columns: Columns {
                timestamps: true,
                lines: LineColumn::Bytes,
                metadata: true,
            },
            outcomes: None,
            order: ScanOrder::Any,
        }
    }

    /// One worker's memory.
    pub(crate) fn sink<'a>(&'a self, budget: &'a Budget) -> FieldSink<'a> {
        FieldSink {
            detector: self,
            stages: self
                .pipeline
                .runner(&LabelNeed::All)
                .halted_by(budget.halt()),
            parsers: Parsers::new(&self.json, &self.logfmt),
            stream: Arc::default(),
            found: Found::new(budget, self.only.as_ref()),
            templates: Templates::default(),
        }
    }
}

/// Looks at lines.
pub(crate) struct FieldSink<'a> {
    detector: &'a Detector,
    stages: Runner,
    parsers: Parsers,
    /// The labels that the parsers take as those of the stream.
    stream: Arc<Labels>,
    found: Found<'a>,
    templates: Templates,
}

impl FieldSink<'_> {
    fn row(
        &mut self,
        at: Timestamp,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<(), BudgetError> {
        let Some(output) = self.stages.run(at, line, metadata) else {
            return Ok(());
        };
        let (labels, line) = (output.labels, output.line);
        if self.detector.relabels && !labels.stream().eq(self.stream.iter()) {
            // Names and values of a stream make labels, whatever stages did to them.
            if let Ok(changed) = relabelled(&labels) {
                self.stream = Arc::new(changed);
                self.parsers.stream(&self.stream);
            }
        }
        let found = &mut self.found;
        found.place = 0;
        for (name, value) in labels.metadata() {
            found.add(name, value, None)?;
        }
        let parsed = self.parsers.parse(at, line);
        let parser = parsed.map(|(parser, _)| parser);
        for (name, value) in labels.parsed().filter(|(name, _)| !is_error(name)) {
            found.add(name, value, parser)?;
        }
        found.add_parsed(at, line, parsed)
    }

    /// Gives what was found.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (Box<str>, Field)> {
        self.found.fields.into_iter()
    }
}

impl Sink for FieldSink<'_> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        self.stages.stream(block.labels);
        self.parsers.stream(block.labels);
        self.stream = Arc::clone(block.labels);
        for (row, at) in block.timestamps.iter().enumerate() {
            if row % 1024 == 0 {
                self.found.budget.check()?;
            }
            let metadata = block.metadata.map_or(&[][..], |rows| rows.row(row));
            self.row(*at, block.lines.line(row), metadata)?;
        }
        Ok(Flow::Continue)
    }
}

/// The fields of all sinks together.
pub(crate) fn merge(
    fields: &mut Fields,
    more: impl Iterator<Item = (Box<str>, Field)>,
    values_max: Option<usize>,
) {
    for (name, field) in more {
        match fields.get_mut(&name) {
            Some(known) => known.merge(field, values_max),
            None => {
                fields.insert(name, field);
            }
        }
    }
}

fn relabelled(labels: &RowLabels<'_>) -> Result<Labels, LabelsError> {
    Labels::new(labels.stream())
}
