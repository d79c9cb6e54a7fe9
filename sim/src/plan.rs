//! What a seed makes of a run: who is there, how they are set up, how bad it gets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meta::Timings;
use model::SlotLength;
use rpc::{ClusterShape, RoleSet};

use crate::bucket::BucketWeather;
use crate::cost::Costs;
use crate::dice::Dice;
use crate::disk::DiskPace;
use crate::mutants::Mutant;
use crate::net::Weather;
use crate::records::TENANTS_MAX;

pub(crate) const DISTRIBUTOR: RoleSet = RoleSet {
    distributor: true,
    ingester: false,
    querier: false,
};
pub(crate) const INGESTER: RoleSet = RoleSet {
    distributor: false,
    ingester: true,
    querier: false,
};
pub(crate) const QUERIER: RoleSet = RoleSet {
    distributor: false,
    ingester: false,
    querier: true,
};
pub(crate) const ALL_ROLES: RoleSet = RoleSet {
    distributor: true,
    ingester: true,
    querier: true,
};

/// A process that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) address: Arc<str>,
    pub(crate) zone: Arc<str>,
    pub(crate) roles: RoleSet,
    pub(crate) ahead_nanos: i64,
}

/// How a run is set up.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: ClusterShape,
    pub(crate) voters: usize,
    pub(crate) timings: Timings,
    /// Those that are there from the beginning.
    pub(crate) first: Vec<Placed>,
    /// Those that may join later.
    pub(crate) later: Vec<Placed>,
    pub(crate) ingester: ingester::Config,
    pub(crate) disk: DiskPace,
    pub(crate) bucket: BucketWeather,
    /// How messages fare while faults happen.
    pub(crate) weather: Weather,
    pub(crate) costs: Costs,
    /// For how long there are faults and load.
    pub(crate) trouble: Duration,
    /// The time between two faults is drawn up to this; zero makes none.
    pub(crate) fault_every: Duration,
    /// How many tenants there are.
    pub(crate) tenants: u64,
    /// The time between two requests to delete is drawn up to this; zero makes none.
    pub(crate) delete_every: Duration,
    /// A clock that jumps is off by at most this.
    pub(crate) skew_max: Duration,
    pub(crate) querier: querier::Config,
    pub(crate) distributor: distributor::Settings,
    /// What is wrong on purpose.
    pub(crate) mutant: Option<Mutant>,
}

const NANOS_PER_MILLI: i64 = 1_000_000;
/// Most clusters' clocks agree this well; those of the others are off by up to more than a day.
const SKEW_MAX: Duration = Duration::from_secs(2);
const BAD_SKEW_MAX: Duration = Duration::from_secs(26 * 3600);
/// A distributor goes on for 10 s after its quorum, and the net brings a copy 9 s late.
const LATE_COPIES: Duration = Duration::from_secs(25);
/// Without these two: a call may be almost a second late, and wait for room or a ring.
const FEW_COPIES: Duration = Duration::from_secs(5);
/// A query may take so long: well below the grace of deleted objects.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plan {
    pub(crate) fn draw(dice: &Dice) -> Plan {
        let ingesters = 3 + dice.below(2);
        let together = dice.chance(300);
        let skew_max = match dice.chance(250) {
            true => BAD_SKEW_MAX,
            false => SKEW_MAX,
        };
        let place = |name: String, zone: u64, roles: RoleSet| {
            // Of bad clocks there are few.
            let skew_max = match dice.chance(300) {
                true => skew_max,
                false => SKEW_MAX,
            };
            Placed {
                ahead_nanos: skew(dice, skew_max),
                ..placed(&name, zone, roles)
            }
        };
        let mut first = Vec::new();
        for at in 0..ingesters {
            let roles = if together { ALL_ROLES } else { INGESTER };
            first.push(place(format!("i{at}"), at % 3, roles));
        }
        if !together {
            for at in 0..2 {
                first.push(place(format!("d{at}"), at, DISTRIBUTOR));
                first.push(place(format!("q{at}"), at, QUERIER));
            }
        }
        let later = (ingesters..ingesters + 2)
            .map(|at| place(format!("i{at}"), at % 3, INGESTER))
            .collect();
        let slot = 2000 + dice.below(5000);
        let replicas = [3, 3, 3, 2, 1][dice.below(5) as usize];
        let deletes = dice.chance(500);
        let plan = Plan {
            shape: ClusterShape {
                shards: 1 + dice.below(6) as u32,
                replicas,
                slot_nanos: slot as i64 * NANOS_PER_MILLI,
            },
            voters: 3,
            timings: Timings {
                forget_after: Duration::from_secs(15),
                replace_voter_after: Duration::from_secs(20),
                snapshot_commands: 4 + dice.below(60),
                ..Timings::default()
            },
            first,
            later,
            ingester: ingester_config(dice, slot),
            disk: DiskPace {
                sync_min: millis(1),
                sync_max: millis(1 + dice.below(30)),
                bytes_per_second: 0,
            },
            bucket: BucketWeather {
                fails: [0, 0, 20, 100][dice.below(4) as usize],
                ..BucketWeather::FAIR
            },
            weather: Weather {
                lost: [0, 5, 30, 60][dice.below(4) as usize],
                doubled: [0, 20, 60, 200][dice.below(4) as usize],
                late: [0, 50, 120][dice.below(3) as usize],
                late_max: millis(900),
                ..Weather::FAIR
            },
            costs: Costs::NONE,
            // Where there are deletes, so long that requests end.
            trouble: Duration::from_secs(20 + dice.below(30)) + LATE_COPIES * u32::from(deletes),
            fault_every: Duration::from_secs(1 + dice.below(6)),
            tenants: 1 + dice.below(TENANTS_MAX),
            delete_every: millis(8000) * u32::from(deletes),
            skew_max,
            querier: querier::Config {
                // Half of the seeds spread whatever can be spread.
                query_spread_bytes: dice.below(2),
                ..querier_config()
            },
            distributor: distributor::Settings {
                // Half of the seeds spread the busiest streams over several shards.
                shard_stream_bytes_per_second: [8 << 20, 60][dice.below(2) as usize],
                // In a third nobody waits for more than a quorum.
                late_bytes_max: [64 << 20, 64 << 20, 0][dice.below(3) as usize],
                ..distributor_settings()
            },
            mutant: None,
        };
        match deletes && dice.chance(600) {
            true => plan.without_late_copies(),
            false => plan,
        }
    }
}

impl Plan {
    /// Whether messages may come so late that their senders have given them up.
    pub(crate) fn may_stall(&self) -> bool {
        self.weather.doubled > 0
    }

    /// No copy is long on its way, so that delete requests end soon, and many in one run.
    fn without_late_copies(mut self) -> Plan {
        self.weather.doubled = 0;
        self.distributor.late_bytes_max = 0;
        self.ingester.late_copies = FEW_COPIES;
        self
    }
}

/// A process whose clock is right.
pub(crate) fn placed(address: &str, zone: u64, roles: RoleSet) -> Placed {
    Placed {
        address: address.into(),
        zone: format!("z{zone}").into(),
        roles,
        ahead_nanos: 0,
    }
}

/// How wrong a clock is, in either direction.
pub(crate) fn skew(dice: &Dice, most: Duration) -> i64 {
    let ahead = dice.between(Duration::ZERO, most * 2).as_nanos();
    ahead as i64 - most.as_nanos() as i64
}

pub(crate) fn querier_config() -> querier::Config {
    querier::Config {
        query_workers: 1,
        query_timeout: QUERY_TIMEOUT,
        entries_max: 1_000_000,
        ..querier::Config::default()
    }
}

pub(crate) fn distributor_settings() -> distributor::Settings {
    distributor::Settings {
        // A record is no worse for the clock of the distributor that it comes to.
        creation_grace: 0,
        ..distributor::Settings::default()
    }
}

fn ingester_config(dice: &Dice, slot_millis: u64) -> ingester::Config {
    ingester::Config {
        data_dir: PathBuf::new(),
        slot_length: SlotLength(slot_millis as i64 * NANOS_PER_MILLI),
        slot_grace: millis(500),
        head_bytes_max: 16 << 10,
        memory_bytes_max: 256 << 10,
        room_wait: millis(1000),
        wal_file_bytes_max: 1024 << dice.below(5),
        flush_workers: 1 + dice.below(2) as usize,
        takeover_delay: millis(1500),
        // Less than a distributor gives a call, and more.
        owner_timeout: millis([1500, 1500, 8000][dice.below(3) as usize]),
        lease_duration: Duration::from_secs([6, 6, 30][dice.below(3) as usize]),
        merge: ingester::MergeConfig {
            interval: millis(2000),
            inputs_min: 2 + dice.below(4) as usize,
            inputs_max: 8,
            backlog_max: [0, 10][dice.below(2) as usize],
            ..ingester::MergeConfig::default()
        },
        retention: match dice.below(3) {
            0 => Duration::from_secs(15 + dice.below(20)),
            _ => Duration::ZERO,
        },
        delete_grace: Duration::from_secs(40),
        orphan_age: Duration::from_secs(120),
        late_copies: LATE_COPIES,
    }
}
