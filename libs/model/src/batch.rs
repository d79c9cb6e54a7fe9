use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::{Labels, StreamId, TenantId, TimeRange, Timestamp};

/// What an allocator takes beside a short text, about.
const ALLOCATION_BYTES: usize = 16;

/// Index into a batch's dictionary of metadata keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetadataKey(pub u32);

/// The rows of one stream inside a [`LogBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRows {
    /// The stream's id.
    pub id: StreamId,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Which rows of the batch are its own.
    pub rows: Range<u32>,
}

/// Log records of one tenant as columns, rows of one stream side by side, otherwise in the order
/// of arrival (not sorted by time). This is what receivers build, the WAL stores, heads hold and
/// the segment encoder reads: a record is never an object of its own.
///
/// ```text
/// streams     [ a: 0..3 ][ b: 3..5 ]
/// timestamps  [ t0 | t1 | t2 | t3 | t4 ]
/// line_ends   [ 5  | 9  | 20 | 31 | 40 ]          end of each line in `lines`
/// lines       [ .....|....|...........|.. ]
/// row_ends    [ 0  | 2  | 2  | 3  | 3  ]          end of each row's pairs; empty: no row has any
/// pair_keys   [ k0 | k3 | k1 ]                    index into `keys`
/// value_ends  [ 4  | 9  | 12 ]                    end of each value in `values`
/// values      [ ....|.....|... ]
/// ```
///
/// Invariants: the `rows` of `streams` tile `0..len` in order; pairs of a row are in order of key
/// *text* with no key twice; all ends ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Whose records.
    pub tenant: TenantId,
    /// The streams, each with its rows.
    pub streams: Vec<StreamRows>,
    /// One per row.
    pub timestamps: Vec<Timestamp>,
    /// End of each line in `lines`; one per row.
    pub line_ends: Vec<u32>,
    /// All lines, one after the other.
    pub lines: Vec<u8>,
    /// The metadata keys that occur, each once.
    pub keys: Vec<Box<str>>,
    /// End of each row's pairs; one per row, or empty when no row has metadata.
    pub row_ends: Vec<u32>,
    /// The key of each pair.
    pub pair_keys: Vec<MetadataKey>,
    /// End of each value in `values`; one per pair.
    pub value_ends: Vec<u32>,
    /// All values, one after the other.
    pub values: Vec<u8>,
}

/// One record of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    batch: &'a LogBatch,
    row: usize,
}

impl LogBatch {
    /// How many records.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// The record at `row`, which must be less than [`len`](Self::len).
    pub fn row(&self, row: usize) -> Row<'_> {
        Row { batch: self, row }
    }

    /// First and last timestamp, both included; `None` when empty.
    pub fn time_bounds(&self) -> Option<(Timestamp, Timestamp)> {
        let first = *self.timestamps.iter().min()?;
        let last = *self.timestamps.iter().max()?;
        Some((first, last))
    }

    /// The records of the wanted streams at times of the range; `None` when these are all of them.
    pub fn cut(
        &self,
        mut wanted: impl FnMut(&StreamRows) -> bool,
        range: TimeRange,
    ) -> Option<LogBatch> {
        let wanted: Vec<bool> = self.streams.iter().map(&mut wanted).collect();
        let inside = |at: &Timestamp| range.contains(*at);
        if wanted.iter().all(|wanted| *wanted) && self.timestamps.iter().all(inside) {
            return None;
        }
        let mut builder = LogBatchBuilder::new(self.tenant.clone());
        let mut pairs: Vec<(&str, &[u8])> = Vec::new();
        for (stream, _) in self
            .streams
            .iter()
            .zip(wanted)
            .filter(|(_, wanted)| *wanted)
        {
            builder.stream(stream.id, &stream.labels);
            for row in stream.rows.clone() {
                let row = self.row(row as usize);
                if range.contains(row.timestamp()) {
                    pairs.clear();
                    pairs.extend(row.metadata());
                    builder.push(row.timestamp(), row.line(), &mut pairs);
                }
            }
        }
        Some(builder.finish())
    }

    /// Bytes of lines and metadata values: what a tenant's byte limits count.
    pub fn content_bytes(&self) -> usize {
        self.lines.len() + self.values.len()
    }

    /// Bytes that the batch holds in memory with the names of its metadata, labels shared with others not counted.
    pub fn memory_bytes(&self) -> usize {
        self.lines.capacity()
            + self.values.capacity()
            + self.timestamps.capacity() * 8
            + (self.line_ends.capacity() + self.row_ends.capacity()) * 4
            + (self.pair_keys.capacity() + self.value_ends.capacity()) * 4
            + self.streams.capacity() * size_of::<StreamRows>()
            + self.keys.capacity() * size_of::<Box<str>>()
            + self
                .keys
                .iter()
                .map(|key| key.len() + ALLOCATION_BYTES)
                .sum::<usize>()
    }
}

impl<'a> Row<'a> {
    /// The record's time.
    pub fn timestamp(&self) -> Timestamp {
        self.batch.timestamps[self.row]
    }

    /// The line.
    pub fn line(&self) -> &'a [u8] {
        slice(&self.batch.lines, &self.batch.line_ends, self.row)
    }

    /// Key and value of each pair, in order of key.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let batch = self.batch;
        let pairs = match batch.row_ends.get(self.row) {
            None => 0..0,
            Some(end) => {
                let start = self.row.checked_sub(1).map_or(0, |row| batch.row_ends[row]);
                start as usize..*end as usize
            }
        };
        pairs.map(move |pair| {
            let key = &*batch.keys[batch.pair_keys[pair].0 as usize];
            (key, slice(&batch.values, &batch.value_ends, pair))
        })
    }

    /// What makes this record itself.
    pub fn identity(&self) -> crate::RecordIdentity {
        let metadata = self.metadata().map(|(key, value)| (key.as_bytes(), value));
        crate::RecordIdentity::of(self.timestamp(), self.line(), metadata)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u32], at: usize) -> &'a [u8] {
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start as usize..ends[at] as usize]
}

/// Builds a [`LogBatch`]. Name a stream, then push its records; a stream may be named again only
/// right after itself. Nothing is allocated per record once the columns have grown.
#[derive(Debug)]
pub struct LogBatchBuilder {
    batch: LogBatch,
    keys: HashMap<Box<str>, MetadataKey>,
}

impl LogBatchBuilder {
    /// Most bytes of lines, or of values, that one batch can hold: offsets are 32 bits wide.
    pub const BYTES_MAX: usize = u32::MAX as usize;

    /// An empty batch of `tenant`.
    pub fn new(tenant: TenantId) -> Self {
        LogBatchBuilder {
            batch: LogBatch {
                tenant,
                streams: Vec::new(),
                timestamps: Vec::new(),
                line_ends: Vec::new(),
                lines: Vec::new(),
                keys: Vec::new(),
                row_ends: Vec::new(),
                pair_keys: Vec::new(),
                value_ends: Vec::new(),
                values: Vec::new(),
            },
            keys: HashMap::new(),
        }
    }

    /// Makes room for about `rows` records with `line_bytes` of lines.
    pub fn reserve(&mut self, rows: usize, line_bytes: usize) {
        self.batch.timestamps.reserve(rows);
        self.batch.line_ends.reserve(rows);
        self.batch.lines.reserve(line_bytes);
    }

    /// The records pushed next belong to this stream.
    pub fn stream(&mut self, id: StreamId, labels: &Arc<Labels>) {
        if self.batch.streams.last().is_none_or(|last| last.id != id) {
            self.stream_of(id, Arc::clone(labels));
        }
    }

    /// The labels of the stream named last.
    pub fn labels(&self) -> Option<&Arc<Labels>> {
        self.batch.streams.last().map(|stream| &stream.labels)
    }

    /// As [`stream`](Self::stream), for who has no other use for the labels: what counts who shares them
    /// is often far away in memory.
    pub fn stream_of(&mut self, id: StreamId, labels: Arc<Labels>) {
        if self.batch.streams.last().is_some_and(|last| last.id == id) {
            return;
        }
        let row = self.batch.timestamps.len() as u32;
        if let Some(last) = self.batch.streams.last()
            && last.rows.is_empty()
        {
            self.batch.streams.pop();
        }
        self.batch.streams.push(StreamRows {
            id,
            labels,
            rows: row..row,
        });
    }

    /// Adds one record to the stream named last. Sorts `metadata` by key in place; of equal keys
    /// the later one wins. A pair with an empty value is kept.
    ///
    /// # Panics
    /// When no stream was named, or when the batch would hold more than
    /// [`BYTES_MAX`](Self::BYTES_MAX) bytes; receivers bound their bodies far below.
    pub fn push(&mut self, timestamp: Timestamp, line: &[u8], metadata: &mut [(&str, &[u8])]) {
        let batch = &mut self.batch;
        batch.timestamps.push(timestamp);
        batch.lines.extend_from_slice(line);
        assert!(batch.lines.len() <= Self::BYTES_MAX, "batch over 4 GiB");
        batch.line_ends.push(batch.lines.len() as u32);
        let rows = batch.timestamps.len();
        #[expect(clippy::expect_used, reason = "documented as a panic")]
        let stream = batch.streams.last_mut().expect("a stream is named first");
        stream.rows.end = rows as u32;
        if metadata.is_empty() && batch.row_ends.is_empty() {
            return;
        }
        if batch.row_ends.is_empty() {
            batch.row_ends.resize(rows - 1, 0);
        }
        self.push_metadata(metadata);
        self.batch.row_ends.push(self.batch.pair_keys.len() as u32);
    }

    fn push_metadata(&mut self, metadata: &mut [(&str, &[u8])]) {
        metadata.sort_by(|a, b| a.0.cmp(b.0));
        for at in 0..metadata.len() {
            let (key, value) = metadata[at];
            if metadata.get(at + 1).is_some_and(|next| next.0 == key) {
                continue;
            }
            let key = self.key(key);
            let batch = &mut self.batch;
            batch.pair_keys.push(key);
            batch.values.extend_from_slice(value);
            assert!(batch.values.len() <= Self::BYTES_MAX, "batch over 4 GiB");
            batch.value_ends.push(batch.values.len() as u32);
        }
    }

    fn key(&mut self, key: &str) -> MetadataKey {
        if let Some(id) = self.keys.get(key) {
            return *id;
        }
        let id = MetadataKey(self.batch.keys.len() as u32);
        self.batch.keys.push(key.into());
        self.keys.insert(key.into(), id);
        id
    }

    /// How many records so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The batch; streams without records are left out.
    pub fn finish(mut self) -> LogBatch {
        self.batch.streams.retain(|stream| !stream.rows.is_empty());
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signal;

    fn stream(app: &str) -> (StreamId, Arc<Labels>) {
        let labels = Labels::new([("app", app)]).unwrap();
        let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
        (id, Arc::new(labels))
    }

    fn pairs(batch: &LogBatch, row: usize) -> Vec<(&str, &[u8])> {
        batch.row(row).metadata().collect()
    }

    #[test]
    fn rows_come_back_as_they_were_pushed() {
        let mut builder = LogBatchBuilder::new(TenantId::default());
        let ((a, a_labels), (b, b_labels)) = (stream("a"), stream("b"));
        builder.stream(a, &a_labels);
        builder.push(3, b"three", &mut []);
        builder.push(1, b"", &mut [("z", b"1"), ("k", b"2"), ("z", b"3")]);
        builder.stream(b, &b_labels);
        builder.push(2, b"two", &mut []);
        let batch = builder.finish();
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.row(0).line(), b"three");
        assert_eq!(batch.row(1).line(), b"");
        assert_eq!(batch.row(2).timestamp(), 2);
        assert_eq!(pairs(&batch, 0), []);
        assert_eq!(pairs(&batch, 1), [("k", &b"2"[..]), ("z", &b"3"[..])]);
        assert_eq!(pairs(&batch, 2), []);
        assert_eq!(batch.streams[0].rows, 0..2);
        assert_eq!(batch.streams[1].rows, 2..3);
        assert_eq!(batch.time_bounds(), Some((1, 3)));
    }

    #[test]
    fn a_cut_batch_has_the_wanted_records_as_they_were() {
        let mut builder = LogBatchBuilder::new(TenantId::default());
        let ((a, a_labels), (b, b_labels)) = (stream("a"), stream("b"));
        builder.stream(a, &a_labels);
        builder.push(1, b"one", &mut [("k", b"1")]);
        builder.push(2, b"two", &mut []);
        builder.push(3, b"three", &mut [("z", b"3"), ("k", b"")]);
        builder.stream(b, &b_labels);
        builder.push(2, b"other", &mut []);
        let batch = builder.finish();
        assert_eq!(batch.cut(|_| true, TimeRange::ALL), None);
        let cut = batch
            .cut(|stream| stream.id == a, TimeRange::new(2, 4))
            .unwrap();
        assert_eq!(cut.len(), 2);
        for (row, was) in [(0, 1), (1, 2)] {
            assert_eq!(cut.row(row).identity(), batch.row(was).identity());
            assert_eq!(pairs(&cut, row), pairs(&batch, was));
        }
        assert_eq!((cut.streams.len(), cut.streams[0].rows.clone()), (1, 0..2));
        assert!(
            batch
                .cut(|_| true, TimeRange::new(9, 10))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_stream_without_records_is_left_out() {
        let mut builder = LogBatchBuilder::new(TenantId::default());
        let ((a, a_labels), (b, b_labels)) = (stream("a"), stream("b"));
        builder.stream(a, &a_labels);
        builder.stream(b, &b_labels);
        builder.push(1, b"x", &mut []);
        builder.stream(a, &a_labels);
        let batch = builder.finish();
        assert_eq!(batch.streams.len(), 1);
        assert_eq!(batch.streams[0].id, b);
    }
}
