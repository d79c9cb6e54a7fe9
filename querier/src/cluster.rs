//! The recent records of a whole cluster: asks the ingesters, unites what they say.
//!
//! What it is: [`ClusterSearch`], a [`rpc::SearchApi`] over those of all ingesters. What it is
//! *not*: it reads no segment and knows no query.
//!
//! ```text
//! recent ─▶ every ingester ─▶ quorum.rs: enough owners of every shard? ─▶ union.rs: each batch once
//! tail   ─▶ every ingester ─▶ tail.rs: each batch once, for as long as somebody listens
//! ```
//!
//! Invariants:
//! - A batch that was acknowledged before the question is in the answer or in the segments of a
//!   catalog that is as new as the one known here when the answer is given; otherwise the answer is
//!   an error.
//! - A batch is there once, however many owners have it.

mod quorum;
mod tail;
mod union;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::NodeId;
use parking_lot::Mutex;
use ring::Placements;
use rpc::{
    Catalog, Cluster, Error, MetaApi, Network, Recent, RecentRequest, SearchApi, TailReceiver,
};

use crate::Metrics;
use crate::metrics::RecentMetrics;
use quorum::Quorum;

/// How long to wait for the other ingesters once enough have answered: as long again as these took,
/// within bounds. All of them mostly answer within it, so that what is not acknowledged yet is seen by
/// one question as by the next; one that hangs does not make every question slow.
const GRACE_MIN: Duration = Duration::from_millis(10);
const GRACE_MAX: Duration = Duration::from_millis(200);
/// From when an ingester counts as slow: as long as too few have answered, it is asked a second time.
const HEDGE_AFTER: Duration = Duration::from_secs(1);
/// How often to ask one again that failed, and after how long the first time.
const RETRIES_MAX: u32 = 2;
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long to wait for the catalog of an ingester that knows a newer one.
const CATALOG_PATIENCE: Duration = Duration::from_secs(5);
/// How often to ask again because ingesters joined meanwhile.
const ROUNDS_MAX: usize = 4;

/// Searches the heads of all ingesters of a cluster.
#[derive(Clone)]
pub struct ClusterSearch {
    shared: Arc<Shared>,
}

struct Shared {
    meta: Arc<dyn MetaApi>,
    network: Arc<dyn Network>,
    /// The ingester of this process, which is asked without a detour.
    own: Option<(NodeId, Arc<dyn SearchApi>)>,
    placements: Mutex<Placements>,
    metrics: Option<RecentMetrics>,
}

/// What the ingesters said.
#[derive(Default)]
struct Answers {
    answered: BTreeSet<NodeId>,
    /// When they were asked last.
    failed: BTreeMap<NodeId, Error>,
    recent: Vec<Recent>,
}

impl ClusterSearch {
    /// A search over the members of the catalog; `own` is the ingester of this very process.
    pub fn new(
        meta: Arc<dyn MetaApi>,
        network: Arc<dyn Network>,
        own: Option<(NodeId, Arc<dyn SearchApi>)>,
    ) -> Self {
        ClusterSearch {
            shared: Arc::new(Shared {
                meta,
                network,
                own,
                placements: Mutex::default(),
                metrics: None,
            }),
        }
    }

    /// The same search, counted.
    pub fn counted(&self, metrics: &Metrics) -> Self {
        let shared = &self.shared;
        ClusterSearch {
            shared: Arc::new(Shared {
                meta: Arc::clone(&shared.meta),
                network: Arc::clone(&shared.network),
                own: shared.own.clone(),
                placements: Mutex::default(),
                metrics: Some(metrics.recent.clone()),
            }),
        }
    }
}

#[async_trait]
impl SearchApi for ClusterSearch {
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        let shared = &self.shared;
        let mut catalog = shared.meta.catalog();
        let mut answers = Answers::default();
        for _ in 0..ROUNDS_MAX {
            shared.ask(&catalog, &request, &mut answers).await;
            catalog = shared.as_new_as(&answers).await?;
            answers.leave_out_replaced(&catalog.cluster);
            // What changed while they were asked may need the answer of one that was not.
            let asked_all = catalog
                .cluster
                .ingesters()
                .all(|member| answers.heard_of(member.id));
            let quorum = shared.quorum(&catalog.cluster);
            match quorum.missing(&answers.answered) {
                None => return Ok(union::unite(answers.recent, &catalog)),
                Some(missing) if asked_all => {
                    shared.count(|metrics| metrics.incomplete.inc());
                    return Err(too_few(&missing, &answers.failed));
                }
                Some(_) => {}
            }
        }
        Err(Error::Unavailable(
            "ingesters come and go faster than they can be asked; ask again".to_owned(),
        ))
    }

    fn tail(&self) -> TailReceiver {
        tail::merged(Arc::clone(&self.shared))
    }
}

impl Shared {
    fn port(&self, id: NodeId, address: &str) -> Arc<dyn SearchApi> {
        match &self.own {
            Some((own, port)) if *own == id => Arc::clone(port),
            _ => self.network.search(address),
        }
    }

    /// Asks those that have not answered yet, all at once; while too few have answered, those that
    /// are silent or failed are asked again. Returns when all have answered or failed, or soon after
    /// enough have answered.
    async fn ask(&self, catalog: &Catalog, request: &RecentRequest, answers: &mut Answers) {
        let cluster = &catalog.cluster;
        answers.failed.clear();
        let quorum = self.quorum(cluster);
        let ingesters = cluster.ingesters();
        let open = ingesters.filter(|member| !answers.answered.contains(&member.id));
        let open = open.map(|member| (member.id, self.port(member.id, &member.address)));
        let open: BTreeMap<NodeId, Arc<dyn SearchApi>> = open.collect();
        let call = |id: &NodeId, wait: Duration| {
            let covered = catalog.covered.get(&id.0).cloned().unwrap_or_default();
            let request = RecentRequest {
                covered,
                ..request.clone()
            };
            ask_one(*id, Arc::clone(&open[id]), request, wait)
        };
        let calls = open.keys().map(|id| call(id, Duration::ZERO));
        let mut calls: FuturesUnordered<_> = calls.collect();
        let mut failures: BTreeMap<NodeId, u32> = BTreeMap::new();
        let began = tokio::time::Instant::now();
        let mut hedge = Some(began + HEDGE_AFTER);
        let mut grace = None;
        loop {
            if grace.is_none() && quorum.missing(&answers.answered).is_none() {
                let wait = began.elapsed().clamp(GRACE_MIN, GRACE_MAX);
                grace = Some(tokio::time::Instant::now() + wait);
            }
            if grace.is_some() && open.keys().all(|id| answers.heard_of(*id)) {
                return;
            }
            let next = match grace.or(hedge) {
                None => Ok(calls.next().await),
                Some(end) => tokio::time::timeout_at(end, calls.next()).await,
            };
            match next {
                Ok(Some((id, Ok(recent)))) => {
                    self.count(|metrics| metrics.answered.inc());
                    answers.add(id, recent);
                }
                Ok(Some((id, Err(error)))) => {
                    self.count(|metrics| metrics.failed.inc());
                    let failures = failures.entry(id).or_default();
                    *failures += 1;
                    if *failures <= RETRIES_MAX && !answers.answered.contains(&id) {
                        calls.push(call(&id, RETRY_AFTER * *failures));
                    }
                    answers.failed.insert(id, error);
                }
                Err(_) if grace.is_none() => {
                    hedge = None;
                    let silent = open.keys().filter(|id| !answers.heard_of(**id));
                    let silent: Vec<NodeId> = silent.copied().collect();
                    self.count(|metrics| metrics.again.inc_by(silent.len() as u64));
                    calls.extend(silent.iter().map(|id| call(id, Duration::ZERO)));
                }
                Ok(None) | Err(_) => {
                    let late = open.keys().filter(|id| !answers.heard_of(**id)).count();
                    self.count(|metrics| metrics.late.inc_by(late as u64));
                    return;
                }
            }
        }
    }

    /// The catalog, at least as new as what the ingesters went by: a head that they have dropped is
    /// in the segments of that one.
    async fn as_new_as(&self, answers: &Answers) -> Result<Arc<Catalog>, Error> {
        let needed = answers.recent.iter().map(|recent| recent.version).max();
        let needed = needed.unwrap_or(0);
        let catalog = self.meta.catalog();
        if catalog.version >= needed {
            return Ok(catalog);
        }
        let newer = self.meta.changed(needed.saturating_sub(1));
        match tokio::time::timeout(CATALOG_PATIENCE, newer).await {
            Ok(catalog) => Ok(catalog),
            Err(_) => Err(Error::Unavailable(format!(
                "the catalog here is at version {} and an ingester's at {needed}: this process does not hear from the coordinators",
                self.meta.catalog().version
            ))),
        }
    }

    fn count(&self, count: impl Fn(&RecentMetrics)) {
        self.metrics.iter().for_each(count);
    }

    fn quorum(&self, cluster: &Cluster) -> Quorum {
        Quorum::new(cluster, &mut self.placements.lock())
    }
}

async fn ask_one(
    id: NodeId,
    port: Arc<dyn SearchApi>,
    request: RecentRequest,
    wait: Duration,
) -> (NodeId, Result<Recent, Error>) {
    // Not even a moment's sleep before the first call: the timer would make a millisecond of it.
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    (id, port.recent(request).await)
}

impl Answers {
    /// Of two answers of one ingester the first counts.
    fn add(&mut self, id: NodeId, recent: Recent) {
        if self.answered.insert(id) {
            self.recent.push(recent);
        }
    }

    /// An ingester with an empty disk may have taken the place of another, at its address, while that one was
    /// asked: then it has answered for it, and by its catalog, which is no older than the one here now,
    /// the other is no member. Who answered and was forgotten after that is needed no less.
    fn leave_out_replaced(&mut self, cluster: &Cluster) {
        self.answered.retain(|id| cluster.members.contains_key(id));
    }

    /// Whether the ingester has answered, or failed to when it was asked last. Neither is the case
    /// with one that joined meanwhile, or that was slow when the others seemed to be enough.
    fn heard_of(&self, id: NodeId) -> bool {
        self.answered.contains(&id) || self.failed.contains_key(&id)
    }
}

fn too_few(missing: &quorum::Missing, failed: &BTreeMap<NodeId, Error>) -> Error {
    let failed = failed.iter();
    let failed: Vec<String> = failed
        .map(|(id, error)| format!("node {}: {error}", id.0))
        .collect();
    let why = match &failed[..] {
        [] => String::new(),
        failed => format!(" ({})", failed.join("; ")),
    };
    Error::Unavailable(format!(
        "recent records cannot be read: of the owners of shard {} (ring {}) {} of {} answered, {} are needed{why}; ask again when the missing ingesters are back",
        missing.shard.0, missing.ring.0, missing.answered, missing.owners, missing.needed
    ))
}

impl std::fmt::Debug for ClusterSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterSearch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
