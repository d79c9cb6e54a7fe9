//! The roles of one process: started in the order in which they need each other.

use std::sync::Arc;

use axum::Router;
use distributor::{ClusterIngest, Distributor};
use ingester::Ingester;
use model::NodeId;
use prometheus::Registry;
use querier::{ClusterSearch, Querier};
use rpc::{IngestApi, MetaApi, SearchApi};
use runtime::{clock, explained};
use store::ObjectStorage;

use crate::admin;
use crate::cluster::Cluster;
use crate::options::Settings;

/// The roles, started.
pub(crate) struct Roles {
    ingester: Option<Ingester>,
    pub(crate) distributor: Option<Distributor>,
    querier: Option<Querier>,
}

impl Roles {
    pub(crate) async fn start(
        settings: Settings,
        cluster: &Cluster,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let Settings {
            server,
            cluster: _,
            storage,
            telemetry: _,
            distributor,
            ingester,
            querier,
        } = settings;
        let (clock, slot) = (clock(), cluster.slot());
        let meta: Arc<dyn MetaApi> = Arc::new(cluster.node.clone());
        let objects = ObjectStorage::open(&storage.store(&server.data_dir))?;
        let ingester = match server.roles.ingester {
            true => {
                let deps = ingester::Deps {
                    node: cluster.id,
                    storage: objects.clone(),
                    meta: Arc::clone(&meta),
                    network: Some(Arc::clone(&cluster.network)),
                    clock: Arc::clone(&clock),
                    metrics: ingester::Metrics::new(registry)?,
                    log_files: None,
                };
                let config = ingester.config(server.data_dir, slot, server.retention);
                let ingester = Ingester::start(config, deps).await?;
                cluster.ports.set_ingester(&Arc::new(ingester.clone()));
                Some(ingester)
            }
            false => None,
        };
        let distributor = match server.roles.distributor {
            true => {
                let own = own(cluster.id, ingester.as_ref(), |own| {
                    own as Arc<dyn IngestApi>
                });
                let network = Arc::clone(&cluster.network);
                let ingest = Arc::new(ClusterIngest::new(
                    distributor.cluster(),
                    Arc::clone(&meta),
                    network,
                    own,
                ));
                let members = Arc::clone(&meta);
                let sources = distributor::Sources::new(Arc::clone(&clock))
                    .among(move || distributor::live_distributors(&members.catalog()));
                let metrics = distributor::Metrics::new(registry)?;
                let config = distributor.config(cluster.shape.shards, slot);
                Some(Distributor::new(config, ingest, sources, metrics))
            }
            false => None,
        };
        let querier = match server.roles.querier {
            true => {
                let own = own(cluster.id, ingester.as_ref(), |own| {
                    own as Arc<dyn SearchApi>
                });
                let network = Arc::clone(&cluster.network);
                let search = ClusterSearch::new(Arc::clone(&meta), network, own);
                let sources = querier::Sources {
                    search: Arc::new(search),
                    meta,
                    storage: objects,
                    retention: server.retention,
                };
                let metrics = querier::Metrics::new(registry)?;
                Some(Querier::new(querier, sources, metrics, clock))
            }
            false => None,
        };
        Ok(Roles {
            ingester,
            distributor,
            querier,
        })
    }

    /// What the main port serves besides status.
    pub(crate) fn router(&self, cluster: &Cluster) -> Router {
        let mut router = admin::router(self.ingester.clone(), cluster.node.clone());
        if let Some(distributor) = &self.distributor {
            router = router.merge(distributor::http_router(distributor.clone()));
        }
        if let Some(querier) = &self.querier {
            router = router.merge(querier::http_router(querier.clone()));
        }
        explained(router, "docs/reference/api.md lists the routes")
    }

    /// Tells the cluster that this process is at work: an ingester gets shards.
    pub(crate) async fn activate(&self, cluster: &Cluster) -> anyhow::Result<()> {
        Ok(cluster.node.set_active().await?)
    }

    /// Stores what the ingester has, and waits until nobody needs this process any more.
    pub(crate) async fn leave(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if let Some(ingester) = &self.ingester {
            cluster.node.released().await;
            ingester.leave().await?;
        }
        Ok(())
    }

    pub(crate) async fn shutdown(&self) -> Result<(), rpc::Error> {
        match &self.ingester {
            Some(ingester) => ingester.shutdown().await,
            None => Ok(()),
        }
    }
}

/// A port of the ingester in this process, which is reached without a detour.
fn own<P: ?Sized>(
    id: NodeId,
    ingester: Option<&Ingester>,
    port: impl Fn(Arc<Ingester>) -> Arc<P>,
) -> Option<(NodeId, Arc<P>)> {
    ingester.map(|ingester| (id, port(Arc::new(ingester.clone()))))
}
