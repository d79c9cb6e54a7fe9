//! Where a coordinator keeps what must survive: its identity, its vote, its log and its snapshot.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::Error;

mod disk;
mod witness;

pub use disk::DiskStore;

/// A row of numbered values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// Single values: who this is, the vote, what is committed and purged.
    State,
    /// Entries of the replicated log, by index.
    Log,
    /// Snapshots of the catalog, by the index of the last entry in them.
    Snapshot,
}

/// One step of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a value.
    Put(Shelf, u64, Vec<u8>),
    /// Removes the values with these numbers, if they are there.
    Remove(Shelf, RangeInclusive<u64>),
}

/// Numbered values that survive a power cut.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Makes all the changes, or none; on `Ok` they are durable. No two of them may name the same
    /// value. Waits while the disk is full, since whoever writes here cannot go on without it.
    ///
    /// # Errors
    /// As [`Error`] says. Afterwards the changes may be there or not, but not a part of them.
    async fn write(&self, changes: Vec<Change>) -> Result<(), Error>;

    /// The values with these numbers, in order.
    ///
    /// # Errors
    /// As [`Error`] says. `OutOfSpace` while a write waits for space: then it can be read again later.
    fn read(
        &self,
        shelf: Shelf,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error>;

    /// The greatest number on the shelf.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn last(&self, shelf: Shelf) -> Result<Option<u64>, Error>;

    /// What a write is waiting for, if one is.
    fn trouble(&self) -> Option<Error>;

    /// Where the values are, for people.
    fn place(&self) -> &Path;

    /// Frees what is locked; every call afterwards fails.
    fn close(&self);
}

type Shelves = BTreeMap<(Shelf, u64), Vec<u8>>;

/// A [`Store`] in memory, for tests and simulations. The contents outlive the coordinator that wrote
/// them, as a disk's do: see [`reopen`](Self::reopen). Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shelves: Arc<Mutex<Shelves>>,
    closed: Arc<AtomicBool>,
    write_takes: Duration,
}

impl MemoryStore {
    /// An empty store. A write takes this long (on tokio's clock) and has its effect at the end: one
    /// that is under way when the store is closed, as by a crash, leaves nothing.
    pub fn new(write_takes: Duration) -> Self {
        MemoryStore {
            write_takes,
            ..MemoryStore::default()
        }
    }

    /// Closes the store, and opens what was written to it.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.close();
        MemoryStore {
            shelves: Arc::clone(&self.shelves),
            closed: Arc::default(),
            write_takes: self.write_takes,
        }
    }

    fn shelves(&self) -> Result<MutexGuard<'_, Shelves>, Error> {
        // Each write is whole: what a panicking holder left is consistent.
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        match self.closed.load(Ordering::SeqCst) {
            false => Ok(shelves),
            true => Err(Error::Unavailable {
                folder: "memory".into(),
                reason: "it is closed".to_owned(),
            }),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, changes: Vec<Change>) -> Result<(), Error> {
        if !self.write_takes.is_zero() {
            tokio::time::sleep(self.write_takes).await;
        }
        let mut shelves = self.shelves()?;
        for change in changes {
            match change {
                Change::Put(shelf, number, value) => drop(shelves.insert((shelf, number), value)),
                Change::Remove(shelf, numbers) => {
                    shelves.retain(|(of, at), _| *of != shelf || !numbers.contains(at));
                }
            }
        }
        Ok(())
    }

    fn read(
        &self,
        shelf: Shelf,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let shelves = self.shelves()?;
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let range = (shelf, *numbers.start())..=(shelf, *numbers.end());
        let found = shelves.range(range);
        Ok(found.map(|((_, at), value)| (*at, value.clone())).collect())
    }

    fn last(&self, shelf: Shelf) -> Result<Option<u64>, Error> {
        let shelves = self.shelves()?;
        let last = shelves.range((shelf, 0)..=(shelf, u64::MAX)).next_back();
        Ok(last.map(|((_, number), _)| *number))
    }

    fn trouble(&self) -> Option<Error> {
        None
    }

    fn place(&self) -> &Path {
        Path::new("memory")
    }

    fn close(&self) {
        // Under the lock: what is being written is there, or will never be.
        let _shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
