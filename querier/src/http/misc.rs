//! Small answers: formatting, what this is, what one may ask for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::call::Call;
use super::duration::print_duration;
use super::json::Json;
use crate::{Error, Querier};

/// The version of Loki whose API this is; Grafana switches features by it.
const API_VERSION: &str = "3.5.0";

/// `/loki/api/v1/format_query`
pub(super) async fn format_query(call: Call) -> Result<Response, Error> {
    let mut json = Json::default();
    match query::logql::parse(call.params.query()) {
        Ok(expr) => {
            json.object(|json| {
                json.key("status").string("success");
                json.key("data")
                    .string(&query::logql::format::pretty(&expr));
            });
            Ok(super::json(json))
        }
        Err(error) => {
            json.object(|json| {
                json.key("status").string("invalid-query");
                json.key("error").string(&error.to_string());
            });
            Ok((StatusCode::BAD_REQUEST, super::json(json)).into_response())
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
    super::json(json)
}

/// `/loki/api/v1/drilldown-limits`
pub(super) async fn drilldown_limits(State(querier): State<Querier>) -> Response {
    let config = &querier.shared.config;
    let length = i64::try_from(config.query_length_max.as_nanos()).unwrap_or(i64::MAX);
    let mut json = Json::default();
    json.object(|json| {
        json.key("limits").object(|json| {
            json.key("discover_log_levels").raw("true");
            json.key("max_entries_limit_per_query")
                .int(config.entries_max);
            json.key("max_query_length").string(&print_duration(length));
            json.key("max_query_series").int(config.series_max as u64);
            json.key("volume_enabled").raw("true");
        });
        json.key("pattern_ingester_enabled").raw("true");
        json.key("version").string(API_VERSION);
    });
    super::json(json)
}
