use testkit::MemorySource;

use super::{SECOND, at, check, check_fails, every, labels};

/// Two apps on two pods each: one line every 10 s from 10 s to 120 s, of `app=b` only every 30 s.
fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for (app, pod, every) in [("a", "1", 10), ("a", "2", 10), ("b", "1", 30)] {
        let labels = labels(&[("app", app), ("pod", pod)]);
        for second in (10..=120).step_by(every) {
            let line = format!("n={second} pod={pod} took={}ms size={second}KB", second * 2);
            source.push(&labels, second * SECOND, &line, &[]);
        }
    }
    source
}

const EMPTY: &[&str] = &[];

#[test]
fn a_window_excludes_its_start_and_includes_its_end() {
    let query = r#"sum by (app) (count_over_time({app=~".+"}[20s]))"#;
    check(&source(), query, &at(30), &[r#"{app="a"} 4"#]);
    let want = [
        r#"{app="a"} 2@10 4@20 4@30 4@40"#,
        r#"{app="b"} 1@10 1@20 1@40"#,
    ];
    check(&source(), query, &every(10, 40, 10), &want);
}

#[test]
fn windows_may_tile_or_leave_gaps() {
    let query = r#"sum(count_over_time({app="a"}[10s]))"#;
    check(&source(), query, &every(10, 30, 10), &["{} 2@10 2@20 2@30"]);
    let query = r#"sum(count_over_time({app="a"}[5s]))"#;
    check(&source(), query, &every(9, 33, 6), &["{} 2@21 2@33"]);
    let query = r#"sum(count_over_time({app="a"}[25s]))"#;
    let want = ["{} 4@20 6@30 6@40 6@50"];
    check(&source(), query, &every(20, 50, 10), &want);
}

#[test]
fn offset_shifts_the_window() {
    let query = r#"count_over_time({app="b"}[1m] offset 1m)"#;
    check(&source(), query, &at(120), &[r#"{app="b", pod="1"} 2"#]);
    let query = r#"sum(count_over_time({app="b"}[1s] offset -10s))"#;
    check(&source(), query, &at(30), &["{} 1"]);
}

#[test]
fn rates_and_bytes() {
    let mut source = MemorySource::new();
    let labels = labels(&[("app", "x")]);
    for (second, line) in [(1, "12345"), (2, "123"), (3, "")] {
        source.push(&labels, second * SECOND, line, &[]);
    }
    let x = |value: &str| format!(r#"{{app="x"}} {value}"#);
    for (query, want) in [
        (r#"rate({app="x"}[4s])"#, x("0.75")),
        (r#"bytes_over_time({app="x"}[4s])"#, x("8")),
        (r#"bytes_rate({app="x"}[4s])"#, x("2")),
        (r#"bytes_over_time({app="x"}[1s])"#, String::new()),
        (r#"absent_over_time({app="x"}[4s])"#, String::new()),
        (r#"absent_over_time({app="x"}[1s])"#, x("1")),
        (r#"absent_over_time({app="x", pod=~"a.*"}[1s])"#, x("1")),
    ] {
        let want: Vec<&str> = if want.is_empty() { vec![] } else { vec![&want] };
        check(&source, query, &at(4), &want);
    }
    check(
        &source,
        r#"bytes_over_time({app="x"}[1s])"#,
        &at(3),
        &[r#"{app="x"} 0"#],
    );
}

#[test]
fn results_keep_structured_metadata_unless_grouped_away() {
    let mut source = MemorySource::new();
    let labels = labels(&[("app", "x")]);
    source.push(&labels, SECOND, "one", &[("trace", "t1")]);
    source.push(&labels, SECOND, "two", &[("trace", "t2"), ("user", "u")]);
    let want = [
        r#"{app="x", trace="t1"} 1"#,
        r#"{app="x", trace="t2", user="u"} 1"#,
    ];
    check(&source, r#"count_over_time({app="x"}[1m])"#, &at(2), &want);
    let query = r#"sum by (trace) (count_over_time({app="x"}[1m]))"#;
    check(
        &source,
        query,
        &at(2),
        &[r#"{trace="t1"} 1"#, r#"{trace="t2"} 1"#],
    );
    let query = r#"sum without (trace) (count_over_time({app="x"}[1m]))"#;
    let want = [r#"{app="x"} 1"#, r#"{app="x", user="u"} 1"#];
    check(&source, query, &at(2), &want);
}

#[test]
fn numbers_and_vectors() {
    let source = source();
    check(&source, "1 + 2 * 3", &at(1), &["7"]);
    check(&source, "vector(1) + vector(1)", &at(1), &["{} 2"]);
    check(&source, "vector(5) % 3", &at(1), &["{} 2"]);
    check(&source, "vector(5) / 0", &at(1), &["{} NaN"]);
    check(&source, "vector(2) ^ 3", &at(1), &["{} 8"]);
    check(&source, "vector(2) > 3", &at(1), EMPTY);
    check(&source, "3 > vector(2)", &at(1), &["{} 2"]);
    check(&source, "vector(2) > bool 3", &at(1), &["{} 0"]);
    check(&source, "2", &every(0, 2, 1), &["{} 2@0 2@1 2@2"]);
    check(&source, "vector(2)", &every(0, 2, 1), &["{} 2@0 2@1 2@2"]);
}

fn pods() -> MemorySource {
    let mut source = MemorySource::new();
    for (app, pod, lines) in [("a", "1", 1), ("a", "2", 2), ("b", "1", 3)] {
        let labels = labels(&[("app", app), ("pod", pod)]);
        for line in 0..lines {
            source.push(&labels, SECOND, &line.to_string(), &[]);
        }
    }
    source
}

#[test]
fn series_meet_by_their_labels() {
    let source = pods();
    let all = r#"count_over_time({app=~".+"}[1m])"#;
    let a = r#"count_over_time({app="a"}[1m])"#;
    for (query, want) in [
        (
            format!("{all} + {a}"),
            vec![r#"{app="a", pod="1"} 2"#, r#"{app="a", pod="2"} 4"#],
        ),
        (
            format!("{all} and {a}"),
            vec![r#"{app="a", pod="1"} 1"#, r#"{app="a", pod="2"} 2"#],
        ),
        (format!("{all} unless {a}"), vec![r#"{app="b", pod="1"} 3"#]),
        (
            format!("{a} or {all}"),
            vec![
                r#"{app="a", pod="1"} 1"#,
                r#"{app="a", pod="2"} 2"#,
                r#"{app="b", pod="1"} 3"#,
            ],
        ),
        (format!("{all} and on (pod) vector(1)"), vec![]),
        (
            format!("{all} >= 2"),
            vec![r#"{app="a", pod="2"} 2"#, r#"{app="b", pod="1"} 3"#],
        ),
        (
            format!("sum by (app) ({all}) / on (app) sum by (app) ({a})"),
            vec![r#"{app="a"} 1"#],
        ),
        (
            format!("{all} / on (app) group_left () sum by (app) ({all})"),
            vec![
                r#"{app="a", pod="1"} 0.3333333333333333"#,
                r#"{app="a", pod="2"} 0.6666666666666666"#,
                r#"{app="b", pod="1"} 1"#,
            ],
        ),
        (
            format!("sum by (app) ({all}) - on (app) group_right () {all}"),
            vec![
                r#"{app="a", pod="1"} 2"#,
                r#"{app="a", pod="2"} 1"#,
                r#"{app="b", pod="1"} 0"#,
            ],
        ),
        (
            format!("sum by (pod) ({all}) * ignoring (app) group_right (app) {all}"),
            vec![r#"{pod="1"} 12"#, r#"{pod="2"} 4"#],
        ),
    ] {
        if query.contains("group_right (app)") {
            let text = "multiple matches for labels: grouping labels must ensure unique matches";
            check_fails(&source, &query, &at(2), text);
            continue;
        }
        check(&source, &query, &at(2), &want);
    }
}

#[test]
fn ambiguous_matches_are_errors() {
    let source = pods();
    let all = r#"count_over_time({app=~".+"}[1m])"#;
    let by_app = format!("sum by (app) ({all})");
    check_fails(
        &source,
        &format!("{all} + on (app) {by_app}"),
        &at(2),
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
    );
    check_fails(
        &source,
        &format!("{by_app} + on (app) {all}"),
        &at(2),
        "found duplicate series on the right hand-side;many-to-many matching not allowed: matching labels must be unique on one side",
    );
}

#[test]
fn labels_can_be_replaced() {
    let query = r#"label_replace(sum by (app) (count_over_time({app="b"}[1m])), "x", "$1-new", "app", "(.*)")"#;
    check(&pods(), query, &at(2), &[r#"{app="b", x="b-new"} 3"#]);
    let query =
        r#"label_replace(sum by (app) (count_over_time({app="b"}[1m])), "app", "", "app", "(.*)")"#;
    check(&pods(), query, &at(2), &["{} 3"]);
}

#[test]
fn only_sorts_order_an_instant_by_value() {
    let all = r#"count_over_time({app=~".+"}[1m])"#;
    let want = [r#"{app="a", pod="2"} 2"#, r#"{app="b", pod="1"} 3"#];
    check(&pods(), &format!("topk(2, {all})"), &at(2), &want);
    check(&pods(), &format!("approx_topk(2, {all})"), &at(2), &want);
    check(
        &pods(),
        &format!("topk by (app) (1, {all})"),
        &every(2, 2, 1),
        &[r#"{app="a", pod="2"} 2@2"#, r#"{app="b", pod="1"} 3@2"#],
    );
    check(&pods(), &format!("sort({all} > 1)"), &at(2), &want);
    check(
        &pods(),
        &format!("sort_desc({all} > 1)"),
        &at(2),
        &[want[1], want[0]],
    );
}

#[test]
fn too_many_series_are_an_error_only_in_the_answer() {
    let mut source = MemorySource::new();
    for app in 0..501 {
        source.push(&labels(&[("app", &format!("{app}"))]), SECOND, "x", &[]);
    }
    let all = r#"count_over_time({app=~".+"}[1m])"#;
    check(&source, &format!("sum({all} + 0)"), &at(2), &["{} 501"]);
    check_fails(
        &source,
        all,
        &at(2),
        "maximum number of series (500) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()",
    );
}
