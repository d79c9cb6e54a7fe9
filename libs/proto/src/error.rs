use std::fmt;

use model::Kind;

/// Why a body cannot be decoded. No part of it should be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The protobuf is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The JSON is malformed, or has another shape.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The compressed body is damaged.
    #[error("cannot decompress the body as {encoding}: {reason}")]
    Compression {
        /// The encoding that was named.
        encoding: &'static str,
        /// What the decompressor said.
        reason: String,
    },
    /// The body is larger than the cap once decompressed.
    #[error("the body is larger than {limit} bytes when decompressed: send smaller batches")]
    TooLarge {
        /// The cap, bytes.
        limit: usize,
    },
    /// The body has more parts than it should.
    #[error("the body holds more than {limit} objects and lists: send smaller batches")]
    TooComplex {
        /// How many it may hold.
        limit: usize,
    },
}

impl Error {
    /// What the caller should do: always correct the request.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A malformed protobuf message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Byte of the decompressed body, from 0, at which the trouble starts.
    pub offset: usize,
    /// The field, as `streams[2].entries[5].line`; empty for the message itself.
    pub path: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl WireError {
    pub(crate) fn new(offset: usize, problem: &'static str) -> Self {
        WireError {
            offset,
            path: String::new(),
            problem,
        }
    }

    /// The same error, seen from the message that holds `field`.
    pub(crate) fn within(mut self, field: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{field}{dot}{}", self.path);
        self
    }

    /// The same error, seen from the message that holds the repeated `field`.
    pub(crate) fn within_item(self, field: &str, index: usize) -> Self {
        self.within(&format!("{field}[{index}]"))
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed protobuf at byte {}", self.offset)?;
        if !self.path.is_empty() {
            write!(f, " in {}", self.path)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for WireError {}

/// Malformed JSON, or JSON of another shape than the protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON: {0}")]
pub struct JsonError(pub(crate) String);

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Json(JsonError(error.to_string()))
    }
}
