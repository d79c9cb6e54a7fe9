//! Commands on their way to the leader.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openraft::error::{ClientWriteError, RaftError};
use rpc::{Catalog, Command, MetaApi, MetaCall, Outcome};
use tokio::time::Instant;

use super::{Core, Lead, Node, not_joined};
use crate::peer::{self, PROTOCOL, ProposeAnswer, ProposeAsk};
use crate::raft::{Applied, Proposal};
use crate::status::Contact;

/// The longest pause before the leader is looked for again.
const SEARCH_PAUSE: Duration = Duration::from_millis(300);

#[async_trait]
impl MetaApi for Node {
    fn catalog(&self) -> Arc<Catalog> {
        self.owner.core.catalog()
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let mut catalog = self.owner.core.replica.subscribe();
        let newer = catalog.wait_for(|catalog| catalog.version > version).await;
        match newer {
            Ok(catalog) => Arc::clone(&catalog),
            // The sender lives in this very value.
            Err(_) => self.catalog(),
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, rpc::Error> {
        let core = &self.owner.core;
        let cluster = core.cluster().ok_or_else(not_joined)?;
        let again = harmless_twice(&command);
        let proposal = Proposal::new(&command, None);
        let applied = core.submit(&cluster, proposal, again).await?;
        core.catch_up(applied.version()).await?;
        applied.into_outcome()
    }
}

impl Core {
    /// Has the leader put this into the log. `again`: nothing bad happens when it gets there twice.
    pub(super) async fn submit(
        self: &Arc<Self>,
        cluster: &str,
        proposal: Proposal,
        again: bool,
    ) -> Result<Applied, rpc::Error> {
        let deadline = Instant::now() + self.config.timings.propose;
        let mut last = rpc::Error::Unavailable(
            "the cluster has no leader at present, or none that can be reached: try again"
                .to_owned(),
        );
        while Instant::now() < deadline {
            match self.leader() {
                Lead::Me => match self.write_here(proposal.clone()).await? {
                    ProposeAnswer::Applied(applied) => return Ok(applied),
                    ProposeAnswer::NotLeader(leader) => self.hint(leader),
                },
                Lead::At(address) => match self.write_there(&address, cluster, &proposal).await {
                    Ok(ProposeAnswer::Applied(applied)) => return Ok(applied),
                    Ok(ProposeAnswer::NotLeader(leader)) => {
                        self.contacts.doubt_leader(&address);
                        self.hint(leader);
                    }
                    Err(error @ rpc::Error::Unavailable(_)) => {
                        self.contacts.doubt_leader(&address);
                        if !again {
                            return Err(rpc::Error::Unavailable(format!(
                                "{error}; the change may have been made all the same"
                            )));
                        }
                        last = error;
                    }
                    Err(error) => return Err(error),
                },
                Lead::Unknown => {
                    let (id, call) = (self.id(), self.config.timings.call);
                    let from = id.map(|id| id.0);
                    self.contacts.ask_all(from, Some(cluster), call).await;
                }
            }
            self.pause(SEARCH_PAUSE).await;
        }
        Err(last)
    }

    /// Waits until the catalog of this process has this version.
    pub(super) async fn catch_up(&self, version: u64) -> Result<(), rpc::Error> {
        let mut catalog = self.replica.subscribe();
        let there = catalog.wait_for(|catalog| catalog.version >= version);
        let patience = self.config.timings.propose;
        match tokio::time::timeout(patience, there).await {
            Ok(_) => Ok(()),
            Err(_) => Err(rpc::Error::Unavailable(format!(
                "the change was made (catalog version {version}), and this process did not hear \
                 of it within {patience:?}"
            ))),
        }
    }

    /// Puts a proposal into the log, if this process leads.
    pub(super) async fn write_here(&self, proposal: Proposal) -> Result<ProposeAnswer, rpc::Error> {
        let Some(raft) = self.raft.get() else {
            return Ok(ProposeAnswer::NotLeader(self.contacts.leader()));
        };
        let patience = self.config.timings.propose;
        let written = tokio::time::timeout(patience, raft.client_write(proposal)).await;
        match written {
            Ok(Ok(response)) => {
                if let Applied::Node { id, .. } = &response.data {
                    self.note_life(Some(*id));
                }
                Ok(ProposeAnswer::Applied(response.data))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                let contact = forward.leader_id.and_then(|node| {
                    let address = self.contacts.address_of(node)?.to_string();
                    Some(Contact { node, address })
                });
                Ok(ProposeAnswer::NotLeader(contact))
            }
            Ok(Err(RaftError::APIError(error @ ClientWriteError::ChangeMembershipError(_)))) => {
                Err(rpc::Error::Internal(error.to_string()))
            }
            Ok(Err(RaftError::Fatal(error))) => Err(match self.kept.fault() {
                Some(fault) => rpc::Error::from(&fault),
                None => rpc::Error::Unavailable(format!("the replicated log stops: {error}")),
            }),
            Err(_) => Err(match self.kept.store.trouble() {
                Some(trouble) => rpc::Error::from(&trouble),
                None => rpc::Error::Unavailable(format!(
                    "a majority of voters did not answer within {patience:?}; the change may still be made"
                )),
            }),
        }
    }

    async fn write_there(
        &self,
        address: &str,
        cluster: &str,
        proposal: &Proposal,
    ) -> Result<ProposeAnswer, rpc::Error> {
        let body = peer::encode(&ProposeAsk {
            protocol: PROTOCOL,
            cluster: cluster.to_owned(),
            proposal: proposal.clone(),
        })?;
        let call = match proposal.after_node {
            Some(_) => MetaCall::Join,
            None => MetaCall::Propose,
        };
        let patience = self.config.timings.propose;
        let answer = self.contacts.call(address, call, body, patience).await?;
        peer::decode(&answer)
    }

    fn hint(&self, leader: Option<Contact>) {
        if let Some(leader) = leader
            && leader.address != *self.config.address
        {
            self.contacts.trust_leader(leader);
        }
    }
}

/// Commands that change nothing when they come a second time, or nothing that matters, and are not
/// answered with a conflict then.
fn harmless_twice(command: &Command) -> bool {
    match command {
        Command::FormCluster(_)
        | Command::RaiseShards(_)
        | Command::Update(_)
        | Command::SetState(..)
        | Command::Knows(..)
        | Command::Drained(..)
        | Command::Forget(_)
        | Command::TakeLease { .. }
        | Command::ReleaseLease { .. }
        | Command::ForgetObjects(_)
        | Command::SetTenant(..)
        | Command::CloseDelete(_)
        | Command::ReopenDelete(..)
        | Command::PassDeletes { .. } => true,
        // Of rules: what is replaced meanwhile must not come back.
        Command::Join(_)
        | Command::AcceptLoss(_)
        | Command::CommitFlush(_)
        | Command::SwapSegments(_)
        | Command::RequestDelete(_)
        | Command::CancelDelete(_)
        | Command::FinishDelete(..)
        | Command::SetRules { .. }
        | Command::SaveRuleStates { .. }
        | Command::DeleteRules { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use model::{NodeId, TenantId};
    use rpc::RuleGroupId;

    use super::*;

    #[test]
    fn rules_are_not_sent_twice_since_others_may_come_between() {
        let set = Command::SetRules {
            group: RuleGroupId {
                tenant: TenantId::default(),
                namespace: "n".into(),
                name: "g".into(),
            },
            definition: "1".into(),
            groups_max: 0,
        };
        let save = Command::SaveRuleStates {
            holder: NodeId(1),
            groups: Vec::new(),
        };
        assert!(!harmless_twice(&set) && !harmless_twice(&save));
    }
}
