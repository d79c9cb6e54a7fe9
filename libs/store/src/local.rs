//! Objects as files of a folder. All functions block; [`crate::ObjectStorage`] calls them on
//! tokio's blocking threads.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::plan::{coalesce, distribute};
use crate::{Error, ObjectInfo};

/// Where writes in progress are; in the root, so that a rename stays on one file system.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Ranges nearer than this share a read: copying 4 KiB out of the page cache costs about as much
/// as another system call.
const GAP_BYTES_MAX: u64 = 4 * 1024;

/// Reads bytes of a file from an offset on into a buffer, and tells how many.
type ReadAt<'a> = dyn FnMut(&File, &mut [u8], u64) -> io::Result<usize> + 'a;

#[derive(Debug)]
pub(crate) struct LocalFolder {
    root: PathBuf,
    next_temporary: AtomicU64,
    /// Folders that are known to survive a power cut.
    durable_folders: Mutex<HashSet<PathBuf>>,
}

/// A file being written; removed when dropped before it got its name.
struct Temporary {
    file: File,
    path: PathBuf,
    named: bool,
}

impl LocalFolder {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let opened = (|| {
            fs::create_dir_all(root.join(TEMPORARY))?;
            let root = fs::canonicalize(root)?;
            let outside = root.parent().unwrap_or(&root);
            sync_folder(outside)?;
            sync_folder(&root)?;
            remove_abandoned(&root.join(TEMPORARY))?;
            Ok(root)
        })();
        let root = opened.map_err(|error: io::Error| {
            Error::failed(format!("opening folder {}", root.display()), &error)
        })?;
        Ok(LocalFolder {
            durable_folders: Mutex::new(HashSet::from([root.clone()])),
            next_temporary: AtomicU64::new(0),
            root,
        })
    }

    pub(crate) fn put(&self, object: &str, parts: &[Bytes]) -> Result<(), Error> {
        self.write(object, |file| {
            parts.iter().try_for_each(|part| file.write_all(part))
        })
    }

    pub(crate) fn put_file(&self, object: &str, source: &Path) -> Result<u64, Error> {
        let mut source = File::open(source)
            .map_err(|error| Error::failed(format!("opening file {}", source.display()), &error))?;
        let mut copied = 0;
        self.write(object, |file| {
            copied = io::copy(&mut source, file)?;
            Ok(())
        })?;
        Ok(copied)
    }

    fn write(
        &self,
        object: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), Error> {
        let written = (|| {
            let mut temporary = self.temporary()?;
            fill(&mut temporary.file)?;
            temporary.file.sync_all()?;
            self.give_name(&mut temporary, &self.root.join(object))
        })();
        written.map_err(|error| Error::failed(format!("writing object {object:?}"), &error))
    }

    /// Makes a new file and locks it, so that another process that opens the folder leaves it.
    fn temporary(&self) -> io::Result<Temporary> {
        loop {
            let count = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}", std::process::id());
            let path = self.root.join(TEMPORARY).join(name);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                Ok(()) => {}
                // Somebody who opens the folder now takes it for abandoned: let them have it.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let named = false;
            return Ok(Temporary { file, path, named });
        }
    }

    fn give_name(&self, temporary: &mut Temporary, target: &Path) -> io::Result<()> {
        let folder = target.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        let renamed = match fs::rename(&temporary.path, target) {
            // Somebody removed the folder since it was made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_folders(folder);
                self.make_folder(folder)?;
                fs::rename(&temporary.path, target)
            }
            renamed => renamed,
        };
        renamed?;
        temporary.named = true;
        sync_folder(folder)
    }

    /// Makes the folder and those above it, all durable: a new folder's name is in its parent.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if self.durable_folders.lock().contains(folder) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let above: Vec<&Path> = folder
            .ancestors()
            .take_while(|above| *above != self.root)
            .collect();
        for folder in &above {
            sync_folder(folder)?;
        }
        sync_folder(&self.root)?;
        let mut durable = self.durable_folders.lock();
        durable.extend(above.into_iter().map(Path::to_path_buf));
        Ok(())
    }

    fn forget_folders(&self, folder: &Path) {
        let mut durable = self.durable_folders.lock();
        durable.retain(|known| *known == self.root || !folder.starts_with(known));
    }

    pub(crate) fn ranges(&self, object: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let mut read = |file: &File, bytes: &mut [u8], at| file.read_at(bytes, at);
        self.ranges_by(&mut read, object, ranges)
    }

    /// As [`ranges`](Self::ranges), if the system has all of them in memory; `None` when it has not, or
    /// cannot tell.
    pub(crate) fn ranges_at_hand(
        &self,
        object: &str,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Bytes>>, Error> {
        let mut must_wait = false;
        let mut read = |file: &File, bytes: &mut [u8], at| {
            let read = read_at_hand(file, bytes, at);
            must_wait |= read.is_err();
            read
        };
        match self.ranges_by(&mut read, object, ranges) {
            Err(_) if must_wait => Ok(None),
            read => read.map(Some),
        }
    }

    fn ranges_by(
        &self,
        read_at: &mut ReadAt<'_>,
        object: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, Error> {
        let file = self.open_object(object)?;
        let mut out = vec![Bytes::new(); ranges.len()];
        for read in coalesce(ranges, GAP_BYTES_MAX) {
            let expected = (read.range.end - read.range.start) as usize;
            // A damaged footer may name any length: look before allocating a lot.
            if expected > 1024 * 1024 {
                let size = self.file_size(object, &file)?;
                if size < read.range.end {
                    return Err(short(object, ranges, &read.members, size));
                }
            }
            let mut bytes = vec![0; expected];
            let filled = fill(read_at, &file, &mut bytes, read.range.start)
                .map_err(|error| Error::failed(format!("reading object {object:?}"), &error))?;
            if filled < expected {
                let size = self.file_size(object, &file)?;
                return Err(short(object, ranges, &read.members, size));
            }
            distribute(&read, &Bytes::from(bytes), ranges, &mut out);
        }
        Ok(out)
    }

    pub(crate) fn size(&self, object: &str) -> Result<u64, Error> {
        let file = self.open_object(object)?;
        self.file_size(object, &file)
    }

    fn file_size(&self, object: &str, file: &File) -> Result<u64, Error> {
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
            Ok(_) => Err(not_found(object)),
            Err(error) => Err(Error::failed(
                format!("asking for the size of object {object:?}"),
                &error,
            )),
        }
    }

    fn open_object(&self, object: &str) -> Result<File, Error> {
        File::open(self.root.join(object)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => not_found(object),
            _ => Error::failed(format!("opening object {object:?}"), &error),
        })
    }

    pub(crate) fn delete(&self, object: &str) -> Result<(), Error> {
        match fs::remove_file(self.root.join(object)) {
            Err(error) if !is_absent(&error) => {
                Err(Error::failed(format!("deleting object {object:?}"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Every object below the folder `prefix`, in order of path.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Error> {
        let mut found = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while let Some(folder) = folders.pop() {
            self.list_one(&folder, &mut folders, &mut found)
                .map_err(|error| {
                    Error::failed(format!("listing objects below {folder:?}"), &error)
                })?;
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn list_one(
        &self,
        folder: &str,
        folders: &mut Vec<String>,
        found: &mut Vec<ObjectInfo>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // No object has such a name: put refuses it.
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let path = match folder {
                "" if name == TEMPORARY => continue,
                "" => name,
                _ => format!("{folder}/{name}"),
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                let bytes = metadata.len();
                let modified = nanos(&metadata.modified()?);
                found.push(ObjectInfo {
                    path,
                    bytes,
                    modified,
                });
            }
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished write");
        }
    }
}

fn not_found(object: &str) -> Error {
    Error::NotFound {
        object: object.to_owned(),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The first range of a read that reaches beyond the end of the object.
fn short(object: &str, ranges: &[Range<u64>], members: &[usize], size: u64) -> Error {
    crate::plan::beyond(ranges, members, size).map_or_else(
        || not_found(object),
        |range| Error::corrupt(object, &range, size.saturating_sub(range.start)),
    )
}

/// Reads until the buffer is full or the file ends.
fn fill(
    read_at: &mut ReadAt<'_>,
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads what the system has in memory, at most so much as is asked for; an error when it has nothing.
#[cfg(target_os = "linux")]
fn read_at_hand(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut buffers = [io::IoSliceMut::new(buffer)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    Ok(rustix::io::preadv2(file, &mut buffers, offset, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn read_at_hand(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes files that no writer has locked.
fn remove_abandoned(temporary: &Path) -> io::Result<()> {
    for entry in fs::read_dir(temporary)? {
        let path = entry?.path();
        let Ok(file) = OpenOptions::new().write(true).open(&path) else {
            continue;
        };
        if file.try_lock().is_ok() {
            match fs::remove_file(&path) {
                Err(error) if !is_absent(&error) => return Err(error),
                _ => tracing::info!(path = %path.display(), "removed an unfinished write"),
            }
        }
    }
    Ok(())
}

fn nanos(time: &std::time::SystemTime) -> i64 {
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}
