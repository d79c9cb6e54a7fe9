//! Which series a row belongs to, without building its label set unless the series is new.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::names::NameId;
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, Row};

/// Name and value, sorted by name; values may be empty.
pub type LabelPairs = Arc<[(Box<str>, Box<str>)]>;

/// A series of one [`Runner`](super::Runner): numbers from 0, in order of first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u32);

/// A label set that rows are counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The labels.
    pub labels: LabelPairs,
    /// `labels` has `__error__`: a stage failed on its rows (then they are all labels, whatever the
    /// grouping), or the lines brought it.
    pub error: bool,
    /// [`labels_hash`] of `labels`.
    pub hash: u128,
}

/// A hash of labels, whichever runner found them and in whatever order. 128 bits are taken to tell
/// label sets apart: of a million, two are equal by accident once in 10^26 times.
pub fn labels_hash<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> u128 {
    let pairs = labels.map(|(name, value)| pair_hash(xxh3_64(name.as_bytes()), value));
    pairs.fold(0, u128::wrapping_add)
}

/// A sum of these does not depend on the order of labels.
fn pair_hash(name: u64, value: &str) -> u128 {
    xxh3_128_with_seed(value.as_bytes(), name)
}

/// Which labels make a series.
#[derive(Clone, Debug)]
pub(super) enum Grouping {
    By(Vec<NameId>),
    Without(Vec<NameId>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct SeriesTable {
    grouping: Grouping,
    /// With the hash of the labels and of whether a stage failed.
    series: Vec<(u128, Series)>,
    by_hash: HashTable<u32>,
    /// Of rows that have just their stream's labels.
    of_stream: Option<SeriesId>,
}

impl SeriesTable {
    pub(super) fn new(grouping: Grouping) -> Self {
        SeriesTable {
            grouping,
            series: Vec::new(),
            by_hash: HashTable::new(),
            of_stream: None,
        }
    }

    /// Rows of another stream follow.
    pub(super) fn next_stream(&mut self) {
        self.of_stream = None;
    }

    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &Series> {
        self.series.iter().map(|(_, series)| series)
    }

    pub(super) fn get(&self, id: SeriesId) -> &Series {
        &self.series[id.0 as usize].1
    }

    /// The series of a row.
    pub(super) fn of(&mut self, row: &Row) -> SeriesId {
        if !self.is_as_stream(row) {
            return self.look_up(row);
        }
        match self.of_stream {
            Some(id) => id,
            None => {
                let id = self.look_up(row);
                self.of_stream = Some(id);
                id
            }
        }
    }

    fn is_as_stream(&self, row: &Row) -> bool {
        if row.is_plain() && row.shown_details().is_empty() {
            return true;
        }
        match &self.grouping {
            Grouping::By(names) => {
                !row.any_hidden()
                    && !row.has_error()
                    && !row.entries().any(|e| names.contains(&e.name))
            }
            Grouping::Without(_) => false,
        }
    }

    fn look_up(&mut self, row: &Row) -> SeriesId {
        let failed = u128::from(row.has_error());
        let mut hash = failed;
        let mut count = 0;
        each_label(&self.grouping, row, |name, value| {
            let seed = match name {
                LabelName::Known(id) => row.names.hash(id),
                LabelName::Text(name) => xxh3_64(name.as_bytes()),
            };
            hash = hash.wrapping_add(pair_hash(seed, value));
            count += 1;
        });
        let series = &self.series;
        let same = |at: &u32| series[*at as usize].0 == hash;
        if let Some(at) = self.by_hash.find(hash as u64, same) {
            return SeriesId(*at);
        }
        let mut labels = Vec::with_capacity(count);
        each_label(&self.grouping, row, |name, value| {
            let name = match name {
                LabelName::Known(id) => row.names.text(id),
                LabelName::Text(name) => name,
            };
            labels.push((Box::from(name), Box::from(value)));
        });
        labels.sort_unstable();
        // A line may bring a label of this name, which counts as an error too.
        let error = row.has_error() || labels.iter().any(|(name, _)| **name == *ERROR_LABEL);
        let id = self.series.len() as u32;
        self.series.push((
            hash,
            Series {
                labels: labels.into(),
                error,
                hash: hash.wrapping_sub(failed),
            },
        ));
        let series = &self.series;
        self.by_hash
            .insert_unique(hash as u64, id, |at| series[*at as usize].0 as u64);
        SeriesId(id)
    }
}

/// A name with or without a number.
#[derive(Clone, Copy)]
enum LabelName {
    Known(NameId),
    Text(&'static str),
}

/// Calls `visit` with every label of the row that the grouping keeps; a row with an error keeps
/// all, so that the error is not lost.
fn each_label(grouping: &Grouping, row: &Row, mut visit: impl FnMut(LabelName, &str)) {
    if row.has_error() {
        each_visible(row, |id, value| visit(LabelName::Known(id), value));
        visit(LabelName::Text(ERROR_LABEL), row.error());
        if !row.error_details().is_empty() {
            visit(LabelName::Text(ERROR_DETAILS_LABEL), row.error_details());
        }
        return;
    }
    match grouping {
        Grouping::By(names) => {
            for id in names {
                if !row.was_deleted(*id)
                    && let Some(value) = row.get(*id)
                {
                    visit(LabelName::Known(*id), value);
                }
            }
        }
        Grouping::Without(gone) => {
            each_visible(row, |id, value| {
                if !gone.contains(&id) {
                    visit(LabelName::Known(id), value);
                }
            });
            // Left over when the error itself was dropped.
            if gone.is_empty() && !row.shown_details().is_empty() {
                visit(LabelName::Text(ERROR_DETAILS_LABEL), row.shown_details());
            }
        }
    }
}

fn each_visible(row: &Row, mut visit: impl FnMut(NameId, &str)) {
    for (_, id, value) in row.visible_base() {
        visit(id, value);
    }
    for entry in row.entries() {
        visit(entry.name, row.entry_value(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{AT, compile, compile_range, stream};
    use super::super::{LabelNeed, Pipeline};
    use super::*;

    fn series_of(pipeline: &Pipeline, need: &LabelNeed) -> Vec<Series> {
        let mut runner = pipeline.runner(need);
        runner.stream(&stream());
        for line in [
            r#"{"a":"1","b":"","app":"x"}"#,
            r#"{"b":"","a":"1"}"#,
            r#"{"a":"1" nothing more"#,
            r#"{"a":"2","__error__":"told"}"#,
            "no object",
            "",
        ] {
            for metadata in [&[][..], &[("b", "2"), ("a", "1")], &[("__error__", "told")]] {
                runner.sample(AT, line.as_bytes(), metadata);
            }
        }
        runner.all_series().cloned().collect()
    }

    #[test]
    fn the_hash_of_a_series_is_that_of_its_labels_whether_rows_failed_or_not() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let needs = [
            LabelNeed::All,
            LabelNeed::Only(names(&["b", "a", "pod"])),
            LabelNeed::Without(names(&[])),
            LabelNeed::Without(names(&["a", "pod"])),
        ];
        let pipelines = [
            compile("| json"),
            compile(r#"| json | __error__!="x""#),
            compile("| json | drop __error__"),
            compile("| json | drop app"),
            compile_range("| json | unwrap a"),
        ];
        let (mut failed, mut preserved, mut fine) = (0, 0, 0);
        for (need, pipeline) in needs
            .iter()
            .flat_map(|n| pipelines.iter().map(move |p| (n, p)))
        {
            for series in series_of(pipeline, need) {
                let pairs = series.labels.iter();
                let hash = labels_hash(pairs.map(|(name, value)| (&**name, &**value)));
                assert_eq!(series.hash, hash, "{:?}", series.labels);
                let has = |name: &str| series.labels.iter().any(|(n, _)| **n == *name);
                preserved += usize::from(has(super::super::PRESERVE_ERROR_LABEL));
                failed += usize::from(series.error);
                fine += usize::from(!series.error);
            }
        }
        // None of the kinds is missing.
        assert!(failed > 0 && preserved > 0 && fine > 0);
    }
}
