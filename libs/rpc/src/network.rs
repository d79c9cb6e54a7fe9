//! How a process reaches the ports of others.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_stream::Stream;

use crate::share::NoQuerier;
use crate::{Error, IngestApi, OwnerApi, QueryApi, SearchApi};

/// What coordinators ask of each other. The bodies are the business of `meta` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaCall {
    /// A message of the replicated log: a vote, entries, a piece of a snapshot.
    Raft,
    /// A command for the leader.
    Propose,
    /// Who leads, who votes, whether there is a cluster at all.
    Status,
    /// A process wants a number, or tells its new address.
    Join,
}

/// Changes of the catalog, one after another, for as long as both sides live.
pub type Changes = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// The coordinator's port for other processes.
#[async_trait]
pub trait MetaPeerApi: Send + Sync + 'static {
    /// One question, one answer.
    ///
    /// # Errors
    /// `Unavailable` when the other cannot be reached or does not take part; otherwise what it
    /// answers.
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, Error>;

    /// What changes after a version of the catalog: commands, or a whole catalog first when the
    /// commands are not there any more.
    ///
    /// # Errors
    /// `Unavailable` when the other cannot be reached or follows nobody itself.
    async fn watch(&self, after: u64) -> Result<Changes, Error>;
}

/// Gives a handle for the port at an address (`host:port`). Handles are cheap, do not connect before
/// they are used, and connect again when a connection was lost.
pub trait Network: Send + Sync + 'static {
    /// Of an ingester, for distributors.
    fn ingest(&self, address: &str) -> Arc<dyn IngestApi>;
    /// Of an ingester, for queriers.
    fn search(&self, address: &str) -> Arc<dyn SearchApi>;
    /// Of an ingester, for other ingesters.
    fn owner(&self, address: &str) -> Arc<dyn OwnerApi>;
    /// Of a querier, for other queriers; by default there is none.
    fn query(&self, _address: &str) -> Arc<dyn QueryApi> {
        Arc::new(NoQuerier)
    }
    /// Of a coordinator, for every process.
    fn meta(&self, address: &str) -> Arc<dyn MetaPeerApi>;
}
