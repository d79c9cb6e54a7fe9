//! How a process without an identity gets one: makes a cluster, or joins one.

use std::sync::Arc;

use model::NodeId;
use rpc::Command;
use tokio::time::Instant;

use super::found::ASK_AGAIN;
use super::patience::Patience;
use super::{Core, Identity};
use crate::Error;
use crate::raft::{Applied, Proposal};
use crate::status::Status;

/// Who is refused for so many times as long as silence takes to be noticed gives up.
const REFUSALS: u32 = 3;

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
            Err(error) => return Step::Wait(format!("{address}, which does not answer ({error})")),
        }
    }
    if !ingester && join.is_empty() {
        let text = "a process without the role ingester needs addresses to join: it cannot make a \
                    cluster";
        return Step::Refuse(text.to_owned());
    }
    if !ingester {
        let text = "a cluster: none of the addresses to join has one yet";
        return Step::Wait(text.to_owned());
    }
    if !join.is_empty() && !join.iter().any(|address| **address == *own) {
        return Step::Wait(format!(
            "a cluster: none of the addresses to join has one yet, and {own} is not among them, so \
             that this process must not make one"
        ));
    }
    let smaller = answers.iter().find(|(address, answer)| {
        **address < *own && answer.as_ref().is_ok_and(|status| status.ingester)
    });
    match smaller {
        Some((address, _)) => Step::Wait(format!("{address}, which is to make the cluster")),
        None => Step::Found,
    }
}

/// A request for a number, made again and again.
#[derive(Debug, Default)]
struct NumberRequest {
    /// The last number given when it was made.
    after: Option<u64>,
    refused_since: Option<Instant>,
}

impl NumberRequest {
    /// The number that it was given, if only the answer was lost.
    fn granted(&self, leader: &Status, own: &str) -> Option<u64> {
        let id = self.after? + 1;
        let mut members = leader.members.iter();
        members
            .any(|member| member.node == id && member.address == own)
            .then_some(id)
    }
}

impl Core {
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Identity, Error> {
        let mut patience = self.patience();
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
    pub(super) async fn take_number(self: &Arc<Self>, cluster: &str) -> Result<Identity, Error> {
        let mut patience = self.patience();
        let mut request = NumberRequest::default();
        let node = loop {
            match self.ask_leader(Some(cluster)).await {
                Err(what) => patience.tell(&what),
                Ok(leader) => {
                    let asked = self.ask_for_number(&leader, cluster, &mut request, &mut patience);
                    if let Some(node) = asked.await? {
                        break node;
                    }
                }
            }
            self.pause(ASK_AGAIN).await;
            self.check_going()?;
        };
        let identity = Identity {
            cluster: cluster.to_owned(),
            node,
            founder: false,
        };
        self.keep_identity(&identity).await?;
        self.begin(identity.clone()).await?;
        tracing::info!(node, cluster, "joined");
        Ok(identity)
    }

    /// # Errors
    /// `Stranger` when the leader has refused for long.
    async fn ask_for_number(
        self: &Arc<Self>,
        leader: &Status,
        cluster: &str,
        request: &mut NumberRequest,
        patience: &mut Patience<'_>,
    ) -> Result<Option<u64>, Error> {
        if let Some(node) = request.granted(leader, &self.config.address) {
            return Ok(Some(node));
        }
        request.after = Some(leader.last_node);
        let join = Command::Join(self.member(NodeId(0)));
        let proposal = Proposal::new(&join, request.after);
        match self.submit(cluster, proposal, true).await {
            Ok(Applied::Node { id, .. }) => return Ok(Some(id)),
            // Somebody else was faster.
            Ok(Applied::Conflict { .. }) => {}
            Ok(Applied::Invalid { text, .. }) => {
                let since = *request.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.config.timings.live_within * REFUSALS {
                    return Err(Error::Stranger(text));
                }
                patience.tell(&text);
            }
            Ok(other) => patience.tell(&format!("the leader, which answered {other:?}")),
            Err(error) => patience.tell(&format!("the leader ({error})")),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PROTOCOL;

    fn status(cluster: Option<&str>, ingester: bool) -> Status {
        Status {
            protocol: PROTOCOL,
            cluster: cluster.map(str::to_owned),
            ingester,
            ..Status::default()
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
            assert_eq!(
                step,
                Step::Wait("a, which is to make the cluster".to_owned())
            );
        }
    }

    #[test]
    fn a_silent_one_may_have_a_cluster() {
        let join = list(&["a", "b", "c"]);
        let step = decide("a", true, &join, &[none("b"), silence("c")]);
        assert_eq!(
            step,
            Step::Wait("c, which does not answer (refused)".to_owned())
        );
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
