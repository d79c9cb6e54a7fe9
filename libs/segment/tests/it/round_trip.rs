//! Arbitrary records come back byte for byte, once each.

use model::{LineClause, LineFilter, LineTest, Selector, TimeRange};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Record, all, as_set, record, scan, write};

pub(crate) fn line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET /api/v1 ".to_owned()),
        Just("error".to_owned()),
        Just(" id=".to_owned()),
        Just("{\"k\":\"".to_owned()),
        Just("\n\tat a.b.C".to_owned()),
        Just("ü7 ".to_owned()),
        Just("\0".to_owned()),
        "[0-9]{1,6}",
        "[0-9a-f]{8}",
        "[a-z ]{0,4}",
        "10\\.0\\.[0-9]\\.[0-9]",
    ];
    prop_oneof![
        6 => vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..30),
    ]
}

pub(crate) fn records() -> impl Strategy<Value = Vec<Record>> {
    let pair = ("[a-c]{1,2}", "[0-9x]{0,3}");
    let record = (
        prop_oneof![Just("one"), Just("two")],
        "[ab]",
        -5i64..40,
        line(),
        proptest::collection::btree_map(pair.0, pair.1, 0..3),
    );
    let record = record.prop_map(|(tenant, app, time, line, metadata)| Record {
        tenant: tenant.into(),
        app,
        time,
        line,
        metadata: metadata
            .into_iter()
            .map(|(key, value)| (key, value.into_bytes()))
            .collect(),
    });
    vec(record, 0..120)
}

fn of(records: &[Record], tenant: &str) -> Vec<Record> {
    let of: Vec<Record> = records
        .iter()
        .filter(|r| r.tenant == tenant)
        .cloned()
        .collect();
    as_set(&of)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_goes_in_comes_out_once_and_in_order(records in records()) {
        let (object, encoded) = write(&records, 1024);
        for tenant in ["one", "two"] {
            let found = all(&object, tenant).unwrap();
            for pair in found.windows(2) {
                prop_assert!(pair[0].app != pair[1].app || pair[0].time <= pair[1].time);
            }
            prop_assert_eq!(found.len(), as_set(&found).len());
            prop_assert_eq!(as_set(&found), of(&records, tenant));
            let summary = encoded.tenants.iter().find(|t| t.tenant.as_str() == tenant);
            prop_assert_eq!(summary.map_or(0, |t| t.records), found.len() as u64);
        }
    }

    #[test]
    fn a_filtered_scan_equals_a_naive_one(
        records in records(),
        cuts in vec((any::<prop::sample::Index>(), 0usize..40, 0usize..24, any::<bool>()), 1..4),
        start in -6i64..40,
        length in 1i64..60,
    ) {
        let (object, _) = write(&records, 1024);
        let needles = cuts.iter().map(|(index, at, bytes, upper)| {
            let line = match records.is_empty() {
                true => b"nothing".to_vec(),
                false => records[index.index(records.len())].line.clone(),
            };
            let at = at % (line.len() + 1);
            let mut needle = line[at..(at + bytes).min(line.len())].to_vec();
            if *upper { needle.make_ascii_uppercase(); }
            LineTest::Contains(needle.into())
        });
        let mut clauses = Vec::new();
        for (at, test) in needles.enumerate() {
            clauses.push(LineClause { negated: at == 2, any: vec![test] });
        }
        let filter = LineFilter { clauses };
        let range = TimeRange::new(start, start + length);
        let found = scan(&object, "one", &Selector::default(), range, &filter).unwrap();
        let wanted: Vec<Record> = of(&records, "one")
            .into_iter()
            .filter(|r| range.contains(r.time) && filter.is_match(&r.line))
            .collect();
        prop_assert_eq!(as_set(&found.records), wanted);
    }
}

#[test]
fn an_empty_segment_opens() {
    let (object, encoded) = write(&[], 1024);
    assert_eq!(encoded.tenants, []);
    assert_eq!(all(&object, "default").unwrap(), []);
}

#[test]
fn long_lines_and_many_variables_come_back() {
    let many: String = (0..2_000).map(|n| format!("{n} ")).collect();
    let long = "x".repeat(300_000);
    let records = [
        record("a", 1, &many),
        record("a", 2, &long),
        record("b", 3, ""),
    ];
    let (object, _) = write(&records, 4096);
    assert_eq!(as_set(&all(&object, "default").unwrap()), as_set(&records));
}
