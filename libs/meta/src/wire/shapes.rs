//! Mirror images of the `rpc` types, with serde.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Digest, HeadId, HeadKey, NodeId, RingVersion, Shard, Signal, Slot, TenantError, TenantId,
};
use rpc::{DeleteId, SegmentId};
use serde::{Deserialize, Serialize};

mod cluster;
mod deletes;
mod rules;

use cluster::{Cluster, ClusterShape, Member, MemberState};
use deletes::{ActiveDelete, DeleteRequest, PastDelete};
use rules::{RuleGroup, RuleGroupId, RuleProgress};

/// Why a shape has no counterpart in `rpc`.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShapeError {
    #[error(transparent)]
    Tenant(#[from] TenantError),
    #[error("signal {0:?} is unknown")]
    Signal(String),
    #[error("digest {0:?} is not 32 hexadecimal digits")]
    Digest(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Command {
    FormCluster(ClusterShape),
    RaiseShards(u32),
    Join(Member),
    Update(Member),
    SetState {
        node: u64,
        state: MemberState,
    },
    Knows {
        node: u64,
        ring: u64,
    },
    Drained {
        node: u64,
        ring: u64,
    },
    Forget(u64),
    AcceptLoss(u64),
    TakeLease {
        name: String,
        holder: u64,
        #[serde(rename = "now")]
        run_out: i64,
        until: i64,
    },
    ReleaseLease {
        name: String,
        holder: u64,
    },
    CommitFlush(FlushCommit),
    SwapSegments(SwapCommit),
    ForgetObjects(Vec<String>),
    SetTenant {
        tenant: String,
        settings: TenantSettings,
    },
    RequestDelete(DeleteRequest),
    CancelDelete(u64),
    PassDeletes {
        deletes: BTreeSet<u64>,
        segments: BTreeSet<u64>,
    },
    CloseDelete(u64),
    ReopenDelete {
        id: u64,
        closed: u64,
    },
    /// By programs that did not close requests.
    FinishDelete(u64),
    FinishClosedDelete {
        id: u64,
        closed: u64,
    },
    SetRules {
        group: RuleGroupId,
        definition: String,
        #[serde(default, skip_serializing_if = "is_unlimited")]
        groups_max: u64,
    },
    DeleteRules {
        tenant: String,
        namespace: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    SaveRuleStates {
        holder: u64,
        groups: Vec<RuleProgress>,
    },
}

fn is_unlimited(max: &u64) -> bool {
    *max == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlushCommit {
    shard: u32,
    slot: i64,
    ring: u64,
    /// Ingester and sequence of each head.
    heads: Vec<(u64, u64)>,
    digest: String,
    segments: Vec<SegmentMeta>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwapCommit {
    remove: Vec<u64>,
    add: Vec<SegmentMeta>,
    delete_after: i64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    deleted: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentMeta {
    id: u64,
    signal: String,
    path: String,
    object_bytes: u64,
    created: i64,
    level: u32,
    tenants: Vec<TenantSegment>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantSegment {
    tenant: String,
    records: u64,
    content_bytes: u64,
    first: i64,
    last: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_nanos: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CoveredHeads {
    below: u64,
    also: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    version: u64,
    last_segment: u64,
    last_node: u64,
    cluster: Cluster,
    segments: Vec<SegmentMeta>,
    condemned: BTreeMap<String, i64>,
    covered: BTreeMap<u64, CoveredHeads>,
    tenants: BTreeMap<String, TenantSettings>,
    #[serde(default, skip_serializing_if = "is_zero")]
    last_delete: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deletes: Vec<ActiveDelete>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past_deletes: Vec<PastDelete>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleGroup>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde gives fields by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&rpc::Command> for Command {
    fn from(command: &rpc::Command) -> Self {
        // tidy: long because it is one arm for each command
        match command {
            rpc::Command::FormCluster(shape) => Command::FormCluster(shape.into()),
            rpc::Command::RaiseShards(shards) => Command::RaiseShards(*shards),
            rpc::Command::Join(member) => Command::Join(member.into()),
            rpc::Command::Update(member) => Command::Update(member.into()),
            rpc::Command::SetState(node, state) => Command::SetState {
                node: node.0,
                state: (*state).into(),
            },
            rpc::Command::Knows(node, ring) => Command::Knows {
                node: node.0,
                ring: ring.0,
            },
            rpc::Command::Drained(node, ring) => Command::Drained {
                node: node.0,
                ring: ring.0,
            },
            rpc::Command::Forget(node) => Command::Forget(node.0),
            rpc::Command::AcceptLoss(node) => Command::AcceptLoss(node.0),
            rpc::Command::TakeLease {
                name,
                holder,
                run_out,
                until,
            } => Command::TakeLease {
                name: name.to_string(),
                holder: holder.0,
                run_out: *run_out,
                until: *until,
            },
            rpc::Command::ReleaseLease { name, holder } => Command::ReleaseLease {
                name: name.to_string(),
                holder: holder.0,
            },
            rpc::Command::CommitFlush(commit) => Command::CommitFlush(commit.into()),
            rpc::Command::SwapSegments(commit) => Command::SwapSegments(SwapCommit {
                remove: commit.remove.iter().map(|id| id.0).collect(),
                add: commit.add.iter().map(SegmentMeta::from).collect(),
                delete_after: commit.delete_after,
                deleted: commit.deleted.iter().map(|id| id.0).collect(),
            }),
            rpc::Command::ForgetObjects(paths) => {
                Command::ForgetObjects(paths.iter().map(|path| path.to_string()).collect())
            }
            rpc::Command::SetTenant(tenant, settings) => Command::SetTenant {
                tenant: tenant.to_string(),
                settings: settings.into(),
            },
            rpc::Command::RequestDelete(request) => Command::RequestDelete(request.into()),
            rpc::Command::CancelDelete(id) => Command::CancelDelete(id.0),
            rpc::Command::PassDeletes { deletes, segments } => Command::PassDeletes {
                deletes: deletes.iter().map(|id| id.0).collect(),
                segments: segments.iter().map(|id| id.0).collect(),
            },
            rpc::Command::CloseDelete(id) => Command::CloseDelete(id.0),
            rpc::Command::ReopenDelete(id, closed) => Command::ReopenDelete {
                id: id.0,
                closed: *closed,
            },
            rpc::Command::FinishDelete(id, None) => Command::FinishDelete(id.0),
            rpc::Command::FinishDelete(id, Some(closed)) => Command::FinishClosedDelete {
                id: id.0,
                closed: *closed,
            },
            rpc::Command::SetRules {
                group,
                definition,
                groups_max,
            } => Command::SetRules {
                group: group.into(),
                definition: definition.to_string(),
                groups_max: *groups_max,
            },
            rpc::Command::DeleteRules {
                tenant,
                namespace,
                name,
            } => Command::DeleteRules {
                tenant: tenant.to_string(),
                namespace: namespace.to_string(),
                name: name.as_deref().map(str::to_owned),
            },
            rpc::Command::SaveRuleStates { holder, groups } => Command::SaveRuleStates {
                holder: holder.0,
                groups: groups.iter().map(RuleProgress::from).collect(),
            },
        }
    }
}

impl TryFrom<Command> for rpc::Command {
    type Error = ShapeError;

    fn try_from(command: Command) -> Result<Self, ShapeError> {
        // tidy: long because it is one arm for each command
        Ok(match command {
            Command::FormCluster(shape) => rpc::Command::FormCluster(shape.into()),
            Command::RaiseShards(shards) => rpc::Command::RaiseShards(shards),
            Command::Join(member) => rpc::Command::Join(member.into()),
            Command::Update(member) => rpc::Command::Update(member.into()),
            Command::SetState { node, state } => rpc::Command::SetState(NodeId(node), state.into()),
            Command::Knows { node, ring } => rpc::Command::Knows(NodeId(node), RingVersion(ring)),
            Command::Drained { node, ring } => {
                rpc::Command::Drained(NodeId(node), RingVersion(ring))
            }
            Command::Forget(node) => rpc::Command::Forget(NodeId(node)),
            Command::AcceptLoss(node) => rpc::Command::AcceptLoss(NodeId(node)),
            Command::TakeLease {
                name,
                holder,
                run_out,
                until,
            } => rpc::Command::TakeLease {
                name: name.into(),
                holder: NodeId(holder),
                run_out,
                until,
            },
            Command::ReleaseLease { name, holder } => rpc::Command::ReleaseLease {
                name: name.into(),
                holder: NodeId(holder),
            },
            Command::CommitFlush(commit) => rpc::Command::CommitFlush(commit.try_into()?),
            Command::SwapSegments(commit) => rpc::Command::SwapSegments(rpc::SwapCommit {
                remove: commit.remove.into_iter().map(SegmentId).collect(),
                add: segments(commit.add)?,
                delete_after: commit.delete_after,
                deleted: commit.deleted.into_iter().map(DeleteId).collect(),
            }),
            Command::ForgetObjects(paths) => {
                rpc::Command::ForgetObjects(paths.into_iter().map(Arc::from).collect())
            }
            Command::SetTenant { tenant, settings } => {
                rpc::Command::SetTenant(TenantId::new(&tenant)?, settings.into())
            }
            Command::RequestDelete(request) => rpc::Command::RequestDelete(request.try_into()?),
            Command::CancelDelete(id) => rpc::Command::CancelDelete(DeleteId(id)),
            Command::PassDeletes { deletes, segments } => rpc::Command::PassDeletes {
                deletes: deletes.into_iter().map(DeleteId).collect(),
                segments: segments.into_iter().map(SegmentId).collect(),
            },
            Command::CloseDelete(id) => rpc::Command::CloseDelete(DeleteId(id)),
            Command::ReopenDelete { id, closed } => {
                rpc::Command::ReopenDelete(DeleteId(id), closed)
            }
            Command::FinishDelete(id) => rpc::Command::FinishDelete(DeleteId(id), None),
            Command::FinishClosedDelete { id, closed } => {
                rpc::Command::FinishDelete(DeleteId(id), Some(closed))
            }
            Command::SetRules {
                group,
                definition,
                groups_max,
            } => rpc::Command::SetRules {
                group: group.try_into()?,
                definition: definition.into(),
                groups_max,
            },
            Command::DeleteRules {
                tenant,
                namespace,
                name,
            } => rpc::Command::DeleteRules {
                tenant: TenantId::new(&tenant)?,
                namespace: namespace.into(),
                name: name.map(Arc::from),
            },
            Command::SaveRuleStates { holder, groups } => rpc::Command::SaveRuleStates {
                holder: NodeId(holder),
                groups: groups
                    .into_iter()
                    .map(rpc::RuleProgress::try_from)
                    .collect::<Result<_, ShapeError>>()?,
            },
        })
    }
}

impl From<&rpc::FlushCommit> for FlushCommit {
    fn from(commit: &rpc::FlushCommit) -> Self {
        let heads = commit.heads.iter();
        FlushCommit {
            shard: commit.key.shard.0,
            slot: commit.key.slot.0,
            ring: commit.key.ring.0,
            heads: heads.map(|head| (head.ingester, head.sequence)).collect(),
            digest: format!("{:032x}", commit.digest.0),
            segments: commit.segments.iter().map(SegmentMeta::from).collect(),
        }
    }
}

impl TryFrom<FlushCommit> for rpc::FlushCommit {
    type Error = ShapeError;

    fn try_from(commit: FlushCommit) -> Result<Self, ShapeError> {
        let digest = match u128::from_str_radix(&commit.digest, 16) {
            Ok(digest) if commit.digest.len() == 32 => Digest(digest),
            _ => return Err(ShapeError::Digest(commit.digest)),
        };
        let head = |(ingester, sequence)| HeadId { ingester, sequence };
        Ok(rpc::FlushCommit {
            key: HeadKey {
                shard: Shard(commit.shard),
                slot: Slot(commit.slot),
                ring: RingVersion(commit.ring),
            },
            heads: commit.heads.into_iter().map(head).collect(),
            digest,
            segments: segments(commit.segments)?,
        })
    }
}

fn segments(shapes: Vec<SegmentMeta>) -> Result<Vec<rpc::SegmentMeta>, ShapeError> {
    shapes.into_iter().map(rpc::SegmentMeta::try_from).collect()
}

impl From<&rpc::SegmentMeta> for SegmentMeta {
    fn from(segment: &rpc::SegmentMeta) -> Self {
        SegmentMeta {
            id: segment.id.0,
            signal: segment.signal.as_str().to_owned(),
            path: segment.path.to_string(),
            object_bytes: segment.object_bytes,
            created: segment.created,
            level: segment.level,
            tenants: segment.tenants.iter().map(TenantSegment::from).collect(),
        }
    }
}

impl TryFrom<SegmentMeta> for rpc::SegmentMeta {
    type Error = ShapeError;

    fn try_from(segment: SegmentMeta) -> Result<Self, ShapeError> {
        let signal = match segment.signal.as_str() {
            "logs" => Signal::Logs,
            _ => return Err(ShapeError::Signal(segment.signal)),
        };
        let tenants = segment.tenants.into_iter().map(TryInto::try_into);
        Ok(rpc::SegmentMeta {
            id: SegmentId(segment.id),
            signal,
            path: segment.path.into(),
            object_bytes: segment.object_bytes,
            created: segment.created,
            level: segment.level,
            tenants: tenants.collect::<Result<_, ShapeError>>()?,
        })
    }
}

impl From<&rpc::TenantSegment> for TenantSegment {
    fn from(entry: &rpc::TenantSegment) -> Self {
        TenantSegment {
            tenant: entry.tenant.to_string(),
            records: entry.records,
            content_bytes: entry.content_bytes,
            first: entry.first,
            last: entry.last,
        }
    }
}

impl TryFrom<TenantSegment> for rpc::TenantSegment {
    type Error = ShapeError;

    fn try_from(entry: TenantSegment) -> Result<Self, ShapeError> {
        Ok(rpc::TenantSegment {
            tenant: TenantId::new(&entry.tenant)?,
            records: entry.records,
            content_bytes: entry.content_bytes,
            first: entry.first,
            last: entry.last,
        })
    }
}

impl From<&rpc::TenantSettings> for TenantSettings {
    fn from(settings: &rpc::TenantSettings) -> Self {
        TenantSettings {
            retention_nanos: settings.retention_nanos,
        }
    }
}

impl From<TenantSettings> for rpc::TenantSettings {
    fn from(settings: TenantSettings) -> Self {
        rpc::TenantSettings {
            retention_nanos: settings.retention_nanos,
        }
    }
}

impl From<&rpc::Catalog> for Catalog {
    fn from(catalog: &rpc::Catalog) -> Self {
        let covered = |heads: &rpc::CoveredHeads| CoveredHeads {
            below: heads.below,
            also: heads.also.clone(),
        };
        Catalog {
            version: catalog.version,
            last_segment: catalog.last_segment,
            last_node: catalog.last_node,
            cluster: (&catalog.cluster).into(),
            segments: catalog.segments.values().map(|s| (&**s).into()).collect(),
            condemned: catalog
                .condemned
                .iter()
                .map(|(path, from)| (path.to_string(), *from))
                .collect(),
            covered: catalog
                .covered
                .iter()
                .map(|(ingester, heads)| (*ingester, covered(heads)))
                .collect(),
            tenants: catalog
                .tenants
                .iter()
                .map(|(tenant, settings)| (tenant.to_string(), settings.into()))
                .collect(),
            last_delete: catalog.last_delete,
            deletes: deletes::active(&catalog.deletes),
            past_deletes: deletes::past(&catalog.past_deletes),
            rules: rules::groups(&catalog.rules),
        }
    }
}

impl TryFrom<Catalog> for rpc::Catalog {
    type Error = ShapeError;

    fn try_from(catalog: Catalog) -> Result<Self, ShapeError> {
        let mut tenants = BTreeMap::new();
        for (tenant, settings) in catalog.tenants {
            tenants.insert(TenantId::new(&tenant)?, settings.into());
        }
        let covered = |(ingester, heads): (u64, CoveredHeads)| {
            let (below, also) = (heads.below, heads.also);
            (ingester, rpc::CoveredHeads { below, also })
        };
        Ok(rpc::Catalog {
            version: catalog.version,
            last_segment: catalog.last_segment,
            last_node: catalog.last_node,
            cluster: catalog.cluster.into(),
            segments: segments(catalog.segments)?
                .into_iter()
                .map(|segment| (segment.id, Arc::new(segment)))
                .collect(),
            condemned: catalog
                .condemned
                .into_iter()
                .map(|(path, from)| (path.into(), from))
                .collect(),
            covered: catalog.covered.into_iter().map(covered).collect(),
            tenants,
            last_delete: catalog.last_delete,
            deletes: deletes::read_active(catalog.deletes)?,
            past_deletes: deletes::read_past(catalog.past_deletes)?,
            rules: rules::read_groups(catalog.rules)?,
        })
    }
}
