//! Errors of the ports as gRPC statuses and back. The details hold the error itself; code and message
//! are for people who look at the wire.

use model::Kind;
use tonic::{Code, Status};

use crate::Error;

pub(super) fn to_status(error: &Error) -> Status {
    let (code, tag) = match error.kind() {
        Kind::Invalid => (Code::InvalidArgument, 1),
        Kind::NotFound => (Code::NotFound, 2),
        Kind::Conflict => (Code::FailedPrecondition, 3),
        Kind::Exhausted => (Code::ResourceExhausted, 4),
        Kind::OutOfSpace => (Code::ResourceExhausted, 5),
        Kind::Unavailable | Kind::Cancelled => (Code::Unavailable, 6),
        Kind::Corrupt => (Code::DataLoss, 7),
        Kind::Internal => (Code::Internal, 8),
    };
    let text = error.to_string();
    let retry = match error {
        Error::Exhausted {
            retry_after_seconds,
            ..
        } => *retry_after_seconds,
        _ => 0,
    };
    let mut details = vec![tag];
    details.extend_from_slice(&retry.to_le_bytes());
    details.extend_from_slice(text.as_bytes());
    Status::with_details(code, text, details.into())
}

/// The error that the node at `address` answered, or `Unavailable` for whatever else went wrong.
pub(super) fn to_error(address: &str, status: &Status) -> Error {
    if let Some(error) = of_details(status.details()) {
        return error;
    }
    let what = match status.code() {
        Code::Unimplemented => "does not know the call; it runs another version".to_owned(),
        Code::OutOfRange | Code::ResourceExhausted => {
            format!("a message is too large: {}", status.message())
        }
        Code::DeadlineExceeded | Code::Cancelled => "did not answer in time".to_owned(),
        _ => source_of(status),
    };
    Error::Unavailable(format!("node at {address}: {what}"))
}

/// The innermost cause says most: "connection refused" rather than "transport error".
fn source_of(status: &Status) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

fn of_details(details: &[u8]) -> Option<Error> {
    let (tag, rest) = details.split_first()?;
    let (retry, text) = rest.split_first_chunk::<4>()?;
    let text = String::from_utf8_lossy(text).into_owned();
    Some(match tag {
        1 => Error::Invalid(text),
        2 => Error::NotFound(text),
        3 => Error::Conflict(text),
        4 => Error::Exhausted {
            reason: text,
            retry_after_seconds: u32::from_le_bytes(*retry),
        },
        5 => Error::OutOfSpace(text),
        6 => Error::Unavailable(text),
        7 => Error::Corrupt(text),
        8 => Error::Internal(text),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_arrive_as_they_were() {
        let text = || "é: what".to_owned();
        for error in [
            Error::Invalid(text()),
            Error::NotFound(text()),
            Error::Conflict(text()),
            Error::Exhausted {
                reason: text(),
                retry_after_seconds: 7,
            },
            Error::OutOfSpace(text()),
            Error::Unavailable(text()),
            Error::Corrupt(text()),
            Error::Internal(text()),
        ] {
            assert_eq!(to_error("a:1", &to_status(&error)), error);
        }
    }

    #[test]
    fn what_has_no_details_is_unavailable_and_names_the_node() {
        let refused = Status::unavailable("tcp connect error");
        let error = to_error("a:1", &refused);
        let expected = Error::Unavailable("node at a:1: tcp connect error".to_owned());
        assert_eq!(error, expected);
    }
}
