//! Queries with pipelines: parsed labels, numbers, errors, and the extensions.

use query::Budget;
use query::logql::engine::{Direction, Limits, Params, Value, execute, in_place};
use query::logql::parse::parse;
use testkit::MemorySource;

use super::{SECOND, at, check, check_fails, every, labels, show};

/// `logfmt` lines: a request every second from 1 to 6.
fn source() -> MemorySource {
    let mut source = MemorySource::new();
    let labels = labels(&[("app", "x")]);
    for (second, path, took) in [
        (1, "/a", "10"),
        (2, "/b", "40"),
        (3, "/a", "20"),
        (4, "/b", "5"),
        (5, "/a", "60"),
        (6, "/a", ""),
    ] {
        let line = format!("path={path} took={took}");
        source.push(&labels, second * SECOND, &line, &[]);
    }
    source
}

#[test]
fn numbers_lose_the_label_they_stood_in() {
    let range = r#"{app="x"} | logfmt | took!="" | unwrap took [5s]"#;
    let one = |op: &str| format!("{op}({range})");
    for (query, a, b) in [
        (one("sum_over_time"), "90", "45"),
        (one("avg_over_time"), "30", "22.5"),
        (one("min_over_time"), "10", "5"),
        (one("max_over_time"), "60", "40"),
        (one("first_over_time"), "10", "40"),
        (one("last_over_time"), "60", "5"),
        (one("rate"), "18", "9"),
        (one("stdvar_over_time"), "466.6666666666667", "306.25"),
        (format!("quantile_over_time(0.5, {range})"), "20", "22.5"),
    ] {
        let want = [
            format!(r#"{{app="x", path="/a"}} {a}"#),
            format!(r#"{{app="x", path="/b"}} {b}"#),
        ];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&source(), &query, &at(5), &want);
    }
    let query = format!("max_over_time({range}) by (app)");
    check(&source(), &query, &at(5), &[r#"{app="x"} 60"#]);
    let query = format!("avg_over_time({range}) without (path)");
    check(&source(), &query, &at(5), &[r#"{app="x"} 27"#]);
}

#[test]
fn counters_are_rated_with_resets() {
    let mut source = MemorySource::new();
    let labels = labels(&[("app", "x")]);
    for (second, value) in [(10, 10), (20, 20), (30, 5), (40, 15)] {
        let line = format!("v={value}");
        source.push(&labels, second * SECOND, &line, &[]);
    }
    // 5 - 10 + 20 (lost by the reset) + 10 = 25 in 30 s; 10 s before the first sample are added, for
    // samples are 10 s apart, and 5 s after the last one, for the window ends 20 s later.
    let query = r#"rate_counter({app="x"} | logfmt | unwrap v [1m])"#;
    let want = 25.0 * (45.0 / 30.0) / 60.0;
    check(
        &source,
        query,
        &at(60),
        &[&format!(r#"{{app="x"}} {want}"#)],
    );
    check(&source, query, &at(10), &[r#"{app="x"} 0"#]);
}

#[test]
fn rows_with_an_error_fail_the_query_unless_filtered() {
    let query = r#"sum(sum_over_time({app="x"} | logfmt | unwrap path [5s]))"#;
    let error = {
        let expr = parse(query).expect("a query");
        let budget = Budget::unlimited();
        execute(&expr, &at(5), &Limits::default(), &source(), &budget).expect_err("not numbers")
    };
    let text = error.to_string();
    let start =
        "pipeline error: 'SampleExtractionErr' for series: '{__error__=\"SampleExtractionErr\"";
    assert!(text.starts_with(start), "{text}");
    let end = "(e.g | unwrap latency | __error__=\"\" )\n";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(error.kind(), model::Kind::Invalid);
    let filtered = r#"sum(sum_over_time({app="x"} | logfmt | unwrap path | __error__="" [5s]))"#;
    check(&source(), filtered, &at(5), &[]);
}

#[test]
fn rows_with_an_error_that_was_asked_for_are_grouped_like_others() {
    let mut source = source();
    let labels = labels(&[("app", "x")]);
    source.push(&labels, 5 * SECOND, "{", &[]);
    let range = r#"{app="x"} | json | __error__="JSONParserErr" [5s]"#;
    let query = format!("sum by (app) (count_over_time({range}))");
    check(&source, &query, &at(5), &[r#"{app="x"} 6"#]);
}

#[test]
fn an_error_outside_every_window_does_not_matter() {
    let mut source = source();
    let labels = labels(&[("app", "x")]);
    source.push(&labels, 100 * SECOND, "took=abc", &[]);
    let query = r#"sum(sum_over_time({app="x"} | logfmt | took!="" | unwrap took [5s]))"#;
    check(&source, query, &every(5, 205, 200), &["{} 135@5"]);
}

#[test]
fn subqueries_look_at_results_over_time() {
    let inner = r#"sum(count_over_time({app="x"}[2s]))"#;
    // At 1 to 6 s the inner query gives 1 2 2 2 2 2.
    let query = format!("max_over_time({inner}[4s:1s])");
    check(&source(), &query, &at(6), &["{} 2"]);
    let query = format!("sum_over_time({inner}[6s:1s])");
    check(&source(), &query, &at(6), &["{} 11"]);
    check(&source(), &query, &every(3, 6, 3), &["{} 5@3 11@6"]);
    let query = format!("count_over_time({inner}[6s:2s])");
    check(&source(), &query, &at(6), &["{} 3"]);
    let query = format!("sum_over_time({inner}[2s:1s] offset 3s)");
    check(&source(), &query, &at(6), &["{} 4"]);
    let query = format!("max_over_time({inner}[10000d:1s])");
    let text = "subquery needs more than 100000 evaluations; use a larger step or a shorter range";
    check_fails(&source(), &query, &at(6), text);
}

#[test]
fn count_values_counts_equal_values() {
    let query = r#"count_values("n", sum by (path) (count_over_time({app="x"} | logfmt [5s])))"#;
    check(&source(), query, &at(5), &[r#"{n="2"} 1"#, r#"{n="3"} 1"#]);
}

fn log(query: &str, limit: u32, want: &[&str]) {
    let params = Params {
        start: 0,
        end: 10 * SECOND,
        limit,
        direction: Direction::Forward,
        now: None,
        ..at(0)
    };
    check(&source(), query, &params, want);
}

#[test]
fn distinct_shows_the_first_entry_of_each_value() {
    let query = r#"{app="x"} | logfmt | distinct path | line_format "{{.took}}" | drop took"#;
    let want = [
        r#"{app="x", path="/a"} 1 10"#,
        r#"{app="x", path="/b"} 2 40"#,
    ];
    log(query, 10, &want);
    log(query, 1, &want[..1]);
}

#[test]
fn sort_orders_numbers_as_numbers_before_the_limit() {
    // `took` is there where the stage stands.
    let want = [
        r#"{app="x"} 5 path=/a took=60"#,
        r#"{app="x"} 2 path=/b took=40"#,
        r#"{app="x"} 3 path=/a took=20"#,
    ];
    let query = r#"{app="x"} | logfmt | took!="" | sort by (took) desc | drop took, path"#;
    log(query, 3, &want);
    let query = r#"{app="x"} | logfmt | took!="" | sort by (took) desc | drop path"#;
    let want = [
        r#"{app="x", took="60"} 5 path=/a took=60"#,
        r#"{app="x", took="40"} 2 path=/b took=40"#,
    ];
    log(query, 2, &want);
}

#[test]
fn sorted_entries_are_shown_in_their_order_and_streams_by_their_first_entry() {
    let mut source = MemorySource::new();
    for (second, app, took) in [
        (1, "a", "10ms"),
        (2, "b", "1.5s"),
        (3, "a", "7"),
        (4, "c", "slow"),
        (5, "a", "8ms"),
        (6, "c", "12"),
        (7, "b", "7ms"),
    ] {
        let line = format!("took={took}");
        source.push(&labels(&[("app", app)]), second * SECOND, &line, &[]);
    }
    let places = |query: &str| {
        let expr = parse(query).expect("a query");
        let params = every(0, 10, 1);
        let limits = Limits::default();
        let answer = execute(&expr, &params, &limits, &source, &Budget::unlimited());
        let Value::Streams(streams) = answer.expect("an answer").value else {
            panic!("streams");
        };
        let firsts: Vec<String> = streams.iter().map(|s| s.labels.to_string()).collect();
        let entries = in_place(&streams);
        let lines: Vec<String> = entries
            .iter()
            .map(|(entry, _)| entry.line.clone())
            .collect();
        (firsts.join(" "), lines.join(" "))
    };
    // Numbers, durations by their length, other texts.
    let (streams, lines) = places(r#"{app=~".+"} | logfmt took | sort by (took)"#);
    let want = "took=7 took=12 took=7ms took=8ms took=10ms took=1.5s took=slow";
    assert_eq!(lines, want);
    assert_eq!(streams, r#"{app="a"} {app="c"} {app="b"}"#);
    let (streams, lines) = places(r#"{app=~".+"} | logfmt took | sort by (took) desc"#);
    let want = "took=slow took=1.5s took=10ms took=8ms took=7ms took=12 took=7";
    assert_eq!(lines, want);
    assert_eq!(streams, r#"{app="c"} {app="b"} {app="a"}"#);
}

#[test]
fn numbers_do_not_come_from_sorted_entries() {
    let text = "parse error : distinct and sort are not allowed in a metric query";
    for query in [
        r#"count_over_time({app="x"} | distinct app [5s])"#,
        r#"sum(rate({app="x"}[5s] | sort by (app)))"#,
        r#"sum_over_time(({app="x"} | logfmt | sort by (app) | unwrap took)[5s])"#,
    ] {
        let error = parse(query).expect_err(query);
        assert_eq!(error.to_string(), text, "{query}");
    }
}

#[test]
fn a_second_order_is_refused() {
    for (stages, name) in [
        ("sort by (app) | sort by (path) desc", "sort"),
        ("distinct app | logfmt | dedup path", "distinct"),
    ] {
        let query = format!(r#"{{app="x"}} | {stages}"#);
        let error = parse(&query).expect_err(stages);
        let want = format!("parse error : only one {name} stage is allowed; name all labels in it");
        assert_eq!(error.to_string(), want, "{query}");
    }
    let both = r#"{app="x"} | logfmt | distinct path | sort by (path) desc | drop path, took"#;
    let want = [
        r#"{app="x"} 2 path=/b took=40"#,
        r#"{app="x"} 1 path=/a took=10"#,
    ];
    log(both, 10, &want);
}

#[test]
fn distinct_looks_at_labels_where_it_stands() {
    let query = r#"{app="x"} | logfmt | distinct path | label_format path="same" | drop took"#;
    let want = [
        r#"{app="x", path="same"} 1 path=/a took=10"#,
        r#"{app="x", path="same"} 2 path=/b took=40"#,
    ];
    log(query, 10, &want);
}

#[test]
fn levels_are_detected_when_asked() {
    let mut source = MemorySource::new();
    let labels = labels(&[("app", "x")]);
    source.push(&labels, SECOND, "level=error a", &[]);
    source.push(&labels, SECOND, "level=info b", &[]);
    source.push(
        &labels,
        SECOND,
        "level=info c",
        &[("detected_level", "warn")],
    );
    let limits = Limits {
        detect_level: true,
        ..Limits::default()
    };
    let ask = |query: &str| {
        let expr = parse(query).expect("a query");
        let budget = Budget::unlimited();
        let answer = execute(&expr, &at(1), &limits, &source, &budget).expect("an answer");
        show(&answer.value)
    };
    let want = [
        r#"{app="x", detected_level="error"} 1"#,
        r#"{app="x", detected_level="info"} 1"#,
        r#"{app="x", detected_level="warn"} 1"#,
    ];
    assert_eq!(ask(r#"count_over_time({app="x"}[1m])"#), want);
    let by_app = r#"sum by (app) (count_over_time({app="x"}[1m]))"#;
    assert_eq!(ask(by_app), [r#"{app="x"} 3"#]);
    let by_level = r#"sum by (detected_level) (count_over_time({app="x"}[1m]))"#;
    assert_eq!(ask(by_level).len(), 3);
}

#[test]
fn templates_know_the_time_of_the_query() {
    let mut source = MemorySource::new();
    source.push(&labels(&[("app", "x")]), 10 * SECOND, "l", &[]);
    let query =
        r#"sum by (t) (count_over_time({app="x"} | label_format t="{{ now | unixEpoch }}" [1m]))"#;
    check(&source, query, &at(60), &[r#"{t="10"} 1"#]);
    let params = Params {
        now: Some(70 * SECOND),
        ..at(60)
    };
    check(&source, query, &params, &[r#"{t="70"} 1"#]);
}
