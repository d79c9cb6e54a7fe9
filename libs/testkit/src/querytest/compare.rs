//! Whether an answer is what was expected.

use std::cmp::Ordering;

use super::{Case, ErrorTest, Expected, Outcome, Pairs, Points, When};

/// Largest difference between equal numbers, and the largest part of the larger one: scripts may round what they
/// expect, as those of Prometheus do.
const ABSOLUTE: f64 = 1e-9;
const RELATIVE: f64 = 1e-6;

/// `Err` with what came out and what should have.
pub(super) fn compare(
    result: &Result<Outcome, String>,
    case: &Case,
) -> Result<(), (String, String)> {
    let good = match (&case.expected, result) {
        (Expected::Failure(test), Err(message)) => passes(test, message),
        (Expected::Scalar(expected), Ok(Outcome::Scalar(got))) => same(*got, *expected),
        (Expected::Series { ordered, rows }, Ok(outcome)) => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(l, p)| (l.clone(), placed(p, case.when)))
                .collect();
            series(outcome).is_some_and(|got| same_rows(&got, &rows, *ordered))
        }
        _ => false,
    };
    if good {
        return Ok(());
    }
    let got = match result {
        Ok(outcome) => show(outcome),
        Err(message) => format!("error: {}", message.trim_end().replace('\n', " ")),
    };
    Err((got, show_expected(case)))
}

fn passes(test: &ErrorTest, message: &str) -> bool {
    match test {
        ErrorTest::Any => true,
        ErrorTest::Contains(text) => message.contains(text),
        ErrorTest::Matches(regex) => regex.is_match(message),
    }
}

fn same(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    if a.is_infinite() || b.is_infinite() {
        return false;
    }
    (a - b).abs() <= ABSOLUTE.max(RELATIVE * a.abs().max(b.abs()))
}

/// Points without gaps, at their times.
fn placed(points: &[Option<f64>], when: When) -> Points {
    let (start, step) = match when {
        When::Instant(at) => (at, 0),
        When::Range { from, step, .. } => (from, step),
    };
    let times = (0..).map(|n: i64| start.saturating_add(n.saturating_mul(step)));
    let points = times.zip(points);
    points
        .filter_map(|(at, value)| Some((at, (*value)?)))
        .collect()
}

/// An answer as rows; a number is none.
fn series(outcome: &Outcome) -> Option<Vec<(Pairs, Points)>> {
    match outcome {
        Outcome::Scalar(_) => None,
        Outcome::Matrix(rows) => Some(rows.clone()),
        Outcome::Vector(rows) => {
            let rows = rows
                .iter()
                .map(|(labels, value)| (labels.clone(), vec![(0, *value)]));
            Some(rows.collect())
        }
    }
}

fn same_rows(got: &[(Pairs, Points)], expected: &[(Pairs, Points)], ordered: bool) -> bool {
    // A row without any value is the same as no row.
    let expected: Vec<_> = expected
        .iter()
        .filter(|(_, points)| !points.is_empty())
        .collect();
    if got.len() != expected.len() {
        return false;
    }
    let mut got: Vec<_> = got.iter().collect();
    let mut expected = expected;
    if !ordered {
        got.sort_by(|a, b| order(a, b));
        expected.sort_by(|a, b| order(a, b));
    }
    got.iter().zip(&expected).all(|(got, expected)| {
        let instant = got.1.len() == 1 && expected.1.len() == 1 && got.1[0].0 == 0;
        got.0 == expected.0
            && got.1.len() == expected.1.len()
            && got
                .1
                .iter()
                .zip(&expected.1)
                .all(|(g, e)| (instant || g.0 == e.0) && same(g.1, e.1))
    })
}

/// By labels; two series may have the same ones.
fn order(a: &(Pairs, Points), b: &(Pairs, Points)) -> Ordering {
    let values = |row: &(Pairs, Points)| row.1.iter().map(|point| point.1).collect::<Vec<_>>();
    let by_value = || values(a).partial_cmp(&values(b)).unwrap_or(Ordering::Equal);
    a.0.cmp(&b.0).then_with(by_value)
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Scalar(value) => value.to_string(),
        Outcome::Vector(rows) => list(
            rows.iter()
                .map(|(labels, value)| format!("{} {value}", show_labels(labels))),
        ),
        Outcome::Matrix(rows) => list(rows.iter().map(|(labels, points)| {
            let points = points
                .iter()
                .map(|(at, value)| format!("{value}@{}", seconds(*at)));
            let points = points.collect::<Vec<_>>().join(" ");
            format!("{} {points}", show_labels(labels))
        })),
    }
}

fn show_expected(case: &Case) -> String {
    match &case.expected {
        Expected::Failure(ErrorTest::Any) => "an error".to_owned(),
        Expected::Failure(ErrorTest::Contains(text)) => format!("an error with {text:?}"),
        Expected::Failure(ErrorTest::Matches(regex)) => format!("an error like /{regex}/"),
        Expected::Scalar(value) => value.to_string(),
        Expected::Series { rows, .. } => list(rows.iter().map(|(labels, points)| {
            let points = points
                .iter()
                .map(|p| p.map_or("_".to_owned(), |v| v.to_string()));
            let points = points.collect::<Vec<_>>().join(" ");
            format!("{} {points}", show_labels(labels))
        })),
    }
}

fn list(rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<String> = rows.collect();
    match rows.len() {
        0 => "nothing".to_owned(),
        _ => rows.join("; "),
    }
}

fn show_labels(labels: &Pairs) -> String {
    let pairs = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
