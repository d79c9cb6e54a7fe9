//! Range aggregations: from rows (or the points of a subquery) to one value per window.

use model::{LineColumn, MatchOp};

use super::super::ast::{
    Grouping, LogExpr, LogRange, MetricExpr, RangeAggregation, RangeInput, RangeOp, Stage,
};
use super::EngineError;
use super::labels::LabelSet;
use super::leaf::{Leaf, need};
use super::metric::Evaluation;
use super::range_ops::{
    BucketLane, Earliest, Finish, Lane, Largest, Latest, Moments, SampleLane, Smallest, Tally,
    Total,
};
use super::range_sink::{Lanes, RangePlan, RangeSink, Value};
use super::series::{Operand, Points, Row, rows_memory_bytes, sort_rows};
use super::steps::{Steps, Windows};
use crate::Source;

/// Most evaluations of a subquery's expression: as many as a day has seconds, with room to spare.
const SUBQUERY_STEPS_MAX: i64 = 100_000;

/// Evaluates a range aggregation, its rows grouped as given (which may be the grouping of a vector
/// aggregation around it).
pub(super) fn eval<S: Source>(
    evaluation: &mut Evaluation<'_, S>,
    aggregation: &RangeAggregation,
    grouping: Option<&Grouping>,
    steps: &Steps,
) -> Result<Vec<Row>, EngineError> {
    let nothing = Grouping {
        without: false,
        labels: Vec::new(),
    };
    let mut job = Job {
        aggregation,
        grouping: match aggregation.op {
            RangeOp::Absent => Some(&nothing),
            _ => grouping,
        },
        steps,
    };
    if steps.count == 0 {
        return Ok(Vec::new());
    }
    let values = match &aggregation.over {
        RangeInput::Logs(logs) => logs.unwrap.is_some(),
        RangeInput::Subquery { .. } => true,
    };
    match aggregation.op {
        RangeOp::Rate if values => job.run::<S, BucketLane<Total>>(evaluation),
        RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate => {
            job.run::<S, BucketLane<Tally>>(evaluation)
        }
        RangeOp::Absent => job.absent(evaluation),
        RangeOp::Sum | RangeOp::Avg => job.run::<S, BucketLane<Total>>(evaluation),
        RangeOp::Stdvar | RangeOp::Stddev => job.run::<S, BucketLane<Moments>>(evaluation),
        RangeOp::Min => job.run::<S, BucketLane<Smallest>>(evaluation),
        RangeOp::Max => job.run::<S, BucketLane<Largest>>(evaluation),
        RangeOp::First => job.run::<S, BucketLane<Earliest>>(evaluation),
        RangeOp::Last => job.run::<S, BucketLane<Latest>>(evaluation),
        RangeOp::Quantile | RangeOp::RateCounter => job.run::<S, SampleLane>(evaluation),
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
        &mut self,
        evaluation: &mut Evaluation<'_, S>,
    ) -> Result<Vec<Row>, EngineError> {
        match &self.aggregation.over {
            RangeInput::Logs(logs) => self.logs::<S, L>(evaluation, logs),
            RangeInput::Subquery {
                expr,
                range,
                step,
                offset,
            } => {
                let windows = Windows::new(self.steps, *range, *offset);
                let step = step.unwrap_or(evaluation.default_step).max(1);
                self.subquery::<S, L>(evaluation, expr, &windows, *range, step)
            }
        }
    }

    fn logs<S: Source, L: Lane>(
        &mut self,
        evaluation: &mut Evaluation<'_, S>,
        logs: &LogRange,
    ) -> Result<Vec<Row>, EngineError> {
        let op = self.aggregation.op;
        let windows = Windows::new(self.steps, logs.range, logs.offset);
        let value = match op {
            RangeOp::Bytes | RangeOp::BytesRate => Value::LineLength,
            _ if logs.unwrap.is_some() => Value::Unwrapped,
            _ => Value::None,
        };
        refuse_ordering(&logs.log)?;
        let need = need(self.grouping);
        let leaf = Leaf::new(
            &logs.log,
            logs.unwrap.as_ref(),
            need,
            evaluation.detect_level,
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
        for sink in sinks {
            lanes.absorb(sink.into_lanes()?);
        }
        self.finish(evaluation, lanes, &windows, logs.range)
    }

    fn subquery<S: Source, L: Lane>(
        &mut self,
        evaluation: &mut Evaluation<'_, S>,
        expr: &MetricExpr,
        windows: &Windows,
        range: i64,
        step: i64,
    ) -> Result<Vec<Row>, EngineError> {
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
        let rows = match evaluation.eval(expr, &inner)? {
            Operand::Rows(rows) => rows,
            Operand::Scalar(value) => vec![Row {
                labels: LabelSet::default(),
                points: Points::constant(inner.count, value),
            }],
        };
        evaluation.budget.give_memory(rows_memory_bytes(&rows));
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
        self.finish(evaluation, lanes, windows, range)
    }

    fn finish<S: Source, L: Lane>(
        &self,
        evaluation: &Evaluation<'_, S>,
        lanes: Lanes<L>,
        windows: &Windows,
        range: i64,
    ) -> Result<Vec<Row>, EngineError> {
        let finish = Finish {
            op: self.aggregation.op,
            param: self.aggregation.param.unwrap_or(f64::NAN),
            range,
        };
        let mut rows = Vec::new();
        let bytes = lanes.bytes();
        for (labels, lane) in lanes.into_series() {
            evaluation
                .budget
                .take_memory(Row::memory_bytes(&labels, windows.count()))?;
            let points = lane.finish(windows, &finish);
            rows.push(Row { labels, points });
        }
        evaluation.budget.give_memory(bytes);
        let (kept, dropped): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| !row.points.is_empty());
        evaluation.budget.give_memory(rows_memory_bytes(&dropped));
        let mut rows = kept;
        sort_rows(&mut rows);
        Ok(rows)
    }

    /// 1 at every step whose window holds no row, under the labels that the selector demands.
    fn absent<S: Source>(
        &mut self,
        evaluation: &mut Evaluation<'_, S>,
    ) -> Result<Vec<Row>, EngineError> {
        let present = self.run::<S, BucketLane<Tally>>(evaluation)?;
        evaluation.budget.give_memory(rows_memory_bytes(&present));
        let mut points = Points::constant(self.steps.count, 1.0);
        for row in &present {
            for (step, _) in row.points.iter() {
                points.unset(step);
            }
        }
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let rows = vec![Row {
            labels: absent_labels(self.aggregation),
            points,
        }];
        evaluation.budget.take_memory(rows_memory_bytes(&rows))?;
        Ok(rows)
    }
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
