//! Goal: an acknowledged batch is read back whatever the disk does; one that was not acknowledged is
//! there whole or not at all. Method: random histories of groups, full disks, failed syncs and file
//! changes against a simulated disk, cut at every call.

use std::collections::BTreeMap;
use std::io::{self, Cursor, IoSlice, Read};
use std::sync::Arc;

use model::{
    BatchId, HeadId, HeadKey, Kind, Labels, LogBatch, LogBatchBuilder, RingVersion, Shard, Signal,
    Slot, StreamId, TenantId,
};
use proptest::prelude::*;
use segment::wal::{Filing, Record};
use testkit::sim_disk::SimDisk;

use super::*;
use crate::Error;

/// The simulated disk as the log's.
#[derive(Debug)]
pub(crate) struct Sim(pub(crate) SimDisk);

#[derive(Debug)]
struct SimFile(SimDisk, String);

impl LogFiles for Sim {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.list())
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.0.create(name)?;
        Ok(Box::new(SimFile(self.0.clone(), name.to_owned())))
    }
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let bytes = self.0.read(name)?;
        let len = bytes.len() as u64;
        Ok((Box::new(Cursor::new(bytes)), len))
    }
    fn sync_file(&self, name: &str) -> io::Result<()> {
        self.0.sync(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.0.sync_folder()
    }
}

impl LogFile for SimFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.0.append(&self.1, &bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync(&self.1)
    }
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.truncate(&self.1, bytes)
    }
}

const INGESTER: u64 = 5;

/// Up to three rows, each of another stream; streams come back in later batches.
fn batch(number: u64) -> LogBatch {
    let mut builder = LogBatchBuilder::new(TenantId::default());
    for row in 0..=number % 3 {
        let app = format!("web-{}", (number / 2 + row) % 5);
        let labels = Labels::new([("app", app)]).unwrap();
        let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
        builder.stream(id, &Arc::new(labels));
        let line = format!(
            "batch {number} row {row} {}",
            "x".repeat(number as usize % 50)
        );
        builder.push(number as i64, line.as_bytes(), &mut [("n", b"1")]);
    }
    builder.finish()
}

/// Head `number / 4`, batch id `number`.
fn record(log: &mut LogWriter, number: u64) -> Record {
    let filing = Filing {
        head: HeadId {
            ingester: INGESTER,
            sequence: number / 4,
        },
        batch_id: BatchId(u128::from(number)),
        key: HeadKey {
            shard: Shard(0),
            slot: Slot(0),
            ring: RingVersion(1),
        },
    };
    log.record(&filing, Arc::new(batch(number))).unwrap()
}

/// Writes these batches as one group.
fn append(log: &mut LogWriter, numbers: &[u64]) -> Result<u64, Error> {
    let mut group: Vec<Record> = numbers.iter().map(|n| record(log, *n)).collect();
    log.append(&mut group)
}

fn writer(disk: &SimDisk, file_bytes_max: u64, start: WriterStart) -> LogWriter {
    let files = Arc::new(Sim(disk.clone()));
    LogWriter::new(files, INGESTER, file_bytes_max, start)
}

fn opened(disk: &SimDisk, file_bytes_max: u64) -> LogWriter {
    let plan = plan(&Sim(disk.clone()), INGESTER).unwrap();
    writer(disk, file_bytes_max, plan.start)
}

/// Number of each batch that is read back, each checked for being whole; how often it was there.
fn replayed(disk: &SimDisk) -> Result<BTreeMap<u64, usize>, Error> {
    let files = Sim(disk.clone());
    let plan = plan(&files, INGESTER)?;
    let mut found = BTreeMap::new();
    let mut lasts = BTreeMap::new();
    read(
        &files,
        &plan,
        |_| false,
        |entry| {
            let Replayed::Batch {
                filing,
                batch: got,
                last_of_head,
                ..
            } = entry
            else {
                panic!("nothing is covered");
            };
            let number = filing.batch_id.0 as u64;
            assert_eq!(*got, batch(number));
            assert_ne!(lasts.insert(filing.head.sequence, last_of_head), Some(true));
            *found.entry(number).or_insert(0) += 1;
            Ok(())
        },
    )?;
    assert!(
        lasts.values().all(|last| *last),
        "each head's last record is marked"
    );
    Ok(found)
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Group(u64),
    /// The disk has so many bytes left during one group.
    Full(u64, u64),
    /// The next sync fails.
    BadSync(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..5_u64).prop_map(Step::Group),
        1 => (1..5_u64, 0..600_u64).prop_map(|(n, room)| Step::Full(n, room)),
        1 => (1..3_u64).prop_map(Step::BadSync),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..14)
}

/// Plays the history until the power fails; numbers that were acknowledged.
fn play(disk: &SimDisk, steps: &[Step]) -> (Vec<u64>, u64) {
    let (mut acknowledged, mut next) = (Vec::new(), 0);
    let mut log = opened(disk, 700);
    for step in steps {
        let count = match step {
            Step::Group(count) => *count,
            Step::Full(count, room) => {
                disk.set_room(Some(*room));
                *count
            }
            Step::BadSync(count) => {
                disk.fail_syncs(1);
                *count
            }
            Step::Restart => {
                match plan(&Sim(disk.clone()), INGESTER) {
                    Ok(plan) => log = writer(disk, 700, plan.start),
                    Err(error) => assert!(disk.is_dead(), "{error}"),
                }
                continue;
            }
        };
        let numbers: Vec<u64> = (next..next + count).collect();
        next += count;
        if append(&mut log, &numbers).is_ok() {
            acknowledged.extend(numbers);
        }
        disk.set_room(None);
        disk.fail_syncs(0);
    }
    (acknowledged, next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_crashes_acknowledged_batches_are_read_back_and_others_whole_or_not(
        steps in steps(), calls in 1..120_u64, keep in 0..2000_u64, garbage: bool, names: bool,
    ) {
        let disk = SimDisk::new();
        disk.cut_power_after(calls);
        let (acknowledged, next) = play(&disk, &steps);
        let disk = disk.after_crash(keep, garbage, names);
        let found = replayed(&disk).unwrap();
        for number in &acknowledged {
            prop_assert_eq!(found.get(number), Some(&1), "batch {} of {:?}", number, found);
        }
        prop_assert!(found.keys().all(|number| *number < next));
        // And the log goes on from there.
        let mut log = opened(&disk, 700);
        append(&mut log, &[1000]).unwrap();
        let again = replayed(&disk.after_crash(0, false, false)).unwrap();
        prop_assert_eq!(again.len(), found.len() + 1);
    }
}

fn some_log() -> SimDisk {
    let disk = SimDisk::new();
    let mut log = opened(&disk, 700);
    for group in 0..6 {
        append(&mut log, &[group * 2, group * 2 + 1]).unwrap();
    }
    assert!(disk.list().len() > 2);
    disk
}

#[test]
fn damage_in_acknowledged_records_is_an_error_that_names_file_and_offset() {
    let mut names = some_log().list();
    // What is damaged in the newest may be a group that was never acknowledged.
    names.pop();
    for name in names {
        let disk = some_log();
        disk.damage(&name, |bytes| bytes[70] ^= 1).unwrap();
        let error = plan(&Sim(disk), INGESTER).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let text = error.to_string();
        assert!(text.contains(&name) && text.contains("offset 64"), "{text}");
        assert!(
            text.contains("expected") && text.contains("restore"),
            "{text}"
        );
    }
}

#[test]
fn a_cut_or_missing_file_in_the_middle_is_an_error() {
    let names = some_log().list();
    let disk = some_log();
    disk.damage(&names[1], |bytes| bytes.truncate(100)).unwrap();
    assert_eq!(
        plan(&Sim(disk), INGESTER).unwrap_err().kind(),
        Kind::Corrupt
    );
    let disk = some_log();
    disk.remove(&names[1]).unwrap();
    let text = plan(&Sim(disk), INGESTER).unwrap_err().to_string();
    assert!(
        text.contains(&names[0]) && text.contains(&names[1]),
        "{text}"
    );
}

#[test]
fn files_of_another_ingester_are_refused() {
    let error = plan(&Sim(some_log()), INGESTER + 1).unwrap_err();
    assert!(error.to_string().contains("ingester 5"), "{error}");
}

#[test]
fn a_full_disk_is_said_to_be_full_and_the_log_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let mut log = opened(&disk, 1 << 20);
    append(&mut log, &[0]).unwrap();
    disk.set_room(Some(50));
    let error = append(&mut log, &[1, 2]).unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfSpace);
    disk.set_room(None);
    append(&mut log, &[3]).unwrap();
    let found: Vec<u64> = replayed(&disk).unwrap().into_keys().collect();
    assert_eq!(found, [0, 3]);
    assert_eq!(disk.list().len(), 1, "the same file goes on");
}

#[test]
fn after_a_failed_sync_the_file_is_never_written_or_believed_again() {
    let disk = SimDisk::new();
    let mut log = opened(&disk, 1 << 20);
    append(&mut log, &[0]).unwrap();
    disk.fail_syncs(1);
    append(&mut log, &[1]).unwrap_err();
    append(&mut log, &[2]).unwrap();
    assert_eq!(disk.list().len(), 2);
    let found: Vec<u64> = replayed(&disk).unwrap().into_keys().collect();
    assert_eq!(found, [0, 2], "the page cache still shows batch 1");
}

#[test]
fn one_group_is_one_sync() {
    let disk = SimDisk::new();
    let mut log = opened(&disk, 1 << 20);
    append(&mut log, &[0]).unwrap();
    let before = disk.syncs();
    let numbers: Vec<u64> = (1..50).collect();
    append(&mut log, &numbers).unwrap();
    assert_eq!(disk.syncs(), before + 1);
}

#[test]
fn files_are_removed_oldest_first_and_the_rest_is_readable() {
    let disk = some_log();
    let names = disk.list();
    let mut log = opened(&disk, 700);
    log.remove_through(2).unwrap();
    assert_eq!(disk.list(), names[2..]);
    assert!(!replayed(&disk).unwrap().is_empty());
    assert_eq!(file_number(&names[0]), Some(1));
    assert_eq!(file_number("wal-1.log"), None);
}
