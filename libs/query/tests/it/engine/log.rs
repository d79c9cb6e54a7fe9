use proptest::prelude::*;
use query::logql::engine::{Direction, LabelSet, Params, Value, merged};
use testkit::MemorySource;

use super::{SECOND, at, check, labels, run};

fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for app in ["a", "b"] {
        let labels = labels(&[("app", app)]);
        for second in 1..=5 {
            source.push(&labels, second * SECOND, &format!("{app}{second}"), &[]);
        }
    }
    source
}

fn log(limit: u32, direction: Direction) -> Params {
    Params {
        start: 0,
        end: 5 * SECOND,
        limit,
        direction,
        now: None,
        ..at(0)
    }
}

#[test]
fn the_latest_entries_come_first_and_the_end_is_excluded() {
    let params = log(3, Direction::Backward);
    let want = [
        r#"{app="a"} 4 a4"#,
        r#"{app="a"} 3 a3"#,
        r#"{app="b"} 4 b4"#,
    ];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
}

#[test]
fn the_earliest_entries_come_first_when_asked() {
    let params = log(3, Direction::Forward);
    let want = [
        r#"{app="a"} 1 a1"#,
        r#"{app="a"} 2 a2"#,
        r#"{app="b"} 1 b1"#,
    ];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
    check(
        &source(),
        r#"{app=~".+"}"#,
        &log(0, Direction::Forward),
        &[],
    );
}

#[test]
fn interval_thins_over_all_streams() {
    let params = Params {
        interval: 2 * SECOND,
        ..log(10, Direction::Forward)
    };
    let want = [r#"{app="a"} 1 a1"#, r#"{app="a"} 3 a3"#];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
}

#[test]
fn categories_of_labels_are_told_apart() {
    let mut source = MemorySource::new();
    let stream = labels(&[("app", "x"), ("pod", "1")]);
    source.push(&stream, SECOND, "a=1 app=y", &[("trace", "t")]);
    let query = r#"{app="x"} | logfmt | drop pod"#;
    let answer = run(&source, query, &log(10, Direction::Forward)).unwrap();
    let Value::Streams(streams) = &answer.value else {
        panic!("streams");
    };
    let entry = &streams[0].entries[0];
    assert_eq!(streams[0].labels, LabelSet::new([("app", "x")]));
    assert_eq!(entry.metadata, LabelSet::new([("trace", "t")]));
    let parsed = LabelSet::new([("a", "1"), ("app_extracted", "y")]);
    assert_eq!(entry.parsed, parsed);
    let all = [
        ("a", "1"),
        ("app", "x"),
        ("app_extracted", "y"),
        ("trace", "t"),
    ];
    assert_eq!(merged(&streams[..])[0].labels, LabelSet::new(all));
}

#[test]
fn labels_without_a_value_are_shown() {
    let mut source = MemorySource::new();
    source.push(&labels(&[("app", "x")]), SECOND, r#"{"a":"","b":"1"}"#, &[]);
    let query = r#"{app="x"} | json | label_format c="""#;
    let want = [r#"{a="", app="x", b="1", c=""} 1 {"a":"","b":"1"}"#];
    check(&source, query, &log(10, Direction::Forward), &want);
}

/// App, second and line.
fn records() -> impl Strategy<Value = Vec<(u8, i64, u8)>> {
    proptest::collection::vec((0..3u8, 0..30i64, 0..4u8), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive way: all entries, sorted, thinned, cut.
    #[test]
    fn entries_are_the_first_of_all(
        records in records(),
        limit in 0..20u32,
        interval in 0..3i64,
        forward: bool,
        seed: u64,
    ) {
        let mut source = MemorySource::new();
        let mut all: Vec<(i64, String, String)> = Vec::new();
        for (app, second, line) in &records {
            let app = ["a", "b", "c"][usize::from(*app)];
            let line = format!("line {line}");
            source.push(&labels(&[("app", app)]), second * SECOND, &line, &[]);
            if (5..25).contains(second) && line != "line 3" {
                all.push((second * SECOND, format!("{{app={app:?}}}"), line));
            }
        }
        let params = Params {
            start: 5 * SECOND,
            end: 25 * SECOND,
            interval: interval * SECOND,
            ..log(limit, if forward { Direction::Forward } else { Direction::Backward })
        };
        let key = |at: i64| if forward { at } else { -at };
        all.sort_by(|a, b| key(a.0).cmp(&key(b.0)).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        all.dedup();
        if interval > 0 {
            let mut last: Option<i64> = None;
            all.retain(|entry| {
                let shown = last.is_none_or(|last| (entry.0 - last).abs() >= params.interval);
                if shown {
                    last = Some(entry.0);
                }
                shown
            });
        }
        all.truncate(limit as usize);
        for source in [source.clone(), source.split(seed, 3, 4)] {
            let answer = run(&source, r#"{app=~".+"} != "line 3""#, &params).unwrap();
            let Value::Streams(streams) = &answer.value else {
                panic!("streams");
            };
            let mut got = Vec::new();
            for stream in merged(streams) {
                let mut before: Option<i64> = None;
                for (at, line) in stream.entries {
                    assert!(before.is_none_or(|before| key(before) <= key(at)));
                    before = Some(at);
                    got.push((at, stream.labels.to_string(), line.to_string()));
                }
            }
            got.sort_by(|a, b| key(a.0).cmp(&key(b.0)).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
            assert_eq!(got, all);
        }
    }
}
