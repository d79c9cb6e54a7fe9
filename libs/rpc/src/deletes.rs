use std::collections::BTreeSet;
use std::sync::Arc;

use model::{TenantId, TimeRange, Timestamp};

use crate::{Catalog, SegmentId, SegmentMeta};

/// A delete request, by the number that the catalog gave it; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeleteId(pub u64);

/// Records that somebody wants gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Whose records.
    pub tenant: TenantId,
    /// LogQL: a selector and stages that only filter. What passes goes. Whoever needs it compiles
    /// the text anew.
    pub query: Arc<str>,
    /// Record times.
    pub range: TimeRange,
    /// When it was asked for.
    pub created: Timestamp,
}

/// A request whose records may still be stored. They must not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveDelete {
    /// What is to go.
    pub request: DeleteRequest,
    /// Live segments that may still hold such records.
    pub pending: BTreeSet<SegmentId>,
    /// Whether some of its records are gone already: cancelling does not bring those back.
    pub begun: bool,
    /// The version at which a flush last brought a segment that may hold such records; 0: never.
    pub fed: u64,
    /// The version at which it was last closed, while it is: an ingester that knows of it answers for
    /// no batch of the tenant with records of the request's times before it is over or open again.
    pub closed: Option<u64>,
}

impl DeleteRequest {
    /// Whether the segment may hold records of the request, by tenant and time.
    pub fn touches(&self, segment: &SegmentMeta) -> bool {
        segment
            .of_tenant(&self.tenant)
            .is_some_and(|entry| self.range.touches(entry.first, entry.last))
    }
}

impl Catalog {
    /// The requests that hide records of the tenant in the range.
    pub fn active_deletes(
        &self,
        tenant: &TenantId,
        range: TimeRange,
    ) -> impl Iterator<Item = (DeleteId, &DeleteRequest)> {
        self.deletes
            .iter()
            .map(|(id, delete)| (*id, &delete.request))
            .filter(move |(_, request)| {
                request.tenant == *tenant && !request.range.intersection(&range).is_empty()
            })
    }

    /// The requests for which any of these segments still has to be rewritten.
    pub fn deletes_pending(
        &self,
        segments: &BTreeSet<SegmentId>,
    ) -> impl Iterator<Item = (DeleteId, &DeleteRequest)> {
        self.deletes
            .iter()
            .filter(|(_, delete)| !delete.pending.is_disjoint(segments))
            .map(|(id, delete)| (*id, &delete.request))
    }
}
