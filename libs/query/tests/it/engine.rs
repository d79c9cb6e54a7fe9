//! The engine over records in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: a panic is the failure of the test"
)]

mod log;
mod metric;
mod property;
mod pushdown;
mod robust;
mod stages;
mod twin;

use std::sync::Arc;

use model::Labels;
use query::Budget;
use query::logql::engine::{
    Answer, Direction, EngineError, Limits, Params, Value, execute, merged,
};
use query::logql::parse::parse;
use testkit::MemorySource;

pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Arc<Labels> {
    Arc::new(Labels::new(pairs.iter().copied()).expect("a label set"))
}

pub(crate) fn run(
    source: &MemorySource,
    query: &str,
    params: &Params,
) -> Result<Answer, EngineError> {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let limits = Limits::default();
    execute(&expr, params, &limits, source, &Budget::unlimited())
}

/// Evaluation at a number of seconds.
pub(crate) fn at(seconds: i64) -> Params {
    Params {
        start: seconds * SECOND,
        end: seconds * SECOND,
        step: 0,
        interval: 0,
        limit: 100,
        direction: Direction::Backward,
        now: None,
    }
}

/// Evaluation every `step` seconds.
pub(crate) fn every(start: i64, end: i64, step: i64) -> Params {
    Params {
        start: start * SECOND,
        end: end * SECOND,
        step: step * SECOND,
        ..at(0)
    }
}

/// One line per sample, series or entry; times in seconds.
pub(crate) fn show(value: &Value) -> Vec<String> {
    match value {
        Value::Scalar { value, .. } => vec![value.to_string()],
        Value::Vector(samples) => samples
            .iter()
            .map(|sample| format!("{} {}", sample.labels, sample.value))
            .collect(),
        Value::Matrix(series) => series
            .iter()
            .map(|series| {
                let points = series.points.iter();
                let points: Vec<String> = points
                    .map(|(at, value)| format!("{value}@{}", at / SECOND))
                    .collect();
                format!("{} {}", series.labels, points.join(" "))
            })
            .collect(),
        Value::Streams(streams) => {
            let merged = merged(streams);
            let lines = merged.iter().flat_map(|stream| {
                let entries = stream.entries.iter();
                entries.map(|(at, line)| format!("{} {} {line}", stream.labels, at / SECOND))
            });
            lines.collect()
        }
    }
}

#[track_caller]
pub(crate) fn check(source: &MemorySource, query: &str, params: &Params, want: &[&str]) {
    let answer = run(source, query, params).unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(show(&answer.value), want, "{query}");
    let split = source.clone().split(query.len() as u64, 3, 4);
    let answer = run(&split, query, params).unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(show(&answer.value), want, "{query}, rows split over sinks");
}

#[track_caller]
pub(crate) fn check_fails(source: &MemorySource, query: &str, params: &Params, want: &str) {
    match run(source, query, params) {
        Ok(answer) => panic!("{query}: {:?}", show(&answer.value)),
        Err(error) => assert_eq!(error.to_string(), want, "{query}"),
    }
}
