//! From a request to its answer.

use std::sync::Arc;

use model::{HeadKey, Timestamp};
use rpc::{Error, HeldBatch, IngestRequest};
use segment::wal::Filing;

use super::head::{self, Head, Held};
use super::seen::Mark;
use super::{Action, Caller, State, Ticket, Waiting, Write, WriteId, stopping};
use crate::rings::Verdict;
use crate::wal::AppendJob;

impl State {
    pub(super) fn ingest(
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
        let later = |request: &IngestRequest| self.judge(request) == Verdict::Later;
        if requests.iter().any(later) {
            self.wait_for_ring(now, ticket, requests, out);
            return;
        }
        if self.waiting.is_empty() && self.has_room() {
            self.admit(now, ticket, requests, out);
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

    pub(super) fn exhausted(&self) -> Error {
        Error::Exhausted {
            reason: format!(
                "the ingester holds {} bytes that are not yet in object storage, and may hold {} (head_memory_bytes_max); send again later",
                self.bytes, self.settings.memory_bytes_max
            ),
            retry_after_seconds: 1,
        }
    }

    pub(super) fn admit_waiting(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while self.has_room()
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.waiting_bytes -= waiting.bytes;
            self.admit(now, waiting.ticket, waiting.requests, out);
        }
    }

    pub(super) fn admit(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        requests: Vec<IngestRequest>,
        out: &mut Vec<Action>,
    ) {
        let refused = |request: &&IngestRequest| self.judge(request) != Verdict::Take;
        if let Some(request) = requests.iter().find(refused) {
            let result = Err(self.wrong_ring(request.ring));
            out.push(Action::Answer { ticket, result });
            return;
        }
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
                    self.write(now, ticket, request, out);
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

    fn write(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        request: IngestRequest,
        out: &mut Vec<Action>,
    ) {
        let bytes = head::bytes_of(&request.batch);
        let key = HeadKey {
            shard: request.shard,
            slot: request.slot,
            ring: request.ring,
        };
        let sequence = self.head_for(now, key);
        let write = self.next_write;
        self.next_write += 1;
        self.bytes += bytes;
        if let Some(head) = self.heads.get_mut(&sequence) {
            head.bytes += bytes;
            head.pending += 1;
            if head.bytes >= self.settings.head_bytes_max {
                let due = self.turn(&key, now);
                self.seal(sequence, due);
            }
        }
        self.seen.writing(request.batch_id, write);
        out.push(Action::Append(AppendJob {
            write,
            filing: Filing {
                head: self.id(sequence),
                batch_id: request.batch_id,
                key,
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

    /// The open head of the key.
    pub(super) fn head_for(&mut self, now: Timestamp, key: HeadKey) -> u64 {
        if let Some(sequence) = self.open.get(&key) {
            return *sequence;
        }
        let sequence = self.free.pop_first().unwrap_or_else(|| {
            self.next_head += 1;
            self.next_head - 1
        });
        self.heads
            .insert(sequence, Head::new(key, self.latest_end(now)));
        self.open.insert(key, sequence);
        sequence
    }

    pub(super) fn appended(&mut self, writes: &[WriteId], file: u64, out: &mut Vec<Action>) {
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
            out.push(Action::Publish(HeldBatch {
                id: write.request.batch_id,
                batch: write.request.batch,
            }));
            for ticket in write.callers {
                self.written(ticket, None, out);
            }
        }
    }

    pub(super) fn append_failed(
        &mut self,
        writes: &[WriteId],
        error: &Error,
        out: &mut Vec<Action>,
    ) {
        for id in writes {
            let Some(write) = self.writes.remove(id) else {
                continue;
            };
            self.seen.forget(write.request.batch_id);
            self.bytes -= write.bytes;
            if let Some(head) = self.heads.get_mut(&write.head) {
                head.pending -= 1;
                head.bytes -= write.bytes;
                if head.pending == 0 && head.batches.is_empty() {
                    self.release(write.head);
                }
            }
            for ticket in write.callers {
                self.written(ticket, Some(error.clone()), out);
            }
        }
    }

    /// No write to the head came into the log, so that its number would be taken again after a crash:
    /// it is taken again at once, and never committed or told to anybody before it is in the log.
    fn release(&mut self, sequence: u64) {
        let Some(head) = self.heads.remove(&sequence) else {
            return;
        };
        self.sealed.remove(&sequence);
        if self.open.get(&head.key) == Some(&sequence) {
            self.open.remove(&head.key);
        }
        for waiter in &mut self.flush_waiters {
            waiter.heads.remove(&sequence);
        }
        for waiting in &mut self.reconciling {
            waiting.heads.retain(|head| *head != sequence);
        }
        self.free.insert(sequence);
    }

    /// One of the caller's batches is done.
    pub(super) fn written(&mut self, ticket: Ticket, error: Option<Error>, out: &mut Vec<Action>) {
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
}
