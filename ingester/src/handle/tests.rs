//! Goal: the parts together: log, heads, flush, catalog, restart, merge. Method: a whole ingester
//! over a simulated disk, objects in memory, and the real catalog, driven through its ports.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use meta::MemoryMeta;
use model::{
    BatchId, Kind, Labels, LogBatchBuilder, NANOS_PER_SECOND, NodeId, RingVersion, Selector, Shard,
    Signal, Slot, SlotLength, StreamId, TenantId, TimeRange,
};
use proptest::prelude::*;
use rpc::{Catalog, Command, MetaApi, Outcome, TenantSettings};
use store::ObjectStorage;
use tempfile::TempDir;
use testkit::sim_disk::SimDisk;

use super::*;
use crate::wal::LogFiles;
use crate::wal::tests::Sim;
use crate::{Config, Deps, Metrics};

mod cluster;
mod deletes;
mod disk;
mod races;

use deletes::{delete, numbers};

const DAY: i64 = 86_400 * NANOS_PER_SECOND;

/// One process' way to the catalog. Answers may get lost after it did what was asked; the dead can
/// ask for nothing more, but what they asked for before may still be done.
struct Flaky {
    meta: Arc<MemoryMeta>,
    lose_answers: AtomicBool,
    dead: AtomicBool,
}

#[async_trait]
impl MetaApi for Flaky {
    fn catalog(&self) -> Arc<Catalog> {
        self.meta.catalog()
    }
    async fn changed(&self, version: u64) -> Arc<Catalog> {
        self.meta.changed(version).await
    }
    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("the process is dead".to_owned()));
        }
        let outcome = self.meta.propose(command).await;
        if self.lose_answers.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("the answer was lost".to_owned()));
        }
        outcome
    }
}

/// What outlives an ingester.
struct World {
    _folder: TempDir,
    disk: SimDisk,
    meta: Arc<Flaky>,
    storage: ObjectStorage,
    now: Arc<AtomicI64>,
    config: Config,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = Config {
            data_dir: folder.path().join("data"),
            slot_length: SlotLength(120 * NANOS_PER_SECOND),
            late_copies: std::time::Duration::ZERO,
            ..Config::default()
        };
        config.merge.enabled = false;
        config.merge.inputs_max = 64;
        World {
            meta: Arc::new(Flaky {
                meta: Arc::new(MemoryMeta::default()),
                lose_answers: AtomicBool::new(false),
                dead: AtomicBool::new(false),
            }),
            disk: SimDisk::new(),
            storage: ObjectStorage::in_memory(),
            now: Arc::new(AtomicI64::new(DAY)),
            _folder: folder,
            config,
        }
    }

    async fn start(&self) -> Result<Ingester, crate::Error> {
        Ingester::start(self.config.clone(), self.deps()).await
    }

    fn deps(&self) -> Deps {
        let now = Arc::clone(&self.now);
        let files: Arc<dyn LogFiles> = Arc::new(Sim(self.disk.clone()));
        Deps {
            cluster: "c1".into(),
            node: NodeId(1),
            storage: self.storage.clone(),
            meta: Arc::clone(&self.meta) as Arc<dyn MetaApi>,
            network: None,
            clock: Arc::new({
                let now = Arc::clone(&now);
                move || now.load(Ordering::Relaxed)
            }),
            storage_clock: Some(Arc::new(move || now.load(Ordering::Relaxed))),
            metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
            log_files: Some(files),
            blocking: runtime::Blocking::threads(),
        }
    }

    /// As after a kill or a power cut, and a reboot.
    async fn crash(&mut self, ingester: Ingester, keep: u64) -> Ingester {
        self.meta.dead.store(true, Ordering::Relaxed);
        self.meta = Arc::new(Flaky {
            meta: Arc::clone(&self.meta.meta),
            lose_answers: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        });
        self.disk = self.disk.after_crash(keep, true, true);
        drop(ingester);
        self.start().await.unwrap()
    }

    fn records(&self) -> u64 {
        records_of(&self.meta.catalog())
    }

    fn segments(&self) -> usize {
        self.meta.catalog().segments.len()
    }

    async fn objects(&self) -> usize {
        self.storage.list("").await.unwrap().len()
    }
}

/// One line of its own, at the time given.
fn request_at(number: u64, time: i64) -> IngestRequest {
    let tenant = TenantId::default();
    let labels = Labels::new([(
        "app",
        if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        },
    )])
    .unwrap();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    builder.stream(
        StreamId::of(&tenant, Signal::Logs, &labels),
        &Arc::new(labels),
    );
    let line = format!("line {number} {}", "y".repeat(200));
    builder.push(time, line.as_bytes(), &mut []);
    IngestRequest {
        batch_id: BatchId(u128::from(number)),
        shard: Shard((number % 3) as u32),
        slot: Slot(10_000 + number as i64 / 6),
        ring: RingVersion(1),
        batch: Arc::new(builder.finish()),
    }
}

fn request(number: u64) -> IngestRequest {
    request_at(number, DAY + number as i64)
}

fn everything(matchers: Selector) -> RecentRequest {
    RecentRequest {
        selectors: vec![matchers],
        ..RecentRequest::all(TenantId::default(), TimeRange::ALL)
    }
}

fn records_of(catalog: &Catalog) -> u64 {
    let segments = catalog.segments.values();
    segments.map(|segment| segment.records()).sum()
}

/// Records in heads that the catalog does not cover, and records in the catalog.
async fn visible(world: &World, ingester: &Ingester) -> (usize, u64) {
    let request = everything(Selector::default());
    let heads = ingester.recent(request).await.unwrap().heads;
    let catalog = world.meta.catalog();
    let open = heads.iter().filter(|head| !catalog.covers(head.head));
    let batches = open.flat_map(|head| &head.batches);
    (
        batches.map(|held| held.batch.len()).sum(),
        records_of(&catalog),
    )
}

async fn recent(world: &World, ingester: &Ingester) -> usize {
    visible(world, ingester).await.0
}

async fn all(world: &World, ingester: &Ingester) -> u64 {
    let (heads, segments) = visible(world, ingester).await;
    heads as u64 + segments
}

#[tokio::test]
async fn batches_are_seen_at_once_and_move_to_a_segment_when_flushed() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    let mut tail = ingester.tail();
    ingester.ingest(vec![request(1), request(2)]).await.unwrap();
    assert_eq!(recent(&world, &ingester).await, 2);
    let first = tail.recv().await.unwrap();
    assert_eq!((first.id, first.batch), (BatchId(1), request(1).batch));
    let odd = model::LabelMatcher::text("app", false, "odd");
    let found = ingester
        .recent(everything(Selector {
            matchers: vec![odd],
        }))
        .await
        .unwrap();
    assert_eq!(found.heads.len(), 1);
    ingester.flush().await.unwrap();
    assert!(recent(&world, &ingester).await == 0);
    assert_eq!((world.records(), world.objects().await), (2, 2));
    let catalog = world.meta.catalog();
    let segment = catalog.segments.values().next().unwrap();
    assert!(
        segment.path.starts_with("segments/c1/logs/1970-01-02/"),
        "{}",
        segment.path
    );
    assert_eq!(
        segment.object_bytes,
        world.storage.size(&segment.path).await.unwrap()
    );
}

#[tokio::test]
async fn a_restart_reads_the_log_back_and_stores_nothing_twice() {
    let mut world = World::new();
    let ingester = world.start().await.unwrap();
    let id = ingester.id();
    ingester
        .ingest((0..10).map(request).collect())
        .await
        .unwrap();
    let ingester = world.crash(ingester, 0).await;
    assert_eq!(ingester.id(), id);
    assert_eq!(all(&world, &ingester).await, 10);
    ingester
        .ingest(vec![request(3), request(11)])
        .await
        .unwrap();
    assert_eq!(all(&world, &ingester).await, 11);
    ingester.flush().await.unwrap();
    assert_eq!(world.records(), 11);
    let ingester = world.crash(ingester, 0).await;
    assert!(recent(&world, &ingester).await == 0);
    assert_eq!(world.records(), 11);
    ingester.ingest(vec![request(12)]).await.unwrap();
    ingester.shutdown().await.unwrap();
    assert_eq!(world.records(), 12);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_made_twice() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    ingester.ingest(vec![request(1)]).await.unwrap();
    world.meta.lose_answers.store(true, Ordering::Relaxed);
    // The catalog tells.
    ingester.flush().await.unwrap();
    assert!(
        recent(&world, &ingester).await == 0,
        "the catalog covers it"
    );
    world.meta.lose_answers.store(false, Ordering::Relaxed);
    ingester.flush().await.unwrap();
    assert_eq!((world.records(), world.objects().await), (1, 1));
}

#[tokio::test]
async fn while_the_coordinator_cannot_be_asked_an_object_is_written_once() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    ingester.ingest(vec![request(1)]).await.unwrap();
    world.meta.dead.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let error = ingester.flush().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(world.objects().await, 1);
    }
    // So late that it may be taken for an orphan any time.
    world
        .now
        .fetch_add(3600 * NANOS_PER_SECOND, Ordering::Relaxed);
    world.meta.dead.store(false, Ordering::Relaxed);
    ingester.flush().await.unwrap();
    assert_eq!((world.records(), world.objects().await), (1, 2));
}

#[tokio::test]
async fn objects_that_nothing_names_are_removed_when_they_are_old() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    ingester.ingest(vec![request(1)]).await.unwrap();
    ingester.flush().await.unwrap();
    let part = bytes::Bytes::from_static(b"left by a crash");
    world
        .storage
        .put("segments/c1/logs/x/1-h1-0-0.seg", vec![part.clone()])
        .await
        .unwrap();
    // Of another cluster, or of this one before its catalog was lost; and no segment at all.
    for others in ["segments/c2/logs/x/1-h1-0-0.seg", "segments/c1/notes.txt"] {
        let put = world.storage.put(others, vec![part.clone()]).await;
        put.unwrap();
    }
    world.now.store(0, Ordering::Relaxed);
    assert_eq!(
        ingester.clean_now().await.unwrap(),
        0,
        "younger than an upload may be"
    );
    world.now.store(i64::MAX / 2, Ordering::Relaxed);
    assert_eq!(ingester.clean_now().await.unwrap(), 1);
    assert_eq!(world.objects().await, 3);
}

#[tokio::test]
async fn a_full_disk_refuses_batches_and_loses_none() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    ingester.ingest(vec![request(1)]).await.unwrap();
    world.disk.set_room(Some(100));
    let error = ingester.ingest(vec![request(2)]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfSpace);
    assert!(
        error.to_string().contains("nothing acknowledged is lost"),
        "{error}"
    );
    assert_eq!(recent(&world, &ingester).await, 1);
    world.disk.set_room(None);
    ingester.ingest(vec![request(2)]).await.unwrap();
    ingester.flush().await.unwrap();
    assert_eq!(world.records(), 2);
}

#[tokio::test]
async fn small_segments_are_merged_and_their_objects_go_after_the_grace() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    for number in 0..9 {
        ingester.ingest(vec![request(number)]).await.unwrap();
        // The same record once more, under another batch id: a copy.
        let mut copy = request(number);
        copy.batch_id = BatchId(1000 + u128::from(number));
        copy.shard = Shard(9);
        ingester.ingest(vec![copy]).await.unwrap();
        ingester.flush().await.unwrap();
    }
    assert_eq!(world.segments(), 18);
    assert_eq!(ingester.merge_now().await.unwrap(), 1);
    assert_eq!((world.segments(), world.records()), (1, 9));
    let catalog = world.meta.catalog();
    let merged = catalog.segments.values().next().unwrap();
    assert_eq!(merged.level, 1);
    assert_eq!(
        (merged.tenants[0].first, merged.tenants[0].last),
        (DAY, DAY + 8)
    );
    assert_eq!(ingester.merge_now().await.unwrap(), 0);
    assert_eq!(
        (ingester.clean_now().await.unwrap(), world.objects().await),
        (0, 19)
    );
    world
        .now
        .fetch_add(601 * NANOS_PER_SECOND, Ordering::Relaxed);
    assert_eq!(
        (ingester.clean_now().await.unwrap(), world.objects().await),
        (18, 1)
    );
    assert!(world.meta.catalog().condemned.is_empty());
    ingester.shutdown().await.unwrap();
}

#[tokio::test]
async fn expired_records_are_dropped_by_segment_and_by_rewriting() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    let times = [DAY, DAY + 1, 5 * DAY, 5 * DAY + 1];
    for (number, time) in times.into_iter().enumerate() {
        let mut request = request_at(number as u64, time);
        request.shard = Shard(if number < 1 { 0 } else { 1 });
        request.slot = Slot(10_000);
        ingester.ingest(vec![request]).await.unwrap();
    }
    ingester.flush().await.unwrap();
    assert_eq!((world.segments(), world.records()), (2, 4));
    let settings = TenantSettings {
        retention_nanos: Some(2 * DAY),
    };
    let command = Command::SetTenant(TenantId::default(), settings);
    world.meta.propose(command).await.unwrap();
    world.now.store(6 * DAY, Ordering::Relaxed);
    assert_eq!(ingester.merge_now().await.unwrap(), 2);
    assert_eq!((world.segments(), world.records()), (1, 2));
    world.now.store(9 * DAY, Ordering::Relaxed);
    ingester.merge_now().await.unwrap();
    assert_eq!(world.segments(), 0);
}

#[tokio::test]
async fn after_shutdown_everything_is_stored_and_nothing_more_is_taken() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    ingester
        .ingest((0..5).map(request).collect())
        .await
        .unwrap();
    ingester.shutdown().await.unwrap();
    assert_eq!(world.records(), 5);
    let error = ingester.ingest(vec![request(6)]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let error = ingester
        .recent(everything(Selector::default()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let first = crate::LogFolder::open(folder.path()).unwrap();
    let error = crate::LogFolder::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    crate::LogFolder::open(folder.path()).unwrap();
}

#[tokio::test]
async fn the_real_folder_appends_cuts_and_removes_files() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("log");
    let files = crate::LogFolder::open(&folder).unwrap();
    let mut file = files.create("wal-a.log").unwrap();
    file.append(&mut [std::io::IoSlice::new(b"one"), std::io::IoSlice::new(b"two")])
        .unwrap();
    file.truncate(4).unwrap();
    file.append(&mut [std::io::IoSlice::new(b"!")]).unwrap();
    file.sync().unwrap();
    files.sync_folder().unwrap();
    let (mut bytes, len) = files.open("wal-a.log").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut bytes, &mut text).unwrap();
    assert_eq!((text.as_str(), len), ("onet!", 5));
    files.remove("wal-a.log").unwrap();
    files.remove("wal-a.log").unwrap();
    assert!(!files.list().unwrap().contains(&"wal-a.log".to_owned()));
}

/// One step of a life with crashes.
#[derive(Clone, Debug)]
enum Step {
    Ingest(u64, u64),
    Flush,
    Crash(u64),
    Merge,
    Delete(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..30_u64, 1..6_u64).prop_map(|(first, count)| Step::Ingest(first, count)),
        2 => Just(Step::Flush),
        2 => (0..2000_u64).prop_map(Step::Crash),
        1 => Just(Step::Merge),
        1 => (0..30_u64, 1..6_u64).prop_map(|(first, count)| Step::Delete(first, count)),
    ];
    prop::collection::vec(step, 1..12)
}

async fn live(steps: &[Step]) {
    let mut world = World::new();
    world.config.wal_file_bytes_max = 1500;
    world.config.head_bytes_max = 3000;
    let mut ingester = world.start().await.unwrap();
    let (mut acknowledged, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    // What comes again after it was deleted may stay or go.
    let mut either = BTreeSet::new();
    for step in steps {
        match step {
            Step::Ingest(first, count) => {
                let numbers = *first..*first + *count;
                ingester
                    .ingest(numbers.clone().map(request).collect())
                    .await
                    .unwrap();
                either.extend(numbers.clone().filter(|number| deleted.contains(number)));
                acknowledged.extend(numbers);
            }
            Step::Flush => ingester.flush().await.unwrap(),
            Step::Crash(keep) => ingester = world.crash(ingester, *keep).await,
            Step::Merge => drop(ingester.merge_now().await.unwrap()),
            Step::Delete(first, count) => {
                let gone = *first..*first + *count;
                delete(&world, "{app=~\".+\"}", gone.clone()).await;
                either.retain(|number| !gone.contains(number));
                deleted.extend(gone);
            }
        }
    }
    ingester.shutdown().await.unwrap();
    let ingester = world.start().await.unwrap();
    assert!(recent(&world, &ingester).await == 0, "all is covered");
    // Copies in different segments are one record: merging shows how many there are.
    ingester.merge_now().await.unwrap();
    assert!(world.meta.catalog().deletes.is_empty());
    let stored = numbers(&world).await;
    let unique: BTreeSet<u64> = stored.iter().copied().collect();
    assert_eq!(unique.len(), stored.len(), "copies");
    for number in acknowledged {
        let (stays, goes) = (unique.contains(&number), deleted.contains(&number));
        assert!(stays != goes || either.contains(&number), "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn through_crashes_flushes_and_merges_each_acknowledged_record_is_there_once(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(live(&steps));
    }
}
