//! Random records and windows: the engine, whatever the split of rows over blocks and sinks, must
//! agree with the twin.

use std::collections::BTreeMap;

use proptest::prelude::*;
use query::logql::engine::{Params, Value};
use query::logql::parse::parse;
use testkit::MemorySource;

use super::twin::{self, LabelMap};
use super::{SECOND, at, labels, run};

/// `R` stands for the window.
const QUERIES: &[&str] = &[
    r#"count_over_time({app=~".+"}[R])"#,
    r#"sum by (app) (count_over_time({app=~".+"}[R]))"#,
    r#"sum(rate({app=~".+"} |= "v=1" [R]))"#,
    r#"sum without (pod) (bytes_rate({app=~".+"}[R] offset 7s))"#,
    r#"bytes_over_time({app="a"}[R])"#,
    r#"absent_over_time({app="a", pod=~".+"}[R])"#,
    r#"max by (app) (count_over_time({app=~".+"}[R]))"#,
    r#"avg(count_over_time({app=~".+"}[R]))"#,
    r#"stdvar by (pod) (count_over_time({app=~".+"}[R]))"#,
    r#"count by (app) (count_over_time({app=~".+"}[R]))"#,
    r#"topk(2, sum by (app, pod) (count_over_time({app=~".+"}[R])))"#,
    r#"bottomk by (app) (1, sum by (app, pod) (count_over_time({app=~".+"}[R])))"#,
    r#"sum by (app) (count_over_time({app=~".+"}[R])) / on (app) sum by (app) (bytes_over_time({app=~".+"}[R]))"#,
    r#"sum by (app, pod) (count_over_time({app=~".+"}[R])) > 2"#,
    r#"sum by (app) (count_over_time({app=~".+"}[R])) > bool sum by (app) (count_over_time({app=~".+"}[R] offset 10s))"#,
    r#"sum by (app) (count_over_time({app="a"}[R])) or sum by (app) (count_over_time({app=~".+"}[R]))"#,
    r#"sum by (app, pod) (count_over_time({app=~".+"}[R])) unless sum by (app, pod) (count_over_time({app="b"}[R]))"#,
    r#"sum by (app, pod) (count_over_time({app=~".+"}[R])) - on (app) group_left () sum by (app) (count_over_time({app=~".+"}[R]))"#,
];

/// The same, on a number in the line.
const UNWRAPPED: &[&str] = &[
    r#"sum_over_time({app=~".+"} | logfmt | unwrap v [R])"#,
    r#"sum by (app) (sum_over_time({app=~".+"} | logfmt | unwrap v [R]))"#,
    r#"rate({app=~".+"} | logfmt | unwrap v [R])"#,
    r#"avg_over_time({app=~".+"} | logfmt | unwrap v [R]) by (app)"#,
    r#"min_over_time({app=~".+"} | logfmt | unwrap v [R]) by (pod)"#,
    r#"max by (app) (max_over_time({app=~".+"} | logfmt | unwrap v [R]))"#,
    r#"min(min_over_time({app=~".+"} | logfmt | unwrap v [R]))"#,
    r#"stddev_over_time({app=~".+"} | logfmt | unwrap v [R]) by (app)"#,
    r#"stdvar_over_time({app=~".+"} | logfmt | unwrap v [R]) without (k)"#,
    r#"quantile_over_time(0.7, {app=~".+"} | logfmt | unwrap v [R]) by (app)"#,
    r#"first_over_time({app=~".+"} | logfmt | unwrap v [R]) by (app, pod)"#,
    r#"last_over_time({app=~".+"} | logfmt | unwrap v [R]) by (app, pod)"#,
    r#"sum by (k) (count_over_time({app=~".+"} | logfmt [R]))"#,
    r#"rate_counter({app=~".+"} | logfmt | unwrap v [R])"#,
    r#"sum_over_time(sum by (app) (rate({app=~".+"}[3s]))[R:2s] offset 3s)"#,
    r#"max_over_time(sum(count_over_time({app="b"}[4s]))[R:5s])"#,
];

#[derive(Clone, Debug)]
struct Case {
    /// App, pod, half seconds, value, whether it has metadata.
    records: Vec<(u8, u8, i64, i32, bool)>,
    range: i64,
    start: i64,
    step: i64,
    steps: i64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let record = (0..3u8, 0..2u8, 0..160i64, -20..20i32, any::<bool>());
    let records = proptest::collection::vec(record, 0..60);
    let times = (1..40i64, 0..60i64, 0..15i64, 1..12i64);
    (records, times, any::<u64>()).prop_map(|(records, (range, start, step, steps), seed)| Case {
        records,
        range,
        start,
        step,
        steps: if step == 0 { 1 } else { steps },
        seed,
    })
}

fn source(case: &Case) -> MemorySource {
    let mut source = MemorySource::new();
    for (app, pod, half_seconds, value, metadata) in &case.records {
        let app = ["a", "b", "c"][usize::from(*app)];
        let pod = pod.to_string();
        let labels = labels(&[("app", app), ("pod", &pod)]);
        let line = format!("v={value}.5 k={}", value % 3);
        let pairs = [("trace", "t1")];
        let metadata = if *metadata { &pairs[..] } else { &[] };
        source.push(&labels, half_seconds * SECOND / 2, &line, metadata);
    }
    source
}

fn check(case: &Case, query: &str) {
    let query = query.replace('R', &format!("{}s", case.range));
    let source = source(case);
    let params = Params {
        start: case.start * SECOND,
        end: (case.start + case.step * (case.steps - 1)) * SECOND,
        step: case.step * SECOND,
        ..at(0)
    };
    let expr = parse(&query).unwrap();
    let mut want: BTreeMap<LabelMap, Vec<(i64, f64)>> = BTreeMap::new();
    for step in 0..case.steps {
        let at = params.start + step * params.step;
        for (labels, value) in twin::eval(&source, &expr, at) {
            want.entry(labels).or_default().push((at, value));
        }
    }
    for source in [source.clone(), source.split(case.seed, 3, 5)] {
        let got = run(&source, &query, &params).unwrap();
        let got: BTreeMap<LabelMap, Vec<(i64, f64)>> = match got.value {
            Value::Matrix(series) => series
                .into_iter()
                .map(|series| (map(&series.labels), series.points))
                .collect(),
            Value::Vector(samples) => samples
                .into_iter()
                .map(|sample| (map(&sample.labels), vec![(sample.at, sample.value)]))
                .collect(),
            other => panic!("{query}: {other:?}"),
        };
        assert!(close(&got, &want), "{query}\n got {got:?}\nwant {want:?}");
    }
}

fn map(labels: &query::logql::engine::LabelSet) -> LabelMap {
    let pairs = labels.iter();
    pairs.map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

fn close(
    got: &BTreeMap<LabelMap, Vec<(i64, f64)>>,
    want: &BTreeMap<LabelMap, Vec<(i64, f64)>>,
) -> bool {
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs()) || a.is_nan() && b.is_nan();
    got.len() == want.len()
        && got.iter().zip(want).all(|((a, points), (b, others))| {
            let pairs = points.iter().zip(others);
            a == b
                && points.len() == others.len()
                && pairs.into_iter().all(|(p, o)| p.0 == o.0 && same(p.1, o.1))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counting_agrees_with_the_twin(case in case()) {
        for query in QUERIES {
            check(&case, query);
        }
    }

    #[test]
    fn numbers_agree_with_the_twin(case in case()) {
        for query in UNWRAPPED {
            check(&case, query);
        }
    }
}
