//! Rows taken apart by template are the rows of a scan.

use std::collections::BTreeSet;

use model::{LineClause, LineFilter, LineTest, Selector, TenantId, TimeRange};
use proptest::prelude::*;
use segment::{ClassRows, Pieces, ScanSpec, Scratch, TemplateRows, Wanted};

use crate::round_trip::records;
use crate::support::{ALL, Object, Record, as_set, open, scan, write};

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii()
}

/// The line put together from what the template says.
fn assembled(rows: &TemplateRows<'_>, row: u32) -> Vec<u8> {
    let mut line = Vec::new();
    let mut at = 0;
    for (number, slot) in rows.slots().iter().enumerate() {
        let (slot, values) = (*slot as usize, rows.slot(number));
        let value = values.get(values.of_row(row));
        line.extend_from_slice(&rows.text()[at..slot]);
        line.extend_from_slice(value);
        at = slot;
        if rows.is_whole() {
            continue;
        }
        assert!(!value.is_empty() && value.iter().all(is_token));
        assert!(
            values.may_have_words() || value.iter().all(|b| b.is_ascii_hexdigit() || *b == b'_')
        );
        let neighbours = [slot.checked_sub(1), Some(slot)].into_iter().flatten();
        let mut neighbours = neighbours.filter_map(|at| rows.text().get(at));
        assert!(!neighbours.any(is_token), "a variable is a whole token");
    }
    assert!(!rows.text().iter().any(u8::is_ascii_digit));
    line.extend_from_slice(&rows.text()[at..]);
    line
}

/// The rows of a class as records, found by template.
fn taken(class: &ClassRows<'_>, app: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut pairs = BTreeSet::new();
    class.each_template(|rows| {
        for row in rows.rows() {
            let mut line = Vec::new();
            rows.append_line(*row, &mut line);
            assert_eq!(line, assembled(rows, *row));
            let metadata = class.metadata(*row);
            let metadata: Vec<(String, Vec<u8>)> = metadata
                .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                .collect();
            pairs.extend(metadata.iter().cloned());
            records.push(Record {
                tenant: "one".into(),
                app: app.into(),
                time: class.timestamp(*row),
                line,
                metadata,
            });
        }
    });
    let mut given = BTreeSet::new();
    class.each_metadata(|key, value| {
        given.insert((key.to_owned(), value.as_bytes().to_vec()));
    });
    assert_eq!(given, pairs);
    assert_eq!(records.len(), class.rows().len());
    records
}

fn scan_by_template(object: &Object, range: TimeRange, line_filter: &LineFilter) -> Vec<Record> {
    let segment = open(object).unwrap();
    let tenant = TenantId::new("one").unwrap();
    let plan = segment.plan(&ScanSpec {
        tenant: &tenant,
        selector: &Selector::default(),
        range,
        line_filter,
    });
    let wanted = Wanted {
        columns: ALL,
        patterns: false,
        outcomes: false,
        pieces: Pieces::Whole,
    };
    let mut scratch = Scratch::default();
    let mut apps: Vec<String> = Vec::new();
    let mut records = Vec::new();
    for chunk in plan.chunks() {
        let reads = plan.reads_of(chunk, &wanted).into_iter();
        let bytes: Vec<_> = reads
            .map(|range| object.bytes.slice(range.start as usize..range.end as usize))
            .collect();
        // One class for each value of a label.
        let known = std::cell::RefCell::new(&mut apps);
        let mut class_of = |labels: &std::sync::Arc<model::Labels>| {
            let app = labels.get("app").unwrap();
            let mut known = known.borrow_mut();
            known
                .iter()
                .position(|known| known == app)
                .unwrap_or_else(|| {
                    known.push(app.to_owned());
                    known.len() - 1
                })
        };
        let mut take = |class: usize, rows: &ClassRows<'_>| {
            let app = known.borrow()[class].clone();
            records.extend(taken(rows, &app));
        };
        plan.decode_by_template(
            chunk,
            &wanted,
            &bytes,
            &mut scratch,
            &mut class_of,
            &mut take,
        )
        .unwrap();
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_by_template_are_those_of_a_scan(
        records in records(),
        needle in prop::option::of(prop::sample::select(vec!["a", "1", "error", " "])),
        start in -6i64..40,
        length in 1i64..60,
    ) {
        let (object, _) = write(&records, 1024);
        let clause = |needle: &str| LineClause {
            negated: false,
            any: vec![LineTest::Contains(needle.as_bytes().into())],
        };
        let filter = LineFilter { clauses: needle.into_iter().map(clause).collect() };
        let range = TimeRange::new(start, start + length);
        let want = scan(&object, "one", &Selector::default(), range, &filter).unwrap();
        let found = scan_by_template(&object, range, &filter);
        prop_assert_eq!(found.len(), want.records.len());
        prop_assert_eq!(as_set(&found), as_set(&want.records));
    }
}
