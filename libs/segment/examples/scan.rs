//! Times the questions that a reader asks of one segment:
//! `cargo run --release -p segment --example scan -- SEGMENT [part of a question's name] [turns]`
//!
//! One question and one turn under `valgrind --tool=callgrind` gives a count of instructions that
//! another load on the machine does not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::{
    Columns, Flow, LineClause, LineColumn, LineFilter, LineMatcher, LineTest, Selector, TenantId,
    TextMatcher, TimeRange,
};
use segment::{Opened, ScanSpec, Scratch, Segment};

/// `[x-z][0-9][x-z][0-9]`, without the cost of an engine of regular expressions.
#[derive(Debug)]
struct Zigzag;

impl LineMatcher for Zigzag {
    fn is_match(&self, line: &[u8]) -> bool {
        line.array_windows().any(zigzag)
    }
}

fn zigzag([a, b, c, d]: &[u8; 4]) -> bool {
    let letter = |byte: u8| matches!(byte, b'x'..=b'z');
    letter(*a) && b.is_ascii_digit() && letter(*c) && d.is_ascii_digit()
}

/// The same, looked for in many lines or values at one go.
#[derive(Debug)]
struct InText {
    is_of_tokens: bool,
}

impl LineMatcher for InText {
    fn is_match(&self, line: &[u8]) -> bool {
        Zigzag.is_match(line)
    }
    fn in_text(&self) -> Option<&dyn TextMatcher> {
        Some(self)
    }
}

impl TextMatcher for InText {
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let found = text[from..].array_windows().position(zigzag);
        found.map(|at| from + at..from + at + 4)
    }
    fn is_of_tokens(&self) -> bool {
        self.is_of_tokens
    }
}

/// `trace_id=beef[0-9a-f]+c0de`, without the cost of an engine of regular expressions.
#[derive(Debug)]
struct Ends([Box<[u8]>; 2]);

impl LineMatcher for Ends {
    fn is_match(&self, line: &[u8]) -> bool {
        let find = |text: &[u8], part: &[u8]| memchr::memmem::find(text, part);
        let [begin, end] = &self.0;
        find(line, begin).is_some_and(|at| {
            let rest = &line[at + begin.len()..];
            let hex = rest.iter().take_while(|byte| byte.is_ascii_hexdigit());
            find(&rest[..hex.count()], end).is_some_and(|at| at > 0)
        })
    }
    fn required_literals(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn contains(needle: &str) -> LineFilter {
    filter(LineTest::Contains(needle.as_bytes().into()))
}

fn filter(test: LineTest) -> LineFilter {
    let any = vec![test];
    LineFilter {
        clauses: vec![LineClause {
            negated: false,
            any,
        }],
    }
}

fn in_text(is_of_tokens: bool) -> LineFilter {
    filter(LineTest::Matches(Arc::new(InText { is_of_tokens })))
}

/// Rows found, chunks looked at, bytes read.
fn ask(segment: &Segment, object: &Bytes, filter: &LineFilter, columns: Columns) -> [u64; 3] {
    let mut plan = segment.plan(&ScanSpec {
        tenant: &TenantId::default(),
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: filter,
    });
    let mut read = 0;
    let mut fetch = |ranges: Vec<Range<u64>>| -> Vec<Bytes> {
        read += ranges.iter().map(|r| r.end - r.start).sum::<u64>();
        let part = |r: Range<u64>| object.slice(r.start as usize..r.end as usize);
        ranges.into_iter().map(part).collect()
    };
    plan.filter_with(|reads| Ok::<_, segment::Error>(fetch(reads)))
        .unwrap();
    let mut scratch = Scratch::default();
    let mut rows = 0;
    for chunk in plan.chunks() {
        let bytes = fetch(plan.reads(chunk, columns));
        let mut sink = |block: &model::RowBlock<'_>| {
            std::hint::black_box(block.lines.line_length(0));
            Flow::Continue
        };
        let stats = plan.decode(chunk, columns, &bytes, &mut scratch, &mut sink);
        rows += stats.unwrap().rows_matched;
    }
    [rows, plan.chunks().len() as u64, read]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("give the path of a segment");
    let part = arguments.next().unwrap_or_default();
    let turns: u32 = arguments.next().map_or(5, |n| n.parse().unwrap());
    let object = Bytes::from(std::fs::read(&path).unwrap());
    let opened = Segment::open(&path, object.clone(), object.len() as u64).unwrap();
    let Opened::Segment(segment) = opened else {
        unreachable!("the whole object is there")
    };
    if part.is_empty() {
        println!("{:#?}", segment.part_bytes());
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
    let lengths = Columns {
        lines: LineColumn::Lengths,
        ..none
    };
    let lines = Columns {
        lines: LineColumn::Bytes,
        ..times
    };
    let all = LineFilter::default();
    let tenant = TenantId::default();
    let streams = segment.streams(&tenant);
    let raw: u64 = streams.map(|stream| stream.content_bytes).sum();
    for (name, filter, columns) in [
        ("count", all.clone(), none),
        ("times", all.clone(), times),
        ("lengths", all.clone(), lengths),
        ("lines", all, lines),
        ("error", contains("error"), none),
        ("error and times", contains("error"), times),
        ("Failed password", contains("Failed password"), lines),
        ("part of an id", contains("83f0bd04e9e3a51"), lines),
        (
            "ends of an id",
            filter(LineTest::Matches(Arc::new(Ends([
                Box::from(*b"trace_id=8eef"),
                Box::from(*b"c0de"),
            ])))),
            lines,
        ),
        ("short digits", contains("blk_38"), none),
        ("no index", contains("q7x"), none),
        (
            "no index, matcher",
            filter(LineTest::Matches(Arc::new(Zigzag))),
            none,
        ),
        ("no index, in text", in_text(false), none),
        ("no index, of tokens", in_text(true), none),
    ] {
        if !name.contains(&part) {
            continue;
        }
        let mut least = f64::MAX;
        let mut found = [0; 3];
        for _ in 0..turns {
            let start = cpu();
            found = ask(&segment, &object, &filter, columns);
            least = least.min(cpu() - start);
        }
        let [rows, chunks, read] = found;
        println!(
            "{name:<20} {:>8.2} ms cpu {:>6.2} GB/s {rows:>9} rows {chunks:>4} chunks {read:>10} B read",
            least * 1e3,
            raw as f64 / 1e9 / least,
        );
    }
}
