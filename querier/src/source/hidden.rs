//! Records that are stored and must not be shown: those older than their tenant's retention, and
//! those that an active delete request names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::{Labels, Row, RowBlock, TenantId, TimeRange, Timestamp};
use parking_lot::Mutex;
use query::SourceError;
use query::logql::engine::{RecordFilter, RecordFilterError, RecordTest};
use rpc::{Catalog, DeleteId, DeleteRequest};
use segment::{PlannedChunk, ScanSpec, Segment};

/// How long records are kept by default, and the delete requests that were compiled already.
/// Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Hiding {
    retention_nanos: i64,
    compiled: Arc<Mutex<HashMap<DeleteId, Arc<RecordFilter>>>>,
}

/// What is hidden of one tenant, at one version of the catalog.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    kept: TimeRange,
    deletes: Vec<Delete>,
}

/// What a delete request names: times, and which records.
pub(super) type Delete = (TimeRange, Arc<RecordFilter>);

/// A worker's memory for [`Hidden`].
#[derive(Debug, Default)]
pub(crate) struct HiddenTest {
    deletes: Vec<(TimeRange, RecordTest)>,
    /// Those that select the stream.
    selecting: Vec<usize>,
}

impl Hiding {
    /// Records without a setting of their tenant's are kept so long; 0 is for ever.
    pub(crate) fn new(retention_nanos: i64) -> Self {
        Hiding {
            retention_nanos,
            compiled: Arc::default(),
        }
    }

    /// The times whose records have not expired.
    pub(crate) fn kept(&self, catalog: &Catalog, tenant: &TenantId, now: Timestamp) -> TimeRange {
        catalog.kept(tenant, now, self.retention_nanos)
    }

    /// # Errors
    /// `Unavailable` for a request that this release does not understand.
    pub(crate) fn of(
        &self,
        catalog: &Catalog,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Hidden, SourceError> {
        let kept = self.kept(catalog, tenant, now);
        let mut deletes = Vec::new();
        for (id, request) in catalog.active_deletes(tenant, kept) {
            deletes.push((request.range, self.compile(catalog, id, request)?));
        }
        Ok(Hidden { kept, deletes })
    }

    fn compile(
        &self,
        catalog: &Catalog,
        id: DeleteId,
        request: &DeleteRequest,
    ) -> Result<Arc<RecordFilter>, SourceError> {
        if let Some(filter) = self.compiled.lock().get(&id) {
            return Ok(Arc::clone(filter));
        }
        let filter = RecordFilter::parse(&request.query)
            .map_err(|error| not_understood(id, &request.query, &error))?;
        let filter = Arc::new(filter);
        let mut compiled = self.compiled.lock();
        compiled.retain(|id, _| catalog.deletes.contains_key(id));
        compiled.insert(id, Arc::clone(&filter));
        Ok(filter)
    }
}

impl Hidden {
    /// What is hidden of a share of another querier's query; records outside of `kept` are not its own.
    ///
    /// # Errors
    /// `Unavailable` for a request that this release does not understand.
    pub(crate) fn of_share(
        kept: TimeRange,
        deletes: &[(DeleteId, TimeRange, Arc<str>)],
    ) -> Result<Hidden, SourceError> {
        let compiled = deletes.iter().map(|(id, range, query)| {
            let filter =
                RecordFilter::parse(query).map_err(|error| not_understood(*id, query, &error))?;
            Ok((*range, Arc::new(filter)))
        });
        let deletes = compiled.collect::<Result<_, SourceError>>()?;
        Ok(Hidden { kept, deletes })
    }

    /// The part of a range whose records have not expired.
    pub(crate) fn kept(&self, range: TimeRange) -> TimeRange {
        self.kept.intersection(&range)
    }

    /// Whether deletes may hide rows of a chunk.
    pub(crate) fn touches(&self, chunk: &PlannedChunk) -> bool {
        let mut streams = chunk.streams.iter();
        streams.any(|stream| self.touches_stream(&stream.labels, stream.first, stream.last))
    }

    /// Whether deletes may hide records of a stream from `first` to `last`, both included.
    pub(crate) fn touches_stream(
        &self,
        labels: &Labels,
        first: Timestamp,
        last: Timestamp,
    ) -> bool {
        self.of_stream(labels, first, last).next().is_some()
    }

    /// Whether deletes hide all rows of a chunk that are within the range.
    pub(crate) fn hides_all(&self, chunk: &PlannedChunk, range: TimeRange) -> bool {
        let mut streams = chunk.streams.iter();
        streams.all(|stream| {
            let (first, last) = (
                stream.first.max(range.start),
                stream.last.min(range.end - 1),
            );
            self.deletes.iter().any(|(deleted, filter)| {
                filter.is_whole()
                    && deleted.covers(first, last)
                    && filter.selector().is_match(&stream.labels)
            })
        })
    }

    /// The chunks of a segment that may have hidden rows within the range, by their numbers: as far as
    /// its tables and templates tell.
    pub(crate) fn chunks_of(
        &self,
        segment: &Segment,
        tenant: &TenantId,
        range: TimeRange,
    ) -> HashSet<u32> {
        let of_delete = |(deleted, filter): &Delete| {
            let plan = segment.plan(&ScanSpec {
                tenant,
                selector: filter.selector(),
                range: deleted.intersection(&range),
                line_filter: filter.line_filter(),
            });
            plan.chunks()
                .iter()
                .map(|chunk| chunk.index)
                .collect::<Vec<u32>>()
        };
        self.deletes.iter().flat_map(of_delete).collect()
    }

    /// The deletes that may hide records of a stream from `first` to `last`, both included, by their
    /// places among [all of them](Self::deletes).
    pub(super) fn of_stream(
        &self,
        labels: &Labels,
        first: Timestamp,
        last: Timestamp,
    ) -> impl Iterator<Item = usize> {
        let deletes = self.deletes.iter().enumerate();
        let touching = deletes.filter(move |(_, (range, filter))| {
            range.touches(first, last) && filter.selector().is_match(labels)
        });
        touching.map(|(at, _)| at)
    }

    /// All deletes.
    pub(super) fn deletes(&self) -> &[Delete] {
        &self.deletes
    }

    /// A test of records that have not expired.
    pub(crate) fn test(&self) -> HiddenTest {
        let deletes = self.deletes.iter();
        HiddenTest {
            deletes: deletes
                .map(|(range, filter)| (*range, filter.test()))
                .collect(),
            selecting: Vec::new(),
        }
    }
}

fn not_understood(id: DeleteId, query: &str, error: &RecordFilterError) -> SourceError {
    SourceError::Unavailable(format!(
        "delete request {} hides records, but its query {query:?} is not understood: {error}; cancel it",
        id.0
    ))
}

impl HiddenTest {
    /// Records of this stream follow. `false`: none of them is hidden, and none may be asked about.
    pub(crate) fn stream(&mut self, labels: &Arc<Labels>) -> bool {
        self.selecting.clear();
        for (at, (_, test)) in self.deletes.iter_mut().enumerate() {
            if test.stream(labels) {
                self.selecting.push(at);
            }
        }
        !self.selecting.is_empty()
    }

    fn hides(&mut self, at: Timestamp, line: &[u8], metadata: &[(&str, &str)]) -> bool {
        let deletes = &mut self.deletes;
        self.selecting.iter().any(|delete| {
            let (range, test) = &mut deletes[*delete];
            range.contains(at) && test.is_match(at, line, metadata)
        })
    }

    /// Whether a row of a block is hidden, which must have times, lines and metadata.
    pub(crate) fn hides_row(&mut self, block: &RowBlock<'_>, row: usize) -> bool {
        let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
        self.hides(block.timestamps[row], block.lines.line(row), pairs)
    }

    /// Whether a record of a batch is hidden.
    pub(crate) fn hides_record(&mut self, row: Row<'_>) -> bool {
        let pairs = row
            .metadata()
            .map(|(key, value)| (key, super::rows::text(value)));
        let pairs: Vec<(&str, &str)> = pairs.collect();
        self.hides(row.timestamp(), row.line(), &pairs)
    }
}
