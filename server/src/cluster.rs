//! A process's place in its cluster: the port for others, the coordinator, and the way out.

use std::sync::Arc;

use anyhow::Context;
use meta::store::DiskStore;
use meta::{Node, Timings, random_seed};
use model::{NodeId, SlotLength};
use rpc::remote::{Ports, Remote};
use rpc::{ClusterShape, Command, MemberState, MetaApi, MetaPeerApi, Network, RoleSet};
use runtime::Shutdown;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::options::{ClusterConfig, ServerConfig};

/// Shards of a process alone: one segment for each slot is cheapest to write and to read.
const SHARDS_ALONE: u32 = 1;
/// Shards of a cluster: enough for some dozens of ingesters.
const SHARDS_OF_MANY: u32 = 64;

/// A process that belongs to a cluster, be it one of its own.
pub(crate) struct Cluster {
    pub(crate) id: NodeId,
    pub(crate) node: Node,
    /// The cluster's own number, drawn when it was made.
    pub(crate) number: String,
    /// The way to the others.
    pub(crate) network: Arc<dyn Network>,
    /// What others may ask.
    pub(crate) ports: Arc<Ports>,
    /// Ends the port for others.
    serving: Shutdown,
    /// What the cluster was formed with; there may be more shards by now.
    shape: ClusterShape,
    /// What the settings say of shards: how many, or that a cluster has enough for many.
    shards: Shards,
}

/// How many shards there should be, by the settings of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shards {
    /// So many, by the option.
    Set(u32),
    /// As many as there are.
    AsTheyAre,
    /// Enough for a cluster, which is more than a process alone makes.
    OfMany,
}

impl Shards {
    fn of(set: u32, alone: bool) -> Self {
        match (set, alone) {
            (0, true) => Shards::AsTheyAre,
            (0, false) => Shards::OfMany,
            (shards, _) => Shards::Set(shards),
        }
    }

    /// Of a cluster that this process makes.
    fn first(self) -> u32 {
        match self {
            Shards::Set(shards) => shards,
            Shards::AsTheyAre => SHARDS_ALONE,
            Shards::OfMany => SHARDS_OF_MANY,
        }
    }

    /// To how many those of the cluster are raised: where they are what a process alone makes, and this
    /// one is not alone.
    fn raised_from(self, now: u32) -> Option<u32> {
        (self == Shards::OfMany && now == SHARDS_ALONE).then_some(SHARDS_OF_MANY)
    }
}

/// A process that takes its place in a cluster.
pub(crate) struct Joining {
    pub(crate) node: Node,
    network: Arc<dyn Network>,
    ports: Arc<Ports>,
    serving: Shutdown,
    zone: String,
    shards: Shards,
}

impl Joining {
    /// Opens what this process knows of the cluster, and the port for others, if there is one.
    pub(crate) async fn open(
        server: &ServerConfig,
        config: &ClusterConfig,
        listener: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let remote = config.remote();
        let network: Arc<dyn Network> = Arc::new(Remote::new(remote.clone())?);
        let dial = {
            let network = Arc::clone(&network);
            Arc::new(move |address: &str| network.meta(address))
        };
        let folder = server.data_dir.join("meta");
        let store = DiskStore::open(&folder)?;
        let node = Node::open(coordinator(server, config), dial, Arc::new(store)).await?;
        let (ports, serving) = (Arc::new(Ports::default()), Shutdown::new());
        ports.set_meta(Arc::new(node.clone()) as Arc<dyn MetaPeerApi>);
        if let Some(listener) = listener {
            let (ports, token) = (Arc::clone(&ports), serving.token());
            let served = async move {
                rpc::remote::serve(listener, ports, &remote, token.cancelled_owned()).await
            };
            serving.spawn("other processes", served);
            if !config.join().is_empty() && node.id().is_none() {
                info!(join = config.join, "looking for the cluster");
            }
        }
        Ok(Joining {
            node,
            network,
            ports,
            serving,
            zone: config.zone.clone(),
            shards: Shards::of(server.shards, config.rpc_addr.is_empty()),
        })
    }

    /// Takes part in the cluster; waits as long as nobody answers who must.
    pub(crate) async fn join(self) -> anyhow::Result<Cluster> {
        let node = self.node;
        let id = node.join().await?;
        let shape = node.catalog().cluster.shape;
        let shape = shape.context("the cluster has no shape, a defect")?;
        info!(node = id.0, zone = self.zone, "joined the cluster");
        let number = node.status().cluster;
        Ok(Cluster {
            id,
            number: number.context("the cluster has no number, a defect")?,
            node,
            network: self.network,
            ports: self.ports,
            serving: self.serving,
            shape,
            shards: self.shards,
        })
    }
}

impl Cluster {
    /// Whether the catalog still has this process; not so when it has left.
    pub(crate) fn is_member(&self) -> bool {
        let catalog = self.node.catalog();
        catalog.cluster.members.contains_key(&self.id)
    }

    /// The length of a slot, the same in the whole cluster.
    pub(crate) fn slot(&self) -> SlotLength {
        SlotLength(self.shape.slot_nanos)
    }

    /// Raises the shards of a cluster that was made by a process alone, whose one shard would be owned by
    /// as many ingesters as keep copies, and by no other. Tells when the settings ask for more than
    /// there are.
    pub(crate) async fn outgrow(&self) {
        let shape = self.node.catalog().cluster.shape;
        let now = shape.map_or(0, |shape| shape.shards);
        match (self.shards, self.shards.raised_from(now)) {
            (_, Some(shards)) => match self.node.propose(Command::RaiseShards(shards)).await {
                Ok(_) => info!(shards, "the cluster has outgrown the shard of one process"),
                Err(error) => {
                    warn!(%error, "the cluster keeps {now} shard; `pharos ring shards {shards}` raises that");
                }
            },
            (Shards::Set(set), None) if set > now => {
                warn!(
                    "the cluster has {now} shards, and the option shards is {set}: `pharos ring shards {set}` raises them"
                );
            }
            _ => {}
        }
    }

    /// Returns when somebody wants this process to leave.
    pub(crate) async fn told_to_leave(&self) {
        let mut version = 0;
        loop {
            let catalog = self.node.changed(version).await;
            let state = self.node.id().and_then(|id| {
                let member = catalog.cluster.members.get(&id)?;
                Some(member.state)
            });
            if state == Some(MemberState::Leaving) {
                return;
            }
            version = catalog.version;
        }
    }

    /// Returns, with the reason, when this process had better end.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        let token = self.serving.token();
        tokio::select! {
            error = self.node.failed() => anyhow::Error::new(error),
            () = token.cancelled() => anyhow::anyhow!("the port for other processes failed"),
        }
    }

    /// Leaves no port open and no file locked.
    pub(crate) async fn end(self, patience: std::time::Duration) {
        self.serving.end(patience).await;
        self.node.shutdown().await;
    }
}

fn coordinator(server: &ServerConfig, config: &ClusterConfig) -> meta::Config {
    let alone = config.rpc_addr.is_empty();
    meta::Config {
        address: if alone { "local" } else { config.advertised() }.into(),
        zone: config.zone.as_str().into(),
        roles: RoleSet {
            distributor: server.roles.distributor,
            ingester: server.roles.ingester,
            querier: server.roles.querier,
        },
        shape: ClusterShape {
            shards: Shards::of(server.shards, alone).first(),
            replicas: config.replicas,
            slot_nanos: server.slot_duration.max(1),
        },
        join: config.join().into_iter().map(Arc::from).collect(),
        voters: config.meta_voters as usize,
        timings: Timings::default(),
        seed: random_seed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_not_alone_and_was_told_no_number_raises_the_shards_of_one_that_was() {
        let raised = |set, alone, now| Shards::of(set, alone).raised_from(now);
        assert_eq!(raised(0, false, 1), Some(64));
        assert_eq!(raised(0, false, 4), None, "somebody has chosen that");
        assert_eq!((raised(0, true, 1), raised(1, false, 1)), (None, None));
        assert_eq!(raised(16, false, 1), None, "it is told what to say");
        let first = |set, alone| Shards::of(set, alone).first();
        assert_eq!(
            [first(0, true), first(0, false), first(7, true)],
            [1, 64, 7]
        );
    }
}
