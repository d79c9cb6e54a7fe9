use std::collections::{HashMap, VecDeque};

use model::{BatchId, Timestamp};

use super::WriteId;

/// Ids of flushed heads that are remembered at most: 48 bytes each with the maps' slack, 12 MiB.
/// Above it the oldest are forgotten early; a retry that late is stored once more, and readers and
/// merges drop the copies.
const FLUSHED_MAX: usize = 256 << 10;

/// The batch ids that make a retry harmless: those being written, those of heads in memory, and for
/// a while those of heads that were flushed.
#[derive(Debug)]
pub(super) struct Seen {
    marks: HashMap<BatchId, Mark>,
    flushed: VecDeque<(Timestamp, Vec<BatchId>)>,
    flushed_ids: usize,
    keep: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Writing(WriteId),
    Stored,
}

impl Seen {
    /// Remembers the ids of a flushed head for `keep` nanoseconds.
    pub(super) fn new(keep: i64) -> Self {
        Seen {
            marks: HashMap::new(),
            flushed: VecDeque::new(),
            flushed_ids: 0,
            keep,
        }
    }

    pub(super) fn get(&self, id: BatchId) -> Option<Mark> {
        self.marks.get(&id).copied()
    }

    pub(super) fn writing(&mut self, id: BatchId, write: WriteId) {
        self.marks.insert(id, Mark::Writing(write));
    }

    pub(super) fn stored(&mut self, id: BatchId) {
        self.marks.insert(id, Mark::Stored);
    }

    pub(super) fn forget(&mut self, id: BatchId) {
        self.marks.remove(&id);
    }

    pub(super) fn flushed(&mut self, ids: Vec<BatchId>, now: Timestamp) {
        if ids.is_empty() {
            return;
        }
        for id in &ids {
            self.stored(*id);
        }
        self.flushed_ids += ids.len();
        self.flushed.push_back((now.saturating_add(self.keep), ids));
        while self.flushed_ids > FLUSHED_MAX && self.forget_oldest() {}
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.flushed.front().is_some_and(|(until, _)| *until <= now) && self.forget_oldest() {
        }
    }

    /// The clock was set back by so many nanoseconds.
    pub(super) fn move_back(&mut self, by: i64) {
        for (until, _) in &mut self.flushed {
            *until = until.saturating_sub(by);
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, ids)) = self.flushed.pop_front() else {
            return false;
        };
        self.flushed_ids -= ids.len();
        for id in ids {
            self.marks.remove(&id);
        }
        true
    }
}
