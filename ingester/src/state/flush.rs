//! From a head to its commit.

use std::collections::BTreeSet;

use model::Timestamp;
use rpc::Error;

use super::head::{Head, Stage};
use super::{Action, FlushWaiter, LOG_FILES_MAX, RETRY_NANOS, State, Ticket, stopping};

impl State {
    pub(super) fn flush(&mut self, now: Timestamp, ticket: Ticket, shutdown: bool) {
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

    pub(super) fn shutdown(&mut self, now: Timestamp, ticket: Ticket, out: &mut Vec<Action>) {
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
    pub(super) fn seal(&mut self, sequence: u64) {
        let Some(head) = self.heads.get_mut(&sequence) else {
            return;
        };
        if head.stage == Stage::Open {
            head.stage = Stage::Sealed;
            self.sealed.insert(sequence);
            let key = head.key;
            if self.open.get(&key) == Some(&sequence) {
                self.open.remove(&key);
            }
        }
    }

    /// Seals the heads that keep the oldest log file when there are too many files: the head of a
    /// quiet shard would otherwise keep all that the busy ones write until its slot ends.
    pub(super) fn relieve_log(&mut self) {
        for sequence in self.files.holding_up(LOG_FILES_MAX) {
            self.seal(sequence);
        }
    }

    /// Seals the largest head when memory is half used and no flush is at hand. Not before: a head
    /// that grows while it would only wait makes a larger segment.
    pub(super) fn relieve_pressure(&mut self) {
        let workers = self.settings.flush_workers;
        if !self.is_short_of_memory() || !self.sealed.is_empty() || self.flushing >= workers {
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

    pub(super) fn start_flushes(&mut self, now: Timestamp, out: &mut Vec<Action>) {
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

    pub(super) fn flushed(
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

    pub(super) fn answer_flush_waiters(&mut self, out: &mut Vec<Action>) {
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
}
