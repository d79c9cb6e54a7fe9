use model::Kind;
use query::{BudgetError, SourceError};

/// Why a query got no answer. The texts are for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The query or a parameter is wrong, or asks for more than a limit of the API.
    #[error("{0}")]
    Invalid(String),
    /// The thing named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else was faster: ask again.
    #[error("{0}")]
    Conflict(String),
    /// The query needs more than the tenant may use: ask for less.
    #[error("{0}")]
    TooLarge(String),
    /// Too many queries wait already.
    #[error("too many outstanding requests")]
    TooManyQueries,
    /// The query took longer than it may.
    #[error(
        "request timed out, decrease the duration of the request or add more label matchers \
         (prefer exact match over regex match) to reduce the amount of data processed"
    )]
    Timeout,
    /// The client went away.
    #[error("the request was cancelled by the client")]
    Cancelled,
    /// A part that holds records cannot be reached: retry.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes are damaged; names object and offset.
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
            Error::TooLarge(_) | Error::TooManyQueries => Kind::Exhausted,
            Error::Timeout | Error::Cancelled => Kind::Cancelled,
            Error::Unavailable(_) => Kind::Unavailable,
            Error::Corrupt(_) => Kind::Corrupt,
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// The name under which failures are counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Error::Invalid(_) => "invalid",
            Error::NotFound(_) => "not_found",
            Error::Conflict(_) => "conflict",
            Error::TooLarge(_) => "too_large",
            Error::TooManyQueries => "too_many_queries",
            Error::Timeout => "timeout",
            Error::Cancelled => "cancelled",
            Error::Unavailable(_) => "unavailable",
            Error::Corrupt(_) => "corrupt",
            Error::Internal(_) => "internal",
        }
    }
}

impl From<BudgetError> for Error {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::Timeout => Error::Timeout,
            BudgetError::Cancelled => Error::Cancelled,
            BudgetError::Memory { .. } | BudgetError::Rows { .. } => {
                Error::TooLarge(error.to_string())
            }
        }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Budget(error) => error.into(),
            SourceError::Unavailable(text) => Error::Unavailable(text),
            SourceError::Corrupt(text) => Error::Corrupt(text),
        }
    }
}

impl From<rpc::Error> for Error {
    fn from(error: rpc::Error) -> Self {
        let text = error.to_string();
        match error {
            rpc::Error::Invalid(_) => Error::Invalid(text),
            rpc::Error::NotFound(_) => Error::NotFound(text),
            rpc::Error::Conflict(_) => Error::Conflict(text),
            rpc::Error::Exhausted { .. }
            | rpc::Error::OutOfSpace(_)
            | rpc::Error::Unavailable(_) => Error::Unavailable(text),
            rpc::Error::Corrupt(_) => Error::Corrupt(text),
            rpc::Error::Internal(_) => Error::Internal(text),
        }
    }
}

impl From<query::logql::engine::EngineError> for Error {
    fn from(error: query::logql::engine::EngineError) -> Self {
        use query::logql::engine::EngineError;
        match error {
            EngineError::Invalid(_) | EngineError::Pipeline { .. } | EngineError::Series { .. } => {
                Error::Invalid(error.to_string())
            }
            EngineError::Budget(error) => error.into(),
            EngineError::Source(error) => error.into(),
        }
    }
}
