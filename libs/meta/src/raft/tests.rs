//! openraft's own suite over both stores, and what our log and machine promise beyond it.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;

use super::log::Log;
use super::machine::Machine;
use super::*;
use crate::replica::Replica;
use crate::store::{Change, DiskStore, MemoryStore, Shelf};

struct InMemory;
struct OnDisk;

fn build(store: Arc<dyn Store>) -> Result<(Log, Machine), StorageError<u64>> {
    let kept = Kept::new(store);
    let machine = Machine::open(kept.clone(), Arc::<Replica>::default())?;
    Ok((Log::new(kept), machine))
}

impl StoreBuilder<Types, Log, Machine> for InMemory {
    async fn build(&self) -> Result<((), Log, Machine), StorageError<u64>> {
        let (log, machine) = build(Arc::new(MemoryStore::default()))?;
        Ok(((), log, machine))
    }
}

impl StoreBuilder<Types, Log, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<u64>> {
        let folder = TempDir::new().unwrap();
        let (log, machine) = build(Arc::new(DiskStore::open(folder.path()).unwrap()))?;
        Ok((folder, log, machine))
    }
}

#[test]
fn the_log_in_memory_passes_openrafts_suite() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn the_log_on_disk_passes_openrafts_suite() {
    Suite::test_all(OnDisk).unwrap();
}

#[tokio::test(start_paused = true)]
async fn readers_of_log_and_snapshot_wait_while_the_disk_is_full() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(DiskStore::open(folder.path()).unwrap());
    let (mut log, mut machine) = build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let entry = Entry {
        log_id: LogId::default(),
        payload: EntryPayload::Blank,
    };
    let put = |at| Change::Put(Shelf::Log, at, serde_json::to_vec(&entry).unwrap());
    store.write(vec![put(0)]).await.unwrap();
    let full = File::options().read(true).write(true).open("/dev/full");
    let file = store.witnessed_by(full.unwrap()).unwrap();
    let (writer, change) = (Arc::clone(&store), put(1));
    let write = tokio::spawn(async move { writer.write(vec![change]).await });
    while store.trouble().is_none() {
        tokio::task::yield_now().await;
    }
    let mut reader = log.get_log_reader().await;
    let entries = tokio::spawn(async move { reader.try_get_log_entries(0..9).await });
    let vote = tokio::spawn(async move { log.read_vote().await });
    let snapshot = tokio::spawn(async move { machine.get_current_snapshot().await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!write.is_finished() && !entries.is_finished());
    assert!(!vote.is_finished() && !snapshot.is_finished());
    store.witnessed_by(file).unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(entries.await.unwrap().unwrap().len(), 2);
    assert!(vote.await.unwrap().unwrap().is_none());
    assert!(snapshot.await.unwrap().unwrap().is_none());
}
