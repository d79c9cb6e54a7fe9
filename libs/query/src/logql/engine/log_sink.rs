use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicI64, Ordering as Memory};

use hashbrown::{HashMap, HashSet};
use model::{Flow, RowBlock, Timestamp};

use super::super::pipeline::Runner;
use super::Direction;
use super::labels::LabelSet;
use super::log::{Plan, SortValue};
use super::share::{self, Reader, Writer};
use crate::{Budget, BudgetError, ShareSink, Sink, SourceError};

/// What a sink must keep so that the right entries can be chosen from all sinks' entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// The first `limit` by time; the scan may end early.
    First,
    /// The first `limit` by the labels of `sort`.
    Sorted,
    /// For each combination of the labels of `distinct`, the first by time.
    FirstOfEach,
    /// Everything.
    All,
}

/// An entry that may be shown.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) stream: LabelSet,
    pub(super) metadata: LabelSet,
    pub(super) parsed: LabelSet,
    pub(super) line: String,
    /// Equal for entries with equal values of the labels of `distinct`.
    pub(super) distinct: u128,
    /// Values of the labels of `sort`.
    sort: Vec<SortValue>,
}

impl Entry {
    /// The order of the answer. Entries of equal time are in order of labels and line, so that the
    /// order does not depend on where they are stored.
    pub(super) fn by_time(&self, other: &Entry, direction: Direction) -> Ordering {
        let time = match direction {
            Direction::Forward => self.at.cmp(&other.at),
            Direction::Backward => other.at.cmp(&self.at),
        };
        time.then_with(|| self.stream.cmp(&other.stream))
            .then_with(|| self.line.cmp(&other.line))
            .then_with(|| self.metadata.cmp(&other.metadata))
            .then_with(|| self.parsed.cmp(&other.parsed))
    }

    /// As [`by_time`](Self::by_time), after the labels of `sort`.
    pub(super) fn by_plan(&self, other: &Entry, plan: &Plan) -> Ordering {
        let Some(descending) = plan.descending else {
            return self.by_time(other, plan.direction);
        };
        let pairs = self.sort.iter().zip(&other.sort);
        let order = pairs
            .map(|(a, b)| a.order(b, descending))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        order.then_with(|| self.by_time(other, plan.direction))
    }

    fn save(&self, out: &mut Writer) {
        out.i64(self.at);
        out.labels(&self.stream);
        out.labels(&self.metadata);
        out.labels(&self.parsed);
        out.text(&self.line);
        out.u128(self.distinct);
        out.count(self.sort.len());
        self.sort.iter().for_each(|value| value.save(out));
    }

    fn load(from: &mut Reader<'_>) -> Option<Entry> {
        Some(Entry {
            at: from.i64()?,
            stream: from.labels()?,
            metadata: from.labels()?,
            parsed: from.labels()?,
            line: from.text()?.to_owned(),
            distinct: from.u128()?,
            sort: (0..from.number()?)
                .map(|_| SortValue::load(from))
                .collect::<Option<_>>()?,
        })
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Entry>()
            + self.line.len()
            + self.metadata.memory_bytes()
            + self.parsed.memory_bytes()
            + self.sort.iter().map(SortValue::memory_bytes).sum::<usize>()
    }
}

/// The worst time that still counts, known to all sinks of a query: once any sink holds `limit`
/// entries, worse ones are of no use to the others either.
#[derive(Debug)]
pub(super) struct Shared {
    direction: Direction,
    bound: AtomicI64,
}

impl Shared {
    pub(super) fn new(direction: Direction) -> Self {
        let bound = AtomicI64::new(match direction {
            Direction::Backward => Timestamp::MIN,
            Direction::Forward => Timestamp::MAX,
        });
        Shared { direction, bound }
    }

    fn tighten(&self, at: Timestamp) {
        match self.direction {
            Direction::Backward => self.bound.fetch_max(at, Memory::Relaxed),
            Direction::Forward => self.bound.fetch_min(at, Memory::Relaxed),
        };
    }

    fn get(&self) -> Timestamp {
        self.bound.load(Memory::Relaxed)
    }
}

/// An entry in a heap whose top is the one to give up first.
struct Ranked<'q> {
    entry: Entry,
    plan: &'q Plan,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.entry.by_plan(&other.entry, self.plan)
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

/// Keeps the entries of one worker.
pub(super) struct LogSink<'q> {
    plan: &'q Plan,
    shared: &'q Shared,
    budget: &'q Budget,
    runner: Runner,
    /// Labels of the entry made last, which most likely are those of the next one.
    stream: LabelSet,
    metadata: LabelSet,
    /// Streams of what was loaded.
    loaded: HashSet<LabelSet>,
    heap: BinaryHeap<Ranked<'q>>,
    firsts: HashMap<u128, Entry>,
    all: Vec<Entry>,
}

impl<'q> LogSink<'q> {
    pub(super) fn new(
        plan: &'q Plan,
        shared: &'q Shared,
        runner: Runner,
        budget: &'q Budget,
    ) -> Self {
        LogSink {
            plan,
            shared,
            budget,
            runner,
            stream: LabelSet::default(),
            metadata: LabelSet::default(),
            loaded: HashSet::new(),
            heap: BinaryHeap::new(),
            firsts: HashMap::new(),
            all: Vec::new(),
        }
    }

    /// Everything kept, in no order.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        let mut entries = self.all;
        entries.extend(self.firsts.into_values());
        entries.extend(self.heap.into_iter().map(|ranked| ranked.entry));
        entries
    }

    /// Whether rows of this time cannot be among the first `limit`.
    fn is_too_late(&self, at: Timestamp) -> bool {
        self.plan.selection == Selection::First
            && match self.plan.direction {
                Direction::Backward => at < self.shared.get(),
                Direction::Forward => at > self.shared.get(),
            }
    }

    /// Runs the pipeline over one row and keeps what it leaves.
    fn row(&mut self, block: &RowBlock<'_>, row: usize) -> Result<(), BudgetError> {
        let at = block.timestamps[row];
        let line = block.lines.line(row);
        let metadata = block.metadata.map_or(&[][..], |m| m.row(row));
        let Some(output) = self.runner.run(at, line, metadata) else {
            return Ok(());
        };
        let labels = output.labels;
        let entry = Entry {
            at,
            stream: same_or_new(|| labels.stream(), &mut self.stream),
            metadata: same_or_new(|| labels.metadata(), &mut self.metadata),
            parsed: LabelSet::new(labels.parsed()),
            // `from_utf8_lossy` checks byte by byte, this whole words of ASCII.
            line: match std::str::from_utf8(output.line) {
                Ok(text) => text.to_owned(),
                Err(_) => String::from_utf8_lossy(output.line).into_owned(),
            },
            distinct: output.distinct,
            sort: output.sort.iter().map(|v| SortValue::new(v)).collect(),
        };
        self.keep(entry)
    }

    /// These labels, once for all entries loaded that have them; charged when they are new.
    fn shared_stream(&mut self, labels: LabelSet) -> Result<LabelSet, BudgetError> {
        if let Some(known) = self.loaded.get(&labels) {
            return Ok(known.clone());
        }
        let bytes = labels.memory_bytes() + size_of::<LabelSet>();
        self.budget.take_memory(bytes as u64)?;
        self.loaded.insert(labels.clone());
        Ok(labels)
    }

    fn keep(&mut self, entry: Entry) -> Result<(), BudgetError> {
        let bytes = entry.memory_bytes() as u64;
        match self.plan.selection {
            Selection::All => {
                self.budget.take_memory(bytes)?;
                self.all.push(entry);
            }
            Selection::FirstOfEach => match self.firsts.get_mut(&entry.distinct) {
                Some(first) => {
                    if entry.by_time(first, self.plan.direction).is_lt() {
                        *first = entry;
                    }
                }
                None => {
                    self.budget.take_memory(bytes)?;
                    self.firsts.insert(entry.distinct, entry);
                }
            },
            Selection::First | Selection::Sorted => {
                let plan = self.plan;
                self.budget.take_memory(bytes)?;
                self.heap.push(Ranked { entry, plan });
                if self.heap.len() > plan.limit
                    && let Some(worst) = self.heap.pop()
                {
                    self.budget.give_memory(worst.entry.memory_bytes() as u64);
                }
                if self.heap.len() == plan.limit
                    && let Some(worst) = self.heap.peek()
                {
                    self.shared.tighten(worst.entry.at);
                }
            }
        }
        Ok(())
    }
}

impl ShareSink for LogSink<'_> {
    fn save(sinks: Vec<Self>) -> Vec<u8> {
        let Some(plan) = sinks.first().map(|sink| sink.plan) else {
            return Vec::new();
        };
        let entries = sinks.into_iter().flat_map(LogSink::into_entries);
        let mut entries: Vec<Entry> = entries.collect();
        if matches!(plan.selection, Selection::First | Selection::Sorted) {
            entries.sort_by(|a, b| a.by_plan(b, plan));
            entries.truncate(plan.limit);
        }
        let mut out = Writer::default();
        entries.iter().for_each(|entry| entry.save(&mut out));
        out.finish()
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), SourceError> {
        // Read twice: entries that are kept rule out others of the same query, so none may be kept of
        // what is damaged further on, and one is held at a time.
        let mut from = Reader::new(saved);
        while !from.is_empty() {
            Entry::load(&mut from).ok_or_else(share::unreadable)?;
        }
        let mut from = Reader::new(saved);
        while !from.is_empty() {
            let mut entry = Entry::load(&mut from).ok_or_else(share::unreadable)?;
            entry.stream = self.shared_stream(entry.stream)?;
            self.keep(entry)?;
        }
        Ok(())
    }
}

/// The labels as a set; `last` again if they are the same.
fn same_or_new<'a, I>(labels: impl Fn() -> I, last: &mut LabelSet) -> LabelSet
where
    I: Iterator<Item = (&'a str, &'a str)>,
{
    if !last.is(labels()) {
        *last = LabelSet::new(labels());
    }
    last.clone()
}

impl Sink for LogSink<'_> {
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError> {
        if self.plan.limit == 0 {
            return Ok(Flow::Stop);
        }
        self.runner.stream(block.labels);
        match self.plan.direction {
            Direction::Forward => {
                for row in 0..block.rows {
                    if self.is_too_late(block.timestamps[row]) {
                        break;
                    }
                    self.row(block, row)?;
                }
            }
            Direction::Backward => {
                for row in (0..block.rows).rev() {
                    if self.is_too_late(block.timestamps[row]) {
                        break;
                    }
                    self.row(block, row)?;
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn bound(&self) -> Option<Timestamp> {
        let bound = self.shared.get();
        let known = self.plan.selection == Selection::First
            && bound != Timestamp::MIN
            && bound != Timestamp::MAX;
        known.then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ast::Expr;
    use super::super::super::parse::parse;
    use super::super::super::pipeline::LabelNeed;
    use super::super::leaf::Leaf;
    use super::*;

    #[test]
    fn the_stream_of_entries_loaded_is_charged_once_and_a_damaged_share_not_at_all() {
        let Ok(Expr::Log(log)) = parse(r#"{app="a"}"#) else {
            panic!("no log query");
        };
        let leaf = Leaf::new(&log, None, LabelNeed::All, false, None).unwrap();
        let plan = Plan {
            direction: Direction::Forward,
            limit: 2,
            selection: Selection::First,
            distinct: false,
            descending: None,
        };
        let stream = LabelSet::new([("app", "a")]);
        let entry = |at| Entry {
            at,
            stream: stream.clone(),
            metadata: LabelSet::default(),
            parsed: LabelSet::default(),
            line: "line".to_owned(),
            distinct: 0,
            sort: Vec::new(),
        };
        let mut out = Writer::default();
        (1..=2).for_each(|at| entry(at).save(&mut out));
        let saved = out.finish();
        let (shared, budget) = (Shared::new(Direction::Forward), Budget::new(10_000, 0));
        let mut sink = LogSink::new(&plan, &shared, leaf.runner(&budget), &budget);
        let damaged = [&saved[..], &saved[..saved.len() - 1]].concat();
        assert!(sink.load(&damaged).is_err());
        assert_eq!((budget.left().0, sink.bound()), (10_000, None));
        for _ in 0..3 {
            sink.load(&saved).unwrap();
            let own = stream.memory_bytes() + size_of::<LabelSet>();
            let held = 2 * entry(1).memory_bytes() + own;
            assert_eq!(budget.left().0, 10_000 - held as u64);
        }
        let at: Vec<_> = sink.into_entries().iter().map(|entry| entry.at).collect();
        assert_eq!(at, [1, 1]);
    }
}
