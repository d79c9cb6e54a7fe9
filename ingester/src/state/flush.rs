//! From a head to its commit.

use std::collections::BTreeSet;

use model::{BatchId, HeadKey, NodeId, Timestamp};
use rpc::{Error, HeldBatch};

use super::head::{Head, Stage};
use super::{Action, FlushJob, FlushWaiter, LOG_FILES_MAX, RETRY_NANOS, State, Ticket, stopping};

/// Clocks that differ by less than the length of a slot leave each slot in one part.
const LATEST_END_SLOTS: i64 = 2;

/// How much a flush that was asked for covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What has been acknowledged.
    Acknowledged,
    /// Everything but what other owners are to flush before this one; writes under way as well.
    Own,
    /// Everything, however often it fails.
    Everything,
}

impl State {
    pub(super) fn flush(&mut self, now: Timestamp, ticket: Ticket, asked: Asked) {
        let concerned = |head: &Head| match asked {
            Asked::Acknowledged => !head.batches.is_empty(),
            Asked::Own => self.rings.position(&head.key) == 0,
            Asked::Everything => true,
        };
        let heads = self.heads.iter().filter(|(_, head)| concerned(head));
        let heads: BTreeSet<u64> = heads.map(|(sequence, _)| *sequence).collect();
        for sequence in &heads {
            self.seal(*sequence, now);
            if let Some(head) = self.heads.get_mut(sequence) {
                head.retry_at = head.retry_at.min(now);
            }
        }
        self.flush_waiters.push(FlushWaiter {
            ticket,
            heads,
            asked,
        });
    }

    pub(super) fn shutdown(&mut self, now: Timestamp, ticket: Ticket, out: &mut Vec<Action>) {
        self.stopping = true;
        for waiting in self.waiting.drain(..).chain(self.early.drain(..)) {
            out.push(Action::Answer {
                ticket: waiting.ticket,
                result: Err(stopping()),
            });
        }
        self.waiting_bytes = 0;
        self.flush(now, ticket, Asked::Own);
    }

    /// Nothing more is filed in this head; it is flushed here from `due` on.
    pub(super) fn seal(&mut self, sequence: u64, due: Timestamp) {
        let Some(head) = self.heads.get(&sequence) else {
            return;
        };
        let due = due.min(self.turn(&head.key, head.latest));
        let Some(head) = self.heads.get_mut(&sequence) else {
            return;
        };
        head.due = head.due.min(due);
        if head.stage == Stage::Open {
            head.stage = Stage::Sealed;
            self.sealed.insert(sequence);
            let key = head.key;
            if self.open.get(&key) == Some(&sequence) {
                self.open.remove(&key);
            }
        }
    }

    /// When a head that could be flushed from `from` on is to be flushed by this owner: the owners
    /// wait for each other.
    pub(super) fn turn(&self, key: &HeadKey, from: Timestamp) -> Timestamp {
        let before = self.rings.position(key) as i64;
        from.saturating_add(before.saturating_mul(self.settings.takeover_delay))
    }

    /// Until when a head that is made now is kept open at most. A right slot ends before that. One that a wrong
    /// clock has put a day ahead, that of a distributor or this one, does not stay in memory and log for a
    /// day: it is stored in parts.
    pub(super) fn latest_end(&self, now: Timestamp) -> Timestamp {
        let length = self.settings.slot_length.0.saturating_mul(LATEST_END_SLOTS);
        now.saturating_add(length)
            .saturating_add(self.settings.slot_grace)
    }

    pub(super) fn slot_over(&self, key: &HeadKey) -> Timestamp {
        let end = self.settings.slot_length.end_of(key.slot);
        end.saturating_add(self.settings.slot_grace)
    }

    /// From when on owners flush the key: nothing more comes after its slot, nor to a ring that is closed.
    pub(super) fn over(&self, key: &HeadKey, now: Timestamp) -> Timestamp {
        match key.ring <= self.fenced {
            true => self.slot_over(key).min(now),
            false => self.slot_over(key),
        }
    }

    pub(super) fn is_only_owner(&self, key: &HeadKey) -> bool {
        self.rings.others(key).next().is_none()
    }

    /// Seals the heads that keep the oldest log file when there are too many files: the head of a
    /// quiet shard would otherwise keep all that the busy ones write until its slot ends.
    pub(super) fn relieve_log(&mut self, now: Timestamp) {
        for sequence in self.files.holding_up(LOG_FILES_MAX) {
            if let Some(head) = self.heads.get(&sequence)
                && head.stage != Stage::Flushing
            {
                // One that is sealed may wait for another owner, which may be gone.
                let due = self.turn(&head.key, now);
                self.seal(sequence, due);
            }
        }
    }

    /// Seals the largest head when memory is half used and no flush is at hand. Not before: a head
    /// that grows while it would only wait makes a larger segment. Heads that another owner is to
    /// flush come only when three quarters are used: the others are probably as short of memory.
    pub(super) fn relieve_pressure(&mut self, now: Timestamp) {
        let at_hand = |sequence: &u64| self.heads.get(sequence).is_some_and(|h| h.is_due(now));
        if !self.is_short_of_memory()
            || self.flushing >= self.settings.flush_workers
            || self.sealed.iter().any(at_hand)
        {
            return;
        }
        let any = self.bytes >= self.settings.memory_bytes_max / 4 * 3;
        let largest = self
            .heads
            .iter()
            .filter(|(_, head)| head.stage != Stage::Flushing && head.yielded_until <= now)
            .filter(|(_, head)| head.complete && head.bytes > 0)
            .filter(|(_, head)| any || self.rings.position(&head.key) == 0)
            .max_by_key(|(sequence, head)| (head.bytes, **sequence));
        if let Some((sequence, _)) = largest {
            self.seal(*sequence, now);
        }
    }

    pub(super) fn start_flushes(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while self.flushing < self.settings.flush_workers {
            let Some((sequences, others)) = self.next_flush(now) else {
                return;
            };
            self.flushing += 1;
            let job = self.job(&sequences, others);
            out.extend(job.map(Action::StartFlush));
        }
    }

    /// The heads to be flushed together, and the other owners of their key.
    fn next_flush(&mut self, now: Timestamp) -> Option<(Vec<u64>, Vec<NodeId>)> {
        let mut from = 0;
        loop {
            let ready = self.sealed.range(from..).copied().find(|sequence| {
                self.heads
                    .get(sequence)
                    .is_some_and(|head| head.may_flush(now))
            });
            let sequence = ready?;
            from = sequence + 1;
            let key = self.heads.get(&sequence)?.key;
            if !self.rings.knows(&key) {
                continue;
            }
            let others: Vec<NodeId> = self.rings.others(&key).collect();
            if others.is_empty() {
                return Some((vec![sequence], others));
            }
            if let Some(sequences) = self.all_of(&key) {
                return Some((sequences, others));
            }
        }
    }

    /// Seals all heads of a key; `None` while writes to them are under way, or a flush.
    fn all_of(&mut self, key: &HeadKey) -> Option<Vec<u64>> {
        let heads = self.heads.iter();
        let heads = heads.filter(|(_, head)| head.key == *key && head.complete);
        let sequences: Vec<u64> = heads.map(|(sequence, _)| *sequence).collect();
        let due = self.turn(key, self.slot_over(key));
        for sequence in &sequences {
            self.seal(*sequence, due);
        }
        let mut heads = sequences.iter().filter_map(|s| self.heads.get(s));
        let ready = heads.all(|head| head.stage == Stage::Sealed && head.pending == 0);
        ready.then_some(sequences)
    }

    fn job(&mut self, sequences: &[u64], others: Vec<NodeId>) -> Option<FlushJob> {
        let mut job: Option<FlushJob> = None;
        for sequence in sequences {
            self.sealed.remove(sequence);
            let id = self.id(*sequence);
            let Some(head) = self.heads.get_mut(sequence) else {
                continue;
            };
            head.stage = Stage::Flushing;
            let job = job.get_or_insert_with(|| FlushJob {
                key: head.key,
                heads: Vec::with_capacity(sequences.len()),
                digest: head.digest,
                batches: Vec::new(),
                flushed: Vec::new(),
                others: Vec::new(),
                attempt: 0,
            });
            job.heads.push(id);
            job.batches.extend(head.held());
            job.attempt = job.attempt.max(head.attempt);
        }
        if let Some(job) = &mut job
            && !others.is_empty()
        {
            job.flushed = self.flushed.of(&job.key);
            job.others = others;
        }
        job
    }

    /// `stored` are batches of the key that are in segments now, or were found to be, besides those
    /// of the job's own heads.
    pub(super) fn flush_ended(
        &mut self,
        now: Timestamp,
        job: &FlushJob,
        result: Result<Vec<BatchId>, Error>,
        out: &mut Vec<Action>,
    ) {
        self.flushing = self.flushing.saturating_sub(1);
        match result {
            Ok(stored) => {
                for head in &job.heads {
                    self.drop_covered(head.sequence, now);
                }
                self.remember(job.key, stored, now);
            }
            Err(error) => self.flush_failed(now, job, &error, out),
        }
        self.go_on_reading(out);
    }

    fn flush_failed(
        &mut self,
        now: Timestamp,
        job: &FlushJob,
        error: &Error,
        out: &mut Vec<Action>,
    ) {
        let mut left = BTreeSet::new();
        for id in &job.heads {
            // It may have been covered by another owner meanwhile.
            let Some(head) = self.heads.get_mut(&id.sequence) else {
                continue;
            };
            head.stage = Stage::Sealed;
            head.due = head.due.min(now);
            head.attempt = head.attempt.saturating_add(1);
            let delay = RETRY_NANOS.0 << (head.attempt - 1).min(6);
            head.retry_at = now.saturating_add(delay.min(RETRY_NANOS.1));
            self.sealed.insert(id.sequence);
            left.insert(id.sequence);
        }
        // Another owner is at it: not a failure.
        if !job.others.is_empty() && matches!(error, Error::Conflict(_)) {
            return;
        }
        self.flush_waiters.retain(|waiter| {
            let concerned = waiter.asked != Asked::Everything && !waiter.heads.is_disjoint(&left);
            if concerned {
                out.push(Action::Answer {
                    ticket: waiter.ticket,
                    result: Err(error.clone()),
                });
            }
            !concerned
        });
    }

    /// The head is in the catalog.
    pub(super) fn drop_covered(&mut self, sequence: u64, now: Timestamp) {
        let Some(head) = self.heads.remove(&sequence) else {
            return;
        };
        self.sealed.remove(&sequence);
        if self.open.get(&head.key) == Some(&sequence) {
            self.open.remove(&head.key);
        }
        self.bytes -= head.bytes;
        self.files.done(sequence);
        self.remember(head.key, head.batch_ids(), now);
        for waiter in &mut self.flush_waiters {
            waiter.heads.remove(&sequence);
        }
    }

    /// These batches are in committed segments.
    pub(super) fn remember(&mut self, key: HeadKey, ids: Vec<BatchId>, now: Timestamp) {
        if !self.is_only_owner(&key) {
            self.flushed.add(key, ids.clone());
        }
        self.seen.flushed(ids, now);
    }

    /// There may be room for the next record of the log.
    pub(super) fn go_on_reading(&mut self, out: &mut Vec<Action>) {
        if let Some(ticket) = self.replay_waits.take() {
            let result = Ok(());
            out.push(Action::Answer { ticket, result });
        }
    }

    pub(super) fn answer_flush_waiters(&mut self, out: &mut Vec<Action>) {
        let writes_under_way = !self.writes.is_empty();
        self.flush_waiters.retain(|waiter| {
            let acknowledged = waiter.asked == Asked::Acknowledged;
            let done = waiter.heads.is_empty() && (acknowledged || !writes_under_way);
            if done {
                out.push(Action::Answer {
                    ticket: waiter.ticket,
                    result: Ok(()),
                });
            }
            !done
        });
    }

    /// What the key's heads hold of these batches, up to about `bytes_max` bytes and at least one.
    pub(crate) fn pull(&self, key: &HeadKey, ids: &[BatchId], bytes_max: usize) -> Vec<HeldBatch> {
        let wanted: BTreeSet<BatchId> = ids.iter().copied().collect();
        let heads = self.heads.values().filter(|head| head.key == *key);
        let (mut bytes, mut given) = (0, BTreeSet::new());
        let held = heads.flat_map(Head::held);
        held.filter(|held| wanted.contains(&held.id) && given.insert(held.id))
            .take_while(|held| {
                let room = bytes < bytes_max;
                bytes += held.batch.memory_bytes();
                room
            })
            .collect()
    }
}
