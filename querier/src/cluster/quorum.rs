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

/// One ring of which heads may be uncovered.
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
            placements.of(ring.version, members, shape.shards, shape.replicas)
        };
        let current = Readable {
            version: cluster.ring.version,
            placement: place(&cluster.ring),
            drained: BTreeSet::new(),
        };
        let mut rings = vec![current];
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
