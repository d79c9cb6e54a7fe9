//! Messages of the replicated log on their way to other voters.

use std::sync::Arc;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::error::{NetworkError, PayloadTooLarge, RPCError, RaftError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use rpc::MetaCall;
use serde::de::DeserializeOwned;

use super::{Entry, Types};
use crate::contacts::Contacts;
use crate::peer::{self, Message, PROTOCOL, RaftAsk};

type Failed<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// How long a voter that cannot be reached is left alone.
const UNREACHABLE_WAIT: Duration = Duration::from_millis(250);

/// Bytes of commands sent at once; one that is larger goes alone. A voter must have them on its disk within one
/// heartbeat, else they are sent anew.
const APPEND_BYTES_MAX: usize = 512 * 1024;

/// What an entry has beside its command, bytes, about.
const ENTRY_OVERHEAD: usize = 128;

/// Finds the others by their numbers.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) contacts: Arc<Contacts>,
    pub(crate) cluster: String,
}

/// The way to one of them.
#[derive(Debug)]
pub(crate) struct Link {
    contacts: Arc<Contacts>,
    cluster: String,
    to: u64,
    /// Its address when it was made a voter; used while nothing newer is known.
    first_address: String,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        Link {
            contacts: Arc::clone(&self.contacts),
            cluster: self.cluster.clone(),
            to: target,
            first_address: node.addr.clone(),
        }
    }
}

impl Link {
    async fn send<T: DeserializeOwned>(
        &self,
        message: Message,
        patience: Duration,
    ) -> Result<T, rpc::Error> {
        let body = peer::encode_raft(RaftAsk {
            protocol: PROTOCOL,
            cluster: self.cluster.clone(),
            to: self.to,
            message,
        })?;
        let address = self.contacts.address_of(self.to);
        let address = address.unwrap_or_else(|| self.first_address.as_str().into());
        let call = self.contacts.call(&address, MetaCall::Raft, body, patience);
        peer::decode(&call.await?)
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        if let Some(fitting) = fitting(&request.entries, APPEND_BYTES_MAX) {
            let fewer = PayloadTooLarge::new_entries_hint(fitting);
            return Err(RPCError::PayloadTooLarge(fewer));
        }
        let sent = self.send(Message::Append(request), option.hard_ttl()).await;
        sent.map_err(failed)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<openraft::error::InstallSnapshotError>> {
        let sent = self.send(Message::Snapshot(request), option.hard_ttl());
        sent.await.map_err(failed)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failed> {
        let sent = self.send(Message::Vote(request), option.hard_ttl()).await;
        sent.map_err(failed)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_WAIT))
    }
}

fn failed<E: std::error::Error>(error: rpc::Error) -> Failed<E> {
    match error {
        rpc::Error::Unavailable(_) => {
            RPCError::Unreachable(Unreachable::new(&AnyError::error(error)))
        }
        other => RPCError::Network(NetworkError::new(&AnyError::error(other))),
    }
}

/// How many of the first entries to send instead of all, at least one; `None` when all are few enough.
fn fitting(entries: &[Entry], bytes_max: usize) -> Option<u64> {
    let mut bytes = 0_usize;
    let first_too_many = entries.iter().position(|entry| {
        bytes = bytes.saturating_add(size(entry));
        bytes > bytes_max
    })?;
    let fitting = first_too_many.max(1);
    (fitting < entries.len()).then_some(fitting as u64)
}

fn size(entry: &Entry) -> usize {
    let command = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.command_bytes().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    command.saturating_add(ENTRY_OVERHEAD)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use model::TenantId;
    use openraft::{CommittedLeaderId, LogId, Vote};
    use rpc::{Command, MetaPeerApi, RuleGroupId};

    use super::super::Proposal;
    use super::*;
    use crate::replica::Replica;

    fn entry(index: u64, bytes: usize) -> Entry {
        let command = Command::SetRules {
            group: RuleGroupId {
                tenant: TenantId::default(),
                namespace: "n".into(),
                name: "g".into(),
            },
            definition: "x".repeat(bytes).into(),
        };
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Proposal::new(&command, None)),
        }
    }

    #[test]
    fn as_many_entries_are_sent_at_once_as_fit_and_one_at_least() {
        let entries = |sizes: &[usize]| -> Vec<Entry> {
            let sizes = sizes.iter().enumerate();
            sizes.map(|(at, size)| entry(at as u64, *size)).collect()
        };
        for (sizes, want) in [
            (&[][..], None),
            (&[1, 1, 1], None),
            (&[10_000], None),
            (&[10_000, 1], Some(1)),
            (&[1, 10_000], Some(1)),
            (&[1000, 1000, 1000, 1000, 1000], Some(4)),
        ] {
            assert_eq!(fitting(&entries(sizes), 5000), want, "{sizes:?}");
        }
    }

    /// Nobody is to be called.
    struct Nobody;

    #[async_trait::async_trait]
    impl MetaPeerApi for Nobody {
        async fn call(&self, _: MetaCall, _: Bytes) -> Result<Bytes, rpc::Error> {
            Err(rpc::Error::Unavailable("called".to_owned()))
        }

        async fn watch(&self, _: u64) -> Result<rpc::Changes, rpc::Error> {
            Err(rpc::Error::Unavailable("called".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_voter_that_is_far_behind_is_sent_a_part_of_large_entries() {
        let dial: crate::contacts::Dial = Arc::new(|_: &str| Arc::new(Nobody));
        let replica = Arc::<Replica>::default();
        let contacts = Contacts::new(dial, "a:1".into(), Vec::new(), replica);
        let mut links = Links {
            contacts: Arc::new(contacts),
            cluster: "c".to_owned(),
        };
        let mut link = links.new_client(2, &BasicNode::new("b:1")).await;
        let entries = (0..200).map(|index| entry(index, 200_000));
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: entries.collect(),
            leader_commit: None,
        };
        let option = RPCOption::new(Duration::from_millis(250));
        match link.append_entries(request, option).await {
            Err(RPCError::PayloadTooLarge(fewer)) => assert_eq!(fewer.entries_hint(), 2),
            other => panic!("{other:?}"),
        }
    }
}
