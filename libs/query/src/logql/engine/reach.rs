//! What a query will scan, found out before it runs.

use model::TimeRange;

use super::super::ast::{Expr, MetricExpr, RangeInput};
use super::super::deep;
use super::leaf::selector;
use super::steps::{Steps, Windows};
use super::{EngineError, Params, metric, range};
use crate::Reach;

/// The streams and times that the scans of a query ask for.
///
/// # Errors
/// `Invalid` for a selector that is none.
pub fn reach(expr: &Expr, params: &Params) -> Result<Reach, EngineError> {
    let mut reach = Reach::default();
    match expr {
        Expr::Log(expr) => {
            let range = TimeRange::new(params.start, params.end);
            reach.add(selector(&expr.selector)?, range);
        }
        Expr::Metric(expr) => {
            let steps = Steps::new(params.start, params.end, params.step);
            add(&mut reach, expr, &steps, metric::subquery_step(params.step))?;
        }
    }
    Ok(reach)
}

/// As [`metric::Evaluation::eval`] goes down the tree.
fn add(
    reach: &mut Reach,
    expr: &MetricExpr,
    steps: &Steps,
    default_step: i64,
) -> Result<(), EngineError> {
    deep(|| match expr {
        MetricExpr::Number(_) | MetricExpr::ToVector(_) => Ok(()),
        MetricExpr::Vector(aggregation) => add(reach, &aggregation.expr, steps, default_step),
        MetricExpr::LabelReplace { expr, .. } => add(reach, expr, steps, default_step),
        MetricExpr::Binary(binary) => {
            add(reach, &binary.lhs, steps, default_step)?;
            add(reach, &binary.rhs, steps, default_step)
        }
        MetricExpr::Range(_) if steps.count == 0 => Ok(()),
        MetricExpr::Range(aggregation) => match &aggregation.over {
            RangeInput::Logs(logs) => {
                let windows = Windows::new(steps, logs.range, logs.offset);
                reach.add(selector(&logs.log.selector)?, windows.scan_range());
                Ok(())
            }
            RangeInput::Subquery {
                expr,
                range: length,
                step,
                offset,
            } => {
                let windows = Windows::new(steps, *length, *offset);
                let step = step.unwrap_or(default_step).max(1);
                add(
                    reach,
                    expr,
                    &range::inner_steps(&windows, step),
                    default_step,
                )
            }
        },
    })
}
