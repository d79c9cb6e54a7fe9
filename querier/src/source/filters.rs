//! Leaving out chunks before they are read: by the filters of their segments, and where many are left,
//! by their values.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use query::{Budget, ScanStats, SourceError};
use segment::Scratch;

use super::{Planned, SnapshotSource, workers};
use crate::segments::{segment_error, storage_error};

/// Values are read first where that saves so many bytes at least: about what a service sends in the time
/// of the one more round trip that it takes.
const SAVED_BYTES_MIN: u64 = 4 << 20;
/// Chunks whose values are held at one time, at most.
const BATCH_CHUNKS: usize = 64;

impl SnapshotSource {
    /// Reads what the plans want of the filters, all at once, and leaves out chunks.
    pub(super) fn filter(
        &self,
        planned: &mut Vec<Planned>,
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<(), SourceError> {
        let is_remote = self.backend.segments.storage().is_remote();
        let chunks = |planned: &[Planned]| -> usize {
            let plans = planned.iter().map(|planned| &planned.plan);
            plans.map(|plan| plan.chunks().len()).sum()
        };
        let before = chunks(planned);
        let reads = futures::stream::iter(planned.iter().map(|planned| {
            let path = Arc::clone(&planned.meta.path);
            let ranges = planned.plan.filter_reads();
            async move {
                if ranges.is_empty() {
                    return Ok(Vec::new());
                }
                let read = self.backend.filters.ranges(&path, &ranges).await;
                read.map_err(|error| storage_error(&error))
            }
        }));
        let reads = reads.buffered(self.backend.reads_max).try_collect();
        let filters: Vec<Vec<Bytes>> = self.wait(budget, reads)?;
        for (planned, filters) in planned.iter_mut().zip(&filters) {
            if filters.is_empty() {
                continue;
            }
            stats.bytes_read += filters.iter().map(|f| f.len() as u64).sum::<u64>();
            let plan = &mut planned.plan;
            plan.apply_filters(filters).map_err(|e| segment_error(&e))?;
        }
        // What most chunks do not hold is rare, and most of the others do not hold it either.
        if is_remote && chunks(planned) <= before / 2 {
            self.look_at_values(planned, budget, stats)?;
        }
        for planned in &*planned {
            stats.chunks_skipped += planned.plan.chunks_skipped() as u64;
        }
        planned.retain(|planned| !planned.plan.chunks().is_empty());
        Ok(())
    }

    /// Reads the values of the chunks and leaves out those that do not hold what is looked for.
    fn look_at_values(
        &self,
        planned: &mut [Planned],
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<(), SourceError> {
        let mut looks = Vec::new();
        let mut saved = 0;
        for (at, planned) in planned.iter().enumerate() {
            for (place, chunk) in planned.plan.chunks().iter().enumerate() {
                if let Some(range) = planned.plan.values_read(chunk) {
                    saved += planned.plan.stored_bytes(chunk) - (range.end - range.start);
                    looks.push((at, place, range));
                }
            }
        }
        if saved < SAVED_BYTES_MIN {
            return Ok(());
        }
        let mut dropped: Vec<Vec<usize>> = vec![Vec::new(); planned.len()];
        for looks in looks.chunks(BATCH_CHUNKS) {
            budget.check()?;
            let bytes: u64 = looks
                .iter()
                .map(|(_, _, range)| range.end - range.start)
                .sum();
            budget.take_memory(bytes)?;
            stats.bytes_read += bytes;
            let reads = looks.iter().map(|(at, _, range)| {
                let path = Arc::clone(&planned[*at].meta.path);
                async move {
                    let read = self.backend.segments.storage().range(&path, range.clone());
                    read.await.map_err(|error| storage_error(&error))
                }
            });
            let reads = futures::stream::iter(reads).buffered(self.backend.reads_max);
            let values: Vec<Bytes> = self.wait(budget, reads.try_collect())?;
            let pairs: Vec<_> = looks.iter().zip(&values).collect();
            let hold = workers::map(
                self.backend.workers,
                &pairs,
                |_, ((at, place, _), values)| {
                    let plan = &planned[*at].plan;
                    let hold =
                        plan.values_hold(&plan.chunks()[*place], values, &mut Scratch::default());
                    hold.map_err(|error| segment_error(&error))
                },
            );
            budget.give_memory(bytes);
            for ((at, place, _), hold) in looks.iter().zip(hold?) {
                if !hold {
                    dropped[*at].push(*place);
                }
            }
        }
        for (planned, dropped) in planned.iter_mut().zip(&dropped) {
            planned.plan.drop_chunks(dropped);
        }
        Ok(())
    }
}
