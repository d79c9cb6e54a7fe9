//! What goes wrong, one thing after another, as the seed draws it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::NodeId;
use rpc::{Command, MemberState, MetaApi};

use crate::bucket::BucketWeather;
use crate::dice::Dice;
use crate::disk::DiskPace;
use crate::net::Weather;
use crate::plan::{Placed, skew};
use crate::process::{Run, Site};
use crate::world::{Purpose, World};

/// A process that has crashed comes back after at most this time.
const DOWN_MAX: Duration = Duration::from_secs(12);
/// A wire may be stuck for so long.
const STALL_MAX: Duration = Duration::from_secs(4);
/// Room of a disk that runs full.
const ROOM_MAX: u64 = 20_000;
/// Ingesters that stay at least.
const STAYING_MIN: usize = 3;

/// What may happen, with how often in comparison.
const FAULTS: &[(u64, Fault)] = &[
    (14, Fault::Crash),
    (2, Fault::CrashAllIngesters),
    (10, Fault::CutOneWay),
    (8, Fault::CutBothWays),
    (6, Fault::Isolate),
    (14, Fault::Mend),
    (6, Fault::BadWeather),
    (4, Fault::Stall),
    (8, Fault::SlowDisk),
    (4, Fault::FullDisk),
    (5, Fault::FailingSyncs),
    (5, Fault::BucketAway),
    (5, Fault::ClockJumps),
    (5, Fault::Flush),
    (4, Fault::Merge),
    (3, Fault::Clean),
    (3, Fault::Join),
    (2, Fault::Leave),
    (5, Fault::RingChangesBehindReader),
    (4, Fault::LoseDisks),
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash,
    CrashAllIngesters,
    CutOneWay,
    CutBothWays,
    Isolate,
    Mend,
    BadWeather,
    Stall,
    SlowDisk,
    FullDisk,
    FailingSyncs,
    BucketAway,
    ClockJumps,
    Flush,
    Merge,
    Clean,
    Join,
    Leave,
    RingChangesBehindReader,
    LoseDisks,
}

impl World {
    /// Never returns.
    pub(crate) async fn make_trouble(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Faults as u64);
        let mut later = self.plan.later.clone();
        later.reverse();
        loop {
            let pause = dice.between(Duration::from_millis(50), self.plan.fault_every);
            tokio::time::sleep(pause).await;
            let fault = draw(&dice);
            self.trace.tell(format_args!("fault: {fault:?}"));
            self.tally.lock().faults += 1;
            match fault {
                Fault::Join => {
                    if let Some(placed) = later.pop() {
                        self.start_new(placed);
                    }
                }
                Fault::RingChangesBehindReader => {
                    let split = self.cut_off_reader(&dice);
                    if let Some(placed) = later.pop() {
                        split.keep_apart(&self, &placed.address);
                        self.start_new(placed);
                    } else {
                        let ingesters = self.ingesters();
                        let is_there = |site: &&Arc<Site>| {
                            let mut there = split.there.iter();
                            there.any(|other| Arc::ptr_eq(other, site))
                        };
                        // Of those that joined later, which may leave.
                        if let Some(last) = ingesters.iter().rfind(is_there) {
                            self.tell_to_leave(last, &ingesters);
                        }
                    }
                }
                fault => self.break_something(fault, &dice),
            }
        }
    }

    fn ingesters(&self) -> Vec<Arc<Site>> {
        let sites = self.sites().into_iter();
        let ingesters = sites.filter(|site| site.placed.roles.ingester);
        ingesters.collect()
    }

    fn start_new(self: &Arc<Self>, placed: Placed) {
        let address = Arc::clone(&placed.address);
        self.place(placed);
        self.start(&address);
    }

    fn break_something(self: &Arc<Self>, fault: Fault, dice: &Dice) {
        let (sites, ingesters) = (self.sites(), self.ingesters());
        let (Some(any), Some(other)) = (dice.pick(&sites), dice.pick(&sites)) else {
            return;
        };
        let Some(ingester) = dice.pick(&ingesters) else {
            return;
        };
        let (one, two) = (&any.placed.address, &other.placed.address);
        match fault {
            Fault::Crash => self.crash_for_a_while(any, dice),
            Fault::CrashAllIngesters => {
                for site in &ingesters {
                    self.crash_for_a_while(site, dice);
                }
            }
            Fault::CutOneWay => self.net.cut(one, two),
            Fault::CutBothWays => {
                self.net.cut(one, two);
                self.net.cut(two, one);
            }
            Fault::Isolate => {
                for site in &sites {
                    self.net.cut(one, &site.placed.address);
                    self.net.cut(&site.placed.address, one);
                }
            }
            Fault::Mend => self.mend(),
            Fault::BadWeather => self.net.set_weather(Weather {
                lost: dice.below(200),
                ..self.plan.weather
            }),
            Fault::Stall if self.plan.may_stall() => {
                let time = dice.between(Duration::ZERO, STALL_MAX);
                self.net.stall(one, time);
            }
            Fault::SlowDisk => {
                *ingester.pace.lock() = DiskPace {
                    sync_max: Duration::from_millis(dice.below(3000)),
                    ..self.plan.disk
                };
            }
            Fault::FullDisk => {
                let room = dice.below(ROOM_MAX);
                ingester.disk.lock().set_room(Some(room));
            }
            Fault::FailingSyncs => {
                let syncs = 1 + dice.below(3) as u32;
                ingester.disk.lock().fail_syncs(syncs);
            }
            Fault::BucketAway => {
                *self.sky.weather.lock() = BucketWeather {
                    away: true,
                    ..self.plan.bucket
                };
            }
            Fault::ClockJumps => {
                any.clock.set(skew(dice, self.plan.skew_max));
            }
            Fault::Flush | Fault::Merge | Fault::Clean => self.maintain(fault, ingester),
            Fault::Leave => self.tell_to_leave(ingester, &ingesters),
            Fault::LoseDisks => self.lose_disks(&ingesters, dice),
            Fault::Stall | Fault::Join | Fault::RingChangesBehindReader => {}
        }
    }

    fn crash_for_a_while(self: &Arc<Self>, site: &Site, dice: &Dice) {
        let address = Arc::clone(&site.placed.address);
        let down = dice.between(Duration::from_millis(100), DOWN_MAX);
        self.crash(&address);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(down).await;
            world.start(&address);
        });
    }

    fn mend(&self) {
        self.net.mend();
        self.cloud();
        for site in self.sites() {
            *site.pace.lock() = self.plan.disk;
            site.disk.lock().set_room(None);
        }
    }

    /// What somebody may ask an ingester to do; nobody waits for it.
    fn maintain(&self, what: Fault, site: &Site) {
        let run = self.run_of(&site.placed.address);
        let Some(Run {
            ingester: Some(ingester),
            life,
            ..
        }) = run
        else {
            return;
        };
        let trace = Arc::clone(&self.trace);
        tokio::spawn(async move {
            let done = life.live(async {
                match what {
                    Fault::Merge => ingester.merge_now().await.map(drop),
                    Fault::Clean => ingester.clean_now().await.map(drop),
                    _ => rpc::IngestApi::flush(&ingester).await,
                }
            });
            let done = done.await;
            trace.tell(format_args!("{} {what:?}: {done:?}", life.address));
        });
    }

    fn tell_to_leave(&self, site: &Site, ingesters: &[Arc<Site>]) {
        let run = self.run_of(&site.placed.address);
        let node = run.and_then(|run| Some((run.life, run.node?)));
        let Some((life, node)) = node else {
            return;
        };
        let catalog = node.catalog();
        let active = catalog.cluster.ingesters();
        let active = active.filter(|member| member.state == MemberState::Active);
        let Some(id) = node.id() else {
            return;
        };
        // Those of the beginning are where others look for the cluster.
        let founders = self.plan.first.iter().take(STAYING_MIN);
        let mut founders = founders.map(|placed| &placed.address);
        if ingesters.len() <= STAYING_MIN
            || active.count() <= STAYING_MIN
            || founders.any(|address| *address == site.placed.address)
        {
            return;
        }
        site.is_to_leave.store(true, Ordering::Relaxed);
        let trace = Arc::clone(&self.trace);
        tokio::spawn(async move {
            let leave = Command::SetState(NodeId(id.0), MemberState::Leaving);
            let told = life.live(node.propose(leave)).await;
            trace.tell(format_args!("{} is to leave: {told:?}", life.address));
        });
    }
}

fn draw(dice: &Dice) -> Fault {
    let all: u64 = FAULTS.iter().map(|(weight, _)| weight).sum();
    let mut left = dice.below(all);
    for (weight, fault) in FAULTS {
        if left < *weight {
            return *fault;
        }
        left -= weight;
    }
    Fault::Mend
}
