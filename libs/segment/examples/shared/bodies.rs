//! What the measuring programs share: push bodies as batches, bytes as an object.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, LogBatch, LogBatchBuilder, Signal, StreamId, TenantId};
use segment::{Opened, ReadAt, Segment, TAIL_BYTES};

/// An object in memory, with its name.
pub(crate) struct Object(pub(crate) String, pub(crate) Bytes);

impl ReadAt for Object {
    fn name(&self) -> &str {
        &self.0
    }
    fn len(&self) -> u64 {
        self.1.len() as u64
    }
    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        Ok(self.1.slice(range.start as usize..range.end as usize))
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 {
            return value;
        }
    }
}

/// Calls `take` with number and content of each length-delimited or varint field.
fn fields<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u64, &'a [u8], u64)) {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        if tag & 7 == 2 {
            let (content, rest) = bytes.split_at(value as usize);
            bytes = rest;
            take(tag >> 3, content, 0);
        } else {
            take(tag >> 3, &[], value);
        }
    }
}

fn labels(text: &str) -> Labels {
    let pairs = text.trim_matches(['{', '}']).split(", ").map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    Labels::new(pairs).unwrap()
}

/// The records of a snappy-compressed Loki push body.
pub(crate) fn batch(path: &str) -> LogBatch {
    let body = std::fs::read(path).unwrap();
    let body = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let tenant = TenantId::default();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    fields(&body, |_, stream, _| {
        fields(stream, |number, content, _| {
            if number == 1 {
                let labels = Arc::new(labels(std::str::from_utf8(content).unwrap()));
                builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
                return;
            }
            let (mut time, mut line, mut pairs) = (0i64, &b""[..], Vec::new());
            fields(content, |number, content, _| match number {
                1 => fields(content, |number, _, value| match number {
                    1 => time += value as i64 * 1_000_000_000,
                    _ => time += value as i64,
                }),
                2 => line = content,
                _ => {
                    let mut pair = [&b""[..]; 2];
                    fields(content, |number, text, _| pair[number as usize - 1] = text);
                    pairs.push((std::str::from_utf8(pair[0]).unwrap(), pair[1]));
                }
            });
            builder.push(time, line, &mut pairs);
        });
    });
    builder.finish()
}

/// Opens it, with a second read if its footer is long.
pub(crate) fn open(object: &Object) -> Segment {
    let bytes = object.len();
    let tail = |n: u64| object.read(bytes.saturating_sub(n)..bytes).unwrap();
    match Segment::open(&object.0, tail(TAIL_BYTES), bytes).unwrap() {
        Opened::Segment(segment) => segment,
        Opened::NeedTail(n) => match Segment::open(&object.0, tail(n), bytes).unwrap() {
            Opened::Segment(segment) => segment,
            Opened::NeedTail(_) => unreachable!(),
        },
    }
}
