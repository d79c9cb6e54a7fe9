//! Compiled stages, and what each needs.

use model::LineClause;

use super::CompileError;
use super::capture::{PatternParser, RegexpParser};
use super::choose::{Choice, drop_labels, keep_labels};
use super::json_path::JsonField;
use super::label_filter::{Condition, Place};
use super::logfmt::{LogfmtField, LogfmtOptions};
use super::names::{NameId, Names};
use super::path::{parse_key, parse_path};
use super::row::{Category, Row, StageError};
use super::runner::RowLabels;
use super::template::{Moment, Template};
use super::unpack::{Unpacked, unpack};
use super::{decolorize, json, json_path, line_filter, logfmt, template};
use crate::Halt;
use crate::logql::ast::{Extraction, LabelFormat, Stage};
use crate::logql::regex::CaptureMemory;

/// One step on a row.
#[derive(Clone, Debug)]
pub(super) enum Step {
    LineFilter(LineClause),
    Json,
    JsonFields(Vec<JsonField>),
    Logfmt(LogfmtOptions),
    /// Whether strict; empty values are always kept.
    LogfmtFields(bool, Vec<LogfmtField>),
    /// The number is the place of its scratch memory.
    Regexp(RegexpParser, usize),
    Pattern(PatternParser),
    Unpack,
    Condition(Condition),
    LineFormat(Template),
    LabelFormat(Vec<Assignment>),
    Decolorize,
    Drop(Vec<Choice>),
    Keep(Vec<Choice>),
    /// Takes the values of these labels for `distinct`.
    Distinct(Vec<String>),
    /// Takes the values of these labels for `sort`.
    Sort(Vec<String>),
}

/// One assignment of `label_format`.
#[derive(Clone, Debug)]
pub(super) enum Assignment {
    Rename { to: NameId, from: NameId },
    Template { to: NameId, template: Template },
}

/// The line as the stages leave it.
#[derive(Debug, Default)]
pub(super) struct LineState {
    changed: bool,
    bytes: Vec<u8>,
    spare: Vec<u8>,
}

/// Memory of the stages that is kept between rows.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    key: String,
    text: String,
    names: Vec<NameId>,
    unpacked: Unpacked,
    captures: Vec<CaptureMemory>,
    pub(super) keys: Keys,
}

/// What `distinct` and `sort` saw of a row, where they stand in the pipeline.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) distinct: u128,
    pub(super) sort: Vec<String>,
}

/// What a step works on.
pub(super) struct Work<'r> {
    pub(super) row: &'r mut Row,
    pub(super) line: &'r mut LineState,
    pub(super) scratch: &'r mut Scratch,
    /// As it is stored.
    pub(super) input: &'r [u8],
    pub(super) timestamp: i64,
    pub(super) now: i64,
    pub(super) halt: &'r Halt,
}

impl LineState {
    pub(super) fn begin(&mut self) {
        self.changed = false;
    }

    pub(super) fn get<'l>(&'l self, input: &'l [u8]) -> &'l [u8] {
        if self.changed { &self.bytes } else { input }
    }

    fn replace(&mut self, line: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.changed = true;
    }
}

impl Scratch {
    pub(super) fn new(steps: &[Step]) -> Self {
        let captures = steps.iter().filter_map(|step| match step {
            Step::Regexp(parser, _) => Some(parser.memory()),
            _ => None,
        });
        Scratch {
            captures: captures.collect(),
            ..Scratch::default()
        }
    }
}

fn json_fields(fields: &[Extraction], names: &mut Names) -> Result<Vec<JsonField>, CompileError> {
    let compile = |field: &Extraction| {
        Ok(JsonField {
            label: names.id(&field.label),
            path: parse_path(&field.path)
                .map_err(|problem| CompileError::Path(field.path.clone(), problem))?,
        })
    };
    fields.iter().map(compile).collect()
}

fn logfmt_fields(
    fields: &[Extraction],
    names: &mut Names,
) -> Result<Vec<LogfmtField>, CompileError> {
    let mut compile = |field: &Extraction| {
        let key = parse_key(&field.path)
            .map_err(|problem| CompileError::Path(field.path.clone(), problem))?;
        Ok(LogfmtField {
            label: names.id(&field.label),
            key: key.into(),
        })
    };
    let mut compiled: Vec<LogfmtField> = Vec::with_capacity(fields.len());
    for field in fields {
        let field = compile(field)?;
        // As in Loki, of two fields of one label the later one counts.
        match compiled.iter_mut().find(|known| known.label == field.label) {
            Some(known) => *known = field,
            None => compiled.push(field),
        }
    }
    Ok(compiled)
}

impl Step {
    /// Compiles a stage; `None` if it leaves every row as it is.
    pub(super) fn compile(
        stage: &Stage,
        names: &mut Names,
        regexps: &mut usize,
    ) -> Result<Option<Self>, CompileError> {
        Ok(Some(match stage {
            Stage::LineFilter(filter) => match line_filter::compile(filter)? {
                Some(clause) => Step::LineFilter(clause),
                None => return Ok(None),
            },
            Stage::Json(fields) if fields.is_empty() => Step::Json,
            Stage::Json(fields) => Step::JsonFields(json_fields(fields, names)?),
            Stage::Logfmt {
                strict,
                keep_empty,
                fields,
            } => {
                let options = LogfmtOptions {
                    strict: *strict,
                    keep_empty: *keep_empty,
                };
                match fields.is_empty() {
                    true => Step::Logfmt(options),
                    false => Step::LogfmtFields(*strict, logfmt_fields(fields, names)?),
                }
            }
            Stage::Regexp(text) => {
                *regexps += 1;
                Step::Regexp(RegexpParser::compile(text, names)?, *regexps - 1)
            }
            Stage::Pattern(text) => Step::Pattern(PatternParser::compile(text, names)?),
            Stage::Unpack => Step::Unpack,
            Stage::LabelFilter(filter) => match Condition::compile(filter, names)? {
                Condition::Always => return Ok(None),
                condition => Step::Condition(condition),
            },
            Stage::LineFormat(text) => Step::LineFormat(
                Template::compile(text, template::LINE, names).map_err(CompileError::Template)?,
            ),
            Stage::LabelFormat(formats) => Step::LabelFormat(
                formats
                    .iter()
                    .map(|format| Assignment::compile(format, names))
                    .collect::<Result<_, _>>()?,
            ),
            Stage::Decolorize => Step::Decolorize,
            Stage::Drop(choices) => Step::Drop(compile_choices(choices, names)?),
            Stage::Keep(choices) => Step::Keep(compile_choices(choices, names)?),
            Stage::Distinct(labels) => Step::Distinct(labels.clone()),
            Stage::Sort { by, .. } => Step::Sort(by.clone()),
        }))
    }

    /// Does the step. False if the row is filtered out.
    pub(super) fn apply(&self, work: &mut Work<'_>) -> bool {
        let Work {
            row,
            line: state,
            scratch,
            input,
            ..
        } = work;
        let line = state.get(input);
        match self {
            Step::LineFilter(clause) => return clause.is_match(line),
            Step::Condition(condition) => return condition.passes(row),
            Step::Json => json::parse(row, line, &mut scratch.key),
            Step::JsonFields(fields) => json_path::parse(row, line, fields),
            Step::Logfmt(options) => logfmt::parse(row, line, *options, &mut scratch.key),
            Step::LogfmtFields(strict, fields) => {
                logfmt::parse_fields(row, line, *strict, fields, &mut scratch.key);
            }
            Step::Regexp(parser, at) => parser.parse(row, line, &mut scratch.captures[*at]),
            Step::Pattern(parser) => parser.parse(row, line),
            Step::Unpack => {
                if let Some(entry) = unpack(row, line, &mut scratch.unpacked) {
                    state.replace(entry.as_bytes());
                }
            }
            Step::LineFormat(template) => format_line(template, work),
            Step::LabelFormat(assignments) => format_labels(assignments, work),
            Step::Decolorize => {
                let mut clean = std::mem::take(&mut state.spare);
                clean.clear();
                let any = decolorize::strip(state.get(input), &mut clean);
                if any {
                    std::mem::swap(&mut clean, &mut state.bytes);
                    state.changed = true;
                }
                state.spare = clean;
            }
            Step::Drop(choices) => drop_labels(row, choices),
            Step::Keep(choices) => keep_labels(row, choices, &mut scratch.names),
            Step::Distinct(names) => scratch.keys.distinct = RowLabels { row }.distinct_key(names),
            Step::Sort(names) => {
                let labels = RowLabels { row };
                let values = names.iter().map(|name| labels.get(name).unwrap_or(""));
                scratch.keys.sort.clear();
                scratch.keys.sort.extend(values.map(str::to_owned));
            }
        }
        !work.row.is_stopped()
    }

    /// Whether it may change the line.
    pub(super) fn changes_line(&self) -> bool {
        matches!(self, Step::Unpack | Step::LineFormat(_) | Step::Decolorize)
    }

    /// Whether it finds labels in the line, and so has nothing to do when nobody wants any.
    pub(super) fn is_parser(&self) -> bool {
        matches!(
            self,
            Step::Json
                | Step::JsonFields(_)
                | Step::Logfmt(_)
                | Step::LogfmtFields(..)
                | Step::Regexp(..)
                | Step::Pattern(_)
        )
    }

    /// Whether it looks at the line, for other things than labels that nobody may want.
    pub(super) fn reads_line(&self) -> bool {
        match self {
            Step::LineFilter(_) | Step::Unpack | Step::Decolorize => true,
            Step::LineFormat(template) => template.reads_line(),
            Step::LabelFormat(assignments) => assignments.iter().any(
                |a| matches!(a, Assignment::Template { template, .. } if template.reads_line()),
            ),
            _ => false,
        }
    }

    /// Calls `visit` with every label it reads. False if it may read any.
    pub(super) fn visit_reads(&self, visit: &mut impl FnMut(Place)) -> bool {
        let mut known = true;
        match self {
            Step::Condition(condition) => condition.visit_places(visit),
            Step::LineFormat(template) => known = visit_template(template, visit),
            Step::LabelFormat(assignments) => {
                for assignment in assignments {
                    match assignment {
                        Assignment::Rename { from, .. } => visit(Place::Label(*from)),
                        Assignment::Template { template, .. } => {
                            known &= visit_template(template, visit);
                        }
                    }
                }
            }
            Step::Distinct(_) | Step::Sort(_) => return false,
            _ => {}
        }
        known
    }

    /// Calls `visit` with every label that parsers before it must find.
    pub(super) fn visit_wanted(&self, visit: &mut impl FnMut(Place)) {
        match self {
            Step::LineFormat(template) => template.wanted().for_each(visit),
            Step::LabelFormat(assignments) => {
                for assignment in assignments {
                    match assignment {
                        Assignment::Rename { from, .. } => visit(Place::Label(*from)),
                        Assignment::Template { template, .. } => {
                            template.wanted().for_each(&mut *visit);
                        }
                    }
                }
            }
            other => {
                other.visit_reads(visit);
            }
        }
    }
}

impl Assignment {
    fn compile(format: &LabelFormat, names: &mut Names) -> Result<Self, CompileError> {
        Ok(match format {
            LabelFormat::Rename { to, from } => Assignment::Rename {
                to: names.id(to),
                from: names.id(from),
            },
            LabelFormat::Template { to, template: text } => Assignment::Template {
                to: names.id(to),
                template: Template::compile(text, template::LABEL, names)
                    .map_err(CompileError::Template)?,
            },
        })
    }
}

fn compile_choices(
    choices: &[crate::logql::ast::LabelChoice],
    names: &mut Names,
) -> Result<Vec<Choice>, CompileError> {
    choices
        .iter()
        .map(|choice| Choice::compile(choice, names))
        .collect()
}

fn visit_template(template: &Template, visit: &mut impl FnMut(Place)) -> bool {
    match template.places() {
        Some(places) => {
            places.for_each(visit);
            true
        }
        None => false,
    }
}

/// A template that fails leaves the line as it is.
fn format_line(template: &Template, work: &mut Work<'_>) {
    let text = &mut work.scratch.text;
    text.clear();
    let moment = Moment {
        line: work.line.get(work.input),
        timestamp: work.timestamp,
        now: work.now,
        halt: work.halt,
    };
    match template.render(work.row, moment, text) {
        Ok(()) => work.line.replace(text.as_bytes()),
        Err(details) => work.row.set_error(StageError::TemplateFormat, &details),
    }
}

/// All templates of one stage see the labels as they were when the first of them ran: after the
/// renames before it. The results are set in the order of the assignments. As in Loki, a row
/// without any label is looked at anew for each template, as long as it has none.
fn format_labels(assignments: &[Assignment], work: &mut Work<'_>) {
    let is_rename = |a: &Assignment| matches!(a, Assignment::Rename { .. });
    let leading = assignments.iter().take_while(|a| is_rename(a)).count();
    let (before, mut rest) = assignments.split_at(leading);
    for assignment in before {
        if let Assignment::Rename { to, from } = assignment {
            work.row.rename(*from, *to);
        }
    }
    while rest.len() > 1 && !work.row.has_labels() {
        let (first, others) = rest.split_at(1);
        assign(first, work);
        rest = others;
    }
    assign(rest, work);
}

/// Does assignments whose templates all see the same labels.
fn assign(rest: &[Assignment], work: &mut Work<'_>) {
    let text = &mut work.scratch.text;
    text.clear();
    let moment = Moment {
        line: work.line.get(work.input),
        timestamp: work.timestamp,
        now: work.now,
        halt: work.halt,
    };
    // For each template where its text starts and ends, or what failed.
    let mut results: Vec<Result<(usize, usize), String>> = Vec::new();
    for assignment in rest {
        if let Assignment::Template { template, .. } = assignment {
            let start = text.len();
            let result = template.render(work.row, moment, text);
            if result.is_err() {
                text.truncate(start);
            }
            results.push(result.map(|()| (start, text.len())));
        }
    }
    let mut results = results.into_iter();
    for assignment in rest {
        match assignment {
            Assignment::Rename { to, from } => work.row.rename(*from, *to),
            Assignment::Template { to, .. } => match results.next() {
                Some(Ok((start, end))) => {
                    work.row.set(Category::Parsed, *to, &text[start..end]);
                }
                Some(Err(details)) => {
                    work.row.set_error(StageError::TemplateFormat, &details);
                }
                None => {}
            },
        }
    }
}
