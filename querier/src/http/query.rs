//! `query` and `query_range`.

use axum::extract::State;
use axum::response::Response;
use model::Timestamp;
use query::logql::ast::{Expr, MetricExpr, RangeInput};
use query::logql::engine::{self, Answer};
use query::logql::parse;

use super::answer;
use super::call::Call;
use super::params::{Direction, RangeQuery};
use crate::run::Effort;
use crate::{Error, Querier};

const LOG_QUERY_AT_ONE_TIME: &str = "log queries are not supported as an instant query type, \
     please change your query to a range query type";

/// `/loki/api/v1/query`
pub(super) async fn instant(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.instant_query(querier.shared.now())?;
    let expr = parse(&asked.query)?;
    if matches!(expr, Expr::Log(_)) {
        return Err(Error::Invalid(LOG_QUERY_AT_ONE_TIME.into()));
    }
    check_length(&querier, &expr, asked.time, asked.time)?;
    let params = engine::Params {
        start: asked.time,
        end: asked.time,
        step: 0,
        interval: 0,
        limit: limit(asked.limit),
        direction: direction(asked.direction),
        now: None,
    };
    let (done, effort) = execute(&querier, &call, expr, params).await?;
    Ok(super::json(answer::envelope(&done, &effort, &call)))
}

/// `/loki/api/v1/query_range`
pub(super) async fn range(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.range_query(querier.shared.now())?;
    let (done, effort) = run_range(&querier, &call, &asked).await?;
    Ok(super::json(answer::envelope(&done, &effort, &call)))
}

/// Parses, checks against the limits, and runs.
pub(super) async fn run_range(
    querier: &Querier,
    call: &Call,
    asked: &RangeQuery,
) -> Result<(Answer, Effort), Error> {
    let expr = parse(&asked.query)?;
    let entries_max = querier.shared.config.entries_max;
    if matches!(expr, Expr::Log(_)) && asked.limit > entries_max {
        return Err(Error::Invalid(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query \
             ({} > {entries_max})",
            asked.limit
        )));
    }
    check_length(querier, &expr, asked.start, asked.end)?;
    let params = engine::Params {
        start: asked.start,
        end: asked.end,
        step: asked.step,
        interval: asked.interval,
        limit: limit(asked.limit),
        direction: direction(asked.direction),
        now: None,
    };
    execute(querier, call, expr, params).await
}

/// Runs a parsed query.
#[tracing::instrument(name = "query", skip_all, fields(query = call.params.query(), start = params.start, end = params.end))]
pub(super) async fn execute(
    querier: &Querier,
    call: &Call,
    expr: Expr,
    params: engine::Params,
) -> Result<(Answer, Effort), Error> {
    let params = engine::Params {
        now: Some(querier.shared.now()),
        ..params
    };
    let limits = engine::Limits {
        series_max: querier.shared.config.series_max,
        detect_level: querier.shared.config.discover_log_levels,
        series_partial: call.is_drilldown,
    };
    let work = move |source: &crate::tenants::TenantsSource, budget: &query::Budget| {
        engine::execute(&expr, &params, &limits, source, budget).map_err(Error::from)
    };
    querier.shared.run(&call.tenants, work).await
}

/// Refuses to look back further than one may ask for, be it by `start` or by `[..]`. An offset
/// moves the range and makes it no longer.
fn check_length(
    querier: &Querier,
    expr: &Expr,
    start: Timestamp,
    end: Timestamp,
) -> Result<(), Error> {
    let window = match expr {
        Expr::Log(_) => 0,
        Expr::Metric(expr) => longest_window(expr),
    };
    querier.check_length(start.saturating_sub(window), end)
}

/// How far before its first evaluation an expression looks, offsets not counted; nanoseconds.
fn longest_window(expr: &MetricExpr) -> i64 {
    match expr {
        MetricExpr::Range(aggregation) => match &aggregation.over {
            RangeInput::Logs(logs) => logs.range,
            RangeInput::Subquery { expr, range, .. } => range.saturating_add(longest_window(expr)),
        },
        MetricExpr::Vector(aggregation) => longest_window(&aggregation.expr),
        MetricExpr::Binary(binary) => longest_window(&binary.lhs).max(longest_window(&binary.rhs)),
        MetricExpr::LabelReplace { expr, .. } => longest_window(expr),
        MetricExpr::ToVector(_) | MetricExpr::Number(_) => 0,
    }
}

fn limit(limit: u64) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

fn direction(direction: Direction) -> engine::Direction {
    match direction {
        Direction::Forward => engine::Direction::Forward,
        Direction::Backward => engine::Direction::Backward,
    }
}
