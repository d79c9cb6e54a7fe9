//! What an ingester decides: which head a batch feeds, what is acknowledged, what is flushed when,
//! which log files may go. Events in, actions out; no clock, no lock, no I/O.
//!
//! ```text
//! Ingest --> ring? --newer--> wait for the catalog; --older, closed--> refuse
//!              |
//!              +--> room? --no--> wait, refuse at the deadline
//!              |
//!              +--> seen? --yes--> answer
//!              |
//!              +--> head of its key --Append--> log --Appended--> in the head, Publish, Answer
//!
//! head: open --full, old, largest under pressure, asked--> sealed --StartFlush--> flushing --Flushed--> gone
//!                                                            ^--------- failed, later again -----'
//!                    '--Reconcile: another owner flushes--> sealed --Catalog: covered--> gone
//! ```
//!
//! With other owners all heads of a key are flushed together, by one owner after the other: the
//! first at the end of the slot, each later one `takeover_delay` after the one before it, unless the
//! catalog covers its heads by then. Nobody waits for owners that have drained a past ring or were
//! forgotten.
//!
//! Invariants:
//! - A batch is in a head only after its record is durable, and is answered only after that.
//! - A head is flushed only when no write to it is under way and, during replay, when its last
//!   record was read: a commit covers the head for ever.
//! - A head is committed, or told to another owner, only when its number is in the log: a number that
//!   is not would be used again after a crash, and the commit would cover what came since.
//! - A head leaves memory only when a commit, its own or another owner's, covers it; a log file goes
//!   only after all its heads left and all older files went.
//! - Bytes held are at most `memory_bytes_max` plus one request; waiting requests hold at most a
//!   quarter of it, plus one request.

mod cluster;
mod delays;
mod flush;
mod flushed;
mod head;
mod ingest;
mod log_files;
mod replay;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use model::{
    BatchId, Digest, HeadId, HeadKey, NodeId, RingVersion, SlotLength, TenantId, TimeRange,
    Timestamp,
};
use rpc::{
    CoveredHeads, Error, HeadBatches, HeldBatch, IngestRequest, ReconcileRequest, Reconciled,
};

use self::flush::Asked;
use self::flushed::Flushed;
use self::head::Head;
use self::log_files::LogFileUse;
use self::seen::Seen;
use crate::Config;
use crate::config::nanos;
use crate::rings::Rings;
use crate::wal::{AppendJob, Replayed};

/// A write on its way to the log.
pub(crate) type WriteId = u64;
/// Somebody who waits for an answer.
pub(crate) type Ticket = u64;

/// Writes under way at the same time, for which the log's queue and the answers need room: 4096 of
/// about 100 bytes each, besides the batches, which are counted as memory.
const WRITES_MAX: usize = 4096;
/// Log files that may pile up before the heads that keep the oldest are flushed early: with files of
/// 64 MiB, 512 MiB of disk, and what is written while those heads are flushed.
const LOG_FILES_MAX: usize = 8;
/// First and last delay before a failed flush is tried again.
const RETRY_NANOS: (i64, i64) = (500_000_000, 30_000_000_000);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody wants batches stored.
    Ingest {
        ticket: Ticket,
        requests: Vec<IngestRequest>,
    },
    /// These writes are durable, in this log file.
    Appended { writes: Vec<WriteId>, file: u64 },
    /// These writes are not in the log.
    AppendFailed { writes: Vec<WriteId>, error: Error },
    /// A record was read from the log; answered when there is room for the next.
    Replayed { ticket: Ticket, record: Replayed },
    /// All records were read.
    ReplayDone,
    /// Somebody wants everything acknowledged so far in the catalog.
    Flush { ticket: Ticket },
    /// A flush ended; what of the key is in segments besides the job's own heads.
    Flushed {
        job: FlushJob,
        result: Result<Vec<BatchId>, Error>,
    },
    /// The catalog covers these heads of this ingester; the cluster has other rings.
    Catalog {
        covered: CoveredHeads,
        rings: Option<Rings>,
    },
    /// Another owner is about to flush.
    Reconcile {
        ticket: Ticket,
        request: ReconcileRequest,
    },
    /// Take nothing more, flush everything, answer; failures do not end it.
    Leave { ticket: Ticket },
    /// Time passed.
    Tick,
    /// Refuse new batches, flush everything, answer.
    Shutdown { ticket: Ticket },
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Append(AppendJob),
    Answer {
        ticket: Ticket,
        result: Result<(), Error>,
    },
    Publish(HeldBatch),
    StartFlush(FlushJob),
    Reconciled {
        ticket: Ticket,
        result: Result<Reconciled, Error>,
    },
    /// So many heads are covered by other owners' commits.
    CoveredByOthers(u64),
    /// The catalog here has this next ring, and no older one will be told to readers.
    Knows(RingVersion),
    /// This ingester holds no head of this ring or an older one, and takes no more for them.
    Drained(RingVersion),
    /// This log file and all older ones feed no head any more.
    RemoveLogFilesThrough(u64),
    /// A batch that had been stored already.
    Duplicate,
}

/// Heads of one key to be written and committed: one head where there is no other owner, otherwise
/// all that there are.
#[derive(Clone, Debug)]
pub(crate) struct FlushJob {
    pub(crate) key: HeadKey,
    /// Never empty.
    pub(crate) heads: Vec<HeadId>,
    /// Of the first head; of all its batches, that is, where there is no other owner.
    pub(crate) digest: Digest,
    pub(crate) batches: Vec<HeldBatch>,
    /// Batches of the key that are known to be in segments.
    pub(crate) flushed: Vec<BatchId>,
    /// The other owners of the key.
    pub(crate) others: Vec<NodeId>,
    /// How often it failed before.
    pub(crate) attempt: u32,
}

/// Where an ingester starts from.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) ingester: u64,
    /// First head sequence that was never used.
    pub(crate) next_head: u64,
    /// Smaller ones that are neither in the log nor in the catalog: free to be used.
    pub(crate) free: BTreeSet<u64>,
    /// First log file number that is still to be written.
    pub(crate) next_file: u64,
    /// Log files that are there.
    pub(crate) files: Vec<u64>,
    /// Heads of this ingester that the catalog covers.
    pub(crate) covered: CoveredHeads,
    pub(crate) rings: Rings,
}

#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    ingester: u64,
    next_head: u64,
    free: BTreeSet<u64>,
    next_write: WriteId,
    replaying: bool,
    heads: BTreeMap<u64, Head>,
    open: HashMap<HeadKey, u64>,
    sealed: BTreeSet<u64>,
    flushing: usize,
    /// Bytes of heads and of writes under way.
    bytes: usize,
    writes: HashMap<WriteId, Write>,
    callers: HashMap<Ticket, Caller>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Requests for a ring that is not known yet.
    early: VecDeque<Waiting>,
    replay_waits: Option<Ticket>,
    flush_waiters: Vec<FlushWaiter>,
    reconciling: Vec<Reconciling>,
    stopping: bool,
    seen: Seen,
    flushed: Flushed,
    files: LogFileUse,
    covered: CoveredHeads,
    rings: Rings,
    /// Batches for this ring and older ones are refused.
    fenced: RingVersion,
    /// Since when each past ring is known to be one.
    past_since: BTreeMap<RingVersion, Timestamp>,
    /// The ring that was last said to be known, and when to say so again.
    told: (RingVersion, Timestamp),
    /// The ring that was last said to be drained, and when to say so again.
    drained: (RingVersion, Timestamp),
    leaving: bool,
    /// What the clock showed last.
    latest: Timestamp,
}

#[derive(Debug)]
struct Settings {
    slot_length: SlotLength,
    slot_grace: i64,
    head_bytes_max: usize,
    memory_bytes_max: usize,
    room_wait: i64,
    flush_workers: usize,
    takeover_delay: i64,
}

/// A batch whose record is being written.
#[derive(Debug)]
struct Write {
    head: u64,
    request: IngestRequest,
    bytes: usize,
    callers: Vec<Ticket>,
}

/// Somebody whose batches are being written.
#[derive(Debug, Default)]
struct Caller {
    left: usize,
    error: Option<Error>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    requests: Vec<IngestRequest>,
    bytes: usize,
    deadline: Timestamp,
}

#[derive(Debug)]
struct FlushWaiter {
    ticket: Ticket,
    heads: BTreeSet<u64>,
    asked: Asked,
}

/// Another owner that waits for writes to the heads of a key to end.
#[derive(Debug)]
struct Reconciling {
    ticket: Ticket,
    request: ReconcileRequest,
    heads: Vec<u64>,
}

impl State {
    pub(crate) fn new(config: &Config, start: Start) -> Self {
        let settings = Settings {
            slot_length: config.slot_length,
            slot_grace: nanos(config.slot_grace),
            head_bytes_max: config.head_bytes_max,
            memory_bytes_max: config.memory_bytes_max,
            room_wait: nanos(config.room_wait),
            flush_workers: config.flush_workers,
            takeover_delay: nanos(config.takeover_delay),
        };
        // Who sends for a ring that was past when this run began can choose again.
        let fenced = start.rings.undrained().next_back().unwrap_or_default();
        State {
            seen: Seen::new(settings.slot_length.0.saturating_mul(2)),
            settings,
            ingester: start.ingester,
            next_head: start.next_head,
            free: start.free,
            next_write: 0,
            replaying: true,
            heads: BTreeMap::new(),
            open: HashMap::new(),
            sealed: BTreeSet::new(),
            flushing: 0,
            bytes: 0,
            writes: HashMap::new(),
            callers: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            early: VecDeque::new(),
            replay_waits: None,
            flush_waiters: Vec::new(),
            reconciling: Vec::new(),
            stopping: false,
            flushed: Flushed::default(),
            files: LogFileUse::new(start.next_file, &start.files),
            covered: start.covered,
            rings: start.rings,
            fenced,
            past_since: BTreeMap::new(),
            told: (RingVersion(0), Timestamp::MIN),
            drained: (RingVersion(0), Timestamp::MIN),
            leaving: false,
            latest: Timestamp::MIN,
        }
    }

    /// Takes one event; `out` is given what is to be done, in order.
    pub(crate) fn on(&mut self, now: Timestamp, event: Event, out: &mut Vec<Action>) {
        self.see_clock(now);
        match event {
            Event::Ingest { ticket, requests } => self.ingest(now, ticket, requests, out),
            Event::Appended { writes, file } => self.appended(&writes, file, out),
            Event::AppendFailed { writes, error } => self.append_failed(&writes, &error, out),
            Event::Replayed { ticket, record } => self.replayed(now, ticket, record, out),
            Event::ReplayDone => self.replay_done(),
            Event::Flush { ticket } => self.flush(now, ticket, Asked::Acknowledged),
            Event::Flushed { job, result } => self.flush_ended(now, &job, result, out),
            Event::Catalog { covered, rings } => self.catalog(now, covered, rings, out),
            Event::Reconcile { ticket, request } => self.reconcile(now, ticket, request, out),
            Event::Tick => self.tick(now, out),
            Event::Shutdown { ticket } => self.shutdown(now, ticket, out),
            Event::Leave { ticket } => self.leave(now, ticket),
        }
        self.admit_waiting(now, out);
        self.relieve_log(now);
        self.relieve_pressure(now);
        self.answer_reconciling(out);
        self.start_flushes(now, out);
        self.answer_flush_waiters(out);
        self.tell(now, out);
        if !self.replaying {
            self.drain(now, out);
            out.extend(self.files.take_unused().map(Action::RemoveLogFilesThrough));
        }
    }

    /// Heads in memory.
    pub(crate) fn heads(&self) -> usize {
        self.heads.len()
    }

    /// Bytes of heads and of writes under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether memory is half used or more: then the largest head is flushed early.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.bytes >= self.settings.memory_bytes_max / 2
    }

    /// Batches of the tenant that touch the range, by head.
    pub(crate) fn recent(&self, tenant: &TenantId, range: TimeRange) -> Vec<HeadBatches> {
        let heads = self.heads.iter().map(|(sequence, head)| HeadBatches {
            head: self.id(*sequence),
            key: head.key,
            batches: head.matching(tenant, range),
        });
        heads.filter(|head| !head.batches.is_empty()).collect()
    }

    fn id(&self, sequence: u64) -> HeadId {
        HeadId {
            ingester: self.ingester,
            sequence,
        }
    }

    fn has_room(&self) -> bool {
        self.bytes < self.settings.memory_bytes_max && self.writes.len() < WRITES_MAX
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while let Some(first) = self.waiting.front()
            && first.deadline <= now
        {
            let result = Err(self.exhausted());
            if let Some(first) = self.waiting.pop_front() {
                self.waiting_bytes -= first.bytes;
                let ticket = first.ticket;
                out.push(Action::Answer { ticket, result });
            }
        }
        self.refuse_early(now, out);
        let is_over = |(key, sequence): &(&HeadKey, &u64)| {
            let head = self.heads.get(*sequence);
            self.slot_over(key) <= now || head.is_some_and(|head| head.latest <= now)
        };
        let ended = self.open.iter().filter(is_over);
        let ended: Vec<(HeadKey, u64)> = ended.map(|(key, s)| (*key, *s)).collect();
        for (key, sequence) in ended {
            let due = self.turn(&key, self.slot_over(&key));
            self.seal(sequence, due);
        }
        self.seen.expire(now);
    }
}

fn stopping() -> Error {
    Error::Unavailable("the ingester is shutting down; send again to another or later".to_owned())
}
