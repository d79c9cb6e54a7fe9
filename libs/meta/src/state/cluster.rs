//! Members, rings and leases.

use std::sync::Arc;

use model::{NodeId, RingVersion, Timestamp};
use rpc::{Catalog, Cluster, ClusterShape, Lease, Member, MemberState, SegmentId};

use super::Rejected;
use super::rings::renew_ring;

pub(super) fn check_form(cluster: &Cluster, shape: &ClusterShape) -> Result<(), Rejected> {
    if shape.shards == 0 || shape.replicas == 0 || shape.slot_nanos < 1 {
        let text = format!("{shape:?} has a zero: shards, replicas and slot are at least 1");
        return Err(Rejected::Invalid(text));
    }
    match &cluster.shape {
        Some(formed) if formed != shape => Err(Rejected::Conflict(format!(
            "the cluster was formed with {} shards, {} replicas and slots of {} ns, not with {}, {} and {}; these are fixed",
            formed.shards,
            formed.replicas,
            formed.slot_nanos,
            shape.shards,
            shape.replicas,
            shape.slot_nanos
        ))),
        _ => Ok(()),
    }
}

pub(super) fn form(cluster: &mut Cluster, shape: &ClusterShape) {
    if cluster.shape.is_none() {
        cluster.shape = Some(*shape);
        cluster.ring.shards = shape.shards;
    }
}

pub(super) fn check_join(cluster: &Cluster) -> Result<(), Rejected> {
    formed(cluster).map(drop)
}

fn formed(cluster: &Cluster) -> Result<&ClusterShape, Rejected> {
    let text = "the cluster is not formed yet";
    let shape = cluster.shape.as_ref();
    shape.ok_or_else(|| Rejected::Conflict(text.to_owned()))
}

/// Batches that were cut by fewer shards may still come under a ring of more: their shards must exist
/// there, so that shards never become fewer.
pub(super) fn check_raise(cluster: &Cluster, shards: u32) -> Result<(), Rejected> {
    let now = formed(cluster)?.shards;
    if shards > ClusterShape::SHARDS_MAX {
        return Err(Rejected::Invalid(format!(
            "{shards} shards are too many: {} is the most",
            ClusterShape::SHARDS_MAX
        )));
    }
    match shards < now {
        true => Err(Rejected::Conflict(format!(
            "the cluster has {now} shards, and there can only be more: {shards} are fewer"
        ))),
        false => Ok(()),
    }
}

pub(super) fn raise_shards(cluster: &mut Cluster, shards: u32) {
    if let Some(shape) = &mut cluster.shape {
        shape.shards = shards;
    }
    renew_ring(cluster);
}

/// Returns the number of the new member.
pub(super) fn join(catalog: &mut Catalog, member: &Member) -> NodeId {
    let same = |known: &&Member| known.address == member.address;
    let before = catalog.cluster.members.values().find(same);
    if let Some(before) = before.map(|member| member.id) {
        forget(&mut catalog.cluster, before);
    }
    catalog.last_node += 1;
    let id = NodeId(catalog.last_node);
    let member = Member {
        id,
        state: MemberState::Joining,
        ..member.clone()
    };
    catalog.cluster.members.insert(id, member);
    id
}

pub(super) fn check_update(cluster: &Cluster, member: &Member) -> Result<(), Rejected> {
    check_member(cluster, member.id)?;
    let mut others = cluster.members.values();
    match others.find(|other| other.id != member.id && other.address == member.address) {
        Some(other) => Err(Rejected::Conflict(format!(
            "node {} has the address {} already",
            other.id.0, other.address
        ))),
        None => Ok(()),
    }
}

pub(super) fn update(cluster: &mut Cluster, member: &Member) {
    if let Some(known) = cluster.members.get_mut(&member.id) {
        let state = known.state;
        *known = Member {
            state,
            ..member.clone()
        };
    }
    renew_ring(cluster);
}

pub(super) fn check_state(
    cluster: &Cluster,
    id: NodeId,
    state: MemberState,
) -> Result<(), Rejected> {
    let known = check_member(cluster, id)?;
    if state < known.state {
        return Err(Rejected::Conflict(format!(
            "node {} is {} and cannot become {} again",
            id.0,
            word(known.state),
            word(state)
        )));
    }
    if state == MemberState::Leaving
        && known.state != state
        && known.roles.ingester
        && !cluster.can_leave(id)
    {
        return Err(Rejected::Conflict(format!(
            "node {} is the only ingester that takes records: start another before this one leaves",
            id.0
        )));
    }
    Ok(())
}

pub(super) fn set_state(cluster: &mut Cluster, id: NodeId, state: MemberState) {
    if let Some(member) = cluster.members.get_mut(&id) {
        member.state = state;
    }
    renew_ring(cluster);
}

pub(super) fn knows(cluster: &mut Cluster, id: NodeId, ring: RingVersion) {
    cluster.rings_wait = true;
    if let Some(next) = &mut cluster.next_ring
        && next.ring.version == ring
    {
        next.known.insert(id);
    }
    renew_ring(cluster);
}

pub(super) fn drained(cluster: &mut Cluster, id: NodeId, through: RingVersion) {
    for past in cluster.past_rings.values_mut() {
        if past.ring.version <= through {
            past.undrained.remove(&id);
        }
    }
    forget_drained(cluster);
}

/// The member is gone. Of one that is gone already nothing changes: whoever got no answer says it again,
/// and means nothing else by that.
pub(super) fn forget(cluster: &mut Cluster, id: NodeId) {
    cluster.members.remove(&id);
    cluster.leases.retain(|_, lease| lease.holder != id);
    renew_ring(cluster);
    for past in cluster.past_rings.values_mut() {
        if past.undrained.remove(&id) {
            past.lost.insert(id);
        }
    }
    forget_drained(cluster);
}

pub(super) fn check_forget(catalog: &Catalog, id: NodeId) -> Result<(), Rejected> {
    match (1..=catalog.last_node).contains(&id.0) {
        true => Ok(()),
        false => check_member(&catalog.cluster, id).map(drop),
    }
}

/// What the node had not stored is gone with it, where nobody else is left who may have it.
pub(super) fn accept_loss(cluster: &mut Cluster, id: NodeId) {
    for past in cluster.past_rings.values_mut() {
        if past.undrained.is_empty() {
            past.lost.remove(&id);
        }
    }
    forget_drained(cluster);
}

pub(super) fn check_accept_loss(cluster: &Cluster, id: NodeId) -> Result<(), Rejected> {
    if cluster.members.contains_key(&id) {
        return Err(Rejected::Conflict(format!(
            "node {} is a member: no loss is accepted before it is forgotten, which says what may be lost",
            id.0
        )));
    }
    if cluster.ring.members.contains_key(&id) {
        let unaware: Vec<String> = cluster.unaware().map(|(id, _)| id.0.to_string()).collect();
        return Err(Rejected::Conflict(format!(
            "the ring that node {} is in is still in use; the next one waits for node {}",
            id.0,
            unaware.join(", ")
        )));
    }
    let past_rings = cluster.past_rings.values();
    let mut lost_to = past_rings.filter(|past| past.lost.contains(&id)).peekable();
    if lost_to.peek().is_none() {
        return Err(Rejected::Conflict(format!(
            "no ring waits for what node {} had: there is no loss to accept (any more)",
            id.0
        )));
    }
    match lost_to.any(|past| past.undrained.is_empty()) {
        true => Ok(()),
        false => Err(Rejected::Conflict(format!(
            "node {} is gone already, and others may have what it had not stored: wait until they have stored that",
            id.0
        ))),
    }
}

pub(super) fn check_member(cluster: &Cluster, id: NodeId) -> Result<&Member, Rejected> {
    cluster.members.get(&id).ok_or_else(|| {
        Rejected::Conflict(format!(
            "there is no node {} in the cluster (any more)",
            id.0
        ))
    })
}

pub(super) fn check_lease(
    cluster: &Cluster,
    name: &str,
    holder: NodeId,
    run_out: Timestamp,
) -> Result<(), Rejected> {
    match cluster.leases.get(name) {
        Some(lease) if lease.holder != holder && lease.until != run_out => Err(Rejected::Conflict(
            format!("node {} has the lease {name:?}", lease.holder.0),
        )),
        _ => Ok(()),
    }
}

pub(super) fn take_lease(cluster: &mut Cluster, name: &Arc<str>, holder: NodeId, until: Timestamp) {
    // Two renewals never look alike, whatever the clocks say.
    let before = cluster.leases.get(name);
    let least = before.map_or(Timestamp::MIN, |lease| lease.until.saturating_add(1));
    let until = until.max(least);
    cluster
        .leases
        .insert(Arc::clone(name), Lease { holder, until });
}

pub(super) fn release_lease(cluster: &mut Cluster, name: &str, holder: NodeId) {
    if cluster.leases.get(name).is_some_and(|l| l.holder == holder) {
        cluster.leases.remove(name);
    }
}

/// Gives up the jobs of segments that are gone: nobody does them again, so that what was not given back
/// would stay until its holder is forgotten.
pub(super) fn drop_leases(cluster: &mut Cluster, gone: &[SegmentId]) {
    if cluster.leases.is_empty() {
        return;
    }
    for segment in gone {
        cluster.leases.remove(Lease::of_merge(*segment).as_str());
        cluster.leases.remove(Lease::of_delete(*segment).as_str());
    }
}

/// Forgets the rings of which nothing is left to be stored, as far as anybody can know: a batch that
/// was acknowledged is with a majority of its owners, so that as long as fewer are lost, one of those
/// who have drained had it.
fn forget_drained(cluster: &mut Cluster) {
    let Some(shape) = cluster.shape else { return };
    cluster.past_rings.retain(|_, past| {
        let owners = shape.owners_among(past.ring.members.len());
        !past.undrained.is_empty() || past.lost.len() >= shape.write_quorum(owners)
    });
}

fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "joining",
        MemberState::Active => "active",
        MemberState::Leaving => "leaving",
    }
}

#[cfg(test)]
mod tests;
