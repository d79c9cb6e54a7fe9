//! Any amount of lines from one corpus of Loki push bodies: the corpus again and again, an hour
//! later each time, its ids drawn anew.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Labels, LogBatch, LogBatchBuilder, Signal, StreamId, TenantId, Timestamp};
use proto::{Encoding, Flaw, Receiver, decompress};

/// How long one copy of the corpus is.
pub(crate) const HOUR: Timestamp = 3_600_000_000_000;
const BODY_BYTES_MAX: usize = 1 << 30;
/// Shorter runs of digits are counts, sizes and years: they come back in real logs.
const DIGITS_MIN: usize = 9;
const HEX_MIN: usize = 8;

pub(crate) struct Corpus {
    bodies: Vec<PathBuf>,
    streams: HashMap<Vec<u8>, (StreamId, Arc<Labels>)>,
    /// Bytes of its lines.
    pub(crate) bytes: u64,
    /// Ids that stand in one line each, and those lines.
    pub(crate) needles: Vec<(String, String)>,
    /// Time of its first record.
    pub(crate) start: Timestamp,
}

impl Corpus {
    /// A folder that `loggen.py` made.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Corpus> {
        let truth = fs::read(folder.join("truth.json"))?;
        let truth: serde_json::Value = serde_json::from_slice(&truth)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let needles = truth["needles"].as_array().into_iter().flatten();
        let mut bodies = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "sz") {
                bodies.push(path);
            }
        }
        bodies.sort();
        anyhow::ensure!(!bodies.is_empty(), "{} holds no bodies", folder.display());
        Ok(Corpus {
            bodies,
            streams: HashMap::new(),
            bytes: truth["bytes"].as_u64().unwrap_or_default(),
            needles: needles
                .map(|needle| (text(&needle["id"]), text(&needle["line"])))
                .collect(),
            start: truth["start_ns"].as_i64().unwrap_or_default(),
        })
    }

    /// How many bodies a copy has.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// A body of a copy.
    pub(crate) fn body(&mut self, copy: u64, at: usize) -> anyhow::Result<LogBatch> {
        let body = fs::read(&self.bodies[at])?;
        let mut buffer = Vec::new();
        let body = decompress(Encoding::Snappy, &body, BODY_BYTES_MAX, &mut buffer)?;
        let mut maker = Maker {
            builder: LogBatchBuilder::new(TenantId::default()),
            streams: &mut self.streams,
            copy,
            line: Vec::new(),
            failed: None,
        };
        proto::loki::decode_protobuf(body, &mut maker)?;
        match maker.failed {
            None => Ok(maker.builder.finish()),
            Some(reason) => anyhow::bail!("{}: {reason}", self.bodies[at].display()),
        }
    }
}

struct Maker<'a> {
    builder: LogBatchBuilder,
    streams: &'a mut HashMap<Vec<u8>, (StreamId, Arc<Labels>)>,
    copy: u64,
    line: Vec<u8>,
    failed: Option<String>,
}

impl Maker<'_> {
    fn stream(&mut self, text: &[u8]) -> anyhow::Result<()> {
        if !self.streams.contains_key(text) {
            let pairs = proto::loki::parse_labels(std::str::from_utf8(text)?)?;
            let pairs = pairs.iter().map(|(name, value)| (*name, value.as_ref()));
            let labels = Arc::new(Labels::new(pairs)?);
            let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
            self.streams.insert(text.to_owned(), (id, labels));
        }
        let (id, labels) = &self.streams[text];
        self.builder.stream(*id, labels);
        Ok(())
    }
}

impl Receiver for Maker<'_> {
    fn stream_text(&mut self, labels: &[u8]) {
        if let Err(error) = self.stream(labels) {
            self.failed = Some(error.to_string());
        }
    }

    fn stream_pairs(&mut self, _: &[(&str, &str)]) {
        self.failed = Some("labels as pairs are not what loggen.py writes".to_owned());
    }

    fn record(&mut self, timestamp: Timestamp, line: &[u8], metadata: &mut [(&str, &[u8])]) {
        if self.failed.is_some() {
            return;
        }
        self.line.clear();
        self.line.extend_from_slice(line);
        redraw(&mut self.line, self.copy);
        let at = timestamp + self.copy as i64 * HOUR;
        self.builder.push(at, &self.line, metadata);
    }

    fn flawed(&mut self, flaw: Flaw) {
        self.failed = Some(flaw.to_string());
    }
}

/// Gives ids the characters that they have in this copy: equal ones stay equal, digits stay digits.
/// An id is a word of hex digits with a decimal one among them, or a long decimal number.
pub(crate) fn redraw(line: &mut [u8], copy: u64) {
    let word = |byte: &u8| byte.is_ascii_alphanumeric();
    for run in line.chunk_by_mut(|a, b| word(a) == word(b)) {
        let digits = run.iter().filter(|byte| byte.is_ascii_digit()).count();
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let decimal = digits == run.len();
        let long = run.len() >= if decimal { DIGITS_MIN } else { HEX_MIN };
        if !long || digits == 0 || !run.iter().all(hex) {
            continue;
        }
        let alphabet: &[u8] = if decimal {
            b"0123456789"
        } else {
            b"0123456789abcdef"
        };
        let mut state = run
            .iter()
            .fold(mix(copy), |hash, byte| mix(hash ^ u64::from(*byte)));
        for byte in run {
            state = mix(state);
            *byte = alphabet[(state >> 32) as usize % alphabet.len()];
        }
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
