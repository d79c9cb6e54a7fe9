//! Which fields the lines of a query have: in their metadata, in JSON, in logfmt.
//!
//! A sample of lines is read once; then the same parsers that a query would use run over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use model::{LogBatchBuilder, Signal, StreamId, TenantId};
use query::logql::ast::{Expr, LogExpr, Stage};
use query::logql::engine::{self, LogEntry, StreamResult, Value};

use super::call::Call;
use super::json::Json;
use crate::source::Hidden;
use crate::tail::{FilterLimits, filter};
use crate::{Error, Querier};

const LINES_DEFAULT: u64 = 100;
const FIELDS_DEFAULT: u64 = 1000;
/// Names that are about the parsing, not of the line.
const ERROR_FIELDS: [&str; 2] = ["__error__", "__error_details__"];
/// What the parsers add to a name that a stream label has already.
const EXTRACTED: &str = "_extracted";

/// What is known of a field.
#[derive(Debug, Default)]
struct Field {
    values: BTreeSet<String>,
    kind: &'static str,
    parsers: BTreeSet<&'static str>,
    json_path: Vec<String>,
}

/// `/loki/api/v1/detected_fields`
pub(super) async fn fields(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let limit = limit(&call)?;
    let fields = sample(&querier, &call).await?;
    let mut json = Json::default();
    json.object(|json| {
        json.key("fields").array(|json| {
            for (name, field) in fields.iter().take(limit) {
                json.object(|json| field.write(json, name));
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
    let fields = sample(&querier, &call).await?;
    let mut json = Json::default();
    json.object(|json| {
        json.key("values").array(|json| {
            let values = fields.get(&name).map(|field| field.values.iter());
            for value in values.into_iter().flatten().take(limit) {
                json.string(value);
            }
        });
        json.key("limit").int(limit as u64);
    });
    Ok(super::json(json))
}

fn limit(call: &Call) -> Result<usize, Error> {
    let name = match call.params.get("limit") {
        Some(_) => "limit",
        None => "field_limit",
    };
    let limit = call.params.limit(name, FIELDS_DEFAULT)?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The fields of a sample of the query's lines, by name.
async fn sample(querier: &Querier, call: &Call) -> Result<BTreeMap<String, Field>, Error> {
    let expr = query::logql::parse_log(call.params.query())?;
    let range = call.range(querier)?;
    let lines = call.params.limit("line_limit", LINES_DEFAULT)?;
    let config = &querier.shared.config;
    let params = engine::Params {
        start: range.start,
        end: range.end,
        step: 0,
        interval: 0,
        limit: u32::try_from(lines.min(config.entries_max)).unwrap_or(u32::MAX),
        direction: engine::Direction::Backward,
        now: None,
    };
    let (answer, _) = super::query::execute(querier, call, Expr::Log(expr), params).await?;
    let Value::Streams(streams) = answer.value else {
        return Err(Error::Internal("a log query gave no streams".into()));
    };
    let limits = FilterLimits {
        memory_bytes_max: config.query_memory_bytes_max,
        detect_level: false,
    };
    let mut fields = BTreeMap::new();
    for stream in &streams {
        detect(&mut fields, stream, &limits)?;
    }
    Ok(fields)
}

/// Adds the fields of a stream's entries.
fn detect(
    fields: &mut BTreeMap<String, Field>,
    stream: &StreamResult,
    limits: &FilterLimits,
) -> Result<(), Error> {
    for entry in &stream.entries {
        for (name, value) in entry.metadata.iter() {
            fields.entry(name.to_owned()).or_default().add(value);
        }
    }
    let json = reparsed(stream, Stage::Json(Vec::new()), limits)?;
    let logfmt = Stage::Logfmt {
        strict: false,
        keep_empty: false,
        fields: Vec::new(),
    };
    let logfmt = reparsed(stream, logfmt, limits)?;
    for (at, entry) in stream.entries.iter().enumerate() {
        let (parser, labels) = match (json.get(&at), logfmt.get(&at)) {
            (Some(json), _) if is_right(json) => ("json", &json.parsed),
            (_, Some(logfmt)) if is_right(logfmt) => ("logfmt", &logfmt.parsed),
            _ => continue,
        };
        let tree = (parser == "json").then(|| serde_json::from_str(&entry.line).ok());
        let paths = tree.flatten().map(|tree| paths(&tree)).unwrap_or_default();
        for (name, value) in labels
            .iter()
            .filter(|(name, _)| !ERROR_FIELDS.contains(name))
        {
            let field = fields.entry(name.to_owned()).or_default();
            field.add(value);
            field.parsers.insert(parser);
            let key = name.strip_suffix(EXTRACTED).unwrap_or(name);
            if let Some(path) = paths.get(name).or_else(|| paths.get(key)) {
                field.json_path.clone_from(path);
            }
        }
    }
    Ok(())
}

fn is_right(entry: &LogEntry) -> bool {
    entry.parsed.iter().next().is_some() && entry.parsed.get(ERROR_FIELDS[0]).is_none()
}

/// The stream's entries through one more parser, by their place in the stream. The place travels
/// as the time of the entry.
fn reparsed(
    stream: &StreamResult,
    parser: Stage,
    limits: &FilterLimits,
) -> Result<BTreeMap<usize, LogEntry>, Error> {
    let tenant = TenantId::default();
    let labels = model::Labels::new(stream.labels.iter())
        .map_err(|error| Error::Internal(error.to_string()))?;
    let mut batch = LogBatchBuilder::new(tenant.clone());
    let id = StreamId::of(&tenant, Signal::Logs, &labels);
    batch.stream(id, &Arc::new(labels));
    for (at, entry) in stream.entries.iter().enumerate() {
        batch.push(at as i64, entry.line.as_bytes(), &mut []);
    }
    let expr = LogExpr {
        selector: Vec::new(),
        stages: vec![parser],
    };
    let parsed = filter(
        &expr,
        tenant,
        vec![Arc::new(batch.finish())],
        Hidden::none(),
        limits,
    )?;
    let entries = parsed.into_iter().flat_map(|stream| stream.entries);
    Ok(entries.map(|entry| (entry.at as usize, entry)).collect())
}

impl Field {
    fn add(&mut self, value: &str) {
        if self.values.is_empty() {
            self.kind = kind(value);
        }
        self.values.insert(value.to_owned());
    }

    fn write(&self, json: &mut Json, name: &str) {
        json.key("label").string(name);
        json.key("type").string(self.kind);
        json.key("cardinality").int(self.values.len() as u64);
        if self.parsers.is_empty() {
            json.key("parsers").raw("null");
        } else {
            json.key("parsers").array(|json| {
                for parser in &self.parsers {
                    json.string(parser);
                }
            });
        }
        if !self.json_path.is_empty() {
            json.key("jsonPath").array(|json| {
                for key in &self.json_path {
                    json.string(key);
                }
            });
        }
    }
}

/// The narrowest type that reads the value.
fn kind(value: &str) -> &'static str {
    const BOOLEANS: [&str; 10] = [
        "t", "T", "TRUE", "true", "True", "f", "F", "FALSE", "false", "False",
    ];
    if value.parse::<i64>().is_ok() {
        "int"
    } else if value.parse::<f64>().is_ok() {
        "float"
    } else if BOOLEANS.contains(&value) {
        "boolean"
    } else if query::logql::parse::parse_duration(value).is_some() {
        "duration"
    } else if query::logql::parse::parse_bytes(value).is_some() {
        "bytes"
    } else {
        "string"
    }
}

/// Where each label of the JSON parser comes from: keys joined by `_`, with `_` for what a label
/// name cannot have.
fn paths(tree: &serde_json::Value) -> BTreeMap<String, Vec<String>> {
    let mut paths = BTreeMap::new();
    let mut open = vec![(Vec::new(), tree)];
    while let Some((path, value)) = open.pop() {
        let serde_json::Value::Object(members) = value else {
            let names: Vec<String> = path.iter().map(|key: &String| sanitized(key)).collect();
            paths.insert(names.join("_"), path);
            continue;
        };
        for (key, value) in members {
            let mut path = path.clone();
            path.push(key.clone());
            open.push((path, value));
        }
    }
    paths
}

fn sanitized(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.trim()
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_the_narrowest_that_fit() {
        for (value, want) in [
            ("17", "int"),
            ("-1.5", "float"),
            ("true", "boolean"),
            ("1m30s", "duration"),
            ("10KB", "bytes"),
            ("ten", "string"),
            ("", "string"),
        ] {
            assert_eq!(kind(value), want, "{value}");
        }
    }
}
