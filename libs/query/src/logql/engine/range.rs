//! Range aggregations: from rows (or the points of a subquery) to one value per window.

use std::borrow::Cow;

use model::{LineColumn, MatchOp};

use super::super::ast::{
    Grouping, LogExpr, LogRange, MetricExpr, RangeAggregation, RangeInput, RangeOp, Stage,
};
use super::super::pipeline::idle_formats;
use super::EngineError;
use super::labels::LabelSet;
use super::leaf::{Leaf, need};
use super::metric::Evaluation;
use super::range_ops::{
    BucketLane, Earliest, Finish, Lane, Largest, Latest, Moments, SampleLane, Smallest, Tally,
    Total,
};
use super::range_sink::{Lanes, RangePlan, RangeSink, Value};
use super::series::{Operand, Points, Row};
use super::steps::{Steps, Windows};
use crate::{Budget, BudgetError, Source};

/// Most evaluations of a subquery's expression: as many as a day has seconds, with room to spare.
const SUBQUERY_STEPS_MAX: i64 = 100_000;

/// Takes the series of a result one by one, in order of labels.
pub(super) type Each<'e> = &'e mut dyn FnMut(Row) -> Result<(), BudgetError>;

/// Evaluates a range aggregation, its rows grouped as given (which may be the grouping of a vector
/// aggregation around it). The result is charged to the budget.
pub(super) fn eval<S: Source>(
    evaluation: &mut Evaluation<'_, S>,
    aggregation: &RangeAggregation,
    grouping: Option<&Grouping>,
    steps: &Steps,
) -> Result<Vec<Row>, EngineError> {
    let budget = evaluation.budget;
    let mut rows = Vec::new();
    let mut keep = |row: Row| {
        budget.take_memory(Row::memory_bytes(&row.labels, row.points.steps()))?;
        rows.push(row);
        Ok(())
    };
    eval_each(evaluation, aggregation, grouping, steps, &mut keep)?;
    Ok(rows)
}

/// As [`eval`], but holds one series of the result at a time and charges none.
pub(super) fn eval_each<S: Source>(
    evaluation: &mut Evaluation<'_, S>,
    aggregation: &RangeAggregation,
    grouping: Option<&Grouping>,
    steps: &Steps,
    each: Each<'_>,
) -> Result<(), EngineError> {
    let nothing = Grouping {
        without: false,
        labels: Vec::new(),
    };
    let job = Job {
        aggregation,
        grouping: match aggregation.op {
            RangeOp::Absent => Some(&nothing),
            _ => grouping,
        },
        steps,
    };
    if steps.count == 0 {
        return Ok(());
    }
    let values = match &aggregation.over {
        RangeInput::Logs(logs) => logs.unwrap.is_some(),
        RangeInput::Subquery { .. } => true,
    };
    match aggregation.op {
        RangeOp::Rate if values => job.run::<S, BucketLane<Total>>(evaluation, each),
        RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate => {
            job.run::<S, BucketLane<Tally>>(evaluation, each)
        }
        RangeOp::Absent => job.absent(evaluation, each),
        RangeOp::Sum | RangeOp::Avg => job.run::<S, BucketLane<Total>>(evaluation, each),
        RangeOp::Stdvar | RangeOp::Stddev => job.run::<S, BucketLane<Moments>>(evaluation, each),
        RangeOp::Min => job.run::<S, BucketLane<Smallest>>(evaluation, each),
        RangeOp::Max => job.run::<S, BucketLane<Largest>>(evaluation, each),
        RangeOp::First => job.run::<S, BucketLane<Earliest>>(evaluation, each),
        RangeOp::Last => job.run::<S, BucketLane<Latest>>(evaluation, each),
        RangeOp::Quantile | RangeOp::RateCounter => job.run::<S, SampleLane>(evaluation, each),
    }
}

/// One range aggregation to evaluate.
struct Job<'q> {
    aggregation: &'q RangeAggregation,
    grouping: Option<&'q Grouping>,
    steps: &'q Steps,
}

impl Job<'_> {
    fn run<S: Source, L: Lane>(
        &self,
        evaluation: &mut Evaluation<'_, S>,
        each: Each<'_>,
    ) -> Result<(), EngineError> {
        match &self.aggregation.over {
            RangeInput::Logs(logs) => self.logs::<S, L>(evaluation, logs, each),
            RangeInput::Subquery {
                expr,
                range,
                step,
                offset,
            } => {
                let windows = Windows::new(self.steps, *range, *offset);
                let step = step.unwrap_or(evaluation.default_step).max(1);
                {
                    let lanes = self.subquery::<S, L>(evaluation, expr, &windows, step)?;
                    self.finish(evaluation.budget, lanes, &windows, *range, each)
                }
            }
        }
    }

    fn logs<S: Source, L: Lane>(
        &self,
        evaluation: &mut Evaluation<'_, S>,
        logs: &LogRange,
        each: Each<'_>,
    ) -> Result<(), EngineError> {
        let op = self.aggregation.op;
        let windows = Windows::new(self.steps, logs.range, logs.offset);
        let value = match op {
            RangeOp::Bytes | RangeOp::BytesRate => Value::LineLength,
            _ if logs.unwrap.is_some() => Value::Unwrapped,
            _ => Value::None,
        };
        refuse_ordering(&logs.log)?;
        let need = need(self.grouping);
        let log = match value {
            Value::LineLength => Cow::Borrowed(&logs.log),
            Value::None | Value::Unwrapped => without_idle_formats(&logs.log),
        };
        let leaf = Leaf::new(
            &log,
            logs.unwrap.as_ref(),
            need,
            evaluation.detect_level,
            evaluation.now,
        )?;
        let keeps_time = matches!(
            op,
            RangeOp::First | RangeOp::Last | RangeOp::Quantile | RangeOp::RateCounter
        );
        let lines = match value {
            Value::LineLength => LineColumn::Lengths,
            Value::None | Value::Unwrapped => LineColumn::None,
        };
        let timestamps = keeps_time || !windows.is_single();
        let request = leaf.request(windows.scan_range(), timestamps, lines);
        let plan = RangePlan {
            windows,
            value,
            filters_only: leaf.filters_only(),
        };
        let budget = evaluation.budget;
        let new_sink = || RangeSink::<L>::new(&plan, leaf.runner(), budget);
        let (sinks, stats) = evaluation.source.scan(&request, budget, &new_sink)?;
        evaluation.stats.add(&stats);
        let mut lanes = Lanes::default();
        let mut failures = Vec::new();
        for sink in sinks {
            match sink.into_lanes() {
                Ok(of_sink) => lanes.absorb(of_sink),
                Err(failure) => failures.push(failure),
            }
        }
        // Each sink reports the first error that it met: show the same one whoever met it.
        if let Some(failure) = failures.into_iter().min_by_key(EngineError::to_string) {
            return Err(failure);
        }
        self.finish(budget, lanes, &windows, logs.range, each)
    }

    fn subquery<S: Source, L: Lane>(
        &self,
        evaluation: &mut Evaluation<'_, S>,
        expr: &MetricExpr,
        windows: &Windows,
        step: i64,
    ) -> Result<Lanes<L>, EngineError> {
        let op = self.aggregation.op;
        if matches!(op, RangeOp::Bytes | RangeOp::BytesRate) {
            return Err(EngineError::Invalid(
                "a subquery has no lines whose bytes could be counted; use sum_over_time or rate"
                    .into(),
            ));
        }
        let scan = windows.scan_range();
        let first = scan.start.saturating_add(step - 1).div_euclid(step) * step;
        if scan.end.saturating_sub(first) / step > SUBQUERY_STEPS_MAX {
            return Err(EngineError::Invalid(format!(
                "subquery needs more than {SUBQUERY_STEPS_MAX} evaluations; use a larger step or a shorter range"
            )));
        }
        let inner = Steps::new(first, scan.end - 1, step);
        let operand = evaluation.eval(expr, &inner)?;
        let charged = operand.memory_bytes();
        let rows = match operand {
            Operand::Rows(rows) => rows,
            Operand::Scalar(value) => vec![Row {
                labels: LabelSet::default(),
                points: Points::constant(inner.count, value),
            }],
        };
        let mut lanes: Lanes<L> = Lanes::default();
        for row in &rows {
            let labels = match self.grouping {
                None => row.labels.clone(),
                grouping => row.labels.group(grouping),
            };
            let series = lanes.series(labels);
            for (step, value) in row.points.iter() {
                let at = inner.at(step);
                if let (Some(bucket), _) = windows.bucket(at) {
                    let grown = lanes.lane(series).add(bucket, at, value);
                    lanes.charge(grown, evaluation.budget)?;
                }
            }
        }
        evaluation.budget.give_memory(charged);
        Ok(lanes)
    }

    /// Turns lanes into points, one after the other, in order of labels.
    fn finish<L: Lane>(
        &self,
        budget: &Budget,
        lanes: Lanes<L>,
        windows: &Windows,
        range: i64,
        each: Each<'_>,
    ) -> Result<(), EngineError> {
        let finish = Finish {
            op: self.aggregation.op,
            param: self.aggregation.param.unwrap_or(f64::NAN),
            range,
        };
        let charged = lanes.bytes();
        for (labels, lane) in lanes.into_series() {
            budget.check()?;
            let points = lane.finish(windows, &finish);
            if !points.is_empty() {
                each(Row { labels, points })?;
            }
        }
        budget.give_memory(charged);
        Ok(())
    }

    /// 1 at every step whose window holds no row, under the labels that the selector demands.
    fn absent<S: Source>(
        &self,
        evaluation: &mut Evaluation<'_, S>,
        each: Each<'_>,
    ) -> Result<(), EngineError> {
        let mut points = Points::constant(self.steps.count, 1.0);
        let mut mark = |row: Row| {
            for (step, _) in row.points.iter() {
                points.unset(step);
            }
            Ok(())
        };
        self.run::<S, BucketLane<Tally>>(evaluation, &mut mark)?;
        if points.is_empty() {
            return Ok(());
        }
        Ok(each(Row {
            labels: absent_labels(self.aggregation),
            points,
        })?)
    }
}

/// Leaves out each `line_format` whose line nobody reads: no parser or line filter stands behind
/// it. Loki does so too, which shows when its template would fail or a later one reads `__line__`.
fn without_idle_formats(log: &LogExpr) -> Cow<'_, LogExpr> {
    let read_from = idle_formats(&log.stages);
    let (before, after) = log.stages.split_at(read_from);
    let is_format = |stage: &&Stage| matches!(stage, Stage::LineFormat(_));
    if !after.iter().any(|stage| is_format(&stage)) {
        return Cow::Borrowed(log);
    }
    let rest = after.iter().filter(|stage| !is_format(stage));
    Cow::Owned(LogExpr {
        selector: log.selector.clone(),
        stages: before.iter().chain(rest).cloned().collect(),
    })
}

/// `distinct` and `sort` say which entries are shown and in which order; numbers have neither.
fn refuse_ordering(log: &LogExpr) -> Result<(), EngineError> {
    let orders = |stage: &Stage| matches!(stage, Stage::Distinct(_) | Stage::Sort { .. });
    if log.stages.iter().any(orders) {
        return Err(EngineError::Invalid(
            "distinct and sort are not allowed in a metric query".into(),
        ));
    }
    Ok(())
}

/// Labels of which the selector names the one value; a label that it names twice is left out.
fn absent_labels(aggregation: &RangeAggregation) -> LabelSet {
    let RangeInput::Logs(logs) = &aggregation.over else {
        return LabelSet::default();
    };
    let matchers = &logs.log.selector;
    let only = |name: &str| matchers.iter().filter(|m| m.name == name).count() == 1;
    let equal = matchers
        .iter()
        .filter(|m| m.op == MatchOp::Equal && only(&m.name) && !m.value.is_empty());
    LabelSet::new(equal.map(|m| (m.name.as_str(), m.value.as_str())))
}
