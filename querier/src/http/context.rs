//! `context`: the lines around one line. An extension; Loki leaves it to its clients to ask twice.

use axum::extract::State;
use axum::response::Response;
use model::Timestamp;
use query::logql::ast::Expr;
use query::logql::engine::{self, Direction, LabelSet, LogEntry, StreamResult, Value};
use query::{Budget, Reach, Source};

use super::answer;
use super::call::Call;
use super::json::Json;
use crate::tenants::TenantsSource;
use crate::{Error, Querier};

/// Lines on each side when the request does not say.
const LINES_DEFAULT: u64 = 10;
/// How far is looked at first, nanoseconds; most neighbours are near.
const REACH_FIRST: i64 = 3_600_000_000_000;
/// How much further each time there were too few: after seven times it is four centuries.
const REACH_FACTOR: i64 = 8;

/// A line and the labels of its stream.
type Entry = (LabelSet, LogEntry);

/// What is asked.
struct Asked {
    expr: Expr,
    at: Timestamp,
    /// Which of the lines of that time; `None`: the first.
    line: Option<String>,
    before: usize,
    after: usize,
    /// How far to look, nanoseconds.
    reach: i64,
    /// Most lines of one time that can be told apart.
    entries_max: u32,
    limits: engine::Limits,
}

/// The lines before, and the line itself with those after; both ascending by time.
struct Halves {
    before: Vec<Entry>,
    after: Vec<Entry>,
}

/// `/loki/api/v1/context`
pub(super) async fn context(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let asked = asked(&querier, &call)?;
    let work = move |source: &TenantsSource, budget: &Budget| asked.find(source, budget);
    let (halves, _) = call.run(&querier, work).await?;
    let (before, after) = (by_stream(halves.before), by_stream(halves.after));
    let mut json = Json::default();
    json.object(|json| {
        json.key("status").string("success");
        json.key("data").object(|json| {
            json.key("resultType").string("streams");
            answer::encoding_flags(json, &call);
            let result = json.key("result");
            answer::groups(result, &[&before, &after], call.categorize_labels);
        });
    });
    Ok(super::json(json))
}

fn asked(querier: &Querier, call: &Call) -> Result<Asked, Error> {
    let params = &call.params;
    let expr = query::logql::parse_log(params.query())?;
    if params.get("ts").is_none() {
        return Err(Error::Invalid(
            "'ts' is missing: give the time of a line, nanoseconds".into(),
        ));
    }
    let config = &querier.shared.config;
    let lines = |name: &str| match params.integer(name)?.unwrap_or(LINES_DEFAULT as i64) {
        lines @ 0.. => Ok(lines as u64),
        _ => Err(Error::Invalid(format!("'{name}' must not be negative"))),
    };
    let (before, after) = (lines("before")?, lines("after")?);
    let wanted = before.saturating_add(after).saturating_add(1);
    if wanted > config.entries_max {
        return Err(Error::Invalid(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query \
             ({wanted} > {})",
            config.entries_max
        )));
    }
    let reach = i64::try_from(config.query_length_max.as_nanos()).unwrap_or(i64::MAX);
    Ok(Asked {
        expr: Expr::Log(expr),
        at: params.timestamp("ts", 0)?,
        line: params.get("line").map(str::to_owned),
        before: before as usize,
        after: after as usize,
        reach: if reach == 0 { i64::MAX } else { reach },
        entries_max: u32::try_from(config.entries_max).unwrap_or(u32::MAX),
        limits: engine::Limits {
            series_max: config.series_max,
            detect_level: config.discover_log_levels,
            series_partial: false,
        },
    })
}

impl Asked {
    /// All of it from one snapshot.
    fn find(&self, source: &TenantsSource, budget: &Budget) -> Result<Halves, Error> {
        source.foresee(&Reach::everything());
        let (at, next) = (self.at, self.at.saturating_add(1));
        let mut same = self.scan(
            source,
            budget,
            (at, next),
            Direction::Forward,
            self.entries_max,
        )?;
        let place = match &self.line {
            None => 0,
            Some(line) => {
                let found = same.iter().position(|(_, entry)| entry.line == *line);
                found.ok_or_else(|| {
                    Error::Invalid(format!("no line of time {at} is the one given as 'line'"))
                })?
            }
        };
        let mut after = same.split_off(place);
        // Without a line at the time itself, the half after starts with what follows.
        let wanted = self.after + usize::from(!after.is_empty());
        self.fill(source, budget, &mut after, wanted, Direction::Forward)?;
        same.reverse();
        self.fill(source, budget, &mut same, self.before, Direction::Backward)?;
        same.reverse();
        Ok(Halves {
            before: same,
            after,
        })
    }

    /// Goes away from the line, further and further, until there are enough lines.
    fn fill(
        &self,
        source: &TenantsSource,
        budget: &Budget,
        entries: &mut Vec<Entry>,
        wanted: usize,
        direction: Direction,
    ) -> Result<(), Error> {
        let (mut near, mut step) = (0, REACH_FIRST);
        while entries.len() < wanted && near < self.reach {
            let far = step.min(self.reach);
            let range = match direction {
                Direction::Backward => (self.at.saturating_sub(far), self.at.saturating_sub(near)),
                Direction::Forward => {
                    let first = self.at.saturating_add(1);
                    (first.saturating_add(near), first.saturating_add(far))
                }
            };
            let missing = (wanted - entries.len()) as u32;
            entries.extend(self.scan(source, budget, range, direction, missing)?);
            near = far;
            step = step.saturating_mul(REACH_FACTOR);
        }
        entries.truncate(wanted);
        Ok(())
    }

    /// Lines of `[start, end)`, the first `limit` ones in this direction, in its order.
    fn scan(
        &self,
        source: &TenantsSource,
        budget: &Budget,
        (start, end): (Timestamp, Timestamp),
        direction: Direction,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let params = engine::Params {
            start,
            end,
            step: 0,
            interval: 0,
            limit,
            direction,
            now: None,
        };
        let answer = engine::execute(&self.expr, &params, &self.limits, source, budget)?;
        let Value::Streams(streams) = answer.value else {
            return Err(Error::Internal("a log query gave no streams".into()));
        };
        let of_stream = |stream: StreamResult| {
            let labels = stream.labels;
            let entries = stream.entries.into_iter();
            entries.map(move |entry| (labels.clone(), entry))
        };
        let mut entries: Vec<Entry> = streams.into_iter().flat_map(of_stream).collect();
        let order = |(labels, entry): &Entry| (labels.clone(), entry.line.clone());
        match direction {
            Direction::Forward => {
                entries.sort_by(|a, b| a.1.at.cmp(&b.1.at).then_with(|| order(a).cmp(&order(b))));
            }
            Direction::Backward => {
                entries.sort_by(|a, b| b.1.at.cmp(&a.1.at).then_with(|| order(b).cmp(&order(a))));
            }
        }
        Ok(entries)
    }
}

/// Entries as streams, each where its first entry stands.
fn by_stream(entries: Vec<Entry>) -> Vec<StreamResult> {
    let mut streams: Vec<StreamResult> = Vec::new();
    for (labels, entry) in entries {
        match streams.iter_mut().find(|stream| stream.labels == labels) {
            Some(stream) => stream.entries.push(entry),
            None => streams.push(StreamResult {
                labels,
                entries: vec![entry],
            }),
        }
    }
    streams
}
