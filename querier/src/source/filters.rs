//! Leaving out chunks before they are read: by the filters of their segments, and where many are left,
//! by their values.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use query::{Budget, ScanOrder, ScanStats, SourceError};
use segment::Scratch;

use super::{Planned, SnapshotSource, workers};
use crate::segments::{segment_error, storage_error};

/// Values are read first where that saves so many bytes at least: about what a service sends in the time
/// of the one more round trip that it takes.
const SAVED_BYTES_MIN: u64 = 4 << 20;
/// Values that are held at one time, as they are stored; those of one chunk may be more.
const BATCH_BYTES: u64 = 32 << 20;

/// Values that are read first, at most, where a few rows may be enough.
const ORDERED_BYTES_MAX: u64 = 256 << 20;

/// A chunk whose values are to be looked at.
struct Look {
    /// Among the plans.
    plan: usize,
    /// Among the chunks of the plan.
    place: usize,
    range: Range<u64>,
}

impl Look {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Room to decompress values, one for each worker that is at it.
struct Rooms<'b> {
    budget: &'b Budget,
    /// With the bytes that are taken for each.
    free: Mutex<Vec<(Scratch, u64)>>,
}

impl<'b> Rooms<'b> {
    fn new(budget: &'b Budget) -> Self {
        Rooms {
            budget,
            free: Mutex::default(),
        }
    }

    /// Does work that takes so many bytes of room.
    fn within<T>(
        &self,
        bytes: u64,
        work: impl FnOnce(&mut Scratch) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let (mut scratch, taken) = self.free.lock().pop().unwrap_or_default();
        self.budget.take_memory(bytes.saturating_sub(taken))?;
        let done = work(&mut scratch);
        self.free.lock().push((scratch, taken.max(bytes)));
        done
    }

    fn give_back(self) {
        let rooms = self.free.into_inner();
        self.budget
            .give_memory(rooms.iter().map(|(_, taken)| taken).sum());
    }
}

/// How many bytes of values may be read to leave out more chunks, when filters leave `left` of `before`;
/// `vain` of these are expected to hold nothing.
fn look_bytes_max(order: ScanOrder, before: usize, left: usize, vain: f64) -> u64 {
    let (is_rare, bytes_max) = match order {
        // What most chunks do not hold is rare, and most of the others do not hold it either.
        ScanOrder::Any => (left <= before / 2, u64::MAX),
        // Where a few rows are enough the first chunk may have them, unless that is unlikely for any.
        ScanOrder::Backward | ScanOrder::Forward => (vain > left as f64 / 2.0, ORDERED_BYTES_MAX),
    };
    if is_rare { bytes_max } else { 0 }
}

/// In pieces of so many bytes, or of one look.
fn batches(looks: &[Look]) -> impl Iterator<Item = &[Look]> {
    let mut rest = looks;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |look: &&Look| {
            bytes += look.bytes();
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count();
        let (batch, others) = rest.split_at(count.max(1).min(rest.len()));
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

impl SnapshotSource {
    /// Reads what the plans want of the filters, of all segments at once, and leaves out chunks; then,
    /// where that leaves too many, what else may help.
    pub(super) fn filter(
        &self,
        planned: &mut Vec<Planned>,
        order: ScanOrder,
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<(), SourceError> {
        let is_remote = self.backend.segments.storage().is_remote();
        let chunks = |planned: &[Planned]| -> usize {
            let plans = planned.iter().map(|planned| &planned.plan);
            plans.map(|plan| plan.chunks().len()).sum()
        };
        let before = chunks(planned);
        while self.ask_filters(planned, budget, stats)? {}
        let vain = planned.iter().map(|planned| planned.plan.chunks_in_vain());
        let bytes_max = look_bytes_max(order, before, chunks(planned), vain.sum());
        if is_remote && bytes_max > 0 {
            self.look_at_values(planned, bytes_max, budget, stats)?;
        }
        for planned in &*planned {
            stats.chunks_skipped += planned.plan.chunks_skipped() as u64;
        }
        planned.retain(|planned| !planned.plan.chunks().is_empty());
        Ok(())
    }

    /// One round of reads of filters; false when no plan wants any.
    fn ask_filters(
        &self,
        planned: &mut [Planned],
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<bool, SourceError> {
        let wanted: Vec<Vec<Range<u64>>> = planned
            .iter()
            .map(|planned| planned.plan.filter_reads())
            .collect();
        if wanted.iter().all(Vec::is_empty) {
            return Ok(false);
        }
        let pairs = planned.iter().zip(&wanted);
        let reads = futures::stream::iter(pairs.map(|(planned, ranges)| async move {
            if ranges.is_empty() {
                return Ok(Vec::new());
            }
            let read = self.backend.filters.ranges(&planned.meta.path, ranges);
            read.await.map_err(|error| storage_error(&error))
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
        Ok(true)
    }

    /// Reads the values of the chunks, unless these are too many bytes, and leaves out chunks that do not
    /// hold what is looked for.
    fn look_at_values(
        &self,
        planned: &mut [Planned],
        bytes_max: u64,
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<(), SourceError> {
        let mut looks = Vec::new();
        let mut saved = 0;
        for (at, planned) in planned.iter().enumerate() {
            for (place, chunk) in planned.plan.chunks().iter().enumerate() {
                if let Some(range) = planned.plan.values_read(chunk) {
                    let plan = at;
                    let look = Look { plan, place, range };
                    saved += planned.plan.stored_bytes(chunk) - look.bytes();
                    looks.push(look);
                }
            }
        }
        let bytes: u64 = looks.iter().map(Look::bytes).sum();
        if saved < SAVED_BYTES_MIN || bytes > bytes_max {
            return Ok(());
        }
        let mut dropped: Vec<Vec<usize>> = vec![Vec::new(); planned.len()];
        let rooms = Rooms::new(budget);
        for looks in batches(&looks) {
            budget.check()?;
            let bytes: u64 = looks.iter().map(Look::bytes).sum();
            budget.take_memory(bytes)?;
            stats.bytes_read += bytes;
            let hold = self.hold(planned, looks, budget, &rooms)?;
            budget.give_memory(bytes);
            for (look, hold) in looks.iter().zip(hold) {
                if !hold {
                    dropped[look.plan].push(look.place);
                }
            }
        }
        rooms.give_back();
        for (planned, dropped) in planned.iter_mut().zip(&dropped) {
            planned.plan.drop_chunks(dropped);
        }
        Ok(())
    }

    /// Which of the chunks may hold what is looked for.
    fn hold(
        &self,
        planned: &[Planned],
        looks: &[Look],
        budget: &Budget,
        rooms: &Rooms<'_>,
    ) -> Result<Vec<bool>, SourceError> {
        let reads = looks.iter().map(|look| {
            let path = Arc::clone(&planned[look.plan].meta.path);
            async move {
                let storage = self.backend.segments.storage();
                let read = storage.range(&path, look.range.clone());
                read.await.map_err(|error| storage_error(&error))
            }
        });
        let reads = futures::stream::iter(reads).buffered(self.backend.reads_max);
        let values: Vec<Bytes> = self.wait(budget, reads.try_collect())?;
        let pairs: Vec<_> = looks.iter().zip(&values).collect();
        workers::map(self.backend.workers, &pairs, |_, (look, values)| {
            budget.check()?;
            let plan = &planned[look.plan].plan;
            let chunk = &plan.chunks()[look.place];
            rooms.within(plan.text_bytes(chunk), |scratch| {
                let hold = plan.values_hold(chunk, values, scratch);
                hold.map_err(|error| segment_error(&error))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_by_its_bytes_and_has_one_chunk_at_least() {
        const MIB: u64 = 1 << 20;
        let look = |bytes| Look {
            plan: 0,
            place: 0,
            range: 5..5 + bytes,
        };
        let looks = [20 * MIB, 12 * MIB, 1, 40 * MIB, 1, 31 * MIB].map(look);
        let sizes: Vec<usize> = batches(&looks).map(<[Look]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn where_few_rows_are_enough_values_are_looked_at_only_if_hardly_a_chunk_has_one() {
        let forward = |left, vain| look_bytes_max(ScanOrder::Forward, 1_000, left, vain);
        assert_eq!(forward(20, 19.0), ORDERED_BYTES_MAX);
        assert_eq!(forward(20, 9.0), 0);
        assert_eq!(forward(900, 0.0), 0);
        let any = |left| look_bytes_max(ScanOrder::Any, 1_000, left, 0.0);
        assert_eq!(any(500), u64::MAX);
        assert_eq!(any(501), 0);
    }

    #[test]
    fn a_room_is_paid_for_once_and_given_back() {
        let budget = Budget::new(100, 10);
        let rooms = Rooms::new(&budget);
        for bytes in [40, 100, 60] {
            rooms.within(bytes, |_| Ok(())).unwrap();
        }
        assert!(budget.take_memory(1).is_err());
        budget.give_memory(1);
        rooms.give_back();
        budget.take_memory(100).unwrap();
    }
}
