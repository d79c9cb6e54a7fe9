//! Reads under way ahead of the threads that wait for them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use query::{BudgetError, ScanOrder, SourceError};
use tokio::task::JoinHandle;

use super::Scan;
use super::works::Place;
use crate::segments::storage_error;

/// Reads that are under way, in the order of the works.
#[derive(Default)]
pub(super) struct Queue {
    started: usize,
    done: usize,
    /// Works of the groups.
    waiting: usize,
    ahead: VecDeque<Group>,
}

/// Works side by side, whose parts are read at one go.
pub(super) struct Group {
    pub(super) works: Range<usize>,
    /// How many parts of what is read belong to each work.
    pub(super) parts: Vec<usize>,
    pub(super) reading: Option<Reading>,
}

type Begun = JoinHandle<Result<Vec<Bytes>, store::Error>>;

/// What is to be read of a segment.
pub(super) enum Reading {
    /// It is under way.
    Begun(Begun),
    /// It is begun when it is wanted, as it most likely is at hand.
    Later {
        path: Arc<str>,
        ranges: Vec<Range<u64>>,
    },
}

/// Most chunks of a group: reading one by one, handing over between threads takes as long as decoding.
const GROUP_CHUNKS_MAX: usize = 8;
/// Groups that each thread should find at least, so that all have work to the end.
const GROUPS_PER_THREAD: usize = 4;

impl Scan<'_> {
    /// The next works, with their reads under way; starts those of the works that follow.
    pub(super) fn next(&self) -> Option<Group> {
        let mut queue = self.queue.lock();
        let reads_max = self.source.backend.reads_max;
        // Whoever wants the newest few lines mostly has them after a chunk or two: begin with few
        // reads, and add one for each chunk that was not enough.
        let depth = match self.request.order {
            // Nothing is gained by what is at hand sooner.
            _ if self.at_hand.load(Ordering::Relaxed) => 1,
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
            let wanted = self.wanted(segment, chunk);
            let reads = planned.plan.reads_of(chunk, &wanted);
            group.parts.push(reads.len());
            ranges.extend(reads);
        }
        group.works.end = first + group.parts.len();
        if !ranges.is_empty() {
            let path = Arc::clone(&planned.meta.path);
            group.reading = Some(match self.at_hand.load(Ordering::Relaxed) {
                true => Reading::Later { path, ranges },
                false => Reading::Begun(self.begin(path, ranges)),
            });
        }
        group
    }

    fn begin(&self, path: Arc<str>, ranges: Vec<Range<u64>>) -> Begun {
        let storage = self.source.backend.segments.storage().clone();
        let read = async move { storage.ranges(&path, &ranges).await };
        self.source.backend.runtime.spawn(read)
    }

    pub(super) fn finish_reading(&self, reading: Reading) -> Result<Vec<Bytes>, SourceError> {
        let clock = &self.source.backend.clock;
        let started = clock();
        let read = match reading {
            Reading::Begun(reading) => self.wait_for(reading),
            Reading::Later { path, ranges } => self.read_now(path, ranges),
        };
        let nanos = u64::try_from(clock() - started).unwrap_or(0);
        self.source
            .tally
            .read_nanos
            .fetch_add(nanos, Ordering::Relaxed);
        read
    }

    /// Handing a read to another thread and back takes longer than to copy what the system has in
    /// memory. When it has not, the reads that follow are begun ahead.
    fn read_now(&self, path: Arc<str>, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, SourceError> {
        let storage = self.source.backend.segments.storage();
        let read = storage.ranges_at_hand(&path, &ranges);
        match read.map_err(|error| storage_error(&error))? {
            Some(read) => Ok(read),
            None => {
                self.at_hand.store(false, Ordering::Relaxed);
                self.wait_for(self.begin(path, ranges))
            }
        }
    }

    fn wait_for(&self, reading: Begun) -> Result<Vec<Bytes>, SourceError> {
        self.source.wait(self.budget, async {
            match reading.await {
                Ok(read) => read.map_err(|error| storage_error(&error)),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(BudgetError::Cancelled.into()),
                },
            }
        })
    }
}

impl Queue {
    pub(super) fn abort(self) {
        for group in self.ahead {
            if let Some(Reading::Begun(reading)) = group.reading {
                reading.abort();
            }
        }
    }
}
