//! Merging, retention, delete requests, deletion of condemned and orphaned objects: one job at a
//! time, in a task of its own, on a clock or on request. Where there are several ingesters, each job
//! is done under a lease, so that they do different ones. What is old enough to be destroyed, the
//! storage's clock says, never the own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{Kind, NodeId, Timestamp};
use rpc::{Catalog, Command, DeleteId, Lease, MetaApi, Network, SegmentId, SegmentMeta};
use runtime::Blocking;
use store::ObjectStorage;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::alarm::Alarm;
use crate::config::nanos;
use crate::lease::Leases;
use crate::merge::{MergePlan, Merger, PlanOptions, plan_merges};
use crate::metrics::Metrics;
use crate::start::Deps;
use crate::storage_clock::StorageClock;
use crate::task::Message;
use crate::{Config, Error, objects};

mod deletes;

use deletes::Step;

/// Requests queued; they come from people and tests.
const REQUESTS_MAX: usize = 8;
/// Orphans are looked for once in so many rounds: listing a bucket costs money.
const ROUNDS_PER_ORPHAN_SEARCH: u32 = 360;
/// So many segments of one round are set aside because they cannot be read; with one more, the storage
/// is taken for the cause, and the round ends.
const UNREADABLE_MAX: usize = 8;
/// The lease of deleting objects, and the one that says that orphans were looked for lately.
const CLEAN_LEASE: &str = "clean";
const ORPHANS_LEASE: &str = "orphans";

/// The handle of the maintenance task.
#[derive(Debug)]
pub(crate) struct Maintenance {
    requests: mpsc::Sender<Request>,
    stop: Arc<AtomicBool>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

type Reply = oneshot::Sender<Result<u64, rpc::Error>>;

#[derive(Debug)]
enum Request {
    Merge(Reply),
    Clean(Reply),
    Stop,
}

/// What came of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merged {
    Here,
    /// Another ingester is at it.
    Elsewhere,
    /// The catalog has moved on.
    Outdated,
    /// One of its segments cannot be read, and is set aside.
    Unreadable,
}

struct Worker {
    /// Of this cluster's segments.
    folder: String,
    storage: ObjectStorage,
    meta: Arc<dyn MetaApi>,
    /// Says what is old enough to go.
    clock: StorageClock,
    blocking: Blocking,
    metrics: Arc<Metrics>,
    merger: Merger,
    /// It skips what is set aside: `damaged`, and what could not be read lately.
    options: PlanOptions,
    /// Found damaged or missing within the last hour.
    damaged: HashSet<SegmentId>,
    /// Why segments were set aside in this round.
    unreadable: Vec<Error>,
    /// Whether something waited for room on the disk in this round.
    room_wanted: bool,
    /// Whether that was told, and has been so since.
    room_told: bool,
    /// Found to hold records of one of these requests; they wait for room to be rewritten.
    rewrites_waiting: HashMap<SegmentId, BTreeSet<DeleteId>>,
    orphan_age: i64,
    stop: Arc<AtomicBool>,
    /// The task that has the heads.
    heads: mpsc::WeakSender<Message>,
    node: NodeId,
    network: Option<Arc<dyn Network>>,
    owner_timeout: Duration,
    leases: Leases,
    late_copies: Duration,
    /// The version at which segments last came to an active request, and since when that is known here.
    deletes_since: BTreeMap<DeleteId, (u64, Instant)>,
}

impl Maintenance {
    /// `busy` says that memory is short; `heads` is asked what is not in segments yet.
    pub(crate) fn start(
        id: u64,
        config: &Config,
        deps: &Deps,
        metrics: Arc<Metrics>,
        (busy, heads): (Arc<AtomicBool>, mpsc::WeakSender<Message>),
        alarm: &Alarm,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let clock = deps.storage_clock.as_ref().map_or_else(
            || StorageClock::new(deps.storage.clone(), &deps.cluster, deps.node, "jobs"),
            StorageClock::given,
        );
        let worker = Worker {
            folder: objects::folder(&deps.cluster),
            storage: deps.storage.clone(),
            meta: Arc::clone(&deps.meta),
            clock: clock.clone(),
            blocking: deps.blocking.clone(),
            metrics: Arc::clone(&metrics),
            merger: Merger::new(id, config, deps, clock, metrics, Arc::clone(&stop), busy),
            options: PlanOptions {
                merge: config.merge.clone(),
                retention_nanos: nanos(config.retention),
                everything_small: false,
                skip: HashSet::new(),
            },
            damaged: HashSet::new(),
            unreadable: Vec::new(),
            room_wanted: false,
            room_told: false,
            rewrites_waiting: HashMap::new(),
            orphan_age: nanos(config.orphan_age),
            stop: Arc::clone(&stop),
            heads,
            node: deps.node,
            network: deps.network.clone(),
            owner_timeout: config.owner_timeout,
            leases: Leases::new(
                Arc::clone(&deps.meta),
                deps.node,
                Arc::clone(&deps.clock),
                config.lease_duration,
            ),
            late_copies: config.late_copies,
            deletes_since: BTreeMap::new(),
        };
        let task = alarm.spawn("the maintenance", worker.run(receiver));
        Maintenance {
            requests,
            stop,
            task: parking_lot::Mutex::new(Some(task)),
        }
    }

    pub(crate) async fn merge_now(&self) -> Result<u64, rpc::Error> {
        self.ask(Request::Merge).await
    }

    pub(crate) async fn clean_now(&self) -> Result<u64, rpc::Error> {
        self.ask(Request::Clean).await
    }

    /// Gives up a merge that is under way; returns when the task has ended.
    pub(crate) async fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // The task may have ended already.
        let _ = self.requests.send(Request::Stop).await;
        let task = self.task.lock().take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("maintenance ended with a panic, a defect");
        }
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<u64, rpc::Error> {
        let stopped = || rpc::Error::Unavailable("the ingester has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(request(reply)).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Worker {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut tick = tokio::time::interval(self.merger.interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        tick.tick().await;
        let (mut round, mut more) = (0_u32, false);
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    None | Some(Request::Stop) => return,
                    // Somebody who went away needs no answer.
                    Some(Request::Merge(reply)) => {
                        let done = self.merge_all().await;
                        drop(reply.send(done.map_err(rpc::Error::from)));
                    }
                    Some(Request::Clean(reply)) => {
                        let done = self.clean(true).await;
                        drop(reply.send(done.map_err(rpc::Error::from)));
                    }
                },
                _ = tick.tick(), if self.merger.enabled() => {
                    round = round.wrapping_add(u32::from(!more));
                    more = self.round(round, more).await;
                    if more {
                        tick.reset_immediately();
                    }
                }
            }
        }
    }

    /// At most one segment searched for deleted records, and one merge, so that a request never waits
    /// for more than that. Returns whether there may be more to search or to merge: then the next round
    /// follows at once, which `again` says, so that merging keeps up with what arrives.
    async fn round(&mut self, round: u32, again: bool) -> bool {
        let due = !again && round % ROUNDS_PER_ORPHAN_SEARCH == 1;
        if due {
            // Somebody may have put them back.
            self.damaged.clear();
        }
        self.unreadable.clear();
        self.room_wanted = false;
        let step = self.delete_one(false).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot remove deleted records; it is tried again");
            Step::Nothing
        });
        let mut more = step != Step::Nothing;
        if !more && let Err(error) = self.finish_deletes().await {
            tracing::warn!(%error, "cannot finish delete requests; it is tried again");
        }
        match self.merge(false, false).await {
            Ok(merged) => more |= merged > 0,
            Err(error) => tracing::warn!(%error, "cannot merge segments; it is tried again"),
        }
        if !more && self.unreadable.is_empty() {
            // The others are done.
            self.options.skip.clone_from(&self.damaged);
        }
        if !more {
            self.room_told = self.room_wanted;
        }
        let orphans = due
            && self
                .leases
                .take(ORPHANS_LEASE, self.orphan_pause())
                .await
                .unwrap_or(false);
        if let Err(error) = self.clean(orphans).await {
            tracing::warn!(%error, "cannot remove objects; it is tried again");
        }
        more
    }

    /// Everything that can be done now; then the first error, if a segment could not be read.
    async fn merge_all(&mut self) -> Result<u64, Error> {
        self.options.skip.clone_from(&self.damaged);
        self.unreadable.clear();
        let mut done = 0;
        while !self.stop.load(Ordering::Relaxed) {
            match self.delete_one(true).await? {
                Step::Done => done += 1,
                Step::Waits => {}
                Step::Nothing => break,
            }
        }
        done += self.merge(true, true).await?;
        self.finish_deletes().await?;
        match self.unreadable.is_empty() {
            true => Ok(done),
            false => Err(self.unreadable.swap_remove(0)),
        }
    }

    async fn merge(&mut self, everything_small: bool, until_done: bool) -> Result<u64, Error> {
        self.options.everything_small = everything_small;
        let mut merged = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.now().await?;
            let catalog = self.meta.catalog();
            let plans = plan_merges(&catalog, now, &self.options);
            let mut done = Merged::Elsewhere;
            for plan in plans {
                if plan.output_level.is_some() && !self.make_sure_of_room(&plan.inputs) {
                    continue;
                }
                done = self.merge_one(plan, &catalog, now, until_done).await?;
                if done != Merged::Elsewhere {
                    break;
                }
            }
            merged += u64::from(done == Merged::Here);
            match done {
                Merged::Elsewhere => break,
                Merged::Unreadable => {}
                Merged::Here | Merged::Outdated if until_done => {}
                Merged::Here | Merged::Outdated => break,
            }
        }
        Ok(merged)
    }

    /// Executes a plan, unless another ingester does.
    async fn merge_one(
        &mut self,
        plan: MergePlan,
        catalog: &Arc<Catalog>,
        now: Timestamp,
        urgent: bool,
    ) -> Result<Merged, Error> {
        let inputs = plan.inputs.clone();
        let first = inputs.iter().map(|segment| segment.id).min();
        let lease = Lease::of_merge(first.unwrap_or(SegmentId(0)));
        let merge = self.merger.run(plan, catalog, now, urgent);
        match self.leases.hold(&lease, merge).await {
            Ok(Some(())) => Ok(Merged::Here),
            Ok(None) => Ok(Merged::Elsewhere),
            // Another one was faster: plan again from the new catalog.
            Err(error) if error.kind() == Kind::Conflict => Ok(Merged::Outdated),
            Err(_) if self.stop.load(Ordering::Relaxed) => Ok(Merged::Outdated),
            Err(error) => self.failed(error, &inputs).map(|()| Merged::Unreadable),
        }
    }

    /// Whether the disk has room for what these segments become; when it has not, notes that something
    /// waits for it, and tells that once.
    fn make_sure_of_room(&mut self, inputs: &[Arc<SegmentMeta>]) -> bool {
        if self.merger.has_room(inputs) {
            return true;
        }
        if !self.room_told {
            let segments = inputs.len();
            tracing::warn!(
                segments,
                "the disk of data_dir has no room to merge segments or to remove deleted records, beside that for the log; it is done when there is"
            );
        }
        (self.room_wanted, self.room_told) = (true, true);
        false
    }

    /// A little less than the time between two searches of one ingester.
    fn orphan_pause(&self) -> Duration {
        self.merger.interval() * (ROUNDS_PER_ORPHAN_SEARCH / 10 * 9)
    }

    /// Sets the segment aside that cannot be read, so that it does not hold up the others: until these
    /// are done, or for an hour when it is damaged or missing.
    ///
    /// # Errors
    /// The one given, when it is not about one of the segments, or too many cannot be read.
    fn failed(&mut self, error: Error, inputs: &[Arc<SegmentMeta>]) -> Result<(), Error> {
        self.metrics.merge_failures.inc();
        let object = match &error {
            Error::Segment(error) => error.object(),
            _ => None,
        };
        let input = inputs.iter().find(|input| object == Some(&*input.path));
        let Some(input) = input else {
            return Err(error);
        };
        let lost = matches!(error.kind(), Kind::Corrupt | Kind::NotFound);
        // Another may have merged it, and its object may be gone.
        let live = self.meta.catalog().segments.contains_key(&input.id);
        if lost && live {
            tracing::error!(path = &*input.path, %error, "a segment is damaged or missing; it is not merged, and queries of its times fail");
            self.metrics.corrupt_segments.inc();
            self.damaged.insert(input.id);
        } else if live {
            tracing::warn!(path = &*input.path, %error, "cannot read a segment; it is tried again after the others");
        }
        self.options.skip.insert(input.id);
        if self.unreadable.len() >= UNREADABLE_MAX {
            return Err(error);
        }
        self.unreadable.push(error);
        Ok(())
    }

    async fn clean(&self, orphans: bool) -> Result<u64, Error> {
        if !orphans && self.condemned().await?.is_empty() {
            return Ok(0);
        }
        let clean = async {
            let mut removed = self.remove_condemned().await?;
            if orphans {
                removed += self.remove_orphans().await?;
            }
            self.metrics.deleted_objects.inc_by(removed);
            Ok(removed)
        };
        Ok(self.leases.hold(CLEAN_LEASE, clean).await?.unwrap_or(0))
    }

    /// Objects that may go now.
    async fn condemned(&self) -> Result<Vec<Arc<str>>, Error> {
        let catalog = self.meta.catalog();
        if catalog.condemned.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now().await?;
        let due = catalog.condemned.iter().filter(|(_, after)| **after <= now);
        Ok(due.map(|(path, _)| Arc::clone(path)).collect())
    }

    async fn remove_condemned(&self) -> Result<u64, Error> {
        let due = self.condemned().await?;
        if due.is_empty() {
            return Ok(0);
        }
        for path in &due {
            self.storage.delete(path).await?;
        }
        let removed = due.len() as u64;
        self.meta.propose(Command::ForgetObjects(due)).await?;
        Ok(removed)
    }

    /// Removes segments that no catalog entry names and that are too old to be an upload whose
    /// commit is still to come. Lists before it reads the catalog: what is committed in between is
    /// then in the catalog. That is at least as new as the lease under which this is done: on a
    /// catalog that is behind, live objects of others would look like orphans.
    async fn remove_orphans(&self) -> Result<u64, Error> {
        let oldest = self.clock.now().await?.saturating_sub(self.orphan_age);
        let listed = self.storage.list(&self.folder).await?;
        let catalog = self.meta.catalog();
        let live: HashSet<&str> = catalog.segments.values().map(|s| &*s.path).collect();
        let mut removed = 0;
        for object in listed {
            let path = object.path.as_str();
            let named = live.contains(path) || catalog.condemned.contains_key(path);
            let left = !named && path.ends_with(".seg") && object.modified < oldest;
            // Deleting takes a while, and a rebuild of the catalog may name what is left meanwhile.
            if left && !objects::is_named(&self.meta.catalog(), path) {
                tracing::info!(path, "removing an object that a failed flush or merge left");
                self.storage.delete(path).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
