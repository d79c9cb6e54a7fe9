use std::path::PathBuf;

use model::Kind;

/// Why a coordinator cannot work: its folder cannot be opened, read or written, or the cluster does
/// not take it.
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
        "catalog folder {} is damaged: {reason}; restore the folder from a copy, or, when other \
         ingesters of the cluster are well, start this one with an empty data folder, so that it \
         joins as a new node. Keep the objects as they are: they are complete without it", folder.display()
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
    /// A setting that no coordinator can work with.
    #[error("{0}")]
    Setting(String),
    /// The cluster has another shape than the one that this process was started with.
    #[error(
        "the cluster was formed with {formed}, and this process is set to {set}: these are fixed when a cluster is made, by one process alone too; start it with {formed}"
    )]
    Shape {
        /// That of the cluster.
        formed: String,
        /// That of the settings.
        set: String,
    },
    /// An ingester was taken out of the cluster while it has data of it.
    #[error(
        "node {node} was taken out of the cluster: keep its data folder {} if it may hold records that nobody else has, and start it with an empty one to join as a new node",
        place
    )]
    Forgotten {
        /// Its number, which is never used again.
        node: u64,
        /// Where its data are.
        place: String,
    },
    /// The other side speaks another format, or belongs to another cluster.
    #[error("{0}")]
    Stranger(String),
    /// The replicated log has stopped for a reason that is none of the above.
    #[error("the replicated log has stopped: {0}; start the process again")]
    Stopped(String),
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
            Error::TooNew { .. }
            | Error::Setting(_)
            | Error::Shape { .. }
            | Error::Forgotten { .. }
            | Error::Stranger(_) => Kind::Invalid,
            Error::Stopped(_) => Kind::Internal,
            Error::OutOfSpace { .. } => Kind::OutOfSpace,
        }
    }
}

impl From<&Error> for rpc::Error {
    fn from(error: &Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            Kind::Corrupt => rpc::Error::Corrupt(text),
            Kind::Invalid => rpc::Error::Invalid(text),
            Kind::OutOfSpace => rpc::Error::OutOfSpace(text),
            _ => rpc::Error::Unavailable(text),
        }
    }
}
