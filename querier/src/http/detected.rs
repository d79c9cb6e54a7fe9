//! Which fields the lines of a query have, and the values of one of them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use query::Source;
use query::logql::ast::{LogExpr, Stage};

use super::call::Call;
use super::json::Json;
use super::selector::of_matchers;
use crate::fields::{Detector, Field, Fields, Only, merge, shown_size};
use crate::tenants::TenantsSource;
use crate::{Error, Querier};

const FIELDS_DEFAULT: u64 = 1000;

/// `/loki/api/v1/detected_fields`
pub(super) async fn fields(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let limit = limit(&call)?;
    let fields = detect(&querier, &call, None).await?;
    let mut json = Json::default();
    json.object(|json| {
        // As Loki, without the keys if there are none.
        if fields.is_empty() {
            return;
        }
        json.key("fields").array(|json| {
            for (name, field) in fields.iter().take(limit) {
                json.object(|json| write(json, name, field));
            }
        });
        json.key("limit").int(limit as u64);
    });
    Ok(super::json(json))
}

/// `/loki/api/v1/detected_field/{name}/values`
pub(super) async fn values(
    State(querier): State<Querier>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let limit = limit(&call)?;
    let only = Only {
        name,
        values_max: limit,
    };
    let fields = detect(&querier, &call, Some(only)).await?;
    let mut json = Json::default();
    json.object(|json| {
        if fields.is_empty() {
            return;
        }
        json.key("limit").int(limit as u64);
        json.key("values").array(|json| {
            let values: BTreeSet<Cow<'_, str>> = fields.values().flat_map(shown).collect();
            for value in &values {
                json.string(value);
            }
        });
    });
    Ok(super::json(json))
}

/// The values of a field; sizes of lines alone as they may stand in a query.
fn shown(field: &Field) -> impl Iterator<Item = Cow<'_, str>> {
    let is_parsed = field.is_of_lines();
    field.values().map(move |value| {
        let size = is_parsed.then(|| shown_size(value)).flatten();
        size.map_or(Cow::Borrowed(value), Cow::Owned)
    })
}

fn limit(call: &Call) -> Result<usize, Error> {
    let name = match call.params.get("limit") {
        Some(_) => "limit",
        None => "field_limit",
    };
    let limit = call.params.limit(name, FIELDS_DEFAULT)?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The fields of all lines of the query, by name; `line_limit` does not cut them short.
async fn detect(querier: &Querier, call: &Call, only: Option<Only>) -> Result<Fields, Error> {
    let LogExpr { selector, stages } = query::logql::parse_log(call.params.query())?;
    if let Some(stage) = stages
        .iter()
        .find(|stage| matches!(stage, Stage::Distinct(_)))
    {
        return Err(Error::Invalid(format!(
            "fields are those of all lines: \"{stage}\" has no place in this query"
        )));
    }
    call.limits.check_matchers(&selector)?;
    let selector = of_matchers(&selector)?;
    let range = call.range(querier)?;
    // Checked as Loki does; they change nothing here.
    call.params.limit("line_limit", 1)?;
    call.params.step(range.start, range.end)?;
    let shared = &querier.shared;
    let values_max = only.as_ref().map(|only| only.values_max);
    let level = shared.config.discover_log_levels;
    let detector = Detector::new(&stages, level, shared.now(), only)
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let work = move |source: &TenantsSource, budget: &query::Budget| {
        let request = detector.request(selector, range);
        let new_sink = || detector.sink(budget);
        let (sinks, _) = match source.only() {
            Some(source) if detector.takes_parts() => {
                source.scan_by_template(&request, budget, &new_sink)?
            }
            _ => source.scan(&request, budget, &new_sink)?,
        };
        let mut fields = Fields::new();
        for sink in sinks {
            merge(&mut fields, sink.into_fields(), values_max);
        }
        Ok(fields)
    };
    let (fields, _) = call.run(querier, work).await?;
    Ok(fields)
}

fn write(json: &mut Json, name: &str, field: &Field) {
    json.key("label").string(name);
    json.key("type").string(field.kind());
    json.key("cardinality").int(field.cardinality());
    if field.parsers().next().is_none() {
        json.key("parsers").raw("null");
    } else {
        json.key("parsers").array(|json| {
            for parser in field.parsers() {
                json.string(parser);
            }
        });
    }
    if !field.json_path().is_empty() {
        json.key("jsonPath").array(|json| {
            for key in field.json_path() {
                json.string(key);
            }
        });
    }
}
