//! The records that clients send: each has a number, which its line says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use model::{TenantId, Timestamp};

use crate::deletes::Late;
use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::world::{Purpose, World};

/// What one request holds.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) tenant: TenantId,
    pub(crate) numbers: Vec<RecordNumber>,
    pub(crate) body: Bytes,
}

/// What may be asked of a record that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    /// The number in its label `app`.
    pub(crate) app: u64,
    /// Its time was past when it was sent.
    pub(crate) late: bool,
}

/// What different clients send records for. No two have records of the same numbers: equal ones would
/// count as one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// Records, now and then; or as many as are taken.
    Load,
    /// What a request that is about to end names.
    Deleted,
    /// What one owner lacks, amid all else and in peace.
    Leak,
    LeakInPeace,
    /// What a request names whose end was cut off, or is raced with.
    CutEnd,
    // The last, by which `KINDS` counts.
    RacedEnd,
}

impl Client {
    const KINDS: u64 = Client::RacedEnd as u64 + 1;

    /// The number of one of those that send for this, which are counted from 0 on.
    fn number(self, of_them: u64) -> u64 {
        of_them * Self::KINDS + self as u64
    }
}

/// Makes up the records of one client.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) dice: Dice,
    client: u64,
    /// How many records each tenant got.
    sent: BTreeMap<u64, u64>,
}

/// Numbers of one client, and of one tenant of it.
const CLIENT_NUMBERS: RecordNumber = 10_000_000;
const TENANT_NUMBERS: RecordNumber = 1_000_000;
/// Items that lines speak of.
pub(crate) const ITEMS: u64 = 17;
/// Streams of small requests.
pub(crate) const APPS: u64 = 8;
/// A large request stays below what a distributor decodes on a thread of its own.
const LARGE_LINES: u64 = 90;
const LARGE_STREAMS: u64 = 30;
const SMALL_LINES_MAX: u64 = 6;
const SMALL_STREAMS_MAX: u64 = 3;
/// Of a small request that may be deleted to come late, in a thousand, and how late.
const LATE: u64 = 50;
const LATE_MAX: Duration = Duration::from_secs(60);
/// Streams of all large requests: so many that chance gives no shard much more than another.
const STREAMS: u64 = 20_000;

/// Most tenants of a run.
pub(crate) const TENANTS_MAX: u64 = 3;

/// Whose record it is: the numbers of tenants are from 0 on.
pub(crate) fn tenant_of(record: RecordNumber) -> u64 {
    record % CLIENT_NUMBERS / TENANT_NUMBERS
}

/// The tenant with a number.
pub(crate) fn tenant(number: u64) -> TenantId {
    let name = TenantId::new(&format!("t{number}"));
    name.unwrap_or_default()
}

impl Sender {
    /// One of the clients that send for this, which are counted from 0 on.
    pub(crate) fn new(world: &World, client: Client, of_them: u64) -> Self {
        let client = client.number(of_them);
        Sender {
            dice: Dice::new(world.seed ^ (client << 32), Purpose::Clients as u64),
            client,
            sent: BTreeMap::new(),
        }
    }

    /// Some records of one tenant and of one to three streams; they count as sent.
    pub(crate) fn small(&mut self, world: &World) -> Records {
        let tenant = self.dice.below(world.plan.tenants);
        let lines = 1 + self.dice.below(SMALL_LINES_MAX);
        let streams = 1 + self.dice.below(SMALL_STREAMS_MAX);
        let first = self.dice.below(APPS);
        let late = !world.plan.delete_every.is_zero() && self.dice.chance(LATE);
        let (now, before) = (world.now(), self.dice.between(Duration::ZERO, LATE_MAX));
        let time = match late {
            true => now - before.as_nanos() as i64,
            false => now,
        };
        let (records, sent) = self.records(tenant, lines, streams, first, time);
        Self::tell(world, sent, late);
        records
    }

    /// One record, whose time is past; it counts as sent.
    pub(crate) fn late(&mut self, world: &World, late: Late) -> Records {
        let next = self.sent.entry(late.of).or_default();
        let first = self.client * CLIENT_NUMBERS + late.of * TENANT_NUMBERS + *next;
        if let Some(item) = late.item {
            *next += (ITEMS + item - first % ITEMS) % ITEMS;
        }
        let (records, sent) = self.records(late.of, 1, 1, late.app, late.time);
        Self::tell(world, sent, true);
        records
    }

    fn tell(world: &World, mut sent: Vec<(RecordNumber, Sent)>, late: bool) {
        sent.iter_mut().for_each(|(_, sent)| sent.late = late);
        world.tally.lock().sent += sent.len() as u64;
        world.sent.lock().extend(sent.iter().copied());
        world.checks.see(&Event::Sent(sent));
    }

    /// As many as are worth sending, of many streams.
    pub(crate) fn large(&mut self, world: &World) -> Records {
        let first = self.dice.below(STREAMS);
        let (records, _) = self.records(0, LARGE_LINES, LARGE_STREAMS, first, world.now());
        records
    }

    fn records(
        &mut self,
        of: u64,
        lines: u64,
        streams: u64,
        first: u64,
        now: Timestamp,
    ) -> (Records, Vec<(RecordNumber, Sent)>) {
        let next = self.sent.entry(of).or_default();
        let from = self.client * CLIENT_NUMBERS + of * TENANT_NUMBERS + *next;
        *next += lines;
        let numbers: Vec<RecordNumber> = (from..from + lines).collect();
        let mut sent = Vec::new();
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
                    record % ITEMS,
                    record % 5,
                    record % 211
                );
                let sent_now = Sent {
                    at: time,
                    app,
                    late: false,
                };
                sent.push((*record, sent_now));
            }
            body.push_str("]}");
        }
        body.push_str("]}");
        let records = Records {
            tenant: tenant(of),
            numbers,
            body: body.into(),
        };
        (records, sent)
    }
}
