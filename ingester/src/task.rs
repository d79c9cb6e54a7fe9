use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{BatchId, HeadKey, NodeId, RingVersion, TenantId, TimeRange};
use rpc::{
    Catalog, Command, Error, HeadBatches, HeldBatch, IngestRequest, MetaApi, ReconcileRequest,
    Reconciled, TailSender,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::flush::Flusher;
use crate::metrics::Metrics;
use crate::placement;
use crate::rings::Rings;
use crate::start::Clock;
use crate::state::{Action, Event, FlushJob, State, Ticket, WriteId};
use crate::wal::{Replayed, WalCommand};

/// How often time is looked at: the precision of slot ends and of the wait for room.
const TICK: Duration = Duration::from_millis(100);
/// Batches of one answer to a pull: as much as one message between processes carries well. Whoever
/// wants more asks again.
const PULL_BYTES_MAX: usize = 8 << 20;

type Reply = oneshot::Sender<Result<(), Error>>;

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Message {
    Ingest {
        requests: Vec<IngestRequest>,
        reply: Reply,
    },
    Replayed {
        record: Replayed,
        reply: Reply,
    },
    Recent {
        tenant: TenantId,
        range: TimeRange,
        reply: oneshot::Sender<Vec<HeadBatches>>,
    },
    Reconcile {
        request: ReconcileRequest,
        reply: oneshot::Sender<Result<Reconciled, Error>>,
    },
    Pull {
        key: HeadKey,
        ids: Vec<BatchId>,
        reply: oneshot::Sender<Vec<HeldBatch>>,
    },
    Flush {
        reply: Reply,
    },
    /// The catalog says that this ingester is leaving.
    Leave {
        reply: Reply,
    },
    Shutdown {
        reply: Reply,
    },
    /// Something else happened.
    Event(Event),
    /// End now; what is not flushed stays in the log.
    Stop,
}

/// Owns the state; does what it decides and never waits for it.
pub(crate) struct Task {
    pub(crate) state: State,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) sender: mpsc::WeakSender<Message>,
    pub(crate) log: mpsc::UnboundedSender<WalCommand>,
    pub(crate) tail: TailSender,
    pub(crate) flusher: Flusher,
    pub(crate) node: NodeId,
    pub(crate) meta: Arc<dyn MetaApi>,
    /// What the state knows of the cluster.
    pub(crate) rings: Rings,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) replies: Replies,
    /// Empty between events; kept for its room.
    pub(crate) actions: Vec<Action>,
    /// Set while memory is short: merges make way.
    pub(crate) busy: Arc<AtomicBool>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    next: Ticket,
    waiting: HashMap<Ticket, Reply>,
    reconciling: HashMap<Ticket, oneshot::Sender<Result<Reconciled, Error>>>,
}

impl Task {
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let meta = Arc::clone(&self.meta);
        // Once what is known already, to begin with.
        let mut catalog_changed = meta.changed(0);
        loop {
            // What comes seldom first: messages, of which there may always be one, hold up neither
            // time nor news.
            let event = tokio::select! {
                biased;
                _ = tick.tick() => Some(Event::Tick),
                catalog = &mut catalog_changed => {
                    catalog_changed = meta.changed(catalog.version);
                    Some(self.news(&catalog))
                }
                message = self.messages.recv() => match message {
                    None | Some(Message::Stop) => return,
                    Some(message) => self.event_of(message),
                },
            };
            if let Some(event) = event {
                self.take(event);
            }
        }
    }

    fn take(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let mut next = Some(event);
        while let Some(event) = next.take() {
            self.state.on((self.clock)(), event, &mut actions);
            let mut refused = Vec::new();
            for action in actions.drain(..) {
                refused.extend(self.perform(action));
            }
            next = log_ended(refused);
        }
        self.actions = actions;
        self.busy
            .store(self.state.is_short_of_memory(), Ordering::Relaxed);
        self.metrics.heads.set(self.state.heads() as i64);
        self.metrics.head_bytes.set(self.state.bytes() as i64);
    }

    /// What concerns the state. Nothing of the catalog is kept, so that the next command need not
    /// copy it.
    fn news(&mut self, catalog: &Catalog) -> Event {
        let rings = self.rings.changed(&catalog.cluster, placement::place);
        if let Some(rings) = &rings {
            self.rings = rings.clone();
        }
        let covered = catalog.covered.get(&self.node.0);
        Event::Catalog {
            covered: covered.cloned().unwrap_or_default(),
            rings,
        }
    }

    fn event_of(&mut self, message: Message) -> Option<Event> {
        Some(match message {
            Message::Event(event) => event,
            Message::Ingest { requests, reply } => Event::Ingest {
                ticket: self.replies.add(reply),
                requests,
            },
            Message::Replayed { record, reply } => {
                match record {
                    Replayed::Covered(_) => self.metrics.covered.inc(),
                    Replayed::Batch { .. } => self.metrics.replayed.inc(),
                }
                let ticket = self.replies.add(reply);
                Event::Replayed { ticket, record }
            }
            Message::Flush { reply } => Event::Flush {
                ticket: self.replies.add(reply),
            },
            Message::Leave { reply } => {
                let news = self.news(&self.meta.catalog());
                self.take(news);
                Event::Leave {
                    ticket: self.replies.add(reply),
                }
            }
            Message::Reconcile { request, reply } => Event::Reconcile {
                ticket: self.replies.add_reconciling(reply),
                request,
            },
            Message::Pull { key, ids, reply } => {
                let _ = reply.send(self.state.pull(&key, &ids, PULL_BYTES_MAX));
                return None;
            }
            Message::Shutdown { reply } => Event::Shutdown {
                ticket: self.replies.add(reply),
            },
            Message::Recent {
                tenant,
                range,
                reply,
            } => {
                // A reader that went away needs no answer.
                let _ = reply.send(self.state.recent(&tenant, range));
                return None;
            }
            Message::Stop => return None,
        })
    }

    /// Returns a write that could not be handed to the log.
    fn perform(&mut self, action: Action) -> Option<WriteId> {
        match action {
            Action::Append(job) => {
                let write = job.write;
                return self
                    .log
                    .send(WalCommand::Append(job))
                    .is_err()
                    .then_some(write);
            }
            // Without the thread the file stays: the next start removes it.
            Action::RemoveLogFilesThrough(file) => {
                drop(self.log.send(WalCommand::RemoveThrough(file)));
            }
            Action::Answer { ticket, result } => self.replies.answer(ticket, result),
            Action::Publish(batch) => self.tail.send(batch),
            Action::StartFlush(job) => self.flush(job),
            Action::Duplicate => self.metrics.duplicates.inc(),
            Action::Reconciled { ticket, result } => {
                if let Some(reply) = self.replies.reconciling.remove(&ticket) {
                    // An owner that went away needs no answer.
                    let _ = reply.send(result);
                }
            }
            Action::CoveredByOthers(heads) => self.metrics.covered_heads.inc_by(heads),
            Action::Knows(ring) => self.knows(ring),
            Action::Drained(ring) => self.drained(ring),
        }
        None
    }

    fn knows(&self, ring: RingVersion) {
        let (meta, node) = (Arc::clone(&self.meta), self.node);
        tokio::spawn(async move {
            match meta.propose(Command::Knows(node, ring)).await {
                Ok(_) => tracing::debug!(ring = ring.0, "said that the next ring is known"),
                Err(error) => {
                    tracing::warn!(ring = ring.0, %error, "cannot say that the next ring is known; it is said again");
                }
            }
        });
    }

    fn drained(&self, ring: RingVersion) {
        let (meta, node) = (Arc::clone(&self.meta), self.node);
        tokio::spawn(async move {
            match meta.propose(Command::Drained(node, ring)).await {
                Ok(_) => tracing::info!(ring = ring.0, "holds nothing of the ring any more"),
                Err(error) => {
                    tracing::warn!(ring = ring.0, %error, "cannot say that nothing of a past ring is held any more; it is said again");
                }
            }
        });
    }

    fn flush(&self, job: FlushJob) {
        let (flusher, metrics) = (self.flusher.clone(), Arc::clone(&self.metrics));
        let sender = self.sender.clone();
        tokio::spawn(async move {
            // In a task of its own, so that a panic in it is a failed flush and not a lost worker.
            let flushed = job.clone();
            let flush = tokio::spawn(async move { flusher.run(flushed).await });
            let result = match flush.await {
                Ok(result) => result.map_err(Error::from),
                Err(error) => Err(Error::Internal(format!("a flush ended early: {error}"))),
            };
            let head = job.heads[0].sequence;
            match &result {
                Ok(_) => metrics.flushes.inc_by(job.heads.len() as u64),
                Err(error @ Error::Conflict(_)) if !job.others.is_empty() => {
                    tracing::debug!(head, %error, "left a flush to another owner");
                }
                Err(error) => {
                    metrics.flush_failures.inc();
                    tracing::warn!(head, %error, "cannot flush a head; its records stay in memory and in the log, and it is tried again");
                }
            }
            if let Some(sender) = sender.upgrade() {
                // The task is gone only when it was told to stop.
                let event = Event::Flushed { job, result };
                let _ = sender.send(Message::Event(event)).await;
            }
        });
    }
}

fn log_ended(writes: Vec<WriteId>) -> Option<Event> {
    let text = "the log's thread has ended, a defect; restart the process";
    (!writes.is_empty()).then(|| Event::AppendFailed {
        writes,
        error: Error::Internal(text.to_owned()),
    })
}

impl Replies {
    fn add(&mut self, reply: Reply) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, reply);
        ticket
    }

    fn add_reconciling(&mut self, reply: oneshot::Sender<Result<Reconciled, Error>>) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.reconciling.insert(ticket, reply);
        ticket
    }

    fn answer(&mut self, ticket: Ticket, result: Result<(), Error>) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // A caller that went away needs no answer.
            let _ = reply.send(result);
        }
    }
}
