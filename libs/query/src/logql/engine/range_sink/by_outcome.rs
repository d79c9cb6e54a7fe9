//! Rows whose labels follow from their stream and the outcome of their line: one of each outcome is
//! run through the pipeline, the others are counted.

use model::{OUTCOMES_MAX, RowBlock};

use super::super::super::pipeline::SeriesId;
use super::super::range_ops::Lane;
use super::{RangeSink, Value};

/// Rows of a block by outcome.
struct Counts {
    /// The series of those that were looked at; `None` inside when they do not pass.
    series: [Option<Option<SeriesId>>; OUTCOMES_MAX as usize],
    rows: [u64; OUTCOMES_MAX as usize],
    bytes: [u64; OUTCOMES_MAX as usize],
    /// A bit for each outcome that has rows.
    seen: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            series: [None; OUTCOMES_MAX as usize],
            rows: [0; OUTCOMES_MAX as usize],
            bytes: [0; OUTCOMES_MAX as usize],
            seen: 0,
        }
    }
}

impl Counts {
    /// Adds rows `from..to`.
    fn add(&mut self, block: &RowBlock<'_>, from: usize, to: usize, value: Value) {
        for outcome in &block.outcomes[from..to] {
            self.rows[usize::from(*outcome)] += 1;
            self.seen |= 1 << outcome;
        }
        if value == Value::LineLength {
            for row in from..to {
                let outcome = usize::from(block.outcomes[row]);
                self.bytes[outcome] += block.lines.line_length(row) as u64;
            }
        }
    }

    /// An outcome with how many rows it has, and the bytes of their lines: each once.
    fn next(&mut self) -> Option<(u8, u64, u64)> {
        let outcome = (self.seen != 0).then(|| self.seen.trailing_zeros() as u8)?;
        self.seen &= self.seen - 1;
        let at = usize::from(outcome);
        let rows = std::mem::take(&mut self.rows[at]);
        Some((outcome, rows, std::mem::take(&mut self.bytes[at])))
    }
}

impl<L: Lane> RangeSink<'_, L> {
    pub(super) fn is_by_outcome(&self, block: &RowBlock<'_>) -> bool {
        self.plan.by_outcome && block.metadata.is_none() && !block.outcomes.is_empty()
    }

    /// Files whole runs of rows without metadata by the outcomes of their lines.
    pub(super) fn block_by_outcome(&mut self, block: &RowBlock<'_>) {
        let mut counts = Counts::default();
        let mut row = 0;
        while row < block.rows {
            let (bucket, end) = self.run_from(block, row);
            if let Some(bucket) = bucket {
                counts.add(block, row, end, self.plan.value);
                while let Some((outcome, rows, bytes)) = counts.next() {
                    let series = &mut counts.series[usize::from(outcome)];
                    let id = *series.get_or_insert_with(|| {
                        let at = block.timestamps.get(row).copied().unwrap_or(0);
                        let sample = self.runner.sample_of_outcome(at, outcome, &[]);
                        sample.map(|sample| sample.series)
                    });
                    let Some(id) = id else { continue };
                    let Some(lane) = self.lane(id) else { return };
                    let grown = lane.add_many(bucket, rows, bytes);
                    self.uncharged += grown;
                }
            }
            row = end;
        }
    }
}
