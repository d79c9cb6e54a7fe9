//! A process's place in its cluster: the port for others, the coordinator, and the way out.

use std::sync::Arc;

use anyhow::Context;
use meta::store::DiskStore;
use meta::{Node, Timings, random_seed};
use model::{NodeId, SlotLength};
use rpc::remote::{Ports, Remote};
use rpc::{ClusterShape, MemberState, MetaApi, MetaPeerApi, Network, RoleSet};
use runtime::Shutdown;
use tokio::net::TcpListener;
use tracing::info;

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
    /// What the cluster was formed with.
    pub(crate) shape: ClusterShape,
}

impl Cluster {
    /// Opens the port for others, if there is one, and takes part in the cluster; waits as long as
    /// nobody answers who must.
    pub(crate) async fn join(
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
        let id = node.join().await?;
        let shape = node.catalog().cluster.shape;
        let shape = shape.context("the cluster has no shape, a defect")?;
        info!(node = id.0, zone = config.zone, "joined the cluster");
        let number = node.status().cluster;
        Ok(Cluster {
            id,
            number: number.context("the cluster has no number, a defect")?,
            node,
            network,
            ports,
            serving,
            shape,
        })
    }

    /// The length of a slot, the same in the whole cluster.
    pub(crate) fn slot(&self) -> SlotLength {
        SlotLength(self.shape.slot_nanos)
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
    let shards = match (server.shards, alone) {
        (0, true) => SHARDS_ALONE,
        (0, false) => SHARDS_OF_MANY,
        (shards, _) => shards,
    };
    meta::Config {
        address: if alone { "local" } else { config.advertised() }.into(),
        zone: config.zone.as_str().into(),
        roles: RoleSet {
            distributor: server.roles.distributor,
            ingester: server.roles.ingester,
            querier: server.roles.querier,
        },
        shape: ClusterShape {
            shards,
            replicas: config.replicas,
            slot_nanos: server.slot_duration.max(1),
        },
        join: config.join().into_iter().map(Arc::from).collect(),
        voters: config.meta_voters as usize,
        timings: Timings::default(),
        seed: random_seed(),
    }
}
