//! Labels, streams and their sizes are exactly those of the records in the range that are shown,
//! wherever these lie.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::TimeRange;
use proptest::prelude::*;
use querier::Config;
use serde_json::{Value, json};
use store::ObjectStorage;

use crate::deletes::{DELETES, delete, deletes};
use crate::once::{answered, records};
use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

async fn ask(world: &World, path: &str, range: TimeRange) -> Value {
    let joined = if path.contains('?') { '&' } else { '?' };
    let (start, end) = (range.start, range.end);
    let path = format!("/loki/api/v1/{path}{joined}start={start}&end={end}");
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn bytes(record: &Record) -> u64 {
    let metadata: usize = record.metadata.iter().map(|(_, value)| value.len()).sum();
    (record.line.len() + metadata) as u64
}

/// Bytes by the value of `app`.
fn volumes(answer: &Value) -> BTreeMap<String, u64> {
    let mut volumes = BTreeMap::new();
    for found in answer["data"]["result"].as_array().unwrap() {
        let app = found["metric"]["app"].as_str().unwrap().to_owned();
        let points = match found.get("value") {
            Some(point) => vec![point],
            None => found["values"].as_array().unwrap().iter().collect(),
        };
        let bytes = points
            .iter()
            .map(|point| point[1].as_str().unwrap().parse::<u64>().unwrap());
        volumes.insert(app, bytes.sum());
    }
    volumes.retain(|_, bytes| *bytes > 0);
    volumes
}

async fn check(world: &World, shown: &[Record], range: TimeRange) {
    let shown: BTreeSet<&Record> = shown.iter().filter(|r| range.contains(r.at)).collect();
    let apps: BTreeSet<&str> = shown.iter().map(|record| record.labels[0].1).collect();
    let mut want = json!({"status": "success"});
    if !apps.is_empty() {
        want["data"] = json!(apps);
    }
    assert_eq!(ask(world, "label/app/values", range).await, want);
    let names = ask(world, "labels", range).await;
    assert_eq!(names.get("data").is_some(), !apps.is_empty());
    let every = escape("{app=~\".+\"}");
    let series = ask(world, &format!("series?match[]={every}"), range).await;
    let want: Vec<Value> = apps.iter().map(|app| json!({"app": app})).collect();
    assert_eq!(series["data"], json!(want));
    let detected = ask(world, "detected_labels", range).await;
    let want = match apps.is_empty() {
        true => json!({}),
        false => json!({"detectedLabels": [{"label": "app", "cardinality": apps.len()}]}),
    };
    assert_eq!(detected, want);
    let stats = ask(world, &format!("index/stats?query={every}"), range).await;
    assert_eq!(stats["entries"], shown.len());
    assert_eq!(stats["streams"], apps.len());
    let sum: u64 = shown.iter().map(|record| bytes(record)).sum();
    assert_eq!(stats["bytes"], sum);
    let mut want: BTreeMap<String, u64> = BTreeMap::new();
    for record in &shown {
        *want.entry(record.labels[0].1.to_owned()).or_default() += bytes(record);
    }
    want.retain(|_, bytes| *bytes > 0);
    let volume = ask(world, &format!("index/volume?query={every}"), range).await;
    assert_eq!(volumes(&volume), want);
    let path = format!("index/volume_range?query={every}&step=7");
    assert_eq!(volumes(&ask(world, &path, range).await), want);
}

#[tokio::test]
async fn what_three_owners_and_two_segments_hold_counts_once() {
    let world = World::new();
    let records: Vec<Record> = (1..9)
        .map(|ago| record("a", ago, "line").with("k", &ago.to_string()))
        .collect();
    for _owner in 0..3 {
        world.head(&records);
    }
    // One was stored by an owner that the others have not heard of yet, and by a retry once more.
    world.segment(&records[2..6]).await;
    world.segment_in_chunks(30, &records[4..8]).await;
    let whole = TimeRange::new(NOW - 3600 * SECOND, NOW);
    check(&world, &records, whole).await;
    check(&world, &records, TimeRange::new(NOW - 5 * SECOND, NOW)).await;
}

#[tokio::test]
async fn a_delete_by_lines_hides_records_that_came_with_an_error_everywhere() {
    for in_head in [true, false] {
        let world = World::new();
        let records = [
            record("a", 3, "boom").with("__error__", "x"),
            record("b", 2, "boom").with("__error__", "x"),
            record("b", 1, "fine").with("__error__", "x"),
        ];
        match in_head {
            true => drop(world.head(&records)),
            false => drop(world.segment(&records).await),
        }
        let whole = TimeRange::new(NOW - 3600 * SECOND, NOW);
        delete(&world, "{app=~\".+\"} |= \"boom\"", whole).await;
        check(&world, &records[2..], whole).await;
        let rows = answered(&world, "{app=~\".+\"}", true, 10).await;
        assert_eq!(rows.values().map(Vec::len).sum::<usize>(), 1, "{rows:?}");
    }
}

#[tokio::test]
async fn streams_that_a_delete_may_hide_count_as_memory_while_they_are_counted() {
    let names = (0..2_000).map(|at| &*format!("{at}").leak());
    let records: Vec<Record> = names.map(|app| record(app, 5, "x")).collect();
    let every = escape("{app=~\".+\"}");
    for (query_memory_bytes_max, status) in [(100_000, 422), (1_000_000, 200)] {
        let world = World::with(Config {
            query_memory_bytes_max,
            query_workers: 2,
            ..Config::default()
        });
        world.segment_in_chunks(1 << 20, &records).await;
        let whole = TimeRange::new(NOW - 3600 * SECOND, NOW);
        delete(&world, "{app=~\".+\"} |= \"x\"", whole).await;
        let path = format!("/loki/api/v1/index/stats?query={every}");
        let answer = world.get(&path).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let text = match status {
            200 => "\"entries\":0",
            _ => "max_query_memory_bytes",
        };
        assert!(answer.body.contains(text), "{}", answer.body);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_are_those_of_the_records_that_are_shown(
        records in records(),
        // Bit by bit where each record is.
        places in prop::collection::vec(1u8..32, 60),
        deletes in deletes(),
        retention in prop::option::of(1u64..70),
        range in (0i64..60, 1i64..60),
        chunk_bytes in prop::sample::select(vec![30usize, 200, 1 << 20]),
    ) {
        block_on(async {
            let config = Config { query_workers: 2, ..Config::default() };
            let kept = Duration::from_secs(retention.unwrap_or(0));
            let world = World::keeping(config, ObjectStorage::in_memory(), kept);
            let mut shown = records;
            for place in 0..5 {
                let here = shown.iter().zip(&places).filter(|(_, at)| **at >> place & 1 == 1);
                let here: Vec<Record> = here.map(|(record, _)| record.clone()).collect();
                if place < 2 {
                    world.head(&here);
                } else if !here.is_empty() {
                    world.segment_in_chunks(chunk_bytes, &here).await;
                }
            }
            if let Some(seconds) = retention {
                shown.retain(|record| record.at >= NOW - seconds as i64 * SECOND);
            }
            for (at, start, end) in deletes {
                let range = TimeRange::new(NOW - start * SECOND, NOW - end * SECOND);
                let (query, is_deleted) = DELETES[at];
                delete(&world, query, range).await;
                shown.retain(|record| !range.contains(record.at) || !is_deleted(record));
            }
            let end = NOW - range.0 * SECOND;
            check(&world, &shown, TimeRange::new(end - range.1 * SECOND, end)).await;
            check(&world, &shown, TimeRange::new(NOW - 3600 * SECOND, NOW)).await;
        });
    }
}
