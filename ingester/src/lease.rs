use std::sync::Arc;
use std::time::Duration;

use model::{Kind, NodeId};
use rpc::{Command, MetaApi};

use crate::Error;
use crate::config::nanos;
use crate::start::Clock;

/// Jobs that one ingester at a time does. Where there is only one, none is taken.
#[derive(Clone)]
pub(crate) struct Leases {
    pub(crate) meta: Arc<dyn MetaApi>,
    pub(crate) node: NodeId,
    pub(crate) clock: Clock,
    pub(crate) duration: Duration,
}

impl Leases {
    /// Does the job, `None` when another has it. Once it begins, the catalog here is as new as the
    /// lease. Renews the lease while the job works; the job is dropped when the lease is lost, so it
    /// must commit nothing by a task of its own.
    ///
    /// # Errors
    /// The job's; `Conflict` when the lease was lost; the coordinator's.
    pub(crate) async fn hold<T>(
        &self,
        name: &str,
        job: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        if self.is_alone() {
            return job.await.map(Some);
        }
        if !self.take(name, self.duration).await? {
            return Ok(None);
        }
        let done = tokio::select! {
            biased;
            done = job => done,
            () = self.lost(name) => Err(Error::Meta(rpc::Error::Conflict(format!(
                "the lease {name:?} was lost; another ingester may do the job now"
            )))),
        };
        let release = Command::ReleaseLease {
            name: name.into(),
            holder: self.node,
        };
        if let Err(error) = self.meta.propose(release).await {
            tracing::debug!(name, %error, "cannot give a lease back; it ends by itself");
        }
        done.map(Some)
    }

    /// Takes or renews a lease for so long; `false` when another has it.
    ///
    /// # Errors
    /// The coordinator's.
    pub(crate) async fn take(&self, name: &str, duration: Duration) -> Result<bool, Error> {
        if self.is_alone() {
            return Ok(true);
        }
        let now = (self.clock)();
        let catalog = self.meta.catalog();
        let held = catalog.cluster.leases.get(name);
        if held.is_some_and(|lease| lease.holder != self.node && lease.until > now) {
            return Ok(false);
        }
        let take = Command::TakeLease {
            name: name.into(),
            holder: self.node,
            now,
            until: now.saturating_add(nanos(duration)),
        };
        match self.meta.propose(take).await {
            Ok(_) => Ok(true),
            Err(rpc::Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn is_alone(&self) -> bool {
        self.meta.catalog().cluster.ingesters().count() < 2
    }

    /// Renews; returns when another has the lease, or when it has ended unrenewed.
    async fn lost(&self, name: &str) {
        let mut until = (self.clock)().saturating_add(nanos(self.duration));
        loop {
            tokio::time::sleep(self.duration / 3).await;
            let now = (self.clock)();
            match self.take(name, self.duration).await {
                Ok(true) => until = now.saturating_add(nanos(self.duration)),
                Ok(false) => return,
                Err(error) if error.kind() == Kind::Conflict => return,
                Err(_) if until <= now => return,
                Err(error) => {
                    tracing::warn!(name, %error, "cannot renew a lease; it is tried again")
                }
            }
        }
    }
}
