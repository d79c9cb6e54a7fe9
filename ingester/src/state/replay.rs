//! Taking back what the log holds.

use model::{HeadKey, Timestamp};

use super::head::{self, Head, Held, Stage};
use super::{Action, State, Ticket};
use crate::wal::Replayed;

impl State {
    pub(super) fn replayed(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        record: Replayed,
        out: &mut Vec<Action>,
    ) {
        match record {
            Replayed::Covered(filing) => self.remember(filing.key, vec![filing.batch_id], now),
            // Another owner has covered it since the log was opened.
            Replayed::Batch { filing, .. } if self.covered.contains(filing.head.sequence) => {
                self.remember(filing.key, vec![filing.batch_id], now);
            }
            Replayed::Batch {
                file,
                filing,
                batch,
                last_of_head,
            } => {
                let sequence = filing.head.sequence;
                self.replay_head(now, sequence, filing.key, last_of_head);
                self.files.feeds(file, sequence);
                if self.seen.get(filing.batch_id).is_none() {
                    self.seen.stored(filing.batch_id);
                    let bytes = head::bytes_of(&batch);
                    self.bytes += bytes;
                    if let Some(head) = self.heads.get_mut(&sequence) {
                        head.bytes += bytes;
                        head.push(Held::new(filing.batch_id, batch));
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

    /// A head of an earlier run takes no new batches: a commit of that run may still be on its way
    /// to the coordinator, and it would cover what was added since. So it is sealed, and flushed
    /// when its last record was read.
    fn replay_head(&mut self, now: Timestamp, sequence: u64, key: HeadKey, last: bool) {
        self.next_head = self.next_head.max(sequence + 1);
        let (due, latest) = (self.replayed_due(now, &key), self.latest_end(now));
        let head = self.heads.entry(sequence).or_insert_with(|| {
            self.sealed.insert(sequence);
            Head {
                stage: Stage::Sealed,
                complete: false,
                due,
                ..Head::new(key, latest)
            }
        });
        head.complete |= last;
    }

    /// At once; but where there are other owners, these have probably flushed it, or are about to.
    fn replayed_due(&self, now: Timestamp, key: &HeadKey) -> Timestamp {
        match self.rings.others(key).next() {
            None => Timestamp::MIN,
            Some(_) => self.turn(key, self.over(key, now).min(self.latest_end(now))),
        }
    }

    pub(super) fn replay_done(&mut self) {
        self.replaying = false;
        for head in self.heads.values_mut() {
            head.complete = true;
        }
    }
}
