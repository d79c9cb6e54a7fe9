use std::io;

use model::Kind;

/// Why an ingester cannot start, or cannot do one of its jobs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot work.
    #[error("{0}")]
    Config(String),
    /// The WAL or another file of the data folder cannot be read or written.
    #[error("cannot {doing} {file}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A WAL file is not as it was written.
    #[error(
        "log file {file}: {source}; acknowledged records may be damaged, so nothing is skipped silently: restore the file from a copy, or move it away to start without its records"
    )]
    Wal {
        /// The file.
        file: String,
        /// What is wrong, and where.
        source: segment::wal::Error,
    },
    /// The WAL as a whole is not as it was left.
    #[error("{0}")]
    Log(String),
    /// The segment code refused.
    #[error(transparent)]
    Segment(#[from] segment::Error),
    /// Object storage refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The coordinator refused.
    #[error(transparent)]
    Meta(#[from] rpc::Error),
    /// A part of the ingester ended before it should have.
    #[error("{0}")]
    Stopped(String),
}

impl Error {
    /// A file of the data folder could not be worked on: `doing` is a verb, "cannot {doing} {file}".
    pub(crate) fn of_file(
        doing: &'static str,
        file: impl Into<String>,
        source: io::Error,
    ) -> Error {
        Error::File {
            doing,
            file: file.into(),
            source,
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Config(_) => Kind::Invalid,
            Error::File { source, .. } => io_kind(source),
            Error::Wal { source, .. } => source.kind(),
            Error::Log(_) => Kind::Corrupt,
            Error::Segment(error) => error.kind(),
            Error::Store(error) => error.kind(),
            Error::Meta(error) => error.kind(),
            Error::Stopped(_) => Kind::Unavailable,
        }
    }
}

impl From<Error> for rpc::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            Kind::Invalid => rpc::Error::Invalid(text),
            Kind::NotFound => rpc::Error::NotFound(text),
            Kind::Conflict => rpc::Error::Conflict(text),
            Kind::Exhausted => rpc::Error::Exhausted {
                reason: text,
                retry_after_seconds: 1,
            },
            Kind::OutOfSpace => rpc::Error::OutOfSpace(text),
            Kind::Unavailable | Kind::Cancelled => rpc::Error::Unavailable(text),
            Kind::Corrupt => rpc::Error::Corrupt(text),
            Kind::Internal => rpc::Error::Internal(text),
        }
    }
}

pub(crate) fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::OutOfSpace,
        _ => Kind::Unavailable,
    }
}
