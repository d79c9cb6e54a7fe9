use std::sync::Arc;

use model::{NodeId, Shard};
use ring::Placement;
use rpc::{ClusterShape, Ring};

use crate::rings::Owners;

impl Owners for Placement {
    fn owners(&self, shard: Shard) -> &[NodeId] {
        Placement::owners(self, shard)
    }
}

/// Who owns what under this ring.
pub(crate) fn place(ring: &Ring, shape: &ClusterShape) -> Arc<dyn Owners> {
    let members = ring.members.iter().map(|(node, zone)| (*node, zone));
    Arc::new(Placement::new(members, ring.shards, shape.replicas))
}
