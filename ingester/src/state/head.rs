use std::sync::Arc;

use model::{BatchId, Digest, HeadKey, LogBatch, TenantId, TimeRange, Timestamp};
use rpc::HeldBatch;

/// How far a head is on its way to object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Sealed,
    Flushing,
}

/// The batches of one key, or a part of them when it was flushed early.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) key: HeadKey,
    pub(super) batches: Vec<Held>,
    pub(super) digest: Digest,
    /// Bytes of its batches and of writes under way.
    pub(super) bytes: usize,
    /// Writes under way.
    pub(super) pending: usize,
    pub(super) stage: Stage,
    /// False while the log is replayed and may hold more of it.
    pub(super) complete: bool,
    /// Failed flushes so far.
    pub(super) attempt: u32,
    /// Not flushed again before this time.
    pub(super) retry_at: Timestamp,
    /// It takes nothing from this time on, and the first owner flushes it, however far ahead its slot is.
    pub(super) latest: Timestamp,
    /// When it is this owner's turn to flush it, once it is sealed.
    pub(super) due: Timestamp,
    /// Another owner is flushing it: not flushed here before this time.
    pub(super) yielded_until: Timestamp,
}

/// One acknowledged batch.
#[derive(Debug)]
pub(super) struct Held {
    id: BatchId,
    batch: Arc<LogBatch>,
    first: Timestamp,
    last: Timestamp,
}

impl Head {
    pub(super) fn new(key: HeadKey, latest: Timestamp) -> Self {
        Head {
            key,
            batches: Vec::new(),
            digest: Digest::default(),
            bytes: 0,
            pending: 0,
            stage: Stage::Open,
            complete: true,
            attempt: 0,
            retry_at: Timestamp::MIN,
            latest,
            due: Timestamp::MAX,
            yielded_until: Timestamp::MIN,
        }
    }

    pub(super) fn push(&mut self, held: Held) {
        self.digest.add(held.id);
        self.batches.push(held);
    }

    pub(super) fn may_flush(&self, now: Timestamp) -> bool {
        self.complete && self.pending == 0 && self.retry_at <= now && self.is_due(now)
    }

    /// Whether it is sealed, and this owner's turn.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due <= now && self.yielded_until <= now
    }

    pub(super) fn batch_ids(&self) -> Vec<BatchId> {
        self.batches.iter().map(|held| held.id).collect()
    }

    pub(super) fn matching(&self, tenant: &TenantId, range: TimeRange) -> Vec<HeldBatch> {
        self.batches
            .iter()
            .filter(|held| range.touches(held.first, held.last) && held.batch.tenant == *tenant)
            .map(Held::shared)
            .collect()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = HeldBatch> + '_ {
        self.batches.iter().map(|held| held.shared())
    }
}

impl Held {
    pub(super) fn new(id: BatchId, batch: Arc<LogBatch>) -> Self {
        let (first, last) = batch.time_bounds().unwrap_or((0, 0));
        Held {
            id,
            batch,
            first,
            last,
        }
    }

    fn shared(&self) -> HeldBatch {
        HeldBatch {
            id: self.id,
            batch: Arc::clone(&self.batch),
        }
    }
}

/// What a batch costs in memory, with what the state keeps for it. Labels that nobody has but this
/// batch, and perhaps the distributor or who reads the log, are its own; others are counted with an
/// earlier batch.
pub(super) fn bytes_of(batch: &LogBatch) -> usize {
    let own = batch.streams.iter().map(|stream| &stream.labels);
    let own = own.filter(|labels| Arc::strong_count(labels) <= 2);
    let labels: usize = own.map(|labels| labels.memory_bytes()).sum();
    batch.memory_bytes() + labels + size_of::<LogBatch>() + size_of::<Held>() + 128
}
