//! Loki's routes of rules. No rules are kept here, and so none is ever listed, and none is taken.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::call::Call;
use super::json::Json;
use crate::Error;

const NOT_KEPT: &str = "rules are not kept by this server: nothing would evaluate them";

const TOO_MANY: &str = "too many org ids found";

/// `GET /loki/api/v1/rules`, and of one namespace.
pub(super) async fn list(_: Call) -> Response {
    (StatusCode::NOT_FOUND, "no rule groups found\n").into_response()
}

/// `GET /loki/api/v1/rules/{namespace}/{group}`
pub(super) async fn group(_: Call) -> Response {
    (StatusCode::NOT_FOUND, "group does not exist\n").into_response()
}

/// Refuses to add or to remove rules.
pub(super) async fn change(_: Call) -> Result<Response, Error> {
    Err(Error::NotFound(NOT_KEPT.into()))
}

/// `/prometheus/api/v1/rules`
pub(super) async fn groups(call: Call) -> Response {
    if call.tenants.is_many() {
        return wrong(TOO_MANY);
    }
    let kind = call.params.get("type").unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "" | "alert" | "record" => empty("groups"),
        kind => wrong(&format!("not supported value {kind:?}")),
    }
}

/// `/prometheus/api/v1/alerts`
pub(super) async fn alerts(call: Call) -> Response {
    match call.tenants.is_many() {
        true => wrong(TOO_MANY),
        false => empty("alerts"),
    }
}

fn empty(name: &str) -> Response {
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("success");
        json.key("data").object(|json| json.key(name).array(|_| {}));
        json.key("errorType").string("");
        json.key("error").string("");
    });
    super::typed("application/json", json.into_bytes())
}

fn wrong(problem: &str) -> Response {
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("error");
        json.key("data").raw("null");
        json.key("errorType").string("bad_data");
        json.key("error").string(problem);
    });
    let text = super::typed("text/plain; charset=utf-8", json.into_bytes());
    (StatusCode::BAD_REQUEST, text).into_response()
}
