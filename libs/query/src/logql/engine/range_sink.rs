mod by_outcome;

use model::{Flow, LineRows, RowBlock, Timestamp};

use super::super::pipeline::{ERROR_LABEL, LabelPairs, PRESERVE_ERROR_LABEL, Runner, SeriesId};
use super::EngineError;
use super::labels::LabelSet;
use super::lanes::Lanes;
use super::range_ops::Lane;
use super::share::{self, Reader, Writer};
use super::steps::Windows;
use crate::{Budget, BudgetError, ShareSink, Sink, SourceError};

/// The number that a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// None: rows are only counted.
    None,
    /// The length of its line in bytes.
    LineLength,
    /// What `unwrap` found.
    Unwrapped,
}

/// What sinks do with rows; the same for all sinks of a scan.
#[derive(Debug)]
pub(super) struct RangePlan {
    pub(super) windows: Windows,
    pub(super) value: Value,
    /// Rows without metadata all have their stream's labels and pass.
    pub(super) filters_only: bool,
    /// Rows of a stream without metadata that have the same outcome have the same labels, and all
    /// pass or none does; and they are only counted.
    pub(super) by_outcome: bool,
}

/// Files the rows of one worker.
pub(super) struct RangeSink<'q, L> {
    plan: &'q RangePlan,
    runner: Runner,
    budget: &'q Budget,
    /// By the runner's number of the series.
    lanes: Vec<L>,
    bytes: u64,
    /// Bytes not yet charged.
    uncharged: usize,
    failure: Option<EngineError>,
    /// What other processes made of their shares.
    loaded: Lanes<L>,
}

impl<'q, L: Lane> RangeSink<'q, L> {
    pub(super) fn new(plan: &'q RangePlan, runner: Runner, budget: &'q Budget) -> Self {
        RangeSink {
            plan,
            runner,
            budget,
            lanes: Vec::new(),
            bytes: 0,
            uncharged: 0,
            failure: None,
            loaded: Lanes::default(),
        }
    }

    /// What was kept.
    ///
    /// # Errors
    /// `Pipeline` when a row had an error.
    pub(super) fn into_lanes(self) -> Result<Lanes<L>, EngineError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut lanes = self.loaded;
        lanes.take(self.bytes);
        for (series, lane) in self.runner.all_series().zip(self.lanes) {
            let at = lanes.series_hashed(series.hash, || LabelSet::from(&series.labels));
            lanes.lane(at).absorb(lane);
        }
        Ok(lanes)
    }

    /// The lane of a series; `None` when the series stands for an error.
    fn lane(&mut self, id: SeriesId) -> Option<&mut L> {
        let at = id.0 as usize;
        while self.lanes.len() <= at {
            let new = self.runner.series(SeriesId(self.lanes.len() as u32));
            // Held by the runner's table, and shared by everything above.
            let pairs = new.labels.iter();
            let labels: usize = pairs.map(|(n, v)| 64 + n.len() + v.len()).sum();
            self.uncharged += labels + size_of::<L>() + 128;
            if new.error {
                self.failure = failure(&new.labels);
            }
            self.lanes.push(L::default());
        }
        match self.failure {
            Some(_) => None,
            None => self.lanes.get_mut(at),
        }
    }

    /// The bucket of a row, if a window has one for it, and the end of the run of rows that share it.
    fn run_from(&self, block: &RowBlock<'_>, row: usize) -> (Option<usize>, usize) {
        let windows = &self.plan.windows;
        if windows.is_single() {
            return (Some(0), block.rows);
        }
        let (bucket, until) = windows.bucket(block.timestamps[row]);
        (bucket, row + run_length(&block.timestamps[row..], until))
    }

    /// Files whole runs of rows that belong to one series.
    fn block_of_one_series(&mut self, block: &RowBlock<'_>, id: SeriesId) {
        let mut row = 0;
        while row < block.rows {
            let (bucket, end) = self.run_from(block, row);
            if let Some(bucket) = bucket {
                let bytes = match self.plan.value {
                    Value::LineLength => line_bytes(&block.lines, row, end),
                    Value::None | Value::Unwrapped => 0,
                };
                let Some(lane) = self.lane(id) else { return };
                let grown = lane.add_many(bucket, (end - row) as u64, bytes);
                self.uncharged += grown;
            }
            row = end;
        }
    }

    fn block_by_row(&mut self, block: &RowBlock<'_>) {
        let windows = &self.plan.windows;
        let mut current = windows.is_single().then_some((Some(0), Timestamp::MAX));
        for row in 0..block.rows {
            let at = block.timestamps.get(row).copied().unwrap_or(0);
            let bucket = match current {
                Some((bucket, until)) if at <= until => bucket,
                _ => current.insert(windows.bucket(at)).0,
            };
            if let Some(bucket) = bucket {
                self.row(block, row, at, bucket);
                if self.failure.is_some() {
                    return;
                }
            }
        }
    }

    /// Runs the pipeline over one row and files what it leaves.
    fn row(&mut self, block: &RowBlock<'_>, row: usize, at: Timestamp, bucket: usize) {
        let metadata = block.metadata.map_or(&[][..], |m| m.row(row));
        let line = block.lines.line(row);
        let sample = match block.outcomes.get(row) {
            Some(outcome) => self.runner.sample_of_outcome(at, *outcome, metadata),
            None => self.runner.sample(at, line, metadata),
        };
        let Some(sample) = sample else { return };
        let value = match (self.plan.value, &block.lines) {
            (Value::None, _) => 0.0,
            (Value::Unwrapped, _) => sample.value.unwrap_or(0.0),
            (Value::LineLength, LineRows::Bytes { .. }) => sample.line_bytes as f64,
            (Value::LineLength, lines) => lines.line_length(row) as f64,
        };
        if let Some(lane) = self.lane(sample.series) {
            let grown = lane.add(bucket, at, value);
            self.uncharged += grown;
        }
    }

    /// The series of all rows of a block, if they have one.
    fn series_of_block(&mut self, block: &RowBlock<'_>) -> Option<SeriesId> {
        if let Some(id) = self.runner.stream_series() {
            return Some(id);
        }
        let is_of_stream = self.plan.by_outcome && !self.runner.looks_at_outcomes();
        if !self.plan.filters_only && !is_of_stream || block.metadata.is_some() {
            return None;
        }
        let at = block.timestamps.first().copied().unwrap_or(0);
        let sample = self.runner.sample(at, block.lines.line(0), &[])?;
        Some(sample.series)
    }
}

/// The lanes of several sinks together.
///
/// # Errors
/// `Pipeline` when a row had an error. Each sink reports the first one that it met: it is the same
/// one whoever met it.
pub(super) fn united<L: Lane>(sinks: Vec<RangeSink<'_, L>>) -> Result<Lanes<L>, EngineError> {
    let mut lanes = Lanes::default();
    let mut failures = Vec::new();
    for sink in sinks {
        match sink.into_lanes() {
            Ok(of_sink) => lanes.absorb(of_sink),
            Err(failure) => failures.push(failure),
        }
    }
    match failures.into_iter().min_by_key(EngineError::to_string) {
        Some(failure) => Err(failure),
        None => Ok(lanes),
    }
}

impl<L: Lane> ShareSink for RangeSink<'_, L> {
    fn save(sinks: Vec<Self>) -> Vec<u8> {
        let mut out = Writer::default();
        let (lanes, failure) = match united(sinks) {
            Ok(lanes) => (lanes, None),
            Err(EngineError::Pipeline { error, series }) => {
                (Lanes::default(), Some((error, series)))
            }
            // Sinks know no other failure; these bytes are refused.
            Err(_) => return vec![u8::MAX],
        };
        out.option(failure, |out, (error, series)| {
            out.text(&error);
            out.text(&series);
        });
        for (labels, lane) in lanes.iter() {
            out.labels(labels);
            lane.save(&mut out);
        }
        out.finish()
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), SourceError> {
        let buckets = self.plan.windows.buckets();
        // Read twice, so that nothing is kept of what is damaged further on, and one lane is held at
        // a time.
        read_saved::<L>(saved, buckets, |_, _| Ok(()))?;
        let failure = read_saved::<L>(saved, buckets, |labels, lane| {
            let before = self.loaded.len();
            let own = labels.memory_bytes() + size_of::<L>() + 128;
            let at = self.loaded.series(labels);
            let new = match self.loaded.len() > before {
                true => own,
                false => 0,
            };
            let grown = self.loaded.lane(at).absorb(lane);
            self.loaded.charge(grown + new, self.budget)?;
            Ok(())
        })?;
        let failures = self.failure.take().into_iter().chain(failure);
        self.failure = failures.min_by_key(EngineError::to_string);
        Ok(())
    }
}

/// Hands each series that was saved to `take`; returns the error that a row had.
fn read_saved<L: Lane>(
    saved: &[u8],
    buckets: usize,
    mut take: impl FnMut(LabelSet, L) -> Result<(), SourceError>,
) -> Result<Option<EngineError>, SourceError> {
    let mut from = Reader::new(saved);
    let failure = from.option(|from| Some((from.text()?, from.text()?)));
    let failure = failure.ok_or_else(share::unreadable)?;
    while !from.is_empty() {
        let labels = from.labels().ok_or_else(share::unreadable)?;
        let lane = L::load(&mut from, buckets).ok_or_else(share::unreadable)?;
        take(labels, lane)?;
    }
    Ok(failure.map(|(error, series)| EngineError::Pipeline {
        error: error.to_owned(),
        series: series.to_owned(),
    }))
}

/// The error of a series of failed rows, unless the query asked for such rows.
fn failure(labels: &LabelPairs) -> Option<EngineError> {
    let set = LabelSet::from(labels);
    if set.get(PRESERVE_ERROR_LABEL) == Some("true") {
        return None;
    }
    Some(EngineError::Pipeline {
        error: set.get(ERROR_LABEL).unwrap_or("").to_owned(),
        series: set.to_string(),
    })
}

impl<L: Lane> Sink for RangeSink<'_, L> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        self.runner.stream(block.labels);
        match self.series_of_block(block) {
            Some(series) => self.block_of_one_series(block, series),
            None if self.is_by_outcome(block) => self.block_by_outcome(block),
            None => self.block_by_row(block),
        }
        let grown = std::mem::take(&mut self.uncharged) as u64;
        if grown > 0 {
            self.bytes += grown;
            self.budget.take_memory(grown)?;
        }
        Ok(match self.failure {
            Some(_) => Flow::Stop,
            None => Flow::Continue,
        })
    }
}

/// How many of the first timestamps are at most `until`, at least 1: found by doubling steps, since
/// runs are short or very long.
fn run_length(timestamps: &[Timestamp], until: Timestamp) -> usize {
    let mut reach = 1;
    while reach < timestamps.len() && timestamps[reach] <= until {
        reach *= 2;
    }
    let (from, to) = (reach / 2, reach.min(timestamps.len()));
    from.max(1) + timestamps[from.max(1)..to.max(1)].partition_point(|at| *at <= until)
}

/// Bytes of the lines of rows `from..to`.
fn line_bytes(lines: &LineRows<'_>, from: usize, to: usize) -> u64 {
    match lines {
        LineRows::None => 0,
        LineRows::Lengths(lengths) => lengths[from..to].iter().map(|n| u64::from(*n)).sum(),
        LineRows::Bytes { ends, .. } => {
            let start = from.checked_sub(1).map_or(0, |before| ends[before]);
            u64::from(ends[to - 1] - start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ast::Expr;
    use super::super::super::parse::parse;
    use super::super::super::pipeline::LabelNeed;
    use super::super::leaf::Leaf;
    use super::super::range_ops::{BucketLane, Tally};
    use super::super::steps::Steps;
    use super::*;

    type Kept = BucketLane<Tally>;

    #[test]
    fn a_series_of_many_shares_is_charged_once_and_a_damaged_share_not_at_all() {
        let Ok(Expr::Log(log)) = parse(r#"{app="a"}"#) else {
            panic!("no log query");
        };
        let leaf = Leaf::new(&log, None, LabelNeed::All, false, None).unwrap();
        let plan = RangePlan {
            windows: Windows::new(&Steps::new(0, 10, 0), 10, 0),
            value: Value::None,
            filters_only: true,
            by_outcome: false,
        };
        let mut out = Writer::default();
        out.option(None::<()>, |_, ()| ());
        out.labels(&LabelSet::new([("app", "a")]));
        let mut lane = Kept::default();
        lane.add_many(0, 3, 0);
        lane.save(&mut out);
        let saved = out.finish();
        let budget = Budget::new(10_000, 0);
        let mut sink = RangeSink::<Kept>::new(&plan, leaf.runner(&budget), &budget);
        let damaged = [&saved[..], &saved[1..saved.len() - 1]].concat();
        assert!(sink.load(&damaged).is_err());
        assert_eq!(budget.left().0, 10_000);
        sink.load(&saved).unwrap();
        let left = budget.left().0;
        assert!(left < 10_000);
        (0..100).for_each(|_| sink.load(&saved).unwrap());
        assert_eq!(budget.left().0, left);
        let mut lanes = sink.into_lanes().unwrap();
        assert_eq!((lanes.len(), lanes.bytes()), (1, 10_000 - left));
        let mut all = Writer::default();
        lanes.lane(0).save(&mut all);
        let mut expected = Kept::default();
        expected.add_many(0, 303, 0);
        let mut want = Writer::default();
        expected.save(&mut want);
        assert_eq!(all.finish(), want.finish());
    }
}
