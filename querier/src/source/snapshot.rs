//! What one query sees: the same heads and the same segments in all its scans, so that `A / A` is
//! 1 while records arrive.

use std::sync::{Arc, OnceLock};

use model::{LogBatch, Selector, TenantId, TimeRange, Timestamp};
use query::SourceError;
use rpc::{Catalog, RecentRequest, SegmentMeta};

use super::{Backend, Hidden};

/// One consistent view of a tenant: what is in heads is not in segments. Holds batches by
/// reference, so it costs nothing until the ingester lets go of them.
pub(crate) struct Snapshot {
    tenant: TenantId,
    recent: Vec<Recent>,
    catalog: Arc<Catalog>,
    hidden: Hidden,
}

struct Recent {
    batch: Arc<LogBatch>,
    /// First and last time, both included; found out when a scan first asks.
    bounds: OnceLock<Option<(Timestamp, Timestamp)>>,
}

impl Snapshot {
    /// Heads first, then the catalog, because records only ever move that way. Which streams and
    /// times the scans of the query will ask for is not known yet, so it takes all of them.
    ///
    /// # Errors
    /// `Unavailable` when the heads cannot be asked, or a delete request is not understood.
    pub(super) async fn take(backend: &Backend, tenant: &TenantId) -> Result<Self, SourceError> {
        let request = RecentRequest {
            tenant: tenant.clone(),
            selector: Selector::default(),
            range: TimeRange::ALL,
        };
        let mut heads = match backend.search.recent(request).await {
            Ok(recent) => recent.heads,
            Err(error) => return Err(SourceError::Unavailable(error.to_string())),
        };
        let catalog = backend.meta.catalog();
        let hidden = backend.hiding.of(&catalog, tenant, (backend.clock)())?;
        heads.retain(|head| !catalog.covers(head.head));
        let held = heads.into_iter().flat_map(|head| head.batches);
        let batches = held.map(|held| held.batch);
        let recent = batches.filter(|batch| batch.tenant == *tenant);
        let recent = recent.map(|batch| Recent {
            batch,
            bounds: OnceLock::new(),
        });
        Ok(Snapshot {
            tenant: tenant.clone(),
            recent: recent.collect(),
            catalog,
            hidden,
        })
    }

    /// What must not be shown although it is there.
    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Batches of heads with a record in the range, in order of arrival.
    pub(super) fn recent(&self, range: TimeRange) -> Vec<Arc<LogBatch>> {
        let touching = self.recent.iter().filter(|recent| recent.touches(range));
        touching.map(|recent| Arc::clone(&recent.batch)).collect()
    }

    /// Segments that may hold records of the range.
    pub(super) fn segments(&self, range: TimeRange) -> Vec<Arc<SegmentMeta>> {
        self.catalog.segments_of(&self.tenant, range)
    }
}

impl Recent {
    fn touches(&self, range: TimeRange) -> bool {
        let bounds = self.bounds.get_or_init(|| self.batch.time_bounds());
        bounds.is_some_and(|(first, last)| range.touches(first, last))
    }
}
