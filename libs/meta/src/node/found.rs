//! How a process becomes part of a cluster: makes it, joins it, comes back to it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use openraft::BasicNode;
use rpc::{Catalog, ClusterShape, Command};
use tokio::time::Instant;

use super::{Core, Identity, Lead};
use crate::Error;
use crate::peer::{PROTOCOL, StatusAsk};
use crate::raft::{Applied, Proposal};
use crate::status::Status;

/// How long to wait before all are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Who is refused for so many times as long as silence takes to be noticed gives up.
const REFUSALS: u32 = 3;
/// How often is said what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What one of the list answered.
type Answer = (Arc<str>, Result<Status, rpc::Error>);

/// What a process without an identity does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make the cluster.
    Found,
    /// Join this one, of this number.
    Join(String),
    /// Ask again, and tell this.
    Wait(String),
    /// Give up.
    Refuse(String),
}

/// Decides on the answers of everybody in the list but itself.
fn decide(own: &str, ingester: bool, join: &[Arc<str>], answers: &[Answer]) -> Step {
    let known = answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok());
    let mut clusters: Vec<&String> = known.filter_map(|s| s.cluster.as_ref()).collect();
    clusters.sort();
    clusters.dedup();
    match clusters.as_slice() {
        [] => {}
        [one] => return Step::Join((*one).clone()),
        _ => {
            let text = "the addresses to join belong to several clusters: name those of one";
            return Step::Refuse(text.to_owned());
        }
    }
    for (address, answer) in answers {
        match answer {
            Ok(_) => {}
            Err(error @ rpc::Error::Invalid(_)) => {
                return Step::Refuse(format!(
                    "{address} does not work with this process: {error}"
                ));
            }
            Err(error) => return Step::Wait(format!("{address} does not answer ({error})")),
        }
    }
    if !ingester && join.is_empty() {
        let text = "a process without the role ingester needs addresses to join: it cannot make a \
                    cluster";
        return Step::Refuse(text.to_owned());
    }
    if !ingester {
        return Step::Wait("none of the addresses to join has a cluster yet".to_owned());
    }
    if !join.is_empty() && !join.iter().any(|address| **address == *own) {
        return Step::Wait(format!(
            "none of the addresses to join has a cluster yet, and {own} is not among them, so that \
             it must not make one"
        ));
    }
    let smaller = answers.iter().find(|(address, answer)| {
        **address < *own && answer.as_ref().is_ok_and(|status| status.ingester)
    });
    match smaller {
        Some((address, _)) => Step::Wait(format!("{address} is to make the cluster")),
        None => Step::Found,
    }
}

/// Tells what is waited for, now and then.
struct Patience {
    told: Option<(String, Instant)>,
}

impl Patience {
    fn tell(&mut self, what: &str) {
        let now = Instant::now();
        let due = match &self.told {
            Some((before, at)) => before != what || now.duration_since(*at) >= TELL_EVERY,
            None => true,
        };
        if due {
            tracing::info!(waits_for = what, "not in the cluster yet");
            self.told = Some((what.to_owned(), now));
        }
    }
}

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

    async fn enter(self: &Arc<Self>) -> Result<Identity, Error> {
        let mut patience = Patience { told: None };
        loop {
            let call = self.config.timings.call;
            let answers = self.contacts.ask_all(None, None, call).await;
            let config = &self.config;
            match decide(
                &config.address,
                config.roles.ingester,
                &config.join,
                &answers,
            ) {
                Step::Found => {
                    let identity = Identity {
                        cluster: format!("{:016x}{:016x}", self.roll(u64::MAX), self.config.seed),
                        node: 1,
                        founder: true,
                    };
                    tracing::info!(cluster = identity.cluster, "making a cluster");
                    self.keep_identity(&identity).await?;
                    self.begin(identity.clone()).await?;
                    return Ok(identity);
                }
                Step::Join(cluster) => return self.take_number(&cluster).await,
                Step::Wait(what) => patience.tell(&what),
                Step::Refuse(text) => return Err(Error::Stranger(text)),
            }
            self.pause(ASK_AGAIN).await;
            self.check_going()?;
        }
    }

    /// Gets a number from the leader. The request names the last number given, so that a request
    /// that comes twice gives one number; when its answer was lost, the catalog tells.
    async fn take_number(self: &Arc<Self>, cluster: &str) -> Result<Identity, Error> {
        let mut patience = Patience { told: None };
        let mut asked_after = None;
        let mut refused_since = None;
        loop {
            match self.ask_leader(Some(cluster)).await {
                Err(what) => patience.tell(&what),
                Ok(leader) => {
                    let mine = asked_after.map(|after: u64| after + 1).filter(|id| {
                        let mut members = leader.members.iter();
                        members.any(|m| m.node == *id && m.address == *self.config.address)
                    });
                    let node = match mine {
                        Some(node) => Some(node),
                        None => {
                            asked_after = Some(leader.last_node);
                            let after = leader.last_node;
                            match self.ask_for_number(cluster, after, &mut patience).await {
                                Ok(node) => node,
                                Err(text) => {
                                    let since = *refused_since.get_or_insert_with(Instant::now);
                                    if since.elapsed() >= self.config.timings.live_within * REFUSALS
                                    {
                                        return Err(Error::Stranger(text));
                                    }
                                    patience.tell(&text);
                                    None
                                }
                            }
                        }
                    };
                    if let Some(node) = node {
                        let identity = Identity {
                            cluster: cluster.to_owned(),
                            node,
                            founder: false,
                        };
                        self.keep_identity(&identity).await?;
                        self.begin(identity.clone()).await?;
                        tracing::info!(node, cluster, "joined");
                        return Ok(identity);
                    }
                }
            }
            self.pause(ASK_AGAIN).await;
            self.check_going()?;
        }
    }

    /// # Errors
    /// Why the leader refuses.
    async fn ask_for_number(
        self: &Arc<Self>,
        cluster: &str,
        after: u64,
        patience: &mut Patience,
    ) -> Result<Option<u64>, String> {
        let join = Command::Join(self.member(NodeId(0)));
        let proposal = Proposal::new(&join, Some(after));
        match self.submit(cluster, proposal, true).await {
            Ok(Applied::Node { id, .. }) => Ok(Some(id)),
            // Somebody else was faster.
            Ok(Applied::Conflict { .. }) => Ok(None),
            Ok(Applied::Invalid { text, .. }) => Err(text),
            Ok(other) => {
                patience.tell(&format!("the leader answered {other:?}"));
                Ok(None)
            }
            Err(error) => {
                patience.tell(&error.to_string());
                Ok(None)
            }
        }
    }

    /// The status of the leader, which has just made sure that it leads; otherwise why not.
    async fn ask_leader(self: &Arc<Self>, cluster: Option<&str>) -> Result<Status, String> {
        let from = self.id().map(|id| id.0);
        let call = self.config.timings.call;
        if matches!(self.leader(), Lead::Unknown) {
            self.contacts.ask_all(from, cluster, call).await;
        }
        let Lead::At(leader) = self.leader() else {
            return Err("nobody that can be reached knows a leader".to_owned());
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
            format!("the leader, {leader}, does not answer ({error})")
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
        let mut patience = Patience { told: None };
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
        let mut patience = Patience { told: None };
        loop {
            match self.submit(&identity.cluster, what.clone(), true).await {
                Ok(applied @ (Applied::Done { .. } | Applied::Node { .. })) => {
                    if self.catch_up(applied.version()).await.is_ok() {
                        return Ok(());
                    }
                    patience.tell("its own catalog");
                }
                Ok(other) => patience.tell(&format!("the leader answered {other:?}")),
                Err(error) => patience.tell(&error.to_string()),
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
                Ok(Err(error)) => Err(format!("this process does not lead any more ({error})")),
                Err(_) => Err("a majority of voters does not answer".to_owned()),
            };
        }
        if self.is_lone_voter() {
            return Err("this process is about to lead itself".to_owned());
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
        let mut patience = Patience { told: None };
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
        let mut patience = Patience { told: None };
        loop {
            let update = Proposal::new(&Command::Update(now.clone()), None);
            match self.submit(&cluster, update, true).await {
                Ok(Applied::Conflict { text, .. } | Applied::Invalid { text, .. }) => {
                    return Err(Error::Setting(text));
                }
                Ok(applied) if self.catch_up(applied.version()).await.is_ok() => return Ok(()),
                Ok(_) => patience.tell("its own catalog"),
                Err(error) => patience.tell(&error.to_string()),
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
        format!(
            "--replicas {} --slot-duration {}ms",
            shape.replicas,
            shape.slot_nanos / model::NANOS_PER_MILLI
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(cluster: Option<&str>, ingester: bool) -> Status {
        Status {
            protocol: PROTOCOL,
            cluster: cluster.map(str::to_owned),
            node: None,
            address: String::new(),
            ingester,
            leader: None,
            term: 0,
            voters: Vec::new(),
            learners: Vec::new(),
            last_log: None,
            applied: None,
            snapshot: None,
            version: 0,
            last_node: 0,
            segments: 0,
            ring: 0,
            shards: 0,
            next_ring: None,
            past_rings: Vec::new(),
            members: Vec::new(),
        }
    }

    fn none(address: &str) -> Answer {
        (address.into(), Ok(status(None, true)))
    }

    fn silence(address: &str) -> Answer {
        let error = rpc::Error::Unavailable("refused".to_owned());
        (address.into(), Err(error))
    }

    fn has(address: &str, cluster: &str) -> Answer {
        (address.into(), Ok(status(Some(cluster), true)))
    }

    fn list(addresses: &[&str]) -> Vec<Arc<str>> {
        addresses
            .iter()
            .map(|address| Arc::from(*address))
            .collect()
    }

    #[test]
    fn the_least_address_makes_the_cluster_when_all_others_have_none() {
        let join = list(&["a", "b", "c"]);
        let answers = [none("b"), none("c")];
        assert_eq!(decide("a", true, &join, &answers), Step::Found);
        for (own, others) in [("b", ["a", "c"]), ("c", ["a", "b"])] {
            let step = decide(own, true, &join, &others.map(none));
            assert_eq!(step, Step::Wait("a is to make the cluster".to_owned()));
        }
    }

    #[test]
    fn a_silent_one_may_have_a_cluster() {
        let join = list(&["a", "b", "c"]);
        let step = decide("a", true, &join, &[none("b"), silence("c")]);
        assert_eq!(step, Step::Wait("c does not answer (refused)".to_owned()));
    }

    #[test]
    fn a_cluster_is_joined_whoever_else_is_silent() {
        let join = list(&["a", "b", "c"]);
        let step = decide("a", true, &join, &[silence("b"), has("c", "x")]);
        assert_eq!(step, Step::Join("x".to_owned()));
        let step = decide("a", true, &join, &[has("b", "x"), has("c", "x")]);
        assert_eq!(step, Step::Join("x".to_owned()));
        let step = decide("a", true, &join, &[has("b", "x"), has("c", "y")]);
        assert!(matches!(step, Step::Refuse(_)), "{step:?}");
    }

    #[test]
    fn a_lone_ingester_makes_its_own_and_others_never_do() {
        assert_eq!(decide("a", true, &[], &[]), Step::Found);
        assert_eq!(decide("a", true, &list(&["a"]), &[]), Step::Found);
        let stranger = decide("d", true, &list(&["a"]), &[none("a")]);
        assert!(matches!(stranger, Step::Wait(_)), "{stranger:?}");
        let querier = decide("q", false, &list(&["a"]), &[none("a")]);
        assert!(matches!(querier, Step::Wait(_)), "{querier:?}");
        let querier = decide("q", false, &[], &[]);
        assert!(matches!(querier, Step::Refuse(_)), "{querier:?}");
    }

    #[test]
    fn one_without_the_role_is_passed_over() {
        let join = list(&["a", "b"]);
        let answers = [(Arc::from("a"), Ok(status(None, false)))];
        assert_eq!(decide("b", true, &join, &answers), Step::Found);
    }

    #[test]
    fn another_protocol_is_refused_at_once() {
        let answers = [(
            Arc::from("b"),
            Err(rpc::Error::Invalid("protocol 2".to_owned())),
        )];
        let step = decide("a", true, &list(&["a", "b"]), &answers);
        assert!(matches!(step, Step::Refuse(_)), "{step:?}");
    }
}
