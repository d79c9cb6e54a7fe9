//! Any bytes as the body of a push: the first byte says how it is compressed, the second what it is.
//! Errors are fine, panics and bodies beyond the cap are not; the labels that come out are parsed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::{Encoding, Flaw, Receiver};

const LIMIT: usize = 1 << 20;

#[derive(Default)]
struct Count {
    records: usize,
}

impl Receiver for Count {
    fn stream_text(&mut self, labels: &[u8]) {
        if let Ok(text) = std::str::from_utf8(labels) {
            let _ = proto::loki::parse_labels(text);
        }
    }

    fn stream_pairs(&mut self, labels: &[(&str, &str)]) {
        let _ = model::Labels::new(labels.iter().copied());
    }

    fn record(&mut self, _: i64, _: &[u8], _: &mut [(&str, &[u8])]) {
        self.records += 1;
    }

    fn flawed(&mut self, flaw: Flaw) {
        let _ = flaw.to_string();
    }

    fn is_full(&self) -> bool {
        self.records > 10_000
    }
}

fuzz_target!(|data: &[u8]| {
    let [encoding, format, body @ ..] = data else {
        return;
    };
    let encoding = match encoding % 8 {
        0 | 1 => Encoding::Identity,
        2 => Encoding::Snappy,
        3 => Encoding::SnappyFramed,
        4 => Encoding::Gzip,
        5 => Encoding::Deflate,
        6 => Encoding::Zstd,
        _ => Encoding::Lz4,
    };
    let mut buffer = Vec::new();
    let Ok(body) = proto::decompress(encoding, body, LIMIT, &mut buffer) else {
        return;
    };
    assert!(body.len() <= LIMIT);
    let mut count = Count::default();
    let decoded = match format % 6 {
        0 => proto::loki::decode_protobuf(body, &mut count),
        1 => proto::loki::decode_json(body, LIMIT, &mut count),
        2 => proto::otlp::decode_protobuf(body, 1, &mut count),
        3 => proto::otlp::decode_json(body, 1, &mut count),
        4 => proto::plain::decode_ingest(body, 1, &mut count),
        _ => proto::plain::decode_logs(body, 1, &mut count),
    };
    if let Err(error) = decoded {
        let _ = error.to_string();
    }
});
