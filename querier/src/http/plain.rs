//! The simple API for people with curl: no envelopes, times that one can read.

use std::collections::BTreeSet;

use ::query::logql::engine::{Value, in_place};
use axum::extract::{Path, State};
use axum::response::Response;

use super::answer;
use super::call::Call;
use super::json::Json;
use super::params::Direction;
use super::{labels, query as route};
use crate::{Error, Querier};

/// `GET /query?query={app="a"}&since=1h&limit=100`
///
/// `{"entries":[{"ts":RFC3339,"labels":{..},"line":".."}]}`, latest first unless the query sorts,
/// or, for numbers,
/// `{"series":[{"labels":{..},"points":[{"ts":RFC3339,"value":1.5}]}]}`.
pub(super) async fn query(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.range_query(querier.shared.now())?;
    let expr = ::query::logql::parse(&asked.query)?;
    let (done, _) = route::run_range(&querier, &call, expr, &asked).await?;
    let mut json = Json::with_capacity(answer::entries(&done.value) as usize * 100 + 100);
    json.object(|json| match &done.value {
        Value::Streams(streams) => {
            let mut entries = in_place(streams);
            // Those of a query that sorts have their places already.
            entries.sort_by(|(a, _), (b, _)| match (a.place, b.place) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => match asked.direction {
                    Direction::Forward => a.at.cmp(&b.at),
                    Direction::Backward => b.at.cmp(&a.at),
                },
            });
            json.key("entries").array(|json| {
                for (entry, labels) in entries {
                    json.object(|json| {
                        json.key("ts").string(&rfc3339(entry.at));
                        json.key("labels").labels(labels.iter());
                        json.key("line").string(&entry.line);
                    });
                }
            });
        }
        Value::Matrix(series) => json.key("series").array(|json| {
            for series in series {
                let labels = series.labels.iter();
                numbers(json, labels, series.points.iter().copied());
            }
        }),
        Value::Vector(samples) => json.key("series").array(|json| {
            for sample in samples {
                let point = std::iter::once((sample.at, sample.value));
                numbers(json, sample.labels.iter(), point);
            }
        }),
        Value::Scalar { at, value } => json.key("series").array(|json| {
            numbers(json, std::iter::empty(), std::iter::once((*at, *value)));
        }),
    });
    Ok(super::json(json))
}

/// `GET /labels`: `{"labels":[..]}`
pub(super) async fn labels(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let names = labels::label_names(&querier, &call).await?;
    Ok(texts("labels", &names))
}

/// `GET /labels/{name}/values`: `{"values":[..]}`
pub(super) async fn values(
    State(querier): State<Querier>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let values = labels::label_values(&querier, &call, &name).await?;
    Ok(texts("values", &values))
}

fn numbers<'a>(
    json: &mut Json,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    points: impl Iterator<Item = (i64, f64)>,
) {
    json.object(|json| {
        json.key("labels").labels(labels);
        json.key("points").array(|json| {
            for (at, value) in points {
                json.object(|json| {
                    json.key("ts").string(&rfc3339(at));
                    if value.is_finite() {
                        json.key("value").float(value);
                    } else {
                        json.key("value").sample(value);
                    }
                });
            }
        });
    });
}

fn texts(name: &str, texts: &BTreeSet<String>) -> Response {
    let mut json = Json::default();
    json.object(|json| {
        json.key(name).array(|json| {
            for text in texts {
                json.string(text);
            }
        });
    });
    super::json(json)
}

/// `2024-01-02T03:04:05.678Z`; any 64-bit time has one.
pub(super) fn rfc3339(nanos: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => nanos.to_string(),
    }
}
