//! What one query sees: the same heads and the same segments in all its scans, so that `A / A` is
//! 1 while records arrive.

use std::sync::{Arc, OnceLock};

use futures::{StreamExt, TryStreamExt};
use model::{LogBatch, Selector, Signal, TenantId, TimeRange, Timestamp};
use query::{Reach, SourceError};
use rpc::{Catalog, DeleteId, RecentRequest, SegmentMeta, ShareSegment, TenantSegment};

use super::{Backend, Hidden};

/// Of so many tenants of one query the ingesters are asked at once.
const TENANTS_AT_ONCE: usize = 8;

/// One consistent view of a tenant: what is in heads is not in segments. Holds batches by
/// reference, so it costs nothing until the ingester lets go of them.
pub(crate) struct Snapshot {
    tenant: TenantId,
    /// What it was taken for; it may lack other recent records.
    reach: Reach,
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
    /// One for each tenant, all of one version of the catalog. Heads first, then the catalog, because
    /// records only ever move that way.
    ///
    /// # Errors
    /// `Unavailable` when the heads cannot be asked, or a delete request is not understood.
    pub(super) async fn take(
        backend: &Backend,
        reaches: Vec<(TenantId, Reach)>,
    ) -> Result<Vec<Self>, SourceError> {
        let asked = reaches.iter().map(|(tenant, reach)| {
            backend.search.recent(RecentRequest {
                selectors: reach.selectors.clone(),
                ..RecentRequest::all(tenant.clone(), reach.range)
            })
        });
        let asked = futures::stream::iter(asked).buffered(TENANTS_AT_ONCE);
        let recents: Result<Vec<_>, _> = asked.try_collect().await;
        let recents = recents.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let (catalog, now) = (backend.meta.catalog(), (backend.clock)());
        let taken = reaches.into_iter().zip(recents);
        taken
            .map(|((tenant, reach), recent)| {
                let hidden = backend.hiding.of(&catalog, &tenant, now)?;
                let heads = recent.heads.into_iter();
                let heads = heads.filter(|head| !catalog.covers(head.head));
                let batches = heads.flat_map(|head| head.batches).map(|held| held.batch);
                let recent = batches.filter(|batch| batch.tenant == tenant);
                let recent = recent.map(|batch| Recent {
                    batch,
                    bounds: OnceLock::new(),
                });
                Ok(Snapshot {
                    recent: recent.collect(),
                    tenant,
                    reach,
                    catalog: Arc::clone(&catalog),
                    hidden,
                })
            })
            .collect()
    }

    /// Whose records it shows.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What a share of another querier's query is over: these segments, and no recent record.
    pub(crate) fn of_share(tenant: &TenantId, segments: &[ShareSegment], hidden: Hidden) -> Self {
        let meta = |segment: &ShareSegment| SegmentMeta {
            id: segment.id,
            signal: Signal::Logs,
            path: Arc::clone(&segment.path),
            object_bytes: segment.object_bytes,
            created: 0,
            level: 0,
            tenants: vec![TenantSegment {
                tenant: tenant.clone(),
                records: 0,
                content_bytes: 0,
                first: segment.first,
                last: segment.last,
            }],
        };
        let segments = segments.iter();
        let catalog = Catalog {
            segments: segments.map(|s| (s.id, Arc::new(meta(s)))).collect(),
            ..Catalog::default()
        };
        Snapshot {
            tenant: tenant.clone(),
            reach: Reach::everything(),
            recent: Vec::new(),
            catalog: Arc::new(catalog),
            hidden,
        }
    }

    /// The delete requests that hide records of the range: number, times and query.
    pub(super) fn deletes(&self, range: TimeRange) -> Vec<(DeleteId, TimeRange, Arc<str>)> {
        let deletes = self.catalog.active_deletes(&self.tenant, range);
        let told = deletes.map(|(id, delete)| (id, delete.range, Arc::clone(&delete.query)));
        told.collect()
    }

    /// Whether any batch of heads has a record in the range.
    pub(super) fn has_recent(&self, range: TimeRange) -> bool {
        self.recent.iter().any(|recent| recent.touches(range))
    }

    /// Whether it has all that a scan asks for.
    pub(super) fn covers(&self, selector: &Selector, range: TimeRange) -> bool {
        self.reach.covers(selector, range)
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
