//! Rules that hold for all members whatsoever.

use std::collections::{BTreeMap, BTreeSet};

use model::NodeId;
use proptest::prelude::*;
use ring::Placement;

/// Numbers with zones.
fn members() -> impl Strategy<Value = BTreeMap<u64, u8>> {
    prop::collection::btree_map(1u64..1000, 0u8..5, 0..24)
}

fn zone(zone: u8) -> String {
    format!("zone-{zone}")
}

fn place(members: &BTreeMap<u64, u8>, shards: u32, replicas: u32) -> Placement {
    let members = members.iter().map(|(id, at)| (NodeId(*id), zone(*at)));
    Placement::new(members, shards, replicas)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn owners_are_distinct_and_in_as_many_zones_as_there_are(
        members in members(),
        shards in 1u32..100,
        replicas in 1u32..6,
    ) {
        let placement = place(&members, shards, replicas);
        let zones: BTreeSet<u8> = members.values().copied().collect();
        let mut count = 0;
        for (shard, owners) in placement.shards() {
            prop_assert_eq!(placement.owners(shard), owners);
            let distinct: BTreeSet<NodeId> = owners.iter().copied().collect();
            prop_assert_eq!(distinct.len(), members.len().min(replicas as usize));
            prop_assert_eq!(owners.len(), distinct.len());
            let held: BTreeSet<u8> = owners.iter().map(|owner| members[&owner.0]).collect();
            prop_assert_eq!(held.len(), zones.len().min(replicas as usize));
            count += 1;
        }
        prop_assert_eq!(count, if members.is_empty() { 0 } else { shards });
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        members in members(),
        turn in 0usize..24,
        replicas in 1u32..6,
    ) {
        let mut list: Vec<(NodeId, String)> =
            members.iter().map(|(id, at)| (NodeId(*id), zone(*at))).collect();
        let turn = turn.min(list.len());
        list.rotate_left(turn);
        prop_assert_eq!(Placement::new(list, 64, replicas), place(&members, 64, replicas));
    }

    #[test]
    fn who_joins_takes_and_nobody_else_does(
        members in members(),
        at in 0u8..5,
        replicas in 1u32..6,
    ) {
        let before = place(&members, 64, replicas);
        let mut more = members.clone();
        more.insert(1000, at);
        let after = place(&more, 64, replicas);
        for (shard, owners) in after.shards() {
            let old = before.owners(shard);
            let new = owners.iter().filter(|owner| !old.contains(owner));
            prop_assert!(new.clone().all(|owner| *owner == NodeId(1000)));
            prop_assert!(new.count() <= 1);
        }
    }
}
