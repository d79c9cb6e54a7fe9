//! Table tests: a pipeline in LogQL, a line, and what comes out, written as
//! `line | name=value name=value` with the labels of all kinds sorted by name.

mod formatters;
mod labels;
mod levels;
mod lines;
mod needs;
mod parsers;
mod random;

use std::sync::Arc;

use model::Labels;

use super::*;
use crate::logql::ast::{Expr, MetricExpr, RangeInput};
use crate::logql::{parse, parse_log};

pub(super) const AT: i64 = 1_700_000_000_123_456_789;

/// Stream labels of all tests.
pub(super) fn stream() -> Arc<Labels> {
    Arc::new(Labels::new([("app", "web"), ("pod", "p-1")]).unwrap())
}

pub(super) fn compile(stages: &str) -> Pipeline {
    let query = format!("{{app=\"web\"}} {stages}");
    let log = parse_log(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    Pipeline::compile(&log.stages, None).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Compiles the pipeline of a range, such as `| json | unwrap x`.
pub(super) fn compile_range(stages: &str) -> Pipeline {
    let query = format!("sum_over_time({{app=\"web\"}} {stages} [1m])");
    let Ok(Expr::Metric(MetricExpr::Range(range))) = parse(&query) else {
        panic!("{query}: {:?}", parse(&query));
    };
    let RangeInput::Logs(logs) = range.over else {
        panic!("{query} is no range of logs");
    };
    Pipeline::compile(&logs.log.stages, logs.unwrap.as_ref()).unwrap()
}

/// The row that comes out; `None` if it is filtered out.
pub(super) fn run_with(
    pipeline: &Pipeline,
    line: &[u8],
    metadata: &[(&str, &str)],
) -> Option<String> {
    if !pipeline.pushed_line_filter().is_match(line) {
        return None;
    }
    let mut runner = pipeline.runner(&LabelNeed::All);
    runner.stream(&stream());
    let output = runner.run(AT, line, metadata)?;
    let mut out = String::from_utf8_lossy(output.line).into_owned();
    out.push_str(" |");
    for (name, value) in output.labels.to_pairs().iter() {
        if !matches!(&**name, "app" | "pod") {
            out.push_str(&format!(" {name}={value}"));
        }
    }
    Some(out)
}

/// Checks rows of (stages, line, what comes out); `-` for a row that is filtered out.
#[track_caller]
pub(super) fn check_all(cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (stages, line, want) in cases {
        let got = run_with(&compile(stages), line.as_bytes(), &[]);
        let got = got.as_deref().unwrap_or("-");
        if got != *want {
            wrong.push_str(&format!(
                "\n{stages}\n  line {line}\n  got  {got}\n  want {want}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// As [`check_all`], but only the labels are written: those the stages made, and errors.
#[track_caller]
pub(super) fn check_labels(cases: &[(&str, &str, &str)]) {
    let whole: Vec<(&str, &str, String)> = cases
        .iter()
        .map(|(stages, line, want)| {
            let want = match (*want, want.is_empty()) {
                ("-", _) => "-".to_owned(),
                (_, true) => format!("{line} |"),
                (want, _) => format!("{line} | {want}"),
            };
            (*stages, *line, want)
        })
        .collect();
    let borrowed: Vec<(&str, &str, &str)> =
        whole.iter().map(|(s, l, w)| (*s, *l, w.as_str())).collect();
    check_all(&borrowed);
}
