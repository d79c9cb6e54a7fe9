use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{Labels, Signal, TenantId};

/// 128-bit xxh3 hash of (tenant, signal, labels): the same in every process and for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u128);

impl StreamId {
    /// Hashes `tenant NUL signal NUL (name NUL value NUL)*`, labels in order of name.
    pub fn of(tenant: &TenantId, signal: Signal, labels: &Labels) -> Self {
        // Hashing in pieces costs several times what hashing at one go does, so short texts, which nearly
        // all are, are put together first.
        const USUAL_BYTES: usize = 512;
        let pairs = labels.iter().flat_map(|(name, value)| [name, value]);
        let parts = [tenant.as_str(), signal.as_str()].into_iter().chain(pairs);
        let count = 2 + 2 * labels.len();
        let bytes = tenant.as_str().len() + signal.as_str().len() + labels.text().len() + count;
        if bytes > USUAL_BYTES {
            let mut hash = Xxh3::new();
            for part in parts {
                hash.update(part.as_bytes());
                hash.update(&[0]);
            }
            return StreamId(hash.digest128());
        }
        let mut text = [0; USUAL_BYTES];
        let mut end = 0;
        for part in parts {
            text[end..end + part.len()].copy_from_slice(part.as_bytes());
            end += part.len() + 1;
        }
        StreamId(xxh3_128(&text[..end]))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({:032x})", self.0)
    }
}

/// Idempotency key of one (shard, slot) batch, drawn at random by the distributor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u128);

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchId({:032x})", self.0)
    }
}

/// Order-free sum of the batch ids in a head: equal digests mean equal contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// Adds one batch. Each id is hashed first, so that related ids cannot cancel out.
    pub fn add(&mut self, batch: BatchId) {
        self.0 = self.0.wrapping_add(xxh3_128(&batch.0.to_le_bytes()));
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:032x})", self.0)
    }
}

/// What makes two records of one stream the same record: timestamp, line and metadata, the last
/// two as a 128-bit hash. Records with equal identity are one record and are shown once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordIdentity {
    /// The record's own time.
    pub timestamp: i64,
    /// xxh3-128 over the line and then each metadata pair, lengths included.
    pub content: u128,
}

impl RecordIdentity {
    /// The identity of one record; `metadata` in order of key.
    pub fn of<'a>(
        timestamp: i64,
        line: &[u8],
        metadata: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut metadata = metadata.peekable();
        if metadata.peek().is_none() {
            return RecordIdentity {
                timestamp,
                content: xxh3_128(line),
            };
        }
        let mut hash = Xxh3::new();
        hash.update(&(line.len() as u64).to_le_bytes());
        hash.update(line);
        for (key, value) in metadata {
            hash.update(&(key.len() as u64).to_le_bytes());
            hash.update(key);
            hash.update(&(value.len() as u64).to_le_bytes());
            hash.update(value);
        }
        RecordIdentity {
            timestamp,
            content: hash.digest128(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_is_the_same_for_ever() {
        let labels = Labels::new([("app", "x")]).unwrap();
        let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
        let bytes = b"default\0logs\0app\0x\0";
        assert_eq!(id.0, xxh3_128(bytes));
        for length in 400..600 {
            let value = "v".repeat(length);
            let labels = Labels::new([("b", value.as_str()), ("app", "x")]).unwrap();
            let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
            let text = format!("default\0logs\0app\0x\0b\0{value}\0");
            assert_eq!(id.0, xxh3_128(text.as_bytes()));
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_order() {
        let (mut ab, mut ba) = (Digest::default(), Digest::default());
        ab.add(BatchId(1));
        ab.add(BatchId(2));
        ba.add(BatchId(2));
        ba.add(BatchId(1));
        assert_eq!(ab, ba);
        assert_ne!(ab, Digest::default());
    }

    #[test]
    fn identity_tells_where_the_line_ends_and_metadata_begins() {
        let pair = |k: &'static [u8], v: &'static [u8]| std::iter::once((k, v));
        let one = RecordIdentity::of(1, b"ab", pair(b"c", b"d"));
        let two = RecordIdentity::of(1, b"a", pair(b"bc", b"d"));
        assert_ne!(one, two);
        assert_ne!(one, RecordIdentity::of(1, b"ab", std::iter::empty()));
    }
}
