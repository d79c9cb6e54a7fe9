//! Delete requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{TenantId, TimeRange};
use rpc::{DeleteId, SegmentId};
use serde::{Deserialize, Serialize};

use super::ShapeError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct DeleteRequest {
    tenant: String,
    query: String,
    start: i64,
    end: i64,
    created: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ActiveDelete {
    id: u64,
    request: DeleteRequest,
    pending: BTreeSet<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    begun: bool,
    #[serde(default, skip_serializing_if = "super::is_zero")]
    fed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde gives fields by reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PastDelete {
    id: u64,
    request: DeleteRequest,
}

impl From<&rpc::DeleteRequest> for DeleteRequest {
    fn from(request: &rpc::DeleteRequest) -> Self {
        DeleteRequest {
            tenant: request.tenant.to_string(),
            query: request.query.to_string(),
            start: request.range.start,
            end: request.range.end,
            created: request.created,
        }
    }
}

impl TryFrom<DeleteRequest> for rpc::DeleteRequest {
    type Error = ShapeError;

    fn try_from(request: DeleteRequest) -> Result<Self, ShapeError> {
        Ok(rpc::DeleteRequest {
            tenant: TenantId::new(&request.tenant)?,
            query: request.query.into(),
            range: TimeRange::new(request.start, request.end),
            created: request.created,
        })
    }
}

pub(super) fn active(deletes: &BTreeMap<DeleteId, Arc<rpc::ActiveDelete>>) -> Vec<ActiveDelete> {
    let shape = |(id, delete): (&DeleteId, &Arc<rpc::ActiveDelete>)| ActiveDelete {
        id: id.0,
        request: (&delete.request).into(),
        pending: delete.pending.iter().map(|segment| segment.0).collect(),
        begun: delete.begun,
        fed: delete.fed,
        closed: delete.closed,
    };
    deletes.iter().map(shape).collect()
}

pub(super) fn past(deletes: &BTreeMap<DeleteId, Arc<rpc::DeleteRequest>>) -> Vec<PastDelete> {
    let shape = |(id, request): (&DeleteId, &Arc<rpc::DeleteRequest>)| PastDelete {
        id: id.0,
        request: (&**request).into(),
    };
    deletes.iter().map(shape).collect()
}

pub(super) fn read_active(
    shapes: Vec<ActiveDelete>,
) -> Result<BTreeMap<DeleteId, Arc<rpc::ActiveDelete>>, ShapeError> {
    let read = |shape: ActiveDelete| {
        let delete = rpc::ActiveDelete {
            request: shape.request.try_into()?,
            pending: shape.pending.into_iter().map(SegmentId).collect(),
            begun: shape.begun,
            fed: shape.fed,
            closed: shape.closed,
        };
        Ok((DeleteId(shape.id), Arc::new(delete)))
    };
    shapes.into_iter().map(read).collect()
}

pub(super) fn read_past(
    shapes: Vec<PastDelete>,
) -> Result<BTreeMap<DeleteId, Arc<rpc::DeleteRequest>>, ShapeError> {
    let read = |shape: PastDelete| {
        let request = shape.request.try_into()?;
        Ok((DeleteId(shape.id), Arc::new(request)))
    };
    shapes.into_iter().map(read).collect()
}
