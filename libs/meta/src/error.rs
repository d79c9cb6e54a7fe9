use std::path::PathBuf;

use model::Kind;

/// Why the catalog's folder cannot be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the folder open.
    #[error("catalog folder {} is in use by another process: stop it, or use another data folder", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// What is stored is not what was written.
    #[error(
        "catalog folder {} is damaged: {reason}; restore the folder from a copy, and keep the \
         objects as they are: they are complete without it", folder.display()
    )]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// Which entry, what was expected, what was found.
        reason: String,
    },
    /// The folder was written by a newer program.
    #[error(
        "catalog folder {} has entries of format {found}, and this program knows formats up to \
         {known}: use the program that wrote it, or a newer one", folder.display()
    )]
    TooNew {
        /// The folder.
        folder: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The disk or quota is full.
    #[error("no space left for the catalog in {}: {reason}", folder.display())]
    OutOfSpace {
        /// The folder.
        folder: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("catalog folder {} cannot be read or written: {reason}", folder.display())]
    Unavailable {
        /// The folder.
        folder: PathBuf,
        /// The system's own words.
        reason: String,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Busy { .. } | Error::Unavailable { .. } => Kind::Unavailable,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::TooNew { .. } => Kind::Invalid,
            Error::OutOfSpace { .. } => Kind::OutOfSpace,
        }
    }
}

impl From<&Error> for rpc::Error {
    fn from(error: &Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Busy { .. } | Error::Unavailable { .. } => rpc::Error::Unavailable(text),
            Error::Corrupt { .. } => rpc::Error::Corrupt(text),
            Error::TooNew { .. } => rpc::Error::Invalid(text),
            Error::OutOfSpace { .. } => rpc::Error::OutOfSpace(text),
        }
    }
}
