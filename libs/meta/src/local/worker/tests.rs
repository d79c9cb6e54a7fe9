//! What the worker does when its log was lost to a failed write.

use tempfile::TempDir;

use super::*;
use crate::testing::{flush, form};

struct Setting {
    folder: TempDir,
    worker: Worker,
    published: watch::Receiver<Arc<Catalog>>,
}

/// A worker that lost its log: the disk has the first `on_disk` flushes, memory `in_memory`.
fn setting(on_disk: u64, in_memory: u64) -> Setting {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = Log::open(folder.path()).unwrap();
    let entries: Vec<_> = (1..=on_disk)
        .map(|at| (at, wire::encode_command(&flush(1, at, &[]))))
        .collect();
    log.append(&entries).unwrap();
    let mut machine = StateMachine::default();
    for at in 1..=in_memory {
        machine.apply(&flush(1, at, &[])).unwrap();
    }
    let (publisher, published) = watch::channel(Arc::clone(machine.catalog()));
    let mut worker = Worker::new(folder.path(), log, machine, publisher);
    worker.log = None;
    Setting {
        folder,
        worker,
        published,
    }
}

fn propose(worker: &mut Worker, command: Command) -> Result<Outcome, rpc::Error> {
    let (answer, mut answered) = oneshot::channel();
    worker.serve(vec![Proposal { command, answer }]);
    answered.try_recv().unwrap()
}

#[test]
fn commands_that_reached_the_disk_after_all_are_adopted() {
    let mut setting = setting(3, 1);
    let outcome = propose(&mut setting.worker, flush(1, 4, &[]));
    assert_eq!(outcome, Ok(Outcome::Done { version: 4 }));
    assert_eq!(setting.published.borrow().covered[&1].below, 5);
    // The caller that was told of the failure tries again, and learns that it was done.
    let again = propose(&mut setting.worker, flush(1, 3, &[]));
    assert!(matches!(again, Err(rpc::Error::Conflict(_))), "{again:?}");
}

#[test]
fn a_disk_that_lost_what_was_published_is_never_written_over() {
    let mut setting = setting(1, 2);
    for _ in 0..2 {
        let refused = propose(&mut setting.worker, flush(1, 3, &[]));
        let Err(rpc::Error::Corrupt(text)) = refused else {
            panic!("{refused:?}");
        };
        assert!(text.contains("expected version 2, found 1"), "{text}");
    }
    assert_eq!(setting.published.borrow().version, 2);
    drop(setting.worker);
    let (_, catalog) = Log::open(setting.folder.path()).unwrap();
    assert_eq!(catalog.version, 1);
}

#[test]
fn proposals_are_refused_until_the_log_opens_again() {
    let mut setting = setting(2, 2);
    let held = std::fs::File::open(setting.folder.path().join("version")).unwrap();
    held.lock().unwrap();
    let refused = propose(&mut setting.worker, flush(1, 3, &[]));
    assert!(
        matches!(refused, Err(rpc::Error::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(setting.published.borrow().version, 2);
    drop(held);
    let outcome = propose(&mut setting.worker, flush(1, 3, &[]));
    assert_eq!(outcome, Ok(Outcome::Done { version: 3 }));
}

#[test]
fn a_batch_sees_its_own_commands() {
    let mut setting = setting(0, 0);
    let (answers, proposals): (Vec<_>, Vec<_>) = [flush(1, 1, &["a"]), flush(1, 1, &["b"])]
        .into_iter()
        .map(|command| {
            let (answer, answered) = oneshot::channel();
            (answered, Proposal { command, answer })
        })
        .unzip();
    setting.worker.serve(proposals);
    let mut outcomes = answers
        .into_iter()
        .map(|mut answer| answer.try_recv().unwrap());
    assert_eq!(outcomes.next(), Some(Ok(Outcome::Done { version: 1 })));
    assert!(matches!(
        outcomes.next(),
        Some(Err(rpc::Error::Conflict(_)))
    ));
}

#[test]
fn a_snapshot_is_due_after_as_many_commands_as_there_are_segments_but_a_thousand_at_least() {
    let mut setting = setting(COMMANDS_PER_SNAPSHOT_MIN - 1, COMMANDS_PER_SNAPSHOT_MIN - 1);
    setting.worker.open_log().unwrap();
    setting.worker.compact_if_due();
    let commands = |worker: &Worker| worker.log.as_ref().unwrap().commands();
    assert_eq!(commands(&setting.worker), COMMANDS_PER_SNAPSHOT_MIN - 1);
    propose(&mut setting.worker, form()).unwrap();
    setting.worker.compact_if_due();
    assert_eq!(commands(&setting.worker), 0);
    let catalog = Arc::clone(setting.worker.machine.catalog());
    drop(setting.worker);
    let (log, recovered) = Log::open(setting.folder.path()).unwrap();
    assert_eq!((log.commands(), recovered), (0, (*catalog).clone()));
}
