//! What a segment costs, by itself: `make bench-micro`, or `cargo bench -p segment`.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with a panic")]

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use model::{
    Columns, Flow, Labels, LineClause, LineColumn, LineFilter, LineTest, LogBatch, LogBatchBuilder,
    Selector, Signal, StreamId, TenantId, TimeRange,
};
use segment::{EncodeOptions, Opened, ScanSpec, Scratch, Segment};

const ROWS: u64 = 50_000;
/// Rows of a stream side by side in one batch.
const BURST: u64 = 5;
const BATCHES: u64 = 10;
const LINES: Columns = Columns {
    timestamps: true,
    lines: LineColumn::Bytes,
    metadata: false,
};

fn main() {
    divan::main();
}

/// As they arrive from agents: bursts of one stream, then of another.
fn batches(streams: u64) -> Vec<Arc<LogBatch>> {
    let tenant = TenantId::default();
    let labels: Vec<Arc<Labels>> = (0..streams)
        .map(|n| Labels::new([("app", "shop"), ("pod", &format!("shop-{n}"))]))
        .map(|labels| Arc::new(labels.unwrap()))
        .collect();
    let mut random = 7u64;
    let mut line = String::new();
    let batch = |batch: u64| {
        let mut builder = LogBatchBuilder::new(tenant.clone());
        let rows = ROWS / BATCHES;
        let of_batch = streams.min(rows / BURST);
        for n in 0..of_batch {
            let labels = &labels[((batch * of_batch + n) % streams) as usize];
            let id = StreamId::of(&tenant, Signal::Logs, labels);
            builder.stream(id, labels);
            for row in 0..rows / of_batch {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                line.clear();
                let id = random >> 16;
                match random >> 62 {
                    0 => write!(line, "GET /items/{} took {} ms", id % 9999, id % 97),
                    1 => write!(line, "order {id:016x} placed by user {}", id % 50_000),
                    2 => write!(line, "payment refused: trace {id:016x}{id:016x}, retry"),
                    _ => write!(line, "worker {} finished in {} us", id % 64, id % 99_999),
                }
                .unwrap();
                let at = ((batch * rows + n * BURST + row) * 1_000_000) as i64;
                builder.push(at, line.as_bytes(), &mut []);
            }
        }
        Arc::new(builder.finish())
    };
    (0..BATCHES).map(batch).collect()
}

fn encode(batches: &[Arc<LogBatch>]) -> Vec<u8> {
    let mut object = Vec::new();
    segment::encode(batches, &EncodeOptions::default(), &mut object).unwrap();
    object
}

fn open(object: &Bytes) -> Segment {
    match Segment::open("benchmark", object.clone(), object.len() as u64).unwrap() {
        Opened::Segment(segment) => segment,
        Opened::NeedTail(_) => unreachable!("the whole object is there"),
    }
}

fn raw_bytes(batches: &[Arc<LogBatch>]) -> usize {
    batches.iter().map(|batch| batch.lines.len()).sum()
}

/// Template split, columns, filters, compression: what flushing a head does.
#[divan::bench(args = [100, 10_000])]
fn encode_rows(bencher: Bencher<'_, '_>, streams: u64) {
    let batches = batches(streams);
    let rows: usize = batches.iter().map(|batch| batch.len()).sum();
    bencher
        .counter(ItemsCount::new(rows))
        .bench_local(|| encode(black_box(&batches)));
}

/// Reading a footer.
#[divan::bench(args = [100, 10_000])]
fn open_segment(bencher: Bencher<'_, '_>, streams: u64) {
    let object = Bytes::from(encode(&batches(streams)));
    bencher
        .counter(ItemsCount::new(streams))
        .bench_local(|| open(black_box(&object)));
}

/// A line filter over a whole segment: one that filters answer, one decided on variables, one on
/// templates, and none at all.
#[divan::bench(args = ["0badc0de0badc0de", "c0d", "refused", ""])]
fn scan(bencher: Bencher<'_, '_>, needle: &str) {
    let batches = batches(100);
    let object = Bytes::from(encode(&batches));
    let segment = open(&object);
    let clause = LineClause {
        negated: false,
        any: vec![LineTest::Contains(needle.as_bytes().into())],
    };
    let line_filter = LineFilter {
        clauses: (!needle.is_empty()).then_some(clause).into_iter().collect(),
    };
    let (tenant, selector) = (TenantId::default(), Selector::default());
    let spec = ScanSpec {
        tenant: &tenant,
        selector: &selector,
        range: TimeRange::ALL,
        line_filter: &line_filter,
    };
    let fetch = |ranges: Vec<std::ops::Range<u64>>| -> Vec<Bytes> {
        let slice = |range: std::ops::Range<u64>| range.start as usize..range.end as usize;
        let of = |range| object.slice(slice(range));
        ranges.into_iter().map(of).collect()
    };
    let mut scratch = Scratch::default();
    bencher
        .counter(BytesCount::new(raw_bytes(&batches)))
        .bench_local(|| {
            let mut plan = segment.plan(&spec);
            plan.filter_with(|reads| Ok::<_, segment::Error>(fetch(reads)))
                .unwrap();
            let mut rows = 0;
            for chunk in plan.chunks() {
                let bytes = fetch(plan.reads(chunk, LINES));
                let mut sink = |block: &model::RowBlock<'_>| {
                    rows += block.rows;
                    Flow::Continue
                };
                plan.decode(chunk, LINES, &bytes, &mut scratch, &mut sink)
                    .unwrap();
            }
            rows
        });
}
