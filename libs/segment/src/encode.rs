//! From batches to a segment: sort, drop copies, write.

use std::hash::BuildHasher;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};
use model::{Labels, LogBatch, StreamId, TenantId, Timestamp};

use crate::footer::place;
use crate::writer::SegmentWriter;
use crate::{EncodeOptions, Encoded, Error};

/// Rows of one stream in one batch, by numbers: with many streams there are many parts, each of a few
/// rows, and what they refer to is far away. So of two rows or one, all but their lines stands here.
#[derive(Clone, Copy, Default)]
struct Part {
    /// Times of the first two.
    times: [Timestamp; 2],
    /// Where their lines stand in the batch's; and where the first one ends.
    lines: (u32, u32),
    first_end: u32,
    batch: u32,
    /// The first row, and how many there are.
    row: u32,
    rows: u32,
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

    /// The rows of a stream, of which there are some, in this batch, which has the number.
    fn part(&self, batch: u32, rows: &Range<u32>) -> Part {
        let (first, last) = (rows.start as usize, rows.end as usize - 1);
        let start = first.checked_sub(1).map_or(0, |row| self.line_ends[row]);
        Part {
            times: [self.timestamps[first], self.timestamps[last.min(first + 1)]],
            lines: (start, self.line_ends[last]),
            first_end: self.line_ends[first],
            batch,
            row: rows.start,
            rows: rows.len() as u32,
        }
    }

    /// Adds the rows of a part of this batch.
    fn take(&self, part: &Part, rows: &mut Vec<Taken<'a>>) {
        let mut start = part.lines.0;
        let mut take = |at: u32, timestamp: Timestamp, end: u32| {
            rows.push(Taken {
                timestamp,
                line: &self.lines[start as usize..end as usize],
                batch: part.batch,
                row: part.row + at,
            });
            start = end;
        };
        if part.rows <= 2 {
            take(0, part.times[0], part.first_end);
            if part.rows == 2 {
                take(1, part.times[1], part.lines.1);
            }
            return;
        }
        let all = part.row as usize..(part.row + part.rows) as usize;
        let columns = self.timestamps[all.clone()]
            .iter()
            .zip(&self.line_ends[all]);
        for ((timestamp, end), at) in columns.zip(0..) {
            take(at, *timestamp, *end);
        }
    }
}

/// A row of a stream, what every row has at hand.
#[derive(Clone, Copy)]
struct Taken<'a> {
    timestamp: Timestamp,
    line: &'a [u8],
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
    let (streams, parts) = parts(batches, &columns);
    let mut writer = SegmentWriter::new(options, out)?;
    let mut rows: Vec<Taken<'_>> = Vec::new();
    let mut metadata: Vec<(&str, &[u8])> = Vec::new();
    let mut seen = HashSet::new();
    let mut warm = 0;
    let mut begun = 0;
    for (number, stream) in streams.iter().enumerate() {
        if number % WARM_STREAMS == 0 {
            bring_labels_near(&streams[number..streams.len().min(number + WARM_STREAMS)]);
        }
        let of_stream = &parts[begun..begun + stream.parts as usize];
        begun += of_stream.len();
        while warm < begun {
            let next = &parts[warm..parts.len().min(warm + WARM_PARTS)];
            bring_near(&columns, next);
            warm += next.len();
        }
        rows.clear();
        for part in of_stream {
            columns[part.batch as usize].take(part, &mut rows);
        }
        if !rows.is_sorted_by_key(|row| row.timestamp) {
            rows.sort_by_key(|row| row.timestamp);
        }
        let tenant = &batches[of_stream[0].batch as usize].tenant;
        writer.stream(tenant, stream.id, stream.labels);
        for same_time in rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
            if same_time.len() > 1 {
                seen.clear();
            }
            for taken in same_time {
                let row = || batches[taken.batch as usize].row(taken.row as usize);
                if same_time.len() > 1 && !seen.insert(row().identity().content) {
                    continue;
                }
                metadata.clear();
                if columns[taken.batch as usize].has_metadata {
                    metadata.extend(row().metadata());
                }
                writer.push(taken.timestamp, taken.line, &metadata)?;
            }
        }
    }
    writer.finish()
}

/// The streams of all batches in order of their labels, so that similar lines meet in a chunk; and their
/// parts, those of one stream side by side and in order of the batches.
fn parts<'a>(
    batches: &'a [Arc<LogBatch>],
    columns: &[Columns<'_>],
) -> (Vec<StreamParts<'a>>, Vec<Part>) {
    let (streams, numbers) = listed(batches);
    let mut order: Vec<(&str, u32)> = streams.iter().map(|of| of.labels.text()).zip(0..).collect();
    order.sort_unstable_by(|(text, number), (other_text, other_number)| {
        let (of, other) = (&streams[*number as usize], &streams[*other_number as usize]);
        let tenants = of.tenant.cmp(&other.tenant);
        // Texts differ as a rule, and then nothing else has to be looked at.
        tenants.then_with(|| text.cmp(other_text)).then_with(|| {
            let whole = place(of.tenant, of.labels, of.id);
            whole.cmp(&place(other.tenant, other.labels, other.id))
        })
    });
    let order = order.iter().map(|(_, number)| *number as usize);
    let mut next = 0;
    let mut places = vec![0; streams.len()];
    for number in order.clone() {
        places[number] = next;
        next += streams[number].parts as usize;
    }
    let mut parts = vec![Part::default(); numbers.len()];
    let mut numbers = numbers.iter();
    for ((number_of_batch, batch), columns) in (0..).zip(batches).zip(columns) {
        let streams = batch
            .streams
            .iter()
            .filter(|stream| !stream.rows.is_empty());
        for (stream, number) in streams.zip(&mut numbers) {
            let place = &mut places[*number as usize];
            parts[*place] = columns.part(number_of_batch, &stream.rows);
            *place += 1;
        }
    }
    (order.map(|number| streams[number]).collect(), parts)
}

/// The streams in order of appearance; and which of them each run of rows belongs to, in order of the
/// batches, empty ones left out.
fn listed(batches: &[Arc<LogBatch>]) -> (Vec<StreamParts<'_>>, Vec<u32>) {
    let mut tenants: Vec<&TenantId> = batches.iter().map(|batch| &batch.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut streams: Vec<StreamParts<'_>> = Vec::new();
    let mut table: HashTable<u32> = HashTable::new();
    let hasher = DefaultHashBuilder::default();
    let mut numbers = Vec::with_capacity(batches.iter().map(|batch| batch.streams.len()).sum());
    for batch in batches {
        let tenant = tenants.partition_point(|tenant| **tenant < batch.tenant) as u32;
        let of_batch = batch
            .streams
            .iter()
            .filter(|stream| !stream.rows.is_empty());
        for stream in of_batch {
            let found = table.entry(
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
            numbers.push(number);
        }
    }
    (streams, numbers)
}

/// Streams whose labels are brought near at once, and parts that are: more than a core can load at a time.
const WARM_STREAMS: usize = 32;
const WARM_PARTS: usize = 32;
/// Of each part, so many bytes of lines: behind them the core sees by itself where it goes.
const WARM_BYTES: usize = 512;

/// Reads a little of every part. With many streams each part is a few lines somewhere in memory,
/// and the core would wait for each in turn; these reads do not depend on each other, so it waits
/// for all of them at once.
fn bring_near(columns: &[Columns<'_>], parts: &[Part]) {
    const LINE_BYTES: usize = 64;
    const FEW: usize = 4;
    let mut sum = 0;
    for part in parts {
        let columns = &columns[part.batch as usize];
        if part.rows > 2 {
            let row = part.row as usize;
            sum ^= columns.timestamps[row] as u32 ^ columns.line_ends[row];
        }
        let lines = &columns.lines[part.lines.0 as usize..part.lines.1 as usize];
        let Some(last) = lines.len().checked_sub(1) else {
            continue;
        };
        // Without a branch that depends on how long they are, as a rule: one that is guessed wrong ends the
        // reading ahead.
        for at in 0..FEW {
            sum ^= u32::from(lines[last.min(at * LINE_BYTES)]);
        }
        let more = &lines[lines.len().min(FEW * LINE_BYTES)..lines.len().min(WARM_BYTES)];
        for byte in more.iter().step_by(LINE_BYTES) {
            sum ^= u32::from(*byte);
        }
    }
    std::hint::black_box(sum);
}

/// The same for labels.
fn bring_labels_near(streams: &[StreamParts<'_>]) {
    let counts = streams.iter().map(|of| Arc::strong_count(of.labels));
    std::hint::black_box(counts.sum::<usize>());
}
