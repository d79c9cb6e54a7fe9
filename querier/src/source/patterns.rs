//! How many lines have which pattern, step by step. Segments answer from their dictionaries of
//! templates; lines of heads, and lines that may have copies, are taken apart here in the same way.

mod level;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use model::{
    Columns, Flow, Labels, LineColumn, LineFilter, LineRows, RowBlock, Selector, TimeRange,
    Timestamp,
};
use query::logql::pipeline::level::{DETECTED_LEVEL, of_labels as of_stream, of_line};
use query::{Budget, BudgetError, ScanOrder, ScanRequest, Sink, SourceError};
use segment::{PatternFinder, VARIABLE};

use super::scan::Form;
use super::{SnapshotSource, step_of};

/// Patterns that one thread tells apart. Lines of others count as [`VARIABLE`], which matches every
/// line.
const PATTERNS_MAX: usize = 20_000;
/// The level of lines that tell none.
const UNKNOWN: &str = "unknown";
/// What a pattern takes beside its text, and a count of a step; bytes, at average fill.
const PATTERN_BYTES: u64 = 144;
const COUNT_BYTES: u64 = 40;

/// Lines of one pattern and level, by start of the step.
pub(crate) type Counts = HashMap<(Box<str>, Arc<str>), HashMap<Timestamp, u64>>;

impl SnapshotSource {
    /// Counts the lines of the selection by pattern, level and step. Steps start at multiples of
    /// `step`, nanoseconds.
    ///
    /// Where patterns do not tell the level of their lines, the lines are read.
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
            outcomes: None,
            order: ScanOrder::Any,
        };
        let step = step.max(1);
        let new_sink = || PatternSink::new(step, budget);
        let (sinks, _) = self.scan_as(Form::Patterns, &request, budget, &new_sink)?;
        let mut counts = Counts::new();
        let mut open: HashSet<Box<[u8]>> = HashSet::new();
        for sink in sinks {
            let unsure = sink.unsure.into_iter();
            open.extend(unsure.map(|number| Box::from(&*sink.patterns.texts[number as usize])));
            add_counts(&mut counts, &sink.patterns, sink.counts);
        }
        if open.is_empty() {
            return Ok(counts);
        }
        let new_sink = || LevelSink::new(step, budget, &open);
        let (sinks, _) = self.scan_as(Form::Lines, &request, budget, &new_sink)?;
        for sink in sinks {
            add_counts(&mut counts, &sink.patterns, sink.counts);
        }
        Ok(counts)
    }
}

fn add_counts(counts: &mut Counts, patterns: &Patterns, found: HashMap<Key, u64>) {
    for (key, lines) in found {
        let text = String::from_utf8_lossy(&patterns.texts[key.pattern as usize]);
        let steps = counts.entry((text.into(), key.level)).or_default();
        *steps.entry(key.step).or_default() += lines;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pattern: u32,
    level: Arc<str>,
    step: Timestamp,
}

/// The patterns that one thread tells apart, numbered from 0.
#[derive(Default)]
struct Patterns {
    numbers: HashMap<Arc<[u8]>, u32>,
    texts: Vec<Arc<[u8]>>,
}

impl Patterns {
    /// The number of a pattern; without one of its own, `None`.
    fn number(&mut self, pattern: &[u8], budget: &Budget) -> Result<Option<u32>, BudgetError> {
        if let Some(number) = self.numbers.get(pattern) {
            return Ok(Some(*number));
        }
        if self.texts.len() >= PATTERNS_MAX {
            return Ok(None);
        }
        self.insert(pattern, budget).map(Some)
    }

    /// The number of [`VARIABLE`], which stands for those without a number.
    fn number_of_any(&mut self, budget: &Budget) -> Result<u32, BudgetError> {
        match self.numbers.get(VARIABLE.as_bytes()) {
            Some(number) => Ok(*number),
            None => self.insert(VARIABLE.as_bytes(), budget),
        }
    }

    fn insert(&mut self, pattern: &[u8], budget: &Budget) -> Result<u32, BudgetError> {
        let number = self.texts.len() as u32;
        budget.take_memory(pattern.len() as u64 + PATTERN_BYTES)?;
        let text: Arc<[u8]> = pattern.into();
        self.numbers.insert(Arc::clone(&text), number);
        self.texts.push(text);
        Ok(number)
    }
}

fn add(
    counts: &mut HashMap<Key, u64>,
    key: Key,
    lines: u64,
    budget: &Budget,
) -> Result<(), BudgetError> {
    if let Some(count) = counts.get_mut(&key) {
        *count += lines;
        return Ok(());
    }
    budget.take_memory(COUNT_BYTES)?;
    counts.insert(key, lines);
    Ok(())
}

/// Counts blocks whose lines are patterns.
struct PatternSink<'a> {
    step: i64,
    budget: &'a Budget,
    patterns: Patterns,
    counts: HashMap<Key, u64>,
    /// Levels of lines, by pattern, as far as they were asked for.
    levels: HashMap<u32, Option<Arc<str>>>,
    /// Patterns that do not tell the levels of their lines: lines are not counted here unless
    /// something else tells it.
    unsure: HashSet<u32>,
}

/// Rows of a block that are in the step at hand and have no metadata.
#[derive(Default)]
struct Current {
    step: Timestamp,
    /// First nanosecond of the next step.
    until: Timestamp,
    /// How many, by number of the pattern.
    lines: Vec<u64>,
    /// Those that are not 0.
    found: Vec<u32>,
}

impl<'a> PatternSink<'a> {
    fn new(step: i64, budget: &'a Budget) -> Self {
        PatternSink {
            step,
            budget,
            patterns: Patterns::default(),
            counts: HashMap::new(),
            levels: HashMap::new(),
            unsure: HashSet::new(),
        }
    }

    /// The level of lines of a pattern, when nothing else tells it.
    fn level_of(&mut self, pattern: u32) -> Option<Arc<str>> {
        let text = &self.patterns.texts[pattern as usize];
        let level = self.levels.entry(pattern);
        let level = level.or_insert_with(|| level::of_pattern(text).map(Arc::from));
        if level.is_none() {
            self.unsure.insert(pattern);
        }
        level.clone()
    }

    /// Adds a row whose level is its own affair.
    fn add_row(
        &mut self,
        number: Option<u32>,
        pattern: &[u8],
        told: Option<&str>,
        step: Timestamp,
    ) -> Result<(), BudgetError> {
        let level = match (told, number) {
            (Some(level), _) => level.into(),
            (None, Some(number)) => match self.level_of(number) {
                Some(level) => level,
                None => return Ok(()),
            },
            // Of so many patterns one more is not worth reading all lines.
            (None, None) => level::of_pattern(pattern).unwrap_or(UNKNOWN).into(),
        };
        let pattern = match number {
            Some(number) => number,
            None => self.patterns.number_of_any(self.budget)?,
        };
        let key = Key {
            pattern,
            level,
            step,
        };
        add(&mut self.counts, key, 1, self.budget)
    }

    fn flush(&mut self, current: &mut Current, told: Option<&Arc<str>>) -> Result<(), BudgetError> {
        for pattern in current.found.drain(..) {
            let lines = std::mem::take(&mut current.lines[pattern as usize]);
            let Some(level) = told.cloned().or_else(|| self.level_of(pattern)) else {
                continue;
            };
            let key = Key {
                pattern,
                level,
                step: current.step,
            };
            add(&mut self.counts, key, lines, self.budget)?;
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
        let of_labels = of_labels(block.labels);
        let told_to_all: Option<Arc<str>> = of_labels.map(Arc::from);
        for (row, at) in block.timestamps.iter().enumerate() {
            if *at >= current.until {
                self.flush(&mut current, told_to_all.as_ref())?;
                current.step = step_of(*at, self.step);
                current.until = current.step.saturating_add(self.step);
            }
            let pattern = block.lines.line(row);
            let number = self.patterns.number(pattern, self.budget)?;
            let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
            let Some(number) = number.filter(|_| pairs.is_empty()) else {
                let told = level::told(of_labels, pairs);
                self.add_row(number, pattern, told, current.step)?;
                continue;
            };
            let at = number as usize;
            if current.lines.len() <= at {
                current.lines.resize(at + 1, 0);
            }
            if current.lines[at] == 0 {
                current.found.push(number);
            }
            current.lines[at] += 1;
        }
        self.flush(&mut current, told_to_all.as_ref())?;
        Ok(Flow::Continue)
    }
}

/// What the labels of a stream tell of the level of its records.
fn of_labels(labels: &Labels) -> Option<&str> {
    match labels.get(DETECTED_LEVEL) {
        Some(level) => Some(level),
        None => of_stream(labels),
    }
}

/// Counts lines of patterns that do not tell their level.
struct LevelSink<'a> {
    step: i64,
    budget: &'a Budget,
    open: &'a HashSet<Box<[u8]>>,
    finder: PatternFinder,
    pattern: Vec<u8>,
    patterns: Patterns,
    counts: HashMap<Key, u64>,
}

impl<'a> LevelSink<'a> {
    fn new(step: i64, budget: &'a Budget, open: &'a HashSet<Box<[u8]>>) -> Self {
        LevelSink {
            step,
            budget,
            open,
            finder: PatternFinder::default(),
            pattern: Vec::new(),
            patterns: Patterns::default(),
            counts: HashMap::new(),
        }
    }
}

impl Sink for LevelSink<'_> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        if of_labels(block.labels).is_some() {
            return Ok(Flow::Continue);
        }
        for (row, at) in block.timestamps.iter().enumerate() {
            let line = block.lines.line(row);
            self.pattern.clear();
            self.finder.append(line, &mut self.pattern);
            let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
            if !self.open.contains(&*self.pattern) || level::told(None, pairs).is_some() {
                continue;
            }
            let number = self.patterns.number(&self.pattern, self.budget)?;
            let key = Key {
                pattern: match number {
                    Some(number) => number,
                    None => self.patterns.number_of_any(self.budget)?,
                },
                level: of_line(line).into(),
                step: step_of(*at, self.step),
            };
            add(&mut self.counts, key, 1, self.budget)?;
        }
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
