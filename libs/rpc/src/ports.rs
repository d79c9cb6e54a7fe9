use std::sync::Arc;

use async_trait::async_trait;
use model::{BatchId, HeadId, LogBatch, Selector, Shard, Slot, TenantId, TimeRange};

use crate::{Catalog, Command, Error, Outcome, TailReceiver};

/// One (shard, slot) batch on its way to an owner.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// Idempotency key: the same id again is answered like the first time and changes nothing.
    pub batch_id: BatchId,
    /// The shard of every stream in the batch.
    pub shard: Shard,
    /// The slot that the distributor stamped on arrival.
    pub slot: Slot,
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
    /// shutting down. After an error any of the batches may or may not be stored: send them again
    /// under the same ids.
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error>;

    /// Flushes everything that has been acknowledged so far; returns when it is in the catalog.
    ///
    /// # Errors
    /// `Unavailable` or `OutOfSpace` when object storage or meta refuses; nothing is lost, and the
    /// flush is tried again in the background.
    async fn flush(&self) -> Result<(), Error>;
}

/// Which recent records a reader wants.
#[derive(Clone, Debug)]
pub struct RecentRequest {
    /// Whose records.
    pub tenant: TenantId,
    /// Streams.
    pub selector: Selector,
    /// Record times.
    pub range: TimeRange,
}

/// What one head holds for a [`RecentRequest`].
#[derive(Clone, Debug)]
pub struct HeadBatches {
    /// The head; a reader leaves it out when its catalog snapshot covers it.
    pub head: HeadId,
    /// Batches in order of arrival. They hold *at least* the records asked for: the reader filters
    /// by selector and time and drops records with equal identity.
    pub batches: Vec<Arc<LogBatch>>,
}

/// What a querier asks of an ingester.
#[async_trait]
pub trait SearchApi: Send + Sync + 'static {
    /// The records that are not (or not yet known to be) in the catalog.
    ///
    /// # Errors
    /// `Unavailable` when the ingester cannot answer; the query must then fail or be marked partial.
    async fn recent(&self, request: RecentRequest) -> Result<Vec<HeadBatches>, Error>;

    /// Batches as they are acknowledged, of all tenants. A receiver that falls behind learns how
    /// many it missed.
    fn tail(&self) -> TailReceiver;
}

/// What every role asks of the coordinator.
#[async_trait]
pub trait MetaApi: Send + Sync + 'static {
    /// The newest catalog known here.
    fn catalog(&self) -> Arc<Catalog>;

    /// Waits until the catalog is newer than `version`, then returns it.
    async fn changed(&self, version: u64) -> Arc<Catalog>;

    /// Applies one command; when it returns `Ok` the change is on disk and in [`catalog`](Self::catalog).
    ///
    /// # Errors
    /// `Conflict` when the state machine refuses the command (it changes nothing), `Unavailable`
    /// when the coordinator cannot be reached, `OutOfSpace` when its disk is full.
    async fn propose(&self, command: Command) -> Result<Outcome, Error>;
}
