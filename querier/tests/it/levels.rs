//! Levels that lines tell are found without the lines, wherever records are.

use proptest::prelude::*;

use crate::once::{Rows, answered, expected, places, sorted};
use crate::world::{Record, World, block_on, record};

/// Lines of few shapes: `$` is one of the words.
const SHAPES: [&str; 14] = [
    r#"{"level":"info","msg":"payment done","user":"$"}"#,
    r#"{"level":"warn","msg":"Caf\$ ferm\u00e9e","trace":"$"}"#,
    "at $ level=$ msg=\"$ of $\"",
    "$ $ took 12ms",
    "request 1 of $: $",
    r#"{"n":$,"msg":"an error at $","level":"$"}"#,
    r#"{"msg":"\$ $","a":{"severity":"$"},"b":$}"#,
    r#"{"$":"$","info":"x"}"#,
    "[$] (42) $",
    "plain text 17",
    "",
    "$",
    "level=$ 5 \"$\\$\"",
    "ERROR 99 $",
];

const WORDS: [&str; 24] = [
    "error", "WARN", "info", "Debug", "fatal", "errors", "x1", "17", "9f3a01c2", "true", "null",
    "level", "severity", "lEvel", "terrence", "u00fb", "u00e9", "n", "u12", "é", "n5", "Trc",
    "127", "a_b",
];

fn records() -> impl Strategy<Value = Vec<Record>> {
    let word = || prop::sample::select(&WORDS[..]);
    let line = (
        prop::sample::select(&SHAPES[..]),
        prop::collection::vec(word(), 4),
    );
    let metadata = prop::option::weighted(
        0.15,
        prop::sample::select(vec![
            ("level", "error"),
            ("severity_number", "17"),
            ("severity_number", ""),
            ("detected_level", "WARN"),
            ("m", "1"),
        ]),
    );
    let label = prop::option::weighted(
        0.2,
        prop::sample::select(vec![("level", "err"), ("detected_level", "loud")]),
    );
    let app = prop::sample::select(vec!["a", "b"]);
    let one = (app, 0i64..60, line, metadata, label);
    let one = one.prop_map(|(app, seconds, (shape, words), metadata, label)| {
        let mut line = shape.to_owned();
        words
            .iter()
            .for_each(|word| line = line.replacen('$', word, 1));
        let mut record = record(app, seconds, &line);
        if let Some((key, value)) = metadata {
            record = record.with(key, value);
        }
        match label {
            Some((name, value)) => record.label(name, value),
            None => record,
        }
    });
    prop::collection::vec(one, 0..60)
}

const QUERIES: [&str; 17] = [
    "sum by (detected_level) (count_over_time({app=~\".+\"} |= \"payment\" [1m]))",
    "sum by (app) (count_over_time({app=~\".+\"} != \"trace\" | detected_level=\"info\" [1m]))",
    "sum by (detected_level) (count_over_time({app=~\".+\"} |= \"trace\" |~ \"Caf|took\" [1m]))",
    "sum by (level, detected_level) (count_over_time({app=~\".+\"}[1m]))",
    "sum by (detected_level) (count_over_time({app=~\".+\"}[30s]))",
    "count_over_time({app=\"a\"}[30s])",
    "sum by (detected_level) (bytes_over_time({app=~\".+\"}[40s]))",
    "sum by (app) (count_over_time({app=~\".+\"} | detected_level=\"error\" [30s]))",
    "sum by (app) (count_over_time({app=~\".+\"} | detected_level!=\"unknown\" [1m]))",
    "sum by (detected_level) (count_over_time({app=~\".+\"} |= \"1\" | detected_level=~\"(?i)warn|error|loud\" [1m]))",
    "sum by (app) (count_over_time({app=~\".+\"} | m=\"1\" or detected_level=\"info\" | app!=\"b\" [1m]))",
    "sum by (l) (count_over_time({app=~\".+\"} | label_format l=\"{{.detected_level}}{{.m}}\" | detected_level!=\"info\" [1m]))",
    "sum(count_over_time({app=~\".+\"} | drop detected_level | detected_level=\"\" [1m]))",
    "{app=~\".+\"} | detected_level=\"error\"",
    "{app=~\".+\"} |= \"1\" | detected_level=~\"unknown|loud\" and app=\"a\"",
    "{app=~\".+\"} | logfmt | detected_level=\"warn\"",
    "{app=~\".+\"} | detected_level=\"info\" | json | severity!=\"x\"",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn levels_do_not_depend_on_where_records_are(records in records(), places in places()) {
        block_on(async {
            let world = World::new();
            let placed = records.iter().zip(places.iter().copied());
            world.place(2, 5, placed).await;
            for query in QUERIES {
                let want: Rows = expected(&records, query, false, 1000);
                let got = answered(&world, query, false, 1000).await;
                assert_eq!(sorted(got), sorted(want), "{query}");
            }
        });
    }
}

#[test]
fn levels_behind_a_line_filter_need_nothing_of_templates_that_it_refutes() {
    let users = ["anna", "terrence", "bob", "miro"];
    let records: Vec<Record> = (0..400)
        .map(|n: i64| {
            let user = users[n as usize / 2 % users.len()];
            let line = match n % 2 {
                0 => format!(r#"{{"level":"info","msg":"payment done","user":"{user}{n}"}}"#),
                _ => format!(
                    r#"{{"level":"warn","msg":"Caf\u00{:02x} ferm\u00e9e","trace":"{:08x}"}}"#,
                    [0xe9, 0xfb, 0xbf][n as usize % 3],
                    n * 7_654_321
                ),
            };
            record("a", n % 60, &line)
        })
        .collect();
    block_on(async {
        let world = World::new();
        world.segment_in_chunks(1 << 20, &records).await;
        for query in &QUERIES[..3] {
            let want: Rows = expected(&records, query, false, 1000);
            assert!(!want.is_empty() || query.contains("Caf"), "{query}");
            let got = answered(&world, query, false, 1000).await;
            assert_eq!(sorted(got), sorted(want), "{query}");
        }
    });
}
