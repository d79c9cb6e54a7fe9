use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{BatchId, Labels, LogBatch, LogBatchBuilder, Shard, Signal, Slot, StreamId, TenantId};
use rpc::{
    ClusterShape, Command, Member, MetaPeerApi, Outcome, OwnerApi, Ring, RoleSet, SearchApi,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::courier::CALL_PATIENCE;
use super::*;

/// What a fake ingester does with batches.
#[derive(Clone, Debug)]
enum Behaviour {
    Stores,
    Fails(Error),
    Hangs,
    /// Only the first call never ends.
    HangsOnce,
}

struct Fake {
    behaviour: Mutex<Behaviour>,
    stored: Mutex<Vec<(u128, u64)>>,
    calls: AtomicUsize,
    under_way: Arc<AtomicUsize>,
    flushes: AtomicUsize,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl IngestApi for Fake {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(Arc::clone(&self.under_way));
        let behaviour = self.behaviour.lock().clone();
        match behaviour {
            Behaviour::HangsOnce if calls == 0 => std::future::pending().await,
            Behaviour::Stores | Behaviour::HangsOnce => {
                let stored = requests.iter().map(|r| (r.batch_id.0, r.ring.0));
                self.stored.lock().extend(stored);
                Ok(())
            }
            Behaviour::Fails(error) => Err(error),
            Behaviour::Hangs => std::future::pending().await,
        }
    }

    async fn flush(&self) -> Result<(), Error> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        match self.behaviour.lock().clone() {
            Behaviour::Fails(error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// A cluster of fake ingesters; they have their numbers for addresses.
struct World {
    fakes: BTreeMap<u64, Arc<Fake>>,
    catalog: watch::Sender<Arc<Catalog>>,
}

#[async_trait]
impl MetaApi for World {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let mut changes = self.catalog.subscribe();
        let newer = changes.wait_for(|catalog| catalog.version > version).await;
        Arc::clone(&newer.unwrap())
    }

    async fn propose(&self, _: Command) -> Result<Outcome, Error> {
        Err(Error::Unavailable("no coordinator".into()))
    }
}

impl Network for World {
    fn ingest(&self, address: &str) -> Arc<dyn IngestApi> {
        Arc::clone(&self.fakes[&address.parse().unwrap()]) as Arc<dyn IngestApi>
    }

    fn search(&self, _: &str) -> Arc<dyn SearchApi> {
        unreachable!("distributors do not search")
    }

    fn owner(&self, _: &str) -> Arc<dyn OwnerApi> {
        unreachable!("distributors own nothing")
    }

    fn meta(&self, _: &str) -> Arc<dyn MetaPeerApi> {
        unreachable!("distributors have a coordinator")
    }
}

const REPLICAS: u32 = 3;

impl World {
    /// Ingesters of these numbers, all of them in the ring.
    fn new(ids: &[u64]) -> Arc<World> {
        let fake = |id: &u64| {
            let fake = Fake {
                behaviour: Mutex::new(Behaviour::Stores),
                stored: Mutex::default(),
                calls: AtomicUsize::new(0),
                under_way: Arc::default(),
                flushes: AtomicUsize::new(0),
            };
            (*id, Arc::new(fake))
        };
        let world = Arc::new(World {
            fakes: ids.iter().map(fake).collect(),
            catalog: watch::channel(Arc::default()).0,
        });
        world.ring(ids);
        world
    }

    /// Makes a ring of these.
    fn ring(&self, ids: &[u64]) {
        let mut next = Catalog::clone(&self.catalog());
        next.version += 1;
        let cluster = &mut next.cluster;
        cluster.shape = Some(ClusterShape {
            shards: 8,
            replicas: REPLICAS,
            slot_nanos: 1,
        });
        cluster.ring = Ring {
            version: RingVersion(cluster.ring.version.0 + 1),
            shards: 8,
            members: ids.iter().map(|id| (NodeId(*id), "z".into())).collect(),
        };
        let member = |id: &u64| Member {
            id: NodeId(*id),
            address: id.to_string().into(),
            zone: "z".into(),
            roles: RoleSet {
                distributor: *id % 2 == 1,
                ingester: true,
                querier: false,
            },
            state: MemberState::Active,
        };
        cluster.members = ids.iter().map(|id| (NodeId(*id), member(id))).collect();
        self.catalog.send_replace(Arc::new(next));
    }

    fn set(&self, id: u64, behaviour: Behaviour) {
        *self.fakes[&id].behaviour.lock() = behaviour;
    }

    fn calls(&self, id: u64) -> usize {
        self.fakes[&id].calls.load(Ordering::SeqCst)
    }

    fn under_way(&self) -> usize {
        let fakes = self.fakes.values();
        fakes
            .map(|fake| fake.under_way.load(Ordering::SeqCst))
            .sum()
    }

    /// The rings under which a node has stored the batch.
    fn stored(&self, id: u64, batch: u128) -> Vec<u64> {
        let stored = self.fakes[&id].stored.lock();
        let of_batch = stored.iter().filter(|(stored, _)| *stored == batch);
        of_batch.map(|(_, ring)| *ring).collect()
    }

    fn ingest(self: &Arc<Self>) -> ClusterIngest {
        let meta = Arc::clone(self) as Arc<dyn MetaApi>;
        ClusterIngest::new(
            ClusterConfig::default(),
            meta,
            Arc::clone(self) as Arc<dyn Network>,
            None,
            metrics(),
        )
    }

    async fn settles(&self) {
        while self.under_way() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn batch() -> Arc<LogBatch> {
    let tenant = TenantId::default();
    let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
    let mut builder = LogBatchBuilder::new(tenant.clone());
    builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
    builder.push(1, b"line", &mut []);
    Arc::new(builder.finish())
}

fn request(id: u128) -> IngestRequest {
    IngestRequest {
        batch_id: BatchId(id),
        shard: Shard(id as u32 % 8),
        slot: Slot(0),
        ring: RingVersion(0),
        batch: batch(),
    }
}

fn down() -> Error {
    Error::Unavailable("it is down".into())
}

fn metrics() -> ClusterMetrics {
    ClusterMetrics::new(&prometheus::Registry::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_owner_gets_every_batch_by_the_current_ring_in_one_call() {
    let world = World::new(&[1, 2, 3]);
    let sent = world.ingest().ingest((1..=20).map(request).collect()).await;
    assert_eq!(sent, Ok(()));
    world.settles().await;
    for id in [1, 2, 3] {
        assert_eq!(world.calls(id), 1);
        assert!((1..=20).all(|batch| world.stored(id, batch) == [1]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_that_is_down_or_silent_costs_nothing() {
    for behaviour in [Behaviour::Fails(down()), Behaviour::Hangs] {
        let world = World::new(&[1, 2, 3]);
        world.set(2, behaviour);
        let began = Instant::now();
        assert_eq!(world.ingest().ingest(vec![request(1)]).await, Ok(()));
        assert!(began.elapsed() < Duration::from_millis(10));
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_down_gets_its_copy_after_the_answer() {
    let world = World::new(&[1, 2, 3]);
    world.set(2, Behaviour::Fails(down()));
    assert_eq!(world.ingest().ingest(vec![request(1)]).await, Ok(()));
    world.set(2, Behaviour::Stores);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.stored(2, 1), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_owners_do_is_counted() {
    let registry = prometheus::Registry::new();
    let world = World::new(&[1, 2, 3]);
    let mut ingest = world.ingest();
    let shared = Arc::get_mut(&mut ingest.shared).unwrap();
    shared.metrics = ClusterMetrics::new(&registry).unwrap();
    world.set(2, Behaviour::Fails(down()));
    assert_eq!(ingest.ingest(vec![request(1), request(2)]).await, Ok(()));
    world.set(2, Behaviour::Stores);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for id in [1, 3] {
        world.set(id, Behaviour::Fails(down()));
    }
    ingest.ingest(vec![request(3)]).await.unwrap_err();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    for line in [
        "pharos_distributor_late_copies_total 2",
        "pharos_distributor_quorums_total{reached=\"yes\"} 1",
        "pharos_distributor_quorums_total{reached=\"no\"} 1",
        "pharos_distributor_owner_seconds_count{node=\"1\"} 1",
        "pharos_distributor_owner_seconds_count{node=\"2\"} 2",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
    assert!(!text.contains("owner_retries_total 0"), "{text}");
    ingest.shared.metrics.keep(|id| id == NodeId(2));
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    assert!(
        !text.contains("node=\"1\"") && text.contains("node=\"2\""),
        "{text}"
    );
    world.settles().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_it_tries_until_the_deadline_and_then_says_who_is_missing() {
    let world = World::new(&[1, 2, 3]);
    world.set(2, Behaviour::Fails(down()));
    world.set(3, Behaviour::Hangs);
    let began = Instant::now();
    let error = world.ingest().ingest(vec![request(1)]).await.unwrap_err();
    assert_eq!(began.elapsed(), ClusterConfig::default().patience);
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "1 of 3",
        "node 2: it is down",
        "node 3: no answer within 5000 ms",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(world.calls(2) > 4, "only {} tries", world.calls(2));
    world.settles().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_in_time_makes_the_quorum() {
    let world = World::new(&[1, 2, 3]);
    world.set(2, Behaviour::Fails(down()));
    world.set(3, Behaviour::Fails(down()));
    let sent = tokio::spawn({
        let ingest = world.ingest();
        async move { ingest.ingest(vec![request(1)]).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.set(3, Behaviour::Stores);
    assert_eq!(sent.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_sent_again_while_the_first_is_waited_for() {
    let world = World::new(&[1]);
    let ingest = world.ingest();
    // Twenty calls earn one second attempt.
    for id in 1..=25 {
        assert_eq!(ingest.ingest(vec![request(id)]).await, Ok(()));
    }
    world.fakes[&1].calls.store(0, Ordering::SeqCst);
    world.set(1, Behaviour::HangsOnce);
    let began = Instant::now();
    assert_eq!(ingest.ingest(vec![request(99)]).await, Ok(()));
    assert!(began.elapsed() < CALL_PATIENCE, "{:?}", began.elapsed());
    assert_eq!(world.calls(1), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_ring_waits_for_the_newer_one() {
    let world = World::new(&[1, 2, 3, 4, 5]);
    world.ring(&[1, 2, 3]);
    for id in [1, 2, 3] {
        world.set(id, Behaviour::Fails(Error::Conflict("ring 3".into())));
    }
    let sent = tokio::spawn({
        let ingest = world.ingest();
        async move { ingest.ingest(vec![request(1)]).await }
    });
    while world.calls(3) == 0 {
        tokio::task::yield_now().await;
    }
    world.set(3, Behaviour::Stores);
    world.ring(&[3, 4, 5]);
    assert_eq!(sent.await.unwrap(), Ok(()));
    world.settles().await;
    assert!([3, 4, 5].iter().all(|id| world.stored(*id, 1) == [3]));
}

#[tokio::test(start_paused = true)]
async fn owners_without_room_are_told_to_the_sender() {
    let world = World::new(&[1, 2, 3]);
    for (id, retry_after_seconds) in [(1, 3), (2, 9)] {
        let reason = "memory".to_owned();
        let error = Error::Exhausted {
            reason,
            retry_after_seconds,
        };
        world.set(id, Behaviour::Fails(error));
    }
    let error = world.ingest().ingest(vec![request(1)]).await.unwrap_err();
    let Error::Exhausted {
        retry_after_seconds,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(retry_after_seconds, 9);
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_stops_the_calls() {
    let world = World::new(&[1, 2, 3]);
    for id in [1, 2, 3] {
        world.set(id, Behaviour::Hangs);
    }
    let sent = tokio::spawn({
        let ingest = world.ingest();
        async move { ingest.ingest(vec![request(1)]).await }
    });
    while world.under_way() < 3 {
        tokio::task::yield_now().await;
    }
    sent.abort();
    world.settles().await;
    assert_eq!(world.calls(1), 1);
}

#[tokio::test(start_paused = true)]
async fn late_copies_are_bounded_and_given_up_for_who_stays_away() {
    let world = World::new(&[1, 2, 3]);
    world.set(3, Behaviour::Hangs);
    let meta = Arc::clone(&world) as Arc<dyn MetaApi>;
    let config = ClusterConfig {
        late_bytes_max: 4 * LATE_UNIT_BYTES,
        ..ClusterConfig::default()
    };
    let network = Arc::clone(&world) as Arc<dyn Network>;
    let ingest = ClusterIngest::new(config, meta, network, None, metrics());
    for id in 1..=50 {
        assert_eq!(ingest.ingest(vec![request(id)]).await, Ok(()));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.under_way(), 4, "one unit each");
    tokio::time::sleep(LATE_PATIENCE).await;
    assert_eq!(world.under_way(), 0);
    assert!(ingest.shared.is_suspect(NodeId(3)));
    assert_eq!(ingest.ingest(vec![request(51)]).await, Ok(()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.under_way(), 0, "not waited for any more");
}

#[tokio::test(start_paused = true)]
async fn the_ingester_of_this_process_is_reached_without_a_detour() {
    let world = World::new(&[7]);
    let own = Arc::clone(&world.fakes[&7]) as Arc<dyn IngestApi>;
    let nobody = World::new(&[]);
    let meta = Arc::clone(&world) as Arc<dyn MetaApi>;
    let network = nobody as Arc<dyn Network>;
    let ingest = ClusterIngest::new(
        ClusterConfig::default(),
        meta,
        network,
        Some((NodeId(7), own)),
        metrics(),
    );
    assert_eq!(ingest.ingest(vec![request(1)]).await, Ok(()));
    assert_eq!(world.stored(7, 1), [1]);
    assert_eq!(ingest.flush().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_flush_asks_all_and_names_who_failed() {
    let world = World::new(&[1, 2, 3]);
    assert_eq!(world.ingest().flush().await, Ok(()));
    world.set(2, Behaviour::Fails(down()));
    let error = world.ingest().flush().await.unwrap_err();
    assert_eq!(error, Error::Unavailable("node 2: it is down".into()));
    let flushes = |id: u64| world.fakes[&id].flushes.load(Ordering::SeqCst);
    assert_eq!([flushes(1), flushes(2), flushes(3)], [2, 2, 2]);
}

#[test]
fn distributors_at_work_are_counted() {
    assert_eq!(live_distributors(&Catalog::default()), 1);
    let world = World::new(&[1, 2, 3]);
    assert_eq!(live_distributors(&world.catalog()), 2);
}
