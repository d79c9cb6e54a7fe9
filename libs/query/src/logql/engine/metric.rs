//! Metric queries: evaluation of the tree above the range aggregations.

use model::Timestamp;

use super::super::ast::{
    Grouping, MetricExpr, RangeAggregation, RangeInput, RangeOp, Stage, VectorAggregation, VectorOp,
};
use super::super::{deep, regex};
use super::answer::{Answer, Sample, Series, Value};
use super::labels::LabelSet;
use super::series::{Operand, Points, Row, RowMap, rows_memory_bytes, sort_rows};
use super::steps::Steps;
use super::{EngineError, Limits, Params, binary, range, vector};
use crate::{Budget, BudgetError, ScanStats, Source};

/// One evaluation.
pub(super) struct Evaluation<'q, S> {
    pub(super) source: &'q S,
    pub(super) budget: &'q Budget,
    /// Resolution of subqueries that name none.
    pub(super) default_step: i64,
    pub(super) detect_level: bool,
    pub(super) now: Option<Timestamp>,
    pub(super) stats: ScanStats,
}

/// Resolution of a subquery without a step in an instant query.
const SUBQUERY_STEP_DEFAULT: i64 = 60_000_000_000;

pub(super) fn execute<S: Source>(
    expr: &MetricExpr,
    params: &Params,
    limits: &Limits,
    source: &S,
    budget: &Budget,
) -> Result<Answer, EngineError> {
    if params.step != 0 && has_sketch(expr) {
        return Err(EngineError::Invalid(
            "count min sketches are only supported on instant queries".into(),
        ));
    }
    let steps = Steps::new(params.start, params.end, params.step);
    // Room for one series before any is made: so many steps may be asked for that none fits.
    let one_series = Points::memory_bytes(steps.count);
    budget.take_memory(one_series)?;
    budget.give_memory(one_series);
    let mut evaluation = Evaluation {
        source,
        budget,
        default_step: subquery_step(params.step),
        detect_level: limits.detect_level,
        now: params.now,
        stats: ScanStats::default(),
    };
    let operand = evaluation.eval(expr, &steps)?;
    let mut warnings = Vec::new();
    let value = match operand {
        Operand::Scalar(value) if params.step == 0 => Value::Scalar {
            at: params.end,
            value,
        },
        Operand::Scalar(value) => matrix(vec![constant(value, &steps)], &steps),
        Operand::Rows(rows) => {
            let rows = arrange(rows, &steps, params.step == 0 && sorts(expr));
            let rows = limit_series(rows, limits, &mut warnings)?;
            match params.step {
                0 => vector_of(rows, params.end),
                _ => matrix(rows, &steps),
            }
        }
    };
    Ok(Answer {
        value,
        stats: evaluation.stats,
        warnings,
    })
}

/// Resolution of subqueries that name none, in a query of this step.
pub(super) fn subquery_step(step: i64) -> i64 {
    match step {
        0 => SUBQUERY_STEP_DEFAULT,
        step => step,
    }
}

fn constant(value: f64, steps: &Steps) -> Row {
    Row {
        labels: LabelSet::default(),
        points: Points::constant(steps.count, value),
    }
}

/// Rows in the order of the answer. Over a range, rows that an operation gave equal labels are one
/// series.
fn arrange(mut rows: Vec<Row>, steps: &Steps, ordered: bool) -> Vec<Row> {
    if ordered {
        return rows;
    }
    sort_rows(&mut rows);
    if steps.count == 1 || !rows.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return rows;
    }
    let mut all = RowMap::new(steps.count);
    for row in rows {
        let points = all.points(&row.labels);
        for (step, value) in row.points.iter() {
            points.set(step, value);
        }
    }
    all.into_rows()
}

fn limit_series(
    mut rows: Vec<Row>,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Vec<Row>, EngineError> {
    let limit = limits.series_max;
    if limit > 0 && rows.len() > limit {
        if !limits.series_partial {
            return Err(EngineError::Series { limit });
        }
        rows.truncate(limit);
        warnings.push(format!(
            "maximum number of series ({limit}) reached for a single query; returning partial results"
        ));
    }
    Ok(rows)
}

fn matrix(rows: Vec<Row>, steps: &Steps) -> Value {
    let series = rows.into_iter().map(|row| Series {
        points: row.points.iter().map(|(s, v)| (steps.at(s), v)).collect(),
        labels: row.labels,
    });
    Value::Matrix(series.collect())
}

fn vector_of(rows: Vec<Row>, at: Timestamp) -> Value {
    let samples = rows.into_iter().filter_map(|row| {
        Some(Sample {
            value: row.points.get(0)?,
            labels: row.labels,
            at,
        })
    });
    Value::Vector(samples.collect())
}

/// Whether the order of the result is the query's own: it sorts somewhere. As in Loki, `topk` and
/// the like do not.
fn sorts(expr: &MetricExpr) -> bool {
    deep(|| match expr {
        MetricExpr::Vector(vector) => {
            matches!(vector.op, VectorOp::Sort | VectorOp::SortDesc) || sorts(&vector.expr)
        }
        MetricExpr::Binary(binary) => sorts(&binary.lhs) || sorts(&binary.rhs),
        MetricExpr::LabelReplace { expr, .. } => sorts(expr),
        MetricExpr::Range(_) | MetricExpr::ToVector(_) | MetricExpr::Number(_) => false,
    })
}

impl<S: Source> Evaluation<'_, S> {
    /// Evaluates a tree at every step.
    pub(super) fn eval(
        &mut self,
        expr: &MetricExpr,
        steps: &Steps,
    ) -> Result<Operand, EngineError> {
        self.budget.check()?;
        deep(|| self.eval_deep(expr, steps))
    }

    fn eval_deep(&mut self, expr: &MetricExpr, steps: &Steps) -> Result<Operand, EngineError> {
        match expr {
            MetricExpr::Number(value) => Ok(Operand::Scalar(*value)),
            MetricExpr::ToVector(value) => {
                self.budget.take_memory(Points::memory_bytes(steps.count))?;
                Ok(Operand::Rows(vec![constant(*value, steps)]))
            }
            MetricExpr::Range(aggregation) => {
                let grouping = aggregation.grouping.as_ref();
                range::eval(self, aggregation, grouping, steps).map(Operand::Rows)
            }
            MetricExpr::Vector(aggregation) => self.vector(aggregation, steps),
            MetricExpr::Binary(binary) => {
                let lhs = self.eval(&binary.lhs, steps)?;
                let rhs = self.eval(&binary.rhs, steps)?;
                let before = lhs.memory_bytes() + rhs.memory_bytes();
                let result = binary::apply(binary, lhs, rhs, steps.count)?;
                self.recharge(before, &result)?;
                Ok(result)
            }
            MetricExpr::LabelReplace {
                expr,
                dst,
                replacement,
                src,
                regex,
            } => {
                let Operand::Rows(rows) = self.eval(expr, steps)? else {
                    return Err(not_a_vector());
                };
                let before = rows_memory_bytes(&rows);
                let rows = label_replace(rows, dst, replacement, src, regex)?;
                let result = Operand::Rows(rows);
                self.recharge(before, &result)?;
                Ok(result)
            }
        }
    }

    /// Charges a result and gives back what its inputs were charged, which are gone.
    fn recharge(&self, before: u64, result: &Operand) -> Result<(), BudgetError> {
        self.budget.give_memory(before);
        self.budget.take_memory(result.memory_bytes())
    }

    /// What `approx_topk` counts.
    fn sketched(&mut self, expr: &MetricExpr, steps: &Steps) -> Result<Operand, EngineError> {
        match self.eval(expr, steps) {
            Ok(Operand::Scalar(_)) => Err(empty_result()),
            Err(EngineError::Invalid(_) | EngineError::Pipeline { .. }) => Err(empty_result()),
            other => other,
        }
    }

    fn vector(
        &mut self,
        aggregation: &VectorAggregation,
        steps: &Steps,
    ) -> Result<Operand, EngineError> {
        if let (MetricExpr::Range(inner), Some(mut folder)) = (
            &*aggregation.expr,
            vector::Folder::new(aggregation, steps.count),
        ) {
            let by_nothing = Grouping {
                without: false,
                labels: Vec::new(),
            };
            // What comes up is grouped already but for rows that keep an error and all labels, and
            // comes series by series, so that not all are held as one value per step.
            let grouping = match is_mergeable(&aggregation.op, inner) {
                true => Some(aggregation.grouping.as_ref().unwrap_or(&by_nothing)),
                false => inner.grouping.as_ref(),
            };
            let budget = self.budget;
            let mut charged = 0;
            let mut fold = |row: Row| {
                let grown = folder.add(&row);
                charged += grown;
                budget.take_memory(grown)
            };
            range::eval_each(self, inner, grouping, steps, &mut fold)?;
            let result = Operand::Rows(folder.finish());
            self.recharge(charged, &result)?;
            return Ok(result);
        }
        let operand = match aggregation.op {
            VectorOp::ApproxTopK(_) => self.sketched(&aggregation.expr, steps)?,
            _ => self.eval(&aggregation.expr, steps)?,
        };
        let Operand::Rows(rows) = operand else {
            return Err(not_a_vector());
        };
        let before = rows_memory_bytes(&rows);
        let rows = vector::aggregate(aggregation, rows, steps.count);
        let result = Operand::Rows(rows);
        self.recharge(before, &result)?;
        Ok(result)
    }
}

/// Whether `approx_topk` stands anywhere: as in Loki it works at one time only.
fn has_sketch(expr: &MetricExpr) -> bool {
    deep(|| match expr {
        MetricExpr::Vector(vector) => {
            matches!(vector.op, VectorOp::ApproxTopK(_)) || has_sketch(&vector.expr)
        }
        MetricExpr::Binary(binary) => has_sketch(&binary.lhs) || has_sketch(&binary.rhs),
        MetricExpr::LabelReplace { expr, .. } => has_sketch(expr),
        MetricExpr::Range(aggregation) => match &aggregation.over {
            RangeInput::Subquery { expr, .. } => has_sketch(expr),
            RangeInput::Logs(_) => false,
        },
        MetricExpr::ToVector(_) | MetricExpr::Number(_) => false,
    })
}

/// What Loki says when the series of `approx_topk` cannot be had, whatever the reason.
fn empty_result() -> EngineError {
    EngineError::Invalid("unexpected empty result".into())
}

/// Whether rows may be filed under the labels of the vector aggregation around at once, with the
/// same result.
fn is_mergeable(op: &VectorOp, inner: &RangeAggregation) -> bool {
    if inner.grouping.is_some() || !matches!(inner.over, RangeInput::Logs(_)) {
        return false;
    }
    match op {
        VectorOp::Sum => matches!(
            inner.op,
            RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum
        ),
        VectorOp::Max => inner.op == RangeOp::Max && keeps_labels(inner),
        VectorOp::Min => inner.op == RangeOp::Min && keeps_labels(inner),
        _ => false,
    }
}

/// Whether no stage sets or drops labels. Parsers that need not find all labels of a line do not
/// see all of its errors either; Loki lets them stop early under `sum` alone.
fn keeps_labels(inner: &RangeAggregation) -> bool {
    let RangeInput::Logs(logs) = &inner.over else {
        return false;
    };
    let keeps = |stage: &Stage| {
        matches!(
            stage,
            Stage::LineFilter(_) | Stage::LabelFilter(_) | Stage::LineFormat(_) | Stage::Decolorize
        )
    };
    logs.log.stages.iter().all(keeps)
}

/// A number where series are needed, in Loki's words.
fn not_a_vector() -> EngineError {
    EngineError::Invalid(
        "unexpected expr type (*syntax.LiteralExpr) for Evaluator type (*logql.DefaultEvaluator) "
            .into(),
    )
}

fn label_replace(
    mut rows: Vec<Row>,
    dst: &str,
    replacement: &str,
    src: &str,
    pattern: &str,
) -> Result<Vec<Row>, EngineError> {
    let regex =
        regex::compile_whole(pattern).map_err(|error| EngineError::Invalid(error.to_string()))?;
    for row in &mut rows {
        let value = row.labels.get(src).unwrap_or("");
        let Some(captures) = regex.captures(value) else {
            continue;
        };
        let mut text = String::new();
        captures.expand(replacement, &mut text);
        row.labels.remove(dst);
        row.labels = std::mem::take(&mut row.labels).without_empty();
        if !text.is_empty() {
            row.labels.set(dst, &text);
        }
    }
    Ok(rows)
}
