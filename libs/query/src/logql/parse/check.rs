//! What a query must fulfil beyond its grammar.

use model::MatchOp;

use super::super::ast::{LabelFormat, LineFilterOp, Matcher, RangeInput, RangeOp, Stage};
use super::super::pipeline::{CompileError, Pipeline};
use super::super::print::range_op_name;
use super::super::regex;
use super::{ParseError, Parser, REGEXES_MAX};

const EMPTY_COMPATIBLE: &str = "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";

/// A selector must not match the stream that has none of its labels.
pub(super) fn selector(matchers: &[Matcher]) -> Result<(), &'static str> {
    let restricts = |m: &Matcher| match m.op {
        MatchOp::Equal => !m.value.is_empty(),
        MatchOp::NotEqual => m.value.is_empty(),
        MatchOp::Regex | MatchOp::NotRegex => {
            let empty = regex::compile_anchored(&m.value).is_ok_and(|r| r.is_match(""));
            empty == (m.op == MatchOp::NotRegex)
        }
    };
    if matchers.iter().any(restricts) {
        Ok(())
    } else {
        Err(EMPTY_COMPATIBLE)
    }
}

impl Parser<'_> {
    /// A matcher's regular expression must be one.
    pub(super) fn check_matcher(&mut self, matcher: &Matcher) -> Result<(), ParseError> {
        if matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) && self.may_compile(1) {
            regex::compile_anchored(&matcher.value)
                .map_err(|error| ParseError::meaning(error.to_string()))?;
        }
        Ok(())
    }

    /// Counts regular expressions. What is compiled only to find errors need not be any more when
    /// there is one.
    pub(super) fn may_compile(&mut self, regexes: usize) -> bool {
        self.regexes += regexes;
        if self.regexes > REGEXES_MAX {
            self.note(format!(
                "more than {REGEXES_MAX} regular expressions in one query"
            ));
        }
        self.meaning.is_none()
    }

    /// Notes what is wrong with a stage that is right by the grammar. As in Loki, what is wrong with
    /// `regexp` and `pattern` ends the parse.
    pub(super) fn check_stage(&mut self, stage: &Stage) -> Result<(), ParseError> {
        let regexes = match stage {
            Stage::LineFilter(filter)
                if matches!(filter.op, LineFilterOp::Matches | LineFilterOp::NotMatches) =>
            {
                filter.any.len()
            }
            Stage::Regexp(_) => 1,
            _ => 0,
        };
        if !self.may_compile(regexes) {
            return Ok(());
        }
        let result = match stage {
            Stage::Regexp(expression) => {
                return regexp_parser(expression).map_err(|message| {
                    ParseError::meaning(format!("invalid regexp parser: {message}"))
                });
            }
            Stage::Pattern(_) => {
                return compiled(stage).map_err(|error| {
                    ParseError::meaning(format!("invalid pattern parser: {}", words(&error)))
                });
            }
            Stage::LineFormat(_) => return Ok(()),
            Stage::LabelFormat(formats) => label_formats(formats),
            _ => compiled(stage).map_err(|error| words(&error)),
        };
        if let Err(message) = result {
            self.note_stage(stage, &message);
        }
        Ok(())
    }

    /// Notes what is wrong with the templates of `line_format`. In a metric query those that make
    /// a line that nobody reads are left out, and so may be wrong.
    pub(super) fn check_line_formats(&mut self, stages: &[Stage]) {
        for stage in stages {
            if let Stage::LineFormat(_) = stage
                && self.may_compile(0)
                && let Err(error) = compiled(stage)
            {
                let message = format!("invalid line template: {}", words(&error));
                self.note_stage(stage, &message);
            }
        }
    }

    /// As in Loki, what is wrong with a stage comes after all other errors.
    fn note_stage(&mut self, stage: &Stage, message: &str) {
        if self.stage_problem.is_none() {
            let message = format!("stage '{stage}' : {message}");
            self.stage_problem = Some(ParseError::meaning(message));
        }
    }

    /// There is one order, and one way to tell copies.
    pub(super) fn check_ordering(&mut self, stages: &[Stage]) {
        let count = |is: fn(&Stage) -> bool| stages.iter().filter(|stage| is(stage)).count();
        if count(|stage| matches!(stage, Stage::Distinct(_))) > 1 {
            self.note("only one distinct stage is allowed; name all labels in it");
        }
        if count(|stage| matches!(stage, Stage::Sort { .. })) > 1 {
            self.note("only one sort stage is allowed; name all labels in it");
        }
    }

    /// `distinct` and `sort` say which entries are shown and in which order; numbers have neither.
    pub(super) fn refuse_ordering(&mut self, stages: &[Stage]) {
        let orders = |stage: &Stage| matches!(stage, Stage::Distinct(_) | Stage::Sort { .. });
        if stages.iter().any(orders) {
            self.note("distinct and sort are not allowed in a metric query");
        }
    }
}

fn compiled(stage: &Stage) -> Result<(), CompileError> {
    Pipeline::compile(std::slice::from_ref(stage), None).map(drop)
}

/// What is wrong, in Loki's words where it has some.
fn words(error: &CompileError) -> String {
    match error {
        CompileError::Regex { error, .. } => error.clone(),
        CompileError::PatternNoCapture(_) => "at least one capture is required".to_owned(),
        CompileError::PatternAdjacent(captures, _) => {
            format!("found consecutive capture '{captures}': invalid expression")
        }
        CompileError::PatternDuplicate(name, _) => {
            format!("duplicate capture name ({name}): invalid expression")
        }
        CompileError::Template(message) => without_column(message),
        CompileError::PatternNamed(_)
        | CompileError::NoCapture
        | CompileError::CaptureName(_)
        | CompileError::DuplicateCapture(_)
        | CompileError::Path(..)
        | CompileError::Ip(_)
        | CompileError::IpOperation
        | CompileError::PatternEmpty => error.to_string(),
    }
}

/// `template: line:1:5: problem` without the column, which Go does not name.
fn without_column(message: &str) -> String {
    let parts: Vec<&str> = message.splitn(5, ':').collect();
    match parts[..] {
        ["template", name, line, column, problem] if column.parse::<u32>().is_ok() => {
            format!("template:{name}:{line}:{problem}")
        }
        _ => message.to_owned(),
    }
}

fn regexp_parser(expression: &str) -> Result<(), String> {
    // The crate refuses names that stand twice in words of its own, so look first.
    let compiled = regex::compile(expression);
    let duplicate = match &compiled {
        Err(error) => error.problem.contains("duplicate capture group name"),
        Ok(_) => false,
    };
    if duplicate {
        let name = duplicate_name(expression).unwrap_or_default();
        return Err(format!("duplicate extracted label name '{name}'"));
    }
    let compiled = compiled.map_err(|error| error.to_string())?;
    if compiled.capture_names().flatten().next().is_none() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    let stage = Stage::Regexp(expression.to_owned());
    self::compiled(&stage).map_err(|error| words(&error))
}

/// The first name of a group that stands twice.
fn duplicate_name(expression: &str) -> Option<&str> {
    let mut seen = Vec::new();
    for part in expression.split("(?P<").skip(1) {
        let name = part.split('>').next()?;
        if seen.contains(&name) {
            return Some(name);
        }
        seen.push(name);
    }
    None
}

fn label_formats(formats: &[LabelFormat]) -> Result<(), String> {
    let mut seen = Vec::with_capacity(formats.len());
    for format in formats {
        let (LabelFormat::Rename { to, .. } | LabelFormat::Template { to, .. }) = format;
        if to == "__error__" {
            return Err(format!("{to} cannot be formatted"));
        }
        if seen.contains(&to) {
            return Err(format!(
                "multiple label name '{to}' not allowed in a single format operation"
            ));
        }
        seen.push(to);
        let one = Stage::LabelFormat(vec![format.clone()]);
        compiled(&one)
            .map_err(|error| words(&error).replacen("template: line:", "template: label:", 1))
            .map_err(|error| format!("invalid template for label '{to}': {error}"))?;
    }
    Ok(())
}

/// Whether operator, grouping and `unwrap` go together.
pub(super) fn range_aggregation(
    op: RangeOp,
    over: &RangeInput,
    grouped: bool,
) -> Result<(), String> {
    use RangeOp::*;
    let name = range_op_name(op);
    let may_group = matches!(
        op,
        Avg | Stddev | Stdvar | Quantile | Max | Min | First | Last
    );
    if grouped && !may_group {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    let of_lines = matches!(op, Bytes | BytesRate | Count | Rate | Absent);
    let of_numbers = !matches!(op, Bytes | BytesRate | Count);
    match over {
        RangeInput::Logs(logs) if logs.unwrap.is_some() => {
            if of_numbers {
                Ok(())
            } else {
                Err(format!("invalid aggregation {name} with unwrap"))
            }
        }
        RangeInput::Logs(_) if !of_lines => {
            Err(format!("invalid aggregation {name} without unwrap"))
        }
        RangeInput::Subquery { .. } if matches!(op, Bytes | BytesRate) => Err(format!(
            "invalid aggregation {name} of a subquery: it needs log lines"
        )),
        _ => Ok(()),
    }
}
