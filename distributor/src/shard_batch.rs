use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use model::{Labels, LogBatch, LogBatchBuilder, StreamId, StreamRows, TenantId};

/// The records of one shard in one request. A [`LogBatchBuilder`] wants each stream in one piece;
/// requests may name one as often as they like. So the first piece of each stream goes to the main
/// builder, and all further ones to a builder of their own, to be put together in the end.
pub(crate) struct ShardBatch {
    tenant: TenantId,
    main: LogBatchBuilder,
    /// The streams that were named, and their places in that list by id: numbers need so little memory
    /// that they stay near.
    named: Vec<StreamId>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// By stream, its place among the further builders.
    again: HashMap<StreamId, usize>,
    further: Vec<LogBatchBuilder>,
    last: Option<(StreamId, Place)>,
}

/// A guess at how long a line with its time is, for the number of rows to make room for.
const USUAL_LINE_BYTES: usize = 128;
/// A guess at the same of a stream with its lines, where streams are many; most make room in vain for 5 bytes.
const LEAST_STREAM_BYTES: usize = 256;

/// Which builder takes a stream's next records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Main,
    /// The builder of that index among the further ones.
    Further(usize),
}

impl ShardBatch {
    /// An empty batch with room for about `bytes` of lines of usual length.
    pub(crate) fn new(tenant: &TenantId, bytes: usize) -> Self {
        let mut main = LogBatchBuilder::new(tenant.clone());
        main.reserve(bytes / USUAL_LINE_BYTES, bytes);
        ShardBatch {
            tenant: tenant.clone(),
            main,
            named: Vec::new(),
            numbers: HashTable::with_capacity(bytes / LEAST_STREAM_BYTES),
            hasher: DefaultHashBuilder::default(),
            again: HashMap::new(),
            further: Vec::new(),
            last: None,
        }
    }

    /// The records pushed next are of this stream; the builder at the place takes them.
    pub(crate) fn stream(&mut self, id: StreamId, labels: Arc<Labels>) -> Place {
        if let Some((last, place)) = self.last
            && last == id
        {
            return place;
        }
        let (named, hasher) = (&mut self.named, &self.hasher);
        let found = self.numbers.entry(
            hasher.hash_one(id),
            |number| named[*number as usize] == id,
            |number| hasher.hash_one(named[*number as usize]),
        );
        let place = match found {
            Entry::Vacant(entry) => {
                entry.insert(named.len() as u32);
                named.push(id);
                self.main.stream_of(id, labels);
                Place::Main
            }
            Entry::Occupied(_) => {
                let index = *self.again.entry(id).or_insert_with(|| {
                    let mut builder = LogBatchBuilder::new(self.tenant.clone());
                    builder.stream_of(id, labels);
                    self.further.push(builder);
                    self.further.len() - 1
                });
                Place::Further(index)
            }
        };
        self.last = Some((id, place));
        place
    }

    #[inline]
    pub(crate) fn builder(&mut self, place: Place) -> &mut LogBatchBuilder {
        match place {
            Place::Main => &mut self.main,
            Place::Further(index) => &mut self.further[index],
        }
    }

    /// The labels of the stream that was named last at the place.
    pub(crate) fn labels(&self, place: Place) -> Option<&Arc<Labels>> {
        match place {
            Place::Main => self.main.labels(),
            Place::Further(index) => self.further[index].labels(),
        }
    }

    /// The whole batch, each stream in one piece; perhaps empty.
    pub(crate) fn finish(self) -> LogBatch {
        let main = self.main.finish();
        if self.further.is_empty() {
            return main;
        }
        let further: Vec<LogBatch> = self
            .further
            .into_iter()
            .map(LogBatchBuilder::finish)
            .collect();
        let mut order: Vec<StreamId> = Vec::new();
        let mut pieces: HashMap<StreamId, Vec<(&LogBatch, &StreamRows)>> = HashMap::new();
        for batch in std::iter::once(&main).chain(&further) {
            for rows in &batch.streams {
                let of_stream = pieces.entry(rows.id).or_default();
                if of_stream.is_empty() {
                    order.push(rows.id);
                }
                of_stream.push((batch, rows));
            }
        }
        let mut whole = LogBatchBuilder::new(self.tenant);
        for (batch, rows) in order.iter().flat_map(|id| &pieces[id]) {
            copy_rows(batch, rows, &mut whole);
        }
        whole.finish()
    }
}

fn copy_rows(batch: &LogBatch, rows: &StreamRows, into: &mut LogBatchBuilder) {
    into.stream(rows.id, &rows.labels);
    let mut metadata = Vec::new();
    for row in rows.rows.clone() {
        let row = batch.row(row as usize);
        metadata.clear();
        metadata.extend(row.metadata());
        into.push(row.timestamp(), row.line(), &mut metadata);
    }
}
