//! [`Store`] on sled. All in one tree, since a sled batch is atomic within a tree:
//!
//! ```text
//! n                                     -> how many writes there were: u64
//! <shelf> <number: u64> <piece: u32>    -> 1 when the last piece, else 0; a piece of the value
//! ```
//!
//! Numbers are big-endian, so that keys are in order. Values are cut into pieces because sled moves
//! a page of large values to a file of its own, which it never syncs.
//!
//! sled's flush starts and awaits the write-out of its pages (`sync_file_range`), but neither makes
//! the file's length durable nor empties the disk's cache; so each flush is followed by an fsync of
//! the same file, and then by the [`Witness`].

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use super::witness::Witness;
use super::{Change, Shelf, Store};
use crate::Error;

/// Sixteen values share a page of sled's, and a page must stay well below sled's segment (512 KiB).
const PIECE_BYTES: usize = 8 * 1024;
/// The state is held in memory by the state machine; sled needs no more than its newest pages.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// sled frees its lock a little after it is dropped, on a thread of its own.
const LOCK_TRIES_MAX: usize = 1000;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);
/// How often a write is tried again while the disk is full.
const FULL_TRY_EVERY: Duration = Duration::from_secs(1);
const KEY_BYTES: usize = 13;
const WRITES_KEY: &[u8] = b"n";

/// [`Store`] in a folder of the local disk.
#[derive(Debug)]
pub struct DiskStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Why there is none: after a failed write, until it could be opened again, and when closed.
    db: RwLock<Result<sled::Db, Error>>,
    writer: Mutex<Option<Writer>>,
    trouble: Mutex<Option<Error>>,
}

/// What one write at a time may use; `None` when the store is closed.
#[derive(Debug)]
struct Writer {
    /// sled's file, for its fsync; `None` with the database.
    file: Option<File>,
    /// Holds the folder's lock.
    witness: Witness,
}

impl DiskStore {
    /// Opens the folder, which is made when missing. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `Busy` when another has it open, `Corrupt`, `OutOfSpace`, `Unavailable`.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if folder.join("log").exists() {
            return Err(Error::Unavailable {
                folder: folder.to_owned(),
                reason: "it holds a catalog of a version before clusters (its folder \"log\"), \
                         which this program cannot read: use another data folder"
                    .to_owned(),
            });
        }
        let path = folder.join("raft");
        let witness = Witness::open(folder, &path)?;
        let (db, file) = guarded(folder, || open_sled(&path))?;
        check_writes(folder, &db, &witness)?;
        Ok(DiskStore {
            inner: Arc::new(Inner {
                folder: folder.to_owned(),
                db: RwLock::new(Ok(db)),
                writer: Mutex::new(Some(Writer {
                    file: Some(file),
                    witness,
                })),
                trouble: Mutex::new(None),
            }),
        })
    }

    /// Writes the version to another file from here on, and gives back the one before.
    #[cfg(test)]
    pub(crate) fn witnessed_by(&self, file: File) -> Option<File> {
        let mut writer = lock(&self.inner.writer);
        writer.as_mut().map(|writer| writer.witness.replace(file))
    }
}

#[async_trait]
impl Store for DiskStore {
    async fn write(&self, changes: Vec<Change>) -> Result<(), Error> {
        let changes = Arc::new(changes);
        loop {
            let (inner, batch) = (Arc::clone(&self.inner), Arc::clone(&changes));
            let written = tokio::task::spawn_blocking(move || inner.write(&batch)).await;
            let written = written.unwrap_or_else(|error| {
                Err(Error::Unavailable {
                    folder: self.inner.folder.clone(),
                    reason: format!("the write did not end: {error}"),
                })
            });
            match written {
                Err(error @ Error::OutOfSpace { .. }) => {
                    let before = lock(&self.inner.trouble).replace(error.clone());
                    if before.is_none() {
                        tracing::error!(%error, "the catalog waits until there is space again");
                    }
                    tokio::time::sleep(FULL_TRY_EVERY).await;
                }
                other => {
                    if lock(&self.inner.trouble).take().is_some() {
                        tracing::info!("the catalog is written again");
                    }
                    return other;
                }
            }
        }
    }

    fn read(
        &self,
        shelf: Shelf,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.inner.read(shelf, numbers)
    }

    fn last(&self, shelf: Shelf) -> Result<Option<u64>, Error> {
        let key = self.inner.with_db(|db| {
            guarded(&self.inner.folder, || {
                let prefix = [byte_of(shelf)];
                db.scan_prefix(prefix).keys().next_back().transpose()
            })
        })?;
        key.map(|key| self.inner.parse(&key).map(|(number, _)| number))
            .transpose()
    }

    fn trouble(&self) -> Option<Error> {
        lock(&self.inner.trouble).clone()
    }

    fn place(&self) -> &Path {
        &self.inner.folder
    }

    fn close(&self) {
        let mut writer = lock(&self.inner.writer);
        let closed = self.inner.unavailable("it is closed");
        self.inner.set_db(Err(closed));
        *writer = None;
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn db(&self) -> Result<sled::Db, Error> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.clone()
    }

    /// Reads. When a write failed meanwhile, that is why.
    fn with_db<T>(&self, read: impl FnOnce(&sled::Db) -> Result<T, Error>) -> Result<T, Error> {
        read(&self.db()?).map_err(|error| self.db().err().unwrap_or(error))
    }

    fn set_db(&self, db: Result<sled::Db, Error>) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
    }

    fn write(&self, changes: &[Change]) -> Result<(), Error> {
        let mut writer = lock(&self.writer);
        let Some(writer) = writer.as_mut() else {
            return Err(self.unavailable("it is closed"));
        };
        let opened = self.open_again(writer);
        let written = opened.and_then(|()| self.write_with(writer, changes));
        if let Err(error) = &written {
            // What is in memory may not be what is on disk.
            self.set_db(Err(error.clone()));
            writer.file = None;
        }
        written
    }

    fn open_again(&self, writer: &mut Writer) -> Result<(), Error> {
        if writer.file.is_some() {
            return Ok(());
        }
        let (db, file) = guarded(&self.folder, || open_sled(&self.folder.join("raft")))?;
        check_writes(&self.folder, &db, &writer.witness)?;
        self.set_db(Ok(db));
        writer.file = Some(file);
        Ok(())
    }

    fn write_with(&self, writer: &mut Writer, changes: &[Change]) -> Result<(), Error> {
        let db = self.db()?;
        let writes = writer.witness.version() + 1;
        guarded(&self.folder, || {
            let mut batch = sled::Batch::default();
            for change in changes {
                match change {
                    Change::Put(shelf, number, value) => {
                        // A longer value may be there, of which no piece must stay.
                        remove(&mut batch, &db, *shelf, &(*number..=*number))?;
                        put(&mut batch, *shelf, *number, value);
                    }
                    Change::Remove(shelf, numbers) => remove(&mut batch, &db, *shelf, numbers)?,
                }
            }
            batch.insert(WRITES_KEY, &writes.to_be_bytes());
            db.apply_batch(batch)?;
            db.flush()?;
            if let Some(file) = &writer.file {
                file.sync_data()?;
            }
            Ok(())
        })?;
        let witnessed = writer.witness.write(writes);
        witnessed.map_err(|error| failed(&self.folder, &error))
    }

    fn read(
        &self,
        shelf: Shelf,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        match numbers.is_empty() {
            true => Ok(Vec::new()),
            false => self.with_db(|db| self.read_with(db, shelf, &numbers)),
        }
    }

    fn read_with(
        &self,
        db: &sled::Db,
        shelf: Shelf,
        numbers: &RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut values: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut next_piece = 0;
        let mut entries = db.range(range_of(shelf, numbers));
        while let Some((key, value)) = guarded(&self.folder, || entries.next().transpose())? {
            let (number, piece) = self.parse(&key)?;
            let Some((last, bytes)) = value.split_first() else {
                return Err(self.gap(shelf, number, next_piece));
            };
            match values.last_mut() {
                Some((open, whole)) if next_piece > 0 && *open == number && piece == next_piece => {
                    whole.extend_from_slice(bytes);
                }
                _ if next_piece == 0 && piece == 0 => values.push((number, bytes.to_vec())),
                _ => return Err(self.gap(shelf, number, next_piece)),
            }
            next_piece = if *last == 1 { 0 } else { next_piece + 1 };
        }
        match values.last() {
            Some((number, _)) if next_piece > 0 => Err(self.gap(shelf, *number, next_piece)),
            _ => Ok(values),
        }
    }

    /// Number and piece of a key.
    fn parse(&self, key: &[u8]) -> Result<(u64, u32), Error> {
        let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
        let piece = key
            .get(9..KEY_BYTES)
            .and_then(|bytes| bytes.try_into().ok());
        match (number, piece) {
            (Some(number), Some(piece)) if key.len() == KEY_BYTES => {
                Ok((u64::from_be_bytes(number), u32::from_be_bytes(piece)))
            }
            _ => Err(self.corrupt(format!("found key {key:?}, which is none of its keys"))),
        }
    }

    fn gap(&self, shelf: Shelf, number: u64, piece: u32) -> Error {
        self.corrupt(format!(
            "piece {piece} of value {number} on shelf {shelf:?} is missing or out of place"
        ))
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::Corrupt {
            folder: self.folder.clone(),
            reason,
        }
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable {
            folder: self.folder.clone(),
            reason: reason.to_owned(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn byte_of(shelf: Shelf) -> u8 {
    match shelf {
        Shelf::State => b'm',
        Shelf::Log => b'l',
        Shelf::Snapshot => b's',
    }
}

fn key(shelf: Shelf, number: u64, piece: u32) -> [u8; KEY_BYTES] {
    let mut key = [byte_of(shelf); KEY_BYTES];
    key[1..9].copy_from_slice(&number.to_be_bytes());
    key[9..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn range_of(shelf: Shelf, numbers: &RangeInclusive<u64>) -> RangeInclusive<[u8; KEY_BYTES]> {
    key(shelf, *numbers.start(), 0)..=key(shelf, *numbers.end(), u32::MAX)
}

fn put(batch: &mut sled::Batch, shelf: Shelf, number: u64, value: &[u8]) {
    // An empty value has one piece, which is empty.
    let pieces = value.len().div_ceil(PIECE_BYTES).max(1);
    for at in 0..pieces {
        let end = value.len().min((at + 1) * PIECE_BYTES);
        let bytes = &value[at * PIECE_BYTES..end];
        let mut piece = Vec::with_capacity(bytes.len() + 1);
        piece.push(u8::from(at + 1 == pieces));
        piece.extend_from_slice(bytes);
        batch.insert(&key(shelf, number, at as u32)[..], piece);
    }
}

fn remove(
    batch: &mut sled::Batch,
    db: &sled::Db,
    shelf: Shelf,
    numbers: &RangeInclusive<u64>,
) -> Result<(), sled::Error> {
    if numbers.is_empty() {
        return Ok(());
    }
    for key in db.range(range_of(shelf, numbers)).keys() {
        batch.remove(key?);
    }
    Ok(())
}

/// sled takes a file whose beginning is damaged for a new one; the witness knows better.
fn check_writes(folder: &Path, db: &sled::Db, witness: &Witness) -> Result<(), Error> {
    let found = guarded(folder, || db.get(WRITES_KEY))?;
    let found = found.and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok());
    let (found, expected) = (found.map_or(0, u64::from_be_bytes), witness.version());
    if found < expected {
        let folder = folder.to_owned();
        let reason = format!("expected write {expected} or later, found write {found}");
        return Err(Error::Corrupt { folder, reason });
    }
    Ok(())
}

fn open_sled(path: &Path) -> Result<(sled::Db, File), sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let mut tries = 1;
    let db = loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if tries < LOCK_TRIES_MAX && error.to_string().contains("acquire lock") =>
            {
                tries += 1;
                std::thread::sleep(LOCK_TRY_EVERY);
            }
            opened => break opened?,
        }
    };
    let file = File::open(path.join("db"))?;
    file.sync_all()?;
    // The names of new files and folders.
    let absolute = fs::canonicalize(path)?;
    for folder in absolute.ancestors().take(3) {
        File::open(folder)?.sync_all()?;
    }
    Ok((db, file))
}

/// Runs an operation of sled's, which panics on some I/O errors and on some damage.
fn guarded<T>(folder: &Path, act: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(error))) => Err(failed(folder, &error)),
        Ok(Err(error @ sled::Error::Corruption { .. })) => Err(Error::Corrupt {
            folder: folder.to_owned(),
            reason: error.to_string(),
        }),
        Ok(Err(error)) => Err(Error::Unavailable {
            folder: folder.to_owned(),
            reason: error.to_string(),
        }),
        Err(_) => Err(Error::Unavailable {
            folder: folder.to_owned(),
            reason: "its store panicked; the message is on standard error".to_owned(),
        }),
    }
}

pub(super) fn failed(folder: &Path, error: &io::Error) -> Error {
    let (folder, reason) = (folder.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::OutOfSpace { folder, reason }
        }
        _ => Error::Unavailable { folder, reason },
    }
}
