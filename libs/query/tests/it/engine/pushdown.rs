//! What the engine asks of a source: no more than the query needs.

use std::sync::Mutex;

use model::{Columns, LineColumn};
use query::logql::engine::{Direction, Limits, Params, execute};
use query::logql::parse::parse;
use query::{Budget, BudgetError, ScanOrder, ScanRequest, ScanStats, Sink, Source, SourceError};
use testkit::MemorySource;

use super::{SECOND, at, every, labels, run};

/// Remembers the requests it got.
#[derive(Default)]
struct Recorder {
    source: MemorySource,
    requests: Mutex<Vec<ScanRequest>>,
}

impl Source for Recorder {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.requests
            .lock()
            .expect("one thread")
            .push(request.clone());
        self.source.scan(request, budget, new_sink)
    }
}

fn requests(query: &str, params: &Params) -> Vec<ScanRequest> {
    let recorder = Recorder::default();
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let budget = Budget::unlimited();
    let answer = execute(&expr, params, &Limits::default(), &recorder, &budget);
    assert!(answer.is_ok(), "{query}: {answer:?}");
    recorder.requests.into_inner().expect("one thread")
}

#[track_caller]
fn check(query: &str, params: &Params, timestamps: bool, lines: LineColumn, metadata: bool) {
    let want = Columns {
        timestamps,
        lines,
        metadata,
    };
    for request in requests(query, params) {
        assert_eq!(request.columns, want, "{query}");
    }
}

#[test]
fn counts_over_one_window_need_no_column_at_all() {
    let query = r#"sum(count_over_time({app="a"} |= "x" [1h]))"#;
    check(query, &at(0), false, LineColumn::None, false);
    let query = r#"sum by (app) (rate({app="a"} |= "x" != "y" [1h]))"#;
    check(query, &at(0), false, LineColumn::None, false);
    check(query, &every(0, 60, 60), true, LineColumn::None, false);
}

#[test]
fn bytes_need_lengths_unless_a_stage_changes_the_line() {
    let query = r#"sum(bytes_rate({app="a"}[1h]))"#;
    check(query, &at(0), false, LineColumn::Lengths, false);
    let query = r#"sum(bytes_rate({app="a"} | line_format "{{.x}}" [1h]))"#;
    let [request] = &requests(query, &at(0))[..] else {
        panic!("one scan");
    };
    assert_eq!(request.columns.lines, LineColumn::Bytes);
}

#[test]
fn labels_that_only_metadata_could_hold_need_metadata() {
    let query = r#"sum by (pod) (count_over_time({app="a"}[1h]))"#;
    check(query, &at(0), false, LineColumn::None, true);
    let query = r#"count_over_time({app="a"}[1h])"#;
    check(query, &at(0), false, LineColumn::None, true);
    let query = r#"max(count_over_time({app="a"}[1h]))"#;
    check(query, &at(0), false, LineColumn::None, true);
}

#[test]
fn a_scan_covers_exactly_the_windows() {
    let query = r#"sum(count_over_time({app="a"}[10s] offset 5s))"#;
    let [request] = &requests(query, &every(100, 120, 20))[..] else {
        panic!("one scan");
    };
    assert_eq!(request.range.start, 85 * SECOND + 1);
    assert_eq!(request.range.end, 115 * SECOND + 1);
    assert_eq!(request.order, ScanOrder::Any);
}

#[test]
fn line_filters_run_in_the_source() {
    let query = r#"{app="a"} |= "x" | json | b="1" |~ "y.*z""#;
    let [request] = &requests(query, &at(1))[..] else {
        panic!("one scan");
    };
    assert_eq!(request.line_filter.clauses.len(), 2);
    assert_eq!(request.order, ScanOrder::Backward);
}

#[test]
fn a_full_answer_ends_the_scan() {
    let mut source = MemorySource::new();
    for (app, start) in [("a", 1000), ("b", 0)] {
        for second in start..start + 100 {
            source.push(&labels(&[("app", app)]), second * SECOND, "x", &[]);
        }
    }
    let params = Params {
        start: 0,
        end: 2000 * SECOND,
        limit: 10,
        direction: Direction::Backward,
        now: None,
        ..at(0)
    };
    let answer = run(&source, r#"{app=~".+"}"#, &params).expect("an answer");
    assert_eq!(answer.stats.rows_matched, 100);
}

#[test]
fn memory_is_charged_and_given_back() {
    let mut source = MemorySource::new();
    for second in 0..1000 {
        let app = second.to_string();
        source.push(&labels(&[("app", &app)]), second * SECOND, "x", &[]);
    }
    let budget = Budget::new(10_000, 0);
    let limits = Limits::default();
    for query in [
        r#"sum by (app) (count_over_time({app=~".+"}[1h]))"#,
        r#"quantile_over_time(0.5, {app=~".+"} | label_format v="1" | unwrap v [1h])"#,
        r#"{app=~".+"}"#,
    ] {
        let budget = Budget::new(10_000, 0);
        let params = Params {
            start: 0,
            limit: 1000,
            end: 2000 * SECOND,
            ..at(0)
        };
        let expr = parse(query).expect("a query");
        let error = execute(&expr, &params, &limits, &source, &budget).expect_err("too much");
        let want = BudgetError::Memory { limit: 10_000 }.to_string();
        assert_eq!(error.to_string(), want, "{query}");
    }
    let few = r#"sum(count_over_time({app=~".+"}[1h])) + sum(count_over_time({app=~".+"}[2h]))"#;
    let expr = parse(few).expect("a query");
    for _ in 0..3 {
        execute(&expr, &at(2000), &limits, &source, &budget).expect("little memory");
    }
}

#[test]
fn levels_need_no_lines_but_their_outcomes() {
    let limits = Limits {
        detect_level: true,
        ..Limits::default()
    };
    let asked = |query: &str, params: &Params| {
        let recorder = Recorder::default();
        let expr = parse(query).expect("a query");
        let budget = Budget::unlimited();
        execute(&expr, params, &limits, &recorder, &budget).expect("an answer");
        let mut requests = recorder.requests.into_inner().expect("one thread");
        let request = requests.pop().expect("a scan");
        let outcomes = request.outcomes.as_ref();
        (
            request.columns.lines,
            outcomes.is_some_and(|of| of.wanted),
            outcomes.is_some_and(|of| of.test.is_some()),
        )
    };
    let (none, lengths, bytes) = (LineColumn::None, LineColumn::Lengths, LineColumn::Bytes);
    for (query, want) in [
        (
            r#"sum by (level, detected_level) (count_over_time({app="a"}[1m]))"#,
            (none, true, false),
        ),
        (r#"count_over_time({app="a"}[1m])"#, (none, true, false)),
        (
            r#"sum by (app) (count_over_time({app="a"}[1m]))"#,
            (none, false, false),
        ),
        (
            r#"sum by (detected_level) (bytes_rate({app="a"}[1m]))"#,
            (lengths, true, false),
        ),
        (
            r#"sum by (app) (rate({app="a"} | detected_level="error" [1m]))"#,
            (none, true, true),
        ),
        (
            r#"sum by (x) (rate({app="a"} | detected_level!="error" | json [1m]))"#,
            (bytes, false, true),
        ),
        (
            r#"sum by (app) (rate({app="a"} | json | detected_level="error" [1m]))"#,
            (bytes, false, false),
        ),
        (r#"{app="a"}"#, (bytes, false, false)),
        (
            r#"{app="a"} | detected_level=~"warn|error""#,
            (bytes, false, true),
        ),
        (r#"{app="a"} | detected_level=~".+""#, (bytes, false, false)),
    ] {
        assert_eq!(asked(query, &at(0)), want, "{query}");
    }
}
