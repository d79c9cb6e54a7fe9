//! Who is in the cluster, and who owns what: words of the coordinator's state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{NodeId, RingVersion, Timestamp};

use crate::SegmentId;

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoleSet {
    /// Takes records in.
    pub distributor: bool,
    /// Keeps shards. Only ingesters own anything, vote, or have to leave in order.
    pub ingester: bool,
    /// Answers queries.
    pub querier: bool,
}

/// How far a member is on its way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberState {
    /// Known, and not yet ready to take batches.
    Joining,
    /// At work; an ingester in this state owns shards.
    Active,
    /// Takes no batches once a ring without it is in use; then it flushes what it has and goes.
    Leaving,
}

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// `host:port` of its port for other processes.
    pub address: Arc<str>,
    /// Where it runs; copies of a shard go to distinct zones as long as there are enough.
    pub zone: Arc<str>,
    /// What it does.
    pub roles: RoleSet,
    /// How far it is.
    pub state: MemberState,
}

/// What is decided when a cluster is made; only `shards` can be raised later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterShape {
    /// Into how many ranges the newest ring cuts the stream-hash space; at least 1. What a batch of some
    /// ring is filed under, [`Ring::shards`] says.
    pub shards: u32,
    /// How many ingesters own each shard, when there are as many; at least 1.
    pub replicas: u32,
    /// Length of a slot, nanoseconds; at least 1. The same everywhere, so that all owners file a
    /// batch under the same key.
    pub slot_nanos: i64,
}

/// The ingesters among which shards are placed under one ring version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Its version; 0 = there never was an ingester.
    pub version: RingVersion,
    /// Into how many ranges it cuts the stream-hash space; 0 as long as no cluster is formed.
    pub shards: u32,
    /// Ingesters with their zones, in order of id. Placement is a function of these, `shards` and the
    /// replicas alone.
    pub members: BTreeMap<NodeId, Arc<str>>,
}

/// A ring that is to replace the current one, as soon as enough members of that one know of it: then
/// a reader that has heard of neither finds one of them among those that it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextRing {
    /// What is to come; nobody writes under it yet.
    pub ring: Ring,
    /// Members of the current ring that tell nobody of a catalog without this one any more.
    pub known: BTreeSet<NodeId>,
}

/// A ring that was replaced, and of which heads may be left that no segment covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRing {
    /// Its members; readers need a quorum of the owners that it gave each shard.
    pub ring: Ring,
    /// Those that may still hold heads of it. When the last has drained, the ring is forgotten, unless
    /// so many are lost that what was acknowledged may be lost with them: then somebody must say
    /// first that it is.
    pub undrained: BTreeSet<NodeId>,
    /// Those that were forgotten before they had drained: nobody can ask them any more, so that they
    /// count as owners who do not answer.
    pub lost: BTreeSet<NodeId>,
}

/// A job that one process at a time may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who does it.
    pub holder: NodeId,
    /// When it ends by its holder's clock; tells one renewal from another.
    pub until: Timestamp,
}

impl Lease {
    /// The name of the job of merging segments of which this is the one with the least number.
    pub fn of_merge(first: SegmentId) -> String {
        format!("merge {}", first.0)
    }

    /// The name of the job of carrying out delete requests on a segment.
    pub fn of_delete(segment: SegmentId) -> String {
        format!("delete {}", segment.0)
    }
}

/// The part of the coordinator's state that says who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `None` until the cluster is formed.
    pub shape: Option<ClusterShape>,
    /// Every process that joined and has not left, by number.
    pub members: BTreeMap<NodeId, Member>,
    /// New batches go to owners of this ring.
    pub ring: Ring,
    /// What replaces it, where other ingesters are active than those of `ring`, or in other zones, or
    /// where the shards were raised.
    pub next_ring: Option<NextRing>,
    /// The newest version that a ring was given, also one that never came into use: no version means
    /// two rings. 0 in catalogs of older programs, where the current ring has the newest.
    pub last_ring: RingVersion,
    /// Whether a ring waits until members of the one before it know of it: from when the first
    /// ingester said that it knows one. Programs before that had no such word, and changed rings at
    /// once; so do their logs.
    pub rings_wait: bool,
    /// Replaced rings with uncovered heads, oldest first.
    pub past_rings: BTreeMap<RingVersion, PastRing>,
    /// Jobs by name. Those of a segment are given up with it, whoever has them.
    pub leases: BTreeMap<Arc<str>, Lease>,
}

impl ClusterShape {
    /// To so many shards a cluster may be raised: every reader looks at each shard of every ring that
    /// may have heads, and every distributor cuts each request into as many parts.
    pub const SHARDS_MAX: u32 = 4096;

    /// How many of so many ingesters own each shard.
    pub fn owners_among(&self, ingesters: usize) -> usize {
        ingesters.min(self.replicas as usize)
    }

    /// How many owners of a shard must have a batch before it is acknowledged: a majority.
    pub fn write_quorum(&self, owners: usize) -> usize {
        owners / 2 + 1
    }

    /// How many owners of a shard a reader must have asked to be sure to have asked one that has
    /// any given acknowledged batch.
    pub fn read_quorum(&self, owners: usize) -> usize {
        owners - self.write_quorum(owners).min(owners) + 1
    }
}

impl Cluster {
    /// Members of the current ring that may still tell somebody of a catalog without the next one.
    /// Who was forgotten is none of them: whoever forgot it said that it does not come back. Nor is who
    /// has given up the role ingester: it answers no reader, and would begin with the newest catalog.
    pub fn unaware(&self) -> impl Iterator<Item = (NodeId, &Arc<str>)> {
        let members = self.next_ring.iter().flat_map(|next| {
            let members = self.ring.members.iter();
            members.filter(|(id, _)| !next.known.contains(id) && self.is_ingester(**id))
        });
        members.map(|(id, zone)| (*id, zone))
    }

    /// Whether an ingester may leave: another one, which stays, takes what comes then.
    pub fn can_leave(&self, id: NodeId) -> bool {
        let mut others = self.ingesters().filter(|other| other.id != id);
        self.is_ingester(id) && others.any(|other| other.state == MemberState::Active)
    }

    fn is_ingester(&self, id: NodeId) -> bool {
        let member = self.members.get(&id);
        member.is_some_and(|member| member.roles.ingester)
    }

    /// The rings of which heads may be uncovered: the past ones, then the current one.
    pub fn readable_rings(&self) -> impl Iterator<Item = &Ring> {
        let past = self.past_rings.values().map(|past| &past.ring);
        past.chain(std::iter::once(&self.ring))
    }

    /// Members with the role ingester, in order of id.
    pub fn ingesters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.roles.ingester)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_quorum_meets_every_write_quorum_and_no_smaller_one_does() {
        let shape = ClusterShape {
            shards: 1,
            replicas: 3,
            slot_nanos: 1,
        };
        for owners in 1..=7 {
            let (write, read) = (shape.write_quorum(owners), shape.read_quorum(owners));
            assert_eq!(write + read, owners + 1, "{owners} owners");
            assert!(write <= owners && read >= 1);
        }
    }
}
