//! Which streams have records in a range, and how many: from the tables of segments and of their
//! chunks, and by counting rows where a table says only that a stream reaches into the range, where
//! some of its records may be deleted, or where some may be there twice.

mod rows;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{
    Columns, Flow, Labels, LineColumn, LineFilter, LineRows, LogBatch, NANOS_PER_MILLI, RowBlock,
    Selector, TenantId, TimeRange, Timestamp,
};
use query::{Budget, BudgetError, ScanOrder, ScanRequest, ScanStats, Sink, Source, SourceError};
use rpc::SegmentMeta;

use super::contest::Contest;
use super::heads::{self, Heads};
use super::hidden::Hidden;
use super::scan::Scan;
use super::{Planned, SnapshotSource, step_of};
use shared::Shared;

/// What a stream has in a range, each record once.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamTotal {
    pub(crate) records: u64,
    /// Lines and metadata values.
    pub(crate) bytes: u64,
}

/// What an entry of a table of totals takes, with the table's free room.
const STREAM_BYTES: u64 = 2 * size_of::<(Arc<Labels>, StreamTotal)>() as u64;

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
        let snapshot = self.snapshot(selector, range, budget)?;
        let range = snapshot.hidden().kept(range);
        if range.is_empty() {
            return Ok(streams);
        }
        let hidden = snapshot.hidden();
        let request = counting(selector, range, wanted);
        let mut stats = ScanStats::default();
        let recent = snapshot.recent(range);
        let mut heads = Heads::default();
        if wanted == Wanted::Labels {
            streams.add_labels(&self.tenant, &recent, &request, hidden);
        } else {
            let search = heads::Search {
                tenant: &self.tenant,
                request: &request,
                hidden,
                budget,
                workers: self.backend.workers,
            };
            heads = search.run(recent, &mut stats)?;
            streams.chunks += stats.chunks;
        }
        let segments = snapshot.segments(range);
        let search = Search {
            request: &request,
            heads: &heads,
            hidden,
            wanted,
            budget,
        };
        let open = self.add_segments(&mut streams, &segments, &search)?;
        self.count(&mut streams, &open, &search)?;
        Ok(streams)
    }

    /// Adds what stream tables know for certain. The other segments come back: those with streams
    /// that reach over the ends of the range, that deletes touch, or that may have copies elsewhere.
    fn add_segments(
        &self,
        streams: &mut Streams,
        metas: &[Arc<SegmentMeta>],
        search: &Search<'_>,
    ) -> Result<Vec<Arc<SegmentMeta>>, SourceError> {
        let segments = self.wait(search.budget, self.backend.open(metas))?;
        let (selector, range) = (&search.request.selector, search.request.range);
        let shared = match search.wanted {
            Wanted::Labels => Shared::default(),
            Wanted::Totals | Wanted::Chunks => {
                let mut order: Vec<usize> = (0..metas.len()).collect();
                order.sort_by_key(|at| metas[*at].of_tenant(&self.tenant).map(|of| of.first));
                let in_order = order.iter().map(|at| &segments[*at]);
                let asked = (selector, range);
                Shared::find(in_order, search.heads, &self.tenant, asked, search.budget)?
            }
        };
        let mut open = Vec::new();
        for (meta, segment) in metas.iter().zip(&segments) {
            search.budget.check()?;
            let entries = || {
                segment.streams(&self.tenant).filter(|entry| {
                    range.touches(entry.first, entry.last) && selector.is_match(entry.labels)
                })
            };
            let mut seen = 0;
            let whole = entries().all(|entry| {
                seen += 1;
                search.knows(streams, entry.labels)
                    || search.is_whole(entry.labels, entry.first, entry.last)
                        && !shared.has(entry.id)
            });
            if !whole {
                open.push(Arc::clone(meta));
                continue;
            }
            let totals = &mut streams.totals;
            totals.reserve(seen - totals.len().min(seen));
            let mut grown = 0;
            for entry in entries() {
                let (records, bytes) = (entry.records, entry.content_bytes);
                grown += streams.add(entry.labels, records, bytes);
            }
            search.budget.take_memory(grown)?;
            if search.wanted == Wanted::Chunks {
                let plan = segment.plan(&self.spec(search.request));
                streams.chunks += plan.chunks().len() as u64;
            }
        }
        Ok(open)
    }

    /// Adds what heads hold, and segments chunk by chunk: by their tables, and by counting rows of those
    /// chunks of which these do not tell enough.
    fn count(
        &self,
        streams: &mut Streams,
        segments: &[Arc<SegmentMeta>],
        search: &Search<'_>,
    ) -> Result<(), SourceError> {
        let Search {
            request,
            heads,
            budget,
            ..
        } = *search;
        let mut planned = self.plan(
            segments,
            &self.spec(request),
            request.order,
            budget,
            &mut ScanStats::default(),
        )?;
        let contest = match search.wanted {
            // One copy is as good as another.
            Wanted::Labels => Contest::default(),
            Wanted::Totals | Wanted::Chunks => {
                Scan::contest(self, request, budget, &planned, heads)?
            }
        };
        let mut grown = 0;
        for Planned { plan, .. } in &mut planned {
            streams.chunks += plan.chunks().len() as u64;
            plan.retain(|chunk| {
                if search.hidden.hides_all(chunk, request.range) {
                    return false;
                }
                let mut of_chunk = chunk.streams.iter();
                let whole = of_chunk.all(|stream| {
                    search.knows(streams, &stream.labels)
                        || search.is_whole(&stream.labels, stream.first, stream.last)
                            && contest.of(stream.id, stream.first, stream.last).is_none()
                });
                if whole {
                    for stream in &chunk.streams {
                        grown += streams.add(&stream.labels, stream.rows, stream.content_bytes);
                    }
                }
                !whole
            });
        }
        budget.take_memory(grown)?;
        match search.wanted {
            // What other chunks tell spares reading these.
            Wanted::Labels => self.find_rows(streams, planned, search),
            Wanted::Totals | Wanted::Chunks => self.count_rows(streams, planned, contest, search),
        }
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
            outcomes: None,
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

    /// Adds to what a stream has; gives the bytes of memory that this took.
    fn add(&mut self, labels: &Arc<Labels>, records: u64, bytes: u64) -> u64 {
        let total = self.totals.entry_ref(labels).or_default();
        let grown = match total.records {
            0 => STREAM_BYTES + labels.memory_bytes() as u64,
            _ => 0,
        };
        total.records += records;
        total.bytes += bytes;
        grown
    }

    /// The streams of batches that have any record in the range.
    fn add_labels(
        &mut self,
        tenant: &TenantId,
        batches: &[Arc<LogBatch>],
        request: &ScanRequest,
        hidden: &Hidden,
    ) {
        let mut hiding = hidden.test();
        for batch in batches.iter().filter(|batch| batch.tenant == *tenant) {
            for stream in &batch.streams {
                if !request.selector.is_match(&stream.labels)
                    || self.totals.contains_key(&stream.labels)
                {
                    continue;
                }
                let hides = hiding.stream(&stream.labels);
                let mut rows = stream.rows.start as usize..stream.rows.end as usize;
                let shown = rows.any(|row| {
                    request.range.contains(batch.timestamps[row])
                        && !(hides && hiding.hides_record(batch.row(row)))
                });
                if shown {
                    let labels = Arc::clone(&stream.labels);
                    self.totals.insert(labels, StreamTotal::default());
                }
            }
        }
    }
}

/// What is asked of all segments.
#[derive(Clone, Copy)]
struct Search<'a> {
    request: &'a ScanRequest,
    /// None where only labels are wanted: those of heads are known then.
    heads: &'a Heads,
    hidden: &'a Hidden,
    wanted: Wanted,
    budget: &'a Budget,
}

impl Search<'_> {
    /// Whether nothing more is to be found out of a stream.
    fn knows(&self, streams: &Streams, labels: &Arc<Labels>) -> bool {
        self.wanted == Wanted::Labels && streams.totals.contains_key(labels)
    }

    /// Whether all records of a stream from `first` to `last`, both included, are to be counted.
    fn is_whole(&self, labels: &Labels, first: Timestamp, last: Timestamp) -> bool {
        self.request.range.covers(first, last) && !self.hidden.touches_stream(labels, first, last)
    }
}

/// A scan of how many records there are.
fn counting(selector: &Selector, range: TimeRange, wanted: Wanted) -> ScanRequest {
    let sizes = wanted != Wanted::Labels;
    ScanRequest {
        selector: selector.clone(),
        range,
        line_filter: LineFilter::default(),
        columns: Columns {
            timestamps: false,
            lines: match sizes {
                true => LineColumn::Lengths,
                false => LineColumn::None,
            },
            metadata: sizes,
        },
        outcomes: None,
        order: ScanOrder::Any,
    }
}

/// Counts rows by stream, and their bytes if they have sizes.
#[derive(Default)]
struct Counter {
    totals: HashMap<Arc<Labels>, StreamTotal>,
}

impl Sink for Counter {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        let total = self.totals.entry_ref(block.labels).or_default();
        total.records += block.rows as u64;
        if !matches!(block.lines, LineRows::None) {
            let sizes = (0..block.rows).map(|row| row_bytes(block, row));
            total.bytes += sizes.sum::<u64>();
        }
        Ok(Flow::Continue)
    }
}

/// Bytes of the line and the metadata values of a row.
fn row_bytes(block: &RowBlock<'_>, row: usize) -> u64 {
    let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
    let metadata: usize = pairs.iter().map(|(_, value)| value.len()).sum();
    (block.lines.line_length(row) + metadata) as u64
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
            let start = step_of(*at, self.step);
            let end = match start.saturating_add(self.step) {
                end if end < self.end => end - NANOS_PER_MILLI,
                _ => self.end,
            };
            *sums.entry(end).or_default() += row_bytes(block, row);
        }
        Ok(Flow::Continue)
    }
}
