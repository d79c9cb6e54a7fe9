//! What a record costs in a query: `cargo run --release -p query --example pipeline -- FILE QUERY...`
//!
//! Takes the lines of a text file as records of one stream, a second apart, runs each query over all of
//! them on one thread, and prints the CPU time of that thread per line, the
//! system's for it included (the least of seven runs; one run with `ONCE=1`,
//! for counting instructions).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a tool for developers: whatever goes wrong ends it"
)]
#![expect(clippy::print_stdout, reason = "what it measured is its output")]

use std::sync::Arc;

use model::{Labels, LineFilter};
use query::logql::engine::{Direction, Limits, Params, execute};
use query::logql::parse;
use query::{
    Budget, Flow, LineRows, RowBlock, ScanOrder, ScanRequest, ScanStats, Sink, Source, SourceError,
};

const START: i64 = 1_790_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const BLOCK_ROWS: usize = 1000;

struct Text {
    labels: Arc<Labels>,
    lines: Vec<Vec<u8>>,
}

impl Source for Text {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        _budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let mut sink = new_sink();
        let mut blocks: Vec<usize> = (0..self.lines.len()).step_by(BLOCK_ROWS).collect();
        if request.order == ScanOrder::Backward {
            blocks.reverse();
        }
        for from in blocks {
            let to = (from + BLOCK_ROWS).min(self.lines.len());
            if self.block(from, to, &request.line_filter, &mut sink)? == Flow::Stop {
                break;
            }
        }
        Ok((vec![sink], ScanStats::default()))
    }
}

impl Text {
    fn block<K: Sink>(
        &self,
        from: usize,
        to: usize,
        filter: &LineFilter,
        sink: &mut K,
    ) -> Result<Flow, SourceError> {
        let (mut timestamps, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for at in from..to {
            let line = &self.lines[at];
            if filter.is_match(line) {
                timestamps.push(START + at as i64 * SECOND);
                bytes.extend_from_slice(line);
                ends.push(bytes.len() as u32);
            }
        }
        let block = RowBlock {
            labels: &self.labels,
            rows: ends.len(),
            timestamps: &timestamps,
            lines: LineRows::Bytes {
                bytes: &bytes,
                ends: &ends,
            },
            outcomes: &[],
            metadata: None,
        };
        Ok(sink.push(&block)?)
    }
}

/// Nanoseconds of CPU, of user and system, that the main thread took.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let text = std::fs::read(args.next().expect("a file")).unwrap();
    let source = Text {
        labels: Arc::new(Labels::new([("app", "a"), ("cluster", "eu-1"), ("pod", "a-1")]).unwrap()),
        lines: text
            .trim_ascii_end()
            .split(|b| *b == b'\n')
            .map(<[u8]>::to_vec)
            .collect(),
    };
    let end = START + source.lines.len() as i64 * SECOND;
    let runs = if std::env::var_os("ONCE").is_some() {
        1
    } else {
        7
    };
    for query in args {
        let expr = parse(&query).unwrap();
        let params = Params {
            start: START,
            end,
            step: 0,
            interval: 0,
            limit: 1000,
            direction: Direction::Backward,
            now: None,
        };
        let mut least = f64::MAX;
        for _ in 0..runs {
            let budget = Budget::new(4 << 30, 0);
            let before = cpu();
            let answer = execute(&expr, &params, &Limits::default(), &source, &budget);
            least = least.min(cpu() - before);
            answer.expect("an answer");
        }
        println!(
            "{:7.0} ns a line  {query}",
            least / source.lines.len() as f64
        );
    }
}
