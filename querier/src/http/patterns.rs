//! `patterns`: which kinds of lines there are, and how many of each, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hashbrown::HashMap;
use model::{LineFilter, NANOS_PER_SECOND, Timestamp};
use query::logql::ast::{Expr, LogExpr, Stage};
use query::logql::pipeline::Pipeline;

use super::call::Call;
use super::json::Json;
use super::selector::{MATCHERS_ONLY, of_matchers};
use crate::source::Counts;
use crate::tenants::TenantsSource;
use crate::{Error, Querier};

/// How many patterns are returned when the request does not say.
const PATTERNS_DEFAULT: u64 = 1000;

const FILTERS_ONLY: &str =
    "patterns are found of stored lines: the query may have line filters, and no other stage";

/// A pattern and its level, how many lines there are in all, and of each step.
struct Found {
    pattern: Box<str>,
    level: Arc<str>,
    lines: u64,
    samples: BTreeMap<Timestamp, u64>,
}

/// `/loki/api/v1/patterns`
pub(super) async fn patterns(
    State(querier): State<Querier>,
    call: Call,
) -> Result<Response, Error> {
    let expr = match query::logql::parse(call.params.query())? {
        Expr::Log(expr) => expr,
        Expr::Metric(_) => return Err(Error::Invalid(MATCHERS_ONLY.into())),
    };
    let selector = of_matchers(&expr.selector)?;
    let filter = line_filter(&expr)?;
    let (start, end) = call.params.bounds(querier.shared.now())?;
    // Samples are at whole seconds.
    let step = call.params.step(start, end)?;
    let step = step.max(NANOS_PER_SECOND) / NANOS_PER_SECOND * NANOS_PER_SECOND;
    // Loki looks at no limit, so that none is wrong.
    let limit = call.params.limit("limit", PATTERNS_DEFAULT);
    let limit = limit.unwrap_or(PATTERNS_DEFAULT);
    if end < start {
        return Ok(super::json(answer(&[])));
    }
    let range = call.range(&querier)?;
    let work = move |source: &TenantsSource, budget: &query::Budget| {
        let mut counts = Counts::new();
        for (source, selector, _) in source.select(&selector) {
            let found = source.patterns(&selector, &filter, range, step, budget)?;
            for (pattern, samples) in found {
                let sums = counts.entry(pattern).or_default();
                for (at, lines) in samples {
                    *sums.entry(at).or_default() += lines;
                }
            }
        }
        Ok(largest(counts, limit))
    };
    let (found, _) = call.run(&querier, work).await?;
    Ok(super::json(answer(&found)))
}

fn line_filter(expr: &LogExpr) -> Result<LineFilter, Error> {
    let is_filter = |stage: &Stage| matches!(stage, Stage::LineFilter(_));
    if !expr.stages.iter().all(is_filter) {
        return Err(Error::Invalid(FILTERS_ONLY.into()));
    }
    let pipeline =
        Pipeline::compile(&expr.stages, None).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(pipeline.pushed_line_filter())
}

/// The patterns with the most lines, most first.
fn largest(counts: Counts, limit: u64) -> Vec<Found> {
    let found = |((pattern, level), samples): (_, HashMap<Timestamp, u64>)| Found {
        pattern,
        level,
        lines: samples.values().sum(),
        samples: samples.into_iter().collect(),
    };
    let mut all: Vec<Found> = counts.into_iter().map(found).collect();
    all.sort_by(|a, b| {
        let names = || (&a.pattern, &a.level).cmp(&(&b.pattern, &b.level));
        b.lines.cmp(&a.lines).then_with(names)
    });
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    all
}

fn answer(found: &[Found]) -> Json {
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("success");
        json.key("data").array(|json| {
            for found in found {
                json.object(|json| {
                    json.key("pattern").line(found.pattern.as_bytes());
                    json.key("level").string(&found.level);
                    json.key("samples").array(|json| {
                        for (at, lines) in &found.samples {
                            json.array(|json| {
                                json.seconds(*at);
                                json.int(*lines);
                            });
                        }
                    });
                });
            }
        });
    });
    json
}
