use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::config::Place;
use crate::local::{LocalFolder, TEMPORARY};
use crate::remote::{Files, Remote};
use crate::{Config, Error};

/// Immutable objects by path. Cheap to clone; clones share counters.
///
/// A path is one or more parts joined by `/`; a part is 1 to 255 bytes without control characters
/// and backslashes, and neither `.` nor `..`; the first part is not `.tmp`. Anything else is
/// [`Error::Invalid`].
#[derive(Clone, Debug)]
pub struct ObjectStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    reads: AtomicU64,
    bytes_read: AtomicU64,
}

#[derive(Debug)]
enum Backend {
    Local(Arc<LocalFolder>),
    Remote(Remote),
}

/// One object, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, nanoseconds since 1970, as the storage says.
    pub modified: i64,
}

/// What was asked of a storage since it was opened; failed calls included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageCounts {
    /// Objects written.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Calls that read.
    pub reads: u64,
    /// Bytes handed out.
    pub bytes_read: u64,
}

impl ObjectStorage {
    /// Opens what the configuration names. A folder is made when it is missing; a bucket is not
    /// asked for anything yet.
    ///
    /// # Errors
    /// `Invalid` when the configuration cannot work, `Unavailable` or `OutOfSpace` when the folder
    /// cannot be made.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let backend = match config.place()? {
            Place::Folder(root) => Backend::Local(Arc::new(LocalFolder::open(&root)?)),
            Place::Bucket { bucket, prefix } => {
                Backend::Remote(Remote::s3(config, &bucket, prefix)?)
            }
        };
        Ok(ObjectStorage::over(backend))
    }

    /// A storage that lives as long as the process, for tests.
    pub fn in_memory() -> Self {
        ObjectStorage::with_backend(Arc::new(InMemory::new()))
    }

    /// A storage over any backend; for backends that are wrapped.
    pub fn with_backend(backend: Arc<dyn ObjectStore>) -> Self {
        let remote = Remote::new(backend, String::new(), Files::Beside);
        ObjectStorage::over(Backend::Remote(remote))
    }

    /// As [`with_backend`](Self::with_backend), for simulations: files that are uploaded are read by
    /// the task that asks, and not beside it.
    pub fn simulated(backend: Arc<dyn ObjectStore>) -> Self {
        let remote = Remote::new(backend, String::new(), Files::AtOnce);
        ObjectStorage::over(Backend::Remote(remote))
    }

    fn over(backend: Backend) -> Self {
        let zero = || AtomicU64::new(0);
        ObjectStorage {
            shared: Arc::new(Shared {
                backend,
                writes: zero(),
                bytes_written: zero(),
                reads: zero(),
                bytes_read: zero(),
            }),
        }
    }

    /// Whether each request goes to a service, so that few large ones cost less than many small ones.
    pub fn is_remote(&self) -> bool {
        matches!(self.shared.backend, Backend::Remote(_))
    }

    /// Writes an object from its parts, one after the other; replaces what was there. On `Ok` it
    /// is durable.
    ///
    /// # Errors
    /// `OutOfSpace`, `Unavailable`, `Invalid` (path). After an error the old object is still there,
    /// or, when a service did the work but its answer was lost, the new one.
    pub async fn put(&self, path: &str, parts: Vec<Bytes>) -> Result<(), Error> {
        check_path(path)?;
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        self.count_write(bytes as u64);
        match &self.shared.backend {
            Backend::Local(folder) => {
                let (folder, path) = (Arc::clone(folder), path.to_owned());
                blocking(move || folder.put(&path, &parts)).await
            }
            Backend::Remote(remote) => remote.put(path, parts).await,
        }
    }

    /// Writes an object from a file, which stays as it is. Holds at most 40 MiB of it in memory.
    ///
    /// # Errors
    /// As [`put`](Self::put); `Unavailable` also when the file cannot be read.
    pub async fn put_file(&self, path: &str, file: &Path) -> Result<(), Error> {
        check_path(path)?;
        let written = match &self.shared.backend {
            Backend::Local(folder) => {
                let (folder, path) = (Arc::clone(folder), path.to_owned());
                let file = file.to_owned();
                blocking(move || folder.put_file(&path, &file)).await
            }
            Backend::Remote(remote) => remote.put_file(path, file).await,
        };
        self.count_write(*written.as_ref().unwrap_or(&0));
        written.map(|_| ())
    }

    /// Reads ranges of an object, in one go; the answer has one entry for each, in the same order.
    /// Near ranges share a request, and the answers of such a request share its memory: copy what
    /// is to be kept for long. An empty range gives no bytes and is not read.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`; `Corrupt` when the object ends before one of the ranges does.
    pub async fn ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        check_path(path)?;
        let read = match &self.shared.backend {
            Backend::Local(folder) => {
                let (folder, path) = (Arc::clone(folder), path.to_owned());
                let ranges = ranges.to_vec();
                blocking(move || folder.ranges(&path, &ranges)).await
            }
            Backend::Remote(remote) => remote.ranges(path, ranges).await,
        };
        self.count_read(read)
    }

    /// As [`ranges`](Self::ranges), at once and by the thread that asks: `None` when that would have to wait
    /// for a disk or a service.
    ///
    /// # Errors
    /// As [`ranges`](Self::ranges).
    pub fn ranges_at_hand(
        &self,
        path: &str,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Bytes>>, Error> {
        check_path(path)?;
        let Backend::Local(folder) = &self.shared.backend else {
            return Ok(None);
        };
        let read = folder.ranges_at_hand(path, ranges).transpose();
        read.map(|read| self.count_read(read)).transpose()
    }

    /// Reads one range of an object.
    ///
    /// # Errors
    /// As [`ranges`](Self::ranges).
    pub async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let mut read = self.ranges(path, std::slice::from_ref(&range)).await?;
        Ok(read.pop().unwrap_or_default())
    }

    /// Reads a whole object into memory.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, path: &str) -> Result<Bytes, Error> {
        let size = self.size(path).await?;
        self.range(path, 0..size).await
    }

    /// Size of an object, bytes.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn size(&self, path: &str) -> Result<u64, Error> {
        check_path(path)?;
        match &self.shared.backend {
            Backend::Local(folder) => {
                let (folder, path) = (Arc::clone(folder), path.to_owned());
                blocking(move || folder.size(&path)).await
            }
            Backend::Remote(remote) => remote.size(path).await,
        }
    }

    /// Deletes an object; `Ok` also when there is none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        check_path(path)?;
        match &self.shared.backend {
            Backend::Local(folder) => {
                let (folder, path) = (Arc::clone(folder), path.to_owned());
                blocking(move || folder.delete(&path)).await
            }
            Backend::Remote(remote) => remote.delete(path).await,
        }
    }

    /// All objects below a folder, in order of path; "" for all there are. `a/b` finds `a/b/c` but
    /// neither `a/b` nor `a/bc`.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` (path).
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        let folder = folder.trim_end_matches('/');
        if !folder.is_empty() {
            check_path(folder)?;
        }
        match &self.shared.backend {
            Backend::Local(local) => {
                let (local, folder) = (Arc::clone(local), folder.to_owned());
                blocking(move || local.list(&folder)).await
            }
            Backend::Remote(remote) => remote.list(folder).await,
        }
    }

    /// What was asked of it so far.
    pub fn counts(&self) -> StorageCounts {
        let shared = &self.shared;
        StorageCounts {
            writes: shared.writes.load(Ordering::Relaxed),
            bytes_written: shared.bytes_written.load(Ordering::Relaxed),
            reads: shared.reads.load(Ordering::Relaxed),
            bytes_read: shared.bytes_read.load(Ordering::Relaxed),
        }
    }

    fn count_read(&self, read: Result<Vec<Bytes>, Error>) -> Result<Vec<Bytes>, Error> {
        let bytes: usize = read.iter().flatten().map(Bytes::len).sum();
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.shared
            .bytes_read
            .fetch_add(bytes as u64, Ordering::Relaxed);
        read
    }

    fn count_write(&self, bytes: u64) {
        self.shared.writes.fetch_add(1, Ordering::Relaxed);
        self.shared
            .bytes_written
            .fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Runs file work on a blocking thread. The work goes on to its end when the caller goes away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::Unavailable {
                action: "starting file work".to_owned(),
                reason: error.to_string(),
            }),
        },
    }
}

fn check_path(path: &str) -> Result<(), Error> {
    let bad_part = |part: &str| {
        part.is_empty()
            || part.len() > 255
            || part == "."
            || part == ".."
            || part.chars().any(|c| c.is_control() || c == '\\')
    };
    let first = path.split('/').next();
    if path.split('/').any(bad_part) || first == Some(TEMPORARY) {
        return Err(Error::Invalid(format!(
            "{path:?} cannot be an object's path"
        )));
    }
    Ok(())
}
