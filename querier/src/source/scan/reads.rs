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

pub(super) type Reading = JoinHandle<Result<Vec<Bytes>, store::Error>>;

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
            let storage = self.source.backend.segments.storage().clone();
            let path = Arc::clone(&planned.meta.path);
            let read = async move { storage.ranges(&path, &ranges).await };
            group.reading = Some(self.source.backend.runtime.spawn(read));
        }
        group
    }

    pub(super) fn finish_reading(&self, reading: Reading) -> Result<Vec<Bytes>, SourceError> {
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
}

impl Queue {
    pub(super) fn abort(self) {
        for group in self.ahead {
            if let Some(reading) = group.reading {
                reading.abort();
            }
        }
    }
}
