//! A property of lines, found without the lines, is that of the lines.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::{
    Columns, Flow, Labels, LineClause, LineColumn, LineFilter, LineProperty, LineTest, OutcomeSet,
    OutcomeTest, Outcomes, Selector, TenantId, TimeRange, ValueBounds,
};
use proptest::prelude::*;
use segment::{Pieces, ScanSpec, Scratch, Wanted};

use crate::search::DigitAnd;
use crate::support::{ALL, Object, Record, open, write};

/// How often `error` stands in a line as a token, and how long the tokens that begin with `x` are;
/// tokens that begin with `f` count twice, those of six digits four times. So values of each class of
/// text may tell.
#[derive(Debug)]
struct Errors;

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_long_number(token: &[u8]) -> bool {
    token.len() == 6 && token.iter().all(u8::is_ascii_digit)
}

impl LineProperty for Errors {
    fn of_line(&self, line: &[u8]) -> u8 {
        let tokens = line.split(|byte| !is_token(*byte));
        let of_token = |token: &[u8]| match token {
            b"error" => 1,
            [b'x', ..] => token.len(),
            [b'f', ..] => 2,
            _ if is_long_number(token) => 4,
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
            [b'f', ..] => Some(2),
            _ if is_long_number(value) => Some(3),
            _ => Some(u8::from(value == b"error")),
        }
    }

    fn class_of_all(&self, _: u8, bounds: &ValueBounds) -> Option<u8> {
        let may_have = |letter: u8| bounds.bytes >> (letter - b'a') & 1 == 1;
        let may_be_error = bounds.longest >= 5 && bounds.shortest <= 5 && may_have(b'o');
        let may_be_long =
            bounds.longest >= 6 && bounds.shortest <= 6 && bounds.bytes >> 52 & 1 == 1;
        let may_tell = may_have(b'x') || may_have(b'f') || may_be_error || may_be_long;
        (!may_tell).then_some(0)
    }

    fn stand_in(&self, class: u8) -> &[u8] {
        [&b"y"[..], b"error", b"f", b"000000"][usize::from(class)]
    }
}

/// Records with an odd outcome, but of `no` those with 3 only, and all with `k`.
#[derive(Debug)]
struct Odd;

impl OutcomeTest for Odd {
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
    let shapes = prop::sample::select(vec![
        "$",
        "$ $",
        "a=$ b=$ c=$",
        "error $",
        "",
        "<$>-$",
        "-",
        "{word: $}",
        "{hex: $}",
    ]);
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

/// Up to two clauses, most about what few of the templates have.
fn line_filter() -> impl Strategy<Value = LineFilter> {
    let needle = prop::sample::select(vec![
        "error", "a=", "word", "hex", "{", "-", " ", "x", "f", "12", "error a",
    ]);
    let test = prop_oneof![
        4 => needle.prop_map(|needle| LineTest::Contains(needle.as_bytes().into())),
        1 => prop::sample::select(vec![&b"0123456789"[..], b"abcdef", b" "])
            .prop_map(|second| LineTest::Matches(Arc::new(DigitAnd(second)))),
    ];
    let any = prop::collection::vec(test, 1..3);
    let clause = (prop::bool::weighted(0.3), any);
    let clause = clause.prop_map(|(negated, any)| LineClause { negated, any });
    prop::collection::vec(clause, 0..3).prop_map(|clauses| LineFilter { clauses })
}

/// App, time, outcome and the length of the line, if lengths were asked for.
type Row = (String, i64, Option<u8>, u32);

/// Decodes with nothing but the bytes that the plan asked for.
fn found(
    object: &Object,
    asked: &Outcomes,
    line_filter: &LineFilter,
    columns: Columns,
    pieces: Pieces,
) -> Vec<Row> {
    let segment = open(object).unwrap();
    let tenant = TenantId::new("one").unwrap();
    let mut plan = segment.plan(&ScanSpec {
        tenant: &tenant,
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter,
    });
    plan.ask(asked);
    let slice = |range: Range<u64>| object.bytes.slice(range.start as usize..range.end as usize);
    plan.filter_with(|reads| Ok::<_, segment::Error>(reads.into_iter().map(slice).collect()))
        .unwrap();
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
        let bytes: Vec<Bytes> = reads.map(slice).collect();
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

fn expected(
    records: &[Record],
    asked: &Outcomes,
    line_filter: &LineFilter,
    columns: Columns,
) -> Vec<Row> {
    let mut records = records.to_vec();
    records.retain(|record| line_filter.is_match(&record.line));
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
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn outcomes_are_those_of_the_lines(
        records in records(),
        line_filter in line_filter(),
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
            test: tests.then(|| Arc::new(Odd) as Arc<dyn OutcomeTest>),
        };
        let columns = Columns { lines, ..ALL };
        prop_assert_eq!(
            found(&object, &asked, &line_filter, columns, pieces),
            expected(&records, &asked, &line_filter, columns)
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
    let rows = found(
        &object,
        &asked,
        &LineFilter::default(),
        columns,
        Pieces::Whole,
    );
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
