//! `query` and `query_range`.

use std::borrow::Cow;

use axum::extract::State;
use axum::response::Response;
use model::{TimeRange, Timestamp};
use query::logql::ast::Expr;
use query::logql::engine::{self, Answer, Value};
use query::logql::{parse, parse_variants};

use super::answer;
use super::call::Call;
use super::limits::longest_window;
use super::params::{Direction, RangeQuery};
use super::parquet;
use super::selector::is_of_stage;
use crate::run::Effort;
use crate::{Error, Querier};

const LOG_QUERY_AT_ONE_TIME: &str = "log queries are not supported as an instant query type, \
     please change your query to a range query type";

const VARIANTS_DISABLED: &str = "multi variant queries are disabled for this instance";

/// `/loki/api/v1/query`
pub(super) async fn instant(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.instant_query(querier.shared.now())?;
    let expr = match parse(&asked.query) {
        // As Loki, which does not look at what stages mean where no log query may be.
        Err(error) if is_log(&asked.query) && is_of_stage(&error) => {
            return Err(Error::Invalid(LOG_QUERY_AT_ONE_TIME.into()));
        }
        _ => read(&asked.query)?,
    };
    if matches!(expr, Expr::Log(_)) {
        return Err(Error::Invalid(LOG_QUERY_AT_ONE_TIME.into()));
    }
    check_length(&querier, &call, &expr, asked.time, asked.time)?;
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
    respond(&done, &effort, &call)
}

/// `/loki/api/v1/query_range`
pub(super) async fn range(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.range_query(querier.shared.now())?;
    let expr = read(&asked.query)?;
    let (done, effort) = run_range(&querier, &call, expr, &asked).await?;
    respond(&done, &effort, &call)
}

/// Parses a query. Those of several variants are a trial of Loki that is off there by default.
fn read(text: &str) -> Result<Expr, Error> {
    match parse_variants(text) {
        Some(variants) => {
            variants?;
            Err(Error::Invalid(VARIANTS_DISABLED.into()))
        }
        None => Ok(parse(text)?),
    }
}

/// Whether a text that is no query was to be one of lines.
fn is_log(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn respond(done: &Answer, effort: &Effort, call: &Call) -> Result<Response, Error> {
    match call.parquet {
        true => parquet::response(&done.value, call.categorize_labels),
        false => Ok(super::json(answer::envelope(done, effort, call))),
    }
}

/// Checks against the limits, and runs.
pub(super) async fn run_range(
    querier: &Querier,
    call: &Call,
    expr: Expr,
    asked: &RangeQuery,
) -> Result<(Answer, Effort), Error> {
    let entries_max = call.limits.entries(querier.shared.config.entries_max);
    if matches!(expr, Expr::Log(_)) && asked.limit > entries_max {
        return Err(Error::Invalid(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query \
             ({} > {entries_max})",
            asked.limit
        )));
    }
    check_length(querier, call, &expr, asked.start, asked.end)?;
    let by_steps = querier.shared.config.query_align_steps && matches!(expr, Expr::Metric(_));
    let asked = match by_steps {
        true => Cow::Owned(asked.aligned()),
        false => Cow::Borrowed(asked),
    };
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
    call.limits.check(&expr)?;
    check_shards(call)?;
    let now = querier.shared.now();
    let range = TimeRange::new(params.start, params.end.max(params.start));
    let kept = call.limits.kept(range, now);
    if params.end < kept.start {
        return Ok((nothing(&expr, &params), Effort::default()));
    }
    let params = engine::Params {
        start: kept.start,
        now: Some(now),
        ..params
    };
    let limits = engine::Limits {
        series_max: querier.shared.config.series_max,
        detect_level: querier.shared.config.discover_log_levels,
        series_partial: call.is_drilldown,
    };
    let own = call.limits.clone();
    let work = move |source: &crate::tenants::TenantsSource, budget: &query::Budget| {
        own.check_bytes(&expr, params.start, params.end, source, budget)?;
        engine::execute(&expr, &params, &limits, source, budget).map_err(Error::from)
    };
    call.run(querier, work).await
}

/// The answer to a query of times that may not be looked at.
fn nothing(expr: &Expr, params: &engine::Params) -> Answer {
    let value = match expr {
        Expr::Log(_) => Value::Streams(Vec::new()),
        Expr::Metric(_) if params.step == 0 => Value::Vector(Vec::new()),
        Expr::Metric(_) => Value::Matrix(Vec::new()),
    };
    Answer {
        value,
        stats: query::ScanStats::default(),
        warnings: Vec::new(),
    }
}

/// Loki's query frontend asks for a query in shards. Here it is cut up inside, and so there is one
/// shard: `index/shards` says so, and any other would be counted again and again.
fn check_shards(call: &Call) -> Result<(), Error> {
    match call.params.all("shards").find(|shard| *shard != "0_of_1") {
        None => Ok(()),
        Some(shard) => Err(Error::Invalid(format!(
            "shard {shard:?} is not known: a query is one shard, 0_of_1; leave 'shards' out"
        ))),
    }
}

/// Refuses to look back further than one may ask for, be it by `start` or by `[..]`. An offset
/// moves the range and makes it no longer.
fn check_length(
    querier: &Querier,
    call: &Call,
    expr: &Expr,
    start: Timestamp,
    end: Timestamp,
) -> Result<(), Error> {
    let window = match expr {
        Expr::Log(_) => 0,
        Expr::Metric(expr) => longest_window(expr),
    };
    call.check_length(querier, start.saturating_sub(window), end)
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
