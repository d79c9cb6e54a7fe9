//! What an ingester decides: which head a batch feeds, what is acknowledged, what is flushed when,
//! which log files may go. Events in, actions out; no clock, no lock, no I/O.
//!
//! ```text
//! Ingest --> room? --no--> wait, refuse at the deadline
//!              |
//!              +--> seen? --yes--> answer
//!              |
//!              +--> head of (shard, slot) --Append--> log --Appended--> in the head, Publish, Answer
//!
//! head: open --full, old, largest under pressure, asked--> sealed --StartFlush--> flushing --Flushed--> gone
//!                                                            ^--------- failed, later again -----'
//! ```
//!
//! Invariants:
//! - A batch is in a head only after its record is durable, and is answered only after that.
//! - A head is flushed only when no write to it is under way and, during replay, when its last
//!   record was read: a commit covers the head for ever.
//! - A head leaves memory only after its commit; a log file goes only after all its heads left and
//!   all older files went.
//! - Bytes held are at most `memory_bytes_max` plus one request; waiting requests hold at most a
//!   quarter of it, plus one request.

mod head;
mod log_files;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use model::{Digest, HeadId, LogBatch, Shard, Slot, SlotLength, TenantId, TimeRange, Timestamp};
use rpc::{Error, HeadBatches, IngestRequest};
use segment::wal::Filing;

use self::head::{Head, Held, Stage};
use self::log_files::LogFileUse;
use self::seen::{Mark, Seen};
use crate::Config;
use crate::config::nanos;
use crate::wal::{AppendJob, Replayed};

/// A write on its way to the log.
pub(crate) type WriteId = u64;
/// Somebody who waits for an answer.
pub(crate) type Ticket = u64;

/// Writes under way at the same time, for which the log's queue and the answers need room: 4096 of
/// about 100 bytes each, besides the batches, which are counted as memory.
const WRITES_MAX: usize = 4096;
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
    /// A flush ended.
    Flushed {
        head: u64,
        result: Result<(), Error>,
    },
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
    Publish(Arc<LogBatch>),
    StartFlush(FlushJob),
    /// This log file and all older ones feed no head any more.
    RemoveLogFilesThrough(u64),
    /// A batch that had been stored already.
    Duplicate,
}

/// A head to be written and committed.
#[derive(Clone, Debug)]
pub(crate) struct FlushJob {
    pub(crate) head: HeadId,
    pub(crate) shard: Shard,
    pub(crate) slot: Slot,
    pub(crate) digest: Digest,
    pub(crate) batches: Vec<Arc<LogBatch>>,
    /// How often it failed before.
    pub(crate) attempt: u32,
}

/// Where an ingester starts from.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) ingester: u64,
    /// First head sequence that was never used.
    pub(crate) next_head: u64,
    /// First log file number that is still to be written.
    pub(crate) next_file: u64,
    /// Log files that are there.
    pub(crate) files: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    ingester: u64,
    next_head: u64,
    next_write: WriteId,
    replaying: bool,
    heads: BTreeMap<u64, Head>,
    open: HashMap<(Shard, Slot), u64>,
    sealed: BTreeSet<u64>,
    flushing: usize,
    /// Bytes of heads and of writes under way.
    bytes: usize,
    writes: HashMap<WriteId, Write>,
    callers: HashMap<Ticket, Caller>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    replay_waits: Option<Ticket>,
    flush_waiters: Vec<FlushWaiter>,
    stopping: bool,
    seen: Seen,
    files: LogFileUse,
}

#[derive(Debug)]
struct Settings {
    slot_length: SlotLength,
    slot_grace: i64,
    head_bytes_max: usize,
    memory_bytes_max: usize,
    room_wait: i64,
    flush_workers: usize,
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
    /// Answered at the first failure; a shutdown also waits for writes under way.
    shutdown: bool,
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
        };
        State {
            seen: Seen::new(settings.slot_length.0.saturating_mul(2)),
            settings,
            ingester: start.ingester,
            next_head: start.next_head,
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
            replay_waits: None,
            flush_waiters: Vec::new(),
            stopping: false,
            files: LogFileUse::new(start.next_file, &start.files),
        }
    }

    /// Takes one event; `out` is given what is to be done, in order.
    pub(crate) fn on(&mut self, now: Timestamp, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Ingest { ticket, requests } => self.ingest(now, ticket, requests, out),
            Event::Appended { writes, file } => self.appended(&writes, file, out),
            Event::AppendFailed { writes, error } => self.append_failed(&writes, &error, out),
            Event::Replayed { ticket, record } => self.replayed(now, ticket, record, out),
            Event::ReplayDone => self.replay_done(),
            Event::Flush { ticket } => self.flush(now, ticket, false),
            Event::Flushed { head, result } => self.flushed(now, head, result, out),
            Event::Tick => self.tick(now, out),
            Event::Shutdown { ticket } => self.shutdown(now, ticket, out),
        }
        self.admit_waiting(out);
        self.relieve_pressure();
        self.start_flushes(now, out);
        self.answer_flush_waiters(out);
        if !self.replaying {
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

    /// Batches of the tenant that touch the range, by head.
    pub(crate) fn recent(&self, tenant: &TenantId, range: TimeRange) -> Vec<HeadBatches> {
        let heads = self.heads.iter().map(|(sequence, head)| HeadBatches {
            head: self.id(*sequence),
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

    fn ingest(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        requests: Vec<IngestRequest>,
        out: &mut Vec<Action>,
    ) {
        if self.stopping {
            let result = Err(stopping());
            out.push(Action::Answer { ticket, result });
            return;
        }
        if self.waiting.is_empty() && self.has_room() {
            self.admit(ticket, requests, out);
            return;
        }
        let bytes = requests.iter().map(|r| head::bytes_of(&r.batch)).sum();
        let waiting_max = self.settings.memory_bytes_max / 4;
        if !self.waiting.is_empty() && self.waiting_bytes + bytes > waiting_max {
            let result = Err(self.exhausted());
            out.push(Action::Answer { ticket, result });
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting {
            ticket,
            requests,
            bytes,
            deadline: now.saturating_add(self.settings.room_wait),
        });
    }

    fn exhausted(&self) -> Error {
        Error::Exhausted {
            reason: format!(
                "the ingester holds {} bytes that are not yet in object storage, and may hold {} (memory_bytes_max); send again later",
                self.bytes, self.settings.memory_bytes_max
            ),
            retry_after_seconds: 1,
        }
    }

    fn admit_waiting(&mut self, out: &mut Vec<Action>) {
        while self.has_room()
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.waiting_bytes -= waiting.bytes;
            self.admit(waiting.ticket, waiting.requests, out);
        }
    }

    fn admit(&mut self, ticket: Ticket, requests: Vec<IngestRequest>, out: &mut Vec<Action>) {
        let mut left = 0;
        for request in requests {
            if request.batch.is_empty() {
                continue;
            }
            match self.seen.get(request.batch_id) {
                Some(Mark::Stored) => out.push(Action::Duplicate),
                Some(Mark::Writing(write)) => {
                    out.push(Action::Duplicate);
                    if let Some(write) = self.writes.get_mut(&write) {
                        write.callers.push(ticket);
                        left += 1;
                    }
                }
                None => {
                    self.write(ticket, request, out);
                    left += 1;
                }
            }
        }
        if left == 0 {
            let result = Ok(());
            out.push(Action::Answer { ticket, result });
            return;
        }
        self.callers.insert(ticket, Caller { left, error: None });
    }

    fn write(&mut self, ticket: Ticket, request: IngestRequest, out: &mut Vec<Action>) {
        let bytes = head::bytes_of(&request.batch);
        let sequence = self.head_for(request.shard, request.slot);
        let write = self.next_write;
        self.next_write += 1;
        self.bytes += bytes;
        if let Some(head) = self.heads.get_mut(&sequence) {
            head.bytes += bytes;
            head.pending += 1;
            if head.bytes >= self.settings.head_bytes_max {
                self.seal(sequence);
            }
        }
        self.seen.writing(request.batch_id, write);
        out.push(Action::Append(AppendJob {
            write,
            filing: Filing {
                head: self.id(sequence),
                batch_id: request.batch_id,
                shard: request.shard,
                slot: request.slot,
            },
            batch: Arc::clone(&request.batch),
        }));
        self.writes.insert(
            write,
            Write {
                head: sequence,
                request,
                bytes,
                callers: vec![ticket],
            },
        );
    }

    /// The open head of the shard and slot.
    fn head_for(&mut self, shard: Shard, slot: Slot) -> u64 {
        if let Some(sequence) = self.open.get(&(shard, slot)) {
            return *sequence;
        }
        let sequence = self.next_head;
        self.next_head += 1;
        self.heads.insert(sequence, Head::new(shard, slot, true));
        self.open.insert((shard, slot), sequence);
        sequence
    }

    fn appended(&mut self, writes: &[WriteId], file: u64, out: &mut Vec<Action>) {
        for id in writes {
            let Some(write) = self.writes.remove(id) else {
                continue;
            };
            self.files.feeds(file, write.head);
            self.seen.stored(write.request.batch_id);
            if let Some(head) = self.heads.get_mut(&write.head) {
                head.pending -= 1;
                head.push(Held::new(
                    write.request.batch_id,
                    Arc::clone(&write.request.batch),
                ));
            }
            out.push(Action::Publish(write.request.batch));
            for ticket in write.callers {
                self.written(ticket, None, out);
            }
        }
    }

    fn append_failed(&mut self, writes: &[WriteId], error: &Error, out: &mut Vec<Action>) {
        for id in writes {
            let Some(write) = self.writes.remove(id) else {
                continue;
            };
            self.seen.forget(write.request.batch_id);
            self.bytes -= write.bytes;
            if let Some(head) = self.heads.get_mut(&write.head) {
                head.pending -= 1;
                head.bytes -= write.bytes;
            }
            for ticket in write.callers {
                self.written(ticket, Some(error.clone()), out);
            }
        }
    }

    /// One of the caller's batches is done.
    fn written(&mut self, ticket: Ticket, error: Option<Error>, out: &mut Vec<Action>) {
        let Some(caller) = self.callers.get_mut(&ticket) else {
            return;
        };
        caller.left -= 1;
        caller.error = caller.error.take().or(error);
        if caller.left == 0
            && let Some(caller) = self.callers.remove(&ticket)
        {
            let result = caller.error.map_or(Ok(()), Err);
            out.push(Action::Answer { ticket, result });
        }
    }

    fn replayed(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        record: Replayed,
        out: &mut Vec<Action>,
    ) {
        match record {
            Replayed::Covered(batch_id) => self.seen.flushed(vec![batch_id], now),
            Replayed::Batch {
                file,
                filing,
                batch,
                last_of_head,
            } => {
                let sequence = filing.head.sequence;
                self.replay_head(sequence, filing.shard, filing.slot, last_of_head);
                self.files.feeds(file, sequence);
                if self.seen.get(filing.batch_id).is_none() {
                    self.seen.stored(filing.batch_id);
                    let bytes = head::bytes_of(&batch);
                    self.bytes += bytes;
                    if let Some(head) = self.heads.get_mut(&sequence) {
                        head.bytes += bytes;
                        head.push(Held::new(filing.batch_id, Arc::new(batch)));
                    }
                }
            }
        }
        let complete = |sequence: &u64| self.heads.get(sequence).is_some_and(|h| h.complete);
        let room_may_come = self.flushing > 0 || self.sealed.iter().any(complete);
        if self.bytes >= self.settings.memory_bytes_max && room_may_come {
            self.replay_waits = Some(ticket);
            return;
        }
        let result = Ok(());
        out.push(Action::Answer { ticket, result });
    }

    fn replay_head(&mut self, sequence: u64, shard: Shard, slot: Slot, last: bool) {
        self.next_head = self.next_head.max(sequence + 1);
        if !self.heads.contains_key(&sequence) {
            self.heads.insert(sequence, Head::new(shard, slot, false));
            if let Some(before) = self.open.insert((shard, slot), sequence) {
                self.sealed.insert(before);
                if let Some(head) = self.heads.get_mut(&before) {
                    head.stage = Stage::Sealed;
                }
            }
        }
        if last && let Some(head) = self.heads.get_mut(&sequence) {
            head.complete = true;
        }
    }

    fn replay_done(&mut self) {
        self.replaying = false;
        for head in self.heads.values_mut() {
            head.complete = true;
        }
    }

    fn flush(&mut self, now: Timestamp, ticket: Ticket, shutdown: bool) {
        let held = |head: &Head| shutdown || !head.batches.is_empty();
        let heads: BTreeSet<u64> = self
            .heads
            .iter()
            .filter(|(_, head)| held(head))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in &heads {
            self.seal(*sequence);
            if let Some(head) = self.heads.get_mut(sequence) {
                head.retry_at = head.retry_at.min(now);
            }
        }
        self.flush_waiters.push(FlushWaiter {
            ticket,
            heads,
            shutdown,
        });
    }

    fn shutdown(&mut self, now: Timestamp, ticket: Ticket, out: &mut Vec<Action>) {
        self.stopping = true;
        for waiting in self.waiting.drain(..) {
            out.push(Action::Answer {
                ticket: waiting.ticket,
                result: Err(stopping()),
            });
        }
        self.waiting_bytes = 0;
        self.flush(now, ticket, true);
    }

    /// Nothing more is filed in this head.
    fn seal(&mut self, sequence: u64) {
        let Some(head) = self.heads.get_mut(&sequence) else {
            return;
        };
        if head.stage == Stage::Open {
            head.stage = Stage::Sealed;
            self.sealed.insert(sequence);
            let place = (head.shard, head.slot);
            if self.open.get(&place) == Some(&sequence) {
                self.open.remove(&place);
            }
        }
    }

    /// Seals the largest head when memory is half used and no flush is at hand. Not before: a head
    /// that grows while it would only wait makes a larger segment.
    fn relieve_pressure(&mut self) {
        let half = self.settings.memory_bytes_max / 2;
        let workers = self.settings.flush_workers;
        if self.bytes < half || !self.sealed.is_empty() || self.flushing >= workers {
            return;
        }
        let largest = self
            .open
            .values()
            .filter_map(|sequence| Some((self.heads.get(sequence)?, *sequence)))
            .filter(|(head, _)| head.complete && head.bytes > 0)
            .max_by_key(|(head, sequence)| (head.bytes, *sequence));
        if let Some((_, sequence)) = largest {
            self.seal(sequence);
        }
    }

    fn start_flushes(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while self.flushing < self.settings.flush_workers {
            let ready = self.sealed.iter().copied().find(|sequence| {
                self.heads
                    .get(sequence)
                    .is_some_and(|head| head.may_flush(now))
            });
            let Some(sequence) = ready else {
                return;
            };
            let id = self.id(sequence);
            self.sealed.remove(&sequence);
            if let Some(head) = self.heads.get_mut(&sequence) {
                head.stage = Stage::Flushing;
                self.flushing += 1;
                out.push(Action::StartFlush(head.job(id)));
            }
        }
    }

    fn flushed(
        &mut self,
        now: Timestamp,
        sequence: u64,
        result: Result<(), Error>,
        out: &mut Vec<Action>,
    ) {
        self.flushing = self.flushing.saturating_sub(1);
        match result {
            Ok(()) => {
                if let Some(head) = self.heads.remove(&sequence) {
                    self.bytes -= head.bytes;
                    self.files.done(sequence);
                    self.seen.flushed(head.batch_ids(), now);
                }
                for waiter in &mut self.flush_waiters {
                    waiter.heads.remove(&sequence);
                }
            }
            Err(error) => {
                if let Some(head) = self.heads.get_mut(&sequence) {
                    head.stage = Stage::Sealed;
                    head.attempt = head.attempt.saturating_add(1);
                    let delay = RETRY_NANOS.0 << (head.attempt - 1).min(6);
                    head.retry_at = now.saturating_add(delay.min(RETRY_NANOS.1));
                    self.sealed.insert(sequence);
                }
                self.flush_waiters.retain(|waiter| {
                    let concerned = waiter.heads.contains(&sequence);
                    if concerned {
                        out.push(Action::Answer {
                            ticket: waiter.ticket,
                            result: Err(error.clone()),
                        });
                    }
                    !concerned
                });
            }
        }
        if let Some(ticket) = self.replay_waits.take() {
            let result = Ok(());
            out.push(Action::Answer { ticket, result });
        }
    }

    fn answer_flush_waiters(&mut self, out: &mut Vec<Action>) {
        let writes_under_way = !self.writes.is_empty();
        self.flush_waiters.retain(|waiter| {
            let done = waiter.heads.is_empty() && !(waiter.shutdown && writes_under_way);
            if done {
                out.push(Action::Answer {
                    ticket: waiter.ticket,
                    result: Ok(()),
                });
            }
            !done
        });
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
        let (length, grace) = (self.settings.slot_length, self.settings.slot_grace);
        let ended: Vec<u64> = self
            .open
            .iter()
            .filter(|((_, slot), _)| length.end_of(*slot).saturating_add(grace) <= now)
            .map(|(_, sequence)| *sequence)
            .collect();
        for sequence in ended {
            self.seal(sequence);
        }
        self.seen.expire(now);
    }
}

fn stopping() -> Error {
    Error::Unavailable("the ingester is shutting down; send again to another or later".to_owned())
}
