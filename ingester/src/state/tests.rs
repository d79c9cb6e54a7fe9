//! Goal: every decision of the state machine, as tables of events and the actions they bring.

mod cluster;
mod histories;
mod owners;

use std::sync::Arc;
use std::time::Duration;

use model::{
    BatchId, Kind, Labels, LogBatchBuilder, NANOS_PER_SECOND, RingVersion, Shard, Signal, Slot,
    StreamId,
};

use model::LogBatch;
use segment::wal::Filing;

use super::*;

const SECOND: i64 = NANOS_PER_SECOND;

struct Machine {
    state: State,
    now: i64,
    next: Ticket,
    /// Flushes under way, by their first head.
    flushes: BTreeMap<u64, FlushJob>,
}

fn config() -> Config {
    Config {
        slot_length: SlotLength(60 * SECOND),
        slot_grace: Duration::from_secs(5),
        head_bytes_max: 100_000,
        memory_bytes_max: 1_000_000,
        ..Config::default()
    }
}

fn start(rings: Rings) -> Start {
    Start {
        ingester: 9,
        next_head: 4,
        free: BTreeSet::new(),
        next_file: 2,
        files: vec![1],
        covered: CoveredHeads::default(),
        rings,
    }
}

fn machine_with(config: &Config) -> Machine {
    Machine {
        state: State::new(config, start(Rings::none(NodeId(9)))),
        now: 0,
        next: 0,
        flushes: BTreeMap::new(),
    }
}

fn machine() -> Machine {
    let mut machine = machine_with(&config());
    assert_eq!(machine.on(Event::ReplayDone), ["remove 1"]);
    machine
}

/// One line of `bytes`, at time 7.
fn batch(tenant: &str, bytes: usize) -> Arc<LogBatch> {
    let tenant = TenantId::new(tenant).unwrap();
    let labels = Labels::new([("app", "x")]).unwrap();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    builder.stream(
        StreamId::of(&tenant, Signal::Logs, &labels),
        &Arc::new(labels),
    );
    builder.push(7, &vec![b'x'; bytes], &mut []);
    Arc::new(builder.finish())
}

fn request(id: u128, shard: u32, slot: i64, bytes: usize) -> IngestRequest {
    IngestRequest {
        batch_id: BatchId(id),
        shard: Shard(shard),
        slot: Slot(slot),
        ring: RingVersion(1),
        batch: batch("a", bytes),
    }
}

fn describe(action: Action) -> String {
    match action {
        Action::Append(job) => format!("append {} to {}", job.write, job.filing.head.sequence),
        Action::Answer { ticket, result } => match result {
            Ok(()) => format!("answer {ticket}"),
            Err(error) => format!("refuse {ticket} {:?}", error.kind()),
        },
        Action::Publish(_) => "publish".to_owned(),
        Action::StartFlush(job) => {
            let heads: Vec<String> = job.heads.iter().map(|h| h.sequence.to_string()).collect();
            format!("flush {} of {}", heads.join("+"), job.batches.len())
        }
        Action::RemoveLogFilesThrough(file) => format!("remove {file}"),
        Action::Duplicate => "duplicate".to_owned(),
        Action::Reconciled { ticket, result } => match result {
            Ok(Reconciled { heads, flushed }) => {
                let heads: Vec<String> = heads.iter().map(describe_head).collect();
                let flushed: Vec<String> = flushed.iter().map(|id| id.0.to_string()).collect();
                format!(
                    "tell {ticket} [{}] flushed {}",
                    heads.join(" "),
                    flushed.join(" ")
                )
            }
            Err(error) => format!("refuse {ticket} {:?}", error.kind()),
        },
        Action::CoveredByOthers(heads) => format!("covered {heads}"),
        Action::Knows(ring) => format!("knows {}", ring.0),
        Action::Drained(ring) => format!("drained {}", ring.0),
    }
}

fn describe_head(sealed: &rpc::SealedHead) -> String {
    let ids: Vec<String> = sealed.ids.iter().map(|id| id.0.to_string()).collect();
    format!("{}:{}", sealed.head.sequence, ids.join(","))
}

impl Machine {
    fn on(&mut self, event: Event) -> Vec<String> {
        let mut out = Vec::new();
        self.state.on(self.now, event, &mut out);
        for action in &out {
            if let Action::StartFlush(job) = action {
                self.flushes.insert(job.heads[0].sequence, job.clone());
            }
        }
        out.into_iter().map(describe).collect()
    }

    fn ingest(&mut self, requests: Vec<IngestRequest>) -> Vec<String> {
        let ticket = self.next;
        self.next += 1;
        self.on(Event::Ingest { ticket, requests })
    }

    fn appended(&mut self, writes: &[WriteId], file: u64) -> Vec<String> {
        self.on(Event::Appended {
            writes: writes.to_vec(),
            file,
        })
    }

    fn flushed(&mut self, head: u64, ok: bool) -> Vec<String> {
        let result = match ok {
            true => Ok(Vec::new()),
            false => Err(Error::Unavailable("no".to_owned())),
        };
        let job = self.flushes.remove(&head).unwrap();
        self.on(Event::Flushed { job, result })
    }

    fn at(&mut self, now: i64) -> Vec<String> {
        self.now = now;
        self.on(Event::Tick)
    }

    fn recent(&self, tenant: &str) -> Vec<(u64, usize)> {
        let tenant = TenantId::new(tenant).unwrap();
        let heads = self.state.recent(&tenant, TimeRange::ALL).into_iter();
        heads
            .map(|head| (head.head.sequence, head.batches.len()))
            .collect()
    }
}

#[test]
fn a_batch_is_visible_and_answered_only_when_it_is_durable() {
    let mut m = machine();
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10), request(2, 1, 0, 10)]),
        ["append 0 to 4", "append 1 to 5"]
    );
    assert!(m.recent("a").is_empty());
    assert_eq!(m.appended(&[0], 2), ["publish"]);
    assert_eq!(m.recent("a"), [(4, 1)]);
    assert!(m.recent("b").is_empty());
    assert_eq!(m.appended(&[1], 2), ["publish", "answer 0"]);
    assert_eq!(m.recent("a"), [(4, 1), (5, 1)]);
}

#[test]
fn recent_leaves_out_what_cannot_match_the_range() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10)]);
    m.appended(&[0], 2);
    let tenant = TenantId::new("a").unwrap();
    let count = |range| m.state.recent(&tenant, range).len();
    assert_eq!(count(TimeRange::new(7, 8)), 1);
    assert_eq!(count(TimeRange::new(8, 9)) + count(TimeRange::new(0, 7)), 0);
}

#[test]
fn the_same_batch_again_is_answered_and_not_stored_again() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10)]);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10)]),
        ["duplicate"],
        "under way: waits for it"
    );
    assert_eq!(m.appended(&[0], 2), ["publish", "answer 0", "answer 1"]);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10)]),
        ["duplicate", "answer 2"]
    );
    assert_eq!(m.on(Event::Flush { ticket: 90 }), ["flush 4 of 1"]);
    m.flushed(4, true);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10)]),
        ["duplicate", "answer 3"],
        "flushed"
    );
    m.at(120 * SECOND - 1);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10)]),
        ["duplicate", "answer 4"],
        "two slots"
    );
    m.at(120 * SECOND);
    assert_eq!(m.ingest(vec![request(1, 0, 5, 10)]), ["append 1 to 5"]);
}

#[test]
fn a_batch_that_could_not_be_written_may_come_again() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10), request(2, 0, 0, 10)]);
    m.ingest(vec![request(1, 0, 0, 10)]);
    let error = Error::OutOfSpace("full".to_owned());
    let failed = Event::AppendFailed {
        writes: vec![0],
        error,
    };
    assert_eq!(m.on(failed), ["refuse 1 OutOfSpace"]);
    assert_eq!(m.appended(&[1], 2), ["publish", "refuse 0 OutOfSpace"]);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10), request(2, 0, 0, 10)]),
        ["append 2 to 4", "duplicate"]
    );
    assert_eq!(m.appended(&[2], 2), ["publish", "answer 2"]);
    assert_eq!(m.recent("a"), [(4, 2)]);
    m.on(Event::Flush { ticket: 90 });
    m.flushed(4, true);
    assert_eq!(m.state.bytes(), 0);
}

#[test]
fn a_head_is_flushed_when_its_slot_and_the_grace_are_over() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10), request(2, 0, 1, 10)]);
    m.appended(&[0, 1], 2);
    assert!(m.at(65 * SECOND - 1).is_empty());
    assert_eq!(m.at(65 * SECOND), ["flush 4 of 1"]);
    assert_eq!(
        m.ingest(vec![request(3, 0, 0, 10)]),
        ["append 2 to 6"],
        "late: a new head"
    );
    assert_eq!(m.recent("a"), [(4, 1), (5, 1)], "visible until committed");
    assert!(m.flushed(4, true).is_empty());
    assert_eq!(m.recent("a"), [(5, 1)]);
}

#[test]
fn a_full_head_is_flushed_when_its_writes_are_done() {
    let mut m = machine();
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 60_000), request(2, 0, 0, 60_000)])
            .len(),
        2
    );
    assert_eq!(m.ingest(vec![request(3, 0, 0, 10)]), ["append 2 to 5"]);
    assert_eq!(m.appended(&[0], 2), ["publish"]);
    assert_eq!(m.appended(&[1], 2), ["publish", "answer 0", "flush 4 of 2"]);
}

#[test]
fn under_pressure_the_largest_head_is_flushed_one_at_a_time() {
    let config = Config {
        head_bytes_max: 10_000_000,
        ..config()
    };
    let mut m = machine_with(&config);
    m.on(Event::ReplayDone);
    m.ingest(vec![request(1, 0, 0, 100_000), request(2, 1, 0, 250_000)]);
    assert_eq!(m.appended(&[0, 1], 2), ["publish", "publish", "answer 0"]);
    let more = vec![request(3, 0, 0, 50_000), request(4, 2, 0, 120_000)];
    let actions = m.ingest(more);
    assert_eq!(actions, ["append 2 to 4", "append 3 to 6", "flush 5 of 1"]);
    assert_eq!(m.appended(&[2, 3], 2), ["publish", "publish", "answer 1"]);
    assert!(m.flushed(5, true).is_empty(), "below half again");
}

#[test]
fn without_room_requests_wait_then_are_told_when_to_come_again() {
    let mut m = machine();
    let full: Vec<_> = (0..10).map(|n| request(n, n as u32, 0, 110_000)).collect();
    m.ingest(full);
    assert!(
        m.ingest(vec![request(50, 0, 0, 200_000)]).is_empty(),
        "waits"
    );
    assert_eq!(
        m.ingest(vec![request(51, 0, 0, 200_000)]),
        ["refuse 2 Exhausted"],
        "too many wait"
    );
    assert!(m.ingest(vec![request(52, 0, 0, 10)]).is_empty());
    m.appended(&(0..10).collect::<Vec<_>>(), 2);
    assert!(m.at(2 * SECOND - 1).is_empty());
    assert!(
        m.flushed(4, false)
            .iter()
            .all(|action| action.starts_with("flush"))
    );
    assert_eq!(
        m.at(2 * SECOND),
        ["refuse 1 Exhausted", "refuse 3 Exhausted"]
    );
    m.ingest(vec![request(53, 0, 0, 10)]);
    let after = m.flushed(5, true);
    assert!(after[0].starts_with("append 10"), "room: {after:?}");
    assert!(m.state.bytes() < 1_000_000);
}

#[test]
fn a_failed_flush_keeps_the_head_and_is_tried_again_later() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10)]);
    m.appended(&[0], 2);
    assert_eq!(m.on(Event::Flush { ticket: 90 }), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, false), ["refuse 90 Unavailable"]);
    assert_eq!(m.recent("a"), [(4, 1)]);
    assert!(m.at(SECOND / 2 - 1).is_empty());
    assert_eq!(m.at(SECOND / 2), ["flush 4 of 1"]);
    m.flushed(4, false);
    assert!(m.at(SECOND).is_empty(), "waits longer the second time");
    assert_eq!(
        m.on(Event::Flush { ticket: 91 }),
        ["flush 4 of 1"],
        "asked: at once"
    );
    assert_eq!(m.flushed(4, true), ["answer 91"]);
}

#[test]
fn as_much_is_left_of_each_delay_after_the_clock_was_set_back_as_before() {
    let day = 86_400 * SECOND;
    let mut m = machine();
    m.now = day;
    m.ingest(vec![request(1, 0, 1440, 10), request(2, 1, 1440, 10)]);
    m.appended(&[0, 1], 2);
    m.on(Event::Flush { ticket: 90 });
    m.flushed(4, false);
    m.flushed(5, true);
    assert!(m.at(0).is_empty(), "the clock is set back by a day");
    assert!(m.at(SECOND / 2 - 1).is_empty());
    assert_eq!(m.at(SECOND / 2), ["flush 4 of 1"]);
    m.flushed(4, false);
    m.at(120 * SECOND - 1);
    let again = || vec![request(2, 1, 1440, 10)];
    assert_eq!(m.ingest(again()), ["duplicate", "answer 1"]);
    m.at(120 * SECOND);
    assert_eq!(m.ingest(again()), ["append 2 to 6"], "two slots");
    let full = (10..20).map(|n| request(n, n as u32, 1440, 110_000));
    m.now = day;
    m.ingest(full.collect());
    assert!(m.ingest(again()).is_empty(), "no room");
    assert!(m.at(0).is_empty());
    assert_eq!(m.at(2 * SECOND), ["refuse 4 Exhausted"]);
}

#[test]
fn a_flush_waits_for_what_was_acknowledged_before_it() {
    let mut m = machine();
    assert_eq!(m.on(Event::Flush { ticket: 90 }), ["answer 90"]);
    m.ingest(vec![request(1, 0, 0, 10), request(2, 1, 0, 10)]);
    m.appended(&[0, 1], 2);
    assert_eq!(m.on(Event::Flush { ticket: 91 }), ["flush 4 of 1"]);
    m.ingest(vec![request(3, 0, 0, 10)]);
    m.appended(&[2], 2);
    assert_eq!(m.flushed(4, true), ["flush 5 of 1"]);
    assert_eq!(m.flushed(5, true), ["answer 91"]);
    assert_eq!(m.recent("a"), [(6, 1)]);
}

#[test]
fn a_log_file_goes_when_its_heads_and_all_older_files_are_gone() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10), request(2, 1, 0, 10)]);
    m.appended(&[0], 2);
    m.appended(&[1], 3);
    m.ingest(vec![request(3, 2, 0, 10)]);
    m.appended(&[2], 5);
    m.at(65 * SECOND);
    m.ingest(vec![request(4, 0, 9, 10)]);
    m.appended(&[3], 5);
    assert_eq!(m.flushed(4, true), ["flush 5 of 1", "remove 2"]);
    assert_eq!(m.flushed(5, true), ["flush 6 of 1", "remove 3"]);
    assert!(m.flushed(6, true).is_empty(), "file 5 is the newest");
}

#[test]
fn a_quiet_head_is_flushed_early_when_it_keeps_too_many_log_files() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10), request(2, 1, 0, 10)]);
    m.appended(&[0, 1], 2);
    for file in 3..10 {
        m.ingest(vec![request(file.into(), 0, 0, 10)]);
        assert_eq!(m.appended(&[file - 1], file).len(), 2, "no flush yet");
    }
    m.ingest(vec![request(10, 2, 0, 10)]);
    assert_eq!(
        m.appended(&[9], 10),
        ["publish", "answer 8", "flush 4 of 8"]
    );
    assert_eq!(m.flushed(4, true), ["flush 5 of 1"]);
    assert_eq!(m.flushed(5, true), ["remove 9"]);
}

#[test]
fn shutdown_refuses_new_batches_and_flushes_everything() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10)]);
    m.appended(&[0], 2);
    m.ingest(vec![request(2, 0, 0, 10)]);
    assert!(
        m.on(Event::Shutdown { ticket: 90 }).is_empty(),
        "a write is under way"
    );
    assert_eq!(
        m.ingest(vec![request(3, 0, 0, 10)]),
        ["refuse 2 Unavailable"]
    );
    assert_eq!(m.appended(&[1], 2), ["publish", "answer 1", "flush 4 of 2"]);
    assert_eq!(m.flushed(4, true), ["answer 90"]);
}

fn replayed(head: u64, id: u128, last: bool, bytes: usize) -> Replayed {
    Replayed::Batch {
        file: 1,
        filing: Filing {
            head: HeadId {
                ingester: 9,
                sequence: head,
            },
            batch_id: BatchId(id),
            key: HeadKey {
                shard: Shard(0),
                slot: Slot(0),
                ring: RingVersion(1),
            },
        },
        batch: batch("a", bytes),
        last_of_head: last,
    }
}

#[test]
fn a_replayed_head_is_not_flushed_before_its_last_record() {
    let config = Config {
        memory_bytes_max: 100_000,
        head_bytes_max: 1_000_000,
        ..config()
    };
    let mut m = machine_with(&config);
    let replay = |m: &mut Machine, ticket, record| m.on(Event::Replayed { ticket, record });
    assert_eq!(
        replay(&mut m, 1, replayed(2, 1, false, 80_000)),
        ["answer 1"],
        "half full, and yet"
    );
    assert_eq!(
        replay(&mut m, 2, replayed(3, 2, false, 80_000)),
        ["answer 2"],
        "full, and yet"
    );
    assert_eq!(
        replay(&mut m, 3, replayed(2, 3, true, 10)),
        ["flush 2 of 2"]
    );
    assert_eq!(
        m.flushed(2, true),
        ["answer 3"],
        "reading goes on when there is room"
    );
    assert_eq!(
        replay(&mut m, 4, replayed(3, 2, true, 10)),
        ["answer 4", "flush 3 of 1"],
        "same batch once"
    );
    assert_eq!(m.flushed(3, true), Vec::<String>::new());
    assert_eq!(m.on(Event::ReplayDone), ["remove 1"]);
    assert_eq!(
        m.ingest(vec![request(3, 0, 0, 10)]),
        ["duplicate", "answer 0"]
    );
    assert_eq!(m.ingest(vec![request(9, 0, 0, 10)]), ["append 0 to 4"]);
}

#[test]
fn covered_records_of_the_log_only_leave_their_ids() {
    let mut m = machine_with(&config());
    let Replayed::Batch { filing, .. } = replayed(2, 1, true, 10) else {
        unreachable!("it is one");
    };
    let record = Replayed::Covered(filing);
    assert_eq!(m.on(Event::Replayed { ticket: 1, record }), ["answer 1"]);
    assert_eq!(m.on(Event::ReplayDone), ["remove 1"]);
    assert_eq!(
        m.ingest(vec![request(1, 0, 0, 10)]),
        ["duplicate", "answer 0"]
    );
}

#[test]
fn the_number_of_a_head_that_never_came_into_the_log_is_used_again_and_never_committed() {
    let mut m = machine();
    m.ingest(vec![request(1, 0, 0, 10), request(2, 0, 0, 10)]);
    m.ingest(vec![request(3, 1, 0, 10)]);
    let failed = |write| Event::AppendFailed {
        writes: vec![write],
        error: Error::OutOfSpace("full".to_owned()),
    };
    assert!(m.on(failed(0)).is_empty(), "another write may succeed");
    assert_eq!(m.on(Event::Flush { ticket: 90 }), ["answer 90"]);
    assert_eq!(m.on(failed(1)), ["refuse 0 OutOfSpace"]);
    assert!(m.at(64 * SECOND).is_empty());
    assert_eq!(m.ingest(vec![request(4, 2, 0, 10)]), ["append 3 to 4"]);
    assert_eq!(m.appended(&[2, 3], 2).len(), 4);
    assert_eq!(m.at(65 * SECOND), ["flush 4 of 1"]);
    assert_eq!(m.flushed(4, true), ["flush 5 of 1"]);
    m.flushed(5, true);
    assert_eq!((m.state.heads(), m.state.bytes()), (0, 0));
}

#[test]
fn no_empty_batch_is_written_and_errors_have_kinds() {
    let mut m = machine();
    let mut empty = request(1, 0, 0, 1);
    empty.batch = Arc::new(LogBatchBuilder::new(TenantId::default()).finish());
    assert_eq!(m.ingest(vec![empty]), ["answer 0"]);
    assert_eq!(m.state.exhausted().kind(), Kind::Exhausted);
}
