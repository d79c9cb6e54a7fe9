use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::path::{Path, PathBuf};

/// The disk under the log; a simulated one in tests.
pub trait LogFiles: Debug + Send + Sync + 'static {
    /// Names of all files of the folder, in no order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file; its name is durable after [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// `AlreadyExists`, or the disk's.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Opens a file for reading from its start, with its length.
    ///
    /// # Errors
    /// `NotFound`, or the disk's.
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)>;

    /// Makes all bytes of a file that nobody writes durable.
    ///
    /// # Errors
    /// `NotFound`, or the disk's.
    fn sync_file(&self, name: &str) -> io::Result<()>;

    /// Removes a file; no error when there is none.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was created and removed durable.
    ///
    /// # Errors
    /// The disk's.
    fn sync_folder(&self) -> io::Result<()>;

    /// Bytes that can still be written to the disk; of one that does not say, as many as one likes.
    ///
    /// # Errors
    /// The disk's.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// One file of the log, open for appending.
pub trait LogFile: Debug + Send {
    /// Writes all parts at the end of the file. On an error any part may have been written.
    ///
    /// # Errors
    /// `StorageFull` when there is no room, or the disk's.
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The disk's; what was written since the last success may or may not be there.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `bytes`, where the next append goes.
    ///
    /// # Errors
    /// The disk's.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

/// A folder of the local disk, locked for as long as this lives.
#[derive(Debug)]
pub struct LogFolder {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug)]
struct Opened(File);

impl LogFolder {
    /// Opens the folder, making it when it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or when another process has it open.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let lock = File::create(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::other("another process has it open; stop that one first")
            }
            TryLockError::Error(error) => error,
        })?;
        Ok(LogFolder {
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

impl LogFiles for LogFolder {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true);
        Ok(Box::new(Opened(file.open(self.path.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let file = File::open(self.path.join(name))?;
        let bytes = file.metadata()?.len();
        Ok((
            Box::new(io::BufReader::with_capacity(256 << 10, file)),
            bytes,
        ))
    }

    fn sync_file(&self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl LogFile for Opened {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.0.write_vectored(parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}
