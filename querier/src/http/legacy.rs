//! `/api/prom/…`: the oldest routes of Loki, with answers of their own form.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use query::logql::ast::{Expr, LineFilter, LineFilterOp, LineFilterValue, LogExpr, Stage};
use query::logql::engine::{StreamResult, Value, merged};

use super::call::Call;
use super::json::Json;
use super::params::Params;
use super::plain::rfc3339;
use super::{answer, labels, query as route, stats};
use crate::tail::Dropped;
use crate::{Error, Querier};

const STREAMS_ONLY: &str = "legacy endpoints only support streams result type";

/// `/api/prom/query`
pub(super) async fn query(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.range_query(querier.shared.now())?;
    let expr = match query::logql::parse(&asked.query)? {
        Expr::Log(expr) => Expr::Log(with_regexp(expr, &call.params)),
        Expr::Metric(_) => return Err(Error::Invalid(STREAMS_ONLY.into())),
    };
    let (done, effort) = route::run_range(&querier, &call, expr, &asked).await?;
    let Value::Streams(found) = &done.value else {
        return Err(Error::Invalid(STREAMS_ONLY.into()));
    };
    let mut json = Json::default();
    json.object(|json| {
        streams(json.key("streams"), &[found]);
        let returned = answer::entries(&done.value);
        stats::write(json.key("stats"), &done.stats, &effort, returned);
    });
    Ok(super::json(json))
}

/// `/api/prom/label`
pub(super) async fn names(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let names = labels::label_names(&querier, &call).await?;
    Ok(super::json(texts(&names)))
}

/// `/api/prom/label/{name}/values`
pub(super) async fn values(
    State(querier): State<Querier>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let values = labels::label_values(&querier, &call, &name).await?;
    Ok(super::json(texts(&values)))
}

/// The query with the line filter that the parameter `regexp` asks for.
pub(super) fn with_regexp(mut expr: LogExpr, params: &Params) -> LogExpr {
    if let Some(regexp) = params.get("regexp") {
        expr.stages.push(Stage::LineFilter(LineFilter {
            op: LineFilterOp::Matches,
            any: vec![LineFilterValue::Text(regexp.to_owned())],
        }));
    }
    expr
}

/// A frame of a live view.
pub(super) fn frame(found: &[&[StreamResult]], dropped: Option<&Dropped>) -> Json {
    let mut json = Json::default();
    json.object(|json| {
        streams(json.key("streams"), found);
        let Some(dropped) = dropped else {
            return json.key("dropped_entries").raw("null");
        };
        json.key("dropped_entries").array(|json| {
            for (labels, at) in &dropped.named {
                json.object(|json| {
                    json.key("Timestamp").string(&rfc3339(*at));
                    json.key("Labels").line(labels.to_string().as_bytes());
                });
            }
        });
    });
    json
}

fn streams(json: &mut Json, groups: &[&[StreamResult]]) {
    json.array(|json| {
        for stream in groups.iter().flat_map(|streams| merged(streams)) {
            json.object(|json| {
                json.key("labels")
                    .line(stream.labels.to_string().as_bytes());
                json.key("entries").array(|json| {
                    for (at, line) in &stream.entries {
                        json.object(|json| {
                            json.key("ts").string(&rfc3339(*at));
                            json.key("line").line(line.as_bytes());
                        });
                    }
                });
            });
        }
    });
}

fn texts(texts: &BTreeSet<String>) -> Json {
    let mut json = Json::default();
    json.object(|json| {
        // As Loki, without the key if there are none.
        if texts.is_empty() {
            return;
        }
        json.key("values").array(|json| {
            for text in texts {
                json.string(text);
            }
        });
    });
    json
}
