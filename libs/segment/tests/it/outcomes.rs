//! A property of lines, found without the lines, is that of the lines.

use std::sync::Arc;

use bytes::Bytes;
use model::{
    Columns, Flow, Labels, LineColumn, LineFilter, LineProperty, OutcomeSet, Outcomes, RecordTest,
    Selector, TenantId, TimeRange, ValueBounds,
};
use proptest::prelude::*;
use segment::{Pieces, ScanSpec, Scratch, Wanted};

use crate::support::{ALL, Object, Record, open, write};

/// How often `error` stands in a line as a token, and how long the tokens that begin with `x` are.
#[derive(Debug)]
struct Errors;

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl LineProperty for Errors {
    fn of_line(&self, line: &[u8]) -> u8 {
        let tokens = line.split(|byte| !is_token(*byte));
        let of_token = |token: &[u8]| match token {
            b"error" => 1,
            [b'x', ..] => token.len(),
            _ => 0,
        };
        (tokens.map(of_token).sum::<usize>() % 8) as u8
    }

    fn is_asked(&self, labels: &Labels) -> bool {
        labels.get("app") != Some("told")
    }

    fn places(&self, _: &[u8], slots: &[u32], places: &mut Vec<u8>) {
        places.resize(places.len() + slots.len(), 7);
    }

    fn class(&self, place: u8, value: &[u8]) -> Option<u8> {
        assert_eq!(place, 7);
        match value {
            [b'x', ..] => None,
            _ => Some(u8::from(value == b"error")),
        }
    }

    fn class_of_all(&self, _: u8, bounds: &ValueBounds) -> Option<u8> {
        let may_have = |letter: u8| bounds.bytes >> (letter - b'a') & 1 == 1;
        let may_be_error = bounds.longest >= 5 && bounds.shortest <= 5 && may_have(b'o');
        (!may_have(b'x') && !may_be_error).then_some(0)
    }

    fn stand_in(&self, class: u8) -> &[u8] {
        [&b"y"[..], b"error"][usize::from(class)]
    }
}

/// Records with an odd outcome, but of `no` those with 3 only, and all with `k`.
#[derive(Debug)]
struct Odd;

impl RecordTest for Odd {
    fn useful(&self, labels: &Labels, metadata: &[(&str, &str)]) -> OutcomeSet {
        if labels.get("app") == Some("no") {
            return OutcomeSet::of([3]);
        }
        match metadata.iter().any(|(key, _)| *key == "k") {
            true => OutcomeSet::ALL,
            false => OutcomeSet::of([1, 3, 5, 7]),
        }
    }

    fn reads(&self, key: &str) -> bool {
        key == "k"
    }
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "error", "errors", "x", "xy1", "warn", "é", "x_", "terror"
        ])
        .prop_map(str::to_owned),
        "[0-9]{1,6}",
        "[0-9a-f]{5}",
    ];
    let shapes = prop::sample::select(vec!["$", "$ $", "a=$ b=$ c=$", "error $", "", "<$>-$", "-"]);
    let line = (shapes, prop::collection::vec(token, 3)).prop_map(|(shape, tokens)| {
        let mut tokens = tokens.into_iter();
        let fill = |part: &str| format!("{part}{}", tokens.next().unwrap_or_default());
        let parts = shape.split_inclusive('$').map(|part| part.replace('$', ""));
        let mut filled: Vec<String> = parts.map(|part| part.as_str().to_owned()).collect();
        let slots = shape.matches('$').count();
        let mut fill = fill;
        for part in filled.iter_mut().take(slots) {
            *part = fill(part);
        }
        filled.concat()
    });
    let app = prop::sample::select(vec!["a", "b", "no", "told"]);
    let metadata = prop::option::weighted(0.2, prop::sample::select(vec!["k", "other"]));
    let one = (app, 0i64..50, line, metadata).prop_map(|(app, time, line, key)| Record {
        tenant: "one".into(),
        app: app.into(),
        time,
        line: line.into_bytes(),
        metadata: key
            .into_iter()
            .map(|key| (key.to_owned(), b"v".to_vec()))
            .collect(),
    });
    prop::collection::vec(one, 1..300)
}

/// App, time, outcome and the length of the line, if lengths were asked for.
type Row = (String, i64, Option<u8>, u32);

fn found(object: &Object, asked: &Outcomes, columns: Columns, pieces: Pieces) -> Vec<Row> {
    let segment = open(object).unwrap();
    let tenant = TenantId::new("one").unwrap();
    let mut plan = segment.plan(&ScanSpec {
        tenant: &tenant,
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: &LineFilter::default(),
    });
    plan.ask(asked);
    let wanted = Wanted {
        columns,
        patterns: false,
        outcomes: asked.wanted,
        pieces,
    };
    let mut rows = Vec::new();
    let mut scratch = Scratch::default();
    for chunk in plan.chunks() {
        let reads = plan.reads_of(chunk, &wanted).into_iter();
        let bytes: Vec<Bytes> = reads
            .map(|range| object.bytes.slice(range.start as usize..range.end as usize))
            .collect();
        let useful = || TimeRange::ALL;
        plan.decode_wanted(
            chunk,
            &wanted,
            &useful,
            &bytes,
            &mut scratch,
            &mut |block| {
                for row in 0..block.rows {
                    rows.push((
                        block.labels.get("app").unwrap().to_owned(),
                        block.timestamps[row],
                        block.outcomes.get(row).copied(),
                        block.lines.line_length(row) as u32,
                    ));
                }
                Flow::Continue
            },
        )
        .unwrap();
    }
    rows.sort();
    rows
}

fn expected(records: &[Record], asked: &Outcomes, columns: Columns) -> Vec<Row> {
    let mut records = records.to_vec();
    records.sort();
    records.dedup();
    let row = |record: &Record| {
        let labels = Labels::new([("app", record.app.as_str())]).unwrap();
        let is_asked = Errors.is_asked(&labels);
        let outcome = is_asked.then(|| Errors.of_line(&record.line));
        if asked.test.is_some() {
            let pairs: Vec<(&str, &str)> = record
                .metadata
                .iter()
                .map(|(key, _)| (key.as_str(), "v"))
                .collect();
            let useful = Odd.useful(&labels, &pairs);
            if outcome.is_some_and(|outcome| !useful.has(outcome)) {
                return None;
            }
        }
        let outcome = outcome.filter(|_| asked.wanted);
        let length = match columns.lines {
            LineColumn::None => 0,
            _ => record.line.len() as u32,
        };
        Some((record.app.clone(), record.time, outcome, length))
    };
    let mut rows: Vec<Row> = records.iter().filter_map(row).collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn outcomes_are_those_of_the_lines(
        records in records(),
        chunk_bytes in prop::sample::select(vec![256usize, 1024, 1 << 20]),
        lines in prop::sample::select(vec![LineColumn::None, LineColumn::Lengths, LineColumn::Bytes]),
        wanted in any::<bool>(),
        tests in any::<bool>(),
        pieces in prop::sample::select(vec![Pieces::Whole, Pieces::FromEnd]),
    ) {
        let (object, _) = write(&records, chunk_bytes);
        let asked = Outcomes {
            property: Arc::new(Errors),
            wanted,
            test: tests.then(|| Arc::new(Odd) as Arc<dyn RecordTest>),
        };
        let columns = Columns { lines, ..ALL };
        prop_assert_eq!(
            found(&object, &asked, columns, pieces),
            expected(&records, &asked, columns)
        );
    }
}

#[test]
fn templates_whose_values_tell_nothing_need_no_values() {
    let lines: Vec<Record> = (0..2000)
        .map(|n| Record {
            tenant: "one".into(),
            app: "a".into(),
            time: n,
            line: format!("request {n} took {}ms error", n % 7).into_bytes(),
            metadata: Vec::new(),
        })
        .collect();
    let (object, _) = write(&lines, 1 << 20);
    let asked = Outcomes {
        property: Arc::new(Errors),
        wanted: true,
        test: None,
    };
    let columns = Columns {
        timestamps: true,
        lines: LineColumn::None,
        metadata: false,
    };
    let rows = found(&object, &asked, columns, Pieces::Whole);
    assert!(rows.len() == 2000 && rows.iter().all(|(_, _, outcome, _)| *outcome == Some(1)));
    let segment = open(&object).unwrap();
    let tenant = TenantId::new("one").unwrap();
    let spec = ScanSpec {
        tenant: &tenant,
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: &LineFilter::default(),
    };
    let mut plan = segment.plan(&spec);
    plan.ask(&asked);
    let chunk = &plan.chunks()[0];
    let wanted = Wanted {
        columns,
        patterns: false,
        outcomes: true,
        pieces: Pieces::Whole,
    };
    let bytes = |reads: Vec<std::ops::Range<u64>>| -> u64 {
        reads.iter().map(|range| range.end - range.start).sum()
    };
    let times = bytes(segment.plan(&spec).reads(chunk, columns));
    assert!(bytes(plan.reads_of(chunk, &wanted)) < times + 64);
}
