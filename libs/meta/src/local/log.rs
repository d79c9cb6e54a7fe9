//! Commands and snapshots in sled. All in one tree, since a sled batch is atomic within a tree:
//!
//! ```text
//! c                              -> which snapshot is current: {"version":..,"pieces":..,"bytes":..}
//! s <version: u64> <piece: u32>  -> a piece of the snapshot taken at that version
//! l <version: u64> <piece: u32>  -> 1 when the last piece, else 0; a piece of the command that
//!                                   made that version
//! ```
//!
//! Numbers are big-endian, so that keys are in order of version. Values are cut into pieces because
//! sled moves a page of large values to a file of its own, which it never syncs.
//!
//! sled's flush starts and awaits the write-out of its pages (`sync_file_range`), but neither makes
//! the file's length durable nor empties the disk's cache; so each flush is followed by an fsync of
//! the same file, and then by the [`Witness`].

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rpc::Catalog;
use serde::{Deserialize, Serialize};

use super::witness::Witness;
use crate::wire::{self, WireError};
use crate::{Error, StateMachine};

/// Sixteen values share a page of sled's, and a page must stay well below sled's segment (512 KiB).
const PIECE_BYTES: usize = 8 * 1024;
/// The state is held in memory by the state machine; sled needs no more than its newest pages.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// sled frees its lock a little after it is dropped, on a thread of its own.
const LOCK_TRIES_MAX: usize = 100;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    db: sled::Db,
    /// sled's file, for its fsync.
    file: File,
    /// Commands in the log.
    commands: u64,
    /// Holds the folder's lock; declared last, so that sled is closed first.
    witness: Witness,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    version: u64,
    pieces: u32,
    bytes: u64,
}

impl Log {
    /// Opens the folder and recovers the state that it describes.
    pub(super) fn open(folder: &Path) -> Result<(Self, Catalog), Error> {
        let path = folder.join("log");
        let witness = Witness::open(folder, &path)?;
        let (db, file) = guarded(folder, || open_sled(&path))?;
        let mut log = Log {
            folder: folder.to_owned(),
            db,
            file,
            commands: 0,
            witness,
        };
        let catalog = log.recover()?;
        let (found, expected) = (catalog.version, log.witness.version());
        if found < expected {
            return Err(log.corrupt(format!(
                "expected version {expected} or later, found version {found}"
            )));
        }
        Ok((log, catalog))
    }

    /// How many commands replaying takes.
    pub(super) fn commands(&self) -> u64 {
        self.commands
    }

    /// Adds commands, each with the version that it makes; on `Ok` they are durable.
    pub(super) fn append(&mut self, entries: &[(u64, Vec<u8>)]) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (version, command) in entries {
            let pieces = command.chunks(PIECE_BYTES).count();
            for (at, piece) in command.chunks(PIECE_BYTES).enumerate() {
                let mut value = Vec::with_capacity(piece.len() + 1);
                value.push(u8::from(at + 1 == pieces));
                value.extend_from_slice(piece);
                batch.insert(&key(b'l', *version, at)[..], value);
            }
        }
        guarded(&self.folder, || self.write(batch))?;
        if let Some((version, _)) = entries.last() {
            let witnessed = self.witness.write(*version);
            witnessed.map_err(|error| failed(&self.folder, &error))?;
        }
        self.commands += entries.len() as u64;
        Ok(())
    }

    /// Writes a snapshot and drops the commands that it covers, which must be all in the log.
    pub(super) fn compact(&mut self, catalog: &Catalog) -> Result<(), Error> {
        let version = catalog.version;
        let bytes = wire::encode_catalog(catalog);
        let pieces = bytes.chunks(PIECE_BYTES);
        let current = Current {
            version,
            pieces: pieces.len() as u32,
            bytes: bytes.len() as u64,
        };
        guarded(&self.folder, || {
            // Not referred to before they are durable.
            for (at, piece) in pieces.enumerate() {
                self.db.insert(key(b's', version, at), piece)?;
            }
            self.sync()?;
            let mut batch = sled::Batch::default();
            batch.insert(b"c", encode_current(&current)?);
            for prefix in [b"l", b"s"] {
                for key in self.db.scan_prefix(prefix).keys() {
                    let key = key?;
                    if prefix == b"l" || !key[1..].starts_with(&version.to_be_bytes()) {
                        batch.remove(key);
                    }
                }
            }
            self.write(batch)
        })?;
        self.commands = 0;
        Ok(())
    }

    fn write(&self, batch: sled::Batch) -> Result<(), sled::Error> {
        self.db.apply_batch(batch)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), sled::Error> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    fn recover(&mut self) -> Result<Catalog, Error> {
        let mut machine = StateMachine::new(self.recover_snapshot()?);
        let mut command = Vec::new();
        let mut next_piece = 0_u32;
        let mut entries = self.db.scan_prefix(b"l");
        while let Some((found, value)) = guarded(&self.folder, || entries.next().transpose())? {
            let version = machine.catalog().version + 1;
            let expected = key(b'l', version, next_piece as usize);
            let (Some((last, piece)), true) = (value.split_first(), found == expected) else {
                return Err(self.corrupt(format!(
                    "expected piece {next_piece} of the command that makes version {version}, \
                     found key {:?}",
                    &found[..]
                )));
            };
            command.extend_from_slice(piece);
            next_piece += 1;
            if *last == 1 {
                self.replay(&mut machine, version, &command)?;
                command.clear();
                next_piece = 0;
                self.commands += 1;
            }
        }
        if next_piece > 0 {
            let version = machine.catalog().version + 1;
            return Err(self.corrupt(format!(
                "expected piece {next_piece} of the command that makes version {version}, \
                 found the end of the log"
            )));
        }
        Ok((**machine.catalog()).clone())
    }

    fn replay(&self, machine: &mut StateMachine, version: u64, bytes: &[u8]) -> Result<(), Error> {
        let what = format!("the command that makes version {version}");
        let command = wire::decode_command(bytes).map_err(|error| self.wire_error(&what, error))?;
        match machine.apply(&command) {
            Ok(_) => Ok(()),
            Err(refused) => Err(self.corrupt(format!("{what} is refused: {refused}"))),
        }
    }

    fn recover_snapshot(&self) -> Result<Catalog, Error> {
        let Some(current) = guarded(&self.folder, || self.db.get(b"c"))? else {
            return Ok(Catalog::default());
        };
        let current: Current = serde_json::from_slice(&current)
            .map_err(|error| self.corrupt(format!("the snapshot's description: {error}")))?;
        let version = current.version;
        let mut bytes = Vec::new();
        for at in 0..current.pieces {
            let key = key(b's', version, at as usize);
            let Some(piece) = guarded(&self.folder, || self.db.get(key))? else {
                let pieces = current.pieces;
                return Err(self.corrupt(format!(
                    "expected {pieces} pieces of the snapshot of version {version}, piece {at} \
                     is missing"
                )));
            };
            bytes.extend_from_slice(&piece);
        }
        let what = format!("the snapshot of version {version}");
        if bytes.len() as u64 != current.bytes {
            let (expected, found) = (current.bytes, bytes.len());
            return Err(self.corrupt(format!("{what}: expected {expected} bytes, found {found}")));
        }
        let catalog =
            wire::decode_catalog(&bytes).map_err(|error| self.wire_error(&what, error))?;
        if catalog.version != version {
            let found = catalog.version;
            return Err(self.corrupt(format!("{what}: found version {found} in it")));
        }
        Ok(catalog)
    }

    fn wire_error(&self, what: &str, error: WireError) -> Error {
        match error {
            WireError::TooNew { found } => Error::TooNew {
                folder: self.folder.clone(),
                found,
                known: wire::FORMAT,
            },
            WireError::Malformed(reason) => self.corrupt(format!("{what}: {reason}")),
        }
    }

    fn corrupt(&self, reason: String) -> Error {
        let folder = self.folder.clone();
        Error::Corrupt { folder, reason }
    }
}

fn key(kind: u8, version: u64, piece: usize) -> [u8; 13] {
    let mut key = [kind; 13];
    key[1..9].copy_from_slice(&version.to_be_bytes());
    key[9..].copy_from_slice(&(piece as u32).to_be_bytes());
    key
}

fn encode_current(current: &Current) -> Result<Vec<u8>, sled::Error> {
    serde_json::to_vec(current).map_err(|error| sled::Error::Io(error.into()))
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

#[cfg(test)]
mod tests;
