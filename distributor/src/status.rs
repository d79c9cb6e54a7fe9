//! The one table from errors to statuses.

use axum::http::StatusCode;
use model::Kind;
use tonic::Code;

use crate::Error;

/// Which rules a protocol has for statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Loki's and the plain endpoints: the status that says it best.
    Plain,
    /// OTLP: clients try again after 429, 502, 503 and 504 and drop the data after anything else,
    /// so that a full disk, which passes, must be one of those.
    Otlp,
}

/// The HTTP status of an error.
pub(crate) fn http_status(error: &Error, dialect: Dialect) -> StatusCode {
    match error {
        Error::BodyTooLarge { .. }
        | Error::ContentTooLarge { .. }
        | Error::LargerThanBurst { .. }
        | Error::Decode(proto::Error::TooLarge { .. } | proto::Error::TooComplex { .. }) => {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        Error::ContentType { .. } | Error::ContentEncoding { .. } => {
            return StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        _ => {}
    }
    match error.kind() {
        Kind::Invalid | Kind::NotFound => StatusCode::BAD_REQUEST,
        Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::OutOfSpace if dialect == Dialect::Plain => StatusCode::INSUFFICIENT_STORAGE,
        Kind::OutOfSpace | Kind::Unavailable | Kind::Conflict => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Cancelled | Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC code of an error. `ResourceExhausted` is tried again by OTLP clients only if it comes
/// with a `RetryInfo`, which it does whenever [`Error::retry_after_seconds`] knows one.
pub(crate) fn grpc_code(error: &Error) -> Code {
    match error.kind() {
        Kind::Invalid | Kind::NotFound => Code::InvalidArgument,
        Kind::Exhausted | Kind::OutOfSpace => Code::ResourceExhausted,
        Kind::Unavailable | Kind::Conflict => Code::Unavailable,
        Kind::Cancelled | Kind::Corrupt | Kind::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_has_its_statuses() {
        let exhausted = rpc::Error::Exhausted {
            reason: "memory".into(),
            retry_after_seconds: 3,
        };
        for (error, plain, otlp, code, retry) in [
            (exhausted, 429, 429, Code::ResourceExhausted, Some(3)),
            (
                rpc::Error::OutOfSpace(String::new()),
                507,
                503,
                Code::ResourceExhausted,
                Some(30),
            ),
            (
                rpc::Error::Unavailable(String::new()),
                503,
                503,
                Code::Unavailable,
                Some(5),
            ),
            (
                rpc::Error::Invalid(String::new()),
                400,
                400,
                Code::InvalidArgument,
                None,
            ),
            (
                rpc::Error::Internal(String::new()),
                500,
                500,
                Code::Internal,
                None,
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(http_status(&error, Dialect::Plain).as_u16(), plain);
            assert_eq!(http_status(&error, Dialect::Otlp).as_u16(), otlp);
            assert_eq!(grpc_code(&error), code);
            assert_eq!(error.retry_after_seconds(), retry);
        }
    }
}
