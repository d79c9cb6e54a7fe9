use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use model::{
    BatchId, HeadId, HeadKey, LogBatch, RingVersion, Selector, Shard, Slot, StreamId, StreamRows,
    TenantId, TimeRange,
};

use crate::{Catalog, Command, CoveredHeads, Error, Outcome, TailReceiver};

/// One (shard, slot) batch on its way to an owner.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// Idempotency key: the same id again is answered like the first time and changes nothing.
    pub batch_id: BatchId,
    /// The shard of every stream in the batch, or one over which a hot stream is spread.
    pub shard: Shard,
    /// The slot that the distributor stamped on arrival.
    pub slot: Slot,
    /// The ring by which the owner was chosen; 0 while no owner has been: such a batch is taken by
    /// the only member of a ring, and refused where there are others.
    pub ring: RingVersion,
    /// The records.
    pub batch: Arc<LogBatch>,
}

/// What a distributor asks of an ingester.
#[async_trait]
pub trait IngestApi: Send + Sync + 'static {
    /// Stores all the batches; when it returns `Ok`, they are on disk and visible to queries.
    ///
    /// # Errors
    /// `Exhausted` when memory is used up, `OutOfSpace` when the disk is full, `Unavailable` while
    /// shutting down, `Conflict` when the ring of a batch is too old: choose the owners again. After
    /// an error any of the batches may or may not be stored: send them again under the same ids.
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error>;

    /// Flushes everything that has been acknowledged so far; returns when it is in the catalog.
    ///
    /// # Errors
    /// `Unavailable` or `OutOfSpace` when object storage or meta refuses; nothing is lost, and the
    /// flush is tried again in the background.
    async fn flush(&self) -> Result<(), Error>;
}

/// A batch that an ingester has acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldBatch {
    /// Batches with equal ids are equal, whoever holds them; in an answer to a [`RecentRequest`], in
    /// all that was asked for.
    pub id: BatchId,
    /// The records.
    pub batch: Arc<LogBatch>,
}

/// Which recent records a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRequest {
    /// Whose records.
    pub tenant: TenantId,
    /// Streams: those that any of these selects.
    pub selectors: Vec<Selector>,
    /// Record times.
    pub range: TimeRange,
    /// Heads of the asked ingester of which the reader knows that they are in segments: left out.
    /// Whoever asks a whole cluster leaves it empty.
    pub covered: CoveredHeads,
}

impl RecentRequest {
    /// All records of a tenant with times in the range.
    pub fn all(tenant: TenantId, range: TimeRange) -> Self {
        RecentRequest {
            tenant,
            selectors: vec![Selector::default()],
            range,
            covered: CoveredHeads::default(),
        }
    }

    /// Whether the records of a stream are wanted; `known` remembers what was found out.
    pub fn wants(&self, stream: &StreamRows, known: &mut HashMap<StreamId, bool>) -> bool {
        let selects_all = |selector: &Selector| selector.matchers.is_empty();
        self.selectors.iter().any(selects_all)
            || *known.entry(stream.id).or_insert_with(|| {
                let mut selectors = self.selectors.iter();
                selectors.any(|selector| selector.is_match(&stream.labels))
            })
    }
}

/// What one head holds for a [`RecentRequest`].
#[derive(Clone, Debug)]
pub struct HeadBatches {
    /// The head; a reader leaves it out when its catalog snapshot covers it.
    pub head: HeadId,
    /// What its batches are filed under.
    pub key: HeadKey,
    /// Batches in order of arrival. They hold *at least* the records asked for: the reader filters
    /// by selector and time and drops records with equal identity. Some are cut to what was asked
    /// for, others are whole; a batch that is there under its id is as good as another's copy.
    pub batches: Vec<HeldBatch>,
}

/// An ingester's answer to a [`RecentRequest`].
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Heads with such records.
    pub heads: Vec<HeadBatches>,
    /// Version of the catalog that the ingester had when it had gathered the heads. A reader waits
    /// until its own is as new: else it may lack segments whose heads the ingester has let go, or
    /// know only rings that have been replaced and so have asked too few.
    pub version: u64,
}

/// What a querier asks of an ingester.
#[async_trait]
pub trait SearchApi: Send + Sync + 'static {
    /// The records that are not (or not yet known to be) in the catalog.
    ///
    /// # Errors
    /// `Unavailable` when the ingester cannot answer, or, over a whole cluster, when too few owners of
    /// a shard do; the query must then fail.
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error>;

    /// Batches as they are acknowledged, of all tenants. A receiver that falls behind learns how
    /// many it missed.
    fn tail(&self) -> TailReceiver;
}

/// What the owner that is about to flush asks the other owners of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcileRequest {
    /// What is to be flushed.
    pub key: HeadKey,
    /// The batches that the asking owner has.
    pub ids: Vec<BatchId>,
}

/// A head that takes no more batches, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHead {
    /// The head; a commit may cover it together with the asking owner's.
    pub head: HeadId,
    /// All its batches.
    pub ids: Vec<BatchId>,
}

/// The answer to a [`ReconcileRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// The heads of the key that the catalog does not cover; sealed from now on.
    pub heads: Vec<SealedHead>,
    /// Those of the asked ids that are in committed segments already, as far as is remembered.
    pub flushed: Vec<BatchId>,
}

/// What the owners of a shard ask of each other.
#[async_trait]
pub trait OwnerApi: Send + Sync + 'static {
    /// Seals the heads of a key and says what is in them. Waits for writes to them that are under
    /// way.
    ///
    /// # Errors
    /// `Unavailable` when it is stopping or reading its log back; the other then flushes without it.
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error>;

    /// The batches with these ids, of heads in memory; those that are not there are left out.
    ///
    /// # Errors
    /// `Unavailable` when it cannot answer.
    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error>;
}

/// What every role asks of the coordinator.
#[async_trait]
pub trait MetaApi: Send + Sync + 'static {
    /// The newest catalog known here.
    fn catalog(&self) -> Arc<Catalog>;

    /// Waits until the catalog is newer than `version`, then returns it.
    async fn changed(&self, version: u64) -> Arc<Catalog>;

    /// Applies one command; when it returns `Ok` the change is on disk (of a quorum of voters) and
    /// in [`catalog`](Self::catalog).
    ///
    /// # Errors
    /// `Conflict` when the state machine refuses the command (it changes nothing), `Unavailable`
    /// when the coordinator cannot be reached or its answer was lost (the command may have been
    /// applied, or may still be: the catalog tells), `OutOfSpace` when its disk is full.
    async fn propose(&self, command: Command) -> Result<Outcome, Error>;
}
