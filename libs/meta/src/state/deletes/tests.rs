use std::collections::BTreeMap;

use model::NodeId;
use rpc::{Command, Outcome};

use super::super::StateMachine;
use super::*;
use crate::testing::{delete, flush, pass, swap, swap_deleted};

fn after(commands: &[Command]) -> StateMachine {
    let mut machine = StateMachine::default();
    for command in commands {
        machine.apply(command).unwrap();
    }
    machine
}

/// Segments that are pending, by request.
fn pending(commands: &[Command]) -> BTreeMap<u64, Vec<u64>> {
    let machine = after(commands);
    let deletes = machine.catalog().deletes.iter();
    deletes
        .map(|(id, delete)| (id.0, delete.pending.iter().map(|s| s.0).collect()))
        .collect()
}

#[test]
fn pending_segments_follow_what_happens_to_their_records() {
    let two = flush(1, 1, &["a", "b"]);
    let request = delete("a", 0, 50);
    let cases: &[(&str, &[Command], &[u64])] = &[
        ("all that is live", &[two.clone(), request.clone()], &[1, 2]),
        (
            "not those of other times",
            &[two.clone(), delete("a", 101, 200)],
            &[],
        ),
        (
            "not those of other tenants",
            &[two.clone(), delete("b", 0, 50)],
            &[],
        ),
        (
            "what is flushed later",
            &[request.clone(), two.clone()],
            &[1, 2],
        ),
        (
            "a merge that knew nothing of it hands it on",
            &[two.clone(), request.clone(), swap(&[1, 2], &["m"], 5)],
            &[3],
        ),
        (
            "a merge that left its records out does not",
            &[
                two.clone(),
                request.clone(),
                swap_deleted(&[1, 2], &["m"], &[1]),
            ],
            &[],
        ),
        (
            "a merge of what was searched hands nothing on",
            &[
                two.clone(),
                request.clone(),
                pass(&[1], &[1, 2]),
                swap(&[1, 2], &["m"], 5),
            ],
            &[],
        ),
        (
            "a merge of what was searched in part hands it on",
            &[
                two.clone(),
                request.clone(),
                pass(&[1, 9], &[2, 77]),
                swap(&[1, 2], &["m"], 5),
            ],
            &[3],
        ),
    ];
    for (what, commands, expected) in cases {
        assert_eq!(pending(commands)[&1], *expected, "{what}");
    }
}

#[test]
fn a_request_is_finished_once_nothing_is_pending() {
    let mut machine = after(&[flush(1, 1, &["a"]), delete("a", 0, 50)]);
    let finish = Command::FinishDelete(DeleteId(1), None);
    let text = "delete request 1 is still pending for segment 1".to_owned();
    assert_eq!(machine.apply(&finish), Err(Rejected::Conflict(text)));
    machine.apply(&pass(&[1], &[1])).unwrap();
    machine.apply(&finish).unwrap();
    let catalog = machine.catalog();
    assert!(catalog.deletes.is_empty());
    assert_eq!(catalog.past_deletes[&DeleteId(1)].created, 7);
    let text = "delete request 1 is not active".to_owned();
    assert_eq!(machine.apply(&finish), Err(Rejected::Conflict(text)));
}

#[test]
fn a_request_that_was_closed_is_finished_by_who_closed_it_last() {
    let id = DeleteId(1);
    let mut machine = after(&[flush(1, 1, &["a"]), delete("a", 0, 50)]);
    let close = |machine: &mut StateMachine| match machine.apply(&Command::CloseDelete(id)) {
        Ok(Outcome::Done { version }) => version,
        other => panic!("{other:?}"),
    };
    let text = "delete request 1 is still pending for segment 1".to_owned();
    let closed = machine.apply(&Command::CloseDelete(id));
    assert_eq!(closed, Err(Rejected::Conflict(text)));
    machine.apply(&pass(&[1], &[1])).unwrap();
    let first = close(&mut machine);
    assert_eq!(machine.catalog().deletes[&id].closed, Some(first));
    let second = close(&mut machine);
    // The first has nothing to say any more.
    machine.apply(&Command::ReopenDelete(id, first)).unwrap();
    assert_eq!(machine.catalog().deletes[&id].closed, Some(second));
    let text = "delete request 1 was opened since it was looked for its records".to_owned();
    let finish = |closed| Command::FinishDelete(id, Some(closed));
    let refused = machine.apply(&finish(first));
    assert_eq!(refused, Err(Rejected::Conflict(text.clone())));
    machine.apply(&Command::ReopenDelete(id, second)).unwrap();
    assert_eq!(machine.catalog().deletes[&id].closed, None);
    let refused = machine.apply(&finish(second));
    assert_eq!(refused, Err(Rejected::Conflict(text)));
    // What is flushed meanwhile is looked at first.
    let third = close(&mut machine);
    machine.apply(&flush(1, 2, &["b"])).unwrap();
    assert_eq!(machine.catalog().deletes[&id].fed, third + 1);
    assert!(machine.apply(&finish(third)).is_err());
    machine.apply(&pass(&[1], &[2])).unwrap();
    machine.apply(&finish(third)).unwrap();
    assert!(machine.catalog().deletes.is_empty());
}

#[test]
fn jobs_of_segments_that_are_done_have_no_holder() {
    let names = [
        "merge 1", "merge 2", "merge 3", "delete 1", "delete 2", "clean",
    ];
    let leases = names.map(|name| Command::TakeLease {
        name: name.into(),
        holder: NodeId(1),
        run_out: 0,
        until: 9,
    });
    let begin = [flush(1, 1, &["a", "b", "c"]), delete("a", 0, 50)];
    let mut machine = after(&[&begin[..], &[delete("a", 0, 50)], &leases].concat());
    let held = |machine: &StateMachine| -> Vec<String> {
        let leases = machine.catalog().cluster.leases.keys();
        leases.map(|name| name.to_string()).collect()
    };
    machine.apply(&pass(&[1], &[1])).unwrap();
    assert_eq!(held(&machine).len(), 6, "the second request is pending");
    machine.apply(&pass(&[2], &[1])).unwrap();
    let still = ["clean", "delete 2", "merge 1", "merge 2", "merge 3"];
    assert_eq!(held(&machine), still);
    machine.apply(&swap(&[1, 2], &["m"], 5)).unwrap();
    assert_eq!(held(&machine), ["clean", "merge 3"]);
}

#[test]
fn requests_are_numbered_and_no_number_comes_twice() {
    let mut machine = after(&[delete("a", 0, 50), Command::CancelDelete(DeleteId(1))]);
    let outcome = machine.apply(&delete("a", 0, 50));
    let (id, version) = (DeleteId(2), 3);
    assert_eq!(outcome, Ok(Outcome::Delete { id, version }));
}

#[test]
fn records_of_a_cancelled_request_are_not_left_out() {
    let mut machine = after(&[
        flush(1, 1, &["a"]),
        delete("a", 0, 50),
        Command::CancelDelete(DeleteId(1)),
    ]);
    let text = "delete request 1, whose records were left out, has been cancelled".to_owned();
    let rejected = machine.apply(&swap_deleted(&[1], &["m"], &[1]));
    assert_eq!(rejected, Err(Rejected::Conflict(text)));
    let text = "delete request 1 is not active".to_owned();
    let rejected = machine.apply(&Command::CancelDelete(DeleteId(1)));
    assert_eq!(rejected, Err(Rejected::Conflict(text)));
}

#[test]
fn a_request_has_begun_when_records_were_left_out() {
    let begun = |commands: &[Command]| after(commands).catalog().deletes[&DeleteId(1)].begun;
    let requested = [flush(1, 1, &["a"]), delete("a", 0, 50)];
    assert!(!begun(&[&requested[..], &[swap(&[1], &["m"], 5)]].concat()));
    let swapped = swap_deleted(&[1], &["m"], &[1]);
    assert!(begun(&[&requested[..], &[swapped]].concat()));
}

#[test]
fn requests_are_bounded() {
    let mut machine = StateMachine::default();
    let empty = machine.apply(&delete("a", 5, 5)).unwrap_err();
    assert_eq!(
        empty.to_string(),
        "a delete request needs a start before its end"
    );
    for _ in 0..ACTIVE_DELETES_MAX {
        machine.apply(&delete("a", 0, 50)).unwrap();
    }
    let full = machine.apply(&delete("a", 0, 50)).unwrap_err();
    assert_eq!(
        full.to_string(),
        "tenant a has 1000 delete requests that are not processed yet; wait, or cancel some"
    );
    machine.apply(&delete("b", 0, 50)).unwrap();
    for id in 1..=ACTIVE_DELETES_MAX as u64 + 1 {
        let finish = Command::FinishDelete(DeleteId(id), None);
        machine.apply(&finish).unwrap();
    }
    machine.apply(&delete("a", 0, 50)).unwrap();
    let last = DeleteId(ACTIVE_DELETES_MAX as u64 + 2);
    machine.apply(&Command::FinishDelete(last, None)).unwrap();
    let past = &machine.catalog().past_deletes;
    assert_eq!(past.len(), PAST_DELETES_MAX + 1);
    assert!(!past.contains_key(&DeleteId(1)) && past.contains_key(&last));
}
