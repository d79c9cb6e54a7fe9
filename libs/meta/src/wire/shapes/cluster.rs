//! Members, rings and leases, with serde.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{NodeId, RingVersion};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::wire) struct ClusterShape {
    shards: u32,
    replicas: u32,
    slot_nanos: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::wire) struct Member {
    id: u64,
    address: String,
    zone: String,
    roles: BTreeSet<Role>,
    state: MemberState,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Role {
    Distributor,
    Ingester,
    Querier,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::wire) enum MemberState {
    Joining,
    Active,
    Leaving,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ring {
    version: u64,
    /// Where it is not that of the shape, which is the newest ring's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shards: Option<u32>,
    members: BTreeMap<u64, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextRing {
    ring: Ring,
    known: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PastRing {
    ring: Ring,
    undrained: BTreeSet<u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lost: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    holder: u64,
    until: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::wire) struct Cluster {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ClusterShape>,
    members: Vec<Member>,
    ring: Ring,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_ring: Option<NextRing>,
    #[serde(default, skip_serializing_if = "super::is_zero")]
    last_ring: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rings_wait: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past_rings: Vec<PastRing>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    leases: BTreeMap<String, Lease>,
}

impl From<&rpc::ClusterShape> for ClusterShape {
    fn from(shape: &rpc::ClusterShape) -> Self {
        ClusterShape {
            shards: shape.shards,
            replicas: shape.replicas,
            slot_nanos: shape.slot_nanos,
        }
    }
}

impl From<ClusterShape> for rpc::ClusterShape {
    fn from(shape: ClusterShape) -> Self {
        rpc::ClusterShape {
            shards: shape.shards,
            replicas: shape.replicas,
            slot_nanos: shape.slot_nanos,
        }
    }
}

impl From<&rpc::Member> for Member {
    fn from(member: &rpc::Member) -> Self {
        let roles = [
            (Role::Distributor, member.roles.distributor),
            (Role::Ingester, member.roles.ingester),
            (Role::Querier, member.roles.querier),
        ];
        Member {
            id: member.id.0,
            address: member.address.to_string(),
            zone: member.zone.to_string(),
            roles: roles
                .into_iter()
                .filter_map(|(role, has)| has.then_some(role))
                .collect(),
            state: member.state.into(),
        }
    }
}

impl From<Member> for rpc::Member {
    fn from(member: Member) -> Self {
        rpc::Member {
            id: NodeId(member.id),
            address: member.address.into(),
            zone: member.zone.into(),
            roles: rpc::RoleSet {
                distributor: member.roles.contains(&Role::Distributor),
                ingester: member.roles.contains(&Role::Ingester),
                querier: member.roles.contains(&Role::Querier),
            },
            state: member.state.into(),
        }
    }
}

impl From<rpc::MemberState> for MemberState {
    fn from(state: rpc::MemberState) -> Self {
        match state {
            rpc::MemberState::Joining => MemberState::Joining,
            rpc::MemberState::Active => MemberState::Active,
            rpc::MemberState::Leaving => MemberState::Leaving,
        }
    }
}

impl From<MemberState> for rpc::MemberState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Joining => rpc::MemberState::Joining,
            MemberState::Active => rpc::MemberState::Active,
            MemberState::Leaving => rpc::MemberState::Leaving,
        }
    }
}

impl Ring {
    fn of(ring: &rpc::Ring, shape: Option<&rpc::ClusterShape>) -> Self {
        let members = ring.members.iter();
        let newest = shape.map_or(0, |shape| shape.shards);
        Ring {
            version: ring.version.0,
            shards: (ring.shards != newest).then_some(ring.shards),
            members: members.map(|(id, zone)| (id.0, zone.to_string())).collect(),
        }
    }

    fn ring(self, shape: Option<&rpc::ClusterShape>) -> rpc::Ring {
        let members = self.members.into_iter();
        let newest = shape.map_or(0, |shape| shape.shards);
        rpc::Ring {
            version: RingVersion(self.version),
            shards: self.shards.unwrap_or(newest),
            members: members
                .map(|(id, zone)| (NodeId(id), Arc::from(zone)))
                .collect(),
        }
    }
}

impl From<&rpc::Cluster> for Cluster {
    fn from(cluster: &rpc::Cluster) -> Self {
        let shape = cluster.shape.as_ref();
        let next = |next: &rpc::NextRing| NextRing {
            ring: Ring::of(&next.ring, shape),
            known: next.known.iter().map(|id| id.0).collect(),
        };
        let past = |past: &rpc::PastRing| PastRing {
            ring: Ring::of(&past.ring, shape),
            undrained: past.undrained.iter().map(|id| id.0).collect(),
            lost: past.lost.iter().map(|id| id.0).collect(),
        };
        let lease = |lease: &rpc::Lease| Lease {
            holder: lease.holder.0,
            until: lease.until,
        };
        Cluster {
            shape: shape.map(ClusterShape::from),
            members: cluster.members.values().map(Member::from).collect(),
            ring: Ring::of(&cluster.ring, shape),
            next_ring: cluster.next_ring.as_ref().map(next),
            last_ring: cluster.last_ring.0,
            rings_wait: cluster.rings_wait,
            past_rings: cluster.past_rings.values().map(past).collect(),
            leases: cluster
                .leases
                .iter()
                .map(|(name, held)| (name.to_string(), lease(held)))
                .collect(),
        }
    }
}

impl From<Cluster> for rpc::Cluster {
    fn from(cluster: Cluster) -> Self {
        let shape = cluster.shape.map(rpc::ClusterShape::from);
        let next = |next: NextRing| rpc::NextRing {
            ring: next.ring.ring(shape.as_ref()),
            known: next.known.into_iter().map(NodeId).collect(),
        };
        let past = |past: PastRing| rpc::PastRing {
            ring: past.ring.ring(shape.as_ref()),
            undrained: past.undrained.into_iter().map(NodeId).collect(),
            lost: past.lost.into_iter().map(NodeId).collect(),
        };
        let lease = |lease: Lease| rpc::Lease {
            holder: NodeId(lease.holder),
            until: lease.until,
        };
        let members = cluster.members.into_iter().map(rpc::Member::from);
        let past_rings = cluster.past_rings.into_iter().map(past);
        rpc::Cluster {
            shape,
            members: members.map(|member| (member.id, member)).collect(),
            ring: cluster.ring.ring(shape.as_ref()),
            next_ring: cluster.next_ring.map(next),
            last_ring: RingVersion(cluster.last_ring),
            rings_wait: cluster.rings_wait,
            past_rings: past_rings.map(|past| (past.ring.version, past)).collect(),
            leases: cluster
                .leases
                .into_iter()
                .map(|(name, held)| (Arc::from(name), lease(held)))
                .collect(),
        }
    }
}
