//! Whatever the query: no panic, and the same answer however rows are split over blocks and sinks.

use proptest::prelude::*;
use query::Budget;
use query::logql::engine::{Answer, Direction, EngineError, Limits, Params, Value, execute};
use query::logql::parse;
use testkit::MemorySource;

use super::{SECOND, labels};
use crate::expressions;

fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for (app, level) in [("a", "info"), ("b", "warn"), ("x", "")] {
        let labels = labels(&[("app", app), ("Level", level), ("_x9", "1")]);
        for second in 0..20 {
            let line = match second % 4 {
                0 => format!("a={second} app=z bytes={second}KB rate=1.5 took={second}ms"),
                1 => format!(r#"{{"a": {second}, "ip": "10.0.0.{second}", "Level": ""}}"#),
                2 => format!("10.0.0.{second} - sort \"GET /{second}\" 200"),
                _ => String::new(),
            };
            let metadata = [("sort", "1"), ("a", "2")];
            let pairs = second as usize % 3;
            source.push(&labels, second * SECOND * 7, &line, &metadata[..pairs]);
        }
    }
    source
}

fn params(step: i64) -> Params {
    Params {
        start: 60 * SECOND,
        end: if step == 0 { 60 * SECOND } else { 140 * SECOND },
        step: step * SECOND,
        interval: 0,
        limit: 20,
        direction: Direction::Forward,
        now: None,
    }
}

/// Equal, but for the last bits of sums.
fn same(a: &Value, b: &Value) -> bool {
    let close = |a: f64, b: f64| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
    };
    match (a, b) {
        (Value::Scalar { value: a, .. }, Value::Scalar { value: b, .. }) => close(*a, *b),
        (Value::Vector(a), Value::Vector(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len()
                && pairs.all(|(a, b)| a.labels == b.labels && close(a.value, b.value))
        }
        (Value::Matrix(a), Value::Matrix(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len()
                && pairs.all(|(a, b)| {
                    let mut points = a.points.iter().zip(&b.points);
                    a.labels == b.labels
                        && a.points.len() == b.points.len()
                        && points.all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
                })
        }
        (a, b) => a == b,
    }
}

fn both(
    expr: &query::logql::ast::Expr,
    params: &Params,
    seed: u64,
) -> [Result<Answer, EngineError>; 2] {
    let limits = Limits {
        detect_level: seed.is_multiple_of(2),
        ..Limits::default()
    };
    // Enough for everything but subqueries of subqueries.
    let budget = || Budget::new(256 << 20, 0);
    let source = source();
    let whole = execute(expr, params, &limits, &source, &budget());
    let split = execute(expr, params, &limits, &source.split(seed, 3, 4), &budget());
    [whole, split]
}

fn check(expr: &query::logql::ast::Expr, params: &Params, seed: u64) {
    match both(expr, params, seed) {
        [Ok(whole), Ok(split)] => {
            assert!(
                same(&whole.value, &split.value),
                "{expr:?}\n whole {:?}\n split {:?}",
                whole.value,
                split.value
            );
        }
        [Err(whole), Err(split)] => {
            assert_eq!(whole.kind(), split.kind(), "{whole}\n{split}");
        }
        [whole, split] => panic!("{expr:?}\n whole {whole:?}\n split {split:?}"),
    }
}

#[test]
fn every_recorded_query_can_be_run() {
    let path = format!(
        "{}/tests/cases/logql_syntax.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut run = 0;
    for (at, query) in text
        .lines()
        .filter_map(|line| line.strip_prefix("= "))
        .enumerate()
    {
        let Ok(expr) = parse(query) else { continue };
        for step in [0, 20] {
            check(&expr, &params(step), at as u64);
        }
        run += 1;
    }
    assert!(run > 100, "only {run} queries");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_query_has_one_answer(expr in expressions::expr(), seed: u64, ranged: bool) {
        check(&expr, &params(if ranged { 20 } else { 0 }), seed);
    }
}
