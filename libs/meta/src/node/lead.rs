//! What a leader looks after: voters, and members that are silent.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use model::NodeId;
use openraft::{BasicNode, ChangeMembers};
use rpc::Command;
use tokio::time::Instant;

use super::{Core, Lead, voters_of};
use crate::raft::{Applied, Metrics, Proposal};
use crate::voters::{Candidate, Electorate, VoterChange, VoterRules, plan_voters};
use crate::wire;

/// A learner with all but so many entries has nearly all of the log.
const NEARLY: u64 = 100;

impl Core {
    pub(super) async fn lead(self: Arc<Self>) {
        loop {
            self.pause(self.config.timings.report_every / 2).await;
            if !matches!(self.leader(), Lead::Me) {
                *self.leads_since() = None;
                continue;
            }
            let since = *self.leads_since().get_or_insert_with(Instant::now);
            self.note_life(self.id().map(|id| id.0));
            self.forget_silent(since).await;
            self.step_voters(since).await;
        }
    }

    /// Somebody has just said that it lives.
    pub(super) fn note_life(&self, node: Option<u64>) {
        if let Some(node) = node {
            self.heard().insert(node, Instant::now());
        }
    }

    /// For how long nothing was heard of a member: never longer than this process leads, since
    /// before that nobody had to tell it anything.
    fn silent_for(&self, node: u64, since: Instant) -> Duration {
        let heard = self.heard().get(&node).copied();
        heard.map_or(since, |at| at.max(since)).elapsed()
    }

    fn leads_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.leads_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a process must not join yet: the maker of the cluster, which votes as number 1, has not
    /// joined itself, or an ingester with its address may be alive. A leader that is new has heard of
    /// nobody, and waits.
    pub(super) fn join_refused(&self, proposal: &Proposal) -> Option<Applied> {
        let Ok(Command::Join(newcomer)) = wire::decode_command(proposal.command_bytes()) else {
            return None;
        };
        let catalog = self.catalog();
        let version = catalog.version;
        if catalog.last_node == 0 {
            let text = "the cluster is being made: ask again".to_owned();
            return Some(Applied::Conflict { text, version });
        }
        let mut ingesters = catalog.cluster.ingesters();
        let same = ingesters.find(|member| member.address == newcomer.address)?;
        let since = (*self.leads_since()).unwrap_or_else(Instant::now);
        let silent = self.silent_for(same.id.0, since);
        if silent >= self.config.timings.live_within {
            return None;
        }
        let text = format!(
            "node {}, at work {:.1} s ago, has the address {}: it must be stopped for {:?} before a process \
             with another disk takes its place; otherwise set another rpc_addr or rpc_advertise",
            same.id.0,
            silent.as_secs_f64(),
            same.address,
            self.config.timings.live_within
        );
        Some(Applied::Invalid { text, version })
    }

    /// Members without data that are silent are gone: they come back as others when they do.
    async fn forget_silent(self: &Arc<Self>, since: Instant) {
        let catalog = self.catalog();
        let members = &catalog.cluster.members;
        self.heard()
            .retain(|id, _| members.contains_key(&NodeId(*id)));
        for member in members.values().filter(|member| !member.roles.ingester) {
            let silent = self.silent_for(member.id.0, since);
            if silent < self.config.timings.forget_after {
                continue;
            }
            tracing::info!(node = member.id.0, address = %member.address, ?silent, "forgetting it");
            let forget = Proposal::new(&Command::Forget(member.id), None);
            if let Err(error) = self.write_here(forget).await {
                tracing::warn!(%error, "it is not forgotten yet");
                return;
            }
        }
    }

    /// Of a new member nothing may have been heard: then it is not alive yet.
    fn silence_of(&self, metrics: &Metrics, id: NodeId, since: Instant) -> Duration {
        let known = self.heard().contains_key(&id.0);
        match known || is_voter(metrics, id) {
            true => self.silent_for(id.0, since),
            false => self.config.timings.live_within,
        }
    }

    async fn step_voters(self: &Arc<Self>, since: Instant) {
        let (Some(raft), Some(metrics)) = (self.raft.get(), self.metrics()) else {
            return;
        };
        let timings = &self.config.timings;
        let rules = VoterRules {
            wanted: self.config.voters,
            live_within: timings.live_within,
            replace_after: timings.replace_voter_after,
        };
        let catalog = self.catalog();
        let ingesters: Vec<Candidate> = catalog
            .cluster
            .ingesters()
            .map(|member| Candidate {
                id: member.id,
                zone: Arc::clone(&member.zone),
                state: member.state,
                silent: self.silence_of(&metrics, member.id, since),
            })
            .collect();
        let Some(change) = plan_voters(&ingesters, &electorate(&metrics), &rules) else {
            return;
        };
        tracing::info!(?change, "changing who votes");
        let patience = timings.propose;
        let changed = match change {
            VoterChange::AddLearner(id) => {
                let address = self.contacts.address_of(id.0);
                let node = BasicNode::new(address.as_deref().unwrap_or_default());
                let added = raft.add_learner(id.0, node, false);
                tokio::time::timeout(patience, added).await
            }
            VoterChange::RemoveLearner(id) => {
                let removed = ChangeMembers::RemoveNodes(BTreeSet::from([id.0]));
                tokio::time::timeout(patience, raft.change_membership(removed, false)).await
            }
            VoterChange::Replace(voters) => {
                let voters: BTreeSet<u64> = voters.iter().map(|id| id.0).collect();
                tokio::time::timeout(patience, raft.change_membership(voters, false)).await
            }
        };
        match changed {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "voters are not changed"),
            Err(_) => tracing::warn!("voters did not agree in time on who votes"),
        }
    }
}

fn is_voter(metrics: &Metrics, id: NodeId) -> bool {
    voters_of(metrics).any(|voter| voter == id.0)
}

fn electorate(metrics: &Metrics) -> Electorate {
    let membership = metrics.membership_config.membership();
    let has_log = |id: u64| {
        let matching = metrics.replication.as_ref().and_then(|all| all.get(&id));
        let matching = matching.and_then(|log_id| *log_id);
        let last = metrics.last_log_index.unwrap_or(0);
        matching.is_some_and(|log_id| log_id.index + NEARLY >= last)
    };
    Electorate {
        voters: voters_of(metrics).map(NodeId).collect(),
        learners: membership
            .learner_ids()
            .map(|id| (NodeId(id), has_log(id)))
            .collect(),
        in_change: membership.get_joint_config().len() > 1,
        leader: metrics.current_leader.map(NodeId),
    }
}
