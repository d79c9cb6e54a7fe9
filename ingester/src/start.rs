use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use model::{HeadId, NodeId, Timestamp};
use rpc::{Catalog, Command, MetaApi, Network, Ring, TailSender};
use runtime::{Blocking, Panicked};
use store::ObjectStorage;
use tokio::sync::{mpsc, oneshot};

use crate::alarm::Alarm;
use crate::flush::Flusher;
use crate::handle::Ingester;
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::placement;
use crate::rings::Rings;
use crate::state::{Event, Start, State};
use crate::task::{Message, Replies, Task};
use crate::wal::{self, LogFiles, LogFolder, LogWriter, Plan, WalThread};
use crate::{Config, Error};

/// How long to wait before the coordinator is asked again.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(500);

/// Tells the time, nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Requests and results queued for the task. Each is small, or holds batches that somebody waits
/// for: receivers bound those by their own connection and body limits.
const MESSAGES_MAX: usize = 256;
/// Batches that a slow receiver of the tail may be behind, and their bytes. They are shared with the
/// heads, and only kept while somebody listens.
const TAIL_BATCHES_MAX: usize = 64;
const TAIL_BYTES_MAX: usize = 32 << 20;

/// What an ingester works with.
#[derive(Clone)]
pub struct Deps {
    /// The number of this process in the cluster; the data folder is its alone.
    pub node: NodeId,
    /// What tells the cluster's objects from those of others in the same storage: letters and
    /// digits, drawn when the cluster was made.
    pub cluster: Arc<str>,
    /// Where segments go.
    pub storage: ObjectStorage,
    /// The coordinator.
    pub meta: Arc<dyn MetaApi>,
    /// The way to other ingesters; `None` where there are none.
    pub network: Option<Arc<dyn Network>>,
    /// The time.
    pub clock: Clock,
    /// The time at the storage; `None`: the storage is asked.
    pub storage_clock: Option<Clock>,
    /// What it counts.
    pub metrics: Metrics,
    /// The disk under the log; `None` for the folder `wal` of the data folder.
    pub log_files: Option<Arc<dyn LogFiles>>,
    /// Where encoding, merging and the log's disk are waited for.
    pub blocking: Blocking,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").finish_non_exhaustive()
    }
}

impl Ingester {
    /// Starts an ingester: reads the log back, and then takes batches. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// `Config`; `Wal` and `Log` when acknowledged records of the log are missing or damaged;
    /// `File`; `Meta` when a new ingester cannot be registered.
    pub async fn start(config: Config, mut deps: Deps) -> Result<Ingester, Error> {
        config.validate()?;
        fs::create_dir_all(&config.data_dir).map_err(|source| {
            Error::of_file("make", config.data_dir.display().to_string(), source)
        })?;
        remove_unfinished(&config.data_dir)?;
        let id = deps.node.0;
        let files = log_files(&config, &deps)?;
        deps.log_files = Some(Arc::clone(&files));
        let (plan, claimed) = {
            let files = Arc::clone(&files);
            let look = move || Ok((wal::plan(&*files, id)?, wal::is_claimed(&*files)?));
            finished(deps.blocking.run(look).await)?
        };
        let metrics = Arc::new(deps.metrics.clone());
        let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
        let file_bytes_max = config.wal_file_bytes_max;
        let writer = LogWriter::new(Arc::clone(&files), id, file_bytes_max, plan.start);
        let alarm = Alarm::default();
        let (log, thread) = WalThread::spawn(
            writer,
            messages.downgrade(),
            Arc::clone(&metrics),
            &deps.blocking,
            alarm.guard("the log's thread"),
        )?;
        let busy = Arc::new(AtomicBool::new(false));
        let tail = TailSender::new(TAIL_BATCHES_MAX, TAIL_BYTES_MAX);
        if deps.network.is_some() {
            catch_up(&deps).await;
            if plan.files.is_empty() && !claimed {
                refuse_lost_log(&config, &deps)?;
            }
        }
        if !claimed {
            let files = Arc::clone(&files);
            finished(deps.blocking.run(move || wal::claim(&*files)).await)?;
        }
        let start = start_of(&plan, deps.node, &deps.meta.catalog());
        let rings = start.rings.clone();
        let task = Task {
            state: State::new(&config, start),
            messages: receiver,
            sender: messages.downgrade(),
            log,
            tail: tail.clone(),
            flusher: Flusher::new(&config, &deps, Arc::clone(&metrics)),
            node: deps.node,
            meta: Arc::clone(&deps.meta),
            rings,
            clock: Arc::clone(&deps.clock),
            metrics: Arc::clone(&metrics),
            replies: Replies::default(),
            actions: Vec::new(),
            busy: Arc::clone(&busy),
        };
        let task = alarm.spawn("the task", task.run());
        replay(files, plan, &deps, &messages).await?;
        let (heads, owner_timeout) = (messages.downgrade(), config.owner_timeout);
        let maintenance = Maintenance::start(id, &config, &deps, metrics, (busy, heads), &alarm);
        Ok(Ingester::new(
            id,
            Arc::clone(&deps.meta),
            messages,
            tail,
            maintenance,
            owner_timeout,
            (task, thread, alarm),
        ))
    }
}

/// The disk under the log.
fn log_files(config: &Config, deps: &Deps) -> Result<Arc<dyn LogFiles>, Error> {
    if let Some(files) = &deps.log_files {
        return Ok(Arc::clone(files));
    }
    let folder = config.data_dir.join("wal");
    let opened = LogFolder::open(&folder)
        .map_err(|source| Error::of_file("open", folder.display().to_string(), source))?;
    Ok(Arc::new(opened))
}

/// Removes what merges of an earlier run left unfinished.
fn remove_unfinished(data_dir: &Path) -> Result<(), Error> {
    let folder = data_dir.join("tmp");
    match fs::remove_dir_all(&folder) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::of_file(
            "remove",
            folder.display().to_string(),
            source,
        )),
        _ => Ok(()),
    }
}

/// Hands the log's records to the task, one at a time, each when there is room for it.
async fn replay(
    files: Arc<dyn LogFiles>,
    plan: Plan,
    deps: &Deps,
    messages: &mpsc::Sender<Message>,
) -> Result<(), Error> {
    let (ingester, catalog) = (deps.node.0, deps.meta.catalog());
    let (sender, blocking) = (messages.clone(), deps.blocking.clone());
    let ended = || Error::Stopped("the ingester's task ended while the log was read".to_owned());
    let read = move || {
        let covered = |sequence| catalog.covers(HeadId { ingester, sequence });
        wal::read(&*files, &plan, covered, |record| {
            let (reply, answer) = oneshot::channel();
            let message = Message::Replayed { record, reply };
            let answer = blocking.wait(async {
                sender.send(message).await.map_err(|_| ended())?;
                answer.await.map_err(|_| ended())
            })?;
            answer.map_err(Error::from)
        })
    };
    finished(deps.blocking.run(read).await)?;
    let done = Message::Event(Event::ReplayDone);
    messages.send(done).await.map_err(|_| ended())
}

/// Waits until the catalog here has all that was committed before: heads that it covers, and whose
/// log is gone, must not be taken for free, and no reader may be told of an older catalog than before.
/// What is proposed for that says which ring is known here, and that is so from here on.
async fn catch_up(deps: &Deps) {
    let cluster = &deps.meta.catalog().cluster;
    let next = cluster.next_ring.as_ref().map(|next| &next.ring);
    let ring = next.unwrap_or(&cluster.ring).version;
    while let Err(error) = deps.meta.propose(Command::Knows(deps.node, ring)).await {
        tracing::warn!(%error, "the coordinator does not answer; the ingester starts when it does");
        tokio::time::sleep(CATCH_UP_PAUSE).await;
    }
}

/// An ingester that comes back without its log must not be counted among those who have what was
/// acknowledged: readers would take its silence about a record for an answer, and a commit of another
/// owner may be on its way that names heads whose numbers it would use again. Under a new number it
/// is counted as lost, and nobody relies on it.
fn refuse_lost_log(config: &Config, deps: &Deps) -> Result<(), Error> {
    let (node, catalog) = (deps.node, deps.meta.catalog());
    let mut rings = catalog.cluster.readable_rings();
    let counted_on = |ring: &Ring| ring.members.contains_key(&node) && ring.members.len() > 1;
    if !rings.any(counted_on) {
        return Ok(());
    }
    let folder = config.data_dir.display();
    Err(Error::Log(format!(
        "the log of ingester {node} in {folder}/wal is gone, and others count on the records in it: put the folder back, or remove all of {folder}, so that it joins as a new ingester and the other owners store what they have",
        node = node.0
    )))
}

/// Heads are numbered above everything that the log or the catalog has seen.
fn start_of(plan: &Plan, node: NodeId, catalog: &Catalog) -> Start {
    let covered = catalog.covered.get(&node.0).cloned().unwrap_or_default();
    let last = covered.also.last().map_or(0, |last| last + 1);
    let logged = plan.records.keys().max().map_or(0, |last| last + 1);
    let next_head = covered.below.max(last).max(logged).max(1);
    let used = |head: &u64| covered.contains(*head) || plan.records.contains_key(head);
    let free = (covered.below.max(1)..next_head).filter(|head| !used(head));
    let none = Rings::none(node);
    let rings = none.changed(&catalog.cluster, placement::place);
    Start {
        ingester: node.0,
        next_head,
        free: free.collect(),
        next_file: plan.start.next_file,
        files: plan.files.keys().copied().collect(),
        covered,
        rings: rings.unwrap_or(none),
    }
}

fn finished<T>(read: Result<Result<T, Error>, Panicked>) -> Result<T, Error> {
    read.map_err(|error| Error::Stopped(format!("reading the log ended early: {error}")))?
}
