//! Shares: a scan of a query with what its sinks make of the records, done by another process.
//!
//! ```text
//! here   execute ─▶ Source::scan_share ─▶ Share::encode ·····▶ run_share ─▶ scan ─▶ sinks ─▶ save   there
//!                        sinks ◀─ load ◀·························································┘
//! ```
//!
//! What a share gives back is what its sinks hold when the records are read, so that loading it is
//! the same as having had one more sink: the split is exact wherever that over several sinks is.

mod bytes;

use super::super::ast::{Expr, Grouping, LogExpr, MetricExpr, RangeAggregation, RangeInput};
use super::super::parse::parse;
use super::steps::Steps;
use super::{Direction, EngineError, Params, log, range};
use crate::{Budget, ScanRequest, ScanStats, ShareSink, Source, SourceError};

pub(super) use bytes::{Reader, Writer};

/// One scan of a query, and all that a sink needs to know.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) scan: ShareScan,
    pub(super) detect_level: bool,
    pub(super) now: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ShareScan {
    /// Entries of a log query.
    Log { expr: LogExpr, params: Params },
    /// Lanes of a range aggregation over logs.
    Range {
        aggregation: RangeAggregation,
        /// How its rows are grouped, be it by a vector aggregation around it.
        grouping: Option<Grouping>,
        steps: Steps,
    },
}

/// Most steps of a share: more than those of a subquery. A query with more is not spread.
const STEPS_MAX: usize = 200_000;

const LOG: u8 = 0;
const RANGE: u8 = 1;

impl Share {
    /// The share as bytes: LogQL and numbers. `None` when its text would not read as the same again.
    pub(super) fn encode(self) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        out.bool(self.detect_level);
        out.option(self.now, Writer::i64);
        match &self.scan {
            ShareScan::Log { expr, params } => {
                out.u8(LOG);
                out.text(&expr.to_string());
                out.i64(params.start);
                out.i64(params.end);
                out.i64(params.interval);
                out.count(params.limit as usize);
                out.bool(params.direction == Direction::Forward);
            }
            ShareScan::Range {
                aggregation,
                grouping,
                steps,
            } => {
                out.u8(RANGE);
                out.text(&aggregation.to_string());
                out.option(grouping.as_ref(), |out, grouping| {
                    out.bool(grouping.without);
                    out.count(grouping.labels.len());
                    grouping.labels.iter().for_each(|label| out.text(label));
                });
                out.i64(steps.start);
                out.i64(steps.step);
                out.count(steps.count);
            }
        }
        let bytes = out.finish();
        let same = Share::decode(&bytes).is_ok_and(|again| again == self);
        same.then_some(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Share, EngineError> {
        let mut from = Reader::new(bytes);
        let share = Share::read(&mut from).ok_or_else(damaged)?;
        if let ShareScan::Range { steps, .. } = &share.scan {
            check_steps(steps)?;
        }
        match from.is_empty() {
            true => Ok(share),
            false => Err(damaged()),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Share> {
        let detect_level = from.bool()?;
        let now = from.option(Reader::i64)?;
        let scan = match from.u8()? {
            LOG => {
                let Ok(Expr::Log(expr)) = parse(from.text()?) else {
                    return None;
                };
                let (start, end, interval) = (from.i64()?, from.i64()?, from.i64()?);
                let limit = u32::try_from(from.number()?).ok()?;
                let direction = match from.bool()? {
                    true => Direction::Forward,
                    false => Direction::Backward,
                };
                let params = Params {
                    start,
                    end,
                    step: 0,
                    interval,
                    limit,
                    direction,
                    now,
                };
                ShareScan::Log { expr, params }
            }
            RANGE => {
                let Ok(Expr::Metric(MetricExpr::Range(aggregation))) = parse(from.text()?) else {
                    return None;
                };
                let grouping = from.option(|from| {
                    let without = from.bool()?;
                    let labels = (0..from.number()?).map(|_| from.text().map(str::to_owned));
                    let labels: Option<Vec<String>> = labels.collect();
                    let labels = labels?;
                    Some(Grouping { without, labels })
                })?;
                let (start, step) = (from.i64()?, from.i64()?);
                let count = usize::try_from(from.number()?).ok()?;
                ShareScan::Range {
                    aggregation,
                    grouping,
                    steps: Steps { start, step, count },
                }
            }
            _ => return None,
        };
        Some(Share {
            scan,
            detect_level,
            now,
        })
    }
}

/// Windows are not made for steps that go nowhere, nor for more than a query has.
fn check_steps(steps: &Steps) -> Result<(), EngineError> {
    let Steps { step, count, .. } = *steps;
    if step < 1 || !(1..=STEPS_MAX).contains(&count) {
        return Err(EngineError::Invalid(format!(
            "a share of a query has {count} steps of {step} ns; 1 to {STEPS_MAX} steps of 1 ns or more can be done"
        )));
    }
    Ok(())
}

fn damaged() -> EngineError {
    EngineError::Invalid("a share of a query is damaged, or of another version".into())
}

/// What a sink says to what no sink of its query saved.
pub(super) fn unreadable() -> SourceError {
    SourceError::Unavailable("what another process made of a share of a query is damaged".into())
}

/// Does a share that another process encoded for [`Source::scan_share`]; the result is for the
/// [`ShareSink::load`] of its sinks. Which records it is over is up to the source.
///
/// # Errors
/// As [`execute`](super::execute), and `Invalid` when the share is not understood.
pub fn run_share<S: Source>(
    share: &[u8],
    source: &S,
    budget: &Budget,
) -> Result<(Vec<u8>, ScanStats), EngineError> {
    let share = Share::decode(share)?;
    match &share.scan {
        ShareScan::Log { expr, params } => {
            log::share(expr, params, share.detect_level, source, budget)
        }
        ShareScan::Range {
            aggregation,
            grouping,
            steps,
        } => match &aggregation.over {
            RangeInput::Logs(logs) => {
                let job = range::Job {
                    aggregation,
                    grouping: grouping.as_ref(),
                    steps,
                };
                job.share(logs, share.detect_level, share.now, source, budget)
            }
            RangeInput::Subquery { .. } => Err(damaged()),
        },
    }
}

/// Scans, and saves what the sinks hold.
pub(super) fn saved<S: Source, K: ShareSink>(
    source: &S,
    request: &ScanRequest,
    budget: &Budget,
    new_sink: &(dyn Fn() -> K + Sync),
) -> Result<(Vec<u8>, ScanStats), EngineError> {
    let (sinks, stats) = source.scan(request, budget, new_sink)?;
    budget.check()?;
    Ok((K::save(sinks), stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(step: i64, count: usize) -> Share {
        let Ok(Expr::Metric(MetricExpr::Range(aggregation))) =
            parse(r#"count_over_time({app="a"}[1m])"#)
        else {
            panic!("no range aggregation");
        };
        Share {
            scan: ShareScan::Range {
                aggregation,
                grouping: None,
                steps: Steps {
                    start: 0,
                    step,
                    count,
                },
            },
            detect_level: false,
            now: None,
        }
    }

    #[test]
    fn steps_that_no_query_has_are_refused_and_not_asked_for() {
        let sound = share(7, 3).encode().unwrap();
        assert_eq!(Share::decode(&sound).unwrap(), share(7, 3));
        let end = sound.len() - 9;
        for (step, count) in [(0, 3), (-7, 3), (7, 0), (1, STEPS_MAX + 1), (1, usize::MAX)] {
            assert_eq!(share(step, count).encode(), None);
            let mut out = Writer::default();
            out.i64(step);
            out.count(count);
            let bytes = [&sound[..end], &out.finish()].concat();
            let refused = Share::decode(&bytes).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("{count} steps of {step} ns")),
                "{refused}"
            );
        }
    }
}
