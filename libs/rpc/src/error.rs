use model::Kind;

/// What a port answers when it cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request can never succeed as it is.
    #[error("{0}")]
    Invalid(String),
    /// The thing named is not there.
    #[error("{0}")]
    NotFound(String),
    /// The state has moved on since the caller read it: read again and decide again.
    #[error("{0}")]
    Conflict(String),
    /// Memory or another budget is used up; try again after `retry_after_seconds`.
    #[error("{reason}")]
    Exhausted {
        /// What is used up, with the setting that bounds it.
        reason: String,
        /// When there may be room again.
        retry_after_seconds: u32,
    },
    /// The disk is full; nothing acknowledged was lost.
    #[error("{0}")]
    OutOfSpace(String),
    /// The other side is down or shutting down: retry with backoff.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes are damaged; the text names object and offset.
    #[error("{0}")]
    Corrupt(String),
    /// A defect of ours.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid(_) => Kind::Invalid,
            Error::NotFound(_) => Kind::NotFound,
            Error::Conflict(_) => Kind::Conflict,
            Error::Exhausted { .. } => Kind::Exhausted,
            Error::OutOfSpace(_) => Kind::OutOfSpace,
            Error::Unavailable(_) => Kind::Unavailable,
            Error::Corrupt(_) => Kind::Corrupt,
            Error::Internal(_) => Kind::Internal,
        }
    }
}
