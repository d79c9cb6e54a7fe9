//! Every record exactly once, wherever its copies are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Flow, Labels, LineRows, MetadataRows, RowBlock, TenantId};
use proptest::prelude::*;
use query::logql::engine::{self, Value, merged};
use query::{Budget, ScanRequest, ScanStats, Sink, Source, SourceError};

use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

/// The naive twin: all records in a list, each once.
struct Naive(Vec<Record>);

impl Source for Naive {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        _: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let mut sink = new_sink();
        for record in &self.0 {
            let labels = Arc::new(Labels::new(record.labels.iter().copied()).unwrap());
            let wanted = record.tenant == TenantId::DEFAULT
                && request.range.contains(record.at)
                && request.selector.is_match(&labels)
                && request.line_filter.is_match(record.line.as_bytes());
            if !wanted {
                continue;
            }
            let mut pairs: Vec<(&str, &str)> =
                record.metadata.iter().map(|(k, v)| (*k, &**v)).collect();
            pairs.sort();
            let block = RowBlock {
                labels: &labels,
                rows: 1,
                timestamps: &[record.at],
                lines: LineRows::Bytes {
                    bytes: record.line.as_bytes(),
                    ends: &[record.line.len() as u32],
                },
                outcomes: &[],
                metadata: Some(MetadataRows {
                    row_ends: &[pairs.len() as u32],
                    pairs: &pairs,
                }),
            };
            if sink.push(&block)? == Flow::Stop {
                break;
            }
        }
        Ok((vec![sink], ScanStats::default()))
    }
}

/// Labels, and of each entry time and text.
pub(crate) type Rows = BTreeMap<String, Vec<(String, String)>>;

pub(crate) fn expected(records: &[Record], query: &str, forward: bool, limit: u32) -> Rows {
    let unique: BTreeSet<Record> = records.iter().cloned().collect();
    let source = Naive(unique.into_iter().collect());
    let params = engine::Params {
        start: NOW - 3600 * SECOND,
        end: NOW,
        step: if query.starts_with('{') {
            SECOND
        } else {
            20 * SECOND
        },
        interval: 0,
        limit,
        direction: match forward {
            true => engine::Direction::Forward,
            false => engine::Direction::Backward,
        },
        now: None,
    };
    let expr = query::logql::parse(query).unwrap();
    let budget = Budget::unlimited();
    let limits = engine::Limits {
        detect_level: true,
        ..engine::Limits::default()
    };
    let answer = engine::execute(&expr, &params, &limits, &source, &budget).unwrap();
    let mut rows = Rows::new();
    let text = |labels: &engine::LabelSet| {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        pairs.join(",")
    };
    match answer.value {
        Value::Streams(streams) => {
            for stream in merged(&streams) {
                let entries = rows.entry(text(&stream.labels)).or_default();
                for (at, line) in &stream.entries {
                    entries.push((at.to_string(), (*line).to_owned()));
                }
            }
        }
        Value::Matrix(series) => {
            for series in series {
                let entries = rows.entry(text(&series.labels)).or_default();
                for (at, value) in series.points {
                    entries.push(((at / SECOND).to_string(), value.to_string()));
                }
            }
        }
        other => panic!("{other:?}"),
    }
    rows
}

pub(crate) async fn answered(world: &World, query: &str, forward: bool, limit: u32) -> Rows {
    let direction = if forward { "forward" } else { "backward" };
    let step = if query.starts_with('{') { 1 } else { 20 };
    let path = format!(
        "/loki/api/v1/query_range?query={}&direction={direction}&limit={limit}&step={step}",
        escape(query)
    );
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let mut rows = Rows::new();
    for result in body["data"]["result"].as_array().unwrap() {
        let labels = result.get("stream").or(result.get("metric")).unwrap();
        let pairs: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap();
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let entries = rows.entry(pairs.join(",")).or_default();
        for value in result["values"].as_array().unwrap() {
            let at = match &value[0] {
                serde_json::Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            entries.push((at, value[1].as_str().unwrap().to_owned()));
        }
    }
    rows
}

/// Rows of equal time have no order of their own, and a limit may cut between them.
pub(crate) fn sorted(mut rows: Rows) -> Rows {
    rows.values_mut().for_each(|entries| entries.sort());
    rows
}

#[tokio::test]
async fn copies_in_one_head_in_several_heads_and_in_segments_are_shown_once() {
    let world = World::new();
    let a = record("a", 10, "same");
    let b = record("a", 10, "same").with("k", "v");
    let c = record("a", 9, "later");
    world.head(&[a.clone(), a.clone(), b.clone(), c.clone()]);
    world.head(&[c.clone(), a.clone()]);
    world.segment(&[a.clone(), b.clone()]).await;
    world.segment(&[b.clone(), c.clone()]).await;
    let rows = answered(&world, "{app=\"a\"}", true, 100).await;
    let lines: Vec<usize> = rows.values().map(Vec::len).collect();
    assert_eq!(lines, [2, 1], "{rows:?}");
}

#[tokio::test]
async fn a_head_that_the_catalog_covers_is_left_out() {
    let world = World::new();
    let head = world.head(&[record("a", 10, "only in the head")]);
    assert_eq!(answered(&world, "{app=\"a\"}", true, 100).await.len(), 1);
    world.cover(head);
    assert!(answered(&world, "{app=\"a\"}", true, 100).await.is_empty());
}

#[tokio::test]
async fn all_scans_of_a_query_see_the_same_records() {
    let world = World::new();
    world.head(&[record("a", 10, "early")]);
    world.segment(&[record("a", 20, "stored")]).await;
    let count = "count_over_time({app=\"a\"}[1m])";
    let ask = format!(
        "/loki/api/v1/query?query={}",
        escape(&format!("{count} / {count}"))
    );
    world.head_later(&[record("a", 5, "arrives between the scans")]);
    let body = world.get(&ask).await.body;
    assert!(body.contains(r#"[1700000000,"1"]"#), "{body}");
    let ask = format!("/loki/api/v1/query?query={}", escape(count));
    let body = world.get(&ask).await.body;
    assert!(body.contains(r#"[1700000000,"3"]"#), "{body}");
}

pub(crate) fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        prop::sample::select(vec!["a", "b", "c"]),
        0i64..60,
        0i64..3,
        prop::sample::select(vec![
            "error 1",
            "error 22",
            "ok",
            "",
            "a longer line with error",
        ]),
        prop::option::of(0u8..3),
    );
    let one = one.prop_map(|(app, seconds, nanos, line, meta)| {
        let mut record = record(app, seconds, line);
        record.at += nanos - 1_000_000_000;
        match meta {
            Some(value) => record.with("m", &value.to_string()),
            None => record,
        }
    });
    prop::collection::vec(one, 0..60)
}

/// Where the copies of a record are: a bit for each of two heads and three segments.
pub(crate) fn places() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1u8..32, 60)
}

pub(crate) const QUERIES: [&str; 6] = [
    "{app=~\".+\"}",
    "{app=\"a\"} |= \"error\"",
    "{app=~\".+\",app!=\"b\"} != \"ok\" |~ \"e.*r\"",
    "sum by (app) (count_over_time({app=~\".+\"}[30s]))",
    "sum(bytes_over_time({app=~\".+\"} |= \"error\" [40s]))",
    "count_over_time({app=\"b\"} | m=\"1\" [1m])",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_do_not_depend_on_where_records_are(
        records in records(),
        places in places(),
        limit in prop::sample::select(vec![5u32, 1000]),
    ) {
        block_on(async {
            let world = World::new();
            let placed = records.iter().zip(places.iter().copied());
            world.place(2, 5, placed).await;
            for query in QUERIES {
                for forward in [false, true] {
                    let want = expected(&records, query, forward, limit);
                    let got = answered(&world, query, forward, limit).await;
                    if limit == 1000 || !query.starts_with('{') {
                        assert_eq!(sorted(got), sorted(want), "{query} forward={forward}");
                    } else {
                        let times = |rows: &Rows| {
                            let mut times: Vec<String> =
                                rows.values().flatten().map(|row| row.0.clone()).collect();
                            times.sort();
                            times
                        };
                        assert_eq!(times(&got), times(&want), "{query} forward={forward}");
                    }
                }
            }
        });
    }
}
