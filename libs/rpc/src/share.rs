//! What queriers ask of each other: a share of a query, and how rules are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::{TenantId, TimeRange, Timestamp};

use crate::{DeleteId, Error, SegmentId};

/// Where records are that a share is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSegment {
    /// Its number.
    pub id: SegmentId,
    /// Path of the object below the bucket's root.
    pub path: Arc<str>,
    /// Size of the object.
    pub object_bytes: u64,
    /// The tenant's earliest record in it, included.
    pub first: Timestamp,
    /// The tenant's latest record in it, included.
    pub last: Timestamp,
}

/// One scan of a query, for the records of some segments at some times. All that the other querier
/// needs is in here: it looks into no catalog, so that one version holds for the whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRequest {
    /// Whose records.
    pub tenant: TenantId,
    /// What to look for and what to make of it; the business of the queriers alone.
    pub share: Bytes,
    /// Record times.
    pub range: TimeRange,
    /// Every segment that may hold such records. Copies of one record are all among them.
    pub segments: Vec<ShareSegment>,
    /// What is not to be shown: times and LogQL.
    pub deletes: Vec<(DeleteId, TimeRange, Arc<str>)>,
    /// Rows that may be looked at; 0 means no limit.
    pub rows_max: u64,
    /// Bytes that may be held at once, those of the answer included; 0 means no limit.
    pub memory_bytes_max: u64,
    /// How long it may take.
    pub time: Duration,
}

/// What a querier asks of another.
#[async_trait]
pub trait QueryApi: Send + Sync + 'static {
    /// Does a share; the answer is the business of the queriers alone. Dropping the future ends the
    /// work.
    ///
    /// # Errors
    /// Whatever kept it from being done: the asking querier does it itself then.
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error>;

    /// How the rules of a tenant are, asked of the querier that evaluates them; the answer is the
    /// business of the queriers alone.
    ///
    /// # Errors
    /// `Unavailable` when it does not evaluate rules, which is so by default.
    async fn rules(&self, _tenant: TenantId) -> Result<Bytes, Error> {
        Err(Error::Unavailable(
            "this process evaluates no rules".to_owned(),
        ))
    }
}

/// The querier of a network that has none.
#[derive(Debug)]
pub(crate) struct NoQuerier;

#[async_trait]
impl QueryApi for NoQuerier {
    async fn share(&self, _: ShareRequest) -> Result<Bytes, Error> {
        Err(Error::Unavailable(
            "no other querier can be reached here".to_owned(),
        ))
    }
}
