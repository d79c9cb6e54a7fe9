//! Log queries: the first `limit` entries that the pipeline leaves, in the order asked for.
//!
//! `distinct` and `sort`, of each of which there is one at most, look at the labels where they stand
//! and work on the entries that all stages leave: of those with equal values the first by time is
//! kept, then `interval` thins, then entries are sorted, then the limit cuts.

use std::cmp::Ordering;

use hashbrown::{HashMap, HashSet};
use model::{LineColumn, TimeRange, Timestamp};

use super::super::ast::{LogExpr, Stage};
use super::super::parse::parse_duration;
use super::super::pipeline::LabelNeed;
use super::answer::{Answer, LogEntry, StreamResult, Value};
use super::labels::LabelSet;
use super::leaf::Leaf;
use super::log_sink::{Entry, LogSink, Selection, Shared};
use super::share::{Reader, Share, ShareScan, Writer};
use super::{Direction, EngineError, Limits, Params, share};
use crate::{Budget, ScanOrder, ScanRequest, ScanStats, Source};

/// Which entries to keep and in which order, as the sinks need it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) direction: Direction,
    pub(super) limit: usize,
    pub(super) selection: Selection,
    pub(super) distinct: bool,
    /// If there is a `sort`: whether largest first.
    pub(super) descending: Option<bool>,
}

pub(super) fn execute<S: Source>(
    expr: &LogExpr,
    params: &Params,
    limits: &Limits,
    source: &S,
    budget: &Budget,
) -> Result<Answer, EngineError> {
    let plan = plan(expr, params);
    let (leaf, request) = prepare(expr, params, &plan, limits.detect_level)?;
    let shared = Shared::new(params.direction);
    let new_sink = || LogSink::new(&plan, &shared, leaf.runner(budget), budget);
    let share = || {
        let share = Share {
            scan: ShareScan::Log {
                expr: expr.clone(),
                // Of no meaning to a log query.
                params: Params { step: 0, ..*params },
            },
            detect_level: limits.detect_level,
            now: params.now,
        };
        share.encode()
    };
    let (sinks, stats) = source.scan_share(&request, &share, budget, &new_sink)?;
    let entries = sinks.into_iter().flat_map(LogSink::into_entries).collect();
    let entries = choose(entries, &plan, params.interval);
    Ok(Answer {
        value: Value::Streams(streams(entries, plan.descending.is_some())),
        stats,
        warnings: Vec::new(),
    })
}

/// What the sinks of a share hold.
pub(super) fn share<S: Source>(
    expr: &LogExpr,
    params: &Params,
    detect_level: bool,
    source: &S,
    budget: &Budget,
) -> Result<(Vec<u8>, ScanStats), EngineError> {
    let plan = plan(expr, params);
    let (leaf, request) = prepare(expr, params, &plan, detect_level)?;
    let shared = Shared::new(params.direction);
    let new_sink = || LogSink::new(&plan, &shared, leaf.runner(budget), budget);
    share::saved(source, &request, budget, &new_sink)
}

fn prepare(
    expr: &LogExpr,
    params: &Params,
    plan: &Plan,
    detect_level: bool,
) -> Result<(Leaf, ScanRequest), EngineError> {
    let leaf = Leaf::new(expr, None, LabelNeed::All, detect_level, params.now)?;
    let range = TimeRange::new(params.start, params.end);
    let mut request = leaf.request(range, true, LineColumn::Bytes);
    request.order = match (plan.selection, params.direction) {
        (Selection::First, Direction::Backward) => ScanOrder::Backward,
        (Selection::First, Direction::Forward) => ScanOrder::Forward,
        _ => ScanOrder::Any,
    };
    Ok((leaf, request))
}

fn plan(expr: &LogExpr, params: &Params) -> Plan {
    let is_distinct = |stage: &Stage| matches!(stage, Stage::Distinct(_));
    let distinct = expr.stages.iter().any(is_distinct);
    let descending = expr.stages.iter().find_map(|stage| match stage {
        Stage::Sort { descending, .. } => Some(*descending),
        _ => None,
    });
    let selection = if distinct {
        Selection::FirstOfEach
    } else if params.interval > 0 {
        Selection::All
    } else if descending.is_some() {
        Selection::Sorted
    } else {
        Selection::First
    };
    Plan {
        direction: params.direction,
        limit: params.limit as usize,
        selection,
        distinct,
        descending,
    }
}

/// The entries to show, of those that all sinks kept.
fn choose(mut entries: Vec<Entry>, plan: &Plan, interval: i64) -> Vec<Entry> {
    entries.sort_by(|a, b| a.by_time(b, plan.direction));
    if plan.distinct {
        let mut seen: HashSet<u128> = HashSet::new();
        entries.retain(|entry| seen.insert(entry.distinct));
    }
    if interval > 0 {
        let mut last: Option<Timestamp> = None;
        entries.retain(|entry| {
            let apart = last.is_none_or(|last| {
                let distance = entry.at.saturating_sub(last).saturating_abs();
                distance >= interval
            });
            if apart {
                last = Some(entry.at);
            }
            apart
        });
    }
    if plan.descending.is_some() {
        entries.sort_by(|a, b| a.by_plan(b, plan));
    }
    entries.truncate(plan.limit);
    entries
}

/// Entries by stream. Streams by labels, or by their first entry if the query sorts.
fn streams(entries: Vec<Entry>, sorts: bool) -> Vec<StreamResult> {
    let mut index: HashMap<LabelSet, usize> = HashMap::new();
    let mut out: Vec<StreamResult> = Vec::new();
    for (place, entry) in (0_u32..).zip(entries) {
        let at = match index.get(&entry.stream) {
            Some(at) => *at,
            None => {
                index.insert(entry.stream.clone(), out.len());
                out.push(StreamResult {
                    labels: entry.stream,
                    entries: Vec::new(),
                });
                out.len() - 1
            }
        };
        out[at].entries.push(LogEntry {
            at: entry.at,
            line: entry.line,
            metadata: entry.metadata,
            parsed: entry.parsed,
            place: sorts.then_some(place),
        });
    }
    if !sorts {
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    out
}

/// A value of `sort`: numbers by size come before durations by length, these before all texts.
#[derive(Clone, Debug)]
pub(super) enum SortValue {
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    Text(Box<str>),
}

impl SortValue {
    pub(super) fn new(text: &str) -> Self {
        if let Ok(number) = text.parse() {
            SortValue::Number(number)
        } else if let Some(nanos) = parse_duration(text) {
            SortValue::Duration(nanos)
        } else {
            SortValue::Text(text.into())
        }
    }

    /// Which is shown first. What is empty, also because the label is absent, comes last in either
    /// order.
    pub(super) fn order(&self, other: &Self, descending: bool) -> Ordering {
        let order = match (self.is_empty(), other.is_empty()) {
            (false, false) => self.compare(other),
            (empty, other) => return empty.cmp(&other),
        };
        if descending { order.reverse() } else { order }
    }

    fn is_empty(&self) -> bool {
        matches!(self, SortValue::Text(text) if text.is_empty())
    }

    fn compare(&self, other: &Self) -> Ordering {
        use SortValue::*;
        match (self, other) {
            (Number(a), Number(b)) => a.total_cmp(b),
            (Duration(a), Duration(b)) => a.cmp(b),
            (Text(a), Text(b)) => a.cmp(b),
            (Number(_), _) | (Duration(_), Text(_)) => Ordering::Less,
            (_, Number(_)) | (Text(_), Duration(_)) => Ordering::Greater,
        }
    }

    pub(super) fn save(&self, out: &mut Writer) {
        match self {
            SortValue::Number(value) => {
                out.u8(0);
                out.f64(*value);
            }
            SortValue::Duration(nanos) => {
                out.u8(1);
                out.i64(*nanos);
            }
            SortValue::Text(text) => {
                out.u8(2);
                out.text(text);
            }
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Option<SortValue> {
        Some(match from.u8()? {
            0 => SortValue::Number(from.f64()?),
            1 => SortValue::Duration(from.i64()?),
            2 => SortValue::Text(from.text()?.into()),
            _ => return None,
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let text = match self {
            SortValue::Text(text) => text.len(),
            SortValue::Number(_) | SortValue::Duration(_) => 0,
        };
        size_of::<SortValue>() + text
    }
}
