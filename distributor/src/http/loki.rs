use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use proto::Encoding;

use super::request;
use crate::status::{Dialect, http_status};
use crate::{Distributor, Error, Format, Outcome};

const TYPES: &str = "application/x-protobuf (or none), application/json";

const NO_STREAM: &str = "error at least one valid stream is required for ingestion";

/// `POST /loki/api/v1/push`: 204, or plain text that says what is wrong. When some records are
/// refused the others are stored and the answer is 400, as it is when labels of a stream without records cannot be
/// read; without any stream it is 422.
pub(crate) async fn push(
    State(distributor): State<Distributor>,
    request: Request,
) -> Response<Body> {
    match try_push(&distributor, request).await {
        Ok(outcome) if !outcome.named_streams => {
            refusal(StatusCode::UNPROCESSABLE_ENTITY, NO_STREAM.to_owned())
        }
        Ok(outcome) if outcome.refusals.records() == 0 => match outcome.unread_labels {
            None => StatusCode::NO_CONTENT.into_response(),
            Some(problem) => refusal(StatusCode::BAD_REQUEST, problem),
        },
        Ok(outcome) => refusal(StatusCode::BAD_REQUEST, outcome.refusals.text()),
        Err(error) => {
            let status = http_status(&error, Dialect::Plain);
            request::retry_after(refusal(status, error.to_string()), &error)
        }
    }
}

/// A line of text, as Loki's refusals are.
fn refusal(status: StatusCode, text: String) -> Response<Body> {
    let nosniff = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, nosniff, text + "\n").into_response()
}

async fn try_push(distributor: &Distributor, request: Request) -> Result<Outcome, Error> {
    request::push(distributor, request, TYPES, |media_type| match media_type {
        // Senders of protobuf always compress and seldom say so.
        "" | "application/x-protobuf" | "application/protobuf" => {
            Some((Format::LokiProtobuf, Encoding::Snappy))
        }
        "application/json" => Some((Format::LokiJson, Encoding::Identity)),
        _ => None,
    })
    .await
}
