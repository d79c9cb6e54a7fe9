//! From batches to a segment: sort, drop copies, write.

use std::hash::BuildHasher;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashSet};
use model::{Labels, LogBatch, Numbers, StreamId, TenantId, Timestamp, fetch};

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
        fetch_labels(&streams, number);
        let of_stream = &parts[begun..begun + stream.parts as usize];
        begun += of_stream.len();
        while warm < parts.len().min(begun + PARTS_NEAR) {
            fetch_part(&columns, &parts[warm]);
            warm += 1;
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
    let order = ordered(&streams);
    let order = order.iter().map(|number| *number as usize);
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
    let mut table = Numbers::default();
    let hasher = DefaultHashBuilder::default();
    let mut numbers = Vec::with_capacity(batches.iter().map(|batch| batch.streams.len()).sum());
    for batch in batches {
        let tenant = tenants.partition_point(|tenant| **tenant < batch.tenant) as u32;
        for some in batch.streams.chunks(STREAMS_NEAR) {
            let mut tags = [0; STREAMS_NEAR];
            for (tag, stream) in tags.iter_mut().zip(some) {
                *tag = (hasher.hash_one(stream.id) >> 32) as u32;
                table.fetch(*tag);
            }
            for tag in &tags[..some.len()] {
                if let Some(number) = table.guess(*tag) {
                    fetch(&streams[number as usize]);
                }
            }
            for (stream, tag) in some.iter().zip(tags) {
                if stream.rows.is_empty() {
                    continue;
                }
                let is_it = |number: u32| {
                    let other = &streams[number as usize];
                    other.id == stream.id && other.tenant == tenant
                };
                let number = table.find(tag, is_it).unwrap_or_else(|| {
                    let number = streams.len() as u32;
                    table.insert(tag, number);
                    streams.push(StreamParts {
                        tenant,
                        id: stream.id,
                        labels: &stream.labels,
                        parts: 0,
                    });
                    number
                });
                streams[number as usize].parts += 1;
                numbers.push(number);
            }
        }
    }
    (streams, numbers)
}

/// A stream's place among others, as far as it is known.
struct Placed<'a> {
    /// Some bytes of the text, as a number that orders as they do.
    bytes: u64,
    text: &'a str,
    number: u32,
}

/// The numbers of the streams in order of tenant, labels and id.
fn ordered(streams: &[StreamParts<'_>]) -> Vec<u32> {
    let mut order = Vec::with_capacity(streams.len());
    for (number, stream) in streams.iter().enumerate() {
        if let Some(ahead) = streams.get(number + STREAMS_NEAR) {
            fetch(&**ahead.labels);
        }
        let text = stream.labels.text();
        if let Some(byte) = text.as_bytes().first() {
            fetch(byte);
        }
        order.push(Placed {
            bytes: u64::from(stream.tenant),
            text,
            number: number as u32,
        });
    }
    order.sort_unstable_by_key(|placed| placed.bytes);
    for of_tenant in order.chunk_by_mut(|a, b| a.bytes == b.bytes) {
        sort_by_text(of_tenant, 0, streams);
    }
    order.iter().map(|placed| placed.number).collect()
}

/// Sorts streams of one tenant whose texts have the same bytes before `depth`. Texts begin alike as a rule; so
/// that no beginning is compared again and again, eight bytes are compared at a time and those that differ there
/// are never looked at together again (the multikey quicksort of Bentley and Sedgewick, 1997, with eight bytes for
/// one).
fn sort_by_text(some: &mut [Placed<'_>], depth: usize, streams: &[StreamParts<'_>]) {
    const BYTES: usize = 8;
    const DEPTH_MAX: usize = 1 << 10;
    let goes_on = some.iter().any(|placed| placed.text.len() > depth);
    if some.len() < 2 {
        return;
    }
    if !goes_on || depth >= DEPTH_MAX {
        let place_of = |placed: &Placed<'_>| {
            let of = &streams[placed.number as usize];
            place(of.tenant, of.labels, of.id)
        };
        some.sort_unstable_by(|a, b| place_of(a).cmp(&place_of(b)));
        return;
    }
    for placed in &mut *some {
        let rest = placed.text.as_bytes().get(depth..).unwrap_or_default();
        let mut bytes = [0; BYTES];
        match rest.first_chunk() {
            Some(whole) => bytes = *whole,
            // A text that ends comes before one that goes on; zeros that are its own do as well, or it is looked
            // at as a whole in the end.
            None => bytes[..rest.len()].copy_from_slice(rest),
        }
        placed.bytes = u64::from_be_bytes(bytes);
    }
    some.sort_unstable_by_key(|placed| placed.bytes);
    for alike in some.chunk_by_mut(|a, b| a.bytes == b.bytes) {
        sort_by_text(alike, depth + BYTES, streams);
    }
}

/// How many streams, and parts of streams, are brought near before they are read: so that what is done meanwhile
/// takes as long as reading from memory.
const STREAMS_NEAR: usize = 32;
const PARTS_NEAR: usize = 32;

/// Brings the first lines of a part near. With many streams each part is a few lines somewhere in memory.
#[inline]
fn fetch_part(columns: &[Columns<'_>], part: &Part) {
    const LINE_BYTES: usize = 64;
    /// Behind so many bytes the core sees by itself where it goes.
    const NEAR_BYTES: usize = 512;
    let columns = &columns[part.batch as usize];
    if part.rows > 2 {
        let row = part.row as usize;
        fetch(&columns.timestamps[row]);
        fetch(&columns.line_ends[row]);
    }
    let lines = &columns.lines[part.lines.0 as usize..part.lines.1 as usize];
    for line in lines[..lines.len().min(NEAR_BYTES)].chunks(LINE_BYTES) {
        fetch(&line[0]);
    }
    if let Some(byte) = lines.last() {
        fetch(byte);
    }
}

/// The same for the labels of the streams behind one. What leads to them is itself far away: where a batch names the
/// labels, then the labels, then their texts.
fn fetch_labels(streams: &[StreamParts<'_>], number: usize) {
    if let Some(stream) = streams.get(number + STREAMS_NEAR) {
        fetch(stream.labels);
    }
    if let Some(stream) = streams.get(number + STREAMS_NEAR / 2) {
        fetch(&**stream.labels);
    }
    if let Some(stream) = streams.get(number + STREAMS_NEAR / 4) {
        stream.labels.fetch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Texts of few letters begin alike for long; NUL is what a text's end is taken for at first.
        #[test]
        fn streams_are_ordered_as_their_places_are(
            values in prop::collection::vec(("[a\\x00]{0,20}", "[ab\\x00]{0,3}", 0..3u32, 0..3u128), 0..60)
        ) {
            let labels: Vec<Arc<Labels>> = values
                .iter()
                .map(|(a, b, _, _)| Arc::new(Labels::new([("a", a), ("aa", b)]).unwrap()))
                .collect();
            let streams: Vec<StreamParts<'_>> = values
                .iter()
                .zip(&labels)
                .map(|((_, _, tenant, id), labels)| StreamParts {
                    tenant: *tenant,
                    id: StreamId(*id),
                    labels,
                    parts: 1,
                })
                .collect();
            let place_of = |number: &u32| {
                let of = &streams[*number as usize];
                place(of.tenant, of.labels, of.id)
            };
            let mut want: Vec<u32> = (0..streams.len() as u32).collect();
            want.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
            let found = ordered(&streams);
            prop_assert!(found.iter().map(place_of).eq(want.iter().map(place_of)));
            let mut numbers = found;
            numbers.sort_unstable();
            prop_assert!(numbers.into_iter().eq(0..streams.len() as u32));
        }
    }

    #[test]
    fn texts_that_are_alike_for_long_are_ordered() {
        let labels: Vec<Arc<Labels>> = (0..20)
            .map(|n| {
                Arc::new(
                    Labels::new([("a", format!("{}{:02}", "x".repeat(2000), 19 - n))]).unwrap(),
                )
            })
            .collect();
        let streams: Vec<StreamParts<'_>> = labels
            .iter()
            .map(|labels| StreamParts {
                tenant: 0,
                id: StreamId(0),
                labels,
                parts: 1,
            })
            .collect();
        assert!(ordered(&streams).into_iter().eq((0..20).rev()));
    }
}
