//! Chunks and head streams to sinks, on several threads, in the order that lets them stop early.

mod by_template;
mod chunk;
mod reads;
mod works;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use model::{Columns, Flow, LineColumn, TimeRange, Timestamp};
use parking_lot::Mutex;
use query::{Budget, ScanOrder, ScanRequest, ScanStats, Sink, SourceError};
use segment::{Pieces, Scratch, Wanted};

use super::contest::Contest;
use super::heads::{Delivery, Heads};
use super::hidden::{Hidden, HiddenTest};
use super::patterns::Patterned;
use super::refine::refine;
use super::rows::Picked;
use super::{Planned, SnapshotSource, workers};
pub(crate) use by_template::TemplateSink;
use reads::Queue;
use works::{Place, Work, spans, works};

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
    pub(super) contest: Contest,
    /// What may not be delivered; a scan that only counts does not ask.
    hidden: Option<&'a Hidden>,
    /// By segment, once it is asked for: the chunks that may have hidden rows.
    touched: Vec<OnceLock<HashSet<u32>>>,
    works: Vec<Work>,
    queue: Mutex<Queue>,
    /// Whether the system had all in memory that was read so far, and so no reads are begun ahead.
    at_hand: AtomicBool,
    /// Rows beyond this time are of no use to any sink.
    bound: AtomicI64,
    over: AtomicBool,
    error: Mutex<Option<SourceError>>,
}
/// What one thread has of its own.
struct Worker<K> {
    sink: K,
    stats: ScanStats,
    scratch: Scratch,
    picked: Picked,
    lengths: Vec<u32>,
    hiding: HiddenTest,
}

/// Hands the rows of a chunk, by the numbers of its segment and its own, to the worker's sink.
type Decode<'d, S, K> =
    dyn Fn(&S, &mut Worker<K>, usize, usize, &[Bytes]) -> Result<Flow, SourceError> + Sync + 'd;

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
        Ok(Scan {
            contest: Scan::contest(source, request, budget, planned, heads)?,
            form,
            ..Scan::counting(source, request, budget, planned, heads)
        })
    }

    /// Where rows may have copies.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn contest(
        source: &SnapshotSource,
        request: &ScanRequest,
        budget: &Budget,
        planned: &[Planned],
        heads: &Heads,
    ) -> Result<Contest, SourceError> {
        let contest = Contest::find(spans(planned, heads, request));
        match !contest.is_empty() && request.order == ScanOrder::Any {
            true => refine(source, request, budget, planned, heads, &contest),
            false => Ok(contest),
        }
    }

    /// A scan that delivers copies as well, and so never looks at lines to tell them apart: until it is
    /// given a contest.
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
            touched: Vec::new(),
            works: works(planned, heads, request.order),
            queue: Mutex::default(),
            at_hand: AtomicBool::new(!source.backend.segments.storage().is_remote()),
            bound: AtomicI64::new(bound),
            over: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    /// As it is, but without what is hidden.
    pub(super) fn without(mut self, hidden: &'a Hidden) -> Self {
        self.touched.resize_with(self.planned.len(), OnceLock::new);
        self.hidden = Some(hidden);
        self
    }

    pub(super) fn run<K: Sink>(
        self,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.run_with(new_sink, &Self::chunk)
    }

    /// As [`run`](Self::run), with another way to decode a chunk.
    fn run_with<K: Sink>(
        self,
        new_sink: &(dyn Fn() -> K + Sync),
        decode: &Decode<'_, Self, K>,
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
            if let Err(error) = self.work(&mut worker, decode) {
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

    fn work<K: Sink>(
        &self,
        worker: &mut Worker<K>,
        decode: &Decode<'_, Self, K>,
    ) -> Result<(), SourceError> {
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
                        decode(self, worker, segment, chunk, &bytes)?
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
    /// Whether rows of a chunk of a segment may have to be left out: then whole records are looked at.
    fn sifts(&self, segment: usize, chunk: &segment::PlannedChunk) -> bool {
        self.contest.touches(chunk)
            || self.hidden.is_some_and(|hidden| {
                hidden.touches(chunk) && {
                    let touched = self.touched[segment].get_or_init(|| {
                        let (of, range) = (&self.planned[segment].segment, self.request.range);
                        hidden.chunks_of(of, &self.source.tenant, range)
                    });
                    touched.contains(&chunk.index)
                }
            })
    }

    /// What to decode: whole records where they may have copies or be hidden.
    fn wanted(&self, segment: usize, chunk: &segment::PlannedChunk) -> Wanted {
        let sifts = self.sifts(segment, chunk);
        Wanted {
            columns: match sifts {
                true => ALL_COLUMNS,
                false => self.request.columns,
            },
            patterns: self.form == Form::Patterns && !sifts,
            outcomes: self.request.outcomes.as_ref().is_some_and(|of| of.wanted),
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
}
