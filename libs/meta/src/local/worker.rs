use std::path::{Path, PathBuf};
use std::sync::Arc;

use rpc::{Catalog, Command, Outcome};
use tokio::sync::{mpsc, oneshot, watch};

use super::log::Log;
use crate::{Error, StateMachine, wire};

/// Proposals that share one fsync.
const BATCH_MAX: usize = 256;
/// Commands after which a snapshot is written, at least. With more segments than that it takes as
/// many commands as there are segments, so that snapshots cost a constant share of all writes.
const COMMANDS_PER_SNAPSHOT_MIN: u64 = 1024;

/// A command on its way to the worker.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Outcome, rpc::Error>>,
}

/// Owns state and log; runs on a thread of its own.
pub(super) struct Worker {
    folder: PathBuf,
    /// `None` after a failed write, until it could be opened again.
    log: Option<Log>,
    machine: StateMachine,
    publisher: watch::Sender<Arc<Catalog>>,
}

impl Worker {
    pub(super) fn new(
        folder: &Path,
        log: Log,
        machine: StateMachine,
        publisher: watch::Sender<Arc<Catalog>>,
    ) -> Self {
        Worker {
            folder: folder.to_owned(),
            log: Some(log),
            machine,
            publisher,
        }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Proposal>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            self.serve(batch);
            self.compact_if_due();
        }
    }

    /// Applies and logs a batch, then answers all of it. A refusal may rest on a command of the
    /// same batch, so that it is not answered before that one is on disk either.
    fn serve(&mut self, batch: Vec<Proposal>) {
        let (commands, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|proposal| (proposal.command, proposal.answer))
            .unzip();
        let outcomes = match self.apply(&commands) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(%error, commands = commands.len(), "the catalog is not written");
                vec![Err(rpc::Error::from(&error)); commands.len()]
            }
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever proposed may be gone: the change is made all the same.
            let _ = answer.send(outcome);
        }
    }

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Result<Outcome, rpc::Error>>, Error> {
        self.open_log()?;
        let before = Arc::clone(self.machine.catalog());
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut entries = Vec::with_capacity(commands.len());
        for command in commands {
            let outcome = self.machine.apply(command);
            if outcome.is_ok() {
                let version = self.machine.catalog().version;
                entries.push((version, wire::encode_command(command)));
            }
            outcomes.push(outcome.map_err(rpc::Error::from));
        }
        if entries.is_empty() {
            return Ok(outcomes);
        }
        if let Err(error) = self.with_log(|log| log.append(&entries)) {
            self.machine = StateMachine::new(before);
            return Err(error);
        }
        self.publish();
        Ok(outcomes)
    }

    fn publish(&self) {
        let catalog = Arc::clone(self.machine.catalog());
        self.publisher.send_replace(catalog);
    }

    /// Opens the log again after a failure. It may hold commands that were answered with the
    /// error; never fewer than were published.
    fn open_log(&mut self) -> Result<(), Error> {
        if self.log.is_some() {
            return Ok(());
        }
        let (log, catalog) = Log::open(&self.folder)?;
        let (found, known) = (catalog.version, self.machine.catalog().version);
        if found < known {
            return Err(Error::Corrupt {
                folder: self.folder.clone(),
                reason: format!("expected version {known}, found {found}"),
            });
        }
        tracing::info!(version = found, "opened the catalog's log again");
        self.log = Some(log);
        if found > known {
            self.machine = StateMachine::new(catalog);
            self.publish();
        }
        Ok(())
    }

    /// After an error the log is closed: what is in memory may not be what is on disk.
    fn with_log(&mut self, act: impl FnOnce(&mut Log) -> Result<(), Error>) -> Result<(), Error> {
        let Some(log) = self.log.as_mut() else {
            return Ok(());
        };
        let done = act(log);
        if done.is_err() {
            self.log = None;
        }
        done
    }

    fn compact_if_due(&mut self) {
        let catalog = Arc::clone(self.machine.catalog());
        let due = COMMANDS_PER_SNAPSHOT_MIN.max(catalog.segments.len() as u64);
        if self.log.as_ref().is_none_or(|log| log.commands() < due) {
            return;
        }
        if let Err(error) = self.with_log(|log| log.compact(&catalog)) {
            tracing::error!(%error, "the catalog's snapshot is not written");
        }
    }
}

#[cfg(test)]
mod tests;
