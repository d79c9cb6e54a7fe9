//! The store: what was answered is there after any reopening.

use std::fs;

use model::HeadId;
use rpc::MetaApi;
use tempfile::TempDir;

use super::*;
use crate::testing::{flush, forget, form, swap};

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

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let meta = LocalMeta::open(folder.path()).unwrap();
    assert_eq!(meta.catalog().version, 0);
    let outcome = meta.propose(form()).await.unwrap();
    assert_eq!(outcome, Outcome::Done { version: 1 });
    meta.propose(flush(1, 1, &["a"])).await.unwrap();
    let before = meta.catalog();
    drop(meta);
    let meta = LocalMeta::open(folder.path()).unwrap();
    assert_eq!(meta.catalog(), before);
    assert_eq!(meta.catalog().version, 2);
}

#[tokio::test]
async fn a_copy_of_the_folder_taken_after_each_answer_holds_what_was_answered() {
    let folder = TempDir::new().unwrap();
    let meta = LocalMeta::open(folder.path()).unwrap();
    let commands = [
        form(),
        flush(1, 1, &["a", "b"]),
        flush(1, 3, &["c"]),
        swap(&[1, 2], &["ab"], 50),
        forget(&["a"]),
        flush(1, 2, &[]),
    ];
    for (at, command) in commands.into_iter().enumerate() {
        meta.propose(command).await.unwrap();
        let copy = TempDir::new().unwrap();
        copy_folder(folder.path(), copy.path());
        let reopened = LocalMeta::open(copy.path()).unwrap();
        assert_eq!(reopened.catalog(), meta.catalog(), "after command {at}");
    }
}

#[tokio::test]
async fn a_refused_command_changes_nothing_and_is_not_logged() {
    let folder = TempDir::new().unwrap();
    let meta = LocalMeta::open(folder.path()).unwrap();
    meta.propose(flush(1, 1, &["a"])).await.unwrap();
    let before = meta.catalog();
    let refused = meta.propose(flush(1, 1, &["b"])).await;
    assert!(
        matches!(refused, Err(rpc::Error::Conflict(_))),
        "{refused:?}"
    );
    let refused = meta.propose(flush(1, 0, &["b"])).await;
    assert!(
        matches!(refused, Err(rpc::Error::Invalid(_))),
        "{refused:?}"
    );
    assert_eq!(meta.catalog(), before);
    drop(meta);
    assert_eq!(LocalMeta::open(folder.path()).unwrap().catalog(), before);
}

#[tokio::test]
async fn many_proposals_at_once_all_get_their_own_answer_across_snapshots() {
    let folder = TempDir::new().unwrap();
    let meta = Arc::new(LocalMeta::open(folder.path()).unwrap());
    let tasks: Vec<_> = (1..=3000)
        .map(|sequence| {
            let meta = Arc::clone(&meta);
            tokio::spawn(async move {
                let path = format!("logs/{sequence}");
                meta.propose(flush(1, sequence, &[&path])).await.unwrap()
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
    assert_eq!(versions, (1..=3000).collect::<Vec<_>>());
    let before = meta.catalog();
    assert_eq!(before.covered[&1].below, 3001);
    drop(meta);
    let meta = LocalMeta::open(folder.path()).unwrap();
    assert_eq!(meta.catalog(), before);
}

#[tokio::test]
async fn changed_returns_once_the_catalog_is_newer() {
    let folder = TempDir::new().unwrap();
    let meta = Arc::new(LocalMeta::open(folder.path()).unwrap());
    let waiting = tokio::spawn({
        let meta = Arc::clone(&meta);
        async move { meta.changed(1).await.version }
    });
    meta.propose(form()).await.unwrap();
    meta.propose(form()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 2);
    assert_eq!(meta.changed(0).await.version, 2);
}

#[tokio::test]
async fn a_folder_is_open_once() {
    let folder = TempDir::new().unwrap();
    let meta = LocalMeta::open(folder.path()).unwrap();
    let second = LocalMeta::open(folder.path());
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    drop(meta);
    LocalMeta::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_proposal_whose_caller_went_away_is_made_all_the_same() {
    let folder = TempDir::new().unwrap();
    let meta = LocalMeta::open(folder.path()).unwrap();
    {
        let mut proposal = Box::pin(meta.propose(flush(1, 1, &["a"])));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(proposal.as_mut().poll(&mut context).is_pending());
    }
    let head = HeadId {
        ingester: 1,
        sequence: 1,
    };
    assert!(meta.changed(0).await.covers(head));
}
