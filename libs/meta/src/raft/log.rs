//! The replicated log and the vote in a [`Store`](crate::store::Store).
//!
//! What is committed is written with the next entries: it only says from where a restarted process
//! may show a catalog at once, and is not worth a write of its own.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{ErrorVerb, LogState, OptionalSend, RaftLogReader};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Entry, Failure, Kept, LogId, Types, Vote};
use crate::store::{Change, Shelf, Store};

/// Numbers on the shelf of single values; the identity has 0.
const VOTE: u64 = 1;
const COMMITTED: u64 = 2;
const PURGED: u64 = 3;

/// About how many bytes of entries go into one message; at least one entry does. A voter must have them on its disk
/// within one heartbeat, else they are sent anew.
const MESSAGE_BYTES: usize = 512 * 1024;

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    kept: Kept,
    /// Newer than what is stored.
    committed: Option<LogId>,
}

/// Reads the log for one of the others.
#[derive(Debug)]
pub(crate) struct Reader {
    kept: Kept,
}

impl Log {
    pub(crate) fn new(kept: Kept) -> Self {
        Log {
            kept,
            committed: None,
        }
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), Failure> {
        let written = self.kept.store.write(changes).await;
        written.map_err(|error| self.kept.fail(ErrorVerb::Write, error))
    }

    async fn single<T: DeserializeOwned>(&self, number: u64) -> Result<Option<T>, Failure> {
        let values = read(&self.kept, Shelf::State, number..=number).await?;
        let Some((_, bytes)) = values.first() else {
            return Ok(None);
        };
        let value = serde_json::from_slice(bytes);
        value
            .map(Some)
            .map_err(|error| self.kept.corrupt(&format!("single value {number}"), error))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let purged: Option<LogId> = self.single(PURGED).await?;
        let last = self.kept.read(|store| store.last(Shelf::Log)).await?;
        let last = match last {
            Some(index) => entries(&self.kept, index..=index).await?.pop(),
            None => None,
        };
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.map(|entry| entry.log_id).or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Reader {
        let kept = self.kept.clone();
        Reader { kept }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), Failure> {
        let bytes = encode(&self.kept, vote)?;
        self.write(vec![Change::Put(Shelf::State, VOTE, bytes)])
            .await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, Failure> {
        self.single(VOTE).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), Failure> {
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, Failure> {
        match self.committed {
            Some(committed) => Ok(Some(committed)),
            None => self.single(COMMITTED).await,
        }
    }

    async fn append<I>(&mut self, new: I, flushed: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Vec::new();
        for entry in new {
            let bytes = encode(&self.kept, &entry)?;
            changes.push(Change::Put(Shelf::Log, entry.log_id.index, bytes));
        }
        if let Some(committed) = &self.committed {
            let bytes = encode(&self.kept, committed)?;
            changes.push(Change::Put(Shelf::State, COMMITTED, bytes));
        }
        self.write(changes).await?;
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), Failure> {
        let removed = Change::Remove(Shelf::Log, from.index..=u64::MAX);
        self.write(vec![removed]).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), Failure> {
        let marker = encode(&self.kept, &through)?;
        self.write(vec![
            Change::Put(Shelf::State, PURGED, marker),
            Change::Remove(Shelf::Log, 0..=through.index),
        ])
        .await
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, Failure>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        entries(&self.kept, inclusive(&range)).await
    }
}

impl RaftLogReader<Types> for Reader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, Failure>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        entries(&self.kept, inclusive(&range)).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, Failure> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let mut values = read(&self.kept, Shelf::Log, index..=index).await?;
            let Some((_, value)) = values.pop() else {
                break;
            };
            bytes += value.len();
            if bytes > MESSAGE_BYTES && !found.is_empty() {
                break;
            }
            found.push(decode(&self.kept, index, &value)?);
        }
        Ok(found)
    }
}

fn inclusive(range: &impl RangeBounds<u64>) -> RangeInclusive<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(end) => start..=*end,
        // Nothing is before 0: an empty range.
        Bound::Excluded(0) => RangeInclusive::new(1, 0),
        Bound::Excluded(after) => start..=after - 1,
        Bound::Unbounded => start..=u64::MAX,
    }
}

async fn entries(kept: &Kept, range: RangeInclusive<u64>) -> Result<Vec<Entry>, Failure> {
    let values = read(kept, Shelf::Log, range).await?;
    values
        .iter()
        .map(|(index, value)| decode(kept, *index, value))
        .collect()
}

async fn read(
    kept: &Kept,
    shelf: Shelf,
    numbers: RangeInclusive<u64>,
) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
    let read = |store: &dyn Store| store.read(shelf, numbers.clone());
    kept.read(read).await
}

fn decode(kept: &Kept, index: u64, value: &[u8]) -> Result<Entry, Failure> {
    serde_json::from_slice(value)
        .map_err(|error| kept.corrupt(&format!("entry {index} of the log"), error))
}

fn encode(kept: &Kept, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| kept.corrupt("a value to be written", error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::TenantId;
    use openraft::{CommittedLeaderId, EntryPayload};
    use rpc::{Command, RuleGroupId};

    use super::super::Proposal;
    use super::*;
    use crate::store::MemoryStore;

    fn entry(index: u64, bytes: usize) -> Entry {
        let command = Command::SetRules {
            group: RuleGroupId {
                tenant: TenantId::default(),
                namespace: "n".into(),
                name: "g".into(),
            },
            definition: "x".repeat(bytes).into(),
            groups_max: 0,
        };
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Proposal::new(&command, None)),
        }
    }

    #[tokio::test]
    async fn a_voter_that_is_behind_is_sent_a_part_of_large_entries_and_one_at_least() {
        let kept = Kept::new(Arc::new(MemoryStore::default()));
        let sizes = [200_000, 200_000, 200_000, 900_000, 1];
        let puts = (0..).zip(sizes).map(|(index, bytes)| {
            let bytes = encode(&kept, &entry(index, bytes)).unwrap();
            Change::Put(Shelf::Log, index, bytes)
        });
        kept.store.write(puts.collect()).await.unwrap();
        let mut reader = Reader { kept };
        for (start, want) in [(0, 2), (2, 1), (3, 1), (4, 1)] {
            let sent = reader.limited_get_log_entries(start, 5).await.unwrap();
            assert_eq!(sent.len(), want, "from {start}");
        }
    }
}
