//! Series with what is kept of each, from any number of sinks.

use hashbrown::HashTable;

use super::super::pipeline::labels_hash;
use super::labels::{LabelSet, by_labels};
use super::range_ops::Lane;
use crate::{Budget, BudgetError};

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes<L> {
    /// Places by hash. Its 128 bits are taken to tell series apart, as in the tables of runners, so that
    /// what several sinks hold is united without a look at the texts.
    index: HashTable<u32>,
    series: Vec<Kept<L>>,
    /// Charged to the budget.
    bytes: u64,
}

#[derive(Debug)]
struct Kept<L> {
    hash: u128,
    labels: LabelSet,
    lane: L,
}

impl<L> Default for Lanes<L> {
    fn default() -> Self {
        Lanes {
            index: HashTable::new(),
            series: Vec::new(),
            bytes: 0,
        }
    }
}

impl<L: Lane> Lanes<L> {
    /// The number of the series with these labels.
    pub(super) fn series(&mut self, labels: LabelSet) -> usize {
        self.series_hashed(labels_hash(labels.iter()), || labels)
    }

    /// The number of the series whose labels have this hash.
    pub(super) fn series_hashed(&mut self, hash: u128, labels: impl FnOnce() -> LabelSet) -> usize {
        let series = &self.series;
        let same = |at: &u32| series[*at as usize].hash == hash;
        if let Some(at) = self.index.find(hash as u64, same) {
            return *at as usize;
        }
        let at = self.series.len();
        self.series.push(Kept {
            hash,
            labels: labels(),
            lane: L::default(),
        });
        let series = &self.series;
        let hash_of = |at: &u32| series[*at as usize].hash as u64;
        self.index.insert_unique(hash as u64, at as u32, hash_of);
        at
    }

    pub(super) fn lane(&mut self, series: usize) -> &mut L {
        &mut self.series[series].lane
    }

    /// How many series.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LabelSet, &L)> {
        self.series.iter().map(|kept| (&kept.labels, &kept.lane))
    }

    /// Takes over what another sink kept.
    pub(super) fn absorb(&mut self, other: Lanes<L>) {
        if self.series.is_empty() {
            let bytes = self.bytes + other.bytes;
            *self = Lanes { bytes, ..other };
            return;
        }
        self.bytes += other.bytes;
        for kept in other.series {
            let at = self.series_hashed(kept.hash, || kept.labels);
            self.series[at].lane.absorb(kept.lane);
        }
    }

    /// Charges what series and lanes grew by.
    pub(super) fn charge(&mut self, grown: usize, budget: &Budget) -> Result<(), BudgetError> {
        if grown > 0 {
            self.bytes += grown as u64;
            budget.take_memory(grown as u64)?;
        }
        Ok(())
    }

    /// Takes over so many bytes that were charged to the budget.
    pub(super) fn take(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Bytes charged to the budget.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All series, by labels.
    pub(super) fn into_series(self) -> impl Iterator<Item = (LabelSet, L)> {
        drop(self.index);
        let series = by_labels(self.series, |kept| &kept.labels);
        series.map(|kept| (kept.labels, kept.lane))
    }
}

#[cfg(test)]
mod tests {
    use super::super::range_ops::{BucketLane, Tally};
    use super::*;

    #[test]
    fn a_series_has_one_lane_whether_it_comes_with_a_hash_or_as_labels() {
        let labels = LabelSet::new([("a", "1"), ("b", "")]);
        let hash = labels_hash(labels.iter());
        let mut own: Lanes<BucketLane<Tally>> = Lanes::default();
        let at = own.series(labels.clone());
        assert_eq!(own.series_hashed(hash, || unreachable!()), at);
        // A set of another sink, which found the hash otherwise.
        let mut other = Lanes::default();
        other.series_hashed(hash, || labels.clone());
        other.series(LabelSet::new([("a", "1")]));
        own.absorb(other);
        let all: Vec<String> = own.into_series().map(|(set, _)| set.to_string()).collect();
        assert_eq!(all, [r#"{a="1"}"#, r#"{a="1", b=""}"#]);
    }
}
