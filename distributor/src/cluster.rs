//! Stores batches at the owners of their shards, and answers when a quorum of them has each.
//!
//! What it is: [`ClusterIngest`], a [`rpc::IngestApi`] over those of all ingesters. What it is *not*:
//! it keeps nothing once a batch has reached its owners, and it decides nothing about rings.
//!
//! ```text
//! ingest ─▶ ring::Placement ─▶ Delivery (delivery.rs, pure) ─ Send ──▶ owners, side by side
//!                                  ▲ acked, failed, newer ring, time │
//!                                  └───────────────◀─────────────────┘─ Answer ─▶ caller
//! ```
//!
//! Invariants:
//! - `Ok` means that a write quorum of the owners of each batch, by one ring, has it on disk.
//! - Only owners count, and only owners are asked. A node beyond the owners in ring order could take
//!   a copy as well, but no reader would ask it: readers ask a quorum of the *owners* of each shard,
//!   so that such a copy may not stand in for one of theirs. All owners are asked at once, so that
//!   "the next owner" is under way already; an owner that is slow is asked a second time under the
//!   same batch id, for the message may be lost, and the first answer counts.
//! - An owner that acknowledged under an older ring still counts if the newer ring names it: it has
//!   the batch in its log, answers readers from all its heads whatever their ring, and drops a head
//!   only when the catalog covers it.
//! - After the answer the other owners are still served, for a while and within
//!   [`ClusterConfig::late_bytes_max`]; the flush fetches what they lack even so.

mod courier;
mod delivery;
mod metrics;
mod patience;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{NodeId, RingVersion};
use parking_lot::Mutex;
use ring::Placements;
use rpc::{Catalog, Error, IngestApi, IngestRequest, MemberState, MetaApi, Network};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use courier::Courier;
use delivery::Placed;
pub use metrics::ClusterMetrics;
use patience::{Pace, Patience};

/// How a [`ClusterIngest`] waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Without a quorum after this time, the caller gets `Unavailable`. 10 s by default.
    pub patience: Duration,
    /// Batches that a quorum has and that are still on their way to other owners, all together,
    /// bytes; beyond, those owners are left to fetch them when they flush. 64 MiB by default.
    pub late_bytes_max: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        crate::Settings::default().cluster()
    }
}

/// How long after the answer the other owners are served.
const LATE_PATIENCE: Duration = Duration::from_secs(10);
/// How long after the patience of a request a call for it may end.
pub(crate) const LATEST_CALL: Duration = LATE_PATIENCE.saturating_add(courier::CALL_PATIENCE);
const LATE_TRIES_MAX: u32 = 3;
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(3);
/// After so many failures in a row an owner is served only as long as a quorum needs it.
const SUSPECT_FAILURES: u32 = 3;
/// Late bytes are counted in these.
const LATE_UNIT_BYTES: usize = 1024;

/// Ingests into a cluster; cheap to clone.
#[derive(Clone)]
pub struct ClusterIngest {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClusterConfig,
    meta: Arc<dyn MetaApi>,
    network: Arc<dyn Network>,
    /// The ingester of this process, which is reached without a detour.
    own: Option<(NodeId, Arc<dyn IngestApi>)>,
    placements: Mutex<Placements>,
    pace: Mutex<Pace>,
    /// Failures in a row, by node; none is not there.
    failing: Mutex<HashMap<NodeId, u32>>,
    late: Arc<Semaphore>,
    metrics: ClusterMetrics,
}

impl ClusterIngest {
    /// Ingests into the owners that the catalog names; `own` is the ingester of this very process.
    pub fn new(
        config: ClusterConfig,
        meta: Arc<dyn MetaApi>,
        network: Arc<dyn Network>,
        own: Option<(NodeId, Arc<dyn IngestApi>)>,
        metrics: ClusterMetrics,
    ) -> Self {
        let units = (config.late_bytes_max / LATE_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        ClusterIngest {
            shared: Arc::new(Shared {
                late: Arc::new(Semaphore::new(units)),
                config,
                meta,
                network,
                own,
                placements: Mutex::default(),
                pace: Mutex::default(),
                failing: Mutex::default(),
                metrics,
            }),
        }
    }
}

/// How many distributors there are: each lets its part of a tenant's rate pass. At least 1.
pub fn live_distributors(catalog: &Catalog) -> u32 {
    let members = catalog.cluster.members.values();
    let live = members.filter(|m| m.roles.distributor && m.state == MemberState::Active);
    (live.count() as u32).max(1)
}

/// Into how many shards streams are cut: by the ring in use, so that a request is not cut into shards
/// that the ring by which its owners are chosen, the same or a newer one, does not have.
pub fn shards_in_use(catalog: &Catalog) -> u32 {
    catalog.cluster.ring.shards.max(1)
}

#[async_trait]
impl IngestApi for ClusterIngest {
    async fn ingest(&self, mut requests: Vec<IngestRequest>) -> Result<(), Error> {
        requests.retain(|request| !request.batch.is_empty());
        if requests.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let catalog = shared.meta.catalog();
        let placed = shared.place(&catalog, &requests);
        if let Some(own) = shared.alone(&placed) {
            stamp(&mut requests, placed.ring);
            match own.ingest(requests.clone()).await {
                // The ring has changed meanwhile.
                Err(Error::Conflict(_)) => {}
                result => {
                    shared.metrics.answered(&result);
                    return result;
                }
            }
        }
        let (tell, told) = oneshot::channel();
        let courier = Courier {
            shared: Arc::clone(shared),
            requests,
            version: catalog.version,
            calls: JoinSet::new(),
            failed: HashSet::new(),
        };
        // A task of its own, because it goes on after the answer; it ends when nobody waits for one.
        tokio::spawn(courier.deliver(placed, tell));
        told.await.unwrap_or_else(|_| {
            let text = "the delivery of a batch ended without an answer, a defect";
            Err(Error::Internal(text.to_owned()))
        })
    }

    async fn flush(&self) -> Result<(), Error> {
        let catalog = self.shared.meta.catalog();
        let mut flushes = JoinSet::new();
        for member in catalog.cluster.ingesters() {
            let (id, port) = (member.id, self.shared.port(member.id, &member.address));
            flushes.spawn(async move { (id, port.flush().await) });
        }
        let mut first = Ok(());
        while let Some(done) = flushes.join_next().await {
            if let Ok((id, Err(error))) = done
                && first.is_ok()
            {
                first = Err(of_node(id, error));
            }
        }
        first
    }
}

impl Shared {
    fn place(&self, catalog: &Catalog, requests: &[IngestRequest]) -> Placed {
        let ring = &catalog.cluster.ring;
        let nobody = Placed {
            ring: ring.version,
            owners: vec![Vec::new(); requests.len()],
            needed: vec![1; requests.len()],
        };
        let Some(shape) = &catalog.cluster.shape else {
            return nobody;
        };
        let members = ring.members.iter().map(|(id, zone)| (*id, zone));
        let mut placements = self.placements.lock();
        let placement = placements.of(ring.version, members, ring.shards, shape.replicas);
        drop(placements);
        let mut placed = nobody;
        for (at, request) in requests.iter().enumerate() {
            let owners = placement.owners(request.shard);
            placed.owners[at] = owners.to_vec();
            placed.needed[at] = shape.write_quorum(owners.len());
        }
        placed
    }

    /// The ingester of this process, if it alone owns all the batches.
    fn alone(&self, placed: &Placed) -> Option<&Arc<dyn IngestApi>> {
        let (own, port) = self.own.as_ref()?;
        let mut owners = placed.owners.iter();
        owners.all(|owners| owners[..] == [*own]).then_some(port)
    }

    fn port(&self, id: NodeId, address: &str) -> Arc<dyn IngestApi> {
        match &self.own {
            Some((own, port)) if *own == id => Arc::clone(port),
            _ => self.network.ingest(address),
        }
    }

    fn patience(&self) -> Patience {
        Patience {
            deadline: self.config.patience,
            hedge_after: self.pace.lock().slow_after(),
            late: LATE_PATIENCE,
            late_tries_max: LATE_TRIES_MAX,
            full_disk: FULL_DISK_PATIENCE,
        }
    }

    /// Keeps count of who fails, and how long it takes who does not.
    fn learn(&self, node: NodeId, took: Duration, result: &Result<(), Error>) {
        self.metrics.came_back(node, took, result);
        let catalog = self.meta.catalog();
        self.metrics
            .keep(|id| catalog.cluster.members.contains_key(&id));
        match result {
            Ok(()) => {
                self.pace.lock().took(took);
                let failures = self.failing.lock().remove(&node);
                if failures.is_some_and(|n| n >= SUSPECT_FAILURES) {
                    tracing::info!(node = node.0, "an ingester stores batches again");
                }
            }
            Err(error @ Error::Unavailable(_)) => {
                let mut failing = self.failing.lock();
                let failures = failing.entry(node).or_default();
                *failures += 1;
                if *failures == SUSPECT_FAILURES {
                    tracing::warn!(node = node.0, %error, "an ingester stores nothing; the other owners of its shards must do without it");
                }
            }
            Err(_) => {}
        }
    }

    fn is_suspect(&self, node: NodeId) -> bool {
        let failing = self.failing.lock();
        failing.get(&node).is_some_and(|n| *n >= SUSPECT_FAILURES)
    }
}

fn stamp(requests: &mut [IngestRequest], ring: RingVersion) {
    for request in requests {
        request.ring = ring;
    }
}

/// The same error, saying whose it is.
fn of_node(id: NodeId, error: Error) -> Error {
    let text = format!("node {}: {error}", id.0);
    match error {
        Error::OutOfSpace(_) => Error::OutOfSpace(text),
        Error::Exhausted {
            retry_after_seconds,
            ..
        } => Error::Exhausted {
            reason: text,
            retry_after_seconds,
        },
        Error::Internal(_) | Error::Corrupt(_) => Error::Internal(text),
        _ => Error::Unavailable(text),
    }
}

impl std::fmt::Debug for ClusterIngest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterIngest")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
