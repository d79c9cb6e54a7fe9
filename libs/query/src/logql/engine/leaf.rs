//! The bottom of a query: which records to scan, and the pipeline that runs over them.

use std::sync::Arc;

use model::{Columns, LabelMatcher, LineColumn, MatchOp, Selector, TimeRange, Timestamp};

use super::super::ast::{Grouping, LabelFormat, LogExpr, Matcher, Stage, Unwrap};
use super::super::pipeline::level::DETECTED_LEVEL;
use super::super::pipeline::{LabelNeed, Pipeline, Runner};
use super::super::regex::ValueRegex;
use super::EngineError;
use crate::{Budget, ScanOrder, ScanRequest};

/// A compiled selector and pipeline.
#[derive(Debug)]
pub(super) struct Leaf {
    selector: Selector,
    pipeline: Pipeline,
    need: LabelNeed,
    filters_only: bool,
    reads_time: bool,
}

impl Leaf {
    /// Compiles; `need` is what the query looks at when the pipeline is done.
    pub(super) fn new(
        log: &LogExpr,
        unwrap: Option<&Unwrap>,
        need: LabelNeed,
        detect_level: bool,
        now: Option<Timestamp>,
    ) -> Result<Self, EngineError> {
        let selector = selector(&log.selector)?;
        let never_empty = selector.matchers.iter().filter(|m| !m.is_match(""));
        let guaranteed: Vec<String> = never_empty.map(|m| m.name.to_string()).collect();
        let pipeline = Pipeline::compile(&log.stages, unwrap)
            .map_err(|error| EngineError::Invalid(error.to_string()))?
            .with_guaranteed_labels(guaranteed)
            .with_detected_level(detect_level);
        let pipeline = match now {
            Some(now) => pipeline.with_now(now),
            None => pipeline,
        };
        let shows_level = match &need {
            LabelNeed::Only(names) => names.iter().any(|name| name == DETECTED_LEVEL),
            LabelNeed::All | LabelNeed::Without(_) => true,
        };
        let is_template = |stage: &Stage| match stage {
            Stage::LineFormat(_) => true,
            Stage::LabelFormat(formats) => formats
                .iter()
                .any(|format| matches!(format, LabelFormat::Template { .. })),
            _ => false,
        };
        let is_filter = |stage: &Stage| matches!(stage, Stage::LineFilter(_));
        Ok(Leaf {
            selector,
            pipeline,
            need,
            filters_only: log.stages.iter().all(is_filter)
                && unwrap.is_none()
                && !(detect_level && shows_level),
            // `__timestamp__`
            reads_time: log.stages.iter().any(is_template),
        })
    }

    /// Whether rows without metadata all have the labels of their stream, whatever their lines:
    /// the source runs all the filters there are.
    pub(super) fn filters_only(&self) -> bool {
        self.filters_only
    }

    /// A scan for this pipeline. `lines` is what the consumer itself needs of the line that comes
    /// out.
    pub(super) fn request(
        &self,
        range: TimeRange,
        timestamps: bool,
        lines: LineColumn,
    ) -> ScanRequest {
        let (needed, metadata, mut outcomes) = self.pipeline.columns_beside_level(&self.need);
        let shown = match lines {
            LineColumn::Lengths if self.pipeline.changes_line() => LineColumn::Bytes,
            lines => lines,
        };
        let lines = needed.max(shown);
        if let Some(outcomes) = &mut outcomes {
            outcomes.wanted &= lines != LineColumn::Bytes;
        }
        ScanRequest {
            selector: self.selector.clone(),
            range,
            line_filter: self.pipeline.pushed_line_filter(),
            columns: Columns {
                timestamps: timestamps || self.reads_time,
                lines,
                metadata,
            },
            outcomes: outcomes.filter(|outcomes| outcomes.wanted || outcomes.test.is_some()),
            order: ScanOrder::Any,
        }
    }

    /// Whether rows of one stream without metadata that have the same outcome also have the same
    /// labels, and all pass or none does.
    pub(super) fn is_of_outcomes(&self, request: &ScanRequest) -> bool {
        let wanted = request.outcomes.as_ref().is_some_and(|of| of.wanted);
        wanted && !self.reads_time
    }

    /// A worker's memory; what takes long on a row ends with the budget.
    pub(super) fn runner(&self, budget: &Budget) -> Runner {
        self.pipeline.runner(&self.need).halted_by(budget.halt())
    }
}

/// What a grouping looks at.
pub(super) fn need(grouping: Option<&Grouping>) -> LabelNeed {
    match grouping {
        None => LabelNeed::Without(Vec::new()),
        Some(grouping) if grouping.without => LabelNeed::Without(grouping.labels.clone()),
        Some(grouping) => LabelNeed::Only(grouping.labels.clone()),
    }
}

/// The model's form of a selector.
pub(super) fn selector(matchers: &[Matcher]) -> Result<Selector, EngineError> {
    let matcher = |m: &Matcher| {
        let negated = matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex);
        match m.op {
            MatchOp::Equal | MatchOp::NotEqual => {
                Ok(LabelMatcher::text(&m.name, negated, &m.value))
            }
            MatchOp::Regex | MatchOp::NotRegex => {
                let regex = ValueRegex::new(&m.value)
                    .map_err(|error| EngineError::Invalid(error.to_string()))?;
                let pattern = Arc::new(regex);
                Ok(LabelMatcher::regex(&m.name, negated, &m.value, pattern))
            }
        }
    };
    let matchers: Result<Vec<LabelMatcher>, EngineError> = matchers.iter().map(matcher).collect();
    Ok(Selector {
        matchers: matchers?,
    })
}
