//! When a ring is replaced: not before so many members of it know of the next one that whoever asks
//! a read quorum of the owners of any shard asks one of them (`docs/adr/0016-when-a-new-ring-may-be-used.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{NodeId, RingVersion};
use rpc::{Cluster, MemberState, NextRing, PastRing, Ring};

/// Makes a next ring when other ingesters are active than those of the newest ring, or in other zones, or
/// when there are to be more shards; what was said of the one that it replaces is of no worth for it.
/// Puts it to use when it is known.
pub(super) fn renew_ring(cluster: &mut Cluster) {
    let active = cluster
        .ingesters()
        .filter(|member| member.state == MemberState::Active)
        .map(|member| (member.id, Arc::clone(&member.zone)));
    let members: BTreeMap<NodeId, Arc<str>> = active.collect();
    let shards = cluster.shape.map_or(0, |shape| shape.shards);
    let differs = |ring: &Ring| ring.members != members || ring.shards != shards;
    let newest = cluster.next_ring.as_ref().map(|next| &next.ring);
    if differs(newest.unwrap_or(&cluster.ring)) {
        cluster.next_ring = None;
        if differs(&cluster.ring) {
            let last = cluster.last_ring.max(cluster.ring.version);
            cluster.last_ring = RingVersion(last.0 + 1);
            cluster.next_ring = Some(NextRing {
                ring: Ring {
                    version: cluster.last_ring,
                    shards,
                    members,
                },
                known: BTreeSet::new(),
            });
        }
    }
    if !cluster.rings_wait || is_known(cluster) {
        use_next(cluster);
    }
}

/// Whether no shard can lack a write quorum of owners, by the current ring, that know the next one.
/// Owners of a shard stand in distinct zones where there are as many zones as owners: then all of one
/// zone are one owner of any shard at most.
fn is_known(cluster: &Cluster) -> bool {
    let Some(shape) = cluster.shape else {
        return true;
    };
    let members = &cluster.ring.members;
    let owners = shape.owners_among(members.len());
    let zones: BTreeSet<&Arc<str>> = members.values().collect();
    let unaware = match zones.len() >= owners {
        true => {
            let zones: BTreeSet<&Arc<str>> = cluster.unaware().map(|(_, zone)| zone).collect();
            zones.len()
        }
        false => cluster.unaware().count(),
    };
    unaware <= owners.saturating_sub(shape.write_quorum(owners))
}

fn use_next(cluster: &mut Cluster) {
    let Some(next) = cluster.next_ring.take() else {
        return;
    };
    let ring = std::mem::replace(&mut cluster.ring, next.ring);
    if ring.members.is_empty() {
        return;
    }
    // Who was forgotten since the ring came into use has drained nothing of it.
    let members = ring.members.keys().copied();
    let (undrained, lost) = members.partition(|id| cluster.members.contains_key(id));
    let past = PastRing {
        ring,
        undrained,
        lost,
    };
    cluster.past_rings.insert(past.ring.version, past);
}

#[cfg(test)]
mod tests;
