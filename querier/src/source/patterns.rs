//! How many lines have which pattern, step by step. Segments answer from their dictionaries of
//! templates; lines of heads, and lines that may have copies, are taken apart here in the same way.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{
    Columns, Flow, LineColumn, LineFilter, LineRows, RowBlock, Selector, TimeRange, Timestamp,
};
use query::logql::pipeline::level;
use query::{Budget, BudgetError, ScanOrder, ScanRequest, Sink, SourceError};
use segment::{PatternFinder, VARIABLE};

use super::SnapshotSource;
use super::scan::Form;

/// Patterns that one thread tells apart. Lines of others count as [`VARIABLE`], which matches every
/// line.
const PATTERNS_MAX: usize = 20_000;
/// What a pattern takes beside its text, and a count of a step; bytes, at average fill.
const PATTERN_BYTES: u64 = 112;
const COUNT_BYTES: u64 = 40;

/// Lines of one pattern and level, by start of the step.
pub(crate) type Counts = HashMap<(Box<str>, Arc<str>), HashMap<Timestamp, u64>>;

impl SnapshotSource {
    /// Counts the lines of the selection by pattern, level and step. Steps start at multiples of
    /// `step`, nanoseconds.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn patterns(
        &self,
        selector: &Selector,
        line_filter: &LineFilter,
        range: TimeRange,
        step: i64,
        budget: &Budget,
    ) -> Result<Counts, SourceError> {
        let request = ScanRequest {
            selector: selector.clone(),
            range,
            line_filter: line_filter.clone(),
            columns: Columns {
                timestamps: true,
                lines: LineColumn::Bytes,
                metadata: true,
            },
            order: ScanOrder::Any,
        };
        let new_sink = || PatternSink {
            step: step.max(1),
            budget,
            patterns: HashMap::new(),
            counts: HashMap::new(),
        };
        let (sinks, _) = self.scan_as(Form::Patterns, &request, budget, &new_sink)?;
        let mut counts = Counts::new();
        for sink in sinks {
            let mut texts = vec![Box::<str>::default(); sink.patterns.len()];
            for (text, number) in sink.patterns {
                texts[number as usize] = String::from_utf8_lossy(&text).into();
            }
            for (key, lines) in sink.counts {
                let pattern = (texts[key.pattern as usize].clone(), key.level);
                *counts
                    .entry(pattern)
                    .or_default()
                    .entry(key.step)
                    .or_default() += lines;
            }
        }
        Ok(counts)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pattern: u32,
    level: Arc<str>,
    step: Timestamp,
}

/// Counts blocks whose lines are patterns.
struct PatternSink<'a> {
    step: i64,
    budget: &'a Budget,
    patterns: HashMap<Box<[u8]>, u32>,
    counts: HashMap<Key, u64>,
}

/// Rows of a block that are in the step at hand and have no metadata.
#[derive(Default)]
struct Current {
    step: Timestamp,
    /// First nanosecond of the next step.
    until: Timestamp,
    /// How many, by number of the pattern.
    lines: Vec<u64>,
    /// Those that are not 0, each with a row that has it.
    found: Vec<(u32, usize)>,
}

impl PatternSink<'_> {
    /// The number of a pattern; without one of its own, `None`.
    fn number(&mut self, pattern: &[u8]) -> Result<Option<u32>, BudgetError> {
        if let Some(number) = self.patterns.get(pattern) {
            return Ok(Some(*number));
        }
        if self.patterns.len() >= PATTERNS_MAX {
            return Ok(None);
        }
        self.insert(pattern).map(Some)
    }

    fn insert(&mut self, pattern: &[u8]) -> Result<u32, BudgetError> {
        let number = self.patterns.len() as u32;
        self.budget
            .take_memory(pattern.len() as u64 + PATTERN_BYTES)?;
        self.patterns.insert(pattern.into(), number);
        Ok(number)
    }

    fn add(&mut self, key: Key, lines: u64) -> Result<(), BudgetError> {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += lines;
            return Ok(());
        }
        self.budget.take_memory(COUNT_BYTES)?;
        self.counts.insert(key, lines);
        Ok(())
    }

    /// Adds a row whose level is its own affair.
    fn add_row(
        &mut self,
        number: Option<u32>,
        block: &RowBlock<'_>,
        row: usize,
        step: Timestamp,
    ) -> Result<(), BudgetError> {
        let pattern = match number {
            Some(number) => number,
            None => match self.patterns.get(VARIABLE.as_bytes()) {
                Some(number) => *number,
                None => self.insert(VARIABLE.as_bytes())?,
            },
        };
        let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
        let level = level::detect(block.lines.line(row), block.labels, pairs);
        let key = Key {
            pattern,
            level: level.into(),
            step,
        };
        self.add(key, 1)
    }

    fn flush(
        &mut self,
        current: &mut Current,
        block: &RowBlock<'_>,
        levels: &mut HashMap<u32, Arc<str>>,
    ) -> Result<(), BudgetError> {
        for (pattern, row) in current.found.drain(..) {
            let lines = std::mem::take(&mut current.lines[pattern as usize]);
            let detect = || level::detect(block.lines.line(row), block.labels, &[]).into();
            let key = Key {
                pattern,
                level: Arc::clone(levels.entry(pattern).or_insert_with(detect)),
                step: current.step,
            };
            self.add(key, lines)?;
        }
        Ok(())
    }
}

impl Sink for PatternSink<'_> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        let mut current = Current {
            until: Timestamp::MIN,
            ..Current::default()
        };
        // Levels of rows without metadata, by pattern.
        let mut levels = HashMap::new();
        for (row, at) in block.timestamps.iter().enumerate() {
            if *at >= current.until {
                self.flush(&mut current, block, &mut levels)?;
                current.step = at.saturating_sub(at.rem_euclid(self.step));
                current.until = current.step.saturating_add(self.step);
            }
            let number = self.number(block.lines.line(row))?;
            let has_metadata = block.metadata.is_some_and(|rows| !rows.row(row).is_empty());
            let Some(number) = number.filter(|_| !has_metadata) else {
                self.add_row(number, block, row, current.step)?;
                continue;
            };
            let at = number as usize;
            if current.lines.len() <= at {
                current.lines.resize(at + 1, 0);
            }
            if current.lines[at] == 0 {
                current.found.push((number, row));
            }
            current.lines[at] += 1;
        }
        self.flush(&mut current, block, &mut levels)?;
        Ok(Flow::Continue)
    }
}

/// Turns the lines of blocks into their patterns.
pub(super) struct Patterned<'a, K> {
    sink: &'a mut K,
    finder: PatternFinder,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl<'a, K: Sink> Patterned<'a, K> {
    pub(super) fn new(sink: &'a mut K) -> Self {
        Patterned {
            sink,
            finder: PatternFinder::default(),
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl<K: Sink> Sink for Patterned<'_, K> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        self.bytes.clear();
        self.ends.clear();
        for row in 0..block.rows {
            self.finder.append(block.lines.line(row), &mut self.bytes);
            self.ends.push(self.bytes.len() as u32);
        }
        let lines = LineRows::Bytes {
            bytes: &self.bytes,
            ends: &self.ends,
        };
        self.sink.push(&RowBlock { lines, ..*block })
    }

    fn bound(&self) -> Option<Timestamp> {
        self.sink.bound()
    }
}
