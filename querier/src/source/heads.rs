//! Recent records: batches in the order in which they arrived, searched by brute force.

use std::sync::Arc;

use hashbrown::HashMap;
use model::Flow;
use model::{Labels, LogBatch, StreamId, TenantId, Timestamp};
use parking_lot::Mutex;
use query::{Budget, BudgetError, ScanOrder, ScanRequest, ScanStats, Sink};

use super::contest::Contested;
use super::head_outcomes::{HeadOutcomes, Useful};
use super::hidden::{Hidden, HiddenTest};
use super::rows::{Picked, PickedMetadata};
use super::search::LineSearch;
use super::workers;

/// Rows of a block: small enough to stay in the processor's cache.
const BLOCK_ROWS: usize = 2048;
/// Lines of a block, bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// What one row costs while the heads are sorted, bytes.
const ROW_BYTES: u64 = size_of::<HeadRow>() as u64;

/// A record of the heads: where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRow {
    pub(super) timestamp: Timestamp,
    pub(super) batch: u32,
    pub(super) row: u32,
}

/// The matching records of one stream: ascending by time, each once.
#[derive(Debug)]
pub(super) struct HeadStream {
    pub(super) id: StreamId,
    pub(super) labels: Arc<Labels>,
    pub(super) rows: Vec<HeadRow>,
}

/// The matching records of all heads.
#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) batches: Vec<Arc<LogBatch>>,
    pub(super) streams: Vec<HeadStream>,
}

/// A search of batches.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) request: &'a ScanRequest,
    pub(super) hidden: &'a Hidden,
    pub(super) budget: &'a Budget,
    /// Threads, at least 1.
    pub(super) workers: usize,
}

impl Search<'_> {
    /// Searches batches for records of the tenant. Copies, within a head and across heads, are left
    /// out.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(super) fn run(
        &self,
        mut batches: Vec<Arc<LogBatch>>,
        stats: &mut ScanStats,
    ) -> Result<Heads, BudgetError> {
        let Search {
            tenant,
            request,
            hidden,
            budget,
            workers,
        } = *self;
        batches.retain(|batch| batch.tenant == *tenant);
        let search = LineSearch::new(&request.line_filter);
        // Each thread takes a run of batches, so that rows stay in order of arrival.
        let run = batches.len().div_ceil(workers.max(1)).max(1);
        let runs: Vec<&[Arc<LogBatch>]> = batches.chunks(run).collect();
        let parts = workers::map(workers, &runs, |part, batches| {
            let mut found = Found {
                hiding: hidden.test(),
                ..Found::default()
            };
            for (at, batch) in batches.iter().enumerate() {
                let number = (part * run + at) as u32;
                found.search(number, batch, request, &search, budget)?;
            }
            Ok::<_, BudgetError>(found)
        })?;
        let found = Found::merge(parts, stats);
        let unsorted: Vec<Mutex<HeadStream>> = found.into_iter().map(Mutex::new).collect();
        let copies = workers::map(workers, &unsorted, |_, stream| {
            budget.check()?;
            Ok::<_, BudgetError>(stream.lock().sort(&batches))
        })?;
        stats.duplicates += copies.iter().sum::<u64>();
        let streams = unsorted.into_iter().map(Mutex::into_inner).collect();
        Ok(Heads { batches, streams })
    }
}

/// Streams seen so far.
#[derive(Default)]
struct Found {
    streams: Vec<HeadStream>,
    /// Index into `streams`, or `None` if the selector leaves the stream out.
    known: HashMap<StreamId, Option<u32>>,
    stats: ScanStats,
    hiding: HiddenTest,
}

impl Found {
    /// All streams that have rows, with the rows of earlier parts first.
    fn merge(parts: Vec<Found>, stats: &mut ScanStats) -> Vec<HeadStream> {
        let mut streams: Vec<HeadStream> = Vec::new();
        let mut known: HashMap<StreamId, usize> = HashMap::new();
        for part in parts {
            stats.add(&part.stats);
            for mut stream in part.streams {
                if stream.rows.is_empty() {
                    continue;
                }
                match known.get(&stream.id) {
                    Some(at) => streams[*at].rows.append(&mut stream.rows),
                    None => {
                        known.insert(stream.id, streams.len());
                        streams.push(stream);
                    }
                }
            }
        }
        streams
    }

    fn stream(&mut self, rows: &model::StreamRows, request: &ScanRequest) -> Option<usize> {
        let streams = &mut self.streams;
        let known = self.known.entry(rows.id).or_insert_with(|| {
            request.selector.is_match(&rows.labels).then(|| {
                streams.push(HeadStream {
                    id: rows.id,
                    labels: Arc::clone(&rows.labels),
                    rows: Vec::new(),
                });
                streams.len() as u32 - 1
            })
        });
        known.map(|at| at as usize)
    }

    fn search(
        &mut self,
        at: u32,
        batch: &LogBatch,
        request: &ScanRequest,
        search: &LineSearch<'_>,
        budget: &Budget,
    ) -> Result<(), BudgetError> {
        let mut chunks = 0;
        for stream in &batch.streams {
            let Some(index) = self.stream(stream, request) else {
                continue;
            };
            chunks = 1;
            let first_row = stream.rows.start;
            let rows = first_row as usize..stream.rows.end as usize;
            budget.take_rows(rows.len() as u64)?;
            let first = rows
                .start
                .checked_sub(1)
                .map_or(0, |before| batch.line_ends[before] as usize);
            let ends = &batch.line_ends[rows.clone()];
            let timestamps = &batch.timestamps[rows.clone()];
            self.stats.rows_processed += rows.len() as u64;
            let bytes = ends.last().map_or(0, |end| *end as usize - first);
            self.stats.bytes_processed += bytes as u64;
            let found = &mut self.streams[index].rows;
            let before = found.len();
            search.each_match(&batch.lines, first, ends, |row| {
                let timestamp = timestamps[row];
                if request.range.contains(timestamp) {
                    found.push(HeadRow {
                        timestamp,
                        batch: at,
                        row: first_row + row as u32,
                    });
                }
            });
            if self.hiding.stream(&stream.labels) {
                let all = found.split_off(before);
                let hiding = &mut self.hiding;
                let shown = |row: &HeadRow| !hiding.hides_record(batch.row(row.row as usize));
                found.extend(all.into_iter().filter(shown));
            }
            budget.take_memory((found.len() - before) as u64 * ROW_BYTES)?;
        }
        self.stats.chunks += chunks;
        Ok(())
    }
}

impl HeadStream {
    /// First and last time, both included.
    pub(super) fn bounds(&self) -> (Timestamp, Timestamp) {
        let first = self.rows.first().map_or(0, |row| row.timestamp);
        let last = self.rows.last().map_or(0, |row| row.timestamp);
        (first, last)
    }

    /// Sorts by time and leaves copies out; says how many those were. Rows of one time keep their
    /// order. Rows of different times cannot be copies, so mostly nothing is compared.
    fn sort(&mut self, batches: &[Arc<LogBatch>]) -> u64 {
        let pairs = || self.rows.windows(2);
        if pairs().all(|pair| pair[0].timestamp < pair[1].timestamp) {
            return 0;
        }
        self.rows.sort_by_key(|row| row.timestamp);
        let mut kept: Vec<HeadRow> = Vec::with_capacity(self.rows.len());
        let mut seen = hashbrown::HashSet::new();
        for same in self.rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
            if let [row] = same {
                kept.push(*row);
                continue;
            }
            seen.clear();
            for row in same {
                let record = batches[row.batch as usize].row(row.row as usize);
                if seen.insert(record.identity()) {
                    kept.push(*row);
                }
            }
        }
        let copies = self.rows.len() - kept.len();
        self.rows = kept;
        copies as u64
    }
}

/// Hands head rows to a sink.
pub(super) struct Delivery<'a> {
    pub(super) request: &'a ScanRequest,
    pub(super) budget: &'a Budget,
    pub(super) picked: &'a mut Picked,
    pub(super) stats: &'a mut ScanStats,
}

impl Delivery<'_> {
    /// All rows of a stream, in blocks, the useful end first; without those that were delivered
    /// from elsewhere.
    pub(super) fn stream<K: Sink>(
        &mut self,
        heads: &Heads,
        stream: usize,
        contested: Option<&Contested>,
        sink: &mut K,
    ) -> Result<Flow, BudgetError> {
        let stream = &heads.streams[stream];
        let rows = &stream.rows;
        let backward = self.request.order == ScanOrder::Backward;
        let mut rest = 0..rows.len();
        while !rest.is_empty() {
            self.budget.check()?;
            let block = if backward {
                rest.end.saturating_sub(BLOCK_ROWS)..rest.end
            } else {
                rest.start..(rest.start + BLOCK_ROWS).min(rest.end)
            };
            rest = if backward {
                rest.start..block.start
            } else {
                block.end..rest.end
            };
            let (first, last) = (rows[block.start].timestamp, rows[block.end - 1].timestamp);
            let useless = sink.bound().is_some_and(|bound| match self.request.order {
                ScanOrder::Backward => last < bound,
                ScanOrder::Forward => first > bound,
                ScanOrder::Any => false,
            });
            if useless {
                break;
            }
            if self.rows(heads, stream, &rows[block], contested, sink)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }

    fn rows<K: Sink>(
        &mut self,
        heads: &Heads,
        stream: &HeadStream,
        rows: &[HeadRow],
        contested: Option<&Contested>,
        sink: &mut K,
    ) -> Result<Flow, BudgetError> {
        let columns = self.request.columns;
        let outcomes = self.request.outcomes.as_ref();
        let outcomes = outcomes.map(|asked| HeadOutcomes::new(asked, &stream.labels));
        let mut rest = rows;
        while !rest.is_empty() {
            self.picked.clear();
            let mut metadata = PickedMetadata::default();
            let mut taken = 0;
            for place in rest {
                if self.picked.line_bytes() >= BLOCK_BYTES {
                    break;
                }
                taken += 1;
                let row = heads.batches[place.batch as usize].row(place.row as usize);
                let contested = contested.filter(|contested| contested.contains(place.timestamp));
                if let Some(contested) = contested
                    && !contested.admit(row.identity(), self.budget)?
                {
                    self.stats.duplicates += 1;
                    continue;
                }
                let outcome = match &outcomes {
                    None => None,
                    Some(outcomes) => match outcomes.of(row) {
                        Useful::No => continue,
                        Useful::Yes(outcome) => outcome,
                    },
                };
                self.picked.push(columns, place.timestamp, row.line());
                if let Some(outcome) = outcome {
                    self.picked.push_outcome(outcome);
                }
                if columns.metadata {
                    metadata.push_row(row);
                }
            }
            rest = &rest[taken..];
            if self.picked.rows() == 0 {
                continue;
            }
            self.stats.rows_matched += self.picked.rows() as u64;
            let block = self.picked.block(&stream.labels, columns, &metadata);
            if sink.push(&block)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }
}
