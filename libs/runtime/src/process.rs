use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// The wall clock, as the roles take it: nanoseconds since 1970.
pub fn clock() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    Arc::new(|| match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    })
}

/// SIGTERM and SIGINT from when this is made on: one that comes while nobody waits is told to who waits
/// next.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Termination {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal and names it. Loses none when it is dropped before.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The tasks of one phase of the process and the word to stop them. A phase is ended whole before
/// the next begins: listeners first, then the roles that they feed.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A phase with no tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is cancelled when the phase is to end.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task that is expected to run until the phase ends. If it fails or panics earlier,
    /// that is logged under its name and the phase is ended, because half a process serves nobody.
    pub fn spawn<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let token = self.token.clone();
        let handle = tokio::spawn(task);
        self.tasks.spawn(async move {
            match handle.await {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => error!(task = name, %reason, "task failed"),
                Err(reason) => error!(task = name, %reason, "task panicked"),
            }
            token.cancel();
        });
    }

    /// Ends the phase and waits for its tasks, at most `patience`; says whether all ended.
    pub async fn end(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(patience, self.tasks.wait())
            .await
            .is_ok();
        if !ended {
            info!(
                open = self.tasks.len(),
                "gave up waiting for open connections"
            );
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_task_ends_its_phase() {
        let phase = Shutdown::new();
        phase.spawn("failing", async { Err("no") });
        phase.token().cancelled().await;
        assert!(phase.end(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn ending_a_phase_waits_for_its_tasks() {
        let phase = Shutdown::new();
        let token = phase.token();
        phase.spawn("waiting", async move {
            token.cancelled().await;
            Ok::<(), String>(())
        });
        assert!(!phase.token().is_cancelled());
        assert!(phase.end(Duration::from_secs(5)).await);
    }
}
