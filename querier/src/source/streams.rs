//! Which streams have records in a range, and how many: from the stream tables of segments, and
//! by counting where a table says only that a stream reaches into the range.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{
    Columns, Flow, Labels, LineColumn, LineFilter, LogBatch, NANOS_PER_MILLI, RowBlock, Selector,
    TenantId, TimeRange, Timestamp,
};
use query::{Budget, BudgetError, ScanOrder, ScanRequest, ScanStats, Sink, Source, SourceError};
use rpc::SegmentMeta;

use super::heads::{self, Heads};
use super::{SnapshotSource, scan};

/// What a stream has in a range. Records that are stored twice count twice, until merging removes
/// the copies.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamTotal {
    pub(crate) records: u64,
    /// Lines and metadata values. Where a segment holds only some of the stream's records inside
    /// the range, these count with the stream's mean size.
    pub(crate) bytes: u64,
}

/// What an entry of a table of totals takes, with the table's free room.
const STREAM_BYTES: u64 = 2 * size_of::<(Arc<Labels>, StreamTotal)>() as u64;

/// Segments of which only a part is in the range.
#[derive(Default)]
struct Partial {
    segments: Vec<Arc<SegmentMeta>>,
    /// What their streams have, in the range or not: for the mean size of a record.
    sizes: HashMap<Arc<Labels>, StreamTotal>,
}

/// How much is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Which streams there are; totals are of no use.
    Labels,
    /// The streams and what they have.
    Totals,
    /// Also in how many chunks.
    Chunks,
}

/// The streams of a selection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    pub(crate) totals: HashMap<Arc<Labels>, StreamTotal>,
    /// Chunks of segments and batches of heads that hold them; 0 unless asked for.
    pub(crate) chunks: u64,
}

impl SnapshotSource {
    /// The streams with at least one record in the range.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn streams(
        &self,
        selector: &Selector,
        range: TimeRange,
        wanted: Wanted,
        budget: &Budget,
    ) -> Result<Streams, SourceError> {
        let mut streams = Streams::default();
        if range.is_empty() {
            return Ok(streams);
        }
        let snapshot = self.snapshot(budget)?;
        let range = snapshot.hidden().kept(range);
        if range.is_empty() {
            return Ok(streams);
        }
        let request = counting(selector, range);
        let mut stats = ScanStats::default();
        if wanted == Wanted::Labels {
            streams.add_labels(&self.tenant, &snapshot.recent(range), &request);
        } else {
            let search = heads::Search {
                tenant: &self.tenant,
                request: &request,
                hidden: snapshot.hidden(),
                budget,
                workers: self.backend.workers,
            };
            let heads = search.run(snapshot.recent(range), &mut stats)?;
            streams.chunks += stats.chunks;
            streams.add_heads(&heads);
        }
        let segments = snapshot.segments(range);
        let partial = self.add_segments(&mut streams, &segments, &request, wanted, budget)?;
        self.count(&mut streams, &request, budget, &partial)?;
        Ok(streams)
    }

    /// Adds what stream tables know for certain. The other segments come back: those with streams
    /// that reach over the ends of the range.
    fn add_segments(
        &self,
        streams: &mut Streams,
        metas: &[Arc<SegmentMeta>],
        request: &ScanRequest,
        wanted: Wanted,
        budget: &Budget,
    ) -> Result<Partial, SourceError> {
        let segments = self.wait(budget, self.backend.open(metas))?;
        let (selector, range) = (&request.selector, request.range);
        let mut partial = Partial::default();
        for (meta, segment) in metas.iter().zip(&segments) {
            budget.check()?;
            let entries = || {
                segment.streams(&self.tenant).filter(|entry| {
                    range.touches(entry.first, entry.last) && selector.is_match(entry.labels)
                })
            };
            let mut seen = 0;
            let whole = entries().all(|entry| {
                seen += 1;
                let known = wanted == Wanted::Labels && streams.totals.contains_key(entry.labels);
                known || range.covers(entry.first, entry.last)
            });
            let totals = if whole {
                &mut streams.totals
            } else {
                &mut partial.sizes
            };
            if whole {
                totals.reserve(seen - totals.len().min(seen));
            }
            let mut grown = 0;
            for entry in entries() {
                let total = totals.entry_ref(entry.labels).or_default();
                if total.records == 0 {
                    grown += STREAM_BYTES + entry.labels.memory_bytes() as u64;
                }
                total.records += entry.records;
                total.bytes += entry.content_bytes;
            }
            budget.take_memory(grown)?;
            if !whole {
                partial.segments.push(Arc::clone(meta));
            } else if wanted == Wanted::Chunks {
                let plan = segment.plan(&self.spec(request));
                streams.chunks += plan.chunks().len() as u64;
            }
        }
        Ok(partial)
    }

    /// Bytes of lines and metadata values by stream and step. Steps end at multiples of `step`, the
    /// last one with the range; each is named by its end, and, as in Loki, by the millisecond before
    /// it when it is not the last.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn volumes(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: i64,
        budget: &Budget,
    ) -> Result<Volumes, SourceError> {
        let request = ScanRequest {
            selector: selector.clone(),
            range,
            line_filter: LineFilter::default(),
            columns: Columns {
                timestamps: true,
                lines: LineColumn::Lengths,
                metadata: true,
            },
            order: ScanOrder::Any,
        };
        let new_sink = || Steps {
            step: step.max(1),
            end: range.end,
            volumes: HashMap::new(),
        };
        let (sinks, _) = self.scan(&request, budget, &new_sink)?;
        let mut volumes = Volumes::new();
        for (labels, steps) in sinks.into_iter().flat_map(|sink| sink.volumes) {
            let sums = volumes.entry(labels).or_default();
            for (at, bytes) in steps {
                *sums.entry(at).or_default() += bytes;
            }
        }
        Ok(volumes)
    }

    /// Counts the records of segments that reach over the ends of the range.
    fn count(
        &self,
        streams: &mut Streams,
        request: &ScanRequest,
        budget: &Budget,
        partial: &Partial,
    ) -> Result<(), SourceError> {
        let mut stats = ScanStats::default();
        let spec = self.spec(request);
        let planned = self.plan(&partial.segments, &spec, budget, &mut stats)?;
        streams.chunks += planned
            .iter()
            .map(|planned| planned.plan.chunks().len() as u64)
            .sum::<u64>();
        let none = Heads::default();
        let counting = scan::Scan::counting(self, request, budget, &planned, &none);
        let (counters, _) = counting.run(&Counter::default)?;
        for (labels, rows) in counters.into_iter().flat_map(|counter| counter.rows) {
            let size = partial.sizes.get(&labels).cloned().unwrap_or_default();
            let mean = size.bytes as f64 / size.records.max(1) as f64;
            let total = streams.totals.entry(labels).or_default();
            total.records += rows;
            total.bytes += (rows as f64 * mean).round() as u64;
        }
        Ok(())
    }
}

/// Bytes by stream and by end of step.
pub(crate) type Volumes = HashMap<Arc<Labels>, BTreeMap<Timestamp, u64>>;

impl Streams {
    /// All of it as one step.
    pub(crate) fn volumes(self, end: Timestamp) -> Volumes {
        let totals = self.totals.into_iter();
        totals
            .map(|(labels, total)| (labels, BTreeMap::from([(end, total.bytes)])))
            .collect()
    }

    /// The streams of batches that have any record in the range.
    fn add_labels(&mut self, tenant: &TenantId, batches: &[Arc<LogBatch>], request: &ScanRequest) {
        for batch in batches.iter().filter(|batch| batch.tenant == *tenant) {
            for stream in &batch.streams {
                let rows = stream.rows.start as usize..stream.rows.end as usize;
                let mut times = batch.timestamps[rows].iter();
                if request.selector.is_match(&stream.labels)
                    && !self.totals.contains_key(&stream.labels)
                    && times.any(|at| request.range.contains(*at))
                {
                    let labels = Arc::clone(&stream.labels);
                    self.totals.insert(labels, StreamTotal::default());
                }
            }
        }
    }

    fn add_heads(&mut self, heads: &Heads) {
        for stream in &heads.streams {
            let total = self.totals.entry_ref(&stream.labels).or_default();
            total.records += stream.rows.len() as u64;
            for place in &stream.rows {
                let row = heads.batches[place.batch as usize].row(place.row as usize);
                let metadata: usize = row.metadata().map(|(_, value)| value.len()).sum();
                total.bytes += (row.line().len() + metadata) as u64;
            }
        }
    }
}

/// A scan of how many records there are.
fn counting(selector: &Selector, range: TimeRange) -> ScanRequest {
    ScanRequest {
        selector: selector.clone(),
        range,
        line_filter: LineFilter::default(),
        columns: Columns {
            timestamps: false,
            lines: LineColumn::None,
            metadata: false,
        },
        order: ScanOrder::Any,
    }
}

/// Counts rows by stream.
#[derive(Default)]
struct Counter {
    rows: HashMap<Arc<Labels>, u64>,
}

impl Sink for Counter {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        *self.rows.entry_ref(block.labels).or_default() += block.rows as u64;
        Ok(Flow::Continue)
    }
}

/// Sums bytes by stream and step.
struct Steps {
    step: i64,
    end: Timestamp,
    volumes: Volumes,
}

impl Sink for Steps {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        let sums = self.volumes.entry_ref(block.labels).or_default();
        for (row, at) in block.timestamps.iter().enumerate() {
            let start = at - at.rem_euclid(self.step);
            let end = match start.saturating_add(self.step) {
                end if end < self.end => end - NANOS_PER_MILLI,
                _ => self.end,
            };
            let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
            let metadata: usize = pairs.iter().map(|(_, value)| value.len()).sum();
            *sums.entry(end).or_default() += (block.lines.line_length(row) + metadata) as u64;
        }
        Ok(Flow::Continue)
    }
}
