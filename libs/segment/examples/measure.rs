//! Measures the segment on a corpus of Loki push bodies:
//! `cargo run --release -p segment --example measure -- FOLDER [bodies]`, or text files against
//! zstd -3: `... --example measure -- FILE...`
//!
//! Feeds about 64 MB of text at a time to `encode`, merges the segments, and asks a few questions.
//! CPU times are of the whole process (user), so another load on the machine does not count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::clone_on_ref_ptr
)]

#[path = "shared/bodies.rs"]
mod bodies;

use std::ops::Range;
use std::sync::Arc;

use bodies::{Object, batch, open};
use bytes::Bytes;
use model::{
    Columns, Flow, Labels, LineClause, LineColumn, LineFilter, LineTest, LogBatch, LogBatchBuilder,
    Selector, Signal, StreamId, TenantId, TimeRange,
};
use segment::{Compression, EncodeOptions, ReadAt, ScanSpec, Scratch, Segment, encode, merge};

/// User CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let nanos: f64 = stat.split(' ').next().unwrap().parse().unwrap();
    nanos / 1e9
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1e3
}

/// A plain file as one stream, a line per millisecond; lines that begin with a space go on with the
/// record before.
fn text_batch(path: &str) -> LogBatch {
    let text = std::fs::read(path).unwrap();
    let tenant = TenantId::default();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    let labels = Arc::new(Labels::new([("file", path)]).unwrap());
    builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
    let mut start = 0;
    let mut time = 1_790_000_000_000_000_000;
    for end in memchr::memchr_iter(b'\n', &text) {
        if text.get(end + 1).is_some_and(|next| *next == b' ') {
            continue;
        }
        builder.push(time, &text[start..end], &mut []);
        start = end + 1;
        time += 1_000_000;
    }
    builder.finish()
}

/// One text file: stored bytes against zstd -3 of the whole text, CPU per byte.
fn measure_text(path: &str) {
    let batch = Arc::new(text_batch(path));
    let raw = batch.lines.len() as f64;
    let before = cpu();
    let plain = zstd::bulk::compress(&std::fs::read(path).unwrap(), 3)
        .unwrap()
        .len() as f64;
    let zstd_cpu = cpu() - before;
    for compression in [Compression::Fast, Compression::Small] {
        let options = EncodeOptions {
            compression,
            ..EncodeOptions::default()
        };
        let mut out = Vec::new();
        let before = cpu();
        encode(std::slice::from_ref(&batch), &options, &mut out).unwrap();
        let spent = cpu() - before;
        println!(
            "{path} {compression:?}: {:.1} MB, {:.3} of zstd -3 ({:.1} MB), {:.2} ns/B (zstd -3 {:.2})",
            out.len() as f64 / 1e6,
            out.len() as f64 / plain,
            plain / 1e6,
            spent * 1e9 / raw,
            zstd_cpu * 1e9 / raw,
        );
    }
}

fn ask(name: &str, objects: &[Object], segments: &[Segment], needle: &str, columns: Columns) {
    let line_filter = LineFilter {
        clauses: match needle {
            "" => vec![],
            needle => vec![LineClause {
                negated: false,
                any: vec![LineTest::Contains(needle.as_bytes().into())],
            }],
        },
    };
    let mut scratch = Scratch::default();
    let (mut chunks, mut rows, mut read, mut length) = (0, 0u64, 0u64, 0u64);
    let start = cpu();
    for (object, segment) in objects.iter().zip(segments) {
        let mut plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &line_filter,
        });
        let mut fetch = |ranges: Vec<Range<u64>>| -> Vec<Bytes> {
            read += ranges.iter().map(|r| r.end - r.start).sum::<u64>();
            ranges
                .into_iter()
                .map(|r| object.read(r).unwrap())
                .collect()
        };
        plan.filter_with(|reads| Ok::<_, segment::Error>(fetch(reads)))
            .unwrap();
        chunks += plan.chunks().len();
        for chunk in plan.chunks() {
            let bytes = fetch(plan.reads(chunk, columns));
            let mut sink = |block: &model::RowBlock<'_>| {
                length += block.lines.line_length(0) as u64;
                Flow::Continue
            };
            let stats = plan.decode(chunk, columns, &bytes, &mut scratch, &mut sink);
            rows += stats.unwrap().rows_matched;
        }
    }
    let ms = (cpu() - start) * 1e3;
    println!("{name:<38} {ms:>9.2} ms cpu {rows:>9} rows {chunks:>4} chunks {read:>11} B read");
}

fn questions(objects: &[Object], truth: &str) {
    let start = cpu();
    let segments: Vec<Segment> = objects.iter().map(open).collect();
    let memory: usize = segments.iter().map(Segment::memory_bytes).sum();
    println!(
        "open {} segments: {:.2} ms cpu, {} KB in memory",
        segments.len(),
        (cpu() - start) * 1e3,
        memory / 1000
    );
    for segment in segments.iter().take(1) {
        println!("{:?}", segment.part_bytes());
    }
    let none = Columns {
        timestamps: false,
        lines: LineColumn::None,
        metadata: false,
    };
    let times = Columns {
        timestamps: true,
        ..none
    };
    let lines = Columns {
        lines: LineColumn::Bytes,
        ..times
    };
    let lengths = Columns {
        lines: LineColumn::Lengths,
        ..none
    };
    let id = truth
        .split("\"id\": \"")
        .nth(8)
        .map_or("none", |t| &t[..32]);
    let ask = |name: &str, needle: &str, columns| ask(name, objects, &segments, needle, columns);
    ask("count everything", "", none);
    ask("times of everything", "", times);
    ask("lengths of everything", "", lengths);
    ask("lines of everything", "", lines);
    ask("count error", "error", none);
    ask("count error with times", "error", times);
    ask("count block", "block", none);
    ask("count Failed password", "Failed password", none);
    ask("needle, whole id", id, lines);
    ask("needle, part of an id", &id[3..21.min(id.len())], lines);
    ask(
        "needle that is nowhere",
        "0badc0de0badc0de0badc0de0badc0de",
        lines,
    );
    ask("short digits (blk_38)", "blk_38", none);
    ask("unselective '1'", "1", none);
}

fn main() {
    let folder = std::env::args()
        .nth(1)
        .expect("give the folder of a corpus");
    if !std::path::Path::new(&folder).is_dir() {
        std::env::args()
            .skip(1)
            .for_each(|path| measure_text(&path));
        return;
    }
    let bodies = std::env::args()
        .nth(2)
        .map_or(usize::MAX, |n| n.parse().unwrap());
    let truth = std::fs::read_to_string(format!("{folder}/truth.json")).unwrap_or_default();
    let mut paths: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".sz"))
        .collect();
    paths.sort();
    paths.truncate(bodies);
    let (mut objects, mut spent, mut rows, mut raw) = (Vec::new(), 0.0, 0, 0);
    let mut held: Vec<Arc<LogBatch>> = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        held.push(Arc::new(batch(path)));
        let bytes: usize = held.iter().map(|batch| batch.lines.len()).sum();
        if bytes < 64 << 20 && at + 1 < paths.len() {
            continue;
        }
        rows += held.iter().map(|batch| batch.len()).sum::<usize>();
        raw += bytes;
        let mut out = Vec::new();
        let before = (cpu(), peak_mb());
        encode(&held, &EncodeOptions::default(), &mut out).unwrap();
        spent += cpu() - before.0;
        if objects.is_empty() {
            println!(
                "first encode: peak memory {:.0} -> {:.0} MB",
                before.1,
                peak_mb()
            );
        }
        objects.push(Object(format!("segment {at}"), out.into()));
        held.clear();
    }
    let report = |name: &str, spent: f64, stored: u64| {
        println!(
            "{name}: {rows} lines, {:.1} MB raw, {:.3} us cpu/line, {:.2} B/line, ratio {:.2}",
            raw as f64 / 1e6,
            spent * 1e6 / rows as f64,
            stored as f64 / rows as f64,
            raw as f64 / stored as f64,
        );
    };
    report("encode", spent, objects.iter().map(ReadAt::len).sum());
    questions(&objects, &truth);
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    let inputs: Vec<&dyn ReadAt> = objects.iter().map(|o| o as &dyn ReadAt).collect();
    let mut out = Vec::new();
    let before = cpu();
    merge(&inputs, &|_| TimeRange::ALL, &options, &mut out).unwrap();
    report("merge", cpu() - before, out.len() as u64);
    println!("peak memory {:.0} MB", peak_mb());
    questions(&[Object("merged".into(), out.into())], &truth);
}
