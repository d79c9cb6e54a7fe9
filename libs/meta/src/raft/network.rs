//! Messages of the replicated log on their way to other voters.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{NetworkError, RPCError, RaftError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use rpc::MetaCall;
use serde::de::DeserializeOwned;

use super::Types;
use crate::contacts::Contacts;
use crate::peer::{self, Message, PROTOCOL, RaftAsk};

type Failed<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// How long a voter that cannot be reached is left alone.
const UNREACHABLE_WAIT: Duration = Duration::from_millis(250);

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
        let answer = call.await;
        let error = match &answer {
            Err(error @ rpc::Error::Unavailable(_)) => Some(error),
            _ => None,
        };
        match self.contacts.voter_answered(self.to, error.is_none()) {
            Some(true) => tracing::info!(node = self.to, %address, "a voter answers again"),
            Some(false) => {
                let error = error.map(ToString::to_string);
                tracing::warn!(node = self.to, %address, error, "a voter does not answer; the others go on while they are a majority");
            }
            None => {}
        }
        peer::decode(&answer?)
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
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
