//! Placements that were made already.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{NodeId, RingVersion};

use crate::Placement;

/// Placements by ring version, each made once: making one takes milliseconds. Of one cluster, where
/// members, shards and replicas follow from the version.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    known: BTreeMap<RingVersion, Arc<Placement>>,
}

impl Placements {
    /// The most that are kept: the newest rings. Older ones are made again when they are asked for.
    pub const KEPT_MAX: usize = 128;

    /// The placement of a ring version.
    pub fn of<Z: AsRef<str>>(
        &mut self,
        ring: RingVersion,
        members: impl IntoIterator<Item = (NodeId, Z)>,
        shards: u32,
        replicas: u32,
    ) -> Arc<Placement> {
        if let Some(known) = self.known.get(&ring) {
            return Arc::clone(known);
        }
        let placement = Arc::new(Placement::new(members, shards, replicas));
        self.known.insert(ring, Arc::clone(&placement));
        while self.known.len() > Self::KEPT_MAX {
            self.known.pop_first();
        }
        placement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_made_once_and_old_ones_are_forgotten() {
        let mut placements = Placements::default();
        let members = [(NodeId(1), "a"), (NodeId(2), "b")];
        let first = placements.of(RingVersion(1), members, 8, 2);
        let again = placements.of(RingVersion(1), members, 8, 2);
        assert!(Arc::ptr_eq(&first, &again));
        for ring in 2..200 {
            placements.of(RingVersion(ring), members, 8, 2);
        }
        assert_eq!(placements.known.len(), Placements::KEPT_MAX);
        let anew = placements.of(RingVersion(1), members, 8, 2);
        assert_eq!(anew, first);
    }
}
