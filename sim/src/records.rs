//! The records that clients send: each has a number, which its line says.

use std::fmt::Write;

use bytes::Bytes;

use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::world::{Purpose, World};

/// What one request holds.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) numbers: Vec<RecordNumber>,
    pub(crate) body: Bytes,
}

/// Makes up the records of one client.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) dice: Dice,
    next: RecordNumber,
}

/// Numbers of one client.
const NUMBERS: RecordNumber = 10_000_000;
/// A large request stays below what a distributor decodes on a thread of its own.
const LARGE_LINES: u64 = 90;
const LARGE_STREAMS: u64 = 30;
const SMALL_LINES_MAX: u64 = 6;
const SMALL_STREAMS_MAX: u64 = 3;
/// Streams of all large requests: so many that chance gives no shard much more than another.
const STREAMS: u64 = 20_000;

impl Sender {
    pub(crate) fn new(world: &World, client: u64) -> Self {
        Sender {
            dice: Dice::new(world.seed ^ (client << 32), Purpose::Clients as u64),
            next: client * NUMBERS,
        }
    }

    /// Some records of one to three streams; they count as sent.
    pub(crate) fn small(&mut self, world: &World) -> Records {
        let lines = 1 + self.dice.below(SMALL_LINES_MAX);
        let streams = 1 + self.dice.below(SMALL_STREAMS_MAX);
        let (first, now) = (self.dice.below(8), world.now());
        let records = self.records(lines, streams, first, now);
        world.tally.lock().sent += lines;
        world.checks.see(&Event::Sent(records.numbers.clone()));
        records
    }

    /// As many as are worth sending, of many streams.
    pub(crate) fn large(&mut self, world: &World) -> Records {
        let first = self.dice.below(STREAMS);
        self.records(LARGE_LINES, LARGE_STREAMS, first, world.now())
    }

    fn records(&mut self, lines: u64, streams: u64, first: u64, now: i64) -> Records {
        let numbers: Vec<RecordNumber> = (self.next..self.next + lines).collect();
        self.next += lines;
        let mut body = String::from(r#"{"streams":["#);
        for (at, chunk) in numbers.chunks(lines.div_ceil(streams) as usize).enumerate() {
            let app = (first + at as u64) % STREAMS;
            let comma = if at == 0 { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                r#"{comma}{{"stream":{{"app":"a{app}","env":"sim"}},"values":["#
            );
            for (at, record) in chunk.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                let (time, took) = (now + *record as i64 % 1000, self.dice.below(900));
                let _ = write!(
                    body,
                    r#"{comma}["{time}","r{record} GET /items/{}/parts took {took} ms, answered 200 to 10.0.{}.{}"]"#,
                    record % 17,
                    record % 5,
                    record % 211
                );
            }
            body.push_str("]}");
        }
        body.push_str("]}");
        Records {
            numbers,
            body: body.into(),
        }
    }
}
