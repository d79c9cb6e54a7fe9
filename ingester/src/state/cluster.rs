//! What the other owners and the coordinator bring about.

use model::{RingVersion, Timestamp};
use rpc::{CoveredHeads, Error, IngestRequest, ReconcileRequest, Reconciled, SealedHead};

use super::head::Stage;
use super::{Action, Asked, RETRY_NANOS, Reconciling, State, Ticket, Waiting};
use crate::rings::{Rings, Verdict};

/// When to say again that a ring is known: a cluster waits for it.
const TELL_AGAIN_NANOS: i64 = 5_000_000_000;

impl State {
    pub(super) fn judge(&self, request: &IngestRequest) -> Verdict {
        self.rings.judge(request.ring, self.fenced)
    }

    pub(super) fn wrong_ring(&self, ring: RingVersion) -> Error {
        Error::Conflict(format!(
            "ring {} is too old, or this ingester is not in it; the newest here is {}: choose the owners again",
            ring.0,
            self.rings.current().0
        ))
    }

    /// The sender's catalog is newer than ours.
    pub(super) fn wait_for_ring(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        requests: Vec<IngestRequest>,
        out: &mut Vec<Action>,
    ) {
        let bytes = requests.iter().map(|r| r.batch.memory_bytes()).sum();
        if self.waiting_bytes + bytes > self.settings.memory_bytes_max / 4 {
            let result = Err(self.exhausted());
            out.push(Action::Answer { ticket, result });
            return;
        }
        self.waiting_bytes += bytes;
        self.early.push_back(Waiting {
            ticket,
            requests,
            bytes,
            deadline: now.saturating_add(self.settings.room_wait),
        });
    }

    pub(super) fn refuse_early(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while let Some(first) = self.early.front()
            && first.deadline <= now
            && let Some(first) = self.early.pop_front()
        {
            self.waiting_bytes -= first.bytes;
            let result = Err(Error::Unavailable(format!(
                "this ingester knows ring {} and no newer one yet; send again later or to another",
                self.rings.current().0
            )));
            let ticket = first.ticket;
            out.push(Action::Answer { ticket, result });
        }
    }

    /// The catalog has changed.
    pub(super) fn catalog(
        &mut self,
        now: Timestamp,
        covered: CoveredHeads,
        rings: Option<Rings>,
        out: &mut Vec<Action>,
    ) {
        if let Some(rings) = rings {
            self.rings = rings;
            let undrained = self.rings.undrained();
            let since = undrained.map(|ring| (ring, *self.past_since.get(&ring).unwrap_or(&now)));
            self.past_since = since.collect();
            self.move_up(now);
            for early in std::mem::take(&mut self.early) {
                if early
                    .requests
                    .iter()
                    .any(|request| self.judge(request) == Verdict::Later)
                {
                    self.early.push_back(early);
                    continue;
                }
                self.waiting_bytes -= early.bytes;
                self.ingest(now, early.ticket, early.requests, out);
            }
        }
        if covered != self.covered {
            self.covered = covered;
            let heads = self.heads.keys().copied();
            let gone: Vec<u64> = heads.filter(|head| self.covered.contains(*head)).collect();
            let flushing = |head: &u64| {
                let head = self.heads.get(head);
                head.is_some_and(|head| head.stage == Stage::Flushing)
            };
            // The commit of one that is being flushed is most probably our own.
            let others = gone.iter().filter(|head| !flushing(head)).count();
            if others > 0 {
                out.push(Action::CoveredByOthers(others as u64));
            }
            for sequence in gone {
                self.drop_covered(sequence, now);
            }
            self.go_on_reading(out);
        }
    }

    /// Heads wait no longer for owners that have nothing more to flush.
    fn move_up(&mut self, now: Timestamp) {
        for sequence in &self.sealed {
            if let Some(head) = self.heads.get(sequence) {
                let due = self.turn(&head.key, now.max(self.over(&head.key, now)));
                if let Some(head) = self.heads.get_mut(sequence) {
                    head.due = head.due.min(due);
                }
            }
        }
    }

    /// Another owner is about to flush: what it will be told is complete, for the heads take nothing
    /// more. It is left to it for as long as one owner waits for another.
    pub(super) fn reconcile(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        request: ReconcileRequest,
        out: &mut Vec<Action>,
    ) {
        let key = request.key;
        let heads = self.heads.iter().filter(|(_, head)| head.key == key);
        let sequences: Vec<u64> = heads.clone().map(|(sequence, _)| *sequence).collect();
        let mut stages = heads.map(|(_, head)| head.stage);
        let refusal = if self.replaying {
            Some(Error::Unavailable(
                "the ingester is reading its log back; flush without it, or later".to_owned(),
            ))
        } else if self.rings.position(&key) == 0 && stages.any(|stage| stage == Stage::Flushing) {
            Some(Error::Conflict(
                "the first owner is flushing this key; its commit will cover the heads".to_owned(),
            ))
        } else {
            None
        };
        if let Some(error) = refusal {
            let result = Err(error);
            out.push(Action::Reconciled { ticket, result });
            return;
        }
        let due = self.turn(&key, self.slot_over(&key));
        let yielded_until = now.saturating_add(self.settings.takeover_delay);
        for sequence in &sequences {
            self.seal(*sequence, due);
            // Once for each head: one that asks again and again cannot store, and others must.
            if let Some(head) = self.heads.get_mut(sequence)
                && head.yielded_until == Timestamp::MIN
            {
                head.yielded_until = yielded_until;
            }
        }
        self.reconciling.push(Reconciling {
            ticket,
            request,
            heads: sequences,
        });
    }

    pub(super) fn answer_reconciling(&mut self, out: &mut Vec<Action>) {
        if self.reconciling.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.reconciling) {
            let mut heads = waiting.heads.iter().filter_map(|s| self.heads.get(s));
            if heads.any(|head| head.pending > 0) {
                self.reconciling.push(waiting);
                continue;
            }
            let sealed = waiting.heads.iter().filter_map(|sequence| {
                Some(SealedHead {
                    head: self.id(*sequence),
                    ids: self.heads.get(sequence)?.batch_ids(),
                })
            });
            let key = waiting.request.key;
            let asked = waiting.request.ids.iter().copied();
            let flushed = asked.filter(|id| self.flushed.contains(&key, *id));
            out.push(Action::Reconciled {
                ticket: waiting.ticket,
                result: Ok(Reconciled {
                    heads: sealed.collect(),
                    flushed: flushed.collect(),
                }),
            });
        }
    }

    pub(super) fn leave(&mut self, now: Timestamp, ticket: Ticket) {
        self.leaving = true;
        self.close(now);
        self.flush(now, ticket, Asked::Everything);
    }

    /// Says that the next ring is known, also while the log is read: readers are answered after that
    /// only, and by the same catalog or a newer one.
    pub(super) fn tell(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let Some(ring) = self.rings.untold() else {
            return;
        };
        let (said, again) = self.told;
        if ring > said || again <= now {
            self.told = (ring, now.saturating_add(TELL_AGAIN_NANOS));
            out.push(Action::Knows(ring));
        }
    }

    /// Closes past rings a slot after they became past, when senders have learnt of the new one, and
    /// says when no head of theirs is left.
    pub(super) fn drain(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.rings.undrained().next().is_none() {
            return;
        }
        self.close(now);
        let oldest = self.heads.values().map(|head| head.key.ring).min();
        let drained = self
            .rings
            .undrained()
            .rfind(|ring| *ring <= self.fenced && oldest.is_none_or(|oldest| oldest > *ring));
        let Some(ring) = drained else {
            return;
        };
        let (said, again) = self.drained;
        if ring > said || again <= now {
            self.drained = (ring, now.saturating_add(RETRY_NANOS.1));
            out.push(Action::Drained(ring));
        }
    }

    fn close(&mut self, now: Timestamp) {
        let length = self.settings.slot_length.0;
        let closed = match self.leaving && !self.rings.is_member() {
            true => Some(self.rings.current()),
            false => self.rings.undrained().rfind(|ring| {
                let since = self.past_since.get(ring).copied().unwrap_or(now);
                since.saturating_add(length) <= now
            }),
        };
        let Some(closed) = closed.filter(|closed| *closed > self.fenced) else {
            return;
        };
        self.fenced = closed;
        // Those too that are sealed: another owner, or the end of a slot that a clock ahead has named, may
        // be long in coming.
        let keys = self
            .heads
            .iter()
            .map(|(sequence, head)| (head.key, *sequence));
        let heads: Vec<_> = keys.filter(|(key, _)| key.ring <= closed).collect();
        for (key, sequence) in heads {
            let due = self.turn(&key, now);
            self.seal(sequence, due);
        }
    }
}
