//! Each rule by itself, then what must be true of any sequence of commands.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rpc::{Command, Outcome, RoleSet};

use super::*;
use crate::StateMachine;
use crate::testing::{SHAPE, form, join, member};

/// A formed cluster of so many active ingesters, each in a zone of its own.
fn active(ingesters: u64) -> StateMachine {
    let mut machine = StateMachine::default();
    machine.apply(&form()).unwrap();
    for id in 1..=ingesters {
        let zone = format!("z{id}");
        let wants_in = member(&format!("a:{id}"), &zone);
        machine.apply(&Command::Join(wants_in)).unwrap();
        machine.apply(&state(id, MemberState::Active)).unwrap();
    }
    machine
}

fn state(id: u64, state: MemberState) -> Command {
    Command::SetState(NodeId(id), state)
}

fn drained(id: u64, ring: u64) -> Command {
    Command::Drained(NodeId(id), RingVersion(ring))
}

fn lease(holder: u64, run_out: Timestamp, until: Timestamp) -> Command {
    Command::TakeLease {
        name: "merge".into(),
        holder: NodeId(holder),
        run_out,
        until,
    }
}

fn ids(set: &BTreeSet<NodeId>) -> Vec<u64> {
    set.iter().map(|id| id.0).collect()
}

#[track_caller]
fn conflict(machine: &mut StateMachine, command: &Command, text: &str) {
    let before = machine.clone();
    let rejected = machine.apply(command).unwrap_err();
    assert_eq!(rejected, Rejected::Conflict(text.to_owned()));
    assert_eq!(*machine, before);
}

#[test]
fn a_cluster_is_formed_once() {
    let mut machine = StateMachine::default();
    conflict(&mut machine, &join("a:1"), "the cluster is not formed yet");
    machine.apply(&form()).unwrap();
    machine.apply(&form()).unwrap();
    let other = Command::FormCluster(ClusterShape { shards: 9, ..SHAPE });
    conflict(
        &mut machine,
        &other,
        "the cluster was formed with 8 shards, 3 replicas and slots of 120000000000 ns, not with \
         9, 3 and 120000000000; these are fixed",
    );
    for shape in [
        ClusterShape { shards: 0, ..SHAPE },
        ClusterShape {
            replicas: 0,
            ..SHAPE
        },
        ClusterShape {
            slot_nanos: 0,
            ..SHAPE
        },
    ] {
        let refused = machine.apply(&Command::FormCluster(shape));
        assert!(matches!(refused, Err(Rejected::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn the_ring_is_of_active_ingesters_and_every_change_makes_a_past_one() {
    let mut machine = active(2);
    machine.apply(&join("a:3")).unwrap();
    let mut querier = member("q:1", "z");
    querier.roles = RoleSet {
        querier: true,
        ..RoleSet::default()
    };
    machine.apply(&Command::Join(querier)).unwrap();
    machine.apply(&state(4, MemberState::Active)).unwrap();
    let cluster = &machine.catalog().cluster;
    assert_eq!(cluster.ring.version, RingVersion(2));
    assert_eq!(cluster.ring.members.len(), 2, "neither joining nor querier");
    let past: Vec<u64> = cluster.past_rings.keys().map(|version| version.0).collect();
    assert_eq!(past, [1], "the ring of nobody has no heads");
    assert_eq!(ids(&cluster.past_rings[&RingVersion(1)].undrained), [1]);
}

#[test]
fn a_past_ring_ends_when_all_of_it_have_drained() {
    let mut machine = active(3);
    machine.apply(&state(3, MemberState::Leaving)).unwrap();
    let past = |machine: &StateMachine| -> Vec<(u64, Vec<u64>)> {
        let rings = machine.catalog().cluster.past_rings.values();
        rings
            .map(|past| (past.ring.version.0, ids(&past.undrained)))
            .collect()
    };
    assert_eq!(
        past(&machine),
        [(1, vec![1]), (2, vec![1, 2]), (3, vec![1, 2, 3])]
    );
    machine.apply(&drained(1, 2)).unwrap();
    assert_eq!(past(&machine), [(2, vec![2]), (3, vec![1, 2, 3])]);
    machine.apply(&drained(2, 3)).unwrap();
    machine.apply(&drained(3, 3)).unwrap();
    assert_eq!(past(&machine), [(3, vec![1])]);
    // What it says of the ring that is in use now is nothing for the time when that is past.
    machine.apply(&drained(1, 99)).unwrap();
    assert!(past(&machine).is_empty());
    machine.apply(&state(2, MemberState::Leaving)).unwrap();
    assert_eq!(past(&machine), [(4, vec![1, 2])]);
}

#[test]
fn who_is_forgotten_undrained_is_lost_to_its_rings() {
    let mut machine = active(2);
    machine.apply(&lease(2, 0, 100)).unwrap();
    machine.apply(&Command::Forget(NodeId(2))).unwrap();
    let cluster = &machine.catalog().cluster;
    assert!(cluster.leases.is_empty(), "its jobs are free");
    let past = &cluster.past_rings[&RingVersion(2)];
    assert_eq!((ids(&past.undrained), ids(&past.lost)), (vec![1], vec![2]));
    let text = "node 2 is gone already, and others may have what it had not stored: wait until they have stored that";
    conflict(&mut machine, &Command::AcceptLoss(NodeId(2)), text);
    let text = "there is no node 2 in the cluster (any more)";
    conflict(&mut machine, &state(2, MemberState::Active), text);
    machine.apply(&drained(1, 2)).unwrap();
    assert!(machine.catalog().cluster.past_rings.is_empty());
}

#[test]
fn a_ring_with_a_lost_majority_stays_until_somebody_accepts_the_loss() {
    let mut machine = active(3);
    for id in 1..=3 {
        machine.apply(&drained(id, 2)).unwrap();
    }
    machine.apply(&join("a:1")).unwrap();
    machine.apply(&join("a:2")).unwrap();
    machine.apply(&drained(3, 9)).unwrap();
    let lost = |machine: &StateMachine| -> Vec<Vec<u64>> {
        let rings = machine.catalog().cluster.past_rings.values();
        rings.map(|past| ids(&past.lost)).collect()
    };
    // Of the ring of 1, 2 and 3 two are lost; of that of 2 and 3, one, and both had each record.
    assert_eq!(lost(&machine), [[1, 2]]);
    let text = "there is no node 9 in the cluster (any more)";
    conflict(&mut machine, &Command::Forget(NodeId(9)), text);
    let text = "no ring waits for what node 9 had: there is no loss to accept (any more)";
    conflict(&mut machine, &Command::AcceptLoss(NodeId(9)), text);
    machine.apply(&Command::AcceptLoss(NodeId(1))).unwrap();
    assert_eq!(lost(&machine), [[0; 0]; 0]);
    let text = "no ring waits for what node 1 had: there is no loss to accept (any more)";
    conflict(&mut machine, &Command::AcceptLoss(NodeId(1)), text);
}

#[test]
fn forgetting_a_node_again_accepts_no_loss() {
    let mut machine = active(3);
    for id in 1..=3 {
        machine.apply(&drained(id, 2)).unwrap();
    }
    machine.apply(&Command::Forget(NodeId(1))).unwrap();
    machine.apply(&drained(3, 9)).unwrap();
    let text = "node 2 is a member: no loss is accepted before it is forgotten, which says what may be lost";
    conflict(&mut machine, &Command::AcceptLoss(NodeId(2)), text);
    machine.apply(&Command::Forget(NodeId(2))).unwrap();
    let before = machine.catalog().cluster.clone();
    assert_eq!(ids(&before.past_rings[&RingVersion(3)].lost), [1, 2]);
    for id in [2, 1, 2] {
        machine.apply(&Command::Forget(NodeId(id))).unwrap();
        assert_eq!(machine.catalog().cluster, before, "{id}");
    }
    machine.apply(&Command::AcceptLoss(NodeId(2))).unwrap();
    assert!(
        !machine
            .catalog()
            .cluster
            .past_rings
            .contains_key(&RingVersion(3))
    );
}

#[test]
fn an_address_belongs_to_the_last_that_joined_with_it() {
    let mut machine = active(2);
    let outcome = machine.apply(&join("a:1")).unwrap();
    assert!(matches!(outcome, Outcome::Node { id: NodeId(3), .. }));
    let cluster = &machine.catalog().cluster;
    assert_eq!(
        cluster.members.keys().map(|id| id.0).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(ids(&cluster.past_rings[&RingVersion(2)].lost), [1]);
    let mut moved = member("a:1", "z2");
    moved.id = NodeId(2);
    conflict(
        &mut machine,
        &Command::Update(moved),
        "node 3 has the address a:1 already",
    );
}

#[test]
fn a_member_that_moves_keeps_its_state_and_makes_a_new_ring_when_its_zone_changes() {
    let mut machine = active(1);
    let mut moved = member("b:1", "z1");
    moved.id = NodeId(1);
    machine.apply(&Command::Update(moved.clone())).unwrap();
    let cluster = &machine.catalog().cluster;
    assert_eq!(cluster.members[&NodeId(1)].state, MemberState::Active);
    assert_eq!(cluster.ring.version, RingVersion(1));
    moved.zone = "z2".into();
    machine.apply(&Command::Update(moved)).unwrap();
    let cluster = &machine.catalog().cluster;
    assert_eq!(cluster.ring.version, RingVersion(2));
    assert_eq!(&*cluster.ring.members[&NodeId(1)], "z2");
}

#[test]
fn what_leaves_never_comes_back() {
    let mut machine = active(2);
    machine.apply(&state(1, MemberState::Leaving)).unwrap();
    conflict(
        &mut machine,
        &state(1, MemberState::Active),
        "node 1 is leaving and cannot become active again",
    );
    conflict(
        &mut machine,
        &state(2, MemberState::Leaving),
        "node 2 is the only ingester that takes records: start another before this one leaves",
    );
}

#[test]
fn who_gives_up_the_role_ingester_holds_up_no_ring() {
    let mut machine = active(2);
    let ring = machine.catalog().cluster.ring.version;
    machine.apply(&Command::Knows(NodeId(2), ring)).unwrap();
    let mut querier = member("b:1", "z1");
    querier.id = NodeId(1);
    querier.roles = RoleSet {
        querier: true,
        ..RoleSet::default()
    };
    machine.apply(&Command::Update(querier)).unwrap();
    let waits_for = |machine: &StateMachine| -> Vec<u64> {
        let catalog = machine.catalog();
        catalog.cluster.unaware().map(|(id, _)| id.0).collect()
    };
    assert_eq!(waits_for(&machine), [2]);
    let next = machine.catalog().cluster.next_ring.clone().unwrap();
    let version = next.ring.version;
    machine.apply(&Command::Knows(NodeId(2), version)).unwrap();
    assert_eq!(machine.catalog().cluster.ring.version, version);
}

#[test]
fn a_lease_has_one_holder_until_it_runs_out_or_is_given_back() {
    let mut machine = active(2);
    let until = |machine: &StateMachine| machine.catalog().cluster.leases["merge"].until;
    machine.apply(&lease(1, 0, 1000)).unwrap();
    let held = "node 1 has the lease \"merge\"";
    // However late it is at the other.
    conflict(&mut machine, &lease(2, 9000, 10_000), held);
    // A renewal is told from the lease before it though the holder's clock went back.
    machine.apply(&lease(1, 0, 500)).unwrap();
    assert_eq!(until(&machine), 1001);
    conflict(&mut machine, &lease(2, 1000, 10_000), held);
    machine.apply(&lease(2, 1001, 3)).unwrap();
    assert_eq!(until(&machine), 1002);
    let release = |holder| Command::ReleaseLease {
        name: "merge".into(),
        holder: NodeId(holder),
    };
    machine.apply(&release(1)).unwrap();
    assert_eq!(machine.catalog().cluster.leases.len(), 1, "not its own");
    machine.apply(&release(2)).unwrap();
    machine.apply(&lease(1, 0, 1)).unwrap();
}

/// What has happened, kept in the simplest way.
#[derive(Default)]
struct History {
    given: BTreeSet<u64>,
    /// Each ring that there ever was, with those of its members that neither drained it after it
    /// was replaced nor were forgotten.
    open: BTreeMap<u64, BTreeSet<u64>>,
    lost: BTreeMap<u64, BTreeSet<u64>>,
    members: BTreeMap<u64, usize>,
}

impl History {
    fn follow(&mut self, before: &Cluster, command: &Command, after: &Cluster) {
        let gone: Vec<u64> = before
            .members
            .keys()
            .filter(|id| !after.members.contains_key(id))
            .map(|id| id.0)
            .collect();
        if let Command::Drained(id, through) = command {
            for (_, open) in self.open.range_mut(..=through.0) {
                open.remove(&id.0);
            }
        }
        if after.ring.version != before.ring.version && !before.ring.members.is_empty() {
            let members: BTreeSet<u64> = before.ring.members.keys().map(|id| id.0).collect();
            self.members.insert(before.ring.version.0, members.len());
            self.open.insert(before.ring.version.0, members);
        }
        for (version, open) in &mut self.open {
            for id in gone.iter().filter(|id| open.contains(id)) {
                self.lost.entry(*version).or_default().insert(*id);
            }
            open.retain(|id| !gone.contains(id));
        }
        if let Command::AcceptLoss(id) = command {
            for (version, lost) in &mut self.lost {
                if self.open.get(version).is_some_and(BTreeSet::is_empty) {
                    lost.remove(&id.0);
                }
            }
        }
        let replicas = after.shape.map_or(1, |shape| shape.replicas as usize);
        self.open.retain(|version, open| {
            let owners = self.members[version].min(replicas);
            let lost = self.lost.get(version).map_or(0, BTreeSet::len);
            !open.is_empty() || lost > owners / 2
        });
    }

    fn check(&self, cluster: &Cluster) -> Result<(), TestCaseError> {
        let open = cluster.past_rings.values().map(|past| {
            let undrained = past.undrained.iter().map(|id| id.0).collect();
            (past.ring.version.0, undrained)
        });
        prop_assert_eq!(&open.collect::<BTreeMap<u64, BTreeSet<u64>>>(), &self.open);
        for past in cluster.past_rings.values() {
            let lost: BTreeSet<u64> = past.lost.iter().map(|id| id.0).collect();
            let expected = self.lost.get(&past.ring.version.0).cloned();
            prop_assert_eq!(lost, expected.unwrap_or_default());
            prop_assert!(past.ring.version < cluster.ring.version);
        }
        let active: Vec<NodeId> = cluster
            .ingesters()
            .filter(|member| member.state == MemberState::Active)
            .map(|member| member.id)
            .collect();
        let in_ring: Vec<NodeId> = cluster.ring.members.keys().copied().collect();
        prop_assert_eq!(in_ring, active);
        let addresses: BTreeSet<&str> = cluster.members.values().map(|m| &*m.address).collect();
        prop_assert_eq!(addresses.len(), cluster.members.len());
        Ok(())
    }
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let id = || 1..9_u64;
    let anyone = || {
        ("[abcd]", "[xy]", any::<bool>()).prop_map(|(address, zone, ingester)| {
            let mut one = member(&address, &zone);
            one.roles.ingester = ingester;
            one
        })
    };
    let states = prop_oneof![
        1 => Just(MemberState::Joining),
        4 => Just(MemberState::Active),
        1 => Just(MemberState::Leaving)
    ];
    let command = prop_oneof![
        4 => anyone().prop_map(Command::Join),
        1 => (id(), anyone()).prop_map(|(id, mut one)| {
            one.id = NodeId(id);
            Command::Update(one)
        }),
        6 => (id(), states).prop_map(|(id, to)| state(id, to)),
        5 => (id(), 0..12_u64).prop_map(|(id, ring)| drained(id, ring)),
        1 => id().prop_map(|id| Command::Forget(NodeId(id))),
        2 => id().prop_map(|id| Command::AcceptLoss(NodeId(id))),
        2 => (id(), 0..9_i64, 0..9_i64).prop_map(|(id, now, long)| lease(id, now, now + long)),
        1 => id().prop_map(|id| Command::ReleaseLease { name: "merge".into(), holder: NodeId(id) }),
    ];
    prop::collection::vec(command, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn rings_grow_past_ones_end_when_drained_or_lost_and_numbers_are_new(commands in commands()) {
        let mut machine = active(0);
        let mut history = History::default();
        for command in &commands {
            let before = machine.catalog().cluster.clone();
            let applied = machine.apply(command);
            let after = &machine.catalog().cluster;
            if applied.is_err() {
                prop_assert_eq!(&before, after);
                continue;
            }
            if let Ok(Outcome::Node { id, .. }) = applied {
                prop_assert!(history.given.insert(id.0), "number {} was given twice", id.0);
                prop_assert_eq!(id.0, machine.catalog().last_node);
            }
            let changed = u64::from(before.ring.members != after.ring.members);
            prop_assert_eq!(after.ring.version.0, before.ring.version.0 + changed);
            history.follow(&before, command, after);
            history.check(after)?;
        }
    }

    #[test]
    fn a_lease_changes_hands_only_when_its_newest_renewal_was_seen_to_run_out(
        tries in prop::collection::vec((1..4_u64, 0..6_i64, 0..6_i64), 0..30),
    ) {
        let mut machine = active(3);
        for (holder, run_out, until) in tries {
            let before = machine.catalog().cluster.leases.get("merge").cloned();
            let taken = machine.apply(&lease(holder, run_out, until)).is_ok();
            let free = before
                .as_ref()
                .is_none_or(|l| l.holder == NodeId(holder) || l.until == run_out);
            prop_assert_eq!(taken, free);
            let now = &machine.catalog().cluster.leases["merge"];
            prop_assert!(!taken || before.is_none_or(|before| before.until < now.until));
        }
    }
}
