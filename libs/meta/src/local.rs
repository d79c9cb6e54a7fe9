use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use rpc::{Catalog, Command, MetaApi, Outcome};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, StateMachine};
use log::Log;
use worker::{Proposal, Worker};

mod log;
mod witness;
mod worker;

/// Proposals that may wait in the queue; `propose` waits for room beyond that. A proposal is a few
/// hundred bytes, so that the queue holds well below 1 MiB.
const QUEUE_MAX: usize = 1024;

/// [`MetaApi`] for one process: a log of commands in a local folder.
///
/// One thread owns the state and the log. Proposals that wait while the disk is busy are written
/// together, with one fsync. When a write fails, its proposals are answered with the error, and
/// the next proposal opens the log again: the disk says which of them are in the log after all
/// (as after a lost answer, the caller finds out from the catalog).
#[derive(Debug)]
pub struct LocalMeta {
    /// `None` only while dropping.
    proposals: Option<mpsc::Sender<Proposal>>,
    catalog: watch::Sender<Arc<Catalog>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalMeta {
    /// Opens the folder, which is made when missing, and recovers the catalog: newest snapshot and
    /// the commands after it. Blocks: some milliseconds for a thousand segments.
    ///
    /// # Errors
    /// `Busy` when another `LocalMeta` has it open, `Corrupt`, `TooNew`, `OutOfSpace`,
    /// `Unavailable`.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let (log, catalog) = Log::open(folder)?;
        let machine = StateMachine::new(catalog);
        let (publisher, _) = watch::channel(Arc::clone(machine.catalog()));
        let (proposals, queue) = mpsc::channel(QUEUE_MAX);
        let worker = Worker::new(folder, log, machine, publisher.clone());
        let thread = std::thread::Builder::new()
            .name("meta".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(|error| Error::Unavailable {
                folder: folder.to_owned(),
                reason: format!("cannot start its thread: {error}"),
            })?;
        Ok(LocalMeta {
            proposals: Some(proposals),
            catalog: publisher,
            thread: Some(thread),
        })
    }
}

#[async_trait]
impl MetaApi for LocalMeta {
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
        let stopped = || rpc::Error::Unavailable("the catalog's thread has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let queue = self.proposals.as_ref().ok_or_else(stopped)?;
        let proposal = Proposal { command, answer };
        queue.send(proposal).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for LocalMeta {
    /// Waits until what is queued is written and the folder is free again.
    fn drop(&mut self) {
        drop(self.proposals.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the catalog's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
