//! Which fields the lines of a query have: in their metadata, in JSON, in logfmt. Every line of the
//! range counts; nothing is sampled.
//!
//! What it is: a [`Sink`] that runs the query's pipeline and then the parsers that a query would
//! use over each line, and keeps what it found of each field. What it is *not*: it reads nothing
//! and knows no answer's form.
//!
//! Invariant: the answer is a function of the set of records, however they are split over sinks.

mod field;
mod kind;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{
    Columns, Flow, Labels, LabelsError, LineColumn, RowBlock, Selector, TimeRange, Timestamp,
};
use query::logql::ast::Stage;
use query::logql::pipeline::{
    CompileError, ERROR_DETAILS_LABEL, ERROR_LABEL, LabelNeed, Pipeline, RowLabels, Runner,
};
use query::{Budget, BudgetError, ScanOrder, ScanRequest, Sink};

pub(crate) use field::{Field, Parser};

/// What the parsers add to a name that a stream label has already.
const EXTRACTED: &str = "_extracted";
/// What a field takes beside its name and values, bytes.
const FIELD_BYTES: u64 = 256;

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
            only,
        })
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
            order: ScanOrder::Any,
        }
    }

    /// One worker's memory.
    pub(crate) fn sink<'a>(&'a self, budget: &'a Budget) -> FieldSink<'a> {
        FieldSink {
            detector: self,
            stages: self.pipeline.runner(&LabelNeed::All),
            json: self.json.runner(&LabelNeed::All),
            logfmt: self.logfmt.runner(&LabelNeed::All),
            stream: Arc::default(),
            found: Found {
                budget,
                only: self.only.as_ref(),
                numbers: HashMap::new(),
                fields: Vec::new(),
                order: Vec::new(),
                place: 0,
            },
        }
    }
}

/// Looks at lines.
pub(crate) struct FieldSink<'a> {
    detector: &'a Detector,
    stages: Runner,
    json: Runner,
    logfmt: Runner,
    /// The labels that the parsers take as those of the stream.
    stream: Arc<Labels>,
    found: Found<'a>,
}

/// What was found so far.
struct Found<'a> {
    budget: &'a Budget,
    only: Option<&'a Only>,
    numbers: HashMap<Box<str>, usize>,
    fields: Vec<(Box<str>, Field)>,
    /// Numbers of the fields of the line before, in order: most lines are like it.
    order: Vec<usize>,
    place: usize,
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
                self.json.stream(&self.stream);
                self.logfmt.stream(&self.stream);
            }
        }
        let found = &mut self.found;
        found.place = 0;
        for (name, value) in labels.metadata() {
            found.add(name, value, None)?;
        }
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        let json = match first {
            Some(b'{') => self.json.run(at, line, &[]),
            _ => None,
        };
        let json = json.map(|output| output.labels);
        let (parser, parsed) = match json.filter(|labels| !labels.has_error()) {
            Some(labels) => (Parser::Json, Some(labels)),
            // Keys without a value make no labels.
            None if memchr::memchr(b'=', line).is_none() => (Parser::Logfmt, None),
            None => {
                let output = self.logfmt.run(at, line, &[]);
                (Parser::Logfmt, output.map(|output| output.labels))
            }
        };
        let parsed =
            parsed.filter(|labels| !labels.has_error() && labels.parsed().next().is_some());
        for (name, value) in labels.parsed().filter(|(name, _)| !is_error(name)) {
            found.add(name, value, parsed.map(|_| parser))?;
        }
        let mut paths = None;
        for (name, value) in parsed.iter().flat_map(RowLabels::parsed) {
            let Some(field) = found.add(name, value, Some(parser))? else {
                continue;
            };
            if parser == Parser::Json && field.wants_path(at) {
                let paths = paths.get_or_insert_with(|| paths_of(line));
                let key = name.strip_suffix(EXTRACTED).unwrap_or(name);
                let path = paths.get(name).or_else(|| paths.get(key));
                field.set_path(at, path.cloned().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Gives what was found.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (Box<str>, Field)> {
        self.found.fields.into_iter()
    }
}

impl Sink for FieldSink<'_> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        for runner in [&mut self.stages, &mut self.json, &mut self.logfmt] {
            runner.stream(block.labels);
        }
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

impl Found<'_> {
    /// One value of a field; gives the field, unless nobody asked for it.
    fn add(
        &mut self,
        name: &str,
        value: &str,
        parser: Option<Parser>,
    ) -> Result<Option<&mut Field>, BudgetError> {
        if self.only.is_some_and(|only| only.name != name) {
            return Ok(None);
        }
        let expected = self.order.get(self.place).copied();
        let number = match expected.filter(|number| &*self.fields[*number].0 == name) {
            Some(number) => number,
            None => {
                let number = self.number(name)?;
                self.order.truncate(self.place);
                self.order.push(number);
                number
            }
        };
        self.place += 1;
        let field = &mut self.fields[number].1;
        if let Some(parser) = parser {
            field.add_parser(parser);
        }
        let grown = field.add(value, self.only.map(|only| only.values_max));
        if grown > 0 {
            self.budget.take_memory(grown)?;
        }
        Ok(Some(field))
    }

    fn number(&mut self, name: &str) -> Result<usize, BudgetError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        self.budget
            .take_memory(FIELD_BYTES + 2 * name.len() as u64)?;
        let number = self.fields.len();
        self.numbers.insert(name.into(), number);
        self.fields.push((name.into(), Field::default()));
        Ok(number)
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

fn is_error(name: &str) -> bool {
    name == ERROR_LABEL || name == ERROR_DETAILS_LABEL
}

fn relabelled(labels: &RowLabels<'_>) -> Result<Labels, LabelsError> {
    Labels::new(labels.stream())
}

/// Where each label of the JSON parser comes from: keys joined by `_`, with `_` for what a label
/// name cannot have. Of paths that give one name, the first in order counts.
fn paths_of(line: &[u8]) -> HashMap<String, Vec<String>> {
    let mut paths = HashMap::new();
    let Ok(tree) = serde_json::from_slice::<serde_json::Value>(line) else {
        return paths;
    };
    let mut open = vec![(Vec::new(), &tree)];
    while let Some((path, value)) = open.pop() {
        let serde_json::Value::Object(members) = value else {
            let names: Vec<String> = path.iter().map(|key: &String| sanitized(key)).collect();
            paths.entry(names.join("_")).or_insert(path);
            continue;
        };
        for (key, value) in members.iter().rev() {
            let mut path = path.clone();
            path.push(key.clone());
            open.push((path, value));
        }
    }
    paths
}

fn sanitized(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.trim()
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}
