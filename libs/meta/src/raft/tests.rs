//! openraft's own suite over both stores, and what our log and machine promise beyond it.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::log::Log;
use super::machine::Machine;
use super::*;
use crate::replica::Replica;
use crate::store::{DiskStore, MemoryStore};

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
