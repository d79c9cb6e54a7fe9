//! Opened segments, kept as long as there is room: a query that comes again reads no footer.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use query::SourceError;
use rpc::{SegmentId, SegmentMeta};
use segment::{Opened, Segment};
use store::ObjectStorage;
use tokio::sync::OnceCell;

/// A footer is about 1/1000 of a large segment.
const TAIL_SHARE: u64 = 768;

/// Opens segments and remembers them. Cheap to clone; clones are the same cache.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    storage: ObjectStorage,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    bytes_max: u64,
    bytes: u64,
    entries: HashMap<SegmentId, Entry>,
    by_stamp: BTreeMap<u64, SegmentId>,
    next_stamp: u64,
}

#[derive(Debug)]
struct Entry {
    cell: Arc<OnceCell<Segment>>,
    stamp: u64,
    /// 0 until the segment is open.
    bytes: u64,
}

impl Segments {
    pub(crate) fn new(storage: ObjectStorage, bytes_max: u64) -> Self {
        Segments {
            storage,
            state: Arc::new(Mutex::new(State {
                bytes_max,
                bytes: 0,
                entries: HashMap::new(),
                by_stamp: BTreeMap::new(),
                next_stamp: 0,
            })),
        }
    }

    pub(crate) fn storage(&self) -> &ObjectStorage {
        &self.storage
    }

    /// Memory that opened segments hold, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// The segment, opened. Callers that want the same one at once share the reads.
    pub(crate) async fn open(&self, meta: &SegmentMeta) -> Result<Segment, SourceError> {
        let cell = self.state.lock().touch(meta.id);
        if let Some(segment) = cell.get() {
            return Ok(segment.clone());
        }
        let segment = cell.get_or_try_init(|| self.read(meta)).await?;
        self.state.lock().opened(meta.id, &cell, segment);
        Ok(segment.clone())
    }

    async fn read(&self, meta: &SegmentMeta) -> Result<Segment, SourceError> {
        let length = meta.object_bytes;
        let mut tail_bytes = tail_bytes(length);
        let mut tail = self.range(meta, length - tail_bytes..length).await?;
        loop {
            let opened = Segment::open(&meta.path, tail.clone(), length);
            let wanted = match opened.map_err(|error| segment_error(&error))? {
                Opened::Segment(segment) => return Ok(segment),
                Opened::NeedTail(bytes) => bytes,
            };
            if wanted <= tail_bytes || wanted > length {
                return Err(SourceError::Corrupt(format!(
                    "object {:?} of {length} bytes is damaged: its footer claims {wanted} bytes",
                    meta.path
                )));
            }
            let front = self
                .range(meta, length - wanted..length - tail_bytes)
                .await?;
            tail = [front, tail].concat().into();
            tail_bytes = wanted;
        }
    }

    async fn range(&self, meta: &SegmentMeta, range: Range<u64>) -> Result<Bytes, SourceError> {
        let read = self.storage.range(&meta.path, range).await;
        read.map_err(|error| storage_error(&error))
    }
}

/// How much of the end of an object of so many bytes to read first: footers grow with it, and one read
/// shall do.
fn tail_bytes(object_bytes: u64) -> u64 {
    (segment::TAIL_BYTES + object_bytes / TAIL_SHARE).min(object_bytes)
}

impl State {
    fn touch(&mut self, id: SegmentId) -> Arc<OnceCell<Segment>> {
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        self.by_stamp.insert(stamp, id);
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            cell: Arc::default(),
            stamp,
            bytes: 0,
        });
        if entry.stamp != stamp {
            self.by_stamp.remove(&entry.stamp);
            entry.stamp = stamp;
        }
        Arc::clone(&entry.cell)
    }

    fn opened(&mut self, id: SegmentId, cell: &Arc<OnceCell<Segment>>, segment: &Segment) {
        if let Some(entry) = self.entries.get_mut(&id)
            && Arc::ptr_eq(&entry.cell, cell)
            && entry.bytes == 0
        {
            entry.bytes = segment.memory_bytes() as u64;
            self.bytes += entry.bytes;
        }
        // The one used last stays, however large it is: a segment of a million streams would
        // otherwise be read anew by every query.
        while self.bytes > self.bytes_max && self.by_stamp.len() > 1 {
            let Some((_, oldest)) = self.by_stamp.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

/// What a failed read means to a query.
pub(crate) fn storage_error(error: &store::Error) -> SourceError {
    match error.kind() {
        model::Kind::Corrupt => SourceError::Corrupt(error.to_string()),
        _ => SourceError::Unavailable(error.to_string()),
    }
}

/// What a segment that cannot be decoded means to a query.
pub(crate) fn segment_error(error: &segment::Error) -> SourceError {
    SourceError::Corrupt(error.to_string())
}
