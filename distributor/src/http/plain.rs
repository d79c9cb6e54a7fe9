use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use proto::Encoding;
use serde::Serialize;

use super::request;
use crate::status::{Dialect, http_status};
use crate::{Distributor, Error, Format, Outcome};

const TYPES: &str = "application/json (or none)";

#[derive(Serialize)]
struct Answer<'a> {
    accepted: u64,
    rejected: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// `POST /ingest`: 200 with `{"accepted": n, "rejected": 0}`; the same with `errors` and status
/// 400 when records are refused (the others are stored); `{"error": ".."}` when all fails.
pub(crate) async fn ingest(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    answer(try_push(&distributor, Format::Ingest, request).await)
}

/// `POST /logs`: as [`ingest`].
pub(crate) async fn logs(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    answer(try_push(&distributor, Format::Logs, request).await)
}

fn answer(result: Result<Outcome, Error>) -> Response<Body> {
    match result {
        Ok(outcome) => {
            let rejected = outcome.refusals.records();
            let status = match rejected {
                0 => StatusCode::OK,
                _ => StatusCode::BAD_REQUEST,
            };
            let body = Answer {
                accepted: outcome.records,
                rejected,
                errors: outcome.refusals.messages(),
            };
            (status, Json(body)).into_response()
        }
        Err(error) => {
            let status = http_status(&error, Dialect::Plain);
            let body = Failure {
                error: error.to_string(),
            };
            request::retry_after((status, Json(body)).into_response(), &error)
        }
    }
}

async fn try_push(
    distributor: &Distributor,
    format: Format,
    request: Request,
) -> Result<Outcome, Error> {
    request::push(distributor, request, TYPES, |media_type| {
        matches!(media_type, "" | "application/json").then_some((format, Encoding::Identity))
    })
    .await
}
