//! Each rule by itself, then any sequence of commands beside the rule over all sets of owners that a
//! placement may choose.

use model::NodeId;
use proptest::prelude::*;
use rpc::{ClusterShape, Command, Outcome};

use super::*;
use crate::testing::{SHAPE, form, member};
use crate::{Rejected, StateMachine};

/// A formed cluster in which rings wait.
fn formed() -> StateMachine {
    let mut machine = StateMachine::default();
    machine.apply(&form()).unwrap();
    machine.apply(&knows(1, 0)).unwrap();
    machine
}

/// As many ingesters in these zones, all in use.
fn active(zones: &[&str]) -> StateMachine {
    let mut machine = formed();
    for zone in zones {
        let id = join(&mut machine, zone);
        set(&mut machine, id, MemberState::Active);
        all_know(&mut machine);
    }
    machine
}

fn join(machine: &mut StateMachine, zone: &str) -> u64 {
    let address = format!("a:{}", machine.catalog().last_node + 1);
    let joined = machine.apply(&Command::Join(member(&address, zone)));
    match joined {
        Ok(Outcome::Node { id, .. }) => id.0,
        other => panic!("{other:?}"),
    }
}

fn set(machine: &mut StateMachine, id: u64, state: MemberState) {
    let command = Command::SetState(NodeId(id), state);
    machine.apply(&command).unwrap();
}

fn knows(id: u64, ring: u64) -> Command {
    Command::Knows(NodeId(id), RingVersion(ring))
}

fn all_know(machine: &mut StateMachine) {
    let Some(next) = machine.catalog().cluster.next_ring.clone() else {
        return;
    };
    let members: Vec<u64> = machine
        .catalog()
        .cluster
        .ring
        .members
        .keys()
        .map(|id| id.0)
        .collect();
    for id in members {
        machine.apply(&knows(id, next.ring.version.0)).unwrap();
    }
}

/// The versions of the current and of the next ring.
fn rings(machine: &StateMachine) -> (u64, Option<u64>) {
    let cluster = &machine.catalog().cluster;
    let next = cluster.next_ring.as_ref();
    (cluster.ring.version.0, next.map(|next| next.ring.version.0))
}

fn members(machine: &StateMachine) -> Vec<u64> {
    let members = machine.catalog().cluster.ring.members.keys();
    members.map(|id| id.0).collect()
}

#[test]
fn the_first_ring_is_in_use_at_once_and_the_next_when_the_only_member_knows_it() {
    let mut machine = formed();
    let first = join(&mut machine, "z1");
    set(&mut machine, first, MemberState::Active);
    assert_eq!(rings(&machine), (1, None));
    let second = join(&mut machine, "z2");
    set(&mut machine, second, MemberState::Active);
    assert_eq!(rings(&machine), (1, Some(2)));
    machine.apply(&knows(second, 2)).unwrap();
    machine.apply(&knows(first, 1)).unwrap();
    assert_eq!(rings(&machine), (1, Some(2)), "that is not what is asked");
    machine.apply(&knows(first, 2)).unwrap();
    assert_eq!(rings(&machine), (2, None));
    let past = &machine.catalog().cluster.past_rings[&RingVersion(1)];
    assert_eq!(past.undrained, [NodeId(first)].into());
}

#[test]
fn of_three_owners_one_may_be_unaware_and_of_two_none() {
    let mut machine = active(&["z1", "z2", "z3"]);
    let fourth = join(&mut machine, "z1");
    set(&mut machine, fourth, MemberState::Active);
    assert_eq!(rings(&machine), (3, Some(4)));
    machine.apply(&knows(2, 4)).unwrap();
    assert_eq!(rings(&machine), (3, Some(4)));
    machine.apply(&knows(3, 4)).unwrap();
    assert_eq!(rings(&machine), (4, None));

    let mut machine = active(&["z1", "z2"]);
    let third = join(&mut machine, "z1");
    set(&mut machine, third, MemberState::Active);
    machine.apply(&knows(1, 3)).unwrap();
    assert_eq!(rings(&machine), (2, Some(3)));
    machine.apply(&knows(2, 3)).unwrap();
    assert_eq!(rings(&machine), (3, None));
}

#[test]
fn a_whole_zone_may_be_unaware_but_not_two_members_of_two() {
    let zones = ["a", "b", "c", "a", "b", "c", "a", "b", "c"];
    let mut machine = active(&zones);
    let tenth = join(&mut machine, "a");
    set(&mut machine, tenth, MemberState::Active);
    for id in [2, 3, 5, 6, 8] {
        machine.apply(&knows(id, 10)).unwrap();
    }
    assert_eq!(rings(&machine), (9, Some(10)), "zone a and one of c");
    machine.apply(&knows(9, 10)).unwrap();
    assert_eq!(rings(&machine), (10, None), "zone a");

    let mut machine = active(&["a"; 4]);
    let fifth = join(&mut machine, "a");
    set(&mut machine, fifth, MemberState::Active);
    machine.apply(&knows(1, 5)).unwrap();
    machine.apply(&knows(2, 5)).unwrap();
    assert_eq!(rings(&machine), (4, Some(5)), "one zone says nothing");
    machine.apply(&knows(3, 5)).unwrap();
    assert_eq!(rings(&machine), (5, None));
}

#[test]
fn who_knew_a_ring_that_another_replaced_has_to_say_so_again() {
    let mut machine = active(&["z1", "z2", "z3"]);
    let fourth = join(&mut machine, "z1");
    set(&mut machine, fourth, MemberState::Active);
    machine.apply(&knows(1, 4)).unwrap();
    let fifth = join(&mut machine, "z2");
    set(&mut machine, fifth, MemberState::Active);
    assert_eq!(rings(&machine), (3, Some(5)));
    machine.apply(&knows(2, 5)).unwrap();
    machine.apply(&knows(3, 4)).unwrap();
    assert_eq!(rings(&machine), (3, Some(5)), "only one of them knows it");
    machine.apply(&knows(3, 5)).unwrap();
    assert_eq!(rings(&machine), (5, None));
    assert_eq!(members(&machine), [1, 2, 3, 4, 5]);
}

#[test]
fn a_ring_that_is_not_needed_any_more_is_given_up_and_its_version_never_used_again() {
    let mut machine = active(&["z1", "z2", "z3"]);
    let fourth = join(&mut machine, "z1");
    set(&mut machine, fourth, MemberState::Active);
    machine.apply(&knows(1, 4)).unwrap();
    machine.apply(&Command::Forget(NodeId(fourth))).unwrap();
    assert_eq!(rings(&machine), (3, None), "it died before it was in use");
    let fifth = join(&mut machine, "z1");
    set(&mut machine, fifth, MemberState::Active);
    assert_eq!(rings(&machine), (3, Some(5)));
    machine.apply(&knows(2, 4)).unwrap();
    machine.apply(&knows(3, 5)).unwrap();
    assert_eq!(rings(&machine), (3, Some(5)), "two mean another ring");
    machine.apply(&knows(2, 5)).unwrap();
    assert_eq!(rings(&machine), (5, None));
}

#[test]
fn who_leaves_keeps_its_shards_until_enough_know_of_it() {
    let mut machine = active(&["z1", "z2", "z3"]);
    set(&mut machine, 2, MemberState::Leaving);
    assert_eq!(
        (members(&machine), rings(&machine)),
        (vec![1, 2, 3], (3, Some(4)))
    );
    machine.apply(&knows(2, 4)).unwrap();
    machine.apply(&knows(1, 4)).unwrap();
    assert_eq!(
        (members(&machine), rings(&machine)),
        (vec![1, 3], (4, None))
    );
    let past = &machine.catalog().cluster.past_rings[&RingVersion(3)];
    assert_eq!(past.undrained.len(), 3, "it is still asked");
}

#[test]
fn who_was_forgotten_need_not_know_and_is_lost_to_the_ring_that_it_was_in() {
    let mut machine = active(&["z1", "z2", "z3"]);
    machine.apply(&Command::Forget(NodeId(1))).unwrap();
    assert_eq!(rings(&machine), (3, Some(4)));
    let unaware: Vec<NodeId> = machine
        .catalog()
        .cluster
        .unaware()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(unaware, [NodeId(2), NodeId(3)]);
    machine.apply(&knows(2, 4)).unwrap();
    assert_eq!(rings(&machine), (4, None));
    let past = &machine.catalog().cluster.past_rings[&RingVersion(3)];
    assert_eq!(past.undrained, [NodeId(2), NodeId(3)].into());
    assert_eq!(past.lost, [NodeId(1)].into());
    // Of the last one nobody is left to say anything.
    machine.apply(&Command::Forget(NodeId(2))).unwrap();
    machine.apply(&Command::Forget(NodeId(3))).unwrap();
    assert_eq!((members(&machine).len(), rings(&machine).1), (0, None));
}

#[test]
fn the_log_of_an_older_program_changes_rings_at_once() {
    let mut machine = StateMachine::default();
    machine.apply(&form()).unwrap();
    for zone in ["z1", "z2", "z3"] {
        let id = join(&mut machine, zone);
        set(&mut machine, id, MemberState::Active);
    }
    assert_eq!(rings(&machine), (3, None));
    machine.apply(&knows(1, 3)).unwrap();
    set(&mut machine, 3, MemberState::Leaving);
    assert_eq!(rings(&machine), (3, Some(4)), "from the first word on");
}

/// The shards of the current and of the next ring.
fn shards(machine: &StateMachine) -> (u32, Option<u32>) {
    let cluster = &machine.catalog().cluster;
    let next = cluster.next_ring.as_ref();
    (cluster.ring.shards, next.map(|next| next.ring.shards))
}

#[test]
fn more_shards_are_a_ring_of_the_same_members_that_waits_as_any_other() {
    let mut machine = active(&["z1", "z2", "z3"]);
    machine.apply(&Command::RaiseShards(16)).unwrap();
    assert_eq!(rings(&machine), (3, Some(4)));
    assert_eq!(shards(&machine), (SHAPE.shards, Some(16)));
    machine.apply(&Command::RaiseShards(16)).unwrap();
    assert_eq!(
        rings(&machine),
        (3, Some(4)),
        "said again it means the same"
    );
    machine.apply(&knows(1, 4)).unwrap();
    assert_eq!(shards(&machine).0, SHAPE.shards, "writes are cut as before");
    machine.apply(&knows(2, 4)).unwrap();
    assert_eq!((rings(&machine), shards(&machine)), ((4, None), (16, None)));
    assert_eq!(members(&machine), [1, 2, 3]);
    let past = &machine.catalog().cluster.past_rings[&RingVersion(3)];
    assert_eq!((past.ring.shards, past.undrained.len()), (SHAPE.shards, 3));
}

#[test]
fn a_ring_that_is_given_up_takes_no_shards_with_it() {
    let mut machine = active(&["z1", "z2", "z3"]);
    machine.apply(&Command::RaiseShards(16)).unwrap();
    let fourth = join(&mut machine, "z1");
    set(&mut machine, fourth, MemberState::Active);
    assert_eq!(
        (rings(&machine), shards(&machine)),
        ((3, Some(5)), (8, Some(16)))
    );
    machine.apply(&Command::RaiseShards(17)).unwrap();
    machine.apply(&Command::Forget(NodeId(fourth))).unwrap();
    assert_eq!(
        (rings(&machine), shards(&machine)),
        ((3, Some(7)), (8, Some(17)))
    );
    all_know(&mut machine);
    assert_eq!((rings(&machine), shards(&machine)), ((7, None), (17, None)));
}

#[test]
fn shards_can_be_raised_before_there_is_an_ingester() {
    let mut machine = formed();
    machine.apply(&Command::RaiseShards(9)).unwrap();
    assert_eq!((shards(&machine), rings(&machine).1), ((9, None), None));
    assert!(machine.catalog().cluster.past_rings.is_empty());
    // The maker of a cluster asks for the first shape again when it got no answer.
    machine.apply(&form()).unwrap_err();
    assert_eq!(shards(&machine), (9, None));
}

#[test]
fn shards_are_never_fewer_and_not_more_than_anybody_needs() {
    let unformed = StateMachine::default().apply(&Command::RaiseShards(9));
    assert!(
        matches!(unformed, Err(Rejected::Conflict(_))),
        "{unformed:?}"
    );
    let mut machine = active(&["z1", "z2"]);
    let before = machine.clone();
    let conflict = |text: &str| Err(Rejected::Conflict(text.to_owned()));
    let fewer = machine.apply(&Command::RaiseShards(7));
    let text = "the cluster has 8 shards, and there can only be more: 7 are fewer";
    assert_eq!(fewer, conflict(text));
    let many = machine.apply(&Command::RaiseShards(ClusterShape::SHARDS_MAX + 1));
    let text = "4097 shards are too many: 4096 is the most";
    assert_eq!(many, Err(Rejected::Invalid(text.to_owned())));
    assert_eq!(machine, before);
    machine.apply(&Command::RaiseShards(8)).unwrap();
    assert_eq!(rings(&machine), (2, None), "as it is");
    machine
        .apply(&Command::RaiseShards(ClusterShape::SHARDS_MAX))
        .unwrap();
    let fewer = machine.apply(&Command::RaiseShards(9));
    let text = "the cluster has 4096 shards, and there can only be more: 9 are fewer";
    assert_eq!(fewer, conflict(text), "also before the ring is in use");
}

/// Whether every choice of owners that a placement may make leaves a write quorum of those who know.
fn any_owners_know(cluster: &Cluster, known: &BTreeSet<NodeId>) -> bool {
    let members: Vec<(&NodeId, &Arc<str>)> = cluster.ring.members.iter().collect();
    let owners = members.len().min(SHAPE.replicas as usize);
    let zones: BTreeSet<&Arc<str>> = cluster.ring.members.values().collect();
    let spread = zones.len().min(owners);
    let mut choices =
        (0_u32..1 << members.len()).filter(|mask| mask.count_ones() as usize == owners);
    choices.all(|mask| {
        let chosen = (0..).zip(&members).filter(|(at, _)| mask >> at & 1 == 1);
        let chosen: Vec<_> = chosen.map(|(_, member)| member).collect();
        let stand_in: BTreeSet<&Arc<str>> = chosen.iter().map(|(_, zone)| *zone).collect();
        let aware = |id: &NodeId| known.contains(id) || !cluster.members.contains_key(id);
        let knowing = chosen.iter().filter(|(id, _)| aware(id)).count();
        owners == 0 || stand_in.len() < spread || knowing >= SHAPE.write_quorum(owners)
    })
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let id = || (1..9_u64).prop_map(NodeId);
    let states = prop_oneof![4 => Just(MemberState::Active), 1 => Just(MemberState::Leaving)];
    let command = prop_oneof![
        4 => ("[a-h]", "[xyz]").prop_map(|(address, zone)| Command::Join(member(&address, &zone))),
        6 => (id(), states).prop_map(|(id, to)| Command::SetState(id, to)),
        14 => (id(), 0..4_u64).prop_map(|(id, back)| Command::Knows(id, RingVersion(back))),
        1 => id().prop_map(Command::Forget),
        1 => (0..60_u32).prop_map(Command::RaiseShards),
        1 => (id(), "[xyz]").prop_map(|(id, zone)| {
            Command::Update(rpc::Member { id, ..member(&format!("u:{}", id.0), &zone) })
        }),
    ];
    prop::collection::vec(command, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_ring_comes_into_use_exactly_when_no_choice_of_owners_can_lack_a_quorum_that_knows_it(
        commands in commands(),
    ) {
        let mut machine = formed();
        // Who said that it knows which version, once that was there.
        let mut said: BTreeMap<RingVersion, BTreeSet<NodeId>> = BTreeMap::new();
        let mut given: BTreeMap<RingVersion, Ring> = BTreeMap::new();
        for command in commands {
            let before = machine.catalog().cluster.clone();
            let command = match command {
                // Mostly of the newest, now and then of one before it.
                Command::Knows(id, back) => {
                    let version = RingVersion(before.last_ring.0.saturating_sub(back.0 / 2));
                    said.entry(version).or_default().insert(id);
                    Command::Knows(id, version)
                }
                other => other,
            };
            if machine.apply(&command).is_err() {
                continue;
            }
            let after = &machine.catalog().cluster;
            let none = BTreeSet::new();
            let known = |version| said.get(version).unwrap_or(&none);
            let next = after.next_ring.iter().map(|next| &next.ring);
            for ring in next.chain([&after.ring]) {
                let first = given.entry(ring.version).or_insert_with(|| ring.clone());
                prop_assert_eq!(&*first, ring, "one version, one ring");
            }
            prop_assert!(given.values().is_sorted_by_key(|ring| ring.shards), "never fewer");
            if let Some(next) = &after.next_ring {
                prop_assert!(next.ring.version > after.ring.version);
                prop_assert!(!any_owners_know(after, known(&next.ring.version)), "what does it wait for?");
            }
            if after.ring.version != before.ring.version {
                prop_assert!(after.ring.version > before.ring.version);
                let as_seen = Cluster { members: after.members.clone(), ..before };
                prop_assert!(any_owners_know(&as_seen, known(&after.ring.version)), "too early");
            }
            let active = after.ingesters().filter(|member| member.state == MemberState::Active);
            let active: Vec<NodeId> = active.map(|member| member.id).collect();
            let newest = after.next_ring.as_ref().map_or(&after.ring, |next| &next.ring);
            prop_assert_eq!(newest.members.keys().copied().collect::<Vec<_>>(), active);
            prop_assert_eq!(Some(newest.shards), after.shape.map(|shape| shape.shards));
        }
    }
}
