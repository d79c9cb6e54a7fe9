//! Tells when a part of the ingester that should last has ended by a panic.

use std::sync::Arc;

use rpc::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm {
    /// The first part that ended so.
    ended: Arc<watch::Sender<Option<&'static str>>>,
}

/// Rings when it is dropped by a panic; the part holds it as long as it works.
#[derive(Debug)]
pub(crate) struct Guard {
    alarm: Alarm,
    part: &'static str,
}

impl Alarm {
    /// Begins a part that is a task.
    pub(crate) fn spawn(
        &self,
        part: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let guard = self.guard(part);
        tokio::spawn(async move {
            let _guard = guard;
            task.await;
        })
    }

    /// For a part of this name, such as "the log's thread".
    pub(crate) fn guard(&self, part: &'static str) -> Guard {
        Guard {
            alarm: self.clone(),
            part,
        }
    }

    /// Waits until a part has ended by a panic, for ever if none does, and says which.
    pub(crate) async fn rung(&self) -> Error {
        let mut ended = self.ended.subscribe();
        // The sender is here.
        let part = ended.wait_for(Option::is_some).await;
        let part = part.ok().and_then(|part| *part).unwrap_or("a part");
        Error::Internal(format!(
            "{part} of the ingester ended with a panic, a defect: restart the process; what is not stored is read back from the log"
        ))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let part = self.part;
            self.alarm.ended.send_if_modified(|ended| {
                let first = ended.is_none();
                ended.get_or_insert(part);
                first
            });
        }
    }
}
