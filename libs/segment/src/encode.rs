//! From batches to a segment: sort, drop copies, write.

use std::io::Write;
use std::sync::Arc;

use hashbrown::HashSet;
use model::{LogBatch, Row, StreamId, StreamRows, TenantId, Timestamp};

use crate::footer::{Place, place};
use crate::writer::SegmentWriter;
use crate::{EncodeOptions, Encoded, Error};

/// Rows of one stream in one batch. Tenants are numbered in their order.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Beside the references, so that sorting follows none.
    id: StreamId,
    tenant: u32,
    batch: &'a LogBatch,
    stream: &'a StreamRows,
}

impl<'a> Part<'a> {
    fn key(&self) -> (u32, StreamId) {
        (self.tenant, self.id)
    }

    /// The rows, each with its time at hand.
    fn rows(&self) -> impl Iterator<Item = (Timestamp, Row<'a>)> + use<'a> {
        let batch = self.batch;
        let rows = self.stream.rows.start as usize..self.stream.rows.end as usize;
        let times = &batch.timestamps[rows.clone()];
        times.iter().copied().zip(rows.map(|row| batch.row(row)))
    }
}

/// Writes all records of the batches as one segment, front to back, to `out`: sorted by (tenant,
/// labels, stream id, timestamp), copies of a record once. Records of equal time keep the order of the
/// batches.
///
/// # Errors
/// `Write` when `out` fails, `RecordTooLarge` for a record over 256 MiB.
pub fn encode(
    batches: &[Arc<LogBatch>],
    options: &EncodeOptions,
    out: &mut dyn Write,
) -> Result<Encoded, Error> {
    let parts = parts(batches);
    let mut writer = SegmentWriter::new(options, out)?;
    let mut rows: Vec<(Timestamp, Row<'_>)> = Vec::new();
    let mut metadata: Vec<(&str, &[u8])> = Vec::new();
    let mut seen = HashSet::new();
    let mut warm = 0;
    let mut begun = 0;
    for stream in parts.chunk_by(|a, b| a.key() == b.key()) {
        begun += stream.len();
        while warm < begun {
            let next = &parts[warm..parts.len().min(warm + WARM_PARTS)];
            bring_near(next);
            warm += next.len();
        }
        rows.clear();
        for part in stream {
            rows.extend(part.rows());
        }
        if !rows.is_sorted_by_key(|row| row.0) {
            rows.sort_by_key(|row| row.0);
        }
        let Part {
            id, batch, stream, ..
        } = stream[0];
        writer.stream(&batch.tenant, id, &stream.labels);
        for same_time in rows.chunk_by(|a, b| a.0 == b.0) {
            if same_time.len() > 1 {
                seen.clear();
            }
            for (timestamp, row) in same_time {
                if same_time.len() > 1 && !seen.insert(row.identity().content) {
                    continue;
                }
                metadata.clear();
                metadata.extend(row.metadata());
                writer.push(*timestamp, row.line(), &metadata)?;
            }
        }
    }
    writer.finish()
}

/// The streams of all batches, those of one stream side by side and in order of the batches.
/// Streams come in order of their labels, so that similar lines meet in a chunk.
fn parts(batches: &[Arc<LogBatch>]) -> Vec<Part<'_>> {
    let mut tenants: Vec<&TenantId> = batches.iter().map(|batch| &batch.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut parts = Vec::with_capacity(batches.iter().map(|batch| batch.streams.len()).sum());
    for batch in batches {
        let tenant = tenants.partition_point(|tenant| **tenant < batch.tenant) as u32;
        let streams = batch
            .streams
            .iter()
            .filter(|stream| !stream.rows.is_empty());
        parts.extend(streams.map(|stream| Part {
            id: stream.id,
            tenant,
            batch,
            stream,
        }));
    }
    // First by id, which is cheap to compare; then only one part of each stream by labels.
    parts.sort_by_key(Part::key);
    let of_stream = parts.chunk_by(|a, b| a.key() == b.key());
    let mut streams: Vec<(Place<'_>, &[Part<'_>])> = of_stream
        .map(|of| (place(of[0].tenant, &of[0].stream.labels, of[0].id), of))
        .collect();
    streams.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    streams.iter().flat_map(|(_, of)| *of).copied().collect()
}

/// Parts that are brought near at once: more than a core can load at a time.
const WARM_PARTS: usize = 32;
/// Of each part, so many bytes of lines: behind them the core sees by itself where it goes.
const WARM_BYTES: usize = 512;

/// Reads a little of every part. With many streams each part is a few lines somewhere in memory,
/// and the core would wait for each in turn; these reads do not depend on each other, so it waits
/// for all of them at once.
fn bring_near(parts: &[Part<'_>]) {
    const LINE_BYTES: usize = 64;
    let mut sum = 0;
    for Part { batch, stream, .. } in parts {
        let row = stream.rows.start as usize;
        sum ^= batch.timestamps[row] as u32 ^ batch.line_ends[row] ^ stream.labels.len() as u32;
    }
    for Part { batch, stream, .. } in parts {
        let row = stream.rows.start as usize;
        let start = row.checked_sub(1).map_or(0, |row| batch.line_ends[row]) as usize;
        let end = batch.line_ends[stream.rows.end as usize - 1] as usize;
        let bytes = &batch.lines[start..end.min(start + WARM_BYTES)];
        for byte in bytes.iter().step_by(LINE_BYTES) {
            sum ^= u32::from(*byte);
        }
    }
    std::hint::black_box(sum);
}
