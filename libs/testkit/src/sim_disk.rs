//! A folder of append-only files in memory that fails as a disk does: it runs full, tears writes,
//! loses what was not synced, and refuses to sync.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

/// One simulated folder; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Content>,
    /// Names that survive a crash.
    durable_names: BTreeMap<String, Arc<Mutex<Bytes>>>,
    room: Option<u64>,
    failing_syncs: u32,
    syncs: u64,
    /// Calls until the power fails.
    calls_left: Option<u64>,
}

type Content = Arc<Mutex<Bytes>>;

#[derive(Clone, Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    /// What was there at the last sync.
    durable: Vec<u8>,
}

impl SimDisk {
    /// An empty folder on a disk without limits.
    pub fn new() -> Self {
        SimDisk::default()
    }

    /// From now on only so many more bytes fit; `None` for no limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state.lock().room = bytes;
    }

    /// The next so many syncs of files fail, and the bytes in question are not durable, though they
    /// can still be read: as a page cache has it after a failed write-back.
    pub fn fail_syncs(&self, count: u32) {
        self.state.lock().failing_syncs = count;
    }

    /// After so many more changing calls the power fails: that call and all later ones do nothing
    /// and fail.
    pub fn cut_power_after(&self, calls: u64) {
        self.state.lock().calls_left = Some(calls);
    }

    /// Whether the power has failed.
    pub fn is_dead(&self) -> bool {
        self.state.lock().calls_left == Some(0)
    }

    /// How many syncs of files succeeded.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// What a reboot finds. Synced bytes are there. Of the bytes written since, `keep` of them
    /// (counted from the front) are there and, when `garbage`, the rest of them as zeros. Files
    /// whose name was not synced are there only when `names`.
    pub fn after_crash(&self, keep: u64, garbage: bool, names: bool) -> SimDisk {
        let state = self.state.lock();
        let source = if names {
            &state.files
        } else {
            &state.durable_names
        };
        let mut left = keep;
        let files = source.iter().map(|(name, content)| {
            let content = content.lock();
            let mut bytes = content.durable.clone();
            if content.now.len() > bytes.len() {
                let lost = &content.now[bytes.len()..];
                let kept = lost.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                left -= kept as u64;
                bytes.extend_from_slice(&lost[..kept]);
                if garbage {
                    bytes.resize(content.now.len(), 0);
                }
            }
            let bytes = Bytes {
                durable: bytes.clone(),
                now: bytes,
            };
            (name.clone(), Arc::new(Mutex::new(bytes)))
        });
        let files: BTreeMap<String, Content> = files.collect();
        let disk = SimDisk::new();
        {
            let mut state = disk.state.lock();
            state.durable_names = files.clone();
            state.files = files;
        }
        disk
    }

    /// Names of all files.
    pub fn list(&self) -> Vec<String> {
        self.state.lock().files.keys().cloned().collect()
    }

    /// All bytes of a file, as a reader sees them now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.content(name)?.lock().now.clone())
    }

    /// The bytes of a file that were there at its last sync.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_durable(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.content(name)?.lock().durable.clone())
    }

    /// The power fails now: every changing call from here on does nothing and fails.
    pub fn cut_power(&self) {
        self.state.lock().calls_left = Some(0);
    }

    /// Changes bytes in place, durably: damage.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let content = self.content(name)?;
        let mut content = content.lock();
        change(&mut content.now);
        content.durable = content.now.clone();
        Ok(())
    }

    /// Makes an empty file.
    ///
    /// # Errors
    /// `AlreadyExists`, or the power is out.
    pub fn create(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        if state.files.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), Content::default());
        Ok(())
    }

    /// Adds bytes at the end. When they do not fit, those that do are written.
    ///
    /// # Errors
    /// `StorageFull`, `NotFound`, or the power is out.
    pub fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        let content = state.files.get(name).ok_or(ErrorKind::NotFound)?;
        let mut content = content.lock();
        let room = state.room.unwrap_or(u64::MAX);
        let fitting = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        content.now.extend_from_slice(&bytes[..fitting]);
        drop(content);
        if let Some(room) = &mut state.room {
            *room -= fitting as u64;
        }
        match fitting == bytes.len() {
            true => Ok(()),
            false => Err(ErrorKind::StorageFull.into()),
        }
    }

    /// Makes a file's bytes durable.
    ///
    /// # Errors
    /// `NotFound`, the power is out, or a failure that was asked for.
    pub fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::other("the disk did not take the bytes"));
        }
        let content = state.files.get(name).ok_or(ErrorKind::NotFound)?;
        let mut content = content.lock();
        content.durable = content.now.clone();
        drop(content);
        state.syncs += 1;
        Ok(())
    }

    /// Cuts a file; durable after a sync.
    ///
    /// # Errors
    /// `NotFound`, or the power is out.
    pub fn truncate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        let content = state.files.get(name).ok_or(ErrorKind::NotFound)?;
        let mut content = content.lock();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let freed = content.now.len().saturating_sub(bytes) as u64;
        content.now.truncate(bytes);
        drop(content);
        if let Some(room) = &mut state.room {
            *room += freed;
        }
        Ok(())
    }

    /// Removes a file, if it is there; its name is gone for good after a sync of the folder.
    ///
    /// # Errors
    /// The power is out.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        if let Some(content) = state.files.remove(name)
            && let Some(room) = &mut state.room
        {
            *room += content.lock().now.len() as u64;
        }
        Ok(())
    }

    /// Makes the names of all files durable.
    ///
    /// # Errors
    /// The power is out.
    pub fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.durable_names = state.files.clone();
        Ok(())
    }

    fn content(&self, name: &str) -> io::Result<Content> {
        let state = self.state.lock();
        let content = state.files.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::clone(content))
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is out")),
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    return Err(io::Error::other("the power is out"));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let disk = SimDisk::new();
        disk.create("a").unwrap();
        disk.append("a", b"one").unwrap();
        disk.sync("a").unwrap();
        disk.append("a", b"two").unwrap();
        assert!(disk.after_crash(9, false, false).list().is_empty());
        disk.sync_folder().unwrap();
        let after = |keep, garbage| disk.after_crash(keep, garbage, false).read("a").unwrap();
        assert_eq!(after(0, false), b"one");
        assert_eq!(after(2, false), b"onetw");
        assert_eq!(after(1, true), b"onet\0\0");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimDisk::new();
        disk.create("a").unwrap();
        disk.set_room(Some(2));
        let error = disk.append("a", b"one").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(disk.read("a").unwrap(), b"on");
        disk.truncate("a", 0).unwrap();
        disk.append("a", b"on").unwrap();
    }
}
