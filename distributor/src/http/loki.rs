use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use proto::Encoding;

use super::request;
use crate::status::{Dialect, http_status};
use crate::{Distributor, Error, Format, Outcome, Push};

const TYPES: &str = "application/x-protobuf (or none), application/json";

/// `POST /loki/api/v1/push`: 204, or plain text that says what is wrong. When some records are
/// refused the others are stored and the answer is 400.
pub(crate) async fn push(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    match try_push(&distributor, request).await {
        Ok(outcome) if outcome.refusals.records() == 0 => StatusCode::NO_CONTENT.into_response(),
        Ok(outcome) => (StatusCode::BAD_REQUEST, outcome.refusals.text()).into_response(),
        Err(error) => {
            let status = http_status(&error, Dialect::Plain);
            request::retry_after((status, error.to_string()).into_response(), &error)
        }
    }
}

async fn try_push(distributor: &Distributor, request: Request) -> Result<Outcome, Error> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let tenant = request::tenant(headers)?;
    let encoding = request::content_encoding(headers)?;
    let (format, encoding) = match &*request::content_type(headers) {
        // Senders of protobuf always compress and seldom say so.
        "" | "application/x-protobuf" | "application/protobuf" => {
            (Format::LokiProtobuf, encoding.unwrap_or(Encoding::Snappy))
        }
        "application/json" => (Format::LokiJson, encoding.unwrap_or(Encoding::Identity)),
        other => {
            return Err(Error::ContentType {
                found: other.to_owned(),
                wanted: TYPES,
            });
        }
    };
    let limit = distributor.config().body_bytes_max;
    let body = request::body(headers, body, limit).await?;
    distributor
        .push(Push {
            tenant,
            format,
            encoding,
            body,
        })
        .await
}
