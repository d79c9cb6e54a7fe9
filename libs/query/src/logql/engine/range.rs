//! Range aggregations: from rows (or the points of a subquery) to one value per window.

use std::borrow::Cow;

use model::{LineColumn, MatchOp, Timestamp};

use super::super::ast::{
    Grouping, LogExpr, LogRange, Matcher, MetricExpr, RangeAggregation, RangeInput, RangeOp, Stage,
};
use super::super::pipeline::idle_formats;
use super::EngineError;
use super::labels::LabelSet;
use super::lanes::Lanes;
use super::leaf::{Leaf, need};
use super::metric::Evaluation;
use super::range_ops::{
    BucketLane, Earliest, Finish, Lane, Largest, Latest, Moments, SampleLane, Smallest, Tally,
    Total,
};
use super::range_sink::{RangePlan, RangeSink, Value, united};
use super::series::{Operand, Points, Row};
use super::share::{self, Share, ShareScan};
use super::steps::{Steps, Windows};
use crate::{Budget, BudgetError, ScanRequest, ScanStats, Source};

/// Most evaluations of a subquery's expression: as many as a day has seconds, with room to spare.
const SUBQUERY_STEPS_MAX: i64 = 100_000;

/// Takes the series of a result one by one, in order of labels.
pub(super) type Each<'e> = &'e mut dyn FnMut(Row) -> Result<(), BudgetError>;

/// The expression with the lane in which an aggregation keeps its rows.
macro_rules! with_lane {
    ($aggregation:expr, $lane:ident => $body:expr) => {{
        let values = match &$aggregation.over {
            RangeInput::Logs(logs) => logs.unwrap.is_some(),
            RangeInput::Subquery { .. } => true,
        };
        match $aggregation.op {
            RangeOp::Rate if values => {
                type $lane = BucketLane<Total>;
                $body
            }
            RangeOp::Count
            | RangeOp::Rate
            | RangeOp::Bytes
            | RangeOp::BytesRate
            | RangeOp::Absent => {
                type $lane = BucketLane<Tally>;
                $body
            }
            RangeOp::Sum | RangeOp::Avg => {
                type $lane = BucketLane<Total>;
                $body
            }
            RangeOp::Stdvar | RangeOp::Stddev => {
                type $lane = BucketLane<Moments>;
                $body
            }
            RangeOp::Min => {
                type $lane = BucketLane<Smallest>;
                $body
            }
            RangeOp::Max => {
                type $lane = BucketLane<Largest>;
                $body
            }
            RangeOp::First => {
                type $lane = BucketLane<Earliest>;
                $body
            }
            RangeOp::Last => {
                type $lane = BucketLane<Latest>;
                $body
            }
            RangeOp::Quantile | RangeOp::RateCounter => {
                type $lane = SampleLane;
                $body
            }
        }
    }};
}

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
    match aggregation.op {
        RangeOp::Absent => job.absent(evaluation, each),
        _ => with_lane!(aggregation, Kept => job.run::<S, Kept>(evaluation, each)),
    }
}

/// One range aggregation to evaluate.
#[derive(Debug)]
pub(super) struct Job<'q> {
    pub(super) aggregation: &'q RangeAggregation,
    pub(super) grouping: Option<&'q Grouping>,
    pub(super) steps: &'q Steps,
}

/// The scan of a range aggregation over logs.
struct RangeScan {
    leaf: Leaf,
    plan: RangePlan,
    request: ScanRequest,
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
        let (detect_level, now) = (evaluation.detect_level, evaluation.now);
        let RangeScan {
            leaf,
            plan,
            request,
        } = self.prepare(logs, detect_level, now)?;
        let budget = evaluation.budget;
        let new_sink = || RangeSink::<L>::new(&plan, leaf.runner(budget), budget);
        let share = || {
            let share = Share {
                scan: ShareScan::Range {
                    aggregation: self.aggregation.clone(),
                    grouping: self.grouping.cloned(),
                    steps: *self.steps,
                },
                detect_level,
                now,
            };
            share.encode()
        };
        let source = evaluation.source;
        let (sinks, stats) = source.scan_share(&request, &share, budget, &new_sink)?;
        evaluation.stats.add(&stats);
        let lanes = united(sinks)?;
        self.finish(budget, lanes, &plan.windows, logs.range, each)
    }

    /// What the sinks of a share hold.
    pub(super) fn share<S: Source>(
        &self,
        logs: &LogRange,
        detect_level: bool,
        now: Option<Timestamp>,
        source: &S,
        budget: &Budget,
    ) -> Result<(Vec<u8>, ScanStats), EngineError> {
        let scan = self.prepare(logs, detect_level, now)?;
        let (plan, leaf, request) = (&scan.plan, &scan.leaf, &scan.request);
        with_lane!(self.aggregation, Kept => {
            let new_sink = || RangeSink::<Kept>::new(plan, leaf.runner(budget), budget);
            share::saved(source, request, budget, &new_sink)
        })
    }

    fn prepare(
        &self,
        logs: &LogRange,
        detect_level: bool,
        now: Option<Timestamp>,
    ) -> Result<RangeScan, EngineError> {
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
        let leaf = Leaf::new(&log, logs.unwrap.as_ref(), need, detect_level, now)?;
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
            by_outcome: value != Value::Unwrapped && leaf.is_of_outcomes(&request),
        };
        Ok(RangeScan {
            leaf,
            plan,
            request,
        })
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
        let inner = inner_steps(windows, step);
        if scan.end.saturating_sub(inner.start) / step > SUBQUERY_STEPS_MAX {
            return Err(EngineError::Invalid(format!(
                "subquery needs more than {SUBQUERY_STEPS_MAX} evaluations; use a larger step or a shorter range"
            )));
        }
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

/// When the expression of a subquery is evaluated: at the multiples of `step` that windows hold.
pub(super) fn inner_steps(windows: &Windows, step: i64) -> Steps {
    let scan = windows.scan_range();
    let first = scan.start.saturating_add(step - 1).div_euclid(step) * step;
    Steps::new(first, scan.end - 1, step)
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

/// Labels of which the selector names the one value; a label that it names twice is left out. As in
/// Loki, `name=""` says nothing yet, but takes away what stood before it, and `__name__` is never among them.
fn absent_labels(aggregation: &RangeAggregation) -> LabelSet {
    let RangeInput::Logs(logs) = &aggregation.over else {
        return LabelSet::default();
    };
    let matchers = &logs.log.selector;
    let equal = matchers.iter().enumerate().filter(|(at, matcher)| {
        let says_nothing = |m: &Matcher| m.op == MatchOp::Equal && m.value.is_empty();
        let others = matchers.iter().enumerate();
        let mut others = others.filter(|(other, m)| other != at && m.name == matcher.name);
        matcher.op == MatchOp::Equal
            && !matcher.value.is_empty()
            && matcher.name != "__name__"
            && others.all(|(other, m)| other < *at && says_nothing(m))
    });
    LabelSet::new(equal.map(|(_, m)| (m.name.as_str(), m.value.as_str())))
}
