use model::Kind;

/// What can be wrong with a WAL file or record. Offsets count from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes at `offset` are not what was written there (or were never written whole).
    #[error("bad bytes at offset {offset}: expected {expected}, found {found}")]
    Damaged {
        /// Where the header or record begins.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Written by an earlier or later version of this program.
    #[error(
        "the log has format version {found}, but this program reads version {supported}; start the program that wrote it, stop it with SIGTERM so that it flushes everything, and move its log files away"
    )]
    Version {
        /// The file's.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The batch is too large for one record.
    #[error("a batch of {bytes} bytes is over the log's limit of {limit}; send smaller batches")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// Most that is allowed.
        limit: usize,
    },
    /// The file cannot be read.
    #[error("cannot read the log at offset {offset}: {source}")]
    Io {
        /// Where reading stopped.
        offset: u64,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Damaged { .. } | Error::Version { .. } => Kind::Corrupt,
            Error::TooLarge { .. } => Kind::Invalid,
            Error::Io { .. } => Kind::Unavailable,
        }
    }
}
