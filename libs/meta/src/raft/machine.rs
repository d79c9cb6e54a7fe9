//! The catalog under the replicated log: applies entries, takes and installs snapshots.

use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, ErrorVerb, OptionalSend, RaftSnapshotBuilder};
use rpc::Catalog;

use super::{Applied, Entry, Failure, Kept, LogId, Membership, Proposal, SnapshotMeta, Types};
use crate::replica::Replica;
use crate::store::{Change, Shelf, Store};
use crate::wire::{self, WireError};
use crate::{Error, StateMachine};

/// The state that the log makes. In memory; what is stored is the newest snapshot.
#[derive(Debug)]
pub(crate) struct Machine {
    kept: Kept,
    replica: Arc<Replica>,
    state: StateMachine,
    applied: Option<LogId>,
    membership: Membership,
}

/// Makes a snapshot of the state as it was when the builder was made.
#[derive(Debug)]
pub(crate) struct Builder {
    kept: Kept,
    catalog: Arc<Catalog>,
    meta: SnapshotMeta,
}

impl Machine {
    /// Starts from the stored snapshot.
    pub(crate) fn open(kept: Kept, replica: Arc<Replica>) -> Result<Self, Failure> {
        let mut machine = Machine {
            kept,
            replica,
            state: StateMachine::default(),
            applied: None,
            membership: Membership::default(),
        };
        let kept = &machine.kept;
        let newest = newest(&*kept.store).map_err(|error| kept.fail(ErrorVerb::Read, error))?;
        if let Some(bytes) = newest {
            let (meta, catalog) = parse(kept, bytes)?;
            machine.restore(&meta, &catalog)?;
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), Failure> {
        let catalog = wire::decode_catalog(bytes)
            .map_err(|error| wire_failure(&self.kept, "the snapshot", error))?;
        self.state = StateMachine::new(catalog);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.replica.replace(self.state.catalog());
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<Applied, Failure> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(Applied::Nothing),
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                Ok(Applied::Nothing)
            }
            EntryPayload::Normal(proposal) => self.apply_proposal(entry.log_id.index, &proposal),
        }
    }

    fn apply_proposal(&mut self, index: u64, proposal: &Proposal) -> Result<Applied, Failure> {
        let catalog = self.state.catalog();
        let (version, last) = (catalog.version, catalog.last_node);
        if let Some(expected) = proposal.after_node
            && expected != last
        {
            let text = format!("the last number is {last} by now, not {expected}: ask again");
            return Ok(Applied::Conflict { text, version });
        }
        let bytes = proposal.command_bytes();
        let command = wire::decode_command(bytes).map_err(|error| {
            wire_failure(&self.kept, &format!("the command of entry {index}"), error)
        })?;
        match self.state.apply(&command) {
            Ok(outcome) => {
                self.replica.advance(self.state.catalog(), bytes);
                Ok(outcome.into())
            }
            Err(rejected) => Ok(Applied::refused(rejected, version)),
        }
    }

    fn meta(&self) -> SnapshotMeta {
        let id = match &self.applied {
            Some(at) => format!(
                "{}-{}-{}",
                at.leader_id.term, at.leader_id.node_id, at.index
            ),
            None => "empty".to_owned(),
        };
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: id,
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), Failure> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter();
        entries.map(|entry| self.apply_entry(entry)).collect()
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            kept: self.kept.clone(),
            catalog: Arc::clone(self.state.catalog()),
            meta: self.meta(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let bytes = snapshot.into_inner();
        self.restore(meta, &bytes)?;
        store(&self.kept, meta, &bytes).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        let Some(bytes) = self.kept.read(newest).await? else {
            return Ok(None);
        };
        let (meta, catalog) = parse(&self.kept, bytes)?;
        Ok(Some(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(catalog)),
        }))
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let bytes = wire::encode_catalog(&self.catalog);
        store(&self.kept, &self.meta, &bytes).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Cursor::new(bytes)),
        })
    }
}

/// Keeps a snapshot: what it covers as a line of JSON, then the catalog. Older ones go.
async fn store(kept: &Kept, meta: &SnapshotMeta, catalog: &[u8]) -> Result<(), Failure> {
    let index = meta.last_log_id.map_or(0, |at| at.index);
    let newest = kept.read(|store| store.last(Shelf::Snapshot)).await?;
    if newest.is_some_and(|newest| newest > index) {
        return Ok(());
    }
    let mut bytes = serde_json::to_vec(meta)
        .map_err(|error| kept.corrupt("a snapshot to be written", error))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(catalog);
    let mut changes = vec![Change::Put(Shelf::Snapshot, index, bytes)];
    if let Some(before) = index.checked_sub(1) {
        changes.push(Change::Remove(Shelf::Snapshot, 0..=before));
    }
    let written = kept.store.write(changes).await;
    written.map_err(|error| kept.fail(ErrorVerb::Write, error))
}

/// The newest snapshot, as [`store`] keeps it.
fn newest(store: &dyn Store) -> Result<Option<Vec<u8>>, Error> {
    let Some(newest) = store.last(Shelf::Snapshot)? else {
        return Ok(None);
    };
    let mut values = store.read(Shelf::Snapshot, newest..=newest)?;
    Ok(values.pop().map(|(_, bytes)| bytes))
}

fn parse(kept: &Kept, mut bytes: Vec<u8>) -> Result<(SnapshotMeta, Vec<u8>), Failure> {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let line = line.ok_or_else(|| kept.corrupt("the snapshot", "its first line has no end"))?;
    let meta = serde_json::from_slice(&bytes[..line])
        .map_err(|error| kept.corrupt("the snapshot's first line", error))?;
    bytes.drain(..=line);
    Ok((meta, bytes))
}

fn wire_failure(kept: &Kept, what: &str, error: WireError) -> Failure {
    match error {
        WireError::TooNew { found } => kept.fail(
            ErrorVerb::Read,
            Error::TooNew {
                folder: kept.store.place().to_owned(),
                found,
                known: wire::FORMAT,
            },
        ),
        WireError::Malformed(reason) => kept.corrupt(what, reason),
    }
}
