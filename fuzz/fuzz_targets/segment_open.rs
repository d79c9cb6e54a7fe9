//! Any bytes as a segment: opened, planned, filtered and decoded in full; an error is fine, a panic
//! is not. `make fuzz` runs it; seeds: `libs/segment/test-data`.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::{
    Columns, Flow, LineClause, LineColumn, LineFilter, LineTest, Selector, TenantId, TimeRange,
};
use segment::{Opened, ScanSpec, Scratch, Segment};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(Opened::Segment(segment)) = Segment::open("fuzz", bytes.clone(), data.len() as u64)
    else {
        return;
    };
    let needle = LineTest::Contains(Box::from(*b"4f8a0c93d17be265"));
    let filter = LineFilter {
        clauses: vec![LineClause {
            negated: false,
            any: vec![needle],
        }],
    };
    let columns = Columns {
        timestamps: true,
        lines: LineColumn::Bytes,
        metadata: true,
    };
    for line_filter in [&LineFilter::default(), &filter] {
        let mut plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter,
        });
        let part = |range: &std::ops::Range<u64>| {
            bytes.slice(range.start as usize..range.end as usize)
        };
        let _ = plan.filter_with(|reads| Ok::<_, segment::Error>(reads.iter().map(part).collect()));
        let mut scratch = Scratch::default();
        for chunk in plan.chunks() {
            let parts: Vec<Bytes> = plan.reads(chunk, columns).iter().map(part).collect();
            let mut sink = |block: &model::RowBlock<'_>| {
                assert_eq!(block.timestamps.len(), block.rows);
                Flow::Continue
            };
            let _ = plan.decode(chunk, columns, &parts, &mut scratch, &mut sink);
        }
    }
});
