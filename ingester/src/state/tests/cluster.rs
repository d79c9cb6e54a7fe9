//! Goal: when whose heads are flushed, what other owners are told, which rings are taken. Node 9 is
//! the first owner of shard 0, the second of shard 1, the third of shard 2; 7 and 8 are the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpc::{Cluster, ClusterShape, Member, MemberState, PastRing, Ring, RoleSet};

use super::*;
use crate::rings::Owners;

struct Fixed([[NodeId; 3]; 3]);

impl Owners for Fixed {
    fn owners(&self, shard: Shard) -> &[NodeId] {
        &self.0[shard.0 as usize]
    }
}

const OWNERS: [[NodeId; 3]; 3] = [
    [NodeId(9), NodeId(7), NodeId(8)],
    [NodeId(7), NodeId(9), NodeId(8)],
    [NodeId(7), NodeId(8), NodeId(9)],
];

fn ring(version: u64, member: bool) -> Ring {
    let members = [7, 8].into_iter().chain(member.then_some(9));
    Ring {
        version: RingVersion(version),
        shards: 3,
        members: members.map(|id| (NodeId(id), "z".into())).collect(),
    }
}

/// Rings 1 to `version`, of which those from `past` on have heads left; node 9 may not be in the
/// newest.
fn rings(past: u64, version: u64, member: bool) -> Rings {
    rings_undrained(past, version, member, &[7, 8, 9])
}

fn members(ids: &[u64]) -> BTreeMap<NodeId, Member> {
    let member = |id: &u64| Member {
        id: NodeId(*id),
        address: format!("{id}:1").into(),
        zone: "z".into(),
        roles: RoleSet {
            ingester: true,
            ..RoleSet::default()
        },
        state: MemberState::Active,
    };
    ids.iter().map(|id| (NodeId(*id), member(id))).collect()
}

fn rings_undrained(past: u64, version: u64, member: bool, undrained: &[u64]) -> Rings {
    let past = (past..version).map(|version| {
        let past = PastRing {
            ring: ring(version, true),
            undrained: undrained.iter().copied().map(NodeId).collect(),
            lost: Default::default(),
        };
        (RingVersion(version), past)
    });
    let cluster = Cluster {
        shape: Some(ClusterShape {
            shards: 3,
            replicas: 3,
            slot_nanos: 60 * SECOND,
        }),
        ring: ring(version, member),
        members: members(&[7, 8, 9]),
        past_rings: past.collect(),
        ..Cluster::default()
    };
    let place = |_: &Ring, _: &ClusterShape| Arc::new(Fixed(OWNERS)) as Arc<dyn Owners>;
    Rings::none(NodeId(9)).changed(&cluster, place).unwrap()
}

fn config() -> Config {
    Config {
        takeover_delay: Duration::from_secs(20),
        flush_workers: 10,
        ..super::config()
    }
}

/// In ring 1, its log read.
fn owner() -> Machine {
    let mut machine = machine_with(&config());
    machine.state.rings = rings(1, 1, true);
    machine.on(Event::ReplayDone);
    machine
}

impl Machine {
    /// One batch of 10 bytes, written.
    fn take(&mut self, id: u128, shard: u32, slot: i64) {
        let actions = self.ingest(vec![request(id, shard, slot, 10)]);
        let write = actions[0].split(' ').nth(1).unwrap().parse().unwrap();
        self.appended(&[write], 2);
    }

    fn reconcile(&mut self, ticket: Ticket, shard: u32, ids: &[u128]) -> Vec<String> {
        let key = HeadKey {
            shard: Shard(shard),
            slot: Slot(0),
            ring: RingVersion(1),
        };
        let ids = ids.iter().map(|id| BatchId(*id)).collect();
        let request = ReconcileRequest { key, ids };
        self.on(Event::Reconcile { ticket, request })
    }

    fn covered(&mut self, heads: &[u64]) -> Vec<String> {
        let mut covered = self.state.covered.clone();
        covered.also.extend(heads);
        let rings = None;
        self.on(Event::Catalog { covered, rings })
    }

    fn rings(&mut self, rings: Rings) -> Vec<String> {
        let covered = self.state.covered.clone();
        let rings = Some(rings);
        self.on(Event::Catalog { covered, rings })
    }
}

#[test]
fn owners_flush_one_after_the_other_unless_the_catalog_covers_their_heads() {
    let mut m = owner();
    for shard in 0..3 {
        m.take(shard.into(), shard, 0);
    }
    assert_eq!(m.at(65 * SECOND), ["flush 4 of 1"], "the first owner");
    assert!(m.at(85 * SECOND - 1).is_empty());
    assert_eq!(m.at(85 * SECOND), ["flush 5 of 1"], "the second takes over");
    assert_eq!(m.covered(&[6]), ["covered 1"], "the third need not");
    assert!(m.at(105 * SECOND).is_empty());
    assert_eq!(m.recent("a"), [(4, 1), (5, 1)]);
    assert_eq!(
        m.ingest(vec![request(2, 2, 0, 10)]),
        ["duplicate", "answer 3"],
        "known to be stored"
    );
}

#[test]
fn all_heads_of_a_key_are_flushed_together_when_their_writes_are_done() {
    let mut m = owner();
    m.take(1, 1, 0);
    assert!(m.at(65 * SECOND).is_empty(), "sealed");
    m.take(2, 1, 0);
    assert_eq!(m.ingest(vec![request(3, 1, 0, 10)]), ["append 2 to 5"]);
    assert!(
        m.on(Event::Flush { ticket: 90 }).is_empty(),
        "a write is under way"
    );
    assert_eq!(
        m.appended(&[2], 2),
        ["publish", "answer 2", "flush 4+5 of 3"]
    );
    m.take(4, 1, 0);
    assert!(
        m.at(200 * SECOND).is_empty(),
        "one flush of a key at a time"
    );
    assert_eq!(m.flushed(4, true), ["flush 6 of 1", "answer 90"]);
    assert_eq!(
        m.flushes[&6].flushed,
        [1, 2, 3].map(BatchId),
        "known to be stored"
    );
}

#[test]
fn another_owner_is_told_what_is_here_when_nothing_more_can_come() {
    let mut m = owner();
    m.take(1, 0, 0);
    m.take(2, 0, 0);
    m.take(9, 0, 1);
    assert_eq!(m.reconcile(80, 0, &[1, 2]), ["tell 80 [4:1,2] flushed "]);
    m.ingest(vec![request(3, 0, 0, 10)]);
    assert!(m.reconcile(81, 0, &[]).is_empty(), "a write is under way");
    assert_eq!(
        m.appended(&[3], 2),
        ["publish", "answer 3", "tell 81 [4:1,2 6:3] flushed "]
    );
    m.covered(&[4]);
    assert_eq!(m.reconcile(82, 0, &[1, 5]), ["tell 82 [6:3] flushed 1"]);
    assert_eq!(
        m.reconcile(83, 2, &[1]),
        ["tell 83 [] flushed "],
        "another key"
    );
}

#[test]
fn a_flush_is_left_to_the_owner_that_asked_for_as_long_as_one_waits_for_another() {
    let mut m = owner();
    m.take(1, 0, 0);
    m.now = 64 * SECOND;
    m.reconcile(80, 0, &[1]);
    assert!(m.at(84 * SECOND - 1).is_empty());
    assert_eq!(
        m.at(84 * SECOND),
        ["flush 4 of 1"],
        "it did not come to an end"
    );
}

#[test]
fn a_head_that_was_left_to_an_owner_which_stores_nothing_does_not_keep_the_log() {
    let mut m = owner();
    m.take(1, 1, 0);
    m.reconcile(50, 1, &[1]);
    for file in 3..12u64 {
        let actions = m.ingest(vec![request(file.into(), 0, 0, 10)]);
        let write = actions[0].split(' ').nth(1).unwrap().parse().unwrap();
        m.appended(&[write], file);
    }
    assert!(m.at(20 * SECOND - 1).is_empty(), "7 may be at it");
    assert_eq!(m.at(20 * SECOND), ["flush 4 of 1"]);
}

#[test]
fn the_first_owner_does_not_let_others_flush_what_it_is_flushing() {
    let mut m = owner();
    m.take(1, 0, 0);
    m.take(2, 1, 0);
    assert_eq!(
        m.on(Event::Flush { ticket: 90 }),
        ["flush 4 of 1", "flush 5 of 1"]
    );
    assert_eq!(m.reconcile(80, 0, &[1]), ["refuse 80 Conflict"]);
    assert_eq!(m.reconcile(81, 1, &[]), ["tell 81 [5:2] flushed "]);
    m.flushed(4, false);
    assert_eq!(m.reconcile(82, 0, &[]), ["tell 82 [4:1] flushed "]);
}

#[test]
fn who_is_slower_than_another_owner_has_nothing_left_to_do() {
    let mut m = owner();
    m.take(1, 1, 0);
    assert_eq!(m.on(Event::Flush { ticket: 90 }), ["flush 4 of 1"]);
    let job = m.flushes[&4].clone();
    assert_eq!(
        m.covered(&[4]),
        ["answer 90"],
        "its own commit, or another's"
    );
    let result = Err(Error::Conflict("covered".to_owned()));
    assert!(m.on(Event::Flushed { job, result }).is_empty());
    assert_eq!((m.state.heads(), m.state.bytes()), (0, 0));
}

#[test]
fn a_conflict_with_another_owner_is_no_failure_for_who_waits() {
    let mut m = owner();
    m.take(1, 1, 0);
    m.on(Event::Flush { ticket: 90 });
    let job = m.flushes[&4].clone();
    let result = Err(Error::Conflict("another is at it".to_owned()));
    assert!(m.on(Event::Flushed { job, result }).is_empty());
    assert_eq!(m.at(SECOND), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["answer 90"]);
}

#[test]
fn what_was_pulled_is_not_stored_again_when_it_comes_late() {
    let mut m = owner();
    m.take(1, 0, 0);
    m.on(Event::Flush { ticket: 90 });
    let job = m.flushes[&4].clone();
    let result = Ok(vec![BatchId(2)]);
    m.on(Event::Flushed { job, result });
    assert_eq!(
        m.ingest(vec![request(2, 0, 0, 10)]),
        ["duplicate", "answer 1"]
    );
    assert_eq!(m.reconcile(80, 0, &[1, 2, 3]), ["tell 80 [] flushed 1 2"]);
}

#[test]
fn short_of_memory_an_owner_flushes_first_what_is_its_own_to_flush() {
    let config = Config {
        head_bytes_max: 10_000_000,
        flush_workers: 1,
        ..config()
    };
    let mut m = machine_with(&config);
    m.state.rings = rings(1, 1, true);
    m.on(Event::ReplayDone);
    m.ingest(vec![request(1, 1, 0, 400_000), request(2, 0, 0, 120_000)]);
    let actions = m.appended(&[0, 1], 2);
    assert_eq!(actions, ["publish", "publish", "answer 0", "flush 5 of 1"]);
    m.flushed(5, true);
    m.ingest(vec![request(3, 2, 0, 250_000)]);
    let actions = m.appended(&[2], 2);
    assert_eq!(
        actions,
        ["publish", "answer 1"],
        "others are to flush these"
    );
    assert_eq!(
        m.ingest(vec![request(4, 2, 0, 130_000)]),
        ["append 3 to 6", "flush 4 of 1"],
        "three quarters"
    );
}

#[test]
fn a_replayed_head_waits_for_its_owners_turn() {
    let mut m = machine_with(&config());
    m.state.rings = rings(1, 1, true);
    let replay = |m: &mut Machine, ticket: Ticket, shard| {
        let mut record = replayed(2 + ticket, ticket.into(), true, 10);
        if let Replayed::Batch { filing, .. } = &mut record {
            filing.key.shard = Shard(shard);
        }
        m.on(Event::Replayed { ticket, record })
    };
    assert_eq!(replay(&mut m, 0, 0), ["answer 0"]);
    assert_eq!(replay(&mut m, 1, 1), ["answer 1"]);
    assert_eq!(
        m.reconcile(80, 0, &[]),
        ["refuse 80 Unavailable"],
        "not complete yet"
    );
    m.on(Event::ReplayDone);
    assert_eq!(m.at(65 * SECOND), ["flush 2 of 1"]);
    assert_eq!(m.at(85 * SECOND), ["flush 3 of 1"]);
}

#[test]
fn a_head_that_is_covered_while_the_log_is_read_is_not_taken_back() {
    let mut m = machine_with(&config());
    m.state.rings = rings(1, 1, true);
    let record = replayed(2, 1, false, 10);
    m.on(Event::Replayed { ticket: 1, record });
    assert_eq!(m.covered(&[2]), ["covered 1"]);
    let record = replayed(2, 5, true, 10);
    assert_eq!(m.on(Event::Replayed { ticket: 2, record }), ["answer 2"]);
    m.on(Event::ReplayDone);
    assert_eq!(m.state.heads(), 0);
    assert_eq!(m.reconcile(80, 0, &[1, 5]), ["tell 80 [] flushed 1 5"]);
}

#[test]
fn shutdown_leaves_to_others_what_they_flush_first() {
    let mut m = owner();
    m.take(1, 0, 0);
    m.take(2, 1, 0);
    assert_eq!(m.on(Event::Shutdown { ticket: 90 }), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["answer 90"]);
    assert_eq!(m.recent("a"), [(5, 1)]);
    assert_eq!(
        m.reconcile(80, 1, &[]),
        ["tell 80 [5:2] flushed "],
        "still answers"
    );
}

fn of_ring(id: u128, version: u64) -> IngestRequest {
    IngestRequest {
        ring: RingVersion(version),
        ..request(id, 0, 0, 10)
    }
}

#[test]
fn batches_for_a_newer_ring_wait_for_the_catalog() {
    let mut m = owner();
    assert!(m.ingest(vec![of_ring(1, 2)]).is_empty());
    assert!(m.ingest(vec![of_ring(2, 3)]).is_empty());
    assert_eq!(m.rings(rings(1, 2, true)), ["append 0 to 4"]);
    assert_eq!(m.at(2 * SECOND), ["refuse 1 Unavailable"]);
    assert_eq!(
        m.ingest(vec![of_ring(3, 0)]),
        ["refuse 2 Conflict"],
        "no owner chosen"
    );
}

#[test]
fn a_past_ring_is_closed_a_slot_later_and_drained_when_its_heads_are_stored() {
    let mut m = owner();
    m.take(1, 0, 5);
    m.now = 10 * SECOND;
    assert!(m.rings(rings(1, 2, true)).is_empty());
    assert_eq!(
        m.ingest(vec![of_ring(2, 1)]),
        ["append 1 to 5"],
        "still open"
    );
    m.appended(&[1], 2);
    assert_eq!(m.at(65 * SECOND), ["flush 5 of 1"]);
    assert!(m.flushed(5, true).is_empty());
    assert_eq!(m.at(70 * SECOND), Vec::<String>::new(), "sealed");
    assert_eq!(m.at(70 * SECOND + 1), ["flush 4 of 1"]);
    assert_eq!(m.ingest(vec![of_ring(3, 1)]), ["refuse 2 Conflict"]);
    assert_eq!(m.ingest(vec![of_ring(4, 2)]), ["append 2 to 6"]);
    assert_eq!(m.flushed(4, true), ["drained 1"]);
    assert!(m.at(71 * SECOND).is_empty(), "said");
    assert_eq!(
        m.at(101 * SECOND),
        ["drained 1"],
        "and again, as the catalog has not changed"
    );
    assert!(m.rings(rings(2, 2, true)).is_empty());
}

#[test]
fn a_past_ring_is_drained_though_a_flush_failed_before_the_clock_was_set_back_by_a_day() {
    let mut m = owner();
    m.now = 86_400 * SECOND;
    m.take(1, 0, 0);
    assert_eq!(m.at(m.now), ["flush 4 of 1"]);
    m.flushed(4, false);
    m.now = 10 * SECOND;
    assert!(m.rings(rings(1, 2, true)).is_empty());
    assert_eq!(m.at(m.now + SECOND / 2), ["flush 4 of 1"]);
    assert!(m.flushed(4, true).is_empty(), "not closed yet");
    assert_eq!(m.at(70 * SECOND), ["drained 1"]);
}

#[test]
fn a_ring_that_became_past_before_the_clock_was_set_back_is_closed_a_slot_later() {
    let mut m = owner();
    m.now = 86_400 * SECOND;
    m.take(1, 0, 1440);
    m.rings(rings(1, 2, true));
    assert!(m.at(m.now + 10 * SECOND).is_empty());
    assert!(m.at(0).is_empty(), "ten seconds have passed");
    assert!(m.at(50 * SECOND - 1).is_empty());
    assert!(m.at(50 * SECOND).is_empty(), "sealed");
    assert_eq!(m.at(50 * SECOND + 1), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["drained 1"]);
    assert!(m.at(0).is_empty(), "said");
    assert_eq!(m.at(30 * SECOND), ["drained 1"], "said again");
}

#[test]
fn heads_of_a_closed_ring_do_not_wait_for_the_end_of_a_slot_that_is_a_day_ahead() {
    const TOMORROW: i64 = 1440;
    let mut m = owner();
    m.take(1, 1, TOMORROW);
    let key = HeadKey {
        shard: Shard(1),
        slot: Slot(TOMORROW),
        ring: RingVersion(1),
    };
    let request = ReconcileRequest {
        key,
        ids: Vec::new(),
    };
    // Whoever asks stores nothing.
    let asked = m.on(Event::Reconcile {
        ticket: 80,
        request,
    });
    assert_eq!(asked, ["tell 80 [4:1] flushed "]);
    m.rings(rings(1, 2, true));
    assert!(m.at(60 * SECOND).is_empty(), "closed; it is another's turn");
    assert_eq!(m.at(80 * SECOND), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["drained 1"]);

    let mut m = machine();
    m.state = State::new(&config(), start(rings(1, 2, true)));
    let mut record = replayed(2, 1, true, 10);
    if let Replayed::Batch { filing, .. } = &mut record {
        filing.key = key;
    }
    m.on(Event::Replayed { ticket: 1, record });
    assert!(m.on(Event::ReplayDone).is_empty());
    assert_eq!(m.at(20 * SECOND), ["flush 2 of 1"], "closed at the start");
}

#[test]
fn a_slot_that_is_a_day_ahead_is_stored_in_parts_by_one_owner_after_the_other() {
    const TOMORROW: i64 = 1440;
    let mut m = owner();
    m.take(1, 0, TOMORROW);
    m.take(2, 1, TOMORROW);
    // Two slots, and the grace.
    assert!(m.at(125 * SECOND - 1).is_empty());
    assert_eq!(m.at(125 * SECOND), ["flush 4 of 1"]);
    m.flushed(4, true);
    m.take(3, 0, TOMORROW);
    // The second owner of the other shard waits for the first.
    assert!(m.at(145 * SECOND - 1).is_empty());
    assert_eq!(m.at(145 * SECOND), ["flush 5 of 1"]);
    m.flushed(5, true);
    // What came after the first part is the next, also when the clock is set back meanwhile.
    assert!(m.at(0).is_empty());
    assert!(m.at(105 * SECOND - 1).is_empty());
    assert_eq!(m.at(105 * SECOND), ["flush 6 of 1"]);
}

#[test]
fn nobody_waits_for_owners_of_a_past_ring_that_have_nothing_more_to_flush() {
    let mut m = owner();
    m.take(1, 2, 0);
    assert!(m.at(65 * SECOND).is_empty(), "sealed");
    assert!(m.rings(rings(1, 2, true)).is_empty());
    assert!(m.at(105 * SECOND - 1).is_empty(), "the third of three");
    let forgotten = rings_undrained(1, 2, true, &[8, 9]);
    assert_eq!(
        m.rings(forgotten),
        Vec::<String>::new(),
        "the second of two"
    );
    let forgotten = rings_undrained(1, 2, true, &[9]);
    assert_eq!(m.rings(forgotten), ["flush 4 of 1"]);
    let mut m = owner();
    m.take(1, 2, 0);
    assert!(m.rings(rings_undrained(1, 2, true, &[8, 9])).is_empty());
    assert!(m.at(85 * SECOND - 1).is_empty());
    assert_eq!(m.at(85 * SECOND), ["flush 4 of 1"], "the second of two");
}

#[test]
fn rings_that_were_past_at_the_start_are_closed() {
    let mut m = machine();
    m.state = State::new(&config(), start(rings(1, 3, true)));
    assert_eq!(m.on(Event::ReplayDone), ["drained 2", "remove 1"]);
    assert_eq!(m.ingest(vec![of_ring(1, 2)]), ["refuse 0 Conflict"]);
    assert_eq!(m.ingest(vec![of_ring(1, 3)]), ["append 0 to 4"]);
}

#[test]
fn who_leaves_takes_nothing_more_and_flushes_everything_however_often_it_fails() {
    let mut m = owner();
    for shard in 0..3 {
        m.take(shard.into(), shard, 0);
    }
    m.rings(rings(1, 2, false));
    assert_eq!(
        m.on(Event::Leave { ticket: 90 }),
        ["flush 4 of 1", "flush 5 of 1", "flush 6 of 1"]
    );
    assert_eq!(m.ingest(vec![of_ring(7, 1)]), ["refuse 3 Conflict"]);
    assert_eq!(m.ingest(vec![of_ring(7, 2)]), ["refuse 4 Conflict"]);
    assert!(m.flushed(4, false).is_empty());
    m.flushed(5, true);
    m.flushed(6, true);
    assert_eq!(m.at(SECOND), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["answer 90", "drained 1"]);
}

#[test]
fn rings_are_told_apart_once() {
    let known = rings(1, 2, true);
    let mut cluster = Cluster {
        shape: Some(ClusterShape {
            shards: 3,
            replicas: 3,
            slot_nanos: 1,
        }),
        ring: ring(2, true),
        members: members(&[7, 8, 9]),
        past_rings: BTreeMap::from([(
            RingVersion(1),
            PastRing {
                ring: ring(1, true),
                undrained: [7, 8, 9].map(NodeId).into(),
                lost: Default::default(),
            },
        )]),
        ..Cluster::default()
    };
    let place = |_: &Ring, _: &ClusterShape| -> Arc<dyn Owners> { panic!("placed already") };
    assert!(known.changed(&cluster, place).is_none(), "nothing new");
    let past = cluster.past_rings.get_mut(&RingVersion(1)).unwrap();
    past.undrained.remove(&NodeId(8));
    assert!(
        known.changed(&cluster, place).is_some(),
        "one less to wait for"
    );
    let past = cluster.past_rings.get_mut(&RingVersion(1)).unwrap();
    past.undrained.insert(NodeId(8));
    cluster.members.remove(&NodeId(7));
    let known = known.changed(&cluster, place).unwrap();
    let key = HeadKey {
        shard: Shard(1),
        slot: Slot(0),
        ring: RingVersion(2),
    };
    assert_eq!(known.position(&key), 0, "7, the first, was forgotten");
    let unformed = Cluster::default();
    assert!(known.changed(&unformed, place).is_none());
}
