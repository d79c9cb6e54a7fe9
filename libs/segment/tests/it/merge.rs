//! Merging is set union, less what is too old.

use model::{TenantId, TimeRange};
use proptest::collection::vec;
use proptest::prelude::*;
use segment::{Compression, EncodeOptions, ReadAt, merge};

use crate::round_trip::records;
use crate::support::{Object, Record, all, as_set, object, record, write};

fn union(objects: &[Object], keep: TimeRange) -> (Object, segment::Encoded) {
    let inputs: Vec<&dyn ReadAt> = objects.iter().map(|o| o as &dyn ReadAt).collect();
    let options = EncodeOptions {
        chunk_bytes: 2048,
        compression: Compression::Small,
    };
    let keep = |tenant: &TenantId| match tenant.as_str() {
        "one" => keep,
        _ => TimeRange::ALL,
    };
    let mut out = Vec::new();
    let encoded = merge(&inputs, &keep, &options, &mut out).unwrap();
    assert_eq!(encoded.object_bytes, out.len() as u64);
    (object(out), encoded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_merge_is_the_union_of_its_inputs(
        sets in vec(records(), 0..4),
        shared in records(),
        start in -6i64..30,
    ) {
        let sets: Vec<Vec<Record>> = sets
            .into_iter()
            .map(|mut set| { set.extend(shared.iter().cloned()); set })
            .collect();
        let objects: Vec<Object> = sets.iter().map(|set| write(set, 1024).0).collect();
        let keep = TimeRange::new(start, i64::MAX);
        let (merged, encoded) = union(&objects, keep);
        for tenant in ["one", "two"] {
            let wanted: Vec<Record> = sets
                .concat()
                .into_iter()
                .filter(|r| r.tenant == tenant && (tenant == "two" || keep.contains(r.time)))
                .collect();
            let found = all(&merged, tenant).unwrap();
            prop_assert_eq!(as_set(&found), as_set(&wanted));
            prop_assert_eq!(found.len(), as_set(&wanted).len());
            let summary = encoded.tenants.iter().find(|t| t.tenant.as_str() == tenant);
            prop_assert_eq!(summary.map_or(0, |t| t.records), found.len() as u64);
            for pair in found.windows(2) {
                prop_assert!(pair[0].app != pair[1].app || pair[0].time <= pair[1].time);
            }
        }
    }
}

#[test]
fn a_merge_of_nothing_that_survives_has_no_tenants() {
    let mut old = record("a", 5, "line 1");
    old.tenant = "one".into();
    let (object, _) = write(&[old], 1024);
    let (merged, encoded) = union(&[object], TimeRange::new(6, 9));
    assert_eq!(encoded.tenants, []);
    assert_eq!(all(&merged, "one").unwrap(), []);
}
