//! Opened segments, kept as long as there is room: a query that comes again reads no footer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use query::SourceError;
use rpc::{SegmentId, SegmentMeta};
use segment::{Opened, Segment};
use store::ObjectStorage;
use tokio::sync::OnceCell;

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
        let mut tail_bytes = segment::TAIL_BYTES.min(meta.object_bytes);
        loop {
            let range = meta.object_bytes - tail_bytes..meta.object_bytes;
            let tail = self.storage.range(&meta.path, range).await;
            let tail = tail.map_err(|error| storage_error(&error))?;
            let opened = Segment::open(&meta.path, tail, meta.object_bytes);
            match opened.map_err(|error| segment_error(&error))? {
                Opened::Segment(segment) => return Ok(segment),
                Opened::NeedTail(bytes) if bytes > tail_bytes && bytes <= meta.object_bytes => {
                    tail_bytes = bytes;
                }
                Opened::NeedTail(bytes) => {
                    return Err(SourceError::Corrupt(format!(
                        "object {:?} of {} bytes is damaged: its footer claims {bytes} bytes",
                        meta.path, meta.object_bytes
                    )));
                }
            }
        }
    }
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
