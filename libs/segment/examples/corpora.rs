//! Measures the segment on corpora of many shapes, as `bench/corpora.py` makes them:
//! `cargo run --release -p segment --example corpora -- [--parts] FOLDER...`
//!
//! For each folder of push bodies: the text (lines, a record's metadata as `key=value` behind it,
//! joined with newlines) against zstd -3 of it per 64 MB; bytes of `encode` (two segments) and of
//! their `merge`; CPU per byte of text; how much encoding and merging grow the process. Every record
//! is read back and compared. CPU times are of this thread, so that another load on the machine
//! hardly counts. `--parts` shows where the bytes are. `--encode` encodes alone, five times, and
//! prints the least CPU per byte of lines and metadata and the stored size: what a profiler wants.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "shared/bodies.rs"]
mod bodies;

use std::sync::Arc;

use bodies::{Object, batch, open};
use bytes::Bytes;
use model::{
    Columns, Flow, LineColumn, LineFilter, LineRows, LogBatch, RecordIdentity, RowBlock, Selector,
    TenantId, TimeRange,
};
use segment::{Compression, EncodeOptions, ReadAt, ScanSpec, Scratch, encode, merge};

/// Bytes of text that one zstd frame may hold.
const PIECE: usize = 64_000_000;

/// CPU nanoseconds of this thread.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn status_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1e3
}

/// Runs `work`; gives its CPU nanoseconds and by how many MB it made the process grow at most.
fn spent(work: impl FnOnce()) -> (f64, f64) {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, held) = (cpu(), status_mb("VmRSS"));
    work();
    (cpu() - before, status_mb("VmHWM") - held)
}

/// Bytes of the text, and of zstd -3 of it, and the CPU that took.
fn plain(batches: &[Arc<LogBatch>]) -> (f64, f64, f64) {
    let (mut raw, mut packed, mut nanos) = (0, 0, 0.0);
    let mut text = Vec::new();
    let mut pack = |text: &mut Vec<u8>| {
        raw += text.len();
        let before = cpu();
        packed += zstd::bulk::compress(text, 3).unwrap().len();
        nanos += cpu() - before;
        text.clear();
    };
    for batch in batches {
        for row in 0..batch.len() {
            text.extend_from_slice(batch.row(row).line());
            for (key, value) in batch.row(row).metadata() {
                text.extend_from_slice(b" ");
                text.extend_from_slice(key.as_bytes());
                text.push(b'=');
                text.extend_from_slice(value);
            }
            text.push(b'\n');
        }
        if text.len() >= PIECE {
            pack(&mut text);
        }
    }
    pack(&mut text);
    (raw as f64, packed as f64, nanos)
}

/// Order-free sum of the records that the objects give back, and how many.
fn read_back(objects: &[Object]) -> (u128, u64, f64) {
    let (mut sum, mut rows) = (0u128, 0);
    let columns = Columns {
        timestamps: true,
        lines: LineColumn::Bytes,
        metadata: true,
    };
    let mut nanos = 0.0;
    for object in objects {
        let segment = open(object);
        let plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &LineFilter::default(),
        });
        let mut scratch = Scratch::default();
        for chunk in plan.chunks() {
            let reads = plan.reads(chunk, columns).into_iter();
            let bytes: Vec<Bytes> = reads.map(|r| object.read(r).unwrap()).collect();
            let before = cpu();
            let mut hashing = 0.0;
            let mut sink = |block: &RowBlock<'_>| {
                let before = cpu();
                add(block, &mut sum);
                hashing += cpu() - before;
                rows += block.rows as u64;
                Flow::Continue
            };
            plan.decode(chunk, columns, &bytes, &mut scratch, &mut sink)
                .unwrap();
            nanos += cpu() - before - hashing;
        }
    }
    (sum, rows, nanos)
}

fn add(block: &RowBlock<'_>, sum: &mut u128) {
    let LineRows::Bytes { bytes, ends } = block.lines else {
        unreachable!();
    };
    let mut start = 0;
    for (row, end) in ends.iter().enumerate() {
        let pairs = block.metadata.as_ref().map_or(&[][..], |metadata| {
            let from = row.checked_sub(1).map_or(0, |row| metadata.row_ends[row]);
            &metadata.pairs[from as usize..metadata.row_ends[row] as usize]
        });
        let pairs = pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
        let line = &bytes[start..*end as usize];
        *sum = sum.wrapping_add(RecordIdentity::of(block.timestamps[row], line, pairs).content);
        start = *end as usize;
    }
}

/// Order-free sum of the records that were put in, copies once.
fn expected(batches: &[Arc<LogBatch>]) -> (u128, u64) {
    let mut all = Vec::new();
    for batch in batches {
        for stream in &batch.streams {
            for row in stream.rows.clone() {
                let row = batch.row(row as usize);
                all.push((stream.id, row.timestamp(), row.identity().content));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    let sum = all.iter().fold(0u128, |sum, of| sum.wrapping_add(of.2));
    (sum, all.len() as u64)
}

fn batches(folder: &str) -> Vec<Arc<LogBatch>> {
    let mut paths: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".sz"))
        .collect();
    paths.sort();
    paths.iter().map(|path| Arc::new(batch(path))).collect()
}

fn measure(folder: &str, parts: bool) {
    let batches = batches(folder);
    let (raw, zstd, zstd_nanos) = plain(&batches);
    let mut objects = Vec::new();
    let mut encoding = (0.0, 0.0f64);
    for half in batches.chunks(batches.len().div_ceil(2)) {
        let mut out = Vec::new();
        let (nanos, grown) = spent(|| {
            encode(half, &EncodeOptions::default(), &mut out).unwrap();
        });
        encoding = (encoding.0 + nanos, encoding.1.max(grown));
        objects.push(Object(folder.to_owned(), out.into()));
    }
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    let inputs: Vec<&dyn ReadAt> = objects.iter().map(|o| o as &dyn ReadAt).collect();
    let mut out = Vec::new();
    let merging = spent(|| {
        merge(&inputs, &|_| TimeRange::ALL, &options, &mut out).unwrap();
    });
    let merged = [Object(folder.to_owned(), out.into())];
    let stored: u64 = objects.iter().map(ReadAt::len).sum();
    let (sum, rows) = expected(&batches);
    let (merged_sum, merged_rows, nanos) = read_back(&merged);
    assert!((sum, rows) == (merged_sum, merged_rows), "{folder}: merge");
    println!(
        "{:<10} {:>6.1} {:>7} {:>7.2} {:>7.2} {:>6.3} {:>7.2} {:>6.3} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>5.0} {:>5.0}",
        folder.rsplit('/').next().unwrap(),
        raw / 1e6,
        rows,
        zstd / 1e6,
        stored as f64 / 1e6,
        stored as f64 / zstd,
        merged[0].len() as f64 / 1e6,
        merged[0].len() as f64 / zstd,
        zstd_nanos / raw,
        encoding.0 / raw,
        merging.0 / raw,
        nanos / raw,
        encoding.1,
        merging.1,
    );
    if parts {
        println!("  encoded {:?}", open(&objects[0]).part_bytes());
        println!("  merged  {:?}", open(&merged[0]).part_bytes());
    }
}

/// The least of five times that encoding takes.
fn measure_encode(folder: &str) {
    let batches = batches(folder);
    let bytes: usize = batches.iter().map(|batch| batch.content_bytes()).sum();
    let rows: usize = batches.iter().map(|batch| batch.len()).sum();
    let mut least = f64::MAX;
    let mut out = Vec::new();
    for _ in 0..5 {
        out.clear();
        let before = cpu();
        encode(&batches, &EncodeOptions::default(), &mut out).unwrap();
        least = least.min(cpu() - before);
    }
    println!(
        "{:<10} {:>7.2} ns/B {:>8.0} ns/line {:>9.2} B/line",
        folder.rsplit('/').next().unwrap(),
        least / bytes as f64,
        least / rows as f64,
        out.len() as f64 / rows as f64,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folders = arguments.iter().filter(|a| !a.starts_with("--"));
    if arguments.iter().any(|argument| argument == "--encode") {
        folders.for_each(|folder| measure_encode(folder));
        return;
    }
    println!(
        "corpus     raw MB    rows zstd MB  enc MB  ratio merg MB  ratio | ns/B: zstd  enc  merge  read | MB: enc merge"
    );
    let parts = arguments.iter().any(|argument| argument == "--parts");
    for folder in folders {
        measure(folder, parts);
    }
}
