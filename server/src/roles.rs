//! The roles of one process: started in the order in which they need each other.

use std::sync::Arc;

use axum::Router;
use distributor::{ClusterIngest, Distributor};
use ingester::{Ingester, StorageClock};
use model::NodeId;
use prometheus::Registry;
use querier::{ClusterSearch, Peers, Querier, Ruler};
use rpc::{IngestApi, MetaApi, SearchApi};
use runtime::{clock, explained};
use store::ObjectStorage;

use crate::admin;
use crate::catalog::{self, Rebuilding};
use crate::cluster::Cluster;
use crate::ops::{self, StopRequest};
use crate::options::Settings;

/// How long to wait before what kept an ingester from leaving is tried again.
const LEAVE_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// The roles, started.
pub(crate) struct Roles {
    ingester: Option<Ingester>,
    pub(crate) distributor: Option<Distributor>,
    querier: Option<Querier>,
    ruler: Option<Ruler>,
    objects: ObjectStorage,
    orphan_age: std::time::Duration,
}

impl Roles {
    pub(crate) async fn start(
        settings: Settings,
        cluster: &Cluster,
        objects: ObjectStorage,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let Settings {
            server,
            cluster: _,
            storage: _,
            telemetry: _,
            shown: _,
            distributor,
            ingester,
            querier,
        } = settings;
        let parts = Parts {
            cluster,
            registry,
            meta: Arc::new(cluster.node.clone()),
            objects,
            clock: clock(),
        };
        let (roles, orphan_age) = (server.roles, ingester.orphan_age);
        let ingester = match roles.ingester {
            true => {
                let slot = cluster.slot();
                let config = ingester.config(server.data_dir, slot, server.retention);
                Some(parts.ingester(config).await?)
            }
            false => None,
        };
        let discovery = querier::Discovery {
            service_labels: distributor.service_labels(),
            index_attributes: distributor::INDEXED_ATTRIBUTES.map(str::to_owned).into(),
        };
        let distributor = match roles.distributor {
            true => Some(parts.distributor(distributor, ingester.as_ref())?),
            false => None,
        };
        let querier = match roles.querier {
            true => {
                let querier = parts.querier(querier, server.retention, ingester.as_ref())?;
                Some(querier.telling(discovery))
            }
            false => None,
        };
        let ruler = querier.as_ref().map(Querier::start_rules).transpose()?;
        Ok(Roles {
            ingester,
            distributor,
            querier,
            ruler,
            objects: parts.objects,
            orphan_age,
        })
    }

    /// What the main port serves besides status.
    pub(crate) fn router(&self, cluster: &Cluster, stop: &StopRequest) -> Router {
        let rebuilding = Rebuilding {
            node: cluster.node.clone(),
            storage: self.objects.clone(),
            cluster: cluster.number.as_str().into(),
            clock: StorageClock::new(self.objects.clone(), &cluster.number, cluster.id, "rebuild"),
            orphan_age: self.orphan_age,
        };
        let mut router = admin::router(self.ingester.clone(), cluster.node.clone());
        router = router.merge(catalog::router(rebuilding));
        let ops = ops::late(self.ingester.clone(), cluster.node.clone(), stop.clone());
        router = router.merge(ops);
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

    /// Stores what the ingester has, and waits until nobody needs this process any more. What fails
    /// on the way is tried again.
    pub(crate) async fn leave(&self, cluster: &Cluster) {
        let Some(ingester) = &self.ingester else {
            return;
        };
        cluster.node.released().await;
        while let Err(error) = ingester.leave().await {
            tracing::warn!(%error, "cannot leave yet; it is tried again");
            tokio::time::sleep(LEAVE_AGAIN_AFTER).await;
        }
    }

    /// Returns, with the reason, when a role cannot go on.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        match &self.ingester {
            Some(ingester) => ingester.failed().await.into(),
            None => std::future::pending().await,
        }
    }

    pub(crate) async fn shutdown(&self) -> Result<(), rpc::Error> {
        if let Some(ruler) = &self.ruler {
            ruler.stop().await;
        }
        match &self.ingester {
            Some(ingester) => ingester.shutdown().await,
            None => Ok(()),
        }
    }
}

/// What roles are made of.
struct Parts<'a> {
    cluster: &'a Cluster,
    registry: &'a Registry,
    meta: Arc<dyn MetaApi>,
    objects: ObjectStorage,
    clock: querier::Clock,
}

impl Parts<'_> {
    /// Others can reach it as soon as its log is read back.
    async fn ingester(&self, config: ingester::Config) -> anyhow::Result<Ingester> {
        let deps = ingester::Deps {
            node: self.cluster.id,
            cluster: self.cluster.number.as_str().into(),
            storage: self.objects.clone(),
            meta: Arc::clone(&self.meta),
            network: Some(Arc::clone(&self.cluster.network)),
            clock: Arc::clone(&self.clock),
            storage_clock: None,
            metrics: ingester::Metrics::new(self.registry)?,
            log_files: None,
            blocking: runtime::Blocking::threads(),
        };
        let ingester = Ingester::start(config, deps).await?;
        let ports = &self.cluster.ports;
        ports.set_patterns(ingester::label_pattern);
        ports.set_ingester(&Arc::new(ingester.clone()));
        Ok(ingester)
    }

    fn distributor(
        &self,
        settings: distributor::Settings,
        ingester: Option<&Ingester>,
    ) -> anyhow::Result<Distributor> {
        let ingest = ClusterIngest::new(
            settings.cluster(),
            Arc::clone(&self.meta),
            Arc::clone(&self.cluster.network),
            self.own(ingester, |own| own as Arc<dyn IngestApi>),
            distributor::ClusterMetrics::new(self.registry)?,
        );
        let (members, ring) = (Arc::clone(&self.meta), Arc::clone(&self.meta));
        let sources = distributor::Sources::new(Arc::clone(&self.clock))
            .among(move || distributor::live_distributors(&members.catalog()))
            .cut(move || distributor::shards_in_use(&ring.catalog()));
        let metrics = distributor::Metrics::new(self.registry)?;
        let config = settings.config(self.cluster.slot());
        Ok(Distributor::new(config, Arc::new(ingest), sources, metrics))
    }

    fn querier(
        &self,
        config: querier::Config,
        retention: std::time::Duration,
        ingester: Option<&Ingester>,
    ) -> anyhow::Result<Querier> {
        let metrics = querier::Metrics::new(self.registry)?;
        let search = ClusterSearch::new(
            Arc::clone(&self.meta),
            Arc::clone(&self.cluster.network),
            self.own(ingester, |own| own as Arc<dyn SearchApi>),
        );
        let sources = querier::Sources {
            search: Arc::new(search.counted(&metrics)),
            meta: Arc::clone(&self.meta),
            storage: self.objects.clone(),
            retention,
        };
        let clock = Arc::clone(&self.clock);
        let querier = Querier::new(config, sources, metrics, clock);
        let (meta, network) = (Arc::clone(&self.meta), Arc::clone(&self.cluster.network));
        querier.share_with(Peers::new(meta, network, self.cluster.id));
        self.cluster.ports.set_querier(Arc::new(querier.clone()));
        Ok(querier)
    }

    /// A port of the ingester in this process, which is reached without a detour.
    fn own<P: ?Sized>(
        &self,
        ingester: Option<&Ingester>,
        port: impl Fn(Arc<Ingester>) -> Arc<P>,
    ) -> Option<(NodeId, Arc<P>)> {
        let ingester = ingester?.clone();
        Some((self.cluster.id, port(Arc::new(ingester))))
    }
}
