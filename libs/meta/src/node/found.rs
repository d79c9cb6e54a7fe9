//! How a process is part of its cluster: finishes what it has made, and comes back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use openraft::BasicNode;
use rpc::{Catalog, ClusterShape, Command};

use super::{Core, Identity, Lead};
use crate::Error;
use crate::peer::{PROTOCOL, StatusAsk};
use crate::raft::{Applied, Proposal};
use crate::status::Status;

/// How long to wait before all are asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Core {
    pub(super) async fn join(self: &Arc<Self>) -> Result<NodeId, Error> {
        let _one_at_a_time = self.joining.lock().await;
        let known = self.identity.borrow().clone();
        let identity = match known {
            Some(identity) => identity,
            None => self.enter().await?,
        };
        if identity.founder && self.config.roles.ingester {
            self.finish_founding(&identity).await?;
        }
        self.come_back().await
    }

    /// For a process that was forgotten. Boxed, because the task that calls it is started by what it
    /// calls.
    pub(super) fn rejoin(
        self: Arc<Self>,
    ) -> Pin<Box<dyn Future<Output = Result<NodeId, Error>> + Send>> {
        Box::pin(async move {
            let _one_at_a_time = self.joining.lock().await;
            self.come_back().await
        })
    }

    /// The status of the leader, which has just made sure that it leads; otherwise why not.
    pub(super) async fn ask_leader(
        self: &Arc<Self>,
        cluster: Option<&str>,
    ) -> Result<Status, String> {
        let from = self.id().map(|id| id.0);
        let call = self.config.timings.call;
        if matches!(self.leader(), Lead::Unknown) {
            self.contacts.ask_all(from, cluster, call).await;
        }
        let Lead::At(leader) = self.leader() else {
            return Err("a leader: nobody that can be reached knows one".to_owned());
        };
        let ask = StatusAsk {
            protocol: PROTOCOL,
            from,
            cluster: cluster.map(str::to_owned),
            linear: true,
        };
        let answer = self.contacts.ask(&leader, &ask, call * 2).await;
        answer.map_err(|error| {
            self.contacts.doubt_leader(&leader);
            format!("the leader, {leader}, which does not answer ({error})")
        })
    }

    /// What the maker of a cluster does until the cluster has a shape and it has its number; may be
    /// begun again after a crash at any point.
    async fn finish_founding(self: &Arc<Self>, identity: &Identity) -> Result<(), Error> {
        let Some(raft) = self.raft.get() else {
            return Ok(());
        };
        let stopped = |error: &dyn std::fmt::Display| {
            let known = self.kept.fault();
            known.unwrap_or_else(|| Error::Stopped(error.to_string()))
        };
        if !raft.is_initialized().await.map_err(|e| stopped(&e))? {
            let own = BasicNode::new(&*self.config.address);
            let initialized = raft
                .initialize(BTreeMap::from([(identity.node, own)]))
                .await;
            initialized.map_err(|error| stopped(&error))?;
        }
        if self.is_lone_voter() {
            raft.trigger().elect().await.map_err(|e| stopped(&e))?;
        }
        let mut patience = self.patience();
        while let Err(what) = self.current_version().await {
            self.check_going()?;
            patience.tell(&what);
            self.pause(Duration::from_millis(20)).await;
        }
        if self.catalog().cluster.shape.is_none() {
            let form = Proposal::new(&Command::FormCluster(self.config.shape), None);
            self.insist(identity, form).await?;
        }
        if self.catalog().last_node == 0 {
            let join = Command::Join(self.member(NodeId(identity.node)));
            self.insist(identity, Proposal::new(&join, Some(0))).await?;
        }
        Ok(())
    }

    async fn insist(self: &Arc<Self>, identity: &Identity, what: Proposal) -> Result<(), Error> {
        let mut patience = self.patience();
        loop {
            match self.submit(&identity.cluster, what.clone(), true).await {
                Ok(applied @ (Applied::Done { .. } | Applied::Node { .. })) => {
                    if self.catch_up(applied.version()).await.is_ok() {
                        return Ok(());
                    }
                    patience.tell("its own catalog");
                }
                Ok(other) => patience.tell(&format!("the leader, which answered {other:?}")),
                Err(error) => patience.tell(&format!("the leader ({error})")),
            }
            self.pause(ASK_AGAIN).await;
            self.check_going()?;
        }
    }

    fn is_lone_voter(&self) -> bool {
        self.metrics().is_some_and(|metrics| {
            let voters: Vec<u64> = super::voters_of(&metrics).collect();
            voters == [metrics.id]
        })
    }

    /// The version of the newest catalog that anybody was told of; otherwise why it is unknown.
    async fn current_version(self: &Arc<Self>) -> Result<u64, String> {
        if matches!(self.leader(), Lead::Me)
            && let Some(raft) = self.raft.get()
        {
            let patience = self.config.timings.call;
            return match tokio::time::timeout(patience, raft.ensure_linearizable()).await {
                Ok(Ok(_)) => Ok(self.catalog().version),
                Ok(Err(error)) => Err(format!(
                    "a leader: this process does not lead any more ({error})"
                )),
                Err(_) => Err("a majority of voters, which does not answer".to_owned()),
            };
        }
        if self.is_lone_voter() {
            return Err("its own election".to_owned());
        }
        let cluster = self.cluster();
        let leader = self.ask_leader(cluster.as_deref()).await?;
        Ok(leader.version)
    }

    /// Waits until the catalog here is as new as the leader's, and tells it what is new here. Who
    /// was forgotten and has no data takes a new number.
    async fn come_back(self: &Arc<Self>) -> Result<NodeId, Error> {
        loop {
            self.see_newest().await?;
            let (Some(id), Some(cluster)) = (self.id(), self.cluster()) else {
                return Err(Error::Stopped("it has no number".to_owned()));
            };
            let catalog = self.catalog();
            if self.config.roles.ingester {
                check_shape(&catalog, &self.config.shape)?;
            }
            match catalog.cluster.members.get(&id) {
                Some(known) => {
                    let now = self.member(id);
                    let same = known.address == now.address
                        && known.zone == now.zone
                        && known.roles == now.roles;
                    if !same {
                        self.tell_changes(now).await?;
                    }
                    return Ok(id);
                }
                None if self.config.roles.ingester => return Err(self.forgotten(id)),
                None => drop(self.take_number(&cluster).await?),
            }
        }
    }

    /// Waits until the catalog here is as new as any that somebody was told of before.
    async fn see_newest(self: &Arc<Self>) -> Result<(), Error> {
        let mut patience = self.patience();
        if self.is_lone_voter()
            && let Some(raft) = self.raft.get()
            && let Err(error) = raft.trigger().elect().await
        {
            let known = self.kept.fault();
            return Err(known.unwrap_or_else(|| Error::Stopped(error.to_string())));
        }
        let version = loop {
            match self.current_version().await {
                Ok(version) => break version,
                Err(what) => patience.tell(&what),
            }
            self.check_going()?;
            let pause = match self.is_lone_voter() {
                true => Duration::from_millis(10),
                false => ASK_AGAIN,
            };
            self.pause(pause).await;
        };
        while self.catch_up(version).await.is_err() {
            self.check_going()?;
            patience.tell(&format!("version {version} of the catalog"));
        }
        Ok(())
    }

    async fn tell_changes(self: &Arc<Self>, now: rpc::Member) -> Result<(), Error> {
        let Some(cluster) = self.cluster() else {
            return Ok(());
        };
        let mut patience = self.patience();
        loop {
            let update = Proposal::new(&Command::Update(now.clone()), None);
            match self.submit(&cluster, update, true).await {
                Ok(Applied::Conflict { text, .. } | Applied::Invalid { text, .. }) => {
                    return Err(Error::Setting(text));
                }
                Ok(applied) if self.catch_up(applied.version()).await.is_ok() => return Ok(()),
                Ok(_) => patience.tell("its own catalog"),
                Err(error) => patience.tell(&format!("the leader ({error})")),
            }
            self.pause(ASK_AGAIN).await;
            self.check_going()?;
        }
    }

    pub(super) fn forgotten(&self, id: NodeId) -> Error {
        Error::Forgotten {
            node: id.0,
            place: self.kept.store.place().display().to_string(),
        }
    }
}

/// Shards are those of the cluster, which may have been raised since the settings were made.
fn check_shape(catalog: &Catalog, set: &ClusterShape) -> Result<(), Error> {
    let words = |shape: &ClusterShape| {
        let slot = length(shape.slot_nanos / model::NANOS_PER_MILLI);
        format!("--replicas {} --slot-duration {slot}", shape.replicas)
    };
    match &catalog.cluster.shape {
        Some(formed) if (formed.replicas, formed.slot_nanos) != (set.replicas, set.slot_nanos) => {
            Err(Error::Shape {
                formed: words(formed),
                set: words(set),
            })
        }
        _ => Ok(()),
    }
}

/// As an option takes it.
fn length(millis: i64) -> String {
    match millis {
        whole if whole % 60_000 == 0 => format!("{}m", whole / 60_000),
        whole if whole % 1_000 == 0 => format!("{}s", whole / 1_000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_told_as_options_take_them() {
        let lengths = [120_000, 90_000, 1_500, 60_000].map(length);
        assert_eq!(lengths, ["2m", "90s", "1500ms", "1m"]);
    }
}
