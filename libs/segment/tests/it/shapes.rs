//! Texts of many shapes come back exactly, are found wherever they are cut, and take little more
//! room than plain zstd needs for them.

use model::{LineClause, LineFilter, LineTest, Selector, TimeRange};
use proptest::prelude::*;
use segment::{Compression, EncodeOptions, ReadAt, merge};

use crate::support::{Object, Record, all, as_set, object, record, scan, write};

/// A xorshift generator: the same numbers for the same seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// One of `count` words without a digit.
    fn word(&mut self, count: u64) -> String {
        let mut number = self.below(count) + 26;
        let mut word = String::new();
        while number > 0 {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    }

    fn words(&mut self, count: u64, most: u64) -> String {
        let words: Vec<String> = (0..=self.below(most)).map(|_| self.word(count)).collect();
        words.join(" ")
    }
}

const SHAPES: u64 = 9;

fn line(draw: &mut Draw, shape: u64) -> String {
    match shape {
        0 => format!(
            "{{\"level\":\"{}\",\"user\":{{\"id\":\"{:08x}-{:04x}\"}},\"msg\":\"{}\",\"took\":{}.5{}}}",
            draw.word(4),
            draw.below(1 << 32),
            draw.below(1 << 16),
            draw.words(500, 4),
            draw.below(900),
            if draw.below(2) == 0 {
                ",\"hit\":true"
            } else {
                ""
            },
        ),
        1 => format!(
            "10.0.{}.{} - - \"GET /{}/{}?q={} HTTP/1.1\" {} {} \"-\" \"{}/5.0 (X11; {})\"",
            draw.below(4),
            draw.below(250),
            draw.word(200),
            draw.below(10_000),
            draw.word(900),
            200 + draw.below(4) * 100,
            draw.below(1 << 20),
            draw.word(20),
            draw.words(20, 3),
        ),
        2 => {
            let frames = (0..draw.below(40)).map(|_| {
                let (class, line) = (draw.word(60), draw.below(500));
                format!("\n\tat com.{}.{class}({class}.java:{line})", draw.word(9))
            });
            let frames: String = frames.collect();
            format!("failed: {}{frames}", draw.words(100, 5))
        }
        3 => {
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= ";
            let letter = |draw: &mut Draw| char::from(letters[draw.below(66) as usize]);
            (0..draw.below(120)).map(|_| letter(draw)).collect()
        }
        4 => format!("{:016x}{:016x}", draw.next(), draw.next()),
        5 => ["ok", "", ".", "7", "a1"][draw.below(5) as usize].to_owned(),
        6 => (0..draw.below(200))
            .map(|_| format!("{} ", draw.below(100_000)))
            .collect(),
        7 => format!(
            "{} größe=№{} 你好{}",
            draw.words(80, 6),
            draw.below(99),
            draw.word(30)
        ),
        _ => format!("{} {}", draw.word(9), draw.words(3_000, 900)),
    }
}

fn records(seed: u64, shapes: u64) -> Vec<Record> {
    let mut draw = Draw(seed | 1);
    (0..400)
        .map(|_| {
            let shape = (shapes >> (4 * draw.below(3))) % SHAPES;
            let text = line(&mut draw, shape);
            let app = draw.word(3);
            let mut record = record(&app, draw.below(300) as i64, &text);
            if draw.below(3) == 0 {
                let id = format!("{:032x}", draw.next());
                record.metadata.push(("trace_id".into(), id.into()));
            }
            record
        })
        .collect()
}

fn contains(needle: &[u8]) -> LineFilter {
    LineFilter {
        clauses: vec![LineClause {
            negated: false,
            any: vec![LineTest::Contains(needle.into())],
        }],
    }
}

fn merged(objects: &[Object]) -> Object {
    let inputs: Vec<&dyn ReadAt> = objects.iter().map(|o| o as &dyn ReadAt).collect();
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    let mut out = Vec::new();
    merge(&inputs, &|_| TimeRange::ALL, &options, &mut out).unwrap();
    object(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_shape_comes_back_and_is_found_wherever_it_is_cut(
        seed in any::<u64>(),
        shapes in 0u64..4096,
        cuts in prop::collection::vec((0usize..400, any::<usize>(), 1usize..40), 6),
    ) {
        let records = records(seed, shapes);
        let (small, _) = write(&records, 4 << 10);
        let halves = [write(&records[..250], 4 << 10).0, write(&records[150..], 1 << 20).0];
        let merged = merged(&halves);
        for object in [&small, &merged] {
            prop_assert_eq!(as_set(&all(object, "default").unwrap()), as_set(&records));
            for (row, at, bytes) in &cuts {
                let line = &records[*row].line;
                let at = at % (line.len() + 1);
                let filter = contains(&line[at..(at + bytes).min(line.len())]);
                let every = Selector::default();
                let found = scan(object, "default", &every, TimeRange::ALL, &filter).unwrap();
                let wanted: Vec<Record> = records
                    .iter()
                    .filter(|record| filter.is_match(&record.line))
                    .cloned()
                    .collect();
                prop_assert_eq!(as_set(&found.records), as_set(&wanted));
            }
        }
    }
}

#[test]
fn every_shape_takes_little_more_than_plain_zstd() {
    // Lines of a few bytes are not among them: their times alone take more.
    for shape in [0, 1, 2, 3, 4, 6, 7, 8] {
        let mut draw = Draw(shape + 7);
        let (mut records, mut text) = (Vec::new(), Vec::new());
        while text.len() < 2_000_000 {
            let line = line(&mut draw, shape);
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
            records.push(record("a", records.len() as i64 * 1_000, &line));
        }
        let plain = zstd::bulk::compress(&text, 3).unwrap().len();
        let (object, _) = write(&records, EncodeOptions::default().chunk_bytes);
        let stored = object.bytes.len();
        // Random letters and punctuation have nothing to share, and pay for trying.
        let percent = if shape == 3 { 115 } else { 110 };
        assert!(
            stored * 100 <= plain * percent,
            "shape {shape}: {stored} of {plain}"
        );
    }
}
