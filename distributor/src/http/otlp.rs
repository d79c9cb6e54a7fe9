use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use proto::Encoding;
use proto::otlp::{PartialSuccess, RetryInfo, Status};

use super::request;
use crate::status::{Dialect, grpc_code, http_status};
use crate::{Distributor, Error, Format, Outcome};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TYPES: &str = "application/x-protobuf, application/json";

/// `POST /otlp/v1/logs`: as [`export`], but 204 without a body when all records are stored, as
/// Loki answers on this route.
pub(crate) async fn export_as_loki(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    let json = request::content_type(request.headers()) == JSON;
    match try_export(&distributor, request).await {
        Ok(outcome) if outcome.refusals.records() == 0 => StatusCode::NO_CONTENT.into_response(),
        result => respond(result, json),
    }
}

/// `POST /v1/logs`: 200 with an `ExportLogsServiceResponse`, or a `google.rpc.Status`, in the
/// request's own content type.
pub(crate) async fn export(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    let json = request::content_type(request.headers()) == JSON;
    respond(try_export(&distributor, request).await, json)
}

fn respond(result: Result<Outcome, Error>, json: bool) -> Response<Body> {
    match result {
        Ok(outcome) => {
            let partial = partial_success(&outcome);
            if json {
                answer(StatusCode::OK, JSON, partial.to_json())
            } else {
                answer(StatusCode::OK, PROTOBUF, partial.to_protobuf())
            }
        }
        Err(error) => {
            let http_status = http_status(&error, Dialect::Otlp);
            let status = status(&error);
            let response = if json {
                answer(http_status, JSON, status.to_json())
            } else {
                answer(http_status, PROTOBUF, status.to_protobuf())
            };
            request::retry_after(response, &error)
        }
    }
}

/// What an outcome is in OTLP's words.
pub(crate) fn partial_success(outcome: &Outcome) -> PartialSuccess {
    PartialSuccess {
        rejected_records: outcome.refusals.records(),
        message: outcome.refusals.text(),
    }
}

/// What an error is in OTLP's words.
pub(crate) fn status(error: &Error) -> Status {
    Status {
        code: grpc_code(error) as i32,
        message: error.to_string(),
        retry: error
            .retry_after_seconds()
            .map(|delay_seconds| RetryInfo { delay_seconds }),
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    (status, [(CONTENT_TYPE, content_type)], body.into()).into_response()
}

async fn try_export(distributor: &Distributor, request: Request) -> Result<Outcome, Error> {
    request::push(distributor, request, TYPES, |media_type| {
        let format = match media_type {
            PROTOBUF | "application/protobuf" => Format::OtlpProtobuf,
            JSON => Format::OtlpJson,
            _ => return None,
        };
        Some((format, Encoding::Identity))
    })
    .await
}
