//! Detected fields are those of every line, wherever the lines lie.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{NOW, Record, SECOND, World, escape, record};

async fn ask(world: &World, path: &str, query: &str, more: &str) -> Value {
    let path = format!(
        "/loki/api/v1/{path}?query={}&start={}&end={NOW}{more}",
        escape(query),
        NOW - 3600 * SECOND
    );
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn every_line_counts_and_line_limit_cuts_nothing() {
    let world = World::new();
    let lines: Vec<Record> = (0..300)
        .map(|n| record("a", n + 1, &format!("id={n} took={}ms", n % 7)))
        .collect();
    world.segment(&lines[100..]).await;
    world.head(&lines[..100]);
    let found = ask(&world, "detected_fields", "{app=\"a\"}", "&line_limit=1").await;
    let want = json!({"fields": [
        {"label": "detected_level", "type": "string", "cardinality": 1, "parsers": null},
        {"label": "id", "type": "int", "cardinality": 300, "parsers": ["logfmt"]},
        {"label": "took", "type": "duration", "cardinality": 7, "parsers": ["logfmt"]},
    ], "limit": 1000});
    assert_eq!(found, want);
    let path = "detected_field/took/values";
    let found = ask(&world, path, "{app=\"a\"}", "&line_limit=1&limit=3").await;
    assert_eq!(found, json!({"values": ["0ms", "1ms", "2ms"], "limit": 3}));
}

#[tokio::test]
async fn fields_of_a_query_are_those_that_its_stages_leave_and_make() {
    let world = World::new();
    world.segment(&[record("a", 3, "GET /x 200 took=5s")]).await;
    world.head(&[
        record("a", 2, r#"{"a b":{"c":"1KB"},"app":true,"l":[1]}"#),
        record("a", 1, r#"{"a b":{"c":"2KB"}, broken took=6s"#),
    ]);
    let query = r#"{app="a"} | pattern "<method> <_> <status> <_>" | method="GET""#;
    let found = ask(&world, "detected_fields", query, "").await;
    let names: Vec<&str> = labels(&found).collect();
    assert_eq!(names, ["detected_level", "method", "status", "took"]);
    let query = r#"{app="a"} |= "KB" | line_format "{{.app}}=x {{__line__}}""#;
    let found = ask(&world, "detected_fields", query, "").await;
    let names: Vec<&str> = labels(&found).collect();
    assert_eq!(names, ["a", "detected_level", "took"]);
    let found = ask(&world, "detected_fields", r#"{app="a"} |= "true""#, "").await;
    let want = json!([
        {"label": "a_b_c", "type": "bytes", "cardinality": 1, "parsers": ["json"], "jsonPath": ["a b", "c"]},
        {"label": "app_extracted", "type": "boolean", "cardinality": 1, "parsers": ["json"], "jsonPath": ["app"]},
        {"label": "detected_level", "type": "string", "cardinality": 1, "parsers": null},
    ]);
    assert_eq!(found["fields"], want);
}

fn labels(found: &Value) -> impl Iterator<Item = &str> {
    let fields = found["fields"].as_array().into_iter().flatten();
    fields.map(|field| field["label"].as_str().unwrap())
}

/// A line of which the fields are known.
#[derive(Clone, Debug)]
struct Made {
    json: bool,
    fields: BTreeMap<&'static str, &'static str>,
    metadata: BTreeMap<&'static str, &'static str>,
}

fn pairs() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let names = prop::sample::select(vec!["a", "b", "app", "k9", "x_y"]);
    let values = prop::sample::select(vec![
        "1", "2", "-7", "1.5", "true", "7ms", "8KB", "w", "é9", "a-b_c",
    ]);
    prop::collection::btree_map(names, values, 0..4)
}

fn made() -> impl Strategy<Value = Made> {
    (any::<bool>(), pairs(), pairs()).prop_map(|(json, fields, metadata)| Made {
        json,
        fields,
        metadata,
    })
}

impl Made {
    fn line(&self) -> String {
        if self.json {
            return json!(self.fields).to_string();
        }
        let pairs = self
            .fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        format!("words and {}", pairs.collect::<Vec<_>>().join(" "))
    }

    fn record(&self, ago: i64) -> Record {
        let pairs = self.metadata.iter();
        pairs.fold(record("s", ago, &self.line()), |record, (name, value)| {
            record.with(name, value)
        })
    }
}

/// Values and parsers by name, found the slow way.
fn naive<'a>(
    lines: impl Iterator<Item = &'a Made>,
) -> BTreeMap<String, (BTreeSet<&'a str>, BTreeSet<&'a str>)> {
    let mut fields: BTreeMap<String, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    let name = |name: &str| match name {
        "app" => "app_extracted".to_owned(),
        name => name.to_owned(),
    };
    for made in lines {
        for (key, value) in &made.metadata {
            fields.entry(name(key)).or_default().0.insert(value);
        }
        for (key, value) in &made.fields {
            let field = fields.entry(name(key)).or_default();
            field.0.insert(value);
            field.1.insert(if made.json { "json" } else { "logfmt" });
        }
    }
    fields
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_those_of_all_lines_over_heads_and_segments(
        lines in prop::collection::vec((made(), 1i64..60, 1u8..8), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let at = |place: u8| -> Vec<Record> {
                let here = lines.iter().filter(|(_, _, places)| places & (1 << place) != 0);
                here.map(|(made, ago, _)| made.record(*ago)).collect()
            };
            let world = World::new();
            world.head(&at(0));
            for place in 1..3 {
                let records = at(place);
                if !records.is_empty() {
                    world.segment(&records).await;
                }
            }
            let want = naive(lines.iter().map(|(made, _, _)| made));
            let found = ask(&world, "detected_fields", "{app=\"s\"} | drop detected_level", "").await;
            let names: Vec<&str> = labels(&found).collect();
            assert_eq!(names, want.keys().collect::<Vec<_>>());
            for field in found["fields"].as_array().into_iter().flatten() {
                let name = field["label"].as_str().unwrap();
                let (values, parsers) = &want[name];
                assert_eq!(field["cardinality"], values.len(), "{name}");
                let parsers = if parsers.is_empty() { Value::Null } else { json!(parsers) };
                assert_eq!(field["parsers"], parsers, "{name}");
                let path = format!("detected_field/{name}/values");
                let answer = ask(&world, &path, "{app=\"s\"}", "").await;
                assert_eq!(answer["values"], json!(values), "{name}");
            }
        });
    }
}
