//! Have enough owners answered? Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{NodeId, RingVersion, Shard};
use ring::{Placement, Placements};
use rpc::{Cluster, ClusterShape, Ring};

/// Who must answer so that no acknowledged batch is missed.
pub(super) struct Quorum {
    shape: Option<ClusterShape>,
    rings: Vec<Readable>,
}

/// One ring of which heads may be uncovered, or that may be in use soon.
struct Readable {
    version: RingVersion,
    placement: Arc<Placement>,
    /// Owners that hold nothing of it any more: as good as an empty answer.
    drained: BTreeSet<NodeId>,
}

/// A shard of which too few owners have answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) ring: RingVersion,
    pub(super) shard: Shard,
    pub(super) owners: usize,
    pub(super) answered: usize,
    pub(super) needed: usize,
}

impl Quorum {
    pub(super) fn new(cluster: &Cluster, placements: &mut Placements) -> Self {
        let Some(shape) = cluster.shape else {
            return Quorum {
                shape: None,
                rings: Vec::new(),
            };
        };
        let mut place = |ring: &Ring| {
            let members = ring.members.iter().map(|(id, zone)| (*id, zone));
            placements.of(ring.version, members, ring.shards, shape.replicas)
        };
        // The next one may be in use already where nobody who was asked has heard of that. Whoever writes
        // under a ring after it waited until a quorum of its owners knew of that ring, and then one of
        // those who answer tells a newer catalog.
        let next = cluster.next_ring.iter().map(|next| &next.ring);
        let used = next.chain([&cluster.ring]).map(|ring| Readable {
            version: ring.version,
            placement: place(ring),
            drained: BTreeSet::new(),
        });
        let mut rings: Vec<Readable> = used.collect();
        for past in cluster.past_rings.values() {
            let members = past.ring.members.keys();
            let drained =
                members.filter(|id| !past.undrained.contains(id) && !past.lost.contains(id));
            rings.push(Readable {
                version: past.ring.version,
                placement: place(&past.ring),
                drained: drained.copied().collect(),
            });
        }
        let shape = Some(shape);
        Quorum { shape, rings }
    }

    /// The first shard of which too few owners have answered; `None` when all is read.
    pub(super) fn missing(&self, answered: &BTreeSet<NodeId>) -> Option<Missing> {
        let shape = self.shape?;
        self.rings.iter().find_map(|ring| {
            ring.placement.shards().find_map(|(shard, owners)| {
                let has = |id: &&NodeId| answered.contains(id) || ring.drained.contains(id);
                let answered = owners.iter().filter(has).count();
                let needed = shape.read_quorum(owners.len());
                (answered < needed).then_some(Missing {
                    ring: ring.version,
                    shard,
                    owners: owners.len(),
                    answered,
                    needed,
                })
            })
        })
    }
}
