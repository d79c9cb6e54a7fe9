//! The HTTP faces of the querier: Loki's query API, and a simple one for people with curl.

mod answer;
mod call;
mod context;
mod delete;
mod detected;
mod duration;
mod json;
mod labels;
mod legacy;
mod limits;
mod live;
mod misc;
mod params;
mod parquet;
mod patterns;
mod plain;
mod query;
mod rules;
mod selector;
mod series;
mod stats;
mod tail;
mod volume;
mod watch;

pub(crate) use call::refuse_longer;
pub(crate) use duration::{parse_duration, print_duration};
pub(crate) use limits::longest_window;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::time::Instant;

use crate::{Error, Querier};

/// All routes of the querier.
pub fn http_router(querier: Querier) -> Router {
    let mut router = Router::new();
    for (paths, handler) in routes() {
        for path in paths {
            router = router.route(path, handler.clone());
        }
    }
    router
        .route_layer(middleware::from_fn(only_json))
        .route_layer(middleware::from_fn_with_state(querier.clone(), measured))
        .with_state(querier)
}

/// Paths that are answered alike, with what answers them. Loki takes a form wherever it takes a URL.
fn routes() -> Vec<(&'static [&'static str], MethodRouter<Querier>)> {
    // tidy: long because it lists all routes
    vec![
        (
            &["/loki/api/v1/query"],
            get(query::instant).post(query::instant),
        ),
        (
            &["/loki/api/v1/query_range"],
            get(query::range).post(query::range),
        ),
        (
            &["/loki/api/v1/labels", "/loki/api/v1/label"],
            get(labels::names).post(labels::names),
        ),
        (
            &["/loki/api/v1/label/{name}/values"],
            get(labels::values).post(labels::values),
        ),
        (
            &["/loki/api/v1/series", "/api/prom/series"],
            get(series::series).post(series::series),
        ),
        (
            &["/loki/api/v1/index/stats"],
            get(volume::stats).post(volume::stats),
        ),
        (
            &["/loki/api/v1/index/volume"],
            get(volume::instant).post(volume::instant),
        ),
        (
            &["/loki/api/v1/index/volume_range"],
            get(volume::range).post(volume::range),
        ),
        (
            &["/loki/api/v1/context"],
            get(context::context).post(context::context),
        ),
        (
            &["/loki/api/v1/patterns"],
            get(patterns::patterns).post(patterns::patterns),
        ),
        (
            &["/loki/api/v1/detected_labels"],
            get(labels::detected).post(labels::detected),
        ),
        (
            &["/loki/api/v1/detected_fields"],
            get(detected::fields).post(detected::fields),
        ),
        (
            &["/loki/api/v1/detected_field/{name}/values"],
            get(detected::values).post(detected::values),
        ),
        (
            &["/loki/api/v1/format_query"],
            get(misc::format_query).post(misc::format_query),
        ),
        (&["/loki/api/v1/status/buildinfo"], get(misc::build_info)),
        (&["/config/tenant/v1/limits"], get(misc::tenant_limits)),
        (
            &["/loki/api/v1/cache/generation_numbers"],
            get(misc::generation_numbers),
        ),
        (
            &["/loki/api/v1/index/shards"],
            get(volume::shards).post(volume::shards),
        ),
        (
            &["/loki/api/v1/drilldown-limits"],
            get(misc::drilldown_limits),
        ),
        (
            &["/loki/api/v1/delete"],
            get(delete::list)
                .post(delete::add)
                .put(delete::add)
                .delete(delete::cancel),
        ),
        (&["/loki/api/v1/tail"], get(tail::tail).post(tail::tail)),
        (
            &["/api/prom/tail"],
            get(tail::old_tail).post(tail::old_tail),
        ),
        (&["/api/prom/query"], get(legacy::query).post(legacy::query)),
        (&["/api/prom/label"], get(legacy::names).post(legacy::names)),
        (
            &["/api/prom/label/{name}/values"],
            get(legacy::values).post(legacy::values),
        ),
        (&["/loki/api/v1/rules", "/api/prom/rules"], get(rules::list)),
        (
            &[
                "/loki/api/v1/rules/{namespace}",
                "/api/prom/rules/{namespace}",
            ],
            get(rules::namespace)
                .post(rules::set)
                .delete(rules::remove_namespace),
        ),
        (
            &[
                "/loki/api/v1/rules/{namespace}/{group}",
                "/api/prom/rules/{namespace}/{group}",
            ],
            get(rules::group).delete(rules::remove_group),
        ),
        (&["/prometheus/api/v1/rules"], get(rules::groups)),
        (&["/prometheus/api/v1/alerts"], get(rules::alerts)),
        (
            &["/ruler/ring"],
            get(misc::ruler_ring).post(misc::ruler_ring),
        ),
        (&["/stream"], get(live::stream)),
        (&["/query"], get(plain::query).post(plain::query)),
        (&["/labels"], get(plain::labels)),
        (&["/labels/{name}/values"], get(plain::values)),
    ]
}

/// Routes of Loki that answer only in JSON, whatever the client accepts.
const JSON_ONLY: [&str; 10] = [
    "/loki/api/v1/labels",
    "/loki/api/v1/label",
    "/loki/api/v1/label/{name}/values",
    "/loki/api/v1/series",
    "/loki/api/v1/index/stats",
    "/loki/api/v1/index/shards",
    "/loki/api/v1/patterns",
    "/loki/api/v1/detected_labels",
    "/loki/api/v1/detected_fields",
    "/loki/api/v1/detected_field/{name}/values",
];

/// As Loki, refuses to write Parquet where it has no columns for the answer.
async fn only_json(path: MatchedPath, request: Request, next: Next) -> Response {
    let accept = request.headers().get(header::ACCEPT);
    let parquet = accept.is_some_and(|accept| accept.as_bytes() == parquet::KIND.as_bytes());
    if parquet && JSON_ONLY.contains(&path.as_str()) {
        let text = "request does not support Parquet responses";
        return Error::Invalid(text.into()).into_response();
    }
    next.run(request).await
}

/// Times each request by its route.
async fn measured(
    State(querier): State<Querier>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let shared = &querier.shared;
    // Not the clock on the wall, which may jump.
    let started = Instant::now();
    let response = next.run(request).await;
    let seconds = started.elapsed().as_secs_f64();
    shared
        .metrics
        .query_seconds
        .with_label_values(&[path.as_str()])
        .observe(seconds);
    if let Some(Failed(reason)) = response.extensions().get() {
        shared.metrics.failures.with_label_values(&[reason]).inc();
    }
    response
}

/// Marks a response as an error, for the metrics.
#[derive(Clone, Copy, Debug)]
struct Failed(&'static str);

/// The one table of errors and statuses.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(_) => StatusCode::CONFLICT,
        Error::TooLarge(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::TooManyQueries => StatusCode::TOO_MANY_REQUESTS,
        Error::Timeout => StatusCode::GATEWAY_TIMEOUT,
        // "Client closed request": not registered, but what Loki answers.
        Error::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Corrupt(_) | Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Plain text, as Loki's errors are.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = status(&self);
        if status.is_server_error() {
            tracing::warn!(error = %self, status = status.as_u16(), "query failed");
        }
        let mut response = (status, self.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if matches!(self, Error::Unavailable(_) | Error::TooManyQueries) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(Failed(self.reason()));
        response
    }
}

/// An answer in JSON.
fn json(json: json::Json) -> Response {
    json_as("application/json; charset=UTF-8", json)
}

/// As [`json`]; the routes of Loki name their type in several ways.
fn json_as(kind: &'static str, json: json::Json) -> Response {
    let mut body = json.into_bytes();
    body.push(b'\n');
    typed(kind, body)
}

fn typed(kind: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
