//! Which version the log had when it was last written: sled takes a file whose beginning is damaged
//! for a new one, and would open as an empty catalog. The witness tells.
//!
//! The file also is the lock by which one process owns the folder. Two slots are written in turn,
//! so that a write cut short by a power cut damages the older one only:
//!
//! ```text
//! offset 0 and 512:  magic "PHVERS01" <8> | version, little-endian <8> | the same, inverted <8>
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::failed;
use crate::Error;

const MAGIC: &[u8; 8] = b"PHVERS01";
/// A sector: what a disk writes whole.
const SLOT_DISTANCE: u64 = 512;
const SLOT_BYTES: usize = 24;

#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    version: u64,
    /// Where the next version is written.
    next_slot: u64,
}

impl Witness {
    /// Makes the folder and takes it for this process. `log` is the path of what is witnessed: a
    /// witness is made only before that is.
    pub(super) fn open(folder: &Path, log: &Path) -> Result<Self, Error> {
        let io_failed = |error: io::Error| failed(folder, &error);
        fs::create_dir_all(folder).map_err(io_failed)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("version"))
            .map_err(io_failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = folder.to_owned();
                return Err(Error::Busy { folder });
            }
            Err(TryLockError::Error(error)) => return Err(io_failed(error)),
        }
        let slots = [0, 1].map(|slot| read_slot(&file, slot));
        let [first, second] = slots;
        let (first, second) = (first.map_err(io_failed)?, second.map_err(io_failed)?);
        let (version, next_slot) = match (first, second) {
            (Some(first), Some(second)) if first >= second => (first, 1),
            (Some(_), Some(second)) | (None, Some(second)) => (second, 0),
            (Some(first), None) => (first, 1),
            (None, None) if log.exists() => {
                return Err(Error::Corrupt {
                    folder: folder.to_owned(),
                    reason: "expected a version in its file \"version\", found none".to_owned(),
                });
            }
            (None, None) => (0, 0),
        };
        let mut witness = Witness {
            file,
            version,
            next_slot,
        };
        if witness.version == 0 {
            witness.write(0).map_err(io_failed)?;
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io_failed)?;
        }
        Ok(witness)
    }

    #[cfg(test)]
    pub(super) fn replace(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// The log has had at least this version.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The log has this version now; durable when it returns.
    pub(super) fn write(&mut self, version: u64) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&version.to_le_bytes());
        slot[16..].copy_from_slice(&(!version).to_le_bytes());
        self.file
            .write_all_at(&slot, self.next_slot * SLOT_DISTANCE)?;
        self.file.sync_data()?;
        self.version = version;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

/// `None` when the slot was never written, or not whole.
fn read_slot(file: &File, slot: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let whole = &bytes[..8] == MAGIC && number(8) == !number(16);
    Ok(whole.then(|| number(8)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn open(folder: &TempDir) -> Result<Witness, Error> {
        Witness::open(folder.path(), &folder.path().join("log"))
    }

    #[test]
    fn the_newest_version_is_read_back_whichever_slot_has_it() {
        let folder = TempDir::new().unwrap();
        for version in [0, 1, 2, 7, u64::MAX] {
            open(&folder).unwrap().write(version).unwrap();
            assert_eq!(open(&folder).unwrap().version(), version);
        }
    }

    #[test]
    fn a_write_cut_short_leaves_the_version_before() {
        let folder = TempDir::new().unwrap();
        let mut witness = open(&folder).unwrap();
        for version in 1..=6 {
            let slot = witness.next_slot;
            witness.write(version).unwrap();
            let whole = fs::read(folder.path().join("version")).unwrap();
            let half = [0xaa; 12];
            witness
                .file
                .write_all_at(&half, slot * SLOT_DISTANCE + 4)
                .unwrap();
            drop(witness);
            assert_eq!(open(&folder).unwrap().version(), version - 1);
            fs::write(folder.path().join("version"), whole).unwrap();
            witness = open(&folder).unwrap();
            assert_eq!(witness.version(), version);
        }
    }

    #[test]
    fn a_log_without_a_witness_is_not_trusted() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        let error = open(&folder).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}
