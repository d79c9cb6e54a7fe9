//! Goal: what fails around the work does no harm beyond it: a part that panics, a disk without room, a job
//! that is dropped.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::thread;

use runtime::{Blocking, LockStep};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::*;
use crate::Clock;
use crate::config::MergeConfig;
use crate::merge::{Merger, PlanOptions, plan_merges};
use crate::storage_clock::StorageClock;
use crate::wal::LogFile;

/// A disk under the log that panics when a file is made, and has so much room.
#[derive(Debug)]
struct Disk {
    sim: Sim,
    panics: Arc<AtomicBool>,
    free: Arc<AtomicU64>,
}

impl Disk {
    fn of(world: &World) -> Self {
        Disk {
            sim: Sim(world.disk.clone()),
            panics: Arc::default(),
            free: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl LogFiles for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.sim.list()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        assert!(!self.panics.load(Ordering::Relaxed), "as from a defect");
        self.sim.create(name)
    }
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        self.sim.open(name)
    }
    fn sync_file(&self, name: &str) -> io::Result<()> {
        self.sim.sync_file(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.sim.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.sim.sync_folder()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
}

/// Makes so many segments of one record each.
async fn segments(ingester: &Ingester, segments: u64) {
    for number in 0..segments {
        ingester.ingest(vec![request(number)]).await.unwrap();
        ingester.flush().await.unwrap();
    }
}

/// An ingester with four such segments, how much room its disk has, and its metrics.
async fn with_four_segments(world: &World) -> (Ingester, Arc<AtomicU64>, Metrics) {
    let disk = Disk::of(world);
    let free = Arc::clone(&disk.free);
    let deps = Deps {
        log_files: Some(Arc::new(disk)),
        ..world.deps()
    };
    let metrics = deps.metrics.clone();
    let ingester = Ingester::start(world.config.clone(), deps).await.unwrap();
    segments(&ingester, 4).await;
    (ingester, free, metrics)
}

#[tokio::test]
async fn a_part_that_ended_by_a_panic_is_told_and_does_not_hold_up_the_end() {
    for part in ["task", "maintenance", "log's thread"] {
        let (world, armed) = (World::new(), Arc::new(AtomicBool::new(false)));
        let mut deps = world.deps();
        let clock: Clock = Arc::new({
            let armed = Arc::clone(&armed);
            move || {
                assert!(!armed.load(Ordering::Relaxed), "as from a defect");
                DAY
            }
        });
        match part {
            "task" => deps.clock = clock,
            "maintenance" => deps.storage_clock = Some(clock),
            _ => {
                let mut disk = Disk::of(&world);
                disk.panics = Arc::clone(&armed);
                deps.log_files = Some(Arc::new(disk));
            }
        }
        let started = Ingester::start(world.config.clone(), deps).await;
        let ingester = started.unwrap();
        armed.store(true, Ordering::Relaxed);
        let (error, ..) = tokio::join!(
            ingester.failed(),
            ingester.merge_now(),
            // With the log's thread its answer is gone.
            tokio::time::timeout(Duration::ZERO, ingester.ingest(vec![request(1)])),
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!("the {part} of the ingester")),
            "{text}"
        );
        assert!(ingester.shutdown().await.is_err());
    }
}

#[tokio::test]
async fn what_does_not_fit_the_disk_of_the_log_beside_the_log_waits_for_room() {
    let mut world = World::new();
    world.config.wal_file_bytes_max = 1 << 20;
    let (ingester, free, _) = with_four_segments(&world).await;
    let catalog = world.meta.catalog();
    let bytes = catalog
        .segments
        .values()
        .map(|s| s.object_bytes)
        .sum::<u64>();
    delete(&world, "{app=~\".+\"} |= \"line 3\"", 0..9).await;
    free.store((4 << 20) + 1, Ordering::Relaxed);
    let passed = ingester.merge_now().await.unwrap();
    assert_eq!((passed, world.segments(), world.records()), (3, 4, 4));
    free.store((4 << 20) + bytes, Ordering::Relaxed);
    assert!(ingester.merge_now().await.unwrap() > 0);
    assert_eq!((world.segments(), world.records()), (1, 3));
    // What needs no room does not wait for it.
    free.store(0, Ordering::Relaxed);
    let settings = TenantSettings {
        retention_nanos: Some(DAY),
    };
    let command = Command::SetTenant(TenantId::default(), settings);
    world.meta.propose(command).await.unwrap();
    world.now.store(9 * DAY, Ordering::Relaxed);
    assert_eq!(ingester.merge_now().await.unwrap(), 1);
    assert_eq!(world.segments(), 0);
}

#[tokio::test]
async fn without_room_segments_are_searched_once_and_only_those_with_deleted_records_wait() {
    let mut world = World::new();
    world.config.merge.small_bytes_max = 1;
    let (ingester, free, metrics) = with_four_segments(&world).await;
    free.store(0, Ordering::Relaxed);
    let absent = delete(&world, "{app=~\".+\"} |= \"line 77 \"", 0..3).await;
    let held = delete(&world, "{app=~\".+\"} |= \"line 3\"", 0..9).await;
    ingester.merge_now().await.unwrap();
    let catalog = world.meta.catalog();
    assert!(catalog.past_deletes.contains_key(&absent));
    assert_eq!(catalog.deletes[&held].pending.len(), 1);
    let searches = metrics.delete_searches.get();
    assert_eq!(ingester.merge_now().await.unwrap(), 0);
    assert_eq!(metrics.delete_searches.get(), searches);
    free.store(u64::MAX, Ordering::Relaxed);
    ingester.merge_now().await.unwrap();
    assert!(world.meta.catalog().deletes.is_empty());
    assert_eq!(world.records(), 3);
}

#[tokio::test]
async fn what_waits_for_room_is_searched_again_when_the_request_that_it_waits_for_is_taken_back() {
    let mut world = World::new();
    world.config.merge.small_bytes_max = 1;
    let (ingester, free, _) = with_four_segments(&world).await;
    free.store(0, Ordering::Relaxed);
    let held = delete(&world, "{app=~\".+\"} |= \"line 3\"", 0..9).await;
    ingester.merge_now().await.unwrap();
    let absent = delete(&world, "{app=~\".+\"} |= \"line 77 \"", 0..9).await;
    ingester.merge_now().await.unwrap();
    let catalog = world.meta.catalog();
    assert_eq!(
        catalog.deletes[&held].pending,
        catalog.deletes[&absent].pending
    );
    let cancel = Command::CancelDelete(held);
    world.meta.propose(cancel).await.unwrap();
    ingester.merge_now().await.unwrap();
    assert!(world.meta.catalog().past_deletes.contains_key(&absent));
    assert_eq!(world.records(), 4);
}

#[tokio::test]
async fn a_real_folder_tells_how_much_room_there_is() {
    let folder = TempDir::new().unwrap();
    let log = crate::LogFolder::open(folder.path()).unwrap();
    let free = log.free_bytes().unwrap();
    assert!(free > 0 && free < u64::MAX, "{free}");
}

/// Blocking work whose first wait lasts until it is let go.
struct Gate {
    runtime: Handle,
    waits: AtomicU64,
    arrived: Notify,
    open: (Mutex<bool>, parking_lot::Condvar),
    work: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl LockStep for Gate {
    fn start(&self, work: Box<dyn FnOnce() + Send>) {
        self.work.lock().push(thread::spawn(work));
    }
    fn wait(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.arrived.notify_one();
        let mut open = self.open.0.lock();
        self.open.1.wait_while(&mut open, |open| !*open);
        self.runtime.block_on(future);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_merge_that_is_dropped_reads_no_further_and_leaves_no_file() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    segments(&ingester, 4).await;
    let gate = Arc::new(Gate {
        runtime: Handle::current(),
        waits: AtomicU64::new(0),
        arrived: Notify::new(),
        open: Default::default(),
        work: Mutex::default(),
    });
    let deps = Deps {
        blocking: Blocking::lock_step(Arc::clone(&gate) as Arc<dyn LockStep>),
        ..world.deps()
    };
    let clock = StorageClock::given(&deps.clock);
    let metrics = Arc::new(deps.metrics.clone());
    let flags = (Arc::default(), Arc::default());
    let merger = Merger::new(1, &world.config, &deps, clock, metrics, flags.0, flags.1);
    let options = PlanOptions {
        merge: MergeConfig::default(),
        retention_nanos: 0,
        everything_small: true,
        skip: Default::default(),
    };
    let catalog = world.meta.catalog();
    let plan = plan_merges(&catalog, DAY, &options).remove(0);
    let files = || {
        let folder = std::fs::read_dir(world.config.data_dir.join("tmp"));
        folder.unwrap().count()
    };
    tokio::select! {
        done = merger.run(plan, &catalog, DAY, true) => panic!("{done:?}"),
        () = gate.arrived.notified() => assert_eq!(files(), 1),
    }
    *gate.open.0.lock() = true;
    gate.open.1.notify_all();
    let work = std::mem::take(&mut *gate.work.lock());
    let ended = tokio::task::spawn_blocking(|| work.into_iter().all(|work| work.join().is_ok()));
    assert!(ended.await.unwrap());
    assert_eq!((gate.waits.load(Ordering::Relaxed), files()), (1, 0));
}
