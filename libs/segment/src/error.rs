use std::io;

use model::Kind;

/// Why a segment cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored bytes are not what was written.
    #[error(
        "segment {object} is damaged at byte {offset}: expected {expected}, found {found}; restore or delete the object"
    )]
    Corrupt {
        /// Name of the object.
        object: String,
        /// Offset in the object of the part that is damaged.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Written by another release.
    #[error(
        "segment {object} has format version {found}, this release reads version {supported} only; read it with the release that wrote it"
    )]
    Version {
        /// Name of the object.
        object: String,
        /// The version in its trailer.
        found: u32,
        /// The version that this release knows.
        supported: u32,
    },
    /// The caller gave other bytes than those asked for.
    #[error("segment {object}: {what}")]
    Request {
        /// Name of the object.
        object: String,
        /// What was wrong.
        what: String,
    },
    /// One record is larger than the format can hold.
    #[error("record of {bytes} bytes is over the limit of {limit} bytes")]
    RecordTooLarge {
        /// Bytes of line and metadata.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The source of a merge could not be read. `NotFound` says that there is none; `InvalidData` and
    /// `UnexpectedEof`, that it is not as it was written.
    #[error("cannot read segment {object}: {source}")]
    Read {
        /// Name of the object.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("cannot write segment: {0}")]
    Write(#[source] io::Error),
    /// A compressor refused its input.
    #[error("cannot compress a column: {0}")]
    Compress(String),
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Corrupt { .. } | Error::Version { .. } => Kind::Corrupt,
            Error::Request { .. } | Error::Compress(_) => Kind::Internal,
            Error::RecordTooLarge { .. } => Kind::Invalid,
            Error::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Kind::Corrupt,
                _ => Kind::Unavailable,
            },
            Error::Write(error) if error.kind() == io::ErrorKind::StorageFull => Kind::OutOfSpace,
            Error::Write(_) => Kind::Unavailable,
        }
    }

    /// The object that is to blame, if it is one.
    pub fn object(&self) -> Option<&str> {
        match self {
            Error::Corrupt { object, .. }
            | Error::Version { object, .. }
            | Error::Request { object, .. }
            | Error::Read { object, .. } => Some(object),
            Error::RecordTooLarge { .. } | Error::Write(_) | Error::Compress(_) => None,
        }
    }
}

/// Damage found inside one part of an object; the reader of the part adds name and offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Damage {
    pub(crate) fn new(expected: impl Into<String>, found: impl ToString) -> Self {
        Damage {
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    pub(crate) fn at(self, object: &str, offset: u64) -> Error {
        Error::Corrupt {
            object: object.to_owned(),
            offset,
            expected: self.expected,
            found: self.found,
        }
    }
}
