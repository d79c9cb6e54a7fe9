//! Chunks and head streams to sinks, on several threads, in the order that lets them stop early.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use model::{
    Columns, Flow, LineColumn, RecordIdentity, RowBlock, Signal, StreamId, TimeRange, Timestamp,
};
use parking_lot::Mutex;
use query::{Budget, BudgetError, ScanOrder, ScanRequest, ScanStats, Sink, SourceError};
use segment::{Pieces, Scratch, Wanted};
use tokio::task::JoinHandle;

use super::contest::{Contest, Contested, Span};
use super::heads::{Delivery, Heads};
use super::hidden::{Hidden, HiddenTest};
use super::patterns::Patterned;
use super::refine::refine;
use super::rows::{Picked, PickedMetadata, Sifter, project};
use super::{Planned, SnapshotSource, workers};
use crate::segments::{segment_error, storage_error};

/// What is needed to tell copies apart.
const ALL_COLUMNS: Columns = Columns {
    timestamps: true,
    lines: LineColumn::Bytes,
    metadata: true,
};

/// What blocks have in place of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The lines.
    Lines,
    /// Their patterns.
    Patterns,
}

/// One scan, planned.
pub(super) struct Scan<'a> {
    source: &'a SnapshotSource,
    form: Form,
    request: &'a ScanRequest,
    budget: &'a Budget,
    planned: &'a [Planned],
    heads: &'a Heads,
    contest: Contest,
    /// What may not be delivered; a scan that only counts does not ask.
    pub(super) hidden: Option<&'a Hidden>,
    works: Vec<Work>,
    queue: Mutex<Queue>,
    /// Rows beyond this time are of no use to any sink.
    bound: AtomicI64,
    over: AtomicBool,
    error: Mutex<Option<SourceError>>,
}

/// A chunk, or the head rows of a stream.
#[derive(Clone, Copy, Debug)]
struct Work {
    first: Timestamp,
    last: Timestamp,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Chunk { segment: usize, chunk: usize },
    Head { stream: usize },
}

/// Reads that are under way, in the order of the works.
#[derive(Default)]
struct Queue {
    started: usize,
    done: usize,
    /// Works of the groups.
    waiting: usize,
    ahead: VecDeque<Group>,
}

/// Works side by side, whose parts are read at one go.
struct Group {
    works: Range<usize>,
    /// How many parts of what is read belong to each work.
    parts: Vec<usize>,
    reading: Option<Reading>,
}

type Reading = JoinHandle<Result<Vec<Bytes>, store::Error>>;

/// Most chunks of a group: reading one by one, handing over between threads takes as long as decoding.
const GROUP_CHUNKS_MAX: usize = 8;
/// Groups that each thread should find at least, so that all have work to the end.
const GROUPS_PER_THREAD: usize = 4;

/// What one thread has of its own.
struct Worker<K> {
    sink: K,
    stats: ScanStats,
    scratch: Scratch,
    picked: Picked,
    lengths: Vec<u32>,
    hiding: HiddenTest,
}

impl<'a> Scan<'a> {
    /// A scan that delivers each record once.
    ///
    /// # Errors
    /// When the times of rows that may have copies cannot be read.
    pub(super) fn new(
        source: &'a SnapshotSource,
        form: Form,
        request: &'a ScanRequest,
        budget: &'a Budget,
        planned: &'a [Planned],
        heads: &'a Heads,
    ) -> Result<Self, SourceError> {
        let mut contest = Contest::find(spans(planned, heads, request));
        if !contest.is_empty() && request.order == ScanOrder::Any {
            contest = refine(source, request, budget, planned, heads, &contest)?;
        }
        Ok(Scan {
            contest,
            form,
            ..Scan::counting(source, request, budget, planned, heads)
        })
    }

    /// A scan that delivers copies as well, and so never looks at lines to tell them apart.
    pub(super) fn counting(
        source: &'a SnapshotSource,
        request: &'a ScanRequest,
        budget: &'a Budget,
        planned: &'a [Planned],
        heads: &'a Heads,
    ) -> Self {
        let bound = match request.order {
            ScanOrder::Backward => Timestamp::MIN,
            ScanOrder::Forward | ScanOrder::Any => Timestamp::MAX,
        };
        Scan {
            source,
            form: Form::Lines,
            request,
            budget,
            planned,
            heads,
            contest: Contest::default(),
            hidden: None,
            works: works(planned, heads, request.order),
            queue: Mutex::default(),
            bound: AtomicI64::new(bound),
            over: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    pub(super) fn run<K: Sink>(
        self,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let threads = self.source.backend.workers.min(self.works.len()).max(1);
        let workers = workers::run(threads, |_| {
            let mut worker = Worker {
                sink: new_sink(),
                stats: ScanStats::default(),
                scratch: Scratch::default(),
                picked: Picked::default(),
                lengths: Vec::new(),
                hiding: self.hidden.map(Hidden::test).unwrap_or_default(),
            };
            if let Err(error) = self.work(&mut worker) {
                self.error.lock().get_or_insert(error);
                self.over.store(true, Ordering::Relaxed);
            }
            worker
        });
        self.queue.into_inner().abort();
        if let Some(error) = self.error.into_inner() {
            return Err(error);
        }
        let mut stats = ScanStats::default();
        let mut sinks = Vec::with_capacity(workers.len());
        for worker in workers {
            stats.add(&worker.stats);
            sinks.push(worker.sink);
        }
        Ok((sinks, stats))
    }

    fn work<K: Sink>(&self, worker: &mut Worker<K>) -> Result<(), SourceError> {
        while !self.over.load(Ordering::Relaxed) {
            self.budget.check()?;
            self.tighten(worker.sink.bound());
            let Some(group) = self.next() else {
                return Ok(());
            };
            if self.is_useless(&self.works[group.works.start]) {
                // Works are in order: all that follow are useless as well.
                self.over.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let mut bytes = match group.reading {
                None => Vec::new(),
                Some(reading) => self.finish_reading(reading)?,
            }
            .into_iter();
            for (at, parts) in group.works.zip(group.parts) {
                let flow = match self.works[at].place {
                    Place::Chunk { segment, chunk } => {
                        let bytes: Vec<Bytes> = bytes.by_ref().take(parts).collect();
                        self.chunk(worker, segment, chunk, &bytes)?
                    }
                    Place::Head { stream } => self.head(worker, stream)?,
                };
                if flow == Flow::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn tighten(&self, bound: Option<Timestamp>) {
        let Some(bound) = bound else { return };
        match self.request.order {
            ScanOrder::Backward => self.bound.fetch_max(bound, Ordering::Relaxed),
            ScanOrder::Forward => self.bound.fetch_min(bound, Ordering::Relaxed),
            ScanOrder::Any => 0,
        };
    }

    fn head<K: Sink>(&self, worker: &mut Worker<K>, stream: usize) -> Result<Flow, SourceError> {
        let (first, last) = self.heads.streams[stream].bounds();
        let contested = self.contest.of(self.heads.streams[stream].id, first, last);
        let mut delivery = Delivery {
            request: self.request,
            budget: self.budget,
            picked: &mut worker.picked,
            stats: &mut worker.stats,
        };
        let flow = match self.form {
            Form::Lines => delivery.stream(self.heads, stream, contested, &mut worker.sink),
            Form::Patterns => {
                let mut sink = Patterned::new(&mut worker.sink);
                delivery.stream(self.heads, stream, contested, &mut sink)
            }
        };
        self.tighten(worker.sink.bound());
        Ok(flow?)
    }

    fn is_useless(&self, work: &Work) -> bool {
        let bound = self.bound.load(Ordering::Relaxed);
        match self.request.order {
            ScanOrder::Backward => work.last < bound,
            ScanOrder::Forward => work.first > bound,
            ScanOrder::Any => false,
        }
    }

    /// The next works, with their reads under way; starts those of the works that follow.
    fn next(&self) -> Option<Group> {
        let mut queue = self.queue.lock();
        let reads_max = self.source.backend.reads_max;
        // Whoever wants the newest few lines mostly has them after a chunk or two: begin with few
        // reads, and add one for each chunk that was not enough.
        let depth = match self.request.order {
            ScanOrder::Any => reads_max,
            _ => (self.source.backend.workers * 2 + queue.done).min(reads_max),
        };
        // Works are in order: when one is useless, so are all that follow.
        while queue.waiting < depth
            && let Some(work) = self.works.get(queue.started)
            && !self.is_useless(work)
        {
            let group = self.start(queue.started);
            queue.started = group.works.end;
            queue.waiting += group.works.len();
            queue.ahead.push_back(group);
        }
        let group = queue.ahead.pop_front()?;
        queue.done += group.works.len();
        queue.waiting -= group.works.len();
        Some(group)
    }

    /// Starts reading for the works from `first` on: for one, or for some of one segment where no
    /// early stop can make them useless.
    fn start(&self, first: usize) -> Group {
        let mut group = Group {
            works: first..first + 1,
            parts: Vec::new(),
            reading: None,
        };
        let Place::Chunk { segment, .. } = self.works[first].place else {
            group.parts.push(0);
            return group;
        };
        let share = self.works.len() / (self.source.backend.workers * GROUPS_PER_THREAD);
        let length_max = match self.request.order {
            ScanOrder::Any => share.clamp(1, GROUP_CHUNKS_MAX),
            _ => 1,
        };
        let planned = &self.planned[segment];
        let mut ranges = Vec::new();
        for work in self.works[first..].iter().take(length_max) {
            let Place::Chunk { segment: of, chunk } = work.place else {
                break;
            };
            if of != segment {
                break;
            }
            let chunk = &planned.plan.chunks()[chunk];
            let wanted = self.wanted(chunk);
            let reads = planned.plan.reads_of(chunk, &wanted);
            group.parts.push(reads.len());
            ranges.extend(reads);
        }
        group.works.end = first + group.parts.len();
        if !ranges.is_empty() {
            let storage = self.source.backend.segments.storage().clone();
            let path = Arc::clone(&planned.meta.path);
            let read = async move { storage.ranges(&path, &ranges).await };
            group.reading = Some(self.source.backend.runtime.spawn(read));
        }
        group
    }

    /// Whether rows of the chunk may have to be left out: then whole records are looked at.
    fn sifts(&self, chunk: &segment::PlannedChunk) -> bool {
        self.contest.touches(chunk) || self.hidden.is_some_and(|hidden| hidden.touches(chunk))
    }

    /// What to decode: whole records where they may have copies or be hidden.
    fn wanted(&self, chunk: &segment::PlannedChunk) -> Wanted {
        let sifts = self.sifts(chunk);
        Wanted {
            columns: match sifts {
                true => ALL_COLUMNS,
                false => self.request.columns,
            },
            patterns: self.form == Form::Patterns && !sifts,
            pieces: match self.request.order {
                ScanOrder::Any => Pieces::Whole,
                ScanOrder::Backward => Pieces::FromEnd,
                ScanOrder::Forward => Pieces::FromStart,
            },
        }
    }

    /// The times of the request that are still of use.
    fn useful_range(&self) -> TimeRange {
        let bound = self.bound.load(Ordering::Relaxed);
        let range = self.request.range;
        let useful = match self.request.order {
            ScanOrder::Backward => TimeRange::new(bound, range.end),
            ScanOrder::Forward => TimeRange::inclusive(range.start, bound),
            ScanOrder::Any => range,
        };
        range.intersection(&useful)
    }

    fn chunk<K: Sink>(
        &self,
        worker: &mut Worker<K>,
        segment: usize,
        chunk: usize,
        bytes: &[Bytes],
    ) -> Result<Flow, SourceError> {
        let plan = &self.planned[segment].plan;
        let chunk = &plan.chunks()[chunk];
        let read_bytes: u64 = bytes.iter().map(|bytes| bytes.len() as u64).sum();
        self.budget.take_rows(chunk.rows)?;
        self.budget.take_memory(read_bytes)?;
        let sifts = self.sifts(chunk);
        let wanted = self.wanted(chunk);
        let Worker {
            sink,
            stats,
            scratch,
            picked,
            lengths,
            hiding,
        } = worker;
        let mut failed: Option<BudgetError> = None;
        let mut sifter = Sifter::new(picked, lengths, hiding);
        let useful = || self.useful_range();
        let mut deliver = |block: &RowBlock<'_>| {
            let pushed = match (sifts, self.form) {
                (false, _) => sink.push(block),
                (true, Form::Lines) => self.deliver(block, sink, &mut sifter),
                (true, Form::Patterns) => {
                    let mut sink = Patterned::new(sink);
                    self.deliver(block, &mut sink, &mut sifter)
                }
            };
            self.tighten(sink.bound());
            pushed.unwrap_or_else(|error| {
                failed = Some(error);
                Flow::Stop
            })
        };
        let decoded = plan.decode_wanted(chunk, &wanted, &useful, bytes, scratch, &mut deliver);
        self.budget.give_memory(read_bytes);
        let decoded = decoded.map_err(|error| segment_error(&error))?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let tally = &self.source.tally;
        for (total, more) in [
            (&tally.chunks, 1),
            (&tally.chunk_rows, decoded.rows_processed),
            (&tally.chunk_bytes, chunk.content_bytes),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
        stats.chunks += 1;
        stats.bytes_read += read_bytes;
        stats.bytes_processed += chunk.content_bytes;
        stats.rows_processed += decoded.rows_processed;
        stats.rows_matched += decoded.rows_matched - sifter.copies - sifter.hidden;
        stats.duplicates += sifter.copies;
        Ok(if decoded.stopped {
            Flow::Stop
        } else {
            Flow::Continue
        })
    }

    fn finish_reading(&self, reading: Reading) -> Result<Vec<Bytes>, SourceError> {
        let clock = &self.source.backend.clock;
        let started = clock();
        let read = self.source.wait(self.budget, async {
            match reading.await {
                Ok(read) => read.map_err(|error| storage_error(&error)),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(BudgetError::Cancelled.into()),
                },
            }
        });
        let nanos = u64::try_from(clock() - started).unwrap_or(0);
        self.source
            .tally
            .read_nanos
            .fetch_add(nanos, Ordering::Relaxed);
        read
    }

    /// Hands a block on without the rows that are hidden or were delivered already.
    fn deliver<K: Sink>(
        &self,
        block: &RowBlock<'_>,
        sink: &mut K,
        sifter: &mut Sifter<'_>,
    ) -> Result<Flow, BudgetError> {
        let columns = self.request.columns;
        let id = StreamId::of(&self.source.tenant, Signal::Logs, block.labels);
        let times = block.timestamps;
        let contested = match times {
            [first, .., last] => self.contest.of(id, *first, *last),
            [only] => self.contest.of(id, *only, *only),
            [] => None,
        };
        let hides = sifter.hiding.stream(block.labels);
        if contested.is_none() && !hides {
            return sink.push(&project(block, columns, sifter.lengths));
        }
        let mut kept = Vec::with_capacity(block.rows);
        for row in 0..block.rows {
            if hides && sifter.hiding.hides_row(block, row) {
                sifter.hidden += 1;
                continue;
            }
            match contested {
                Some(contested) if !self.admit(contested, block, row)? => sifter.copies += 1,
                _ => kept.push(row),
            }
        }
        if kept.len() == block.rows {
            return sink.push(&project(block, columns, sifter.lengths));
        }
        if kept.is_empty() {
            return Ok(Flow::Continue);
        }
        let picked = &mut *sifter.picked;
        picked.clear();
        let mut metadata = PickedMetadata::default();
        for row in kept {
            picked.push(columns, times[row], block.lines.line(row));
            if let Some(rows) = block.metadata.filter(|_| columns.metadata) {
                metadata.push(rows.row(row).iter().copied());
            }
        }
        sink.push(&picked.block(block.labels, columns, &metadata))
    }

    fn admit(
        &self,
        contested: &Contested,
        block: &RowBlock<'_>,
        row: usize,
    ) -> Result<bool, BudgetError> {
        let timestamp = block.timestamps[row];
        if !contested.contains(timestamp) {
            return Ok(true);
        }
        let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
        let pairs = pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
        let identity = RecordIdentity::of(timestamp, block.lines.line(row), pairs);
        contested.admit(identity, self.budget)
    }
}

impl Queue {
    fn abort(self) {
        for group in self.ahead {
            if let Some(reading) = group.reading {
                reading.abort();
            }
        }
    }
}

/// What each source spans of each stream. Rows outside of the range are never delivered.
fn spans(planned: &[Planned], heads: &Heads, request: &ScanRequest) -> Vec<Span> {
    let sources = planned.len() + usize::from(!heads.streams.is_empty());
    if sources < 2 {
        return Vec::new();
    }
    let range = request.range;
    let mut spans = Vec::new();
    for (at, planned) in planned.iter().enumerate() {
        let chunks = planned.plan.chunks().iter();
        spans.extend(chunks.flat_map(|chunk| &chunk.streams).map(|stream| Span {
            stream: stream.id,
            first: stream.first.max(range.start),
            last: stream.last.min(range.end - 1),
            source: at as u32,
        }));
    }
    spans.extend(heads.streams.iter().map(|stream| {
        let (first, last) = stream.bounds();
        Span {
            stream: stream.id,
            first,
            last,
            source: planned.len() as u32,
        }
    }));
    spans
}

fn works(planned: &[Planned], heads: &Heads, order: ScanOrder) -> Vec<Work> {
    let mut works = Vec::new();
    for (stream, head) in heads.streams.iter().enumerate() {
        let (first, last) = head.bounds();
        works.push(Work {
            first,
            last,
            place: Place::Head { stream },
        });
    }
    for (segment, planned) in planned.iter().enumerate() {
        for (chunk, planned) in planned.plan.chunks().iter().enumerate() {
            works.push(Work {
                first: planned.first,
                last: planned.last,
                place: Place::Chunk { segment, chunk },
            });
        }
    }
    match order {
        ScanOrder::Any => {}
        ScanOrder::Backward => works.sort_by_key(|work| std::cmp::Reverse(work.last)),
        ScanOrder::Forward => works.sort_by_key(|work| work.first),
    }
    works
}
