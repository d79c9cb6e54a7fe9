use std::sync::Arc;

use model::{NodeId, Shard};
use rpc::{ClusterShape, Ring};

use crate::rings::Owners;

struct Rotation {
    members: Vec<Vec<NodeId>>,
}

impl Owners for Rotation {
    fn owners(&self, shard: Shard) -> &[NodeId] {
        self.members
            .get(shard.0 as usize % self.members.len().max(1))
            .map_or(&[], Vec::as_slice)
    }
}

/// Who owns what under this ring.
pub(crate) fn place(ring: &Ring, shape: &ClusterShape) -> Arc<dyn Owners> {
    let members: Vec<NodeId> = ring.members.keys().copied().collect();
    let rotations = (0..members.len()).map(|first| {
        let mut owners = members.clone();
        owners.rotate_left(first);
        owners.truncate(shape.replicas as usize);
        owners
    });
    Arc::new(Rotation {
        members: rotations.collect(),
    })
}
