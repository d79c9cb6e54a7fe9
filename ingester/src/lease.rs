use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, NodeId, Timestamp};
use parking_lot::Mutex;
use rpc::{Cluster, Command, Lease, MetaApi};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::config::nanos;
use crate::start::Clock;

/// Jobs that one ingester at a time does. Where there is only one, none is taken.
///
/// Nobody's wall clock counts: whoever wants a job that another has waits until it has seen that
/// lease unrenewed for as long as leases last, and its holder gives up a little earlier.
#[derive(Clone)]
pub(crate) struct Leases {
    meta: Arc<dyn MetaApi>,
    node: NodeId,
    /// Says until when a lease is to last, for people.
    clock: Clock,
    duration: Duration,
    watched: Arc<Mutex<Watched>>,
}

/// Leases of others, each with the time since which it was seen as it is.
#[derive(Debug, Default)]
struct Watched {
    since: HashMap<Arc<str>, (Lease, Instant)>,
}

impl Watched {
    /// Whether a lease that another has may be taken over: its `until`, which the coordinator
    /// compares with that of the newest renewal.
    fn run_out(
        &mut self,
        name: &str,
        cluster: &Cluster,
        duration: Duration,
        now: Instant,
    ) -> Option<Timestamp> {
        self.since
            .retain(|name, (lease, _)| cluster.leases.get(name) == Some(lease));
        let (name, lease) = cluster.leases.get_key_value(name)?;
        let seen = self.since.entry(Arc::clone(name));
        let (lease, since) = seen.or_insert_with(|| (lease.clone(), now));
        (now.duration_since(*since) >= duration).then_some(lease.until)
    }
}

impl Leases {
    pub(crate) fn new(
        meta: Arc<dyn MetaApi>,
        node: NodeId,
        clock: Clock,
        duration: Duration,
    ) -> Self {
        Leases {
            meta,
            node,
            clock,
            duration,
            watched: Arc::default(),
        }
    }

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
        let taken = Instant::now();
        if !self.take(name, self.duration).await? {
            return Ok(None);
        }
        let done = tokio::select! {
            biased;
            done = job => done,
            () = self.lost(name, taken) => Err(Error::Meta(rpc::Error::Conflict(format!(
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
        let catalog = self.meta.catalog();
        let held = catalog.cluster.leases.get(name);
        let run_out = match held.filter(|lease| lease.holder != self.node) {
            None => 0,
            Some(_) => {
                let now = Instant::now();
                let mut watched = self.watched.lock();
                match watched.run_out(name, &catalog.cluster, duration, now) {
                    Some(until) => until,
                    None => return Ok(false),
                }
            }
        };
        let take = Command::TakeLease {
            name: name.into(),
            holder: self.node,
            run_out,
            until: (self.clock)().saturating_add(nanos(duration)),
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

    /// Renews a lease that was taken no earlier than then; returns when another has it, or when it
    /// was not renewed for as long as it lasts.
    async fn lost(&self, name: &str, taken: Instant) {
        let mut end = taken + self.duration;
        loop {
            tokio::time::sleep(self.duration / 3).await;
            let asked = Instant::now();
            match timeout_at(end, self.take(name, self.duration)).await {
                Ok(Ok(true)) => end = asked + self.duration,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) if error.kind() == Kind::Conflict => return,
                Ok(Err(error)) => {
                    tracing::warn!(name, %error, "cannot renew a lease; it is tried again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(leases: &[(&str, u64, i64)]) -> Cluster {
        let lease = |(name, holder, until): &(&str, u64, i64)| {
            let holder = NodeId(*holder);
            let until = *until;
            (Arc::from(*name), Lease { holder, until })
        };
        Cluster {
            leases: leases.iter().map(lease).collect(),
            ..Cluster::default()
        }
    }

    #[test]
    fn a_lease_runs_out_when_it_was_seen_unrenewed_for_as_long_as_it_lasts() {
        let (mut watched, start) = (Watched::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut seen = |cluster: &Cluster, seconds| {
            watched.run_out("x", cluster, Duration::from_secs(60), at(seconds))
        };
        // Its end by somebody's clock was a day ago, or is in a day: that is nothing.
        let first = cluster(&[("x", 2, -86_400)]);
        assert_eq!(seen(&first, 0), None);
        assert_eq!(seen(&first, 59), None);
        let renewed = cluster(&[("x", 2, 86_400)]);
        assert_eq!(seen(&renewed, 60), None);
        assert_eq!(seen(&renewed, 119), None);
        assert_eq!(seen(&renewed, 120), Some(86_400));
        assert_eq!(seen(&cluster(&[("x", 3, 86_400)]), 121), None, "another's");
        assert_eq!(seen(&cluster(&[("y", 3, 1)]), 122), None);
        assert_eq!(
            seen(&cluster(&[("x", 3, 86_400)]), 200),
            None,
            "it was free"
        );
    }
}
