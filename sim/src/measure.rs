//! Figures of a cluster that come from simulated time: how throughput grows with ingesters, and what
//! several owners cost in stored bytes.

use std::sync::Arc;
use std::time::Duration;

use meta::Timings;
use model::NANOS_PER_SECOND;
use rpc::ClusterShape;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bucket::BucketWeather;
use crate::cost::Costs;
use crate::disk::DiskPace;
use crate::net::Weather;
use crate::plan::{
    ALL_ROLES, DISTRIBUTOR, INGESTER, Placed, Plan, distributor_settings, placed, querier_config,
};
use crate::records::{Client, Sender};
use crate::run::{Verdict, in_world};
use crate::world::World;

/// The prices of the write path. Bytes are those of lines:
///
/// - a distributor needs 3 ns a byte (decoding, sorting, sending), an owner 1.4 ns: 0.7 for log and
///   head, and a third of the 2.1 that encoding takes, which one of three owners does. Together, for
///   one owner, that is what `make bench` sees: 1.3 million lines of 137 bytes a second. An owner in the
///   distributor's own process costs the same; without its price a node of three would seem to take a
///   fifth more, for it has a third of the copies at home, and one of nine a ninth;
/// - a call costs 50 µs where it is served, a wire carries 1.25 GB/s (10 Gbit/s), a disk syncs in 1 to
///   4 ms, whatever was written;
/// - a simulated byte stands for 128, so that requests are of about a megabyte, as collectors send.
const COSTS: Costs = Costs {
    call: Duration::from_micros(50),
    owner_byte_picos: 1400,
    distributor_byte_picos: 3000,
    wire_bytes_per_second: 1_250_000_000,
    scale: 128,
};
const DISK: DiskPace = DiskPace {
    sync_min: Duration::from_millis(1),
    sync_max: Duration::from_millis(4),
    bytes_per_second: 0,
};
/// Clients that always have a request under way, for each ingester: enough that none is ever idle.
const CLIENTS_PER_NODE: u64 = 8;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_millis(2500);

const TRACE_LINES: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_SLOT_NANOS: i64 = 120 * NANOS_PER_SECOND;
const HOUR_SHARDS: u32 = 4;
/// Records come this often in the hour.
const HOUR_PUSH_EVERY: Duration = Duration::from_millis(2000);
/// Some ingester restarts this often.
const HOUR_RESTART_EVERY: Duration = Duration::from_secs(150);
const HOUR_DOWN: Duration = Duration::from_secs(20);

/// What an hour of load left in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourOfLoad {
    /// Bytes of all objects.
    pub stored_bytes: u64,
    /// Objects whose flush was committed.
    pub uploads: u64,
    /// Different (shard, slot, ring) among these.
    pub keys: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Crashes of ingesters.
    pub crashes: u64,
}

fn calm(nodes: Vec<Placed>, shape: ClusterShape, ingester: ingester::Config) -> Plan {
    Plan {
        shape,
        voters: 3,
        timings: Timings::default(),
        first: nodes,
        later: Vec::new(),
        ingester,
        disk: DISK,
        bucket: BucketWeather::FAIR,
        weather: Weather::FAIR,
        costs: Costs::NONE,
        trouble: Duration::ZERO,
        fault_every: Duration::ZERO,
        tenants: 1,
        delete_every: Duration::ZERO,
        skew_max: Duration::ZERO,
        querier: querier_config(),
        distributor: distributor_settings(),
        mutant: None,
    }
}

/// Bytes of requests that one of so many nodes, each with all roles, takes in a second, with three
/// owners for each shard.
///
/// # Errors
/// When something breaks.
pub fn bytes_per_node(seed: u64, nodes: u64) -> anyhow::Result<f64> {
    let first = (0..nodes).map(|at| placed(&format!("i{at}"), at % 3, ALL_ROLES));
    let shape = ClusterShape {
        shards: 64,
        replicas: 3,
        slot_nanos: HOUR_SLOT_NANOS,
    };
    let ingester = ingester::Config::default();
    let mut plan = calm(first.collect(), shape, ingester);
    plan.costs = COSTS;
    let (bytes, verdict) = in_world(seed, plan, TRACE_LINES, async |world: Arc<World>| {
        world.start_all().await;
        let mut clients = JoinSet::new();
        for client in 0..nodes * CLIENTS_PER_NODE {
            let at = format!("i{}", client % nodes);
            clients.spawn(push_without_end(Arc::clone(&world), client, at));
        }
        sleep(WARM_UP).await;
        let before = world.tally.lock().acknowledged_bytes;
        sleep(MEASURED).await;
        let bytes = world.tally.lock().acknowledged_bytes - before;
        clients.shutdown().await;
        bytes
    })?;
    sound(&verdict)?;
    let bytes = bytes as f64 * COSTS.scale as f64;
    Ok(bytes / MEASURED.as_secs_f64() / nodes as f64)
}

async fn push_without_end(world: Arc<World>, client: u64, to: String) {
    let mut sender = Sender::new(&world, Client::Load, client);
    loop {
        let request = sender.large(&world);
        if let Some(run) = world.run_of(&to)
            && let Some(site) = world.site(&to)
        {
            let cost = world.plan.costs.of_request(request.body.len());
            site.processor.work(cost).await;
            if world.push(&run, &request).await {
                continue;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// An hour of load on three ingesters, with so many owners for each shard, with or without
/// restarts of one ingester after the other. Segments are not merged.
///
/// # Errors
/// When something breaks.
pub fn hour_of_load(seed: u64, replicas: u32, restarts: bool) -> anyhow::Result<HourOfLoad> {
    let ingesters = (0..3).map(|at| placed(&format!("i{at}"), at, INGESTER));
    let mut first: Vec<Placed> = ingesters.collect();
    first.push(placed("d0", 0, DISTRIBUTOR));
    let shape = ClusterShape {
        shards: HOUR_SHARDS,
        replicas,
        slot_nanos: HOUR_SLOT_NANOS,
    };
    let mut ingester = ingester::Config::default();
    ingester.merge.enabled = false;
    let plan = calm(first, shape, ingester);
    let (hour, verdict) = in_world(seed, plan, TRACE_LINES, async |world: Arc<World>| {
        world.start_all().await;
        let mut busy = JoinSet::new();
        if restarts {
            busy.spawn(restart_one_after_another(Arc::clone(&world)));
        }
        let mut sender = Sender::new(&world, Client::Load, 0);
        let mut pushes = JoinSet::new();
        let ends = world.began + HOUR;
        while tokio::time::Instant::now() < ends {
            let request = sender.small(&world);
            let world = Arc::clone(&world);
            pushes.spawn(async move { world.insist(request).await });
            sleep(HOUR_PUSH_EVERY).await;
        }
        busy.shutdown().await;
        world.heal();
        pushes.join_all().await;
        world.settle_quietly().await;
        let uploads = world.checks.uploads();
        let tally = *world.tally.lock();
        HourOfLoad {
            stored_bytes: world.bucket.objects().values().sum(),
            uploads: uploads.values().sum(),
            keys: uploads.len() as u64,
            records: tally.acknowledged,
            crashes: tally.crashes,
        }
    })?;
    sound(&verdict)?;
    Ok(hour)
}

async fn restart_one_after_another(world: Arc<World>) {
    for at in (0..3_u64).cycle() {
        sleep(HOUR_RESTART_EVERY).await;
        let address = format!("i{at}");
        world.crash(&address);
        sleep(HOUR_DOWN).await;
        world.start(&address);
    }
}

fn sound(verdict: &Verdict) -> anyhow::Result<()> {
    match &verdict.broken {
        None => Ok(()),
        Some((invariant, how)) => anyhow::bail!("{invariant}: {how}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_owners_store_as_much_as_one_though_ingesters_restart() {
        let three = hour_of_load(1, 3, true).unwrap();
        let one = hour_of_load(1, 1, true).unwrap();
        assert_eq!(three.records, one.records);
        assert!(three.crashes > 15 && one.crashes > 15);
        let ratio = three.stored_bytes as f64 / one.stored_bytes as f64;
        assert!(ratio <= 1.02, "{ratio}: {three:?}, {one:?}");
    }

    #[test]
    fn without_faults_each_key_is_uploaded_once() {
        let hour = hour_of_load(2, 3, false).unwrap();
        assert_eq!(hour.uploads, hour.keys);
        // Thirty slots, and of the shards at least those to which the eight streams belong.
        assert!(hour.keys >= 2 * 30, "{hour:?}");
    }

    /// What is lost comes from calls (eight others instead of two) and from shares that are not even.
    #[test]
    fn a_node_of_nine_takes_nearly_what_one_of_three_takes() {
        let three = bytes_per_node(3, 3).unwrap();
        let nine = bytes_per_node(3, 9).unwrap();
        let ratio = nine / three;
        assert!((0.9..=1.1).contains(&ratio), "{three}, {nine}");
    }
}
