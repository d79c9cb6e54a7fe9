//! The engine over records in memory, as a target.

use std::sync::Arc;

use model::Labels;
use query::Budget;
use query::logql::engine::{Direction, LabelSet, Limits, Params, Value, execute};

use super::{Outcome, Pairs, Record, Target, When};
use crate::MemorySource;

/// The script's time zero: 2026-01-01T00:00:00Z, as for Loki. It shows where templates print times.
const ZERO: i64 = 1_767_225_600_000_000_000;
/// How the second evaluation of each query cuts the records up: seed, sinks, rows per block.
const SPLIT: (u64, usize, usize) = (7, 3, 4);

/// The engine, over records in memory. Each query is evaluated twice, with the records cut up
/// differently, and as text printed and parsed again; all must give the same.
#[derive(Debug, Default)]
pub struct Library {
    source: MemorySource,
}

impl Library {
    /// No records.
    pub fn new() -> Self {
        Library::default()
    }

    fn evaluate(source: &MemorySource, query: &str, when: When) -> Result<Outcome, String> {
        let expr = query::logql::parse(query).map_err(|error| error.to_string())?;
        let (start, end, step) = match when {
            When::Instant(at) => (ZERO + at, ZERO + at, 0),
            When::Range { from, to, step } => (ZERO + from, ZERO + to, step),
        };
        let params = Params {
            start,
            end,
            step,
            interval: 0,
            limit: 1000,
            direction: Direction::Backward,
            now: None,
        };
        let (limits, budget) = (Limits::default(), Budget::unlimited());
        let answer = execute(&expr, &params, &limits, source, &budget);
        match answer.map_err(|error| error.to_string())?.value {
            Value::Scalar { value, .. } => Ok(Outcome::Scalar(value)),
            Value::Vector(samples) => {
                let rows = samples.iter().map(|s| (pairs(&s.labels), s.value));
                Ok(Outcome::Vector(rows.collect()))
            }
            Value::Matrix(series) => {
                let rows = series.into_iter().map(|s| {
                    let points = s.points.into_iter().map(|(at, value)| (at - ZERO, value));
                    (pairs(&s.labels), points.collect())
                });
                Ok(Outcome::Matrix(rows.collect()))
            }
            Value::Streams(_) => Err("the query gives lines, not numbers".to_owned()),
        }
    }
}

fn pairs(labels: &LabelSet) -> Pairs {
    let pairs = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    pairs.collect()
}

impl Target for Library {
    fn clear(&mut self) -> Result<(), String> {
        self.source.clear();
        Ok(())
    }

    fn load(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            let pairs = record.labels.iter();
            let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
            let labels = Arc::new(Labels::new(pairs).map_err(|error| error.to_string())?);
            let metadata: Vec<(&str, &str)> = record
                .metadata
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            self.source
                .push(&labels, ZERO + record.at, &record.line, &metadata);
        }
        Ok(())
    }

    fn ask(&mut self, query: &str, when: When) -> Result<Outcome, String> {
        let first = Self::evaluate(&self.source, query, when);
        let (seed, sinks, rows_max) = SPLIT;
        let split = self.source.clone().split(seed, sinks, rows_max);
        let printed = match query::logql::parse(query) {
            Ok(expr) => expr.to_string(),
            Err(_) => return first,
        };
        let second = Self::evaluate(&split, &printed, when);
        // NaN is not equal to itself, its text is.
        if rounded(&first) == rounded(&second) {
            return first;
        }
        Err(format!(
            "answers differ with the split of the data: {first:?} and {second:?}"
        ))
    }
}

/// Twelve digits: the order of additions may change the last ones.
fn rounded(result: &Result<Outcome, String>) -> String {
    let number = |value: &f64| format!("{value:.11e}");
    match result {
        Err(message) => message.clone(),
        Ok(Outcome::Scalar(value)) => number(value),
        Ok(Outcome::Vector(rows)) => {
            let rows = rows
                .iter()
                .map(|(labels, value)| format!("{labels:?} {}", number(value)));
            rows.collect::<Vec<_>>().join("\n")
        }
        Ok(Outcome::Matrix(rows)) => {
            let rows = rows.iter().map(|(labels, points)| {
                let points = points
                    .iter()
                    .map(|(at, value)| format!("{at}:{}", number(value)));
                format!("{labels:?} {:?}", points.collect::<Vec<_>>())
            });
            rows.collect::<Vec<_>>().join("\n")
        }
    }
}
