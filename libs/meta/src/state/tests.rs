//! Each rule by itself, then random commands against a naive twin.

use std::collections::{BTreeMap, BTreeSet};

use model::{HeadId, NodeId, TenantId};
use proptest::prelude::*;

use super::*;
use crate::testing::{delete, flush, forget, form, join, pass, segment, swap, swap_deleted};
use crate::wire;
use rpc::DeleteId;

fn after(commands: &[Command]) -> StateMachine {
    let mut machine = StateMachine::default();
    for command in commands {
        machine.apply(command).unwrap();
    }
    machine
}

/// The command is refused with this text, and changes nothing.
#[track_caller]
fn refused(commands: &[Command], command: &Command) -> Rejected {
    let mut machine = after(commands);
    let before = machine.clone();
    let rejected = machine.apply(command).unwrap_err();
    assert_eq!(machine, before);
    rejected
}

#[track_caller]
fn conflict(commands: &[Command], command: &Command, text: &str) {
    let rejected = refused(commands, command);
    assert_eq!(rejected, Rejected::Conflict(text.to_owned()));
}

#[track_caller]
fn invalid(commands: &[Command], command: &Command, text: &str) {
    let rejected = refused(commands, command);
    assert_eq!(rejected, Rejected::Invalid(text.to_owned()));
}

fn flush_of(segments: Vec<SegmentMeta>) -> Command {
    let Command::CommitFlush(mut commit) = flush(1, 1, &[]) else {
        unreachable!("flush makes a flush");
    };
    commit.segments = segments;
    Command::CommitFlush(commit)
}

fn retention(tenant: &str, retention_nanos: Option<i64>) -> Command {
    let tenant = TenantId::new(tenant).unwrap();
    Command::SetTenant(tenant, TenantSettings { retention_nanos })
}

#[test]
fn ingesters_are_numbered_from_one() {
    let mut machine = StateMachine::default();
    machine.apply(&form()).unwrap();
    for id in 1..=3 {
        let outcome = machine.apply(&join(&format!("a:{id}")));
        let node = Outcome::Node {
            id: NodeId(id),
            version: id + 1,
        };
        assert_eq!(outcome, Ok(node));
    }
}

#[test]
fn a_flush_numbers_its_segments_and_covers_its_head() {
    let machine = after(&[flush(1, 1, &["a", "b"]), flush(2, 1, &["c"])]);
    let catalog = machine.catalog();
    let ids: Vec<_> = catalog
        .segments
        .iter()
        .map(|(id, s)| (id.0, &*s.path))
        .collect();
    assert_eq!(ids, [(1, "a"), (2, "b"), (3, "c")]);
    assert!(
        catalog
            .segments
            .iter()
            .all(|(id, segment)| *id == segment.id)
    );
    assert_eq!((catalog.version, catalog.last_segment), (2, 3));
    for (ingester, sequence, covered) in [(1, 1, true), (1, 2, false), (2, 1, true), (3, 1, false)]
    {
        let head = HeadId { ingester, sequence };
        assert_eq!(catalog.covers(head), covered, "{head:?}");
    }
}

#[test]
fn a_flush_without_segments_covers_its_head() {
    let machine = after(&[flush(1, 1, &[])]);
    assert_eq!(machine.catalog().covered[&1].below, 2);
    assert!(machine.catalog().segments.is_empty());
}

#[test]
fn covered_heads_without_a_gap_become_one_number() {
    let cases: [(&[u64], u64, &[u64]); 5] = [
        (&[1], 2, &[]),
        (&[2], 1, &[2]),
        (&[2, 1], 3, &[]),
        (&[5, 1, 3], 2, &[3, 5]),
        (&[5, 1, 3, 2, 4], 6, &[]),
    ];
    for (sequences, below, also) in cases {
        let commands: Vec<_> = sequences.iter().map(|s| flush(1, *s, &[])).collect();
        let machine = after(&commands);
        let expected = CoveredHeads {
            below,
            also: also.iter().copied().collect(),
        };
        assert_eq!(machine.catalog().covered[&1], expected, "{sequences:?}");
    }
}

#[test]
fn a_covered_head_is_not_committed_again() {
    let text = "head 3 of ingester 1 is covered already";
    conflict(&[flush(1, 3, &["a"])], &flush(1, 3, &["b"]), text);
    let text = "head 1 of ingester 1 is covered already";
    let below = [flush(1, 1, &["a"]), flush(1, 2, &["b"])];
    conflict(&below, &flush(1, 1, &["c"]), text);
}

#[test]
fn a_swap_replaces_segments_and_condemns_their_objects() {
    let machine = after(&[flush(1, 1, &["a", "b", "c"]), swap(&[1, 3], &["ac"], 77)]);
    let catalog = machine.catalog();
    let live: Vec<_> = catalog
        .segments
        .iter()
        .map(|(id, s)| (id.0, &*s.path))
        .collect();
    assert_eq!(live, [(2, "b"), (4, "ac")]);
    let condemned: Vec<_> = catalog.condemned.iter().map(|(p, t)| (&**p, *t)).collect();
    assert_eq!(condemned, [("a", 77), ("c", 77)]);
}

#[test]
fn a_swap_needs_all_its_segments_live() {
    let before = [flush(1, 1, &["a", "b"]), swap(&[1], &["a2"], 5)];
    conflict(
        &before,
        &swap(&[2, 1], &["x"], 5),
        "segment 1 is not live any more",
    );
    conflict(
        &before,
        &swap(&[9], &[], 5),
        "segment 9 is not live any more",
    );
    invalid(
        &before,
        &swap(&[2, 2], &[], 5),
        "segment 2 is to be removed twice",
    );
}

#[test]
fn a_path_names_one_object() {
    let text = "segment \"a\" has the path of another object";
    let live = [flush(1, 1, &["a"])];
    invalid(&live, &flush(1, 2, &["b", "a"]), text);
    invalid(&live, &swap(&[1], &["a"], 5), text);
    invalid(&[], &flush(1, 1, &["a", "a"]), text);
    let condemned = [flush(1, 1, &["a"]), swap(&[1], &[], 5)];
    invalid(&condemned, &flush(1, 2, &["a"]), text);
    // Once the object is deleted, the path is free.
    after(&[&condemned[..], &[forget(&["a"]), flush(1, 2, &["a"])]].concat());
}

#[test]
fn a_segment_must_be_what_readers_rely_on() {
    let text = |what: &str| format!("segment \"a\" {what}");
    invalid(
        &[],
        &flush_of(vec![segment("", &["a"])]),
        "segment \"\" has no path",
    );
    invalid(
        &[],
        &flush_of(vec![segment("a", &[])]),
        &text("holds no tenant"),
    );
    let order = text("has its tenants out of order");
    invalid(&[], &flush_of(vec![segment("a", &["b", "a"])]), &order);
    invalid(&[], &flush_of(vec![segment("a", &["a", "a"])]), &order);
    let mut reversed = segment("a", &["a"]);
    reversed.tenants[0].first = 101;
    let text = text("has a tenant whose first record is later than its last");
    invalid(&[], &flush_of(vec![reversed]), &text);
}

#[test]
fn a_head_that_cannot_exist_is_refused() {
    for sequence in [0, u64::MAX] {
        let rejected = refused(&[], &flush(1, sequence, &[]));
        assert!(matches!(rejected, Rejected::Invalid(_)), "{rejected}");
    }
}

#[test]
fn forgetting_can_be_repeated_and_spares_the_living() {
    let machine = after(&[
        flush(1, 1, &["a", "b"]),
        swap(&[1], &[], 5),
        forget(&["a", "b", "z"]),
        forget(&["a"]),
    ]);
    assert!(machine.catalog().condemned.is_empty());
    assert_eq!(machine.catalog().segments.len(), 1);
    assert_eq!(machine.catalog().version, 4);
}

#[test]
fn settings_are_replaced() {
    let machine = after(&[
        retention("a", Some(5)),
        retention("a", None),
        retention("b", Some(0)),
    ]);
    let settings: Vec<_> = machine.catalog().tenants.values().collect();
    assert_eq!(settings[0].retention_nanos, None);
    assert_eq!(settings[1].retention_nanos, Some(0));
    let text = "retention of tenant a is negative: use 0 to keep for ever";
    invalid(&[], &retention("a", Some(-1)), text);
}

#[test]
fn a_snapshot_that_was_handed_out_never_changes() {
    let mut machine = after(&[flush(1, 1, &["a"])]);
    let snapshot = Arc::clone(machine.catalog());
    machine.apply(&swap(&[1], &["b"], 5)).unwrap();
    assert_eq!(snapshot.version, 1);
    assert_eq!(&*snapshot.segments[&SegmentId(1)].path, "a");
}

/// The same rules, as plain lists.
#[derive(Default)]
struct Twin {
    version: u64,
    segments: Vec<(u64, String)>,
    next_segment: u64,
    condemned: BTreeMap<String, i64>,
    heads: BTreeSet<(u64, u64)>,
    tenants: BTreeMap<String, Option<i64>>,
    next_delete: u64,
    /// Whether the request touches segments, and which may hold records of it.
    deletes: BTreeMap<u64, (bool, BTreeSet<u64>)>,
    past_deletes: BTreeSet<u64>,
}

impl Twin {
    fn apply(&mut self, command: &Command) -> bool {
        let accepted = match command {
            Command::FormCluster(_) => true,
            Command::RaiseShards(_)
            | Command::Join(_)
            | Command::Update(_)
            | Command::SetState(..)
            | Command::Knows(..)
            | Command::Drained(..)
            | Command::Forget(_)
            | Command::AcceptLoss(_)
            | Command::TakeLease { .. }
            | Command::ReleaseLease { .. }
            | Command::SetRules { .. }
            | Command::DeleteRules { .. }
            | Command::SaveRuleStates { .. } => {
                unreachable!("commands of the cluster and of rules have tests of their own")
            }
            Command::CommitFlush(commit) => {
                let heads = commit.heads.iter().map(|h| (h.ingester, h.sequence));
                let heads: BTreeSet<(u64, u64)> = heads.collect();
                let fits = self.heads.is_disjoint(&heads) && self.fit(&commit.segments);
                if fits {
                    self.heads.extend(heads);
                    self.add(&commit.segments);
                }
                fits
            }
            Command::SwapSegments(commit) => self.swap(commit),
            Command::ForgetObjects(paths) => {
                self.condemned
                    .retain(|path, _| !paths.iter().any(|p| **p == **path));
                true
            }
            Command::SetTenant(tenant, settings) => {
                self.tenants
                    .insert(tenant.to_string(), settings.retention_nanos);
                true
            }
            Command::RequestDelete(request) => {
                let fits = request.range.start < request.range.end;
                if fits {
                    let touches = request.tenant.as_str() == "a" && request.range.touches(-5, 100);
                    let live = self.segments.iter().map(|(id, _)| *id);
                    let pending = live.filter(|_| touches).collect();
                    self.next_delete += 1;
                    self.deletes.insert(self.next_delete, (touches, pending));
                }
                fits
            }
            Command::CancelDelete(id) => self.deletes.remove(&id.0).is_some(),
            Command::PassDeletes { deletes, segments } => {
                for id in deletes {
                    if let Some((_, pending)) = self.deletes.get_mut(&id.0) {
                        pending.retain(|segment| !segments.contains(&SegmentId(*segment)));
                    }
                }
                true
            }
            Command::CloseDelete(_) | Command::ReopenDelete(..) => {
                unreachable!("closing has tests of its own")
            }
            Command::FinishDelete(id, _) => {
                let done = self.deletes.get(&id.0).is_some_and(|d| d.1.is_empty());
                if done {
                    self.deletes.remove(&id.0);
                    self.past_deletes.insert(id.0);
                }
                done
            }
        };
        self.version += u64::from(accepted);
        accepted
    }

    fn swap(&mut self, commit: &SwapCommit) -> bool {
        let wanted: BTreeSet<u64> = commit.remove.iter().map(|id| id.0).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .segments
            .iter()
            .cloned()
            .partition(|(id, _)| wanted.contains(id));
        let cancelled =
            |id: &DeleteId| !self.deletes.contains_key(&id.0) && !self.past_deletes.contains(&id.0);
        let fits = wanted.len() == commit.remove.len()
            && gone.len() == wanted.len()
            && self.fit(&commit.add)
            && !commit.deleted.iter().any(cancelled);
        if fits {
            let added: BTreeSet<u64> = (1..=commit.add.len() as u64)
                .map(|at| self.next_segment + at)
                .collect();
            let inherits: Vec<u64> = self
                .deletes
                .iter()
                .filter(|(_, (_, pending))| !pending.is_disjoint(&wanted))
                .map(|(id, _)| *id)
                .filter(|id| !commit.deleted.contains(&DeleteId(*id)))
                .collect();
            self.segments = kept;
            let paths = gone
                .into_iter()
                .map(|(_, path)| (path, commit.delete_after));
            self.condemned.extend(paths);
            if wanted.is_empty() {
                self.add(&commit.add);
                return fits;
            }
            let before: BTreeMap<_, _> = self.deletes.clone();
            self.add(&commit.add);
            self.deletes = before;
            for (id, (_, pending)) in &mut self.deletes {
                pending.retain(|segment| !wanted.contains(segment));
                if inherits.contains(id) {
                    pending.extend(&added);
                }
            }
        }
        fits
    }

    fn fit(&self, segments: &[SegmentMeta]) -> bool {
        let distinct: BTreeSet<_> = segments.iter().map(|s| &s.path).collect();
        distinct.len() == segments.len()
            && segments.iter().all(|segment| {
                let taken = self
                    .segments
                    .iter()
                    .any(|(_, path)| **path == *segment.path);
                !taken && !self.condemned.contains_key(&*segment.path)
            })
    }

    fn add(&mut self, segments: &[SegmentMeta]) {
        for segment in segments {
            self.next_segment += 1;
            self.segments
                .push((self.next_segment, segment.path.to_string()));
            for (touches, pending) in self.deletes.values_mut() {
                if *touches {
                    pending.insert(self.next_segment);
                }
            }
        }
    }

    #[track_caller]
    fn assert_equals(&self, catalog: &Catalog) {
        assert_eq!(catalog.version, self.version);
        assert_eq!(catalog.last_segment, self.next_segment);
        let segments: Vec<_> = catalog
            .segments
            .values()
            .map(|segment| (segment.id.0, segment.path.to_string()))
            .collect();
        assert_eq!(segments, self.segments);
        let condemned: BTreeMap<_, _> = catalog
            .condemned
            .iter()
            .map(|(path, from)| (path.to_string(), *from))
            .collect();
        assert_eq!(condemned, self.condemned);
        let tenants: BTreeMap<_, _> = catalog
            .tenants
            .iter()
            .map(|(tenant, settings)| (tenant.to_string(), settings.retention_nanos))
            .collect();
        assert_eq!(tenants, self.tenants);
        assert_eq!(catalog.last_delete, self.next_delete);
        let pending: BTreeMap<u64, BTreeSet<u64>> = catalog
            .deletes
            .iter()
            .map(|(id, delete)| (id.0, delete.pending.iter().map(|s| s.0).collect()))
            .collect();
        let expected = self.deletes.iter().map(|(id, d)| (*id, d.1.clone()));
        assert_eq!(pending, expected.collect());
        let past: BTreeSet<u64> = catalog.past_deletes.keys().map(|id| id.0).collect();
        assert_eq!(past, self.past_deletes);
        for ingester in 1..=3 {
            for sequence in 1..=12 {
                let covered = catalog.covers(HeadId { ingester, sequence });
                assert_eq!(covered, self.heads.contains(&(ingester, sequence)));
            }
        }
    }
}

/// Few heads, segments and paths, so that commands meet.
fn commands() -> impl Strategy<Value = Vec<Command>> {
    let path = || (0..12_u8).prop_map(|at| format!("p{at}"));
    let paths = move || prop::collection::vec(path(), 0..3);
    let ids = |max: u64| prop::collection::vec(1..=max, 0..3);
    let command = prop_oneof![
        1 => Just(form()),
        6 => (1..=3_u64, 1..=9_u64, paths()).prop_map(|(ingester, sequence, paths)| {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            flush(ingester, sequence, &paths)
        }),
        4 => (prop::collection::vec(1..=14_u64, 0..3), paths(), 0..9_i64).prop_map(
            |(remove, add, at)| {
                let add: Vec<&str> = add.iter().map(String::as_str).collect();
                swap(&remove, &add, at)
            }
        ),
        2 => paths().prop_map(|paths| {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            forget(&paths)
        }),
        1 => ("[ab]", prop::option::of(0..5_i64)).prop_map(|(tenant, nanos)| {
            retention(&tenant, nanos)
        }),
        3 => ("[ab]", 0..200_i64, 0..200_i64).prop_map(|(tenant, start, end)| {
            delete(&tenant, start, end)
        }),
        1 => (1..=4_u64).prop_map(|id| Command::CancelDelete(DeleteId(id))),
        2 => (1..=4_u64).prop_map(|id| Command::FinishDelete(DeleteId(id), None)),
        2 => (ids(4), ids(14)).prop_map(|(deletes, segments)| pass(&deletes, &segments)),
        3 => (ids(14), paths(), ids(4)).prop_map(|(remove, add, deleted)| {
            let add: Vec<&str> = add.iter().map(String::as_str).collect();
            swap_deleted(&remove, &add, &deleted)
        }),
    ];
    prop::collection::vec(command, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn random_commands_do_what_the_naive_twin_does(commands in commands()) {
        let mut machine = StateMachine::default();
        let mut twin = Twin::default();
        for command in &commands {
            let before = machine.clone();
            let applied = machine.apply(command);
            prop_assert_eq!(applied.is_ok(), twin.apply(command), "{:?}", command);
            match applied {
                Ok(_) => prop_assert_eq!(machine.catalog().version, before.catalog().version + 1),
                Err(_) => prop_assert_eq!(&machine, &before),
            }
            twin.assert_equals(machine.catalog());
        }
    }

    #[test]
    fn a_snapshot_and_the_commands_after_it_give_the_same_state(
        commands in commands(),
        cut in 0..40_usize,
    ) {
        let mut machine = StateMachine::default();
        let mut restored = None;
        for (at, command) in commands.iter().enumerate() {
            if at == cut {
                let snapshot = wire::encode_catalog(machine.catalog());
                restored = Some(StateMachine::new(wire::decode_catalog(&snapshot).unwrap()));
            }
            let sent = wire::decode_command(&wire::encode_command(command)).unwrap();
            prop_assert_eq!(&sent, command);
            let outcome = machine.apply(command);
            if let Some(restored) = &mut restored {
                prop_assert_eq!(restored.apply(&sent), outcome);
                prop_assert_eq!(&*restored, &machine);
            }
        }
    }
}
