//! Goal: in every order of writes, failures, flushes and time, each caller is answered once, each
//! acknowledged batch is committed exactly once, log files outlive their heads, and the bytes add
//! up. Method: random histories, the log and the flusher being two lists of things to be finished.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Batches by id; an id may come again.
    Ingest(Vec<(u8, u8, u8)>, u16),
    /// The log finishes so many of its writes, well or not, in its present file or a new one.
    Log(usize, bool, bool),
    /// A flush ends.
    Flushed(bool),
    Flush,
    /// Milliseconds pass.
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = prop::collection::vec((0..60_u8, 0..3_u8, 0..4_u8), 1..4);
    let step = prop_oneof![
        6 => (ids, 1..60_000_u16).prop_map(|(ids, bytes)| Step::Ingest(ids, bytes)),
        5 => (1..5_usize, prop::bool::weighted(0.8), prop::bool::weighted(0.1)).prop_map(|(n, ok, new)| Step::Log(n, ok, new)),
        3 => prop::bool::weighted(0.7).prop_map(Step::Flushed),
        1 => Just(Step::Flush),
        2 => (1..40_000_u32).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// The world around the state.
struct World {
    state: State,
    now: i64,
    tickets: Ticket,
    file: u64,
    answers: BTreeMap<Ticket, bool>,
    writes: VecDeque<AppendJob>,
    flushes: VecDeque<FlushJob>,
    /// Acknowledged writes: the head of each batch.
    stored: BTreeMap<u128, u64>,
    committed: BTreeSet<u64>,
    committed_batches: usize,
    files: BTreeMap<u64, BTreeSet<u64>>,
}

impl World {
    fn on(&mut self, event: Event) {
        let mut out = Vec::new();
        self.state.on(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Append(job) => self.writes.push_back(job),
                Action::Answer { ticket, result } => {
                    let before = self.answers.insert(ticket, result.is_ok());
                    assert_eq!(before, None, "answered twice");
                }
                Action::StartFlush(job) => {
                    assert_eq!(job.heads.len(), 1, "no other owner");
                    assert!(!self.committed.contains(&job.heads[0].sequence));
                    let under_way = |write: &AppendJob| write.filing.head == job.heads[0];
                    assert!(!self.writes.iter().any(under_way), "a write is under way");
                    self.flushes.push_back(job);
                    assert!(self.flushes.len() <= 1, "one worker");
                }
                Action::RemoveLogFilesThrough(file) => {
                    assert!(file < self.file, "the present file");
                    let later = self.files.split_off(&(file + 1));
                    let removed = std::mem::replace(&mut self.files, later);
                    let mut heads = removed.values().flatten();
                    assert!(heads.all(|head| self.committed.contains(head)));
                }
                Action::Publish(_) | Action::Duplicate => {}
                Action::Reconciled { .. }
                | Action::CoveredByOthers(_)
                | Action::Knows(_)
                | Action::Drained(_) => panic!("there is nobody else"),
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ingest(ids, bytes) => {
                let requests = ids.into_iter().map(|(id, shard, slot)| {
                    request(id.into(), shard.into(), slot.into(), bytes.into())
                });
                let requests = requests.collect();
                self.tickets += 1;
                let ticket = self.tickets;
                self.on(Event::Ingest { ticket, requests });
            }
            Step::Log(count, ok, new_file) => self.log(count, ok, new_file),
            Step::Flushed(ok) => self.flushed(ok),
            Step::Flush => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.on(Event::Flush { ticket });
            }
            Step::Wait(millis) => {
                self.now += i64::from(millis) * 1_000_000;
                self.on(Event::Tick);
            }
        }
    }

    fn log(&mut self, count: usize, ok: bool, new_file: bool) {
        let jobs: Vec<AppendJob> = self.writes.drain(..count.min(self.writes.len())).collect();
        let writes = jobs.iter().map(|job| job.write).collect();
        if !ok {
            let error = Error::OutOfSpace("full".to_owned());
            return self.on(Event::AppendFailed { writes, error });
        }
        self.file += u64::from(new_file);
        for job in &jobs {
            let head = job.filing.head.sequence;
            assert!(
                !self.committed.contains(&head),
                "a commit covers all of a head"
            );
            self.stored.insert(job.filing.batch_id.0, head);
            self.files.entry(self.file).or_default().insert(head);
        }
        let file = self.file;
        self.on(Event::Appended { writes, file });
    }

    fn flushed(&mut self, ok: bool) {
        let Some(job) = self.flushes.pop_front() else {
            return;
        };
        let head = job.heads[0].sequence;
        let result = match ok {
            true => Ok(Vec::new()),
            false => Err(Error::Unavailable("no".to_owned())),
        };
        if ok {
            self.committed.insert(head);
            self.committed_batches += job.batches.len();
        }
        self.on(Event::Flushed { job, result });
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.on(Event::Shutdown { ticket });
        for _ in 0..1000 {
            self.log(usize::MAX, true, false);
            self.flushed(true);
            self.now += SECOND;
            self.on(Event::Tick);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_caller_is_answered_once_and_every_stored_batch_committed_once(steps in steps()) {
        // Ids are remembered for ever, so that each is stored once only.
        let config = Config {
            memory_bytes_max: 300_000,
            slot_length: SlotLength(10_000_000 * SECOND),
            ..config()
        };
        let mut world = World {
            state: machine_with(&config).state,
            now: 0,
            tickets: 0,
            file: 2,
            answers: BTreeMap::new(),
            writes: VecDeque::new(),
            flushes: VecDeque::new(),
            stored: BTreeMap::new(),
            committed: BTreeSet::new(),
            committed_batches: 0,
            files: BTreeMap::from([(1, BTreeSet::new())]),
        };
        world.on(Event::ReplayDone);
        for step in steps {
            world.step(step);
            prop_assert!(world.state.bytes() <= 300_000 + 3 * 62_000);
        }
        world.settle();
        prop_assert_eq!(world.answers.len() as u64, world.tickets);
        prop_assert_eq!(world.answers.get(&world.tickets), Some(&true));
        prop_assert_eq!(world.committed_batches, world.stored.len());
        prop_assert!(world.stored.values().all(|head| world.committed.contains(head)));
        prop_assert_eq!((world.state.bytes(), world.state.heads()), (0, 0));
    }
}
