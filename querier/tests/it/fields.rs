//! Detected fields are those of every line, wherever the lines lie.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

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
async fn errors_are_no_fields_and_sizes_of_lines_are_shown_as_queries_take_them() {
    let lines = [
        (r#"{"__error__":"x","size":"1,000 B"}"#, ""),
        (r#"{"__error__":"y","size":"10.5 MB"}"#, ""),
        ("size=1k __error__=z", ""),
        ("plain", "1KB"),
        ("both=2KB", ""),
    ];
    let records = lines.iter().map(|(line, size)| match *size {
        "" => record("a", 1, line),
        size => record("a", 1, line).with("sent", size).with("both", size),
    });
    let records: Vec<_> = records.collect();
    for in_head in [false, true] {
        let world = World::new();
        match in_head {
            true => drop(world.head(&records)),
            false => drop(world.segment(&records).await),
        }
        let found = ask(&world, "detected_fields", "{app=\"a\"}", "").await;
        let names: Vec<&str> = labels(&found).collect();
        assert_eq!(names, ["both", "detected_level", "sent", "size"]);
        let found = ask(&world, "detected_field/size/values", "{app=\"a\"}", "").await;
        assert_eq!(found["values"], json!(["1.0kB", "10.5MB"]));
        let found = ask(&world, "detected_field/sent/values", "{app=\"a\"}", "").await;
        assert_eq!(found["values"], json!(["1KB"]));
        // Where a field is of metadata, too, values are as they are stored.
        let found = ask(&world, "detected_field/both/values", "{app=\"a\"}", "").await;
        assert_eq!(found["values"], json!(["1KB", "2KB"]));
    }
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
        block_on(async {
            let all: Vec<(Record, u8)> = lines
                .iter()
                .map(|(made, ago, places)| (made.record(*ago), *places))
                .collect();
            let world = World::new();
            let placed = all.iter().map(|(record, places)| (record, *places));
            world.place(1, 3, placed).await;
            let want = naive(lines.iter().map(|(made, _, _)| made));
            let found = ask(&world, "detected_fields", "{app=\"s\"} | drop detected_level", "").await;
            let names: Vec<&str> = labels(&found).collect();
            assert_eq!(names, want.keys().collect::<Vec<_>>());
            for field in found["fields"].as_array().into_iter().flatten() {
                let name = field["label"].as_str().unwrap();
                let (values, parsers) = &want[name];
                assert_eq!(field["cardinality"], values.len(), "{name}");
                // Sizes of lines alone are shown as Loki shows them.
                let key = name.trim_end_matches("_extracted");
                let mut metadata = lines.iter().flat_map(|(made, _, _)| &made.metadata);
                let is_of_lines = metadata.all(|(stored, _)| *stored != key);
                let shown = |value| match value {
                    "8KB" if is_of_lines => "8.0kB",
                    other => other,
                };
                let values: BTreeSet<&str> = values.iter().map(|value| shown(*value)).collect();
                let parsers = if parsers.is_empty() { Value::Null } else { json!(parsers) };
                assert_eq!(field["parsers"], parsers, "{name}");
                let path = format!("detected_field/{name}/values");
                let answer = ask(&world, &path, "{app=\"s\"}", "").await;
                assert_eq!(answer["values"], json!(values), "{name}");
            }
        });
    }
}

/// Numbers out of a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn word(&mut self) -> String {
        let n = self.below(40);
        match self.below(24) {
            0..=3 => n.to_string(),
            4 => format!("{:x}", n * 7919),
            5 => format!("u{n}"),
            6 => format!("{n}ms"),
            7 => self
                .of(&["error", "INFO", "warning", "debug", "inferred", "notice"])
                .to_owned(),
            8 => self
                .of(&["true", "false", "null", "trace5", "5err", "level"])
                .to_owned(),
            9 => self.of(&["ünï9", "é", "\u{fffd}1", "\u{a0}7"]).to_owned(),
            10 => format!("{}.{n}", n * 3),
            11 => format!("-{n}"),
            12 => format!("10.0.{}.{n}", n % 4),
            13 => format!("{n:08x}-{:04x}", n * 31),
            14 => self.of(&["17", "9", "1", "30"]).to_owned(),
            _ => self
                .of(&["alpha", "beta", "gamma", "delta", "on", "a_b"])
                .to_owned(),
        }
    }

    fn key(&mut self) -> String {
        match self.below(12) {
            0 => format!("k{}", self.below(3)),
            1 => self
                .of(&["level", "lvl", "severity", "log.level", "Level"])
                .to_owned(),
            2 => self
                .of(&["app", "1x", "a.b", "a b", "é", "", "severity_number"])
                .to_owned(),
            _ => self.of(&["a", "b", "id", "msg", "took", "x_y"]).to_owned(),
        }
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(4) {
            text += &self.word();
            text += self.of(&[" ", "-", "/", ":", "=", ", "]);
        }
        text + &self.word()
    }

    fn json(&mut self, depth: u64) -> String {
        let mut members = Vec::new();
        for _ in 0..self.below(5) {
            let key = self.key();
            let value = match self.below(12) {
                0 if depth < 2 => self.json(depth + 1),
                1 => format!(
                    "[{}, \"{}\", {{\"a\": {}}}]",
                    self.below(9),
                    self.word(),
                    self.word()
                ),
                2 => self
                    .of(&["null", "true", "false", "{}", "[]", "\"\"", "x"])
                    .to_owned(),
                3 => format!(
                    "\"{}\\n{}\\u00e9\\\"{}\"",
                    self.word(),
                    self.word(),
                    self.word()
                ),
                4 => format!("\"{}\\x{}\"", self.word(), self.word()),
                5..=7 => self.below(300).to_string(),
                8 => self.word(),
                9 => format!("{}.{}e{}", self.below(9), self.below(9), self.below(3)),
                _ => format!("\"{}\"", self.text()),
            };
            members.push(format!(
                "{}\"{key}\":{}{value}",
                self.of(&["", " "]),
                self.of(&["", " "])
            ));
        }
        format!("{{{}}}", members.join(","))
    }

    fn logfmt(&mut self) -> String {
        let mut pairs = Vec::new();
        for _ in 0..self.below(6) {
            let key = self.key();
            pairs.push(match self.below(9) {
                0 => self.word(),
                1 => format!("{key}="),
                2 => format!("{key}=\"{}\"", self.text()),
                3 => format!(
                    "{key}=\"{}\\n{} \\\"{}\\\"\"",
                    self.word(),
                    self.word(),
                    self.word()
                ),
                4 => format!("{key}=\"{}", self.word()),
                5 => format!("{key}={}={}", self.word(), self.word()),
                _ => format!("{key}={}", self.word()),
            });
        }
        pairs.join(" ")
    }

    fn line(&mut self) -> String {
        match self.below(10) {
            0..=3 => self.json(0),
            4..=6 => self.logfmt(),
            7 => self.json(0).replace('}', "") + &self.text(),
            8 => self.json(0) + &self.logfmt(),
            _ => self.text(),
        }
    }

    /// Another line of the same form: some of its tokens are others.
    fn like(&mut self, line: &str) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
        let words = self.below(3) == 0;
        let mut out = String::new();
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let token = is_token(first);
            let end = rest.find(|c| is_token(c) != token).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            let has_digit = piece.contains(|c: char| c.is_ascii_digit());
            let changes = token && (has_digit || words && self.below(4) == 0);
            match changes && self.below(4) > 0 {
                true => out += &self.word(),
                false => out += piece,
            }
        }
        out
    }
}

fn odd_records(seed: u64) -> Vec<Record> {
    let draw = &mut Draw(seed | 1);
    let forms: Vec<String> = (0..1 + draw.below(4)).map(|_| draw.line()).collect();
    let streams = 1 + draw.below(3);
    let (with_level, with_metadata) = (draw.below(3) == 0, draw.below(2) == 0);
    let count = 1 + draw.below(120) as i64;
    let records = (0..count).map(|n| {
        let form = draw.below(forms.len() as u64) as usize;
        let line = match draw.below(12) {
            0 => draw.line(),
            _ => draw.like(&forms[form]),
        };
        let mut record = record("s", 1, &line);
        record.at -= n * 1_000_003 * (1 + draw.below(3) as i64 / 2);
        record.at -= n;
        record = match draw.below(streams) {
            0 => record,
            1 => record.label("id", "of a stream"),
            _ => record.label("env", "x").label("k1", "y"),
        };
        if with_level && draw.below(40) == 0 {
            record = record.label("severity", "error");
        }
        if with_metadata && draw.below(3) > 0 {
            let key = draw.of(&["trace", "id", "k2", "a"]);
            record = record.with(key, &draw.word());
        }
        if with_metadata && draw.below(8) == 0 {
            let key = draw.of(&["level", "detected_level", "severity_number", "id_extracted"]);
            record = record.with(key, &draw.word());
        }
        record
    });
    records.collect()
}

const ODD_QUERIES: [&str; 6] = [
    r#"{app="s"}"#,
    r#"{app="s"} |= "a""#,
    r#"{app="s"} != "e" |~ "[0-9]""#,
    r#"{app="s", id=""}"#,
    r#"{app="s"} | drop app"#,
    r#"{app="s"} |= "err" or "info""#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_do_not_depend_on_where_lines_are(
        seed in any::<u64>(),
        range in (0i64..100, 1i64..120),
        deleted in prop::option::of((0usize..4, 0i64..100, 1i64..100)),
        query in prop::sample::select(ODD_QUERIES.to_vec()),
    ) {
        block_on(async {
            let records = odd_records(seed);
            let worlds = [World::new(), World::new(), World::new()];
            worlds[0].head(&records);
            worlds[1].segment_in_chunks(1 << 20, &records).await;
            let third = records.len() / 3;
            worlds[2].head(&records[..third]);
            worlds[2].segment_in_chunks(1500, &records[..2 * third]).await;
            worlds[2].segment_in_chunks(1 << 20, &records[third..]).await;
            let at = |ago: i64| NOW - SECOND - ago * 1_000_003;
            if let Some((query, start, length)) = deleted {
                let query = ["{app=\"s\"}", "{id!=\"\"}", "{app=\"s\"} |= \"1\"", "{env=\"x\"}"][query];
                let range = model::TimeRange::new(at(start + length), at(start));
                for world in &worlds {
                    crate::deletes::delete(world, query, range).await;
                }
            }
            let (start, end) = (at(range.0 + range.1), at(range.0) + 1);
            let span = format!("&start={start}&end={end}");
            let whole = format!("query={}", escape(query));
            for span in [&span, ""] {
                let path = format!("/loki/api/v1/detected_fields?{whole}{span}");
                let want = worlds[0].get(&path).await;
                assert_eq!(want.status, 200, "{}", want.body);
                for (at, world) in worlds.iter().enumerate().skip(1) {
                    let found = world.get(&path).await;
                    assert_eq!(found.body, want.body, "{at} {path}\n{}", lines(&records));
                }
                let fields: Value = serde_json::from_str(&want.body).unwrap();
                for name in labels(&fields) {
                    let path = format!("/loki/api/v1/detected_field/{name}/values?{whole}{span}");
                    let want = worlds[0].get(&path).await;
                    for (at, world) in worlds.iter().enumerate().skip(1) {
                        let found = world.get(&path).await;
                        assert_eq!(found.body, want.body, "{at} {path}\n{}", lines(&records));
                    }
                }
            }
        });
    }
}

fn lines(records: &[Record]) -> String {
    let lines = records.iter().map(|record| format!("{:?}", record));
    lines.collect::<Vec<_>>().join("\n")
}
