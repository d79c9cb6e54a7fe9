//! Patterns: every line counts once, wherever it is, and is found by its pattern.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

async fn patterns(world: &World, query: &str) -> BTreeMap<String, u64> {
    let path = format!(
        "/loki/api/v1/patterns?query={}&start={}&end={NOW}&step=7",
        escape(query),
        NOW - 3600 * SECOND
    );
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let mut lines = BTreeMap::new();
    for found in body["data"].as_array().unwrap() {
        let samples = found["samples"].as_array().unwrap().iter();
        let sum: u64 = samples.map(|sample| sample[1].as_u64().unwrap()).sum();
        *lines
            .entry(found["pattern"].as_str().unwrap().to_owned())
            .or_default() += sum;
    }
    lines
}

/// Which of the lines a filter lets through.
async fn filtered(world: &World, filter: &str) -> u64 {
    let query = format!("sum(count_over_time({{app=~\".+\"}} {filter} [1h]))");
    let path = format!("/loki/api/v1/query?query={}", escape(&query));
    let body: Value = serde_json::from_str(&world.get(&path).await.body).unwrap();
    match body["data"]["result"].get(0) {
        Some(sample) => sample["value"][1].as_str().unwrap().parse().unwrap(),
        None => 0,
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[tokio::test]
async fn lines_of_one_template_count_together_over_heads_and_segments() {
    let world = World::new();
    world
        .segment(&[
            record("a", 50, "GET /users/17 took 3ms"),
            record("a", 40, "GET /users/4 took 12ms"),
            record("a", 30, "started"),
        ])
        .await;
    world
        .segment(&[record("b", 20, "GET /users/5 took 9ms")])
        .await;
    world.head(&[
        record("a", 40, "GET /users/4 took 12ms"),
        record("a", 10, "GET /users/99 took 1ms"),
        record("a", 10, "stopped"),
    ]);
    let found = patterns(&world, "{app=~\".+\"}").await;
    let want = [
        ("GET /users/<_> took <_>", 4),
        ("started", 1),
        ("stopped", 1),
    ];
    let want: BTreeMap<String, u64> = want.map(|(p, n)| (p.to_owned(), n)).into();
    assert_eq!(found, want);
    let found = patterns(&world, "{app=\"a\"} |= \"users\" != \"17\"").await;
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("GET /users/<_> took <_>".to_owned(), 2)]
    );
}

fn line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "word", "<", ">", "<_>", "<name>", "7", "x9", "12", " ", " ", "=", ":", "<<", ">>",
        "é", "\"", "_", "", "\t", "`",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_counts_once_and_matches_its_pattern(
        lines in prop::collection::vec((line(), 0i64..60, 1u8..8), 1..40),
    ) {
        block_on(async {
            let all: Vec<(Record, u8)> = lines
                .iter()
                .map(|(line, ago, places)| (record("a", *ago + 1, line), *places))
                .collect();
            let world = World::new();
            let placed = all.iter().map(|(record, places)| (record, *places));
            world.place(1, 3, placed).await;
            let unique: BTreeSet<&Record> = all.iter().map(|(record, _)| record).collect();
            let unique: Vec<Record> = unique.into_iter().cloned().collect();
            let found = patterns(&world, "{app=\"a\"}").await;
            let counted: u64 = found.values().sum();
            assert_eq!(counted, unique.len() as u64, "{found:?}");
            // What the storage makes of lines may not show: alone in a head they have the same patterns.
            let alone = World::new();
            alone.head(&unique);
            assert_eq!(patterns(&alone, "{app=\"a\"}").await, found);
            for (pattern, count) in &found {
                let matching = filtered(&alone, &format!("|> {}", quoted(pattern))).await;
                assert!(matching >= *count, "{pattern:?}: {matching} of {count}");
            }
            // The lines of one pattern alone all match it.
            for (line, _, _) in &lines {
                let one = World::new();
                one.head(&[record("a", 1, line)]);
                let of_line = patterns(&one, "{app=\"a\"}").await;
                let pattern = of_line.keys().next().unwrap();
                assert!(found.contains_key(pattern), "{line:?}: {pattern:?}");
                assert_eq!(filtered(&one, &format!("|> {}", quoted(pattern))).await, 1, "{line:?}: {pattern:?}");
            }
        });
    }
}

#[tokio::test]
async fn lines_count_under_the_level_that_queries_show() {
    let world = World::new();
    let lines = [
        r#"{"status":200,"msg":"no error","level":"info"}"#,
        r#"{"took":1e-5,"msg":"no error","level":"info"}"#,
        r#"{"took":1x-5,"msg":"no error","level":"info"}"#,
        r#"{"msg":"\u001b no error","level":"warn"}"#,
        "a 1 ERROR b",
        "7 level=debug error",
        "x9",
    ];
    // More variables than a pattern has, and not text.
    let many = format!("level=warn {}", "a1 ".repeat(300));
    let all: Vec<Record> = lines
        .into_iter()
        .chain([&*many])
        .map(|line| record("a", 10, line))
        .collect();
    world.segment(&all[..4]).await;
    world.segment(&all[2..]).await;
    world.head(&all[5..6]);
    let path = format!(
        "/loki/api/v1/patterns?query={}&start={}&end={NOW}&step=7",
        escape("{app=\"a\"}"),
        NOW - 3600 * SECOND
    );
    let body: Value = serde_json::from_str(&world.get(&path).await.body).unwrap();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for pattern in body["data"].as_array().unwrap() {
        let samples = pattern["samples"].as_array().unwrap().iter();
        let sum: u64 = samples.map(|sample| sample[1].as_u64().unwrap()).sum();
        *found
            .entry(pattern["level"].as_str().unwrap().to_owned())
            .or_default() += sum;
    }
    let query = "sum by (detected_level) (count_over_time({app=\"a\"} [1h]))";
    let path = format!("/loki/api/v1/query?query={}", escape(query));
    let body: Value = serde_json::from_str(&world.get(&path).await.body).unwrap();
    let samples = body["data"]["result"].as_array().unwrap().iter();
    let shown: BTreeMap<String, u64> = samples
        .map(|sample| {
            let level = sample["metric"]["detected_level"].as_str().unwrap();
            let count = sample["value"][1].as_str().unwrap();
            (level.to_owned(), count.parse().unwrap())
        })
        .collect();
    assert_eq!(found, shown);
    assert_eq!(shown["warn"], 2, "{shown:?}");
}
