use std::error::Error as StdError;
use std::io;

use model::Kind;

/// Why an operation on object storage failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no object at this path.
    #[error("object {object:?} does not exist")]
    NotFound {
        /// The object's path.
        object: String,
    },
    /// The disk, quota or bucket is full.
    #[error("no space left while {action}: {reason}")]
    OutOfSpace {
        /// What was being done, with the path.
        action: String,
        /// The system's own words.
        reason: String,
    },
    /// The storage did not do what was asked, after the usual retries.
    #[error("object storage failed while {action}: {reason}")]
    Unavailable {
        /// What was being done, with the path.
        action: String,
        /// The causes, outermost first.
        reason: String,
    },
    /// The object is shorter than what it is known to hold.
    #[error(
        "object {object:?} is damaged: at offset {offset} expected {expected} bytes, found {found}"
    )]
    Corrupt {
        /// The object's path.
        object: String,
        /// Where the range starts that could not be read whole.
        offset: u64,
        /// Length of that range.
        expected: u64,
        /// Bytes of it that are there.
        found: u64,
    },
    /// The configuration or a path can never work as it is.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound { .. } => Kind::NotFound,
            Error::OutOfSpace { .. } => Kind::OutOfSpace,
            Error::Unavailable { .. } => Kind::Unavailable,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Invalid(_) => Kind::Invalid,
        }
    }

    /// `OutOfSpace` when any cause is a full disk or quota, else `Unavailable`.
    pub(crate) fn failed(action: impl Into<String>, error: &(dyn StdError + 'static)) -> Self {
        let (action, reason) = (action.into(), chain(error));
        if is_out_of_space(error) {
            Error::OutOfSpace { action, reason }
        } else {
            Error::Unavailable { action, reason }
        }
    }

    pub(crate) fn corrupt(object: &str, range: &std::ops::Range<u64>, found: u64) -> Self {
        Error::Corrupt {
            object: object.to_owned(),
            offset: range.start,
            expected: range.end - range.start,
            found,
        }
    }
}

/// The error and its causes, `outer: inner`, a cause that its parent quotes already left out.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn is_out_of_space(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let full = error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        });
        if full {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_full_disk_is_found_under_other_errors() {
        for errno in [28 /* ENOSPC */, 122 /* EDQUOT */] {
            let error = Error::failed("writing \"a\"", &Outer(io::Error::from_raw_os_error(errno)));
            assert_eq!(error.kind(), Kind::OutOfSpace, "{errno}");
        }
        let error = Error::failed("writing \"a\"", &Outer(io::Error::from_raw_os_error(5)));
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(
            error.to_string().contains("outer: Input/output error"),
            "{error}"
        );
    }

    #[test]
    fn corruption_names_object_offset_expected_and_found() {
        assert_eq!(
            Error::corrupt("a/b", &(10..30), 5).to_string(),
            "object \"a/b\" is damaged: at offset 10 expected 20 bytes, found 5"
        );
    }
}
