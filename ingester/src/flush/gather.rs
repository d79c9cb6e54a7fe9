//! What of a key is written, and whose heads that covers: pure.
//!
//! ```text
//! own heads ─▶ reconcile with every other owner ─▶ wanted: theirs that are neither own nor flushed
//!                                                    ├─▶ ask all again which of those are flushed
//!                                                    └─▶ pull the rest ─▶ write what is not flushed,
//!                                                         cover own heads and theirs that are contained
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use model::{BatchId, Digest, HeadId, HeadKey, LogBatch, NodeId};
use rpc::{Catalog, HeldBatch, Reconciled, SealedHead};

use crate::state::FlushJob;

/// A flush before it is written.
#[derive(Debug)]
pub(crate) struct Gathering {
    job: FlushJob,
    own: HashSet<BatchId>,
    flushed: HashSet<BatchId>,
    others: BTreeMap<NodeId, Vec<SealedHead>>,
    pulled: BTreeMap<BatchId, Arc<LogBatch>>,
    pulled_bytes: usize,
    /// Owners that gave nothing of what they had been asked for.
    dry: BTreeSet<NodeId>,
}

/// What is to be written and committed.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: HeadKey,
    /// Heads that the commit covers, own ones first.
    pub(crate) heads: Vec<HeadId>,
    pub(crate) digest: Digest,
    pub(crate) batches: Vec<HeldBatch>,
    /// Batches besides those of the job's heads that are in segments after the commit.
    pub(crate) stored: Vec<BatchId>,
    /// How many of the batches came from other owners.
    pub(crate) pulled: usize,
    pub(crate) attempt: u32,
}

impl FlushJob {
    /// Where there is no other owner: everything.
    pub(crate) fn whole(self) -> Write {
        Write {
            key: self.key,
            heads: self.heads,
            digest: self.digest,
            batches: self.batches,
            stored: Vec::new(),
            pulled: 0,
            attempt: self.attempt,
        }
    }
}

impl Gathering {
    pub(crate) fn new(job: FlushJob) -> Self {
        Gathering {
            own: job.batches.iter().map(|held| held.id).collect(),
            flushed: job.flushed.iter().copied().collect(),
            job,
            others: BTreeMap::new(),
            pulled: BTreeMap::new(),
            pulled_bytes: 0,
            dry: BTreeSet::new(),
        }
    }

    pub(crate) fn own_ids(&self) -> Vec<BatchId> {
        self.job.batches.iter().map(|held| held.id).collect()
    }

    /// Another owner's first answer. Heads that the catalog covers here are stored: the other has
    /// not heard of it yet, and a commit that named them again would be refused.
    pub(crate) fn reconciled(&mut self, other: NodeId, answer: Reconciled, catalog: &Catalog) {
        self.flushed.extend(answer.flushed);
        let (covered, open): (Vec<_>, Vec<_>) = answer
            .heads
            .into_iter()
            .partition(|head| catalog.covers(head.head));
        self.flushed
            .extend(covered.into_iter().flat_map(|head| head.ids));
        self.others.insert(other, open);
    }

    /// Owners that have answered.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.others.keys().copied().collect()
    }

    /// What was found to be in segments.
    pub(crate) fn learn(&mut self, flushed: Vec<BatchId>) {
        self.flushed.extend(flushed);
    }

    /// Batches of other owners that are not here.
    pub(crate) fn wanted(&self) -> Vec<BatchId> {
        let heads = self.others.values().flatten();
        let ids: BTreeSet<BatchId> = heads.flat_map(|head| head.ids.iter().copied()).collect();
        ids.into_iter().filter(|id| !self.has(*id)).collect()
    }

    fn has(&self, id: BatchId) -> bool {
        self.own.contains(&id) || self.flushed.contains(&id) || self.pulled.contains_key(&id)
    }

    /// Whom to ask for what next; nobody when all is here, or `bytes_max` were pulled: owners of more
    /// than that store the rest themselves.
    pub(crate) fn next_pull(&self, bytes_max: usize) -> Option<(NodeId, Vec<BatchId>)> {
        if self.pulled_bytes >= bytes_max {
            return None;
        }
        let mut others = self.others.iter();
        others.find_map(|(other, heads)| {
            let ids = heads.iter().flat_map(|head| head.ids.iter().copied());
            let wanted: BTreeSet<BatchId> = ids.filter(|id| !self.has(*id)).collect();
            let asked = !wanted.is_empty() && !self.dry.contains(other);
            asked.then(|| (*other, wanted.into_iter().collect()))
        })
    }

    /// What came of a pull; nothing when the other could not be asked.
    pub(crate) fn pulled(&mut self, other: NodeId, batches: Vec<HeldBatch>) {
        let before = self.pulled.len();
        for held in batches {
            if !self.has(held.id) {
                self.pulled_bytes += held.batch.memory_bytes();
                self.pulled.insert(held.id, held.batch);
            }
        }
        if self.pulled.len() == before {
            self.dry.insert(other);
        }
    }

    pub(crate) fn finish(self) -> Write {
        let mut heads = self.job.heads.clone();
        for head in self.others.values().flatten() {
            if head.ids.iter().all(|id| self.has(*id)) {
                heads.push(head.head);
            }
        }
        let mut digest = Digest::default();
        let mut written = HashSet::new();
        let mut batches = Vec::with_capacity(self.job.batches.len() + self.pulled.len());
        let own = self.job.batches.iter().map(|held| (held.id, &held.batch));
        let pulled = self.pulled.iter().map(|(id, batch)| (*id, batch));
        for (id, batch) in own.chain(pulled) {
            if !self.flushed.contains(&id) && written.insert(id) {
                digest.add(id);
                let batch = Arc::clone(batch);
                batches.push(HeldBatch { id, batch });
            }
        }
        let known: HashSet<BatchId> = self.job.flushed.iter().copied().collect();
        let learnt = self.flushed.iter().filter(|id| !known.contains(id));
        let stored = learnt.chain(self.pulled.keys()).copied();
        Write {
            key: self.job.key,
            heads,
            digest,
            batches,
            stored: stored.collect(),
            pulled: self.pulled.len(),
            attempt: self.job.attempt,
        }
    }
}

#[cfg(test)]
mod tests;
