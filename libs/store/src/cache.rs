use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Error, ObjectStorage};

/// What an entry costs besides its bytes: key, path handle, two index entries, allocator.
const ENTRY_OVERHEAD_BYTES: u64 = 200;

/// Keeps ranges that were read, up to a number of bytes; the least recently used go first.
///
/// It is for small reads that repeat, such as footers and filters. Objects are immutable, so that
/// nothing ever becomes stale. When several callers want the same range at once, one reads it and
/// the others wait. Cheap to clone; clones are the same cache.
#[derive(Clone, Debug)]
pub struct RangeCache {
    storage: ObjectStorage,
    state: Arc<Mutex<State>>,
}

/// What a cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Ranges served from memory, or by waiting for another caller's read.
    pub hits: u64,
    /// Ranges read from the storage.
    pub misses: u64,
    /// Ranges held now.
    pub entries: u64,
    /// Bytes held now, bookkeeping included.
    pub bytes: u64,
}

type Answer = Option<Result<Bytes, Error>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    path: Arc<str>,
    start: u64,
    end: u64,
}

#[derive(Debug)]
struct State {
    bytes_max: u64,
    /// The stamp says when an entry was used last.
    entries: HashMap<Key, (Bytes, u64)>,
    by_stamp: BTreeMap<u64, Key>,
    next_stamp: u64,
    loading: HashMap<Key, watch::Receiver<Answer>>,
    counts: CacheCounts,
}

/// The ranges that one call reads; when the call is dropped before it ends, nobody waits for it in
/// vain: the senders close, and one of the waiters reads instead.
struct Loads<'a> {
    state: &'a Mutex<State>,
    loads: Vec<(usize, Key, watch::Sender<Answer>)>,
}

impl RangeCache {
    /// A cache of at most `bytes_max` bytes; 0 keeps nothing (but still joins equal reads).
    pub fn new(storage: ObjectStorage, bytes_max: u64) -> Self {
        RangeCache {
            storage,
            state: Arc::new(Mutex::new(State {
                bytes_max,
                entries: HashMap::new(),
                by_stamp: BTreeMap::new(),
                next_stamp: 0,
                loading: HashMap::new(),
                counts: CacheCounts::default(),
            })),
        }
    }

    /// The storage below.
    pub fn storage(&self) -> &ObjectStorage {
        &self.storage
    }

    /// Like [`ObjectStorage::ranges`]; what is missing is read in one go.
    ///
    /// # Errors
    /// As [`ObjectStorage::ranges`]. Errors are not kept.
    pub async fn ranges(
        &self,
        path: &Arc<str>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, Error> {
        let mut out = vec![None; ranges.len()];
        // Each round either fills every range or finds that a reader it waited for went away.
        while out.iter().any(Option::is_none) {
            let (loads, waits) = self
                .state
                .lock()
                .look_up(&self.state, path, ranges, &mut out);
            self.load(path, loads, &mut out).await?;
            for (at, mut answer) in waits {
                if let Ok(answer) = answer.wait_for(Option::is_some).await {
                    out[at] = answer.clone().transpose()?;
                }
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    /// Like [`ObjectStorage::range`].
    ///
    /// # Errors
    /// As [`ObjectStorage::ranges`].
    pub async fn range(&self, path: &Arc<str>, range: Range<u64>) -> Result<Bytes, Error> {
        let mut read = self.ranges(path, std::slice::from_ref(&range)).await?;
        Ok(read.pop().unwrap_or_default())
    }

    /// What it did so far.
    pub fn counts(&self) -> CacheCounts {
        self.state.lock().counts
    }

    async fn load(
        &self,
        path: &Arc<str>,
        mut loads: Loads<'_>,
        out: &mut [Option<Bytes>],
    ) -> Result<(), Error> {
        if loads.loads.is_empty() {
            return Ok(());
        }
        let ranges: Vec<Range<u64>> = loads
            .loads
            .iter()
            .map(|(_, key, _)| key.start..key.end)
            .collect();
        let read = self.storage.ranges(path, &ranges).await;
        let mut state = self.state.lock();
        let mut answers = match &read {
            Ok(read) => read.iter().map(|bytes| Ok(bytes.clone())).collect(),
            Err(error) => vec![Err(error.clone()); ranges.len()],
        };
        for ((at, key, sender), answer) in loads.loads.drain(..).zip(answers.drain(..)) {
            state.loading.remove(&key);
            // A copy: the ranges of one read share its memory, and would hold all of it.
            let answer = answer.map(|bytes| Bytes::copy_from_slice(&bytes));
            if let Ok(bytes) = &answer {
                state.insert(key, bytes.clone());
                out[at] = Some(bytes.clone());
            }
            sender.send_replace(Some(answer));
        }
        drop(state);
        read.map(|_| ())
    }
}

impl State {
    /// Fills what is there; says what to read and whom to wait for.
    fn look_up<'a>(
        &mut self,
        state: &'a Mutex<State>,
        path: &Arc<str>,
        ranges: &[Range<u64>],
        out: &mut [Option<Bytes>],
    ) -> (Loads<'a>, Vec<(usize, watch::Receiver<Answer>)>) {
        let mut loads = Vec::new();
        let mut waits = Vec::new();
        for (at, range) in ranges.iter().enumerate() {
            if out[at].is_some() {
                continue;
            }
            if range.start >= range.end {
                out[at] = Some(Bytes::new());
                continue;
            }
            let key = Key {
                path: Arc::clone(path),
                start: range.start,
                end: range.end,
            };
            if let Some(bytes) = self.touch(&key) {
                self.counts.hits += 1;
                out[at] = Some(bytes);
            } else if let Some(answer) = self.loading.get(&key) {
                self.counts.hits += 1;
                waits.push((at, answer.clone()));
            } else {
                self.counts.misses += 1;
                let (sender, answer) = watch::channel(None);
                self.loading.insert(key.clone(), answer);
                loads.push((at, key, sender));
            }
        }
        (Loads { state, loads }, waits)
    }

    fn touch(&mut self, key: &Key) -> Option<Bytes> {
        let (bytes, stamp) = self.entries.get_mut(key)?;
        let used = self.by_stamp.remove(stamp)?;
        *stamp = self.next_stamp;
        self.by_stamp.insert(self.next_stamp, used);
        self.next_stamp += 1;
        Some(bytes.clone())
    }

    fn insert(&mut self, key: Key, bytes: Bytes) {
        let cost = cost(&bytes);
        if cost > self.bytes_max || self.entries.contains_key(&key) {
            return;
        }
        self.counts.bytes += cost;
        while self.counts.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_stamp.pop_first() else {
                break;
            };
            if let Some((bytes, _)) = self.entries.remove(&oldest) {
                self.counts.bytes -= self::cost(&bytes);
            }
        }
        self.by_stamp.insert(self.next_stamp, key.clone());
        self.entries.insert(key, (bytes, self.next_stamp));
        self.next_stamp += 1;
        self.counts.entries = self.entries.len() as u64;
    }
}

impl Drop for Loads<'_> {
    fn drop(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for (_, key, _) in &self.loads {
            state.loading.remove(key);
        }
    }
}

fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + ENTRY_OVERHEAD_BYTES
}
