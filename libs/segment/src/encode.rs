//! From batches to a segment: sort, drop copies, write.

use std::hash::BuildHasher;
use std::io::Write;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};
use model::{Labels, LogBatch, StreamId, TenantId, Timestamp};

use crate::footer::place;
use crate::writer::SegmentWriter;
use crate::{EncodeOptions, Encoded, Error};

/// Rows of one stream in one batch, by numbers: with many streams there are many parts, each of a few
/// rows, and what they refer to is far away.
#[derive(Clone, Copy)]
struct Part {
    stream: u32,
    batch: u32,
    /// First row, and the one behind the last.
    rows: (u32, u32),
    /// Where their lines stand in the batch's.
    lines: (u32, u32),
}

/// A stream over all batches. Tenants are numbered in their order.
#[derive(Clone, Copy)]
struct StreamParts<'a> {
    tenant: u32,
    id: StreamId,
    labels: &'a Arc<Labels>,
    parts: u32,
}

/// The columns of a batch that every row has. The core goes from one batch to the next with each part, so
/// that what it reads of the batches themselves should be little.
#[derive(Clone, Copy)]
struct Columns<'a> {
    timestamps: &'a [Timestamp],
    line_ends: &'a [u32],
    lines: &'a [u8],
    has_metadata: bool,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a LogBatch) -> Self {
        Columns {
            timestamps: &batch.timestamps,
            line_ends: &batch.line_ends,
            lines: &batch.lines,
            has_metadata: !batch.row_ends.is_empty(),
        }
    }

    #[inline]
    fn line(&self, row: u32) -> &'a [u8] {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |row| self.line_ends[row]);
        &self.lines[start as usize..self.line_ends[row] as usize]
    }
}

/// A row of a stream, its time at hand.
#[derive(Clone, Copy)]
struct Taken {
    timestamp: Timestamp,
    batch: u32,
    row: u32,
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
    let columns: Vec<Columns<'_>> = batches.iter().map(|batch| Columns::of(batch)).collect();
    let (streams, parts) = parts(batches);
    let mut writer = SegmentWriter::new(options, out)?;
    let mut rows: Vec<Taken> = Vec::new();
    let mut metadata: Vec<(&str, &[u8])> = Vec::new();
    let mut seen = HashSet::new();
    let mut warm = 0;
    let mut begun = 0;
    for of_stream in parts.chunk_by(|a, b| a.stream == b.stream) {
        begun += of_stream.len();
        while warm < begun {
            let next = &parts[warm..parts.len().min(warm + WARM_PARTS)];
            bring_near(&columns, &streams, next);
            warm += next.len();
        }
        rows.clear();
        for part in of_stream {
            let (first, behind) = part.rows;
            let times = &columns[part.batch as usize].timestamps[first as usize..behind as usize];
            rows.extend(times.iter().zip(first..).map(|(timestamp, row)| Taken {
                timestamp: *timestamp,
                batch: part.batch,
                row,
            }));
        }
        if !rows.is_sorted_by_key(|row| row.timestamp) {
            rows.sort_by_key(|row| row.timestamp);
        }
        let stream = &streams[of_stream[0].stream as usize];
        let tenant = &batches[of_stream[0].batch as usize].tenant;
        writer.stream(tenant, stream.id, stream.labels);
        for same_time in rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
            if same_time.len() > 1 {
                seen.clear();
            }
            for taken in same_time {
                let columns = &columns[taken.batch as usize];
                let row = || batches[taken.batch as usize].row(taken.row as usize);
                if same_time.len() > 1 && !seen.insert(row().identity().content) {
                    continue;
                }
                metadata.clear();
                if columns.has_metadata {
                    metadata.extend(row().metadata());
                }
                writer.push(taken.timestamp, columns.line(taken.row), &metadata)?;
            }
        }
    }
    writer.finish()
}

/// The streams of all batches in order of their labels, so that similar lines meet in a chunk, and their
/// parts: in order of the streams, and those of one in order of the batches.
fn parts(batches: &[Arc<LogBatch>]) -> (Vec<StreamParts<'_>>, Vec<Part>) {
    let (streams, parts) = listed(batches);
    let mut order: Vec<(&str, u32)> = streams.iter().map(|of| of.labels.text()).zip(0..).collect();
    order.sort_by(|(text, number), (other_text, other_number)| {
        let (of, other) = (&streams[*number as usize], &streams[*other_number as usize]);
        let tenants = of.tenant.cmp(&other.tenant);
        // Texts differ as a rule, and then nothing else has to be looked at.
        tenants.then_with(|| text.cmp(other_text)).then_with(|| {
            let whole = place(of.tenant, of.labels, of.id);
            whole.cmp(&place(other.tenant, other.labels, other.id))
        })
    });
    let mut next = 0;
    let mut places = vec![(0, 0); streams.len()];
    for ((_, number), rank) in order.iter().zip(0u32..) {
        places[*number as usize] = (rank, next);
        next += streams[*number as usize].parts as usize;
    }
    let mut sorted = parts.clone();
    for part in parts {
        let (rank, place) = &mut places[part.stream as usize];
        sorted[*place] = Part {
            stream: *rank,
            ..part
        };
        *place += 1;
    }
    let numbers = order.iter().map(|(_, number)| *number as usize);
    let ordered = numbers.map(|number| streams[number]).collect();
    (ordered, sorted)
}

/// The streams and their parts in order of appearance.
fn listed(batches: &[Arc<LogBatch>]) -> (Vec<StreamParts<'_>>, Vec<Part>) {
    let mut tenants: Vec<&TenantId> = batches.iter().map(|batch| &batch.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut streams: Vec<StreamParts<'_>> = Vec::new();
    let mut numbers: HashTable<u32> = HashTable::new();
    let hasher = DefaultHashBuilder::default();
    let mut parts = Vec::with_capacity(batches.iter().map(|batch| batch.streams.len()).sum());
    for (batch_number, batch) in batches.iter().enumerate() {
        let tenant = tenants.partition_point(|tenant| **tenant < batch.tenant) as u32;
        for stream in &batch.streams {
            let Some(last) = stream.rows.clone().last() else {
                continue;
            };
            let found = numbers.entry(
                hasher.hash_one(stream.id),
                |number| {
                    let other = &streams[*number as usize];
                    other.id == stream.id && other.tenant == tenant
                },
                |number| hasher.hash_one(streams[*number as usize].id),
            );
            let number = *found.or_insert(streams.len() as u32).get();
            if number as usize == streams.len() {
                streams.push(StreamParts {
                    tenant,
                    id: stream.id,
                    labels: &stream.labels,
                    parts: 0,
                });
            }
            streams[number as usize].parts += 1;
            let first = stream.rows.start as usize;
            let start = first.checked_sub(1).map_or(0, |row| batch.line_ends[row]);
            parts.push(Part {
                stream: number,
                batch: batch_number as u32,
                rows: (stream.rows.start, stream.rows.end),
                lines: (start, batch.line_ends[last as usize]),
            });
        }
    }
    (streams, parts)
}

/// Parts that are brought near at once: more than a core can load at a time.
const WARM_PARTS: usize = 32;
/// Of each part, so many bytes of lines: behind them the core sees by itself where it goes.
const WARM_BYTES: usize = 512;

/// Reads a little of every part. With many streams each part is a few lines somewhere in memory,
/// and the core would wait for each in turn; these reads do not depend on each other, so it waits
/// for all of them at once.
fn bring_near(columns: &[Columns<'_>], streams: &[StreamParts<'_>], parts: &[Part]) {
    const LINE_BYTES: usize = 64;
    let mut sum = 0;
    for of_stream in parts.chunk_by(|a, b| a.stream == b.stream) {
        let stream = &streams[of_stream[0].stream as usize];
        sum ^= Arc::strong_count(stream.labels) as u32;
    }
    for part in parts {
        let columns = &columns[part.batch as usize];
        let row = part.rows.0 as usize;
        sum ^= columns.timestamps[row] as u32 ^ columns.line_ends[row];
        let (start, end) = (part.lines.0 as usize, part.lines.1 as usize);
        let bytes = &columns.lines[start..end.min(start + WARM_BYTES)];
        for byte in bytes.iter().step_by(LINE_BYTES) {
            sum ^= u32::from(*byte);
        }
    }
    std::hint::black_box(sum);
}
