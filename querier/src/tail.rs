//! Live views: what arrives, as it arrives, through the pipeline of a query.
//!
//! What it is: the state of one connection, pure, and the count of connections of each tenant. The
//! WebSockets are in `http::tail` and `http::live`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use model::{Labels, LogBatch, TenantId, Timestamp};
use parking_lot::Mutex;
use query::Budget;
use query::logql::ast::{Expr, LogExpr, Stage};
use query::logql::engine::{self, MergedStream, StreamResult, Value};

use crate::Error;
use crate::source::{BatchSource, Hidden};

/// Most dropped entries that one notice names; it counts the others.
const DROPPED_NAMED_MAX: usize = 100;

/// Entries that a view remembers, 30 bytes each.
const SHOWN_MAX: usize = 16 << 10;

/// How many live views each tenant has open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails {
    open: Arc<Mutex<HashMap<TenantId, usize>>>,
}

/// One open view; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenTail {
    tails: Tails,
    tenant: TenantId,
}

impl Tails {
    /// Counts one more view, unless there are `max` already.
    pub(crate) fn open(&self, tenant: &TenantId, max: usize) -> Result<OpenTail, Error> {
        let mut open = self.open.lock();
        let count = open.entry(tenant.clone()).or_default();
        if *count >= max {
            return Err(Error::Invalid(format!(
                "max concurrent tail requests limit exceeded, count > limit ({} > {max})",
                *count + 1
            )));
        }
        *count += 1;
        Ok(OpenTail {
            tails: self.clone(),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for OpenTail {
    fn drop(&mut self) {
        let mut open = self.tails.open.lock();
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

/// What a connection has not sent yet.
#[derive(Debug)]
pub(crate) struct Pending {
    tenant: TenantId,
    batches: VecDeque<(Timestamp, Arc<LogBatch>)>,
    entries: usize,
    entries_max: usize,
    dropped: Dropped,
}

/// Entries that the client will not get because it reads too slowly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// How many entries. Of whole batches that were missed, each counts once, because nobody
    /// knows what was in them.
    pub(crate) count: u64,
    /// Labels and times of some of them.
    pub(crate) named: Vec<(Arc<Labels>, Timestamp)>,
}

impl Pending {
    pub(crate) fn new(tenant: TenantId, entries_max: usize) -> Self {
        Pending {
            tenant,
            batches: VecDeque::new(),
            entries: 0,
            entries_max,
            dropped: Dropped::default(),
        }
    }

    /// Whose records these are.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// A batch arrived. When there is no room for it, the oldest ones go.
    pub(crate) fn push(&mut self, now: Timestamp, batch: Arc<LogBatch>) {
        if batch.tenant != self.tenant {
            return;
        }
        self.entries += batch.len();
        self.batches.push_back((now, batch));
        while self.entries > self.entries_max && self.batches.len() > 1 {
            if let Some((_, oldest)) = self.batches.pop_front() {
                self.entries -= oldest.len();
                self.dropped.add(&oldest);
            }
        }
    }

    /// So many batches passed by unseen.
    pub(crate) fn missed(&mut self, now: Timestamp, batches: u64) {
        self.dropped.count += batches;
        if self.dropped.named.len() < DROPPED_NAMED_MAX {
            self.dropped.named.push((Arc::default(), now));
        }
    }

    /// The batches that arrived before a time.
    pub(crate) fn take_before(&mut self, until: Timestamp) -> Vec<Arc<LogBatch>> {
        let ready = self.batches.iter().take_while(|(at, _)| *at <= until);
        let ready = ready.count();
        let taken: Vec<_> = self
            .batches
            .drain(..ready)
            .map(|(_, batch)| batch)
            .collect();
        self.entries -= taken.iter().map(|batch| batch.len()).sum::<usize>();
        taken
    }

    /// What was dropped since the last time.
    pub(crate) fn take_dropped(&mut self) -> Option<Dropped> {
        (self.dropped.count > 0).then(|| std::mem::take(&mut self.dropped))
    }
}

impl Dropped {
    fn add(&mut self, batch: &LogBatch) {
        self.count += batch.len() as u64;
        for stream in &batch.streams {
            for row in stream.rows.clone() {
                if self.named.len() >= DROPPED_NAMED_MAX {
                    return;
                }
                let at = batch.timestamps[row as usize];
                self.named.push((Arc::clone(&stream.labels), at));
            }
        }
    }
}

/// The entries that were shown last. Those of history may arrive while it is read, and a sender that
/// got no answer sends its records again, in other batches: they are not shown twice.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    entries: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Shown {
    /// Leaves out what was shown; the rest is from now on.
    pub(crate) fn keep_new(&mut self, streams: &mut Vec<StreamResult>) {
        for stream in streams.iter_mut() {
            let mut entries = std::mem::take(&mut stream.entries);
            entries.retain(|entry| self.is_new(fingerprint(stream, entry)));
            stream.entries = entries;
        }
        streams.retain(|stream| !stream.entries.is_empty());
    }

    fn is_new(&mut self, entry: u64) -> bool {
        if !self.entries.insert(entry) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        true
    }
}

fn fingerprint(stream: &StreamResult, entry: &engine::LogEntry) -> u64 {
    let mut hash = DefaultHasher::new();
    entry.at.hash(&mut hash);
    entry.line.hash(&mut hash);
    for set in [&stream.labels, &entry.metadata, &entry.parsed] {
        for pair in set.iter() {
            pair.hash(&mut hash);
        }
        hash.write_u8(0);
    }
    hash.finish()
}

/// The query of a live view.
///
/// # Errors
/// When it is no log query, or has a stage that needs all entries at once.
pub(crate) fn live_query(text: &str) -> Result<LogExpr, Error> {
    let expr = query::logql::parse_log(text)?;
    for stage in &expr.stages {
        let name = match stage {
            Stage::Sort { .. } => "sort",
            Stage::Distinct(_) => "distinct",
            _ => continue,
        };
        return Err(Error::Invalid(format!(
            "{name} has no place in a live view: entries are shown as they arrive"
        )));
    }
    Ok(expr)
}

/// What a live view may do with each frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilterLimits {
    pub(crate) memory_bytes_max: u64,
    pub(crate) detect_level: bool,
}

/// The entries of some batches that pass a query and are not hidden, oldest first.
///
/// # Errors
/// When the pipeline needs more memory than a query may have.
pub(crate) fn filter(
    expr: &LogExpr,
    tenant: TenantId,
    batches: Vec<Arc<LogBatch>>,
    hidden: Hidden,
    limits: &FilterLimits,
) -> Result<Vec<StreamResult>, Error> {
    let params = engine::Params {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
        step: 0,
        interval: 0,
        limit: u32::MAX,
        direction: engine::Direction::Forward,
        now: None,
    };
    let budget = Budget::new(limits.memory_bytes_max, 0);
    let source = BatchSource {
        tenant,
        batches,
        hidden,
    };
    let limits = engine::Limits {
        detect_level: limits.detect_level,
        ..engine::Limits::default()
    };
    let expr = Expr::Log(expr.clone());
    let answer = engine::execute(&expr, &params, &limits, &source, &budget)?;
    match answer.value {
        Value::Streams(streams) => Ok(streams),
        _ => Err(Error::Internal("a log query gave no streams".into())),
    }
}

/// The entries of all streams in one row, oldest first.
pub(crate) fn flat<'a>(
    streams: &'a [MergedStream<'a>],
) -> Vec<(Timestamp, &'a str, &'a engine::LabelSet)> {
    let mut entries: Vec<_> = streams
        .iter()
        .flat_map(|stream| {
            let entries = stream.entries.iter();
            entries.map(move |(at, line)| (*at, *line, &stream.labels))
        })
        .collect();
    entries.sort_by_key(|entry| entry.0);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{LogBatchBuilder, Signal, StreamId};

    fn batch(tenant: &TenantId, first: Timestamp, rows: usize) -> Arc<LogBatch> {
        let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
        let mut builder = LogBatchBuilder::new(tenant.clone());
        builder.stream(StreamId::of(tenant, Signal::Logs, &labels), &labels);
        for row in 0..rows {
            builder.push(first + row as i64, b"x", &mut []);
        }
        Arc::new(builder.finish())
    }

    #[test]
    fn a_view_that_falls_behind_loses_the_oldest_entries_and_says_which() {
        let tenant = TenantId::default();
        let mut pending = Pending::new(tenant.clone(), 5);
        pending.push(1, batch(&tenant, 10, 2));
        pending.push(2, batch(&tenant, 20, 3));
        assert_eq!(pending.take_dropped(), None);
        pending.push(3, batch(&tenant, 30, 1));
        let dropped = pending.take_dropped().unwrap();
        assert_eq!(dropped.count, 2);
        let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
        assert_eq!(dropped.named, [(Arc::clone(&labels), 10), (labels, 11)]);
        assert_eq!(pending.take_dropped(), None);
        let left: Vec<usize> = pending.take_before(3).iter().map(|b| b.len()).collect();
        assert_eq!(left, [3, 1]);
    }

    #[test]
    fn a_batch_larger_than_the_room_is_kept_alone() {
        let tenant = TenantId::default();
        let mut pending = Pending::new(tenant.clone(), 5);
        pending.push(1, batch(&tenant, 10, 9));
        assert_eq!(pending.take_dropped(), None);
        assert_eq!(pending.take_before(1).len(), 1);
    }

    #[test]
    fn batches_are_held_back_until_their_time_and_those_of_others_never_shown() {
        let tenant = TenantId::default();
        let other = TenantId::new("blue").unwrap();
        let mut pending = Pending::new(tenant.clone(), 5);
        pending.push(1, batch(&other, 10, 1));
        pending.push(2, batch(&tenant, 10, 1));
        pending.push(7, batch(&tenant, 11, 1));
        assert!(pending.take_before(1).is_empty());
        assert_eq!(pending.take_before(6).len(), 1);
        assert_eq!(pending.take_before(7).len(), 1);
    }

    #[test]
    fn entries_are_shown_once_and_memory_is_bounded() {
        let mut shown = Shown::default();
        assert!(shown.is_new(1) && !shown.is_new(1));
        assert!((2..SHOWN_MAX as u64 + 2).all(|entry| shown.is_new(entry)));
        assert!(shown.is_new(1), "the oldest is forgotten");
        assert_eq!(
            (shown.entries.len(), shown.order.len()),
            (SHOWN_MAX, SHOWN_MAX)
        );
    }

    #[test]
    fn stages_that_need_all_entries_are_refused() {
        assert!(live_query(r#"{app="a"} |= "x" | json"#).is_ok());
        for stage in ["sort by (a)", "distinct a"] {
            let error = live_query(&format!(r#"{{app="a"}} | json | {stage}"#)).unwrap_err();
            assert!(
                error.to_string().contains("no place in a live view"),
                "{error}"
            );
        }
    }

    #[test]
    fn missed_batches_are_counted() {
        let mut pending = Pending::new(TenantId::default(), 5);
        pending.missed(9, 4);
        let dropped = pending.take_dropped().unwrap();
        assert_eq!((dropped.count, dropped.named.len()), (4, 1));
    }

    #[test]
    fn views_are_counted_by_tenant_until_they_close() {
        let tails = Tails::default();
        let (a, b) = (TenantId::default(), TenantId::new("b").unwrap());
        let first = tails.open(&a, 1).unwrap();
        assert_eq!(
            tails.open(&a, 1).unwrap_err().to_string(),
            "max concurrent tail requests limit exceeded, count > limit (2 > 1)"
        );
        assert!(tails.open(&b, 1).is_ok());
        drop(first);
        assert!(tails.open(&a, 1).is_ok());
    }
}
