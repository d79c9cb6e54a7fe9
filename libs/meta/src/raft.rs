//! openraft's words and ours: what an entry of the replicated log is, how errors of the store are
//! told. openraft stays below this module and `node`.

use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::{ErrorSubject, ErrorVerb, StorageError, StorageIOError};
use rpc::{Command, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::Store;
use crate::{Error, Rejected, wire};

pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;

openraft::declare_raft_types!(
    /// Ours: entries are proposals, a snapshot is an encoded catalog.
    pub(crate) Types:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, openraft::BasicNode>;
pub(crate) type Failure = StorageError<u64>;

/// How often a read is tried again while the disk is full.
const READ_AGAIN_EVERY: Duration = Duration::from_millis(100);

/// A command on its way into the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proposal {
    /// Refuse the command unless this is the last number given to a process. A process that wants a
    /// number names it, so that a request that comes twice gives one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_node: Option<u64>,
    /// As `wire::encode_command` wrote it.
    command: Box<RawValue>,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Applied {
    /// It was no command.
    Nothing,
    /// It made this version.
    Done { version: u64 },
    /// It made this version and a process' number.
    Node { id: u64, version: u64 },
    /// It made this version and a delete request's number.
    Delete { id: u64, version: u64 },
    /// The state has moved on; `version` is the one that refused it.
    Conflict { text: String, version: u64 },
    /// It can never be applied.
    Invalid { text: String, version: u64 },
}

impl Proposal {
    #[expect(clippy::expect_used, reason = "what `encode_command` writes is JSON")]
    pub(crate) fn new(command: &Command, after_node: Option<u64>) -> Self {
        let text = String::from_utf8_lossy(&wire::encode_command(command)).into_owned();
        Proposal {
            after_node,
            command: RawValue::from_string(text).expect("an encoded command is JSON"),
        }
    }

    pub(crate) fn command_bytes(&self) -> &[u8] {
        self.command.get().as_bytes()
    }
}

impl Applied {
    pub(crate) fn refused(rejected: Rejected, version: u64) -> Self {
        match rejected {
            Rejected::Conflict(text) => Applied::Conflict { text, version },
            Rejected::Invalid(text) => Applied::Invalid { text, version },
        }
    }

    /// The version of the catalog that knows of it.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Applied::Nothing => 0,
            Applied::Done { version }
            | Applied::Node { version, .. }
            | Applied::Delete { version, .. }
            | Applied::Conflict { version, .. }
            | Applied::Invalid { version, .. } => *version,
        }
    }

    pub(crate) fn into_outcome(self) -> Result<Outcome, rpc::Error> {
        match self {
            Applied::Nothing => Err(rpc::Error::Internal(
                "the replicated log answered a command as if it were none".to_owned(),
            )),
            Applied::Done { version } => Ok(Outcome::Done { version }),
            Applied::Node { id, version } => Ok(Outcome::Node {
                id: model::NodeId(id),
                version,
            }),
            Applied::Delete { id, version } => Ok(Outcome::Delete {
                id: rpc::DeleteId(id),
                version,
            }),
            Applied::Conflict { text, .. } => Err(rpc::Error::Conflict(text)),
            Applied::Invalid { text, .. } => Err(rpc::Error::Invalid(text)),
        }
    }
}

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done { version } => Applied::Done { version },
            Outcome::Node { id, version } => Applied::Node { id: id.0, version },
            Outcome::Delete { id, version } => Applied::Delete { id: id.0, version },
        }
    }
}

/// A store, and the first of its errors that stopped the replicated log.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) store: Arc<dyn Store>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl Kept {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let fault = Arc::default();
        Kept { store, fault }
    }

    /// Why the log stopped, in our words.
    pub(crate) fn fault(&self) -> Option<Error> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }

    /// Reads, again and again while a write waits for space: whoever reads cannot go on either, and
    /// an error would end the replicated log.
    pub(crate) async fn read<T>(
        &self,
        read: impl Fn(&dyn Store) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        loop {
            match read(&*self.store) {
                Err(Error::OutOfSpace { .. }) => tokio::time::sleep(READ_AGAIN_EVERY).await,
                other => return other.map_err(|error| self.fail(ErrorVerb::Read, error)),
            }
        }
    }

    /// Remembers the error, and gives it in openraft's words.
    pub(crate) fn fail(&self, verb: ErrorVerb, error: Error) -> Failure {
        let text = openraft::AnyError::error(&error);
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
        StorageIOError::new(ErrorSubject::Store, verb, text).into()
    }

    /// What is stored is not what was written.
    pub(crate) fn corrupt(&self, what: &str, reason: impl std::fmt::Display) -> Failure {
        self.fail(
            ErrorVerb::Read,
            Error::Corrupt {
                folder: self.store.place().to_owned(),
                reason: format!("{what}: {reason}"),
            },
        )
    }
}

#[cfg(test)]
mod tests;
