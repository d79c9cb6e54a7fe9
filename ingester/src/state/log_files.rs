use std::collections::{BTreeMap, BTreeSet};

/// Which log files still feed heads that are not in the catalog.
#[derive(Debug)]
pub(super) struct LogFileUse {
    heads: BTreeMap<u64, BTreeSet<u64>>,
    /// The newest file that may still be written.
    current: u64,
}

impl LogFileUse {
    /// Files that are there at start; the first to be written is `next`.
    pub(super) fn new(next: u64, files: &[u64]) -> Self {
        LogFileUse {
            heads: files.iter().map(|file| (*file, BTreeSet::new())).collect(),
            current: next,
        }
    }

    /// A record in `file` feeds `head`.
    pub(super) fn feeds(&mut self, file: u64, head: u64) {
        self.current = self.current.max(file);
        self.heads.entry(file).or_default().insert(head);
    }

    /// The head is in the catalog.
    pub(super) fn done(&mut self, head: u64) {
        for heads in self.heads.values_mut() {
            heads.remove(&head);
        }
    }

    /// The heads that keep the oldest file, when there are more than `max` files.
    pub(super) fn holding_up(&self, max: usize) -> Vec<u64> {
        let oldest = self
            .heads
            .values()
            .next()
            .filter(|_| self.heads.len() > max);
        oldest.into_iter().flatten().copied().collect()
    }

    /// The newest file that may be removed together with all older ones.
    pub(super) fn take_unused(&mut self) -> Option<u64> {
        let mut unused = None;
        while let Some(first) = self.heads.first_entry()
            && first.get().is_empty()
            && *first.key() < self.current
        {
            unused = Some(*first.key());
            first.remove();
        }
        unused
    }
}
