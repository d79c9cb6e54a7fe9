//! The simple API for people with curl: no envelopes, times that one can read.

use std::collections::BTreeSet;

use ::query::logql::engine::{Value, merged};
use axum::extract::{Path, State};
use axum::response::Response;

use super::answer;
use super::call::Call;
use super::json::Json;
use super::{labels, query as route};
use crate::{Error, Querier};

/// `GET /query?query={app="a"}&since=1h&limit=100`
///
/// `{"entries":[{"ts":RFC3339,"labels":{..},"line":".."}]}`, latest first, or, for numbers,
/// `{"series":[{"labels":{..},"points":[{"ts":RFC3339,"value":1.5}]}]}`.
pub(super) async fn query(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = call.params.range_query(querier.shared.now())?;
    let (done, _) = route::run_range(&querier, &call, &asked).await?;
    let mut json = Json::with_capacity(answer::entries(&done.value) as usize * 100 + 100);
    json.object(|json| match &done.value {
        Value::Streams(streams) => {
            let merged = merged(streams);
            let mut entries: Vec<_> = merged
                .iter()
                .flat_map(|stream| {
                    let entries = stream.entries.iter();
                    entries.map(move |(at, line)| (*at, *line, &stream.labels))
                })
                .collect();
            match asked.direction {
                super::params::Direction::Forward => entries.sort_by_key(|entry| entry.0),
                super::params::Direction::Backward => {
                    entries.sort_by_key(|entry| std::cmp::Reverse(entry.0));
                }
            }
            json.key("entries").array(|json| {
                for (at, line, labels) in entries {
                    json.object(|json| {
                        json.key("ts").string(&rfc3339(at));
                        json.key("labels").labels(labels.iter());
                        json.key("line").string(line);
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
