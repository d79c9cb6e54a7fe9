//! The disk under a log: takes its time, and loses at a crash what was not synced.

use std::fmt;
use std::io::{self, Cursor, IoSlice, Read};
use std::sync::Arc;
use std::time::Duration;

use ingester::{LogFile, LogFiles};
use parking_lot::Mutex;
use runtime::Blocking;
use segment::wal::FileHeader;
use testkit::sim_disk::SimDisk;

use crate::dice::Dice;
use crate::life::Life;
use crate::trace::Trace;

/// How fast a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskPace {
    pub(crate) sync_min: Duration,
    pub(crate) sync_max: Duration,
    /// 0 = as many as one likes.
    pub(crate) bytes_per_second: u64,
}

/// What is told of files that are removed: the bytes that were acknowledged, at most.
pub(crate) type Removed = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// One run's way to its disk.
#[derive(Clone)]
pub(crate) struct LogDisk {
    pub(crate) life: Arc<Life>,
    pub(crate) disk: SimDisk,
    pub(crate) pace: Arc<Mutex<DiskPace>>,
    pub(crate) dice: Arc<Dice>,
    pub(crate) blocking: Blocking,
    pub(crate) trace: Arc<Trace>,
    pub(crate) removed: Removed,
}

#[derive(Debug)]
struct OpenFile {
    of: LogDisk,
    name: String,
}

impl LogDisk {
    fn take_time(&self, time: Duration) {
        if !time.is_zero() {
            self.blocking.wait(tokio::time::sleep(time));
        }
    }

    fn sync_time(&self) -> Duration {
        let pace = *self.pace.lock();
        self.dice.between(pace.sync_min, pace.sync_max)
    }

    fn write_time(&self, bytes: usize) -> Duration {
        match self.pace.lock().bytes_per_second {
            0 => Duration::ZERO,
            speed => Duration::from_secs_f64(bytes as f64 / speed as f64),
        }
    }

    /// What had been synced of a file. Where the file after it says that it ends before, the rest was
    /// refused.
    fn acknowledged(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = self.disk.read_durable(name)?;
        let number = name
            .strip_prefix("wal-")
            .and_then(|name| name.strip_suffix(".log"));
        let number: Option<u64> = number.and_then(|digits| digits.parse().ok());
        let next = number.map(|number| format!("wal-{:016}.log", number + 1));
        let next = next.and_then(|next| self.disk.read(&next).ok());
        let header = next.as_ref().and_then(|next| next.first_chunk());
        let header = header.and_then(|header| FileHeader::decode(header).ok());
        if let Some((before, end)) = header.and_then(|header| header.previous)
            && Some(before) == number
        {
            bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        }
        Ok(bytes)
    }

    fn tell(&self, what: &str, name: &str, result: &io::Result<()>) {
        let of = &self.life.address;
        match result {
            Ok(()) => self.trace.tell(format_args!("{of} {what} {name}")),
            Err(error) => self.trace.tell(format_args!("{of} {what} {name}: {error}")),
        }
    }
}

impl LogFiles for LogDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.list())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.disk.create(name)?;
        Ok(Box::new(OpenFile {
            of: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let bytes = self.disk.read(name)?;
        let len = bytes.len() as u64;
        Ok((Box::new(Cursor::new(bytes)), len))
    }

    fn sync_file(&self, name: &str) -> io::Result<()> {
        self.take_time(self.sync_time());
        self.disk.sync(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let synced = self.acknowledged(name);
        let removed = self.disk.remove(name);
        if let (Ok(synced), Ok(())) = (synced, &removed) {
            self.tell("removes", name, &removed);
            (self.removed)(name, &synced);
        }
        removed
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.take_time(self.sync_time());
        self.disk.sync_folder()
    }
}

impl LogFile for OpenFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.of.take_time(self.of.write_time(bytes.len()));
        self.of.disk.append(&self.name, &bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.of.take_time(self.of.sync_time());
        let synced = self.of.disk.sync(&self.name);
        self.of.tell("syncs", &self.name, &synced);
        synced
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.of.disk.truncate(&self.name, bytes)
    }
}

impl fmt::Debug for LogDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDisk")
            .field("of", &self.life.address)
            .finish_non_exhaustive()
    }
}
