//! The rules of delete requests.
//!
//! ```text
//! requested ──▶ active: pending segments are rewritten or found to hold nothing ──▶ closed ──▶ past
//!                 │  ^──────────── somebody has such records, or does not say ────────┘
//!                 └──▶ cancelled: forgotten
//! ```
//! A segment is pending for a request from the moment that it is live (or the request made) until
//! somebody says that none of the request's records are in it.
//!
//! Invariant: of the records that a request names, those acknowledged before it is past are gone then.
//! While it is closed, an ingester that knows that acknowledges none; who finds no head with such
//! records at any ingester, after each has said that it knows, may finish the request. Had it been
//! opened meanwhile, and closed again by somebody else, what was found would say nothing: so each
//! closing is told by its version.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpc::{
    ActiveDelete, Catalog, DeleteId, DeleteRequest, Lease, SegmentId, SegmentMeta, SwapCommit,
};

use super::Rejected;

/// Most active requests of one tenant: every query of the tenant looks at each.
pub const ACTIVE_DELETES_MAX: usize = 1000;
/// Requests of one tenant that stay in the list when they are finished.
pub const PAST_DELETES_MAX: usize = 1000;

pub(super) fn check_request(catalog: &Catalog, request: &DeleteRequest) -> Result<(), Rejected> {
    if request.range.is_empty() {
        let text = "a delete request needs a start before its end".to_owned();
        return Err(Rejected::Invalid(text));
    }
    let active = catalog.deletes.values();
    let active = active.filter(|delete| delete.request.tenant == request.tenant);
    if active.count() >= ACTIVE_DELETES_MAX {
        return Err(Rejected::Invalid(format!(
            "tenant {} has {ACTIVE_DELETES_MAX} delete requests that are not processed yet; wait, or cancel some",
            request.tenant
        )));
    }
    Ok(())
}

pub(super) fn check_active(catalog: &Catalog, id: DeleteId) -> Result<&ActiveDelete, Rejected> {
    match catalog.deletes.get(&id) {
        Some(delete) => Ok(delete),
        None => {
            let text = format!("delete request {} is not active", id.0);
            Err(Rejected::Conflict(text))
        }
    }
}

/// Whether no segment may hold its records.
pub(super) fn check_done(catalog: &Catalog, id: DeleteId) -> Result<&ActiveDelete, Rejected> {
    let delete = check_active(catalog, id)?;
    match delete.pending.first() {
        None => Ok(delete),
        Some(segment) => Err(Rejected::Conflict(format!(
            "delete request {} is still pending for segment {}",
            id.0, segment.0
        ))),
    }
}

pub(super) fn check_finish(
    catalog: &Catalog,
    id: DeleteId,
    closed: Option<u64>,
) -> Result<(), Rejected> {
    let delete = check_done(catalog, id)?;
    // Programs that did not close requests finished them so.
    if closed.is_none() || closed == delete.closed {
        return Ok(());
    }
    Err(Rejected::Conflict(format!(
        "delete request {} was opened since it was looked for its records",
        id.0
    )))
}

/// Records of a cancelled request must stay.
pub(super) fn check_swap(catalog: &Catalog, commit: &SwapCommit) -> Result<(), Rejected> {
    let known = |id: &&DeleteId| {
        catalog.deletes.contains_key(*id) || catalog.past_deletes.contains_key(*id)
    };
    match commit.deleted.iter().find(|id| !known(id)) {
        None => Ok(()),
        Some(id) => Err(Rejected::Conflict(format!(
            "delete request {}, whose records were left out, has been cancelled",
            id.0
        ))),
    }
}

pub(super) fn request(catalog: &mut Catalog, request: &DeleteRequest) -> DeleteId {
    catalog.last_delete += 1;
    let id = DeleteId(catalog.last_delete);
    let touched = catalog.segments.values().filter(|s| request.touches(s));
    let delete = ActiveDelete {
        request: request.clone(),
        pending: touched.map(|segment| segment.id).collect(),
        begun: false,
        fed: 0,
        closed: None,
    };
    catalog.deletes.insert(id, Arc::new(delete));
    id
}

pub(super) fn flushed(catalog: &mut Catalog, added: &[Arc<SegmentMeta>], version: u64) {
    for delete in catalog.deletes.values_mut() {
        let touched = added.iter().filter(|s| delete.request.touches(s));
        let touched: Vec<SegmentId> = touched.map(|segment| segment.id).collect();
        if !touched.is_empty() {
            let delete = Arc::make_mut(delete);
            delete.pending.extend(touched);
            delete.fed = version;
        }
    }
}

/// Added segments that replace nothing are new to the requests, as those of a flush are.
pub(super) fn swapped(
    catalog: &mut Catalog,
    commit: &SwapCommit,
    added: &[Arc<SegmentMeta>],
    version: u64,
) {
    if commit.remove.is_empty() {
        return flushed(catalog, added, version);
    }
    let removed: BTreeSet<SegmentId> = commit.remove.iter().copied().collect();
    for (id, delete) in &mut catalog.deletes {
        if delete.pending.is_disjoint(&removed) {
            continue;
        }
        let delete = Arc::make_mut(delete);
        delete.pending.retain(|segment| !removed.contains(segment));
        if commit.deleted.contains(id) {
            delete.begun = true;
        } else {
            let touched = added.iter().filter(|s| delete.request.touches(s));
            delete.pending.extend(touched.map(|segment| segment.id));
        }
    }
}

pub(super) fn pass(
    catalog: &mut Catalog,
    deletes: &BTreeSet<DeleteId>,
    segments: &BTreeSet<SegmentId>,
) {
    for id in deletes {
        if let Some(delete) = catalog.deletes.get_mut(id) {
            let pending = &mut Arc::make_mut(delete).pending;
            pending.retain(|segment| !segments.contains(segment));
        }
    }
    if catalog.cluster.leases.is_empty() {
        return;
    }
    for segment in segments {
        let mut active = catalog.deletes.values();
        if !active.any(|delete| delete.pending.contains(segment)) {
            let name = Lease::of_delete(*segment);
            catalog.cluster.leases.remove(name.as_str());
        }
    }
}

pub(super) fn close(catalog: &mut Catalog, id: DeleteId, version: u64) {
    if let Some(delete) = catalog.deletes.get_mut(&id) {
        Arc::make_mut(delete).closed = Some(version);
    }
}

pub(super) fn reopen(catalog: &mut Catalog, id: DeleteId, closed: u64) {
    if let Some(delete) = catalog.deletes.get_mut(&id)
        && delete.closed == Some(closed)
    {
        Arc::make_mut(delete).closed = None;
    }
}

pub(super) fn finish(catalog: &mut Catalog, id: DeleteId) {
    let Some(delete) = catalog.deletes.remove(&id) else {
        return;
    };
    let tenant = &delete.request.tenant;
    let past = catalog.past_deletes.iter();
    let of_tenant = past.filter(|(_, request)| request.tenant == *tenant);
    let of_tenant: Vec<DeleteId> = of_tenant.map(|(id, _)| *id).collect();
    let over = (of_tenant.len() + 1).saturating_sub(PAST_DELETES_MAX);
    for id in &of_tenant[..over] {
        catalog.past_deletes.remove(id);
    }
    let request = Arc::new(delete.request.clone());
    catalog.past_deletes.insert(id, request);
}

#[cfg(test)]
mod tests;
