//! A cluster of one process, on a real disk.

use model::HeadId;
use std::fs;

use super::*;
use crate::testing::{forget, swap};

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn open(folder: &TempDir) -> Node {
    Node::alone(folder.path(), SHAPE).await.unwrap()
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    assert_eq!(node.id(), Some(NodeId(1)));
    assert_eq!(node.catalog().cluster.ring.members.len(), 1);
    let version = node.catalog().version;
    let outcome = node.propose(flush(1, 1, &["a"])).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Done {
            version: version + 1
        }
    );
    let before = node.catalog();
    node.shutdown().await;
    let node = open(&folder).await;
    assert_eq!(node.catalog(), before);
    // Without a farewell too.
    drop(node);
    let node = open(&folder).await;
    assert_eq!(node.catalog(), before);
}

#[tokio::test]
async fn a_copy_of_the_folder_taken_after_each_answer_holds_what_was_answered() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let commands = [
        flush(1, 1, &["a", "b"]),
        swap(&[1, 2], &["ab"], 50),
        forget(&["a"]),
        flush(1, 2, &[]),
    ];
    for (at, command) in commands.into_iter().enumerate() {
        node.propose(command).await.unwrap();
        let copy = TempDir::new().unwrap();
        copy_folder(folder.path(), copy.path());
        let reopened = open(&copy).await;
        assert_eq!(reopened.catalog(), node.catalog(), "after command {at}");
    }
}

#[tokio::test]
async fn a_refused_command_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    node.propose(flush(1, 1, &["a"])).await.unwrap();
    let before = node.catalog();
    let refused = node.propose(flush(1, 1, &["b"])).await;
    assert!(
        matches!(refused, Err(rpc::Error::Conflict(_))),
        "{refused:?}"
    );
    let refused = node.propose(flush(1, 0, &["b"])).await;
    assert!(
        matches!(refused, Err(rpc::Error::Invalid(_))),
        "{refused:?}"
    );
    assert_eq!(node.catalog(), before);
    drop(node);
    assert_eq!(open(&folder).await.catalog(), before);
}

#[tokio::test]
async fn many_proposals_at_once_all_get_their_own_answer() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let first = node.catalog().version + 1;
    let tasks: Vec<_> = (1..=300)
        .map(|sequence| {
            let node = node.clone();
            tokio::spawn(async move {
                let path = format!("logs/{sequence}");
                node.propose(flush(1, sequence, &[&path])).await.unwrap()
            })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        let Outcome::Done { version } = task.await.unwrap() else {
            panic!("a flush has no other outcome");
        };
        versions.push(version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (first..first + 300).collect::<Vec<_>>());
    let before = node.catalog();
    assert_eq!(before.covered[&1].below, 301);
    drop(node);
    assert_eq!(open(&folder).await.catalog(), before);
}

#[tokio::test]
async fn changed_returns_once_the_catalog_is_newer() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let now = node.catalog().version;
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.changed(now + 1).await.version }
    });
    node.propose(form()).await.unwrap();
    node.propose(form()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), now + 2);
    assert_eq!(node.changed(0).await.version, now + 2);
}

#[tokio::test]
async fn a_folder_is_open_once() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let second = Node::alone(folder.path(), SHAPE).await;
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    drop(node);
    open(&folder).await;
}

#[tokio::test]
async fn a_proposal_whose_caller_went_away_is_made_all_the_same() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let before = node.catalog().version;
    {
        let mut proposal = Box::pin(node.propose(flush(1, 1, &["a"])));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(proposal.as_mut().poll(&mut context).is_pending());
    }
    let head = HeadId {
        ingester: 1,
        sequence: 1,
    };
    assert!(node.changed(before).await.covers(head));
}

#[tokio::test]
async fn other_replicas_are_refused_with_both_and_other_shards_are_not_asked_for() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder).await);
    let more = ClusterShape { shards: 9, ..SHAPE };
    let node = Node::alone(folder.path(), more).await.unwrap();
    assert_eq!(node.catalog().cluster.shape, Some(SHAPE));
    node.shutdown().await;
    drop(node);
    let other = ClusterShape {
        replicas: 9,
        ..SHAPE
    };
    let refused = Node::alone(folder.path(), other).await.unwrap_err();
    assert!(matches!(refused, Error::Shape { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("formed with --replicas 3 ") && text.contains("set to --replicas 9 "));
}

#[tokio::test(start_paused = true)]
async fn snapshots_take_the_place_of_old_commands() {
    let mut world = World::new(&["a"]);
    world.snapshot_commands = Some(20);
    let node = world.start("a", INGESTER).await;
    for sequence in 1..=100 {
        node.propose(flush(1, sequence, &[])).await.unwrap();
    }
    until(&node, |status| status.snapshot > Some(80)).await;
    let kept = node.owner.core.kept.store.read(Shelf::Log, 0..=u64::MAX);
    assert!(kept.unwrap().len() < 60, "old entries are dropped");
    let before = node.catalog();
    world.kill("a");
    let node = world.start("a", INGESTER).await;
    assert_eq!(node.catalog(), before);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_told() {
    let mut world = World::new(&["a"]);
    let node = world.start("a", INGESTER).await;
    world.disks["a"].close();
    let refused = node.propose(form()).await;
    assert!(
        matches!(refused, Err(rpc::Error::Unavailable(_))),
        "{refused:?}"
    );
    let failed = node.failed().await;
    assert!(failed.to_string().contains("it is closed"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_named() {
    let world = World::new(&["a"]);
    let open = async |change: fn(&mut Config)| {
        let mut config = world.config("a", INGESTER);
        change(&mut config);
        Node::open(config, nobody(), Arc::new(MemoryStore::default())).await
    };
    let refused = open(|config| config.timings.election_min = Duration::from_millis(1)).await;
    assert!(matches!(refused, Err(Error::Setting(_))), "{refused:?}");
    let refused = open(|config| config.voters = 2).await;
    assert!(matches!(refused, Err(Error::Setting(_))), "{refused:?}");
}
