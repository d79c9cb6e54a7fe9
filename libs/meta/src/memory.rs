//! A catalog for tests of those who use one.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rpc::{Catalog, Command, MetaApi, Outcome};
use tokio::sync::watch;

use crate::StateMachine;

/// [`MetaApi`] without a log: the rules of the [`StateMachine`], in memory. For tests of other
/// crates; what is proposed is gone with the value.
#[derive(Debug)]
pub struct MemoryMeta {
    machine: Mutex<StateMachine>,
    catalog: watch::Sender<Arc<Catalog>>,
}

impl Default for MemoryMeta {
    fn default() -> Self {
        MemoryMeta {
            machine: Mutex::default(),
            catalog: watch::Sender::new(Arc::default()),
        }
    }
}

#[async_trait]
impl MetaApi for MemoryMeta {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let mut catalog = self.catalog.subscribe();
        let newer = catalog.wait_for(|catalog| catalog.version > version).await;
        match newer {
            Ok(catalog) => Arc::clone(&catalog),
            // The sender is a field of this very value.
            Err(_) => self.catalog(),
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, rpc::Error> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = machine.apply(&command)?;
        self.catalog.send_replace(Arc::clone(machine.catalog()));
        Ok(outcome)
    }
}
