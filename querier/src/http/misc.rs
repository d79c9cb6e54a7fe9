//! Small answers: formatting, what this is, what one may ask for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::{TimeRange, Timestamp};
use query::logql::pipeline::level::level_fields;

use super::call::Call;
use super::duration::print_duration;
use super::json::Json;
use crate::{Error, Querier};

/// The version of Loki whose API this is; Grafana switches features by it.
const API_VERSION: &str = "3.7.8";
const JSON: &str = "application/json";

/// `/loki/api/v1/format_query`
pub(super) async fn format_query(call: Call) -> Result<Response, Error> {
    const KIND: &str = "application/json; charset=utf-8";
    let mut json = Json::default();
    match query::logql::format::format_query(call.params.query()) {
        Ok(pretty) => {
            json.object(|json| {
                json.key("status").string("success");
                json.key("data").line(pretty.as_bytes());
            });
            Ok(super::json_as(KIND, json))
        }
        Err(error) => {
            json.object(|json| {
                json.key("status").string("invalid-query");
                json.key("error").line(error.to_string().as_bytes());
            });
            Ok((StatusCode::BAD_REQUEST, super::json_as(KIND, json)).into_response())
        }
    }
}

/// `/loki/api/v1/status/buildinfo`
pub(super) async fn build_info() -> Response {
    let mut json = Json::default();
    json.object(|json| {
        for (name, value) in [
            ("version", API_VERSION),
            ("revision", env!("CARGO_PKG_VERSION")),
            ("branch", "pharos"),
            ("buildUser", ""),
            ("buildDate", ""),
            ("goVersion", ""),
        ] {
            json.key(name).string(value);
        }
    });
    super::json_as(JSON, json)
}

/// `/ruler/ring`: Loki's page, where rulers share no work.
pub(super) async fn ruler_ring() -> Response {
    const PAGE: &str = "<!DOCTYPE html>\n<html><head><meta charset=\"UTF-8\"><title>Ruler Status</title></head>\n\
        <body><h1>Ruler Status</h1><p>One querier at a time evaluates all rules; there is no ring of rulers.</p></body></html>\n";
    super::typed("text/html", PAGE)
}

/// `/loki/api/v1/cache/generation_numbers`: results are not cached, so there is no number.
pub(super) async fn generation_numbers(_: Call) -> Response {
    super::typed("text/plain; charset=utf-8", "\"\"\n")
}

/// `/loki/api/v1/drilldown-limits`
pub(super) async fn drilldown_limits(
    State(querier): State<Querier>,
    call: Call,
) -> Result<Response, Error> {
    let limits = limits(&querier, &call);
    let mut json = Json::default();
    json.object(|json| {
        json.key("limits").object(|json| {
            for (name, value) in &limits {
                value.json(json.key(name));
            }
        });
        json.key("pattern_ingester_enabled").raw("true");
        json.key("version").string(API_VERSION);
    });
    Ok(super::json_as(JSON, json))
}

/// `/config/tenant/v1/limits`, as YAML.
pub(super) async fn tenant_limits(
    State(querier): State<Querier>,
    call: Call,
) -> Result<Response, Error> {
    let mut yaml = String::new();
    for (name, value) in limits(&querier, &call) {
        value.yaml(&mut yaml, name);
    }
    Ok(super::typed("text/plain; charset=utf-8", yaml))
}

/// A limit's value; none of its texts needs quotes in YAML.
enum Value {
    Flag(bool),
    Count(u64),
    Text(String),
    List(Vec<String>),
    /// How attributes of OTLP resources become labels.
    Otlp(Vec<String>),
}

impl Value {
    fn json(&self, json: &mut Json) {
        match self {
            Value::Flag(on) => json.raw(if *on { "true" } else { "false" }),
            Value::Count(count) => json.int(*count),
            Value::Text(text) => json.string(text),
            Value::List(texts) => json.array(|json| {
                for text in texts {
                    json.string(text);
                }
            }),
            Value::Otlp(attributes) => json.object(|json| {
                json.key("resource_attributes").object(|json| {
                    json.key("attributes_config").array(|json| {
                        json.object(|json| {
                            json.key("action").string("index_label");
                            json.key("attributes").array(|json| {
                                for attribute in attributes {
                                    json.string(attribute);
                                }
                            });
                        });
                    });
                });
            }),
        }
    }

    fn yaml(&self, out: &mut String, name: &str) {
        let value = match self {
            Value::Flag(on) => on.to_string(),
            Value::Count(count) => count.to_string(),
            Value::Text(text) => text.clone(),
            Value::List(texts) if texts.is_empty() => "[]".to_owned(),
            Value::List(texts) => {
                out.push_str(&format!("{name}:\n"));
                for text in texts {
                    out.push_str(&format!("- {text}\n"));
                }
                return;
            }
            Value::Otlp(attributes) => {
                out.push_str(&format!("{name}:\n  resource_attributes:\n    attributes_config:\n    - action: index_label\n      attributes:\n"));
                for attribute in attributes {
                    out.push_str(&format!("      - {attribute}\n"));
                }
                return;
            }
        };
        out.push_str(&format!("{name}: {value}\n"));
    }
}

/// What the tenant may ask for, under Loki's names and in their order. What has no limit is 0.
fn limits(querier: &Querier, call: &Call) -> Vec<(&'static str, Value)> {
    let shared = &querier.shared;
    let config = &shared.config;
    let length = |length: std::time::Duration| {
        let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        Value::Text(print_duration(nanos))
    };
    let none = || Value::Text("0s".into());
    vec![
        (
            "discover_log_levels",
            Value::Flag(config.discover_log_levels),
        ),
        (
            "discover_service_name",
            Value::List(querier.discovery.service_labels.clone()),
        ),
        (
            "log_level_fields",
            Value::List(level_fields().map(str::to_owned).collect()),
        ),
        (
            "max_entries_limit_per_query",
            Value::Count(config.entries_max),
        ),
        ("max_line_size_truncate", Value::Flag(false)),
        ("max_query_bytes_read", Value::Text("0B".into())),
        ("max_query_length", length(config.query_length_max)),
        ("max_query_lookback", none()),
        ("max_query_range", none()),
        ("max_query_series", Value::Count(config.series_max as u64)),
        ("metric_aggregation_enabled", Value::Flag(false)),
        (
            "otlp_config",
            Value::Otlp(querier.discovery.index_attributes.clone()),
        ),
        ("pattern_persistence_enabled", Value::Flag(true)),
        ("query_timeout", length(config.query_timeout)),
        (
            "retention_period",
            Value::Text(print_duration(retention(querier, call))),
        ),
        ("volume_enabled", Value::Flag(true)),
        ("volume_max_series", Value::Count(0)),
    ]
}

/// How long the tenant's records are kept, nanoseconds; 0 is for ever.
fn retention(querier: &Querier, call: &Call) -> i64 {
    let shared = &querier.shared;
    let now = shared.now();
    let catalog = shared.backend.meta.catalog();
    let kept: TimeRange = shared
        .backend
        .hiding
        .kept(&catalog, call.tenants.first(), now);
    match kept.start {
        Timestamp::MIN => 0,
        start => now.saturating_sub(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_yaml() {
        let mut yaml = String::new();
        for (name, value) in [
            ("a", Value::Flag(true)),
            ("b", Value::Count(7)),
            ("c", Value::List(vec!["x".into(), "y.z".into()])),
            ("d", Value::Text("30d".into())),
            ("e", Value::Otlp(vec!["k8s.pod.name".into()])),
        ] {
            value.yaml(&mut yaml, name);
        }
        assert_eq!(
            yaml,
            "a: true\nb: 7\nc:\n- x\n- y.z\nd: 30d\ne:\n  resource_attributes:\n    attributes_config:\n    - action: index_label\n      attributes:\n      - k8s.pod.name\n"
        );
    }
}
