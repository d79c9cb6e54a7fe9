//! From batches to a segment: sort, drop copies, write.

use std::io::Write;
use std::sync::Arc;

use hashbrown::HashSet;
use model::{Labels, LogBatch, Row, StreamId, TenantId};

use crate::writer::SegmentWriter;
use crate::{EncodeOptions, Encoded, Error};

/// Rows of one stream in one batch.
struct Part<'a> {
    tenant: &'a TenantId,
    id: StreamId,
    labels: &'a Arc<Labels>,
    batch: &'a LogBatch,
    rows: std::ops::Range<u32>,
}

/// Writes all records of the batches as one segment, front to back, to `out`: sorted by (tenant,
/// stream id, timestamp), copies of a record once. Records of equal time keep the order of the
/// batches.
///
/// # Errors
/// `Write` when `out` fails, `RecordTooLarge` for a record over 256 MiB.
pub fn encode(
    batches: &[Arc<LogBatch>],
    options: &EncodeOptions,
    out: &mut dyn Write,
) -> Result<Encoded, Error> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for batch in batches {
        parts.extend(batch.streams.iter().map(|stream| Part {
            tenant: &batch.tenant,
            id: stream.id,
            labels: &stream.labels,
            batch,
            rows: stream.rows.clone(),
        }));
    }
    parts.sort_by(|a, b| (a.tenant, a.id).cmp(&(b.tenant, b.id)));
    let mut writer = SegmentWriter::new(options, out)?;
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut metadata: Vec<(&str, &[u8])> = Vec::new();
    let mut seen = HashSet::new();
    for stream in parts.chunk_by(|a, b| (a.tenant, a.id) == (b.tenant, b.id)) {
        rows.clear();
        for part in stream {
            rows.extend(part.rows.clone().map(|row| part.batch.row(row as usize)));
        }
        rows.sort_by_key(Row::timestamp);
        writer.stream(stream[0].tenant, stream[0].id, stream[0].labels);
        for same_time in rows.chunk_by(|a, b| a.timestamp() == b.timestamp()) {
            seen.clear();
            for row in same_time {
                if same_time.len() > 1 && !seen.insert(row.identity().content) {
                    continue;
                }
                metadata.clear();
                metadata.extend(row.metadata());
                writer.push(row.timestamp(), row.line(), &metadata)?;
            }
        }
    }
    writer.finish()
}
