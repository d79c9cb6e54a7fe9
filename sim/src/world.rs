//! Everything that a run consists of, and what may be done to it from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meta::store::MemoryStore;
use parking_lot::Mutex;
use runtime::Blocking;
use testkit::SimBucket;
use testkit::sim_disk::SimDisk;
use tokio::time::Instant;

use crate::bucket::{BucketSky, BucketWeather};
use crate::deletes::Asked;
use crate::dice::Dice;
use crate::invariants::{Checks, RecordNumber};
use crate::life::{EPOCH, Life, SkewedClock};
use crate::losses::Lost;
use crate::net::{Net, Weather};
use crate::plan::{Placed, Plan};
use crate::process::{Run, Site};
use crate::records::Sent;
use crate::steps::Steps;
use crate::trace::Trace;

/// A write of a coordinator takes so long.
pub(crate) const STORE_WRITE: Duration = Duration::from_millis(2);
/// When a process that failed is started again.
const START_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What different dice are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Plan,
    Net,
    Bucket,
    Disks,
    Crashes,
    Faults,
    Batches,
    Clients,
    Queries,
    Deletes,
    Tails,
    Raises,
    Leaks,
}

/// How much was tried in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: u64,
    /// Of the requests that were acknowledged.
    pub(crate) acknowledged_bytes: u64,
}

/// A run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) began: Instant,
    pub(crate) trace: Arc<Trace>,
    pub(crate) checks: Arc<Checks>,
    pub(crate) net: Arc<Net>,
    pub(crate) bucket: SimBucket,
    pub(crate) sky: Arc<BucketSky>,
    pub(crate) blocking: Blocking,
    pub(crate) disk_dice: Arc<Dice>,
    pub(crate) batch_dice: Arc<Dice>,
    pub(crate) tally: Mutex<Tally>,
    /// Every record that somebody tried to store.
    pub(crate) sent: Mutex<BTreeMap<RecordNumber, Sent>>,
    /// Every request to delete.
    pub(crate) asked: Mutex<Vec<Arc<Asked>>>,
    /// Runs at which a view reads history, until when at most.
    pub(crate) history: Mutex<BTreeMap<u64, Instant>>,
    /// What was on disks that are lost.
    pub(crate) lost: Mutex<Lost>,
    crash_dice: Dice,
    folder: PathBuf,
    lives: AtomicU64,
    sites: Mutex<BTreeMap<Arc<str>, Arc<Site>>>,
    runs: Mutex<BTreeMap<Arc<str>, Run>>,
}

impl World {
    /// Must be called within the runtime. Temporary files go to the folder;
    /// `kept` lines of the trace are kept.
    pub(crate) fn new(seed: u64, plan: Plan, folder: PathBuf, kept: usize) -> Arc<Self> {
        let dice = |purpose: Purpose| Dice::new(seed, purpose as u64);
        let trace = Arc::new(Trace::new(kept));
        let checks = Arc::new(Checks::new(Arc::clone(&trace)));
        let began = Instant::now();
        let net = Net::new(
            Arc::clone(&trace),
            Arc::clone(&checks),
            dice(Purpose::Net),
            plan.costs,
        );
        let sky = BucketSky {
            began,
            weather: Mutex::new(BucketWeather::FAIR),
            dice: dice(Purpose::Bucket),
            trace: Arc::clone(&trace),
            checks: Arc::clone(&checks),
        };
        let first = plan.first.clone();
        let world = Arc::new(World {
            seed,
            plan,
            began,
            trace,
            checks,
            net: Arc::new(net),
            bucket: SimBucket::default(),
            sky: Arc::new(sky),
            blocking: Blocking::lock_step(Arc::new(Steps::new())),
            disk_dice: Arc::new(dice(Purpose::Disks)),
            batch_dice: Arc::new(dice(Purpose::Batches)),
            tally: Mutex::default(),
            sent: Mutex::default(),
            asked: Mutex::default(),
            lost: Mutex::default(),
            history: Mutex::default(),
            crash_dice: dice(Purpose::Crashes),
            folder,
            lives: AtomicU64::new(0),
            sites: Mutex::default(),
            runs: Mutex::default(),
        });
        for placed in first {
            world.place(placed);
        }
        world
    }

    /// The time as it is, which no process knows.
    pub(crate) fn now(&self) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_nanos());
        EPOCH.saturating_add(passed.unwrap_or(i64::MAX))
    }

    /// Sets a process up that has never run.
    pub(crate) fn place(&self, placed: Placed) {
        let address = Arc::clone(&placed.address);
        let clock = SkewedClock::new(self.began, placed.ahead_nanos);
        let site = Site {
            clock: Arc::new(clock),
            disk: Mutex::new(SimDisk::new()),
            store: Mutex::new(MemoryStore::new(STORE_WRITE)),
            pace: Arc::new(Mutex::new(self.plan.disk)),
            folder: self.folder.join(&*address),
            processor: Arc::default(),
            is_to_leave: false.into(),
            has_left: false.into(),
            placed,
        };
        self.sites.lock().insert(address, Arc::new(site));
    }

    /// Starts a process, unless it runs or has left.
    pub(crate) fn start(self: &Arc<Self>, address: &str) {
        let Some(site) = self.site(address).filter(|site| !site.has_left()) else {
            return;
        };
        let mut runs = self.runs.lock();
        if runs.contains_key(address) {
            return;
        }
        let number = self.lives.fetch_add(1, Ordering::Relaxed);
        let life = Arc::new(Life::new(&site.placed.address, number));
        self.trace.tell(format_args!("{address} starts"));
        let run = Run::new(Arc::clone(&life));
        runs.insert(Arc::clone(&site.placed.address), run);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let booted = life.live(world.boot(&site, &life)).await;
            let Some(Err(error)) = booted else {
                return;
            };
            let address = &site.placed.address;
            world.trace.tell(format_args!("{address} fails: {error:#}"));
            let forgotten = matches!(error.downcast_ref(), Some(meta::Error::Forgotten { .. }));
            if forgotten && site.is_to_leave.load(Ordering::Relaxed) {
                // It had left, and crashed before it ended.
                world.retire(&site);
                return;
            }
            world.crash(address);
            tokio::time::sleep(START_AGAIN_AFTER).await;
            world.start(address);
        });
    }

    /// As by a power cut: what was not synced is lost, or a part of it.
    pub(crate) fn crash(&self, address: &str) {
        let Some(site) = self.site(address) else {
            return;
        };
        if !self.end(&site, "crashes") {
            return;
        }
        self.tally.lock().crashes += 1;
        let dice = &self.crash_dice;
        let keep = match dice.chance(500) {
            true => dice.below(4096),
            false => 0,
        };
        let (garbage, names) = (dice.chance(300), dice.chance(500));
        let mut disk = site.disk.lock();
        let after = disk.after_crash(keep, garbage, names);
        disk.cut_power();
        *disk = after;
    }

    /// The process has left for good.
    pub(crate) fn retire(&self, site: &Site) {
        site.has_left.store(true, Ordering::Relaxed);
        self.end(site, "has left");
    }

    /// Ends the run of a process, if there is one.
    fn end(&self, site: &Site, how: &str) -> bool {
        let address = &site.placed.address;
        let Some(run) = self.runs.lock().remove(address) else {
            return false;
        };
        self.trace.tell(format_args!("{address} {how}"));
        run.life.end();
        self.net.close(address);
        let mut store = site.store.lock();
        *store = store.reopen();
        if let Some(node) = run.node {
            tokio::spawn(async move { node.shutdown().await });
        }
        true
    }

    pub(crate) fn site(&self, address: &str) -> Option<Arc<Site>> {
        self.sites.lock().get(address).cloned()
    }

    /// All processes that have not left.
    pub(crate) fn sites(&self) -> Vec<Arc<Site>> {
        let sites = self.sites.lock();
        let staying = sites.values().filter(|site| !site.has_left());
        staying.cloned().collect()
    }

    /// All runs, in order of address.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.runs.lock().values().cloned().collect()
    }

    pub(crate) fn run_of(&self, address: &str) -> Option<Run> {
        self.runs.lock().get(address).cloned()
    }

    /// Changes what is known of a run that still goes on.
    pub(crate) fn update(&self, life: &Life, change: impl FnOnce(&mut Run)) {
        let mut runs = self.runs.lock();
        if let Some(run) = runs.get_mut(&life.address)
            && run.life.number == life.number
        {
            change(run);
        }
    }

    /// Faults begin, as the plan has it.
    pub(crate) fn cloud(&self) {
        self.net.set_weather(self.plan.weather);
        *self.sky.weather.lock() = self.plan.bucket;
    }

    /// Everything works again; crashed processes start.
    pub(crate) fn heal(self: &Arc<Self>) {
        self.trace.tell("everything works again");
        self.net.set_weather(Weather::FAIR);
        self.net.mend();
        *self.sky.weather.lock() = BucketWeather::FAIR;
        for site in self.sites() {
            *site.pace.lock() = self.plan.disk;
            let disk = site.disk.lock();
            disk.set_room(None);
            disk.fail_syncs(0);
            drop(disk);
            site.clock.set(site.placed.ahead_nanos);
            self.start(&site.placed.address);
        }
    }
}
