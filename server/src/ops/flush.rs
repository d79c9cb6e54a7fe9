//! Storing what is in memory when somebody asks for it.

use std::sync::Arc;

use ingester::Ingester;
use rpc::IngestApi;
use tokio::sync::Mutex;

use crate::admin::no_ingester;

/// Flushes of this process that were asked for: one after the other, so that asking often does not cut
/// what is in memory into many small segments at once. Clones share it.
#[derive(Clone)]
pub(super) struct Flushes {
    /// `None` in a process without that role.
    ingester: Option<Ingester>,
    running: Arc<Mutex<()>>,
}

impl Flushes {
    pub(super) fn new(ingester: Option<Ingester>) -> Self {
        Flushes {
            ingester,
            running: Arc::default(),
        }
    }

    pub(super) fn has_ingester(&self) -> bool {
        self.ingester.is_some()
    }

    /// Waits until no other flush that was asked for runs, and stores everything that was acknowledged
    /// before.
    ///
    /// # Errors
    /// Those of the ingester, and `NotFound` without one.
    pub(super) async fn flush(&self) -> Result<(), rpc::Error> {
        let ingester = self.ingester.clone().ok_or_else(no_ingester)?;
        in_turn(&self.running, async move { ingester.flush().await }).await
    }
}

/// Does work when no other is under way. What has begun counts as under way until its end, also when
/// nobody waits for it any more.
async fn in_turn(
    running: &Arc<Mutex<()>>,
    work: impl Future<Output = Result<(), rpc::Error>> + Send + 'static,
) -> Result<(), rpc::Error> {
    let turn = Arc::clone(running).lock_owned().await;
    let work = tokio::spawn(async move {
        let done = work.await;
        drop(turn);
        done
    });
    let ended = |error| {
        Err(rpc::Error::Internal(format!(
            "a flush ended early: {error}"
        )))
    };
    work.await.unwrap_or_else(ended)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_flush_waits_for_the_one_before_even_if_nobody_else_does() {
        let running = Arc::new(Mutex::new(()));
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let shared = Arc::clone(&running);
        let first = tokio::spawn(async move {
            let work = async move {
                begin.send(()).unwrap();
                ended.await.unwrap();
                Ok(())
            };
            in_turn(&shared, work).await
        });
        begun.await.unwrap();
        first.abort();
        assert!(first.await.is_err());
        assert!(running.try_lock().is_err());
        end.send(()).unwrap();
        in_turn(&running, async { Ok(()) }).await.unwrap();
        assert!(running.try_lock().is_ok());
    }
}
