//! How often the filters of a segment are asked, and what they leave.

use std::ops::Range;

use bytes::Bytes;
use model::{LineClause, LineFilter, LineTest, Selector, TenantId, TimeRange};
use segment::{Plan, ReadAt, ScanSpec, Segment};

use crate::search::{contains, ids};
use crate::support::{Object, Record, open, record, write};

/// Ranges nearer than this share a request.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Requests of each round, and the chunks that are left.
struct Asked {
    requests: Vec<usize>,
    bytes: u64,
    left: usize,
}

fn requests(mut reads: Vec<Range<u64>>) -> usize {
    reads.sort_by_key(|read| read.start);
    let far = |pair: &&[Range<u64>]| pair[1].start > pair[0].end + GAP_BYTES_MAX;
    1 + reads.windows(2).filter(far).count()
}

fn plan(segment: &Segment, filter: &LineFilter) -> Plan {
    segment.plan(&ScanSpec {
        tenant: &TenantId::default(),
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: filter,
    })
}

fn ask(object: &Object, filter: &LineFilter) -> Asked {
    let mut plan = plan(&open(object).unwrap(), filter);
    let (mut counts, mut bytes) = (Vec::new(), 0);
    let read = |reads: Vec<Range<u64>>| {
        bytes += reads.iter().map(|read| read.end - read.start).sum::<u64>();
        let parts = reads.iter().map(|read| object.read(read.clone()).unwrap());
        let parts: Vec<Bytes> = parts.collect();
        counts.push(requests(reads));
        Ok::<_, segment::Error>(parts)
    };
    plan.filter_with(read).unwrap();
    Asked {
        requests: counts,
        bytes,
        left: plan.chunks().len(),
    }
}

/// One line in eight has an id of its own.
fn served(ids: &[String]) -> Vec<Record> {
    let line = |at: usize| match at % 8 {
        0 => format!("request {} done in {} ms", ids[at / 8], at % 977),
        _ => format!("worker {} was idle, {} in the queue", at % 5, at % 991),
    };
    let lines = 0..ids.len() * 8;
    lines.map(|at| record("a", at as i64, &line(at))).collect()
}

#[test]
fn an_id_costs_one_request_of_a_small_segment_and_a_second_round_only_where_chunks_are_left() {
    let all = ids(16_100);
    let (absent, all) = all.split_at(100);
    for (count, chunks) in [(200, 1), (16_000, 40)] {
        let present = &all[..count];
        let (object, _) = write(&served(present), 128 << 10);
        let whole = plan(&open(&object).unwrap(), &contains("request "));
        assert!(whole.chunks().len() >= chunks, "{}", whole.chunks().len());
        // The shortest part has one place in the filters, longer ones have several.
        for (digits, left_max) in [(0..32, 0.1), (7..25, 0.1), (20..32, 2.0)] {
            let asked = absent.iter().map(|id| &id[digits.clone()]);
            let asked: Vec<Asked> = asked.map(|part| ask(&object, &contains(part))).collect();
            let requests: usize = asked.iter().map(|asked| asked.requests[0]).sum();
            assert!(requests <= 110, "{digits:?} of {count}: {requests}");
            assert!(asked.iter().all(|asked| asked.requests.len() <= 2));
            let again = asked.iter().filter(|asked| asked.requests.len() > 1);
            assert!(again.count() <= 10, "{digits:?} of {count}");
            let left: usize = asked.iter().map(|asked| asked.left).sum();
            let left = left as f64 / absent.len() as f64;
            assert!(left <= left_max, "{digits:?} of {count}: {left}");
            let bytes = asked.iter().map(|asked| asked.bytes).max();
            assert!(bytes <= Some(64 << 10), "{bytes:?}");
        }
        for id in present.iter().step_by(count / 20) {
            assert!(ask(&object, &contains(id)).left > 0);
        }
    }
}

#[test]
fn an_id_takes_one_round_of_a_segment_of_hundreds_of_chunks() {
    let all = ids(24_100);
    let (absent, present) = all.split_at(100);
    let (object, _) = write(&served(present), 8 << 10);
    let whole = plan(&open(&object).unwrap(), &contains("request "));
    assert!(whole.chunks().len() > 400, "{}", whole.chunks().len());
    for digits in [0..32, 7..25] {
        let asked = absent.iter().map(|id| &id[digits.clone()]);
        let asked: Vec<Asked> = asked.map(|part| ask(&object, &contains(part))).collect();
        let rounds: usize = asked.iter().map(|asked| asked.requests.len()).sum();
        assert!(rounds <= 115, "{digits:?}: {rounds}");
        let requests: usize = asked.iter().flat_map(|asked| &asked.requests).sum();
        let left: usize = asked.iter().map(|asked| asked.left).sum();
        assert!(requests <= 150, "{digits:?}: {requests}");
        assert!(left <= 20, "{digits:?}: {left}");
        let bytes = asked.iter().map(|asked| asked.bytes).max();
        assert!(bytes <= Some(128 << 10), "{bytes:?}");
    }
}

#[test]
fn of_two_filters_that_must_both_pass_one_is_asked_first() {
    let all = ids(4_100);
    let (absent, present) = all.split_at(100);
    let (object, _) = write(&served(present), 128 << 10);
    for (at, id) in absent.iter().enumerate() {
        let mut filter = contains(&present[at]);
        filter.clauses.extend(contains(id).clauses);
        let asked = ask(&object, &filter);
        assert_eq!(asked.requests[0], 1);
        // The chunk that holds one is asked for the other.
        assert!(asked.left <= 1, "{}", asked.left);
    }
}

#[test]
fn each_of_several_texts_of_which_one_is_enough_is_asked_for() {
    let all = ids(4_100);
    let (absent, present) = all.split_at(100);
    let (object, _) = write(&served(present), 128 << 10);
    let any = |ids: &[&String]| LineFilter {
        clauses: vec![LineClause {
            negated: false,
            any: ids
                .iter()
                .map(|id| LineTest::Contains(id.as_bytes().into()))
                .collect(),
        }],
    };
    for at in 0..20 {
        let filter = any(&[&absent[at], &absent[at + 20]]);
        assert!(ask(&object, &filter).left <= 1);
        let filter = any(&[&absent[at], &present[at * 190]]);
        assert!((1..=3).contains(&ask(&object, &filter).left));
    }
}
