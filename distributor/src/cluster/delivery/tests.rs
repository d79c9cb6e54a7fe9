use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience {
    deadline: Duration::from_secs(10),
    hedge_after: Duration::from_millis(500),
    late: Duration::from_secs(5),
    late_tries_max: 2,
    full_disk: Duration::from_secs(3),
};

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn placed(ring: u64, owners: &[&[u64]]) -> Placed {
    Placed {
        ring: RingVersion(ring),
        owners: owners.iter().map(|ids| nodes(ids)).collect(),
        needed: owners.iter().map(|ids| ids.len() / 2 + 1).collect(),
    }
}

/// A delivery with what it asked for so far.
struct Run {
    delivery: Delivery,
    now: At,
    sent: Vec<(CallId, u64, Vec<usize>, bool)>,
    answer: Option<Result<(), Error>>,
}

impl Run {
    fn new(owners: &[&[u64]]) -> Run {
        let batches = (0..owners.len()).map(|at| (BatchId(at as u128), Shard(at as u32)));
        let mut run = Run {
            delivery: Delivery::new(PATIENCE, batches.collect(), placed(1, owners)),
            now: Duration::ZERO,
            sent: Vec::new(),
            answer: None,
        };
        run.step();
        run
    }

    fn step(&mut self) {
        for action in self.delivery.step(self.now, &mut || true) {
            match action {
                Action::Answer(result) => {
                    assert!(self.answer.is_none(), "answered twice");
                    self.answer = Some(result);
                }
                Action::Send {
                    call,
                    node,
                    batches,
                    hedge,
                    ..
                } => self.sent.push((call, node.0, batches, hedge)),
            }
        }
    }

    /// The last call to the node.
    fn call(&self, node: u64) -> CallId {
        let mut calls = self.sent.iter().rev();
        calls.find(|call| call.1 == node).expect("it was asked").0
    }

    fn acks(&mut self, node: u64) {
        let call = self.call(node);
        self.delivery.acked(call);
        self.step();
    }

    fn fails(&mut self, node: u64, error: Error) {
        let call = self.call(node);
        self.delivery.failed(self.now, call, error);
        self.step();
    }

    fn sleeps(&mut self) {
        self.now = self.delivery.wake_at();
        self.step();
    }

    fn asked(&self) -> Vec<u64> {
        self.sent.iter().map(|call| call.1).collect()
    }

    fn refused_with(&self) -> &Error {
        self.answer.as_ref().unwrap().as_ref().unwrap_err()
    }
}

fn down() -> Error {
    Error::Unavailable("it is down".into())
}

fn exhausted(retry_after_seconds: u32) -> Error {
    Error::Exhausted {
        reason: "memory".into(),
        retry_after_seconds,
    }
}

#[test]
fn each_owner_gets_one_call_with_all_its_batches() {
    let run = Run::new(&[&[1, 2, 3], &[2, 3, 4]]);
    let calls: Vec<_> = run.sent.iter().map(|c| (c.1, c.2.clone())).collect();
    let expected = [(1, vec![0]), (2, vec![0, 1]), (3, vec![0, 1]), (4, vec![1])];
    assert_eq!(calls, expected);
}

#[test]
fn the_answer_is_yes_when_a_quorum_has_every_batch_and_the_rest_goes_on() {
    let mut run = Run::new(&[&[1, 2, 3], &[2, 3, 4]]);
    run.acks(2);
    run.acks(1);
    assert_eq!(run.answer, None, "only node 2 has the second batch");
    run.fails(3, down());
    run.acks(4);
    assert_eq!(run.answer, Some(Ok(())));
    assert!(!run.delivery.is_done(run.now));
    run.sleeps();
    assert_eq!(run.asked(), [1, 2, 3, 4, 3]);
    run.acks(3);
    assert!(run.delivery.is_done(run.now));
}

#[test]
fn owners_that_do_not_understand_are_asked_again_and_the_sender_is_not_blamed() {
    let other_version = || Error::Invalid("this node speaks format 4".into());
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.fails(2, other_version());
    run.fails(3, other_version());
    assert_eq!(run.answer, None);
    run.sleeps();
    run.acks(2);
    assert_eq!(run.answer, Some(Ok(())));

    let mut run = Run::new(&[&[1, 2, 3]]);
    while run.answer.is_none() {
        for node in 1..=3 {
            run.fails(node, other_version());
        }
        run.sleeps();
    }
    assert!(matches!(run.refused_with(), Error::Unavailable(text) if text.contains("format 4")));
}

#[test]
fn an_owner_that_stays_down_is_given_up_after_the_answer() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.acks(2);
    while !run.delivery.is_done(run.now) {
        run.fails(3, down());
        run.sleeps();
    }
    assert!(run.asked().len() <= 6 && run.now < PATIENCE.late);
}

#[test]
fn without_a_quorum_the_sender_is_told_at_the_deadline_who_did_what() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    let mut failed = None;
    while run.answer.is_none() {
        let call = run.call(2);
        if failed.replace(call) != Some(call) {
            run.delivery.failed(run.now, call, down());
        }
        run.sleeps();
    }
    assert_eq!(run.now, PATIENCE.deadline);
    let text = run.refused_with().to_string();
    for part in [
        "shard 0",
        "1 of 3",
        "2 are needed",
        "node 2: it is down",
        "node 3: no answer",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(run.delivery.is_done(run.now));
}

#[test]
fn refusals_that_leave_no_quorum_are_told_at_once_with_the_longest_wait() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.fails(1, exhausted(2));
    assert_eq!(run.answer, None, "two others are left");
    run.fails(2, exhausted(7));
    assert_eq!(run.answer, Some(Err(exhausted(7))));

    let mut run = Run::new(&[&[1, 2, 3]]);
    run.fails(1, Error::OutOfSpace("full".into()));
    run.fails(2, exhausted(2));
    assert_eq!(run.answer, Some(Err(exhausted(2))));

    let mut run = Run::new(&[&[1]]);
    run.fails(1, Error::OutOfSpace("full".into()));
    assert_eq!(run.answer, Some(Err(Error::OutOfSpace("full".into()))));
}

#[test]
fn who_had_no_room_is_asked_again_when_it_said_so() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.fails(1, exhausted(2));
    run.acks(2);
    while run.asked().len() < 5 {
        run.sleeps();
    }
    // Node 3 was hedged meanwhile.
    assert_eq!(run.asked(), [1, 2, 3, 3, 1]);
    assert_eq!(run.now, Duration::from_secs(2));
}

#[test]
fn a_slow_owner_is_asked_a_second_time_once_and_only_while_it_is_needed() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.sleeps();
    assert_eq!(run.now, PATIENCE.hedge_after);
    assert_eq!(run.asked(), [1, 2, 3, 2, 3]);
    assert!(run.sent[3].3 && run.sent[4].3);
    run.sleeps();
    assert_eq!(run.now, PATIENCE.deadline);

    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.acks(2);
    run.sleeps();
    assert_eq!(run.asked(), [1, 2, 3]);
}

#[test]
fn a_stale_ring_is_waited_for_and_who_has_the_batch_still_counts() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.fails(2, Error::Conflict("ring 2".into()));
    assert!(run.delivery.wants_newer_ring());
    assert_eq!(run.asked(), [1, 2, 3], "not again by the old ring");
    run.delivery.placed_anew(placed(2, &[&[1, 2, 4]]));
    run.step();
    assert_eq!(run.asked(), [1, 2, 3, 2, 4]);
    run.acks(4);
    assert_eq!(run.answer, Some(Ok(())), "1 and 4 of 1, 2, 4");
}

#[test]
fn who_is_no_owner_any_more_does_not_count() {
    let mut run = Run::new(&[&[1, 2, 3]]);
    run.acks(1);
    run.delivery.placed_anew(placed(2, &[&[3, 4, 5]]));
    run.step();
    run.acks(4);
    assert_eq!(run.answer, None);
    // By the older ring, but an owner by this one, too.
    let old = run.sent.iter().find(|call| call.1 == 3).unwrap().0;
    run.delivery.acked(old);
    run.step();
    assert_eq!(run.answer, Some(Ok(())));
}

#[test]
fn without_any_ingester_it_waits_for_one() {
    let mut run = Run::new(&[&[]]);
    assert!(run.delivery.wants_newer_ring());
    run.delivery.placed_anew(placed(1, &[&[1]]));
    assert!(run.delivery.targets.is_empty(), "the ring is not newer");
    run.delivery.placed_anew(placed(2, &[&[1]]));
    run.step();
    run.acks(1);
    assert_eq!(run.answer, Some(Ok(())));

    let mut run = Run::new(&[&[]]);
    run.sleeps();
    assert!(
        run.refused_with()
            .to_string()
            .contains("no ingester is at work")
    );
}

/// What happens next in a random history.
#[derive(Clone, Debug)]
enum Event {
    Ack(usize),
    Fail(usize, u8),
    Sleep,
    Ring(Vec<BTreeSet<u64>>),
}

fn owners() -> impl Strategy<Value = Vec<BTreeSet<u64>>> {
    prop::collection::vec(prop::collection::btree_set(1u64..6, 0..4), 3)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => any::<usize>().prop_map(Event::Ack),
        4 => (any::<usize>(), 0u8..5).prop_map(|(call, kind)| Event::Fail(call, kind)),
        2 => Just(Event::Sleep),
        1 => owners().prop_map(Event::Ring),
    ];
    prop::collection::vec(event, 0..60)
}

fn as_placed(ring: u64, owners: &[BTreeSet<u64>]) -> Placed {
    let owners: Vec<Vec<u64>> = owners.iter().map(|o| o.iter().copied().collect()).collect();
    let owners: Vec<&[u64]> = owners.iter().map(Vec::as_slice).collect();
    placed(ring, &owners)
}

fn error(kind: u8) -> Error {
    match kind {
        0 => down(),
        1 => exhausted(1),
        2 => Error::OutOfSpace("full".into()),
        3 => Error::Conflict("ring".into()),
        _ => Error::Internal("defect".into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yes_means_a_quorum_and_there_is_always_an_answer_in_time(
        first in owners(),
        events in events(),
    ) {
        let lists: Vec<Vec<u64>> = first.iter().map(|o| o.iter().copied().collect()).collect();
        let lists: Vec<&[u64]> = lists.iter().map(Vec::as_slice).collect();
        let mut run = Run::new(&lists);
        let mut current = first;
        let mut ring = 1;
        let mut closed: BTreeSet<CallId> = BTreeSet::new();
        let mut held: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); 3];
        let mut events = events.into_iter();
        loop {
            let before = run.sent.len();
            let answered = run.answer.is_some();
            let open: Vec<_> = run.sent.iter().filter(|c| !closed.contains(&c.0)).cloned().collect();
            match events.next() {
                Some(Event::Ack(at)) if !open.is_empty() => {
                    let (call, node, batches, _) = &open[at % open.len()];
                    batches.iter().for_each(|batch| { held[*batch].insert(*node); });
                    closed.insert(*call);
                    run.delivery.acked(*call);
                    run.step();
                }
                Some(Event::Fail(at, kind)) if !open.is_empty() => {
                    let call = open[at % open.len()].0;
                    closed.insert(call);
                    run.delivery.failed(run.now, call, error(kind));
                    run.step();
                }
                Some(Event::Ring(owners)) => {
                    ring += 1;
                    if !answered {
                        current = owners;
                    }
                    run.delivery.placed_anew(as_placed(ring, &current));
                    run.step();
                }
                Some(_) => run.sleeps(),
                None if run.delivery.is_done(run.now) => break,
                None => {
                    let then = run.now;
                    run.sleeps();
                    prop_assert!(run.now > then || run.sent.len() > before, "no progress at {then:?}");
                }
            }
            // Only owners are asked, for what they do not have, and a second time only as a hedge.
            for (at, (_, node, batches, hedge)) in run.sent.iter().enumerate().skip(before) {
                for batch in batches {
                    prop_assert!(current[*batch].contains(node));
                    prop_assert!(!held[*batch].contains(node));
                    let mut others = run.sent[..at].iter();
                    let twice = others.any(|(call, n, b, _)| n == node && b.contains(batch) && !closed.contains(call));
                    prop_assert_eq!(twice, *hedge);
                }
            }
            if let (false, Some(answer)) = (answered, &run.answer) {
                let quorum = current.iter().zip(&held).all(|(owners, held)| {
                    owners.intersection(held).count() > owners.len() / 2
                });
                prop_assert_eq!(answer.is_ok(), quorum);
                prop_assert!(run.now <= PATIENCE.deadline);
            }
        }
        prop_assert!(run.answer.is_some());
        prop_assert!(run.now <= PATIENCE.deadline + PATIENCE.late);
    }
}
