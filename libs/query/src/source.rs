//! Where a query gets its records from.
//!
//! ```text
//! engine --ScanRequest--> Source --RowBlock--> Sink (one per worker) --> merged by the engine
//! ```
//!
//! The source prunes, reads, decodes, applies the pushed-down line filter, and drops copies of a
//! record; the engine's sinks run the rest of the pipeline and aggregate. A source may use several
//! workers: each gets a sink of its own from the factory, and all sinks come back to the engine.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use model::{Columns, Flow, LineFilter, Outcomes, RowBlock, Selector, TimeRange, Timestamp};

/// What one scan must deliver: every record of the tenant (which the source knows) that matches
/// selector, range and line filter, each exactly once. Records that the test of its outcomes finds of
/// no use may be left out.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Streams.
    pub selector: Selector,
    /// Record times.
    pub range: TimeRange,
    /// Applied to the stored line, before any other stage.
    pub line_filter: LineFilter,
    /// What the sinks will look at.
    pub columns: Columns,
    /// What is asked about a property of lines: beside or instead of the lines themselves.
    pub outcomes: Option<Outcomes>,
    /// Whether, and from which end, the sinks may stop early.
    pub order: ScanOrder,
}

/// What all scans of a query together ask for, at most: each has one of these selectors, and its range
/// is inside of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Streams; empty when there is no scan.
    pub selectors: Vec<Selector>,
    /// Record times.
    pub range: TimeRange,
}

impl Default for Reach {
    fn default() -> Self {
        Reach {
            selectors: Vec::new(),
            range: TimeRange::new(0, 0),
        }
    }
}

impl Reach {
    /// Everything that may ever be asked for.
    pub fn everything() -> Self {
        Reach {
            selectors: vec![Selector::default()],
            range: TimeRange::ALL,
        }
    }

    /// Adds what another scan asks for; an empty range asks for nothing.
    pub fn add(&mut self, selector: Selector, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        self.range = match self.selectors.is_empty() {
            true => range,
            false => TimeRange::new(
                self.range.start.min(range.start),
                self.range.end.max(range.end),
            ),
        };
        if !self.selectors.contains(&selector) {
            self.selectors.push(selector);
        }
    }

    /// Whether a scan asks for nothing that is not in here.
    pub fn covers(&self, selector: &Selector, range: TimeRange) -> bool {
        let known = |own: &Selector| own.matchers.is_empty() || own == selector;
        range.is_empty()
            || (self.selectors.iter().any(known)
                && self.range.start <= range.start
                && range.end <= self.range.end)
    }
}

/// In which order blocks are of most use. It is advice: a source may ignore it, and blocks of one
/// chunk always hold their rows in ascending time. Only [`Sink::bound`] makes it pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanOrder {
    /// No early stop.
    Any,
    /// Latest rows first.
    Backward,
    /// Earliest rows first.
    Forward,
}

/// Takes blocks. One per worker, so it needs no lock.
pub trait Sink: Send {
    /// Takes one block; the block's memory is the source's and is gone after the call.
    ///
    /// # Errors
    /// [`BudgetError`] when the query holds or has read too much; the scan ends with it.
    fn push(&mut self, block: &RowBlock<'_>) -> Result<Flow, BudgetError>;

    /// With [`ScanOrder::Backward`]: rows *before* this time are of no more use. With
    /// [`ScanOrder::Forward`]: rows *after* it. `None` while every row may be of use.
    fn bound(&self) -> Option<Timestamp> {
        None
    }
}

/// A sink whose contents can be filled by another process: several of them hold together what one
/// would hold that all their records were pushed to.
pub trait ShareSink: Sink + Sized {
    /// What these sinks, of the same query, hold together.
    fn save(sinks: Vec<Self>) -> Vec<u8>;

    /// Adds what was saved; again and again, for one share after the other. What the sink grows by is
    /// charged to the query's budget.
    ///
    /// # Errors
    /// `Unavailable` when it was not saved by sinks of the same query: this sink is as it was before
    /// then. `Budget` when the query may not hold that much: nothing must be made of this sink then.
    fn load(&mut self, saved: &[u8]) -> Result<(), SourceError>;
}

/// Gives the records of one tenant at one version of the catalog.
pub trait Source: Send + Sync {
    /// Feeds all records of the request to sinks made by `new_sink` and returns those sinks, at
    /// least one.
    ///
    /// # Errors
    /// [`SourceError`] when anything that could hold a matching record cannot be read, or when the
    /// budget is exceeded.
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError>;

    /// As [`scan`](Self::scan), but other processes may do a share of it: for each some of the records,
    /// chosen by time, go to sinks there, and what these hold is [loaded](ShareSink::load) into sinks
    /// here. `share` gives what they need to be told, unless they cannot be.
    ///
    /// # Errors
    /// As `scan`.
    fn scan_share<K: ShareSink>(
        &self,
        request: &ScanRequest,
        _share: &dyn Fn() -> Option<Vec<u8>>,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.scan(request, budget, new_sink)
    }

    /// Tells, before the first scan, what the scans will ask for together, so that a source that sees
    /// everything at one moment need not take more than that. A scan may ask for more all the same.
    fn foresee(&self, _reach: &Reach) {}
}

/// What a scan did, for the `stats` of an answer. Scans add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Segments that may have held matching records, by the catalog.
    pub segments: u64,
    /// Chunks of those segments and batches of heads that had to be decoded.
    pub chunks: u64,
    /// Chunks left out by time, stream or filters.
    pub chunks_skipped: u64,
    /// Bytes read from object storage or its cache.
    pub bytes_read: u64,
    /// Bytes of lines in the streams and chunks looked at, as they were received.
    pub bytes_processed: u64,
    /// Rows looked at.
    pub rows_processed: u64,
    /// Rows delivered to sinks.
    pub rows_matched: u64,
    /// Copies of records left out.
    pub duplicates: u64,
}

impl ScanStats {
    /// Adds another scan's figures.
    pub fn add(&mut self, other: &ScanStats) {
        self.segments += other.segments;
        self.chunks += other.chunks;
        self.chunks_skipped += other.chunks_skipped;
        self.bytes_read += other.bytes_read;
        self.bytes_processed += other.bytes_processed;
        self.rows_processed += other.rows_processed;
        self.rows_matched += other.rows_matched;
        self.duplicates += other.duplicates;
    }
}

/// Why a scan failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The query is too large, too slow or no longer wanted.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Something that holds records cannot be reached at the moment.
    #[error("{0}")]
    Unavailable(String),
    /// Something that holds records is damaged; names object and offset.
    #[error("{0}")]
    Corrupt(String),
}

/// Which limit a query ran into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Too many bytes held at once by this query.
    #[error(
        "query needs more than {limit} bytes of memory (max_query_memory_bytes); ask for a shorter range, fewer series or a more selective filter"
    )]
    Memory {
        /// The limit, bytes.
        limit: u64,
    },
    /// Too many rows looked at.
    #[error(
        "query looks at more than {limit} rows (max_query_rows); ask for a shorter range or a more selective filter"
    )]
    Rows {
        /// The limit, rows.
        limit: u64,
    },
    /// The deadline passed.
    #[error("query timed out; ask for a shorter range or raise query_timeout")]
    Timeout,
    /// The client went away.
    #[error("query was cancelled")]
    Cancelled,
}

/// What one query may use. Shared by all its workers; checked between blocks.
#[derive(Debug)]
pub struct Budget {
    memory_limit: i64,
    memory_left: Arc<AtomicI64>,
    rows_limit: i64,
    rows_left: AtomicI64,
    timed_out: AtomicBool,
    cancelled: AtomicBool,
    halt: Halt,
}

/// Whether a query is to end, for what takes long between two checks of its [`Budget`]. Once it
/// is, it stays so; the default one never is.
#[derive(Clone, Debug, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Whether the deadline has passed or the client has left.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Budget {
    /// A budget of so many bytes held at once and rows looked at in all; 0 means no limit.
    pub fn new(memory_bytes: u64, rows: u64) -> Self {
        let limit = |n: u64| match n {
            0 => i64::MAX,
            n => i64::try_from(n).unwrap_or(i64::MAX),
        };
        Budget {
            memory_limit: limit(memory_bytes),
            memory_left: Arc::new(AtomicI64::new(limit(memory_bytes))),
            rows_limit: limit(rows),
            rows_left: AtomicI64::new(limit(rows)),
            timed_out: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            halt: Halt::default(),
        }
    }

    /// No limits at all.
    pub fn unlimited() -> Self {
        Budget::new(0, 0)
    }

    /// The deadline has passed: the next check fails.
    pub fn time_out(&self) {
        self.timed_out.store(true, Ordering::Relaxed);
        self.halt.set();
    }

    /// The client has left: the next check fails.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.halt.set();
    }

    /// Is set as soon as a check fails because the deadline has passed or the client has left.
    pub fn halt(&self) -> &Halt {
        &self.halt
    }

    /// Fails when the deadline has passed or the client has left.
    ///
    /// # Errors
    /// `Timeout` or `Cancelled`.
    pub fn check(&self) -> Result<(), BudgetError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(BudgetError::Cancelled);
        }
        if self.timed_out.load(Ordering::Relaxed) {
            return Err(BudgetError::Timeout);
        }
        Ok(())
    }

    /// Counts rows looked at, and checks as [`check`](Self::check) does.
    ///
    /// # Errors
    /// `Rows` when more than the limit were looked at, or as `check`.
    pub fn take_rows(&self, rows: u64) -> Result<(), BudgetError> {
        self.check()?;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        if self.rows_left.fetch_sub(rows, Ordering::Relaxed) < rows {
            return Err(BudgetError::Rows {
                limit: self.rows_limit as u64,
            });
        }
        Ok(())
    }

    /// Bytes that may still be held and rows that may still be looked at, 0 for no limit: what a share
    /// of the query done elsewhere may use.
    pub fn left(&self) -> (u64, u64) {
        let left = |limit: i64, left: &AtomicI64| match limit {
            i64::MAX => 0,
            _ => u64::try_from(left.load(Ordering::Relaxed)).map_or(1, |left| left.max(1)),
        };
        (
            left(self.memory_limit, &self.memory_left),
            left(self.rows_limit, &self.rows_left),
        )
    }

    /// Rows looked at so far.
    pub fn rows_taken(&self) -> u64 {
        let left = self.rows_left.load(Ordering::Relaxed);
        u64::try_from(self.rows_limit.saturating_sub(left)).unwrap_or(0)
    }

    /// Counts memory that the query now holds.
    ///
    /// # Errors
    /// `Memory` when that is more than the limit.
    pub fn take_memory(&self, bytes: u64) -> Result<(), BudgetError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.memory_left.fetch_sub(bytes, Ordering::Relaxed) < bytes {
            return Err(BudgetError::Memory {
                limit: self.memory_limit as u64,
            });
        }
        Ok(())
    }

    /// Gives memory back.
    pub fn give_memory(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.memory_left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Memory that is held where the budget itself cannot be, none at first.
    pub fn hold(&self) -> Held {
        Held {
            limit: self.memory_limit,
            left: Arc::clone(&self.memory_left),
            bytes: 0,
        }
    }
}

/// Memory that counts against a [`Budget`] until this is dropped, wherever that happens.
#[derive(Debug)]
pub struct Held {
    limit: i64,
    left: Arc<AtomicI64>,
    bytes: i64,
}

impl Held {
    /// Counts so many bytes more.
    ///
    /// # Errors
    /// `Memory` when that is more than the limit; what was held before still is, and no more.
    pub fn add(&mut self, bytes: u64) -> Result<(), BudgetError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.left.fetch_sub(bytes, Ordering::Relaxed) < bytes {
            self.left.fetch_add(bytes, Ordering::Relaxed);
            return Err(BudgetError::Memory {
                limit: self.limit as u64,
            });
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fails_when_it_is_used_up_and_not_before() {
        let budget = Budget::new(100, 10);
        assert_eq!(budget.take_rows(10), Ok(()));
        assert_eq!(budget.take_rows(1), Err(BudgetError::Rows { limit: 10 }));
        assert_eq!(budget.take_memory(100), Ok(()));
        budget.give_memory(50);
        assert_eq!(budget.take_memory(50), Ok(()));
        assert_eq!(
            budget.take_memory(1),
            Err(BudgetError::Memory { limit: 100 })
        );
    }

    #[test]
    fn memory_is_held_until_dropped_and_what_is_too_much_is_not_held() {
        let budget = Budget::new(100, 0);
        let mut held = budget.hold();
        assert_eq!(held.add(60), Ok(()));
        assert_eq!(held.add(41), Err(BudgetError::Memory { limit: 100 }));
        assert_eq!(budget.left().0, 40);
        drop(held);
        assert_eq!(budget.left().0, 100);
    }

    #[test]
    fn a_cancelled_budget_fails_every_check() {
        let budget = Budget::unlimited();
        assert_eq!(budget.take_rows(u64::MAX / 4), Ok(()));
        budget.time_out();
        assert_eq!(budget.check(), Err(BudgetError::Timeout));
        budget.cancel();
        assert_eq!(budget.take_rows(1), Err(BudgetError::Cancelled));
    }
}
