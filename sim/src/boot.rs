//! One run of a process, as the binary composes it: coordinator, roles, and the end when it is told
//! to leave.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use distributor::{ClusterIngest, Distributor};
use ingester::Ingester;
use meta::Node;
use model::{BatchId, Kind, NodeId, SlotLength};
use prometheus::Registry;
use querier::{ClusterSearch, Peers, Querier};
use rpc::{ClusterShape, IngestApi, MemberState, MetaApi, Network, SearchApi};
use store::ObjectStorage;

use crate::bucket::BucketWay;
use crate::disk::LogDisk;
use crate::invariants::Event;
use crate::life::Life;
use crate::net::{Door, Wires, Within};
use crate::process::{Coordinator, Site, heads_in};
use crate::world::World;

/// How long to wait before a step is tried again that failed because others did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the roles of one run share.
struct Parts<'a> {
    world: &'a Arc<World>,
    site: &'a Site,
    life: &'a Arc<Life>,
    id: NodeId,
    node: Node,
    meta: Arc<dyn MetaApi>,
    network: Arc<dyn Network>,
    shape: ClusterShape,
}

impl World {
    /// Runs a process until it leaves or fails.
    pub(crate) async fn boot(
        self: &Arc<Self>,
        site: &Arc<Site>,
        life: &Arc<Life>,
    ) -> anyhow::Result<()> {
        let network: Arc<dyn Network> = Arc::new(Wires {
            net: Arc::clone(&self.net),
            from: Arc::clone(life),
            mutant: self.plan.mutant,
            among_ingesters: false,
        });
        let dial = {
            let network = Arc::clone(&network);
            Arc::new(move |address: &str| network.meta(address))
        };
        let store = site.store.lock().clone();
        let node = Node::open(self.coordinator(site, life), dial, Arc::new(store)).await?;
        self.update(life, |run| run.node = Some(node.clone()));
        self.net.open(self.door(site, life, &node, None));
        let id = node.join().await?;
        tokio::spawn(Arc::clone(self).observe(Arc::clone(life), node.clone()));
        let shape = node.catalog().cluster.shape.context("no shape")?;
        let meta = Coordinator {
            life: Arc::clone(life),
            node: node.clone(),
            checks: Arc::clone(&self.checks),
            mutant: self.plan.mutant,
        };
        let parts = Parts {
            world: self,
            site,
            life,
            id,
            node: node.clone(),
            meta: Arc::new(meta),
            network,
            shape,
        };
        let ingester = parts.start().await?;
        while let Err(error) = node.set_active().await {
            let address = &life.address;
            self.trace
                .tell(format_args!("{address} is not active: {error}"));
            life.pause(AGAIN_AFTER).await;
        }
        self.update(life, |run| run.ready = true);
        self.trace.tell(format_args!("{} is ready", life.address));
        tokio::select! {
            biased;
            error = node.failed() => return Err(error.into()),
            () = told_to_leave(&node) => {}
        }
        if let Some(ingester) = ingester {
            node.released().await;
            while let Err(error) = ingester.leave().await {
                let address = &life.address;
                self.trace
                    .tell(format_args!("{address} cannot leave yet: {error}"));
                life.pause(AGAIN_AFTER).await;
            }
            ingester.shutdown().await?;
        }
        self.retire(site);
        Ok(())
    }

    fn coordinator(&self, site: &Site, life: &Life) -> meta::Config {
        let ingesters = self.plan.first.iter().filter(|p| p.roles.ingester);
        let join = ingesters.take(3).map(|p| Arc::clone(&p.address));
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        meta::Config {
            address: Arc::clone(&site.placed.address),
            zone: Arc::clone(&site.placed.zone),
            roles: site.placed.roles,
            shape: self.plan.shape,
            join: join.collect(),
            voters: self.plan.voters,
            timings: self.plan.timings,
            seed: seed.wrapping_add(life.number.wrapping_mul(2654435761)),
        }
    }

    fn door(&self, site: &Site, life: &Arc<Life>, node: &Node, ingester: Option<Ingester>) -> Door {
        Door {
            life: Arc::clone(life),
            meta: Some(node.clone()),
            ingester,
            querier: None,
            processor: Arc::clone(&site.processor),
        }
    }

    /// Shows the checks every catalog of a run, and who leads.
    async fn observe(self: Arc<Self>, life: Arc<Life>, node: Node) {
        let mut version = 0;
        loop {
            let changed = tokio::time::timeout(AGAIN_AFTER / 4, node.changed(version));
            let Some(changed) = life.live(changed).await else {
                return;
            };
            if let Ok(catalog) = changed {
                version = catalog.version;
                self.checks.see(&Event::Shows {
                    life: life.number,
                    address: Arc::clone(&life.address),
                    catalog,
                });
            }
            let status = node.status();
            if let Some(leader) = &status.leader
                && Some(leader.node) == status.node
            {
                let (term, node) = (status.term, leader.node);
                self.checks.see(&Event::Leads { term, node });
            }
        }
    }
}

async fn told_to_leave(node: &Node) {
    let mut version = 0;
    loop {
        let catalog = node.changed(version).await;
        let member = node.id().and_then(|id| catalog.cluster.members.get(&id));
        if member.is_some_and(|member| member.state == MemberState::Leaving) {
            return;
        }
        version = catalog.version;
    }
}

impl Parts<'_> {
    async fn start(&self) -> anyhow::Result<Option<Ingester>> {
        let roles = self.site.placed.roles;
        let ingester = match roles.ingester {
            true => Some(self.ingester().await?),
            false => None,
        };
        if roles.distributor {
            let pushes = distributor::http_router(self.distributor(ingester.as_ref())?);
            let add = |run: &mut crate::process::Run| run.pushes = Some(pushes);
            self.world.update(self.life, add);
        }
        if roles.querier {
            let querier = self.querier(ingester.as_ref())?;
            let router = querier::http_router(querier.clone());
            let add = |run: &mut crate::process::Run| run.queries = Some(router);
            self.world.update(self.life, add);
            self.world.net.add_querier(self.life, querier);
        }
        Ok(ingester)
    }

    fn storage(&self, queries: bool) -> ObjectStorage {
        self.world.bucket.storage(Arc::new(BucketWay {
            sky: Arc::clone(&self.world.sky),
            life: Arc::clone(self.life),
            queries,
        }))
    }

    fn clock(&self) -> Arc<dyn Fn() -> i64 + Send + Sync> {
        let clock = Arc::clone(&self.site.clock);
        Arc::new(move || clock.now())
    }

    fn log_disk(&self) -> LogDisk {
        let (world, node) = (self.world, self.node.clone());
        let (checks, life) = (Arc::clone(&world.checks), Arc::clone(self.life));
        LogDisk {
            life: Arc::clone(self.life),
            disk: self.site.disk.lock().clone(),
            pace: Arc::clone(&self.site.pace),
            dice: Arc::clone(&world.disk_dice),
            blocking: world.blocking.clone(),
            trace: Arc::clone(&world.trace),
            removed: Arc::new(move |file, bytes| {
                checks.see(&Event::Released {
                    file: format!("{} of {}", file, life.address),
                    heads: heads_in(bytes),
                    catalog: node.catalog(),
                });
            }),
        }
    }

    async fn ingester(&self) -> anyhow::Result<Ingester> {
        let cluster = self.node.status().cluster.context("no number")?;
        let config = ingester::Config {
            data_dir: self.site.folder.clone(),
            slot_length: SlotLength(self.shape.slot_nanos),
            ..self.world.plan.ingester.clone()
        };
        let deps = ingester::Deps {
            node: self.id,
            cluster: cluster.into(),
            storage: self.storage(false),
            meta: Arc::clone(&self.meta),
            network: Some(Arc::new(Wires {
                net: Arc::clone(&self.world.net),
                from: Arc::clone(self.life),
                mutant: self.world.plan.mutant,
                among_ingesters: true,
            })),
            clock: self.clock(),
            storage_clock: None,
            metrics: ingester::Metrics::new(&Registry::new())?,
            log_files: Some(Arc::new(self.log_disk())),
            blocking: self.world.blocking.clone(),
        };
        let started = Ingester::start(config, deps).await;
        if let Err(error) = &started
            && error.kind() == Kind::Corrupt
        {
            let how = format!("{}: {error}", self.life.address);
            self.world.checks.fail("a_log_is_read_back", how);
        }
        let ingester = started?;
        let door = self
            .world
            .door(self.site, self.life, &self.node, Some(ingester.clone()));
        self.life.halt_if_over().await;
        self.world.net.open(door);
        let add = ingester.clone();
        self.world.update(self.life, |run| run.ingester = Some(add));
        Ok(ingester)
    }

    fn distributor(&self, ingester: Option<&Ingester>) -> anyhow::Result<Distributor> {
        let settings = self.world.plan.distributor.clone();
        let own = ingester.map(|ingester| {
            let within = Within {
                ingester: ingester.clone(),
                processor: Arc::clone(&self.site.processor),
                costs: self.world.plan.costs,
            };
            (self.id, Arc::new(within) as Arc<dyn IngestApi>)
        });
        let ingest = ClusterIngest::new(
            settings.cluster(),
            Arc::clone(&self.meta),
            Arc::clone(&self.network),
            own,
            distributor::ClusterMetrics::new(&Registry::new())?,
        );
        let (members, ring) = (Arc::clone(&self.meta), Arc::clone(&self.meta));
        let dice = Arc::clone(&self.world.batch_dice);
        let mut sources = distributor::Sources::new(self.clock())
            .among(move || distributor::live_distributors(&members.catalog()))
            .cut(move || distributor::shards_in_use(&ring.catalog()));
        sources.batch_id = Arc::new(move || {
            let (high, low) = (dice.next(), dice.next());
            BatchId(u128::from(high) << 64 | u128::from(low))
        });
        let metrics = distributor::Metrics::new(&Registry::new())?;
        let slot = SlotLength(self.shape.slot_nanos);
        let config = settings.config(slot);
        Ok(Distributor::new(config, Arc::new(ingest), sources, metrics))
    }

    fn querier(&self, ingester: Option<&Ingester>) -> anyhow::Result<Querier> {
        let own = ingester.map(|own| (self.id, Arc::new(own.clone()) as Arc<dyn SearchApi>));
        let search = ClusterSearch::new(Arc::clone(&self.meta), Arc::clone(&self.network), own);
        let sources = querier::Sources {
            search: Arc::new(search),
            meta: Arc::clone(&self.meta),
            storage: self.storage(true),
            retention: self.world.plan.ingester.retention,
        };
        let config = self.world.plan.querier.clone();
        let metrics = querier::Metrics::new(&Registry::new())?;
        let blocking = self.world.blocking.clone();
        let (clock, with) = (self.clock(), Querier::with_blocking);
        let querier = with(config, sources, metrics, clock, blocking);
        let (meta, network) = (Arc::clone(&self.meta), Arc::clone(&self.network));
        querier.share_with(Peers::new(meta, network, self.id));
        Ok(querier)
    }
}
