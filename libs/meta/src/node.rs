//! A coordinator: one process' part in the cluster.
//!
//! ```text
//! ingester, voter       propose ─▶ replicated log (quorum of disks) ─▶ catalog
//! every other process   propose ─▶ leader;  watch of a voter        ─▶ catalog
//! ```
//!
//! Tasks: `report` tells the leader that this process lives and finds the leader; `follow` watches a
//! voter as long as this process does not vote; `lead` looks after voters and silent members as
//! long as this process leads; `guard` sees to it that a failure is told.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use model::NodeId;
use rpc::{Catalog, ClusterShape, Command, Member, MemberState, MetaApi, RoleSet};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Error;
use crate::contacts::{Contacts, Dial};
use crate::peer::{PROTOCOL, StatusAsk};
use crate::raft::log::Log;
use crate::raft::machine::Machine;
use crate::raft::network::Links;
use crate::raft::{Kept, Metrics, Raft};
use crate::replica::Replica;
use crate::status::Status;
use crate::store::{Change, DiskStore, Shelf, Store};

mod config;
mod enter;
mod follow;
mod found;
mod lead;
mod patience;
mod propose;
mod serve;

pub use config::{Config, Timings, random_seed};

/// The number of the identity on the shelf of single values.
const IDENTITY: u64 = 0;

/// Who this process is; kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// The random number of the cluster, hexadecimal.
    cluster: String,
    node: u64,
    /// Whether it made the cluster: it may have to finish that.
    founder: bool,
}

/// A coordinator. Clones are the same one; the last that is dropped stops it.
#[derive(Clone)]
pub struct Node {
    owner: Arc<Owner>,
}

/// Stops the tasks when the last handle is gone; the tasks hold the core only.
struct Owner {
    core: Arc<Core>,
}

/// What the tasks share.
struct Core {
    config: Config,
    kept: Kept,
    replica: Arc<Replica>,
    contacts: Arc<Contacts>,
    identity: watch::Sender<Option<Identity>>,
    raft: OnceLock<Raft>,
    /// Set when its vote was taken because it leaves.
    resigned: AtomicBool,
    /// When each process last said that it lives.
    heard: Mutex<BTreeMap<u64, Instant>>,
    /// Since when it leads, as far as it has noticed.
    leads_since: Mutex<Option<Instant>>,
    failed: watch::Sender<Option<Error>>,
    stopping: watch::Sender<bool>,
    dice: Mutex<u64>,
    /// Held while this process gets a number.
    joining: tokio::sync::Mutex<()>,
    waiting: patience::Waiting,
}

/// Who leads, as this process sees it.
enum Lead {
    Me,
    At(Arc<str>),
    Unknown,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id())
            .field("address", &self.owner.core.config.address)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens what this process knows of itself and begins to answer others; it belongs to a cluster
    /// when [`join`](Self::join) has returned.
    ///
    /// # Errors
    /// `Setting` for a number of voters that is not 1, 3 or 5, or timings that no election can work
    /// with; otherwise as the store says.
    pub async fn open(config: Config, dial: Dial, store: Arc<dyn Store>) -> Result<Self, Error> {
        config.check()?;
        let replica = Arc::<Replica>::default();
        let (own, join) = (Arc::clone(&config.address), config.join.clone());
        let contacts = Contacts::new(dial, own, join, Arc::clone(&replica));
        let identity = read_identity(&*store)?;
        let core = Core {
            dice: Mutex::new(config.seed | 1),
            config,
            kept: Kept::new(store),
            replica,
            contacts: Arc::new(contacts),
            identity: watch::Sender::new(None),
            raft: OnceLock::new(),
            resigned: AtomicBool::new(false),
            heard: Mutex::default(),
            leads_since: Mutex::default(),
            failed: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
            joining: tokio::sync::Mutex::default(),
            waiting: patience::Waiting::default(),
        };
        let core = Arc::new(core);
        let owner = Owner {
            core: Arc::clone(&core),
        };
        if let Some(identity) = identity {
            core.begin(identity).await?;
        }
        Ok(Node {
            owner: Arc::new(owner),
        })
    }

    /// Opens a cluster of one process in a folder, and is an active ingester of it: what a single
    /// process needs, and a test.
    ///
    /// # Errors
    /// As [`open`](Self::open), [`join`](Self::join) and [`DiskStore::open`] say.
    pub async fn alone(folder: &Path, shape: ClusterShape) -> Result<Self, Error> {
        let config = Config {
            address: "local".into(),
            zone: "local".into(),
            roles: RoleSet {
                distributor: true,
                ingester: true,
                querier: true,
            },
            shape,
            join: Vec::new(),
            voters: 1,
            timings: Timings::default(),
            seed: random_seed(),
        };
        let store = Arc::new(DiskStore::open(folder)?);
        let node = Node::open(config, nobody(), store).await?;
        node.join().await?;
        let active = node.set_active().await;
        active.map_err(|error| Error::Stopped(error.to_string()))?;
        Ok(node)
    }

    /// Makes the cluster, joins it, or comes back to it; waits as long as none can be reached. When
    /// it returns, the catalog is as new as any that was acknowledged before the call.
    ///
    /// # Errors
    /// `Shape`, `Forgotten` and `Stranger` when the cluster does not take this process; otherwise as
    /// the store says.
    pub async fn join(&self) -> Result<NodeId, Error> {
        self.owner.core.join().await
    }

    /// What [`join`](Self::join) waits for, to follow "waits for"; `None` when it does not wait.
    pub fn waits_for(&self) -> Option<String> {
        self.owner.core.waiting.now()
    }

    /// Its number; `None` before it has joined. That of an ingester never changes; another process
    /// gets a new one when it was silent for so long that it was forgotten.
    pub fn id(&self) -> Option<NodeId> {
        self.owner.core.id()
    }

    /// Says that this process is ready: an ingester owns shards from now on.
    ///
    /// # Errors
    /// As [`MetaApi::propose`] says.
    pub async fn set_active(&self) -> Result<(), rpc::Error> {
        let Some(id) = self.id() else {
            return Err(not_joined());
        };
        let catalog = self.owner.core.replica.catalog();
        match catalog.cluster.members.get(&id) {
            Some(member) if member.state != MemberState::Joining => Ok(()),
            _ => {
                let active = Command::SetState(id, MemberState::Active);
                self.propose(active).await.map(drop)
            }
        }
    }

    /// Waits until this process does not vote: only then may one that leaves go. It asks the leader,
    /// for whoever has lost its vote is sent no log that says so. It stands for no election from
    /// then on.
    pub async fn released(&self) {
        let core = &self.owner.core;
        let (Some(raft), Some(id)) = (core.raft.get(), self.id()) else {
            return;
        };
        let mut asked = 0_u32;
        loop {
            let status = self.cluster_status().await;
            if status.leader.is_some() && !status.voters.contains(&id.0) {
                raft.runtime_config().elect(false);
                core.resigned.store(true, Ordering::Relaxed);
                return;
            }
            asked += 1;
            if asked.is_multiple_of(10) {
                tracing::info!("it votes still: no other ingester has taken its vote");
            }
            core.pause(core.config.timings.report_every / 2).await;
        }
    }

    /// Waits until this coordinator cannot go on, and says why. The process should end: the others
    /// are better off without it.
    pub async fn failed(&self) -> Error {
        let mut failed = self.owner.core.failed.subscribe();
        let found = failed.wait_for(Option::is_some).await;
        match found.ok().and_then(|error| error.clone()) {
            Some(error) => error,
            None => Error::Stopped("its task is gone".to_owned()),
        }
    }

    /// What this coordinator sees; of a leader, also who is alive.
    pub fn status(&self) -> Status {
        self.owner.core.status()
    }

    /// What the leader sees, or this coordinator when it does not reach one.
    pub async fn cluster_status(&self) -> Status {
        let core = &self.owner.core;
        if let Lead::At(address) = core.leader() {
            let ask = StatusAsk {
                protocol: PROTOCOL,
                from: self.id().map(|id| id.0),
                cluster: core.cluster(),
                linear: false,
            };
            let patience = core.config.timings.call;
            match core.contacts.ask(&address, &ask, patience).await {
                Ok(status) if status.cluster == ask.cluster => return status,
                Ok(_) => {}
                Err(error) => tracing::debug!(%address, %error, "the leader does not answer"),
            }
        }
        self.status()
    }

    /// Stops. What was acknowledged is on disk anyway.
    pub async fn shutdown(&self) {
        let core = &self.owner.core;
        core.stopping.send_replace(true);
        if let Some(raft) = core.raft.get() {
            let stopped = tokio::time::timeout(core.config.timings.propose, raft.shutdown());
            if stopped.await.is_err() {
                tracing::warn!("the replicated log did not stop in time");
            }
        }
        core.kept.store.close();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.stopping.send_replace(true);
        // The folder is free for the next one at once.
        self.core.kept.store.close();
    }
}

impl Core {
    fn id(&self) -> Option<NodeId> {
        let identity = self.identity.borrow();
        identity.as_ref().map(|identity| NodeId(identity.node))
    }

    fn cluster(&self) -> Option<String> {
        let identity = self.identity.borrow();
        identity.as_ref().map(|identity| identity.cluster.clone())
    }

    /// Takes an identity: starts what belongs to it.
    async fn begin(self: &Arc<Self>, identity: Identity) -> Result<(), Error> {
        if self.config.roles.ingester {
            let raft = self.open_raft(&identity).await?;
            // It is set once: an ingester gets an identity once.
            let _ = self.raft.set(raft);
        }
        let first = self.identity.send_replace(Some(identity)).is_none();
        if first {
            self.spawn(Core::guard);
            self.spawn(Core::report);
            self.spawn(Core::follow);
            if self.config.roles.ingester {
                self.spawn(Core::lead);
            }
        }
        Ok(())
    }

    async fn open_raft(&self, identity: &Identity) -> Result<Raft, Error> {
        let raft_config = self.raft_config(&identity.cluster)?;
        let fault = |error: &dyn fmt::Display| {
            let known = self.kept.fault();
            known.unwrap_or_else(|| Error::Stopped(error.to_string()))
        };
        let machine = Machine::open(self.kept.clone(), Arc::clone(&self.replica))
            .map_err(|error| fault(&error))?;
        let links = Links {
            contacts: Arc::clone(&self.contacts),
            cluster: identity.cluster.clone(),
        };
        let log = Log::new(self.kept.clone());
        let raft = Raft::new(identity.node, Arc::new(raft_config), links, log, machine).await;
        raft.map_err(|error| fault(&error))
    }

    fn raft_config(&self, cluster: &str) -> Result<openraft::Config, Error> {
        let timings = &self.config.timings;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (min, max) = (millis(timings.election_min), millis(timings.election_max));
        // openraft draws from a range; one of a single number makes it ours, by the seed.
        let drawn = min + self.roll(max.saturating_sub(min).max(1));
        let config = openraft::Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: millis(timings.heartbeat),
            election_timeout_min: drawn,
            election_timeout_max: drawn + 1,
            install_snapshot_timeout: millis(timings.propose),
            max_payload_entries: 256,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(timings.snapshot_commands),
            max_in_snapshot_log_to_keep: timings.snapshot_commands / 2,
            replication_lag_threshold: timings.snapshot_commands * 2,
            snapshot_max_chunk_size: 1 << 20,
            ..openraft::Config::default()
        };
        config
            .validate()
            .map_err(|error| Error::Setting(format!("timings of elections: {error}")))
    }

    async fn keep_identity(&self, identity: &Identity) -> Result<(), Error> {
        let bytes = serde_json::to_vec(identity)
            .map_err(|error| Error::Stopped(format!("the identity is not JSON: {error}")))?;
        let change = Change::Put(Shelf::State, IDENTITY, bytes);
        self.kept.store.write(vec![change]).await
    }

    /// Runs a task until this coordinator stops.
    fn spawn<T: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(Arc<Core>) -> T,
    ) {
        let mut stopping = self.stopping.subscribe();
        let task = task(Arc::clone(self));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = task => {}
            }
        });
    }

    /// Tells a failure of the replicated log; stops the log with this coordinator.
    async fn guard(self: Arc<Self>) {
        let Some(raft) = self.raft.get() else {
            return self.guard_membership().await;
        };
        let stopper = raft.clone();
        let mut stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            // The sender is gone: everything is.
            let _ = stopping.wait_for(|stopping| *stopping).await;
            if let Err(error) = stopper.shutdown().await {
                tracing::debug!(%error, "the replicated log was stopped already");
            }
        });
        let mut metrics = raft.metrics();
        tokio::select! {
            () = self.guard_membership() => {}
            stopped = metrics.wait_for(|metrics| metrics.running_state.is_err()) => {
                let why = match &stopped {
                    Ok(metrics) => format!("{:?}", metrics.running_state),
                    Err(_) => "its task is gone".to_owned(),
                };
                drop(stopped);
                let error = self.kept.fault().unwrap_or(Error::Stopped(why));
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: Error) {
        // A stop is seen by the log's task first at times.
        if *self.stopping.borrow() {
            tracing::debug!(%error, "the replicated log has stopped");
            return;
        }
        tracing::error!(%error, "the coordinator has failed");
        self.failed.send_replace(Some(error));
    }

    /// The newest state of the replicated log, if this process takes part.
    fn metrics(&self) -> Option<Metrics> {
        let raft = self.raft.get()?;
        let metrics = raft.metrics();
        let now = metrics.borrow().clone();
        Some(now)
    }

    /// Whether the log tells this process what is going on: it votes, and there is a leader that is
    /// heard.
    fn takes_part(&self, metrics: &Metrics) -> bool {
        // The log of one that has lost its vote, or whose disk is full, stands still, and so does
        // what it says: the others know more.
        if self.resigned.load(Ordering::Relaxed) || self.kept.store.trouble().is_some() {
            return false;
        }
        let mut voters = voters_of(metrics);
        let lone = metrics.membership_config.membership().voter_ids().count() == 1;
        let patience = self.config.timings.election_max * 2;
        voters.any(|voter| voter == metrics.id)
            && match metrics.current_leader {
                None => false,
                Some(leader) if leader != metrics.id || lone => true,
                Some(_) => metrics
                    .millis_since_quorum_ack
                    .is_some_and(|millis| u128::from(millis) < patience.as_millis()),
            }
    }

    fn leader(&self) -> Lead {
        if let Some(metrics) = self.metrics()
            && self.takes_part(&metrics)
            && let Some(leader) = metrics.current_leader
        {
            if leader == metrics.id {
                return Lead::Me;
            }
            let address = self.contacts.address_of(leader);
            // Before anything is in the catalog, the log itself knows.
            let membership = metrics.membership_config.membership();
            let first = || Some(membership.get_node(&leader)?.addr.as_str().into());
            if let Some(address) = address.or_else(first) {
                return Lead::At(address);
            }
        }
        match self.contacts.leader() {
            Some(leader) if leader.address != *self.config.address => {
                Lead::At(leader.address.into())
            }
            _ => Lead::Unknown,
        }
    }

    fn member(&self, id: NodeId) -> Member {
        Member {
            id,
            address: Arc::clone(&self.config.address),
            zone: Arc::clone(&self.config.zone),
            roles: self.config.roles,
            state: MemberState::Joining,
        }
    }

    /// # Errors
    /// Why there is no use in waiting for anything any more.
    fn check_going(&self) -> Result<(), Error> {
        if let Some(failed) = self.failed.borrow().clone() {
            return Err(failed);
        }
        match *self.stopping.borrow() {
            true => Err(Error::Stopped("it was told to".to_owned())),
            false => Ok(()),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.replica.catalog()
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below this, at random (xorshift64*, Vigna 2014).
    fn roll(&self, below: u64) -> u64 {
        let mut state = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) % below.max(1)
    }

    /// Sleeps between half of this time and all of it.
    async fn pause(&self, at_most: Duration) {
        let millis = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX);
        let half = millis / 2;
        let pause = half + self.roll(millis - half + 1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn voters_of(metrics: &Metrics) -> impl Iterator<Item = u64> + '_ {
    metrics.membership_config.membership().voter_ids()
}

fn not_joined() -> rpc::Error {
    rpc::Error::Unavailable("this process has not joined a cluster yet: try again".to_owned())
}

fn read_identity(store: &dyn Store) -> Result<Option<Identity>, Error> {
    let values = store.read(Shelf::State, IDENTITY..=IDENTITY)?;
    let Some((_, bytes)) = values.first() else {
        return Ok(None);
    };
    let identity = serde_json::from_slice(bytes).map_err(|error| Error::Corrupt {
        folder: store.place().to_owned(),
        reason: format!("who this process is: {error}"),
    })?;
    Ok(Some(identity))
}

/// For a process without others.
fn nobody() -> Dial {
    Arc::new(|address: &str| Arc::new(serve::Unreachable(address.to_owned())) as _)
}

#[cfg(test)]
mod tests;
