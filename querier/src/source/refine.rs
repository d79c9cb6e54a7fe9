//! Narrows contested windows to the times at which two sources really have a row each. Copies have
//! equal times, so only those rows must be told apart by their lines; queries that do not look at
//! lines need not read nearly all of them, and others need not hash them.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hashbrown::HashMap;
use model::{Columns, Flow, LineColumn, LineFilter, RowBlock, Signal, StreamId, Timestamp};
use query::{Budget, ScanRequest, SourceError};
use segment::{Plan, PlannedChunk, Scratch};

use super::contest::Contest;
use super::heads::Heads;
use super::{Planned, SnapshotSource, workers};
use crate::segments::{segment_error, storage_error};

/// Chunks whose timestamps are held at once: at 20,000 rows a chunk, about 10 MB of them.
const CHUNKS_AT_ONCE: usize = 256;
/// Chunks of one segment whose timestamps are read at one go.
const CHUNKS_PER_READ: usize = 8;
/// What one time costs, bytes.
const TIME_BYTES: u64 = size_of::<(Timestamp, u32)>() as u64;

const TIMES: Columns = Columns {
    timestamps: true,
    lines: LineColumn::None,
    metadata: false,
};

/// Times inside contested windows, each with the source that has it.
type Times = HashMap<StreamId, Vec<(Timestamp, u32)>>;

/// A chunk whose times are to be looked at.
struct Contested<'a> {
    /// Number of the source.
    source: u32,
    path: &'a Arc<str>,
    /// Of the same segment, but without the line filter: to find times it is not worth applying.
    plan: &'a Plan,
    chunk: &'a PlannedChunk,
}

/// The contest with windows of single times.
///
/// # Errors
/// As a scan.
pub(super) fn refine(
    source: &SnapshotSource,
    request: &ScanRequest,
    budget: &Budget,
    planned: &[Planned],
    heads: &Heads,
    contest: &Contest,
) -> Result<Contest, SourceError> {
    let mut times = head_times(planned.len(), heads, contest);
    let mut held = times.values().map(Vec::len).sum::<usize>() as u64 * TIME_BYTES;
    budget.take_memory(held)?;
    let unfiltered = ScanRequest {
        line_filter: LineFilter::default(),
        ..request.clone()
    };
    let spec = source.spec(&unfiltered);
    let plans: Vec<(u32, &Planned, Plan)> = planned
        .iter()
        .enumerate()
        .filter(|(_, planned)| planned.plan.chunks().iter().any(|c| contest.touches(c)))
        .map(|(at, planned)| (at as u32, planned, planned.segment.plan(&spec)))
        .collect();
    let chunks: Vec<Contested<'_>> = plans
        .iter()
        .flat_map(|(at, planned, plan)| {
            let chunks = planned.plan.chunks().iter();
            chunks.map(move |chunk| Contested {
                source: *at,
                path: &planned.meta.path,
                plan,
                chunk,
            })
        })
        .filter(|contested| contest.touches(contested.chunk))
        .collect();
    for chunks in chunks.chunks(CHUNKS_AT_ONCE) {
        for found in chunk_times(source, budget, chunks, contest)? {
            for (stream, of_chunk) in found {
                let bytes = of_chunk.len() as u64 * TIME_BYTES;
                budget.take_memory(bytes)?;
                held += bytes;
                times.entry(stream).or_default().extend(of_chunk);
            }
        }
    }
    let times: Vec<(StreamId, Vec<(Timestamp, u32)>)> = times.into_iter().collect();
    let shared = workers::map(source.backend.workers, &times, |_, (stream, times)| {
        budget.check()?;
        Ok::<_, SourceError>((*stream, shared_times(times.clone())))
    })?;
    budget.give_memory(held);
    Ok(Contest::at_times(shared))
}

fn head_times(number: usize, heads: &Heads, contest: &Contest) -> Times {
    let mut times = Times::new();
    for stream in &heads.streams {
        let (first, last) = stream.bounds();
        let Some(contested) = contest.of(stream.id, first, last) else {
            continue;
        };
        let inside = stream.rows.iter().map(|row| row.timestamp);
        let inside = inside.filter(|at| contested.contains(*at));
        let of_stream = times.entry(stream.id).or_default();
        of_stream.extend(inside.map(|at| (at, number as u32)));
    }
    times
}

fn chunk_times(
    source: &SnapshotSource,
    budget: &Budget,
    chunks: &[Contested<'_>],
    contest: &Contest,
) -> Result<Vec<Times>, SourceError> {
    let storage = source.backend.segments.storage();
    let groups = chunks
        .chunk_by(|a, b| Arc::ptr_eq(a.path, b.path))
        .flat_map(|of_segment| of_segment.chunks(CHUNKS_PER_READ));
    let reads = futures::stream::iter(groups.map(|group| async {
        let reads = |contested: &Contested<'_>| contested.plan.reads(contested.chunk, TIMES);
        let parts: Vec<_> = group.iter().map(reads).collect();
        let ranges = parts.concat();
        let read = match ranges.is_empty() {
            true => Vec::new(),
            false => {
                let read = storage.ranges(group[0].path, &ranges).await;
                read.map_err(|error| storage_error(&error))?
            }
        };
        let mut read = read.into_iter();
        let of_chunk = |part: &Vec<_>| read.by_ref().take(part.len()).collect();
        Ok::<Vec<Vec<Bytes>>, SourceError>(parts.iter().map(of_chunk).collect())
    }));
    let reads = reads.buffered(source.backend.reads_max).try_concat();
    let bytes: Vec<Vec<Bytes>> = source.wait(budget, reads)?;
    workers::map(source.backend.workers, chunks, |at, chunk| {
        budget.check()?;
        let mut times = Times::new();
        let mut collect = |block: &RowBlock<'_>| {
            let (Some(first), Some(last)) = (block.timestamps.first(), block.timestamps.last())
            else {
                return Flow::Continue;
            };
            let stream = StreamId::of(&source.tenant, Signal::Logs, block.labels);
            if let Some(contested) = contest.of(stream, *first, *last) {
                let of_stream = times.entry(stream).or_default();
                contested.each_inside(block.timestamps, |inside| {
                    of_stream.extend(inside.iter().map(|at| (*at, chunk.source)));
                });
            }
            Flow::Continue
        };
        let mut scratch = Scratch::default();
        let plan = chunk.plan;
        let decoded = plan.decode(chunk.chunk, TIMES, &bytes[at], &mut scratch, &mut collect);
        decoded.map_err(|error| segment_error(&error))?;
        Ok(times)
    })
}

/// Times that more than one source has, ascending.
fn shared_times(mut times: Vec<(Timestamp, u32)>) -> Vec<Timestamp> {
    // Made of a few ascending runs, which this sort merges.
    times.sort();
    times
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| same[0].1 != same[same.len() - 1].1)
        .map(|same| same[0].0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shared_when_two_sources_have_it() {
        let times = vec![(3, 0), (1, 0), (1, 0), (2, 1), (3, 1), (2, 0), (4, 1)];
        assert_eq!(shared_times(times), [2, 3]);
    }
}
