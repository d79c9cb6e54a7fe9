use std::sync::Arc;

use model::LogBatch;
use xxhash_rust::xxh3::Xxh3;

use super::{Error, Filing, NamedStreams, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RecordHeader};

/// Bytes of the payload before its text part.
pub(super) const FIXED_BYTES: usize = 92;

/// One batch, ready to be written: the small parts are encoded, the columns stay where they are.
#[derive(Clone, Debug)]
pub struct Record {
    /// Room for the frame, then the payload up to the columns.
    front: Vec<u8>,
    batch: Arc<LogBatch>,
    payload_bytes: u32,
    payload_hash: u64,
}

impl Record {
    /// Encodes the text part and hashes the whole payload. Streams in `named` stand there by number, the
    /// others in full, and `named` learns them: records must be written in the order in which they
    /// are made.
    ///
    /// # Errors
    /// `TooLarge` when the payload would be over [`PAYLOAD_BYTES_MAX`]; `named` is of no more use until it
    /// is cleared.
    pub fn new(
        filing: &Filing,
        batch: Arc<LogBatch>,
        named: &mut NamedStreams,
    ) -> Result<Self, Error> {
        let mut front = vec![0; RECORD_HEADER_BYTES + FIXED_BYTES];
        let known = named.begin_record(batch.streams.len());
        put_text(&mut front, &batch, known, named.numbers(&batch.streams));
        let text_bytes = front.len() - RECORD_HEADER_BYTES - FIXED_BYTES;
        let columns_bytes: usize = columns(&batch).iter().map(|c| c.len()).sum();
        let bytes = FIXED_BYTES + text_bytes + columns_bytes;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(Error::TooLarge {
                bytes,
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        let fixed = fixed_part(filing, &batch, text_bytes, known);
        front[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + FIXED_BYTES].copy_from_slice(&fixed);
        let mut hash = Xxh3::new();
        hash.update(&front[RECORD_HEADER_BYTES..]);
        for column in columns(&batch) {
            hash.update(column);
        }
        Ok(Record {
            front,
            batch,
            payload_bytes: bytes as u32,
            payload_hash: hash.digest(),
        })
    }

    /// Completes the frame; to be called before [`parts`](Self::parts).
    pub fn place(&mut self, file: u64, sequence: u64, group_start: u64) {
        let header = RecordHeader {
            payload_bytes: self.payload_bytes,
            sequence,
            group_start,
            payload_hash: self.payload_hash,
        };
        self.front[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode(file));
    }

    /// The record's bytes, in order; some parts may be empty.
    pub fn parts(&self) -> [&[u8]; 7] {
        let [a, b, c, d, e, f] = columns(&self.batch);
        [&self.front, a, b, c, d, e, f]
    }

    /// Length of all parts together.
    pub fn len(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    /// Never: a record has at least its frame.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A batch as the payload of a record, for another process: filing, texts, columns. All streams stand in
/// full.
pub fn encode_payload(filing: &Filing, batch: &LogBatch) -> Vec<u8> {
    let columns = columns(batch);
    let mut text = Vec::new();
    put_text(&mut text, batch, 0, 0..);
    let columns_bytes: usize = columns.iter().map(|column| column.len()).sum();
    let mut out = Vec::with_capacity(FIXED_BYTES + text.len() + columns_bytes);
    out.extend_from_slice(&fixed_part(filing, batch, text.len(), 0));
    out.extend_from_slice(&text);
    for column in columns {
        out.extend_from_slice(column);
    }
    out
}

fn columns(batch: &LogBatch) -> [&[u8]; 6] {
    [
        bytemuck::cast_slice(&batch.timestamps),
        bytemuck::cast_slice(&batch.line_ends),
        bytemuck::cast_slice(&batch.row_ends),
        bytemuck::cast_slice(&batch.value_ends),
        &batch.lines,
        &batch.values,
    ]
}

fn fixed_part(
    filing: &Filing,
    batch: &LogBatch,
    text_bytes: usize,
    known: u32,
) -> [u8; FIXED_BYTES] {
    let mut out = [0; FIXED_BYTES];
    out[..8].copy_from_slice(&filing.head.ingester.to_le_bytes());
    out[8..16].copy_from_slice(&filing.head.sequence.to_le_bytes());
    out[16..32].copy_from_slice(&filing.batch_id.0.to_le_bytes());
    out[32..40].copy_from_slice(&filing.key.slot.0.to_le_bytes());
    out[40..48].copy_from_slice(&filing.key.ring.0.to_le_bytes());
    let counts = [
        filing.key.shard.0,
        batch.tenant.as_str().len() as u32,
        batch.streams.len() as u32,
        batch.len() as u32,
        batch.lines.len() as u32,
        batch.keys.len() as u32,
        batch.row_ends.len() as u32,
        batch.pair_keys.len() as u32,
        batch.values.len() as u32,
        text_bytes as u32,
        known,
    ];
    out[48..].copy_from_slice(bytemuck::cast_slice(&counts));
    out
}

/// `known` streams have a number already; `numbers` gives that of each stream, the next one for one that has
/// none.
fn put_text(
    out: &mut Vec<u8>,
    batch: &LogBatch,
    mut known: u32,
    numbers: impl IntoIterator<Item = u32>,
) {
    out.extend_from_slice(batch.tenant.as_str().as_bytes());
    out.reserve(batch.streams.len() * 8);
    for (stream, number) in batch.streams.iter().zip(numbers) {
        let both = u64::from(number) | (stream.rows.len() as u64) << 32;
        out.extend_from_slice(&both.to_le_bytes());
        if number < known {
            continue;
        }
        known += 1;
        out.extend_from_slice(&stream.id.0.to_le_bytes());
        out.extend_from_slice(&(stream.labels.len() as u32).to_le_bytes());
        for (name, value) in stream.labels.iter() {
            out.extend_from_slice(&(name.len() as u32).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }
    for key in &batch.keys {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
    }
    for key in &batch.pair_keys {
        out.extend_from_slice(&key.0.to_le_bytes());
    }
}
