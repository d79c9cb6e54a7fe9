use std::sync::Arc;

use bytemuck::AnyBitPattern;
use hashbrown::HashMap;
use model::{
    BatchId, HeadId, HeadKey, Labels, LogBatch, MetadataKey, RingVersion, Shard, Slot, StreamId,
    StreamRows, TenantId,
};

use super::{Error, Filing};

/// Label sets already decoded, so that the batches of one stream share one. Nobody but the cache and
/// those batches holds it.
#[derive(Debug, Default)]
pub struct StreamCache {
    labels: HashMap<StreamId, Arc<Labels>>,
}

impl StreamCache {
    /// How many label sets are held.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Forgets all label sets; batches that share them keep theirs.
    pub fn clear(&mut self) {
        self.labels.clear();
    }
}

impl StreamCache {
    /// The labels, as they are held already or from now on.
    fn share(&mut self, id: StreamId, labels: &Labels) -> Arc<Labels> {
        let held = self.labels.entry(id);
        let held = held.or_insert_with(|| Arc::new(labels.clone()));
        if **held != *labels {
            *held = Arc::new(labels.clone());
        }
        Arc::clone(held)
    }
}

/// A stream that a file's records have named; its number is its place in the list of them. Not shared
/// with batches: whoever reckons their memory counts who holds their labels.
pub(super) type Known = (StreamId, Labels);

/// Why a payload is not a batch: what was expected. The caller knows where it stands.
#[derive(Debug)]
pub(super) struct BadPayload(pub(super) String);

/// Counts of the fixed part.
const COUNTS: usize = 10;

struct Cursor<'a> {
    bytes: &'a [u8],
}

/// Reads what [`encode_payload`](super::encode_payload) wrote, from another process rather than from
/// a file.
///
/// # Errors
/// `Damaged` when the bytes are not exactly one payload; offsets count from their start.
pub fn decode_payload(
    payload: &[u8],
    cache: &mut StreamCache,
) -> Result<(Filing, LogBatch), Error> {
    let mut known = Vec::new();
    learn(payload, &mut known)
        .and_then(|_| batch(payload, &known, cache))
        .map_err(|bad| bad.at(0))
}

/// Reads only where the batch belongs and which streams the record is the first to name: records behind it
/// name them by number.
pub(super) fn learn(payload: &[u8], known: &mut Vec<Known>) -> Result<Filing, BadPayload> {
    let mut cursor = Cursor { bytes: payload };
    let filing = cursor.filing()?;
    let [tenant, streams, _, _, _, _, _, _, text, before] = cursor.counts()?;
    if before == 0 {
        known.clear();
    } else if before != known.len() {
        let expected = format!("0 or {} streams that are known before", known.len());
        return Err(BadPayload(expected));
    }
    let mut text = Cursor {
        bytes: cursor.take(text)?,
    };
    text.take(tenant)?;
    for _ in 0..streams {
        let (number, _) = (text.u32()? as usize, text.u32()?);
        if number == known.len() {
            let id = StreamId(u128::from_le_bytes(text.array()?));
            known.push((id, text.labels()?));
        } else if number > known.len() {
            let expected = format!("stream numbers up to {}", known.len());
            return Err(BadPayload(expected));
        }
    }
    Ok(filing)
}

/// Reads a whole payload, after what it [brings](learn) has become known.
pub(super) fn batch(
    payload: &[u8],
    known: &[Known],
    cache: &mut StreamCache,
) -> Result<(Filing, LogBatch), BadPayload> {
    let mut cursor = Cursor { bytes: payload };
    let filing = cursor.filing()?;
    let [
        tenant,
        streams,
        rows,
        lines,
        keys,
        row_ends,
        pairs,
        values,
        text,
        before,
    ] = cursor.counts()?;
    if row_ends != 0 && row_ends != rows {
        return Err(BadPayload(format!("0 or {rows} rows with pairs")));
    }
    let mut text = Cursor {
        bytes: cursor.take(text)?,
    };
    let tenant = TenantId::new(text.str(tenant)?)
        .map_err(|error| BadPayload(format!("a tenant id ({error})")))?;
    let streams = text.streams(streams, rows, (before, known), cache)?;
    let keys = text.keys(keys)?;
    let pair_keys: Vec<MetadataKey> = text.numbers(pairs)?.into_iter().map(MetadataKey).collect();
    if pair_keys.iter().any(|key| key.0 as usize >= keys.len()) {
        return Err(BadPayload(format!("pair keys below {}", keys.len())));
    }
    text.end()?;
    let batch = LogBatch {
        tenant,
        streams,
        timestamps: cursor.numbers(rows)?,
        line_ends: cursor.ends(rows, lines)?,
        keys,
        row_ends: cursor.ends(row_ends, if row_ends == 0 { 0 } else { pairs })?,
        pair_keys,
        value_ends: cursor.ends(pairs, values)?,
        lines: cursor.take(lines)?.to_vec(),
        values: cursor.take(values)?.to_vec(),
    };
    cursor.end()?;
    Ok((filing, batch))
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BadPayload> {
        let Some((taken, rest)) = self.bytes.split_at_checked(bytes) else {
            return Err(BadPayload(format!("{bytes} more payload bytes")));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPayload> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, BadPayload> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BadPayload> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn str(&mut self, bytes: usize) -> Result<&'a str, BadPayload> {
        std::str::from_utf8(self.take(bytes)?).map_err(|_| BadPayload("UTF-8 text".to_owned()))
    }

    fn end(&self) -> Result<(), BadPayload> {
        match self.bytes.len() {
            0 => Ok(()),
            more => Err(BadPayload(format!("{more} payload bytes fewer"))),
        }
    }

    fn filing(&mut self) -> Result<Filing, BadPayload> {
        let head = HeadId {
            ingester: self.u64()?,
            sequence: self.u64()?,
        };
        let batch_id = BatchId(u128::from_le_bytes(self.array()?));
        let slot = Slot(i64::from_le_bytes(self.array()?));
        let ring = RingVersion(self.u64()?);
        let shard = Shard(self.u32()?);
        Ok(Filing {
            head,
            batch_id,
            key: HeadKey { shard, slot, ring },
        })
    }

    fn counts(&mut self) -> Result<[usize; COUNTS], BadPayload> {
        let mut counts = [0; COUNTS];
        for count in &mut counts {
            *count = self.u32()? as usize;
        }
        Ok(counts)
    }

    fn numbers<T: AnyBitPattern>(&mut self, count: usize) -> Result<Vec<T>, BadPayload> {
        let bytes = self.take(count.saturating_mul(size_of::<T>()))?;
        let numbers = bytes.chunks_exact(size_of::<T>());
        Ok(numbers.map(bytemuck::pod_read_unaligned).collect())
    }

    /// Ascending ends of `count` items in a column of `bytes`.
    fn ends(&mut self, count: usize, bytes: usize) -> Result<Vec<u32>, BadPayload> {
        let ends: Vec<u32> = self.numbers(count)?;
        let last = ends.last().map_or(0, |end| *end as usize);
        if last != bytes || !ends.is_sorted() {
            return Err(BadPayload(format!("ends that ascend to {bytes}")));
        }
        Ok(ends)
    }

    /// The streams of the record, `before` of those that are known had been named before it.
    fn streams(
        &mut self,
        count: usize,
        rows: usize,
        (mut before, known): (usize, &[Known]),
        cache: &mut StreamCache,
    ) -> Result<Vec<StreamRows>, BadPayload> {
        // 8 bytes is the least that a stream takes: a wrong count cannot make us allocate much.
        let mut streams = Vec::with_capacity(count.min(self.bytes.len() / 8));
        let mut row = 0_u32;
        for _ in 0..count {
            let number = self.u32()? as usize;
            let end = row.checked_add(self.u32()?);
            if number == before {
                self.array::<16>()?;
                self.pairs()?;
                before += 1;
            }
            let (Some(end), Some((id, labels))) = (end, known.get(number)) else {
                return Err(BadPayload(format!("streams of {rows} rows together")));
            };
            streams.push(StreamRows {
                id: *id,
                labels: cache.share(*id, labels),
                rows: row..end,
            });
            row = end;
        }
        if row as usize != rows {
            return Err(BadPayload(format!("streams of {rows} rows together")));
        }
        Ok(streams)
    }

    fn labels(&mut self) -> Result<Labels, BadPayload> {
        Labels::new(self.pairs()?).map_err(|error| BadPayload(format!("a label set ({error})")))
    }

    fn pairs(&mut self) -> Result<Vec<(&'a str, &'a str)>, BadPayload> {
        let count = self.u32()? as usize;
        let mut pairs = Vec::with_capacity(count.min(self.bytes.len() / 8));
        for _ in 0..count {
            let (name, value) = (self.u32()? as usize, self.u32()? as usize);
            pairs.push((self.str(name)?, self.str(value)?));
        }
        Ok(pairs)
    }

    fn keys(&mut self, count: usize) -> Result<Vec<Box<str>>, BadPayload> {
        let mut keys = Vec::with_capacity(count.min(self.bytes.len() / 4));
        for _ in 0..count {
            let bytes = self.u32()? as usize;
            keys.push(self.str(bytes)?.into());
        }
        Ok(keys)
    }
}
