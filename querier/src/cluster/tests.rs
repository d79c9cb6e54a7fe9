//! Goal: whatever ingesters fail, come or go, every acknowledged batch is in the answer or in the
//! segments of the catalog, or there is no answer. Method: fake ingesters and a fake coordinator;
//! tables for each rule, then random histories of a cluster.

mod histories;
mod rings;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{
    BatchId, HeadId, HeadKey, Labels, LogBatchBuilder, RingVersion, Shard, Signal, Slot, StreamId,
    TenantId, TimeRange,
};
use proptest::prelude::*;
use rpc::{
    ClusterShape, Command, HeadBatches, HeldBatch, IngestApi, Member, MemberState, MetaPeerApi,
    Outcome, OwnerApi, PastRing, Ring, RoleSet, TailError, TailSender,
};
use tokio::sync::watch;

use super::*;

const SHAPE: ClusterShape = ClusterShape {
    shards: 4,
    replicas: 3,
    slot_nanos: 1,
};

fn batch() -> Arc<model::LogBatch> {
    let tenant = TenantId::default();
    let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
    let mut builder = LogBatchBuilder::new(tenant.clone());
    builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
    builder.push(1, b"line", &mut []);
    Arc::new(builder.finish())
}

fn held(id: u128) -> HeldBatch {
    HeldBatch {
        id: BatchId(id),
        batch: batch(),
    }
}

fn head(ingester: u64, sequence: u64, ring: u64, shard: u32, ids: &[u128]) -> HeadBatches {
    HeadBatches {
        head: HeadId { ingester, sequence },
        key: HeadKey {
            shard: Shard(shard),
            slot: Slot(0),
            ring: RingVersion(ring),
        },
        batches: ids.iter().map(|id| held(*id)).collect(),
    }
}

/// What an ingester does when it is asked.
#[derive(Clone)]
enum Behaviour {
    Answers(Recent),
    Fails,
    Hangs,
    /// What it does the first time, before it answers.
    First(Box<Behaviour>),
}

struct Fake {
    behaviour: Mutex<Behaviour>,
    asked: AtomicUsize,
    /// Calls that began and have not ended.
    under_way: AtomicUsize,
    tail: Mutex<TailSender>,
}

#[async_trait]
impl SearchApi for Fake {
    async fn recent(&self, _: RecentRequest) -> Result<Recent, Error> {
        struct Left<'a>(&'a AtomicUsize);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _left = Left(&self.under_way);
        let behaviour = match self.behaviour.lock().clone() {
            Behaviour::First(behaviour) if self.asked.load(Ordering::SeqCst) == 1 => *behaviour,
            behaviour => behaviour,
        };
        match behaviour {
            Behaviour::Answers(recent) => Ok(recent),
            Behaviour::First(_) => Ok(Recent::default()),
            Behaviour::Fails => Err(Error::Unavailable("it is down".to_owned())),
            Behaviour::Hangs => std::future::pending().await,
        }
    }

    fn tail(&self) -> TailReceiver {
        self.tail.lock().subscribe()
    }
}

/// Ingester `n` is at address `n`.
#[derive(Default)]
struct World {
    fakes: Mutex<BTreeMap<u64, Arc<Fake>>>,
    catalog: watch::Sender<Arc<Catalog>>,
}

impl World {
    fn new(ids: &[u64]) -> Arc<Self> {
        let world = Arc::new(World::default());
        world.change(|catalog| {
            catalog.cluster.shape = Some(SHAPE);
            catalog.cluster.ring = ring(1, ids);
        });
        for id in ids {
            world.add(*id);
        }
        world
    }

    fn add(&self, id: u64) {
        let fake = Fake {
            behaviour: Mutex::new(Behaviour::Answers(Recent::default())),
            asked: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            tail: Mutex::new(TailSender::new(64, 1 << 20)),
        };
        self.fakes.lock().insert(id, Arc::new(fake));
        self.change(|catalog| {
            let member = Member {
                id: NodeId(id),
                address: id.to_string().into(),
                zone: "z".into(),
                roles: RoleSet {
                    ingester: true,
                    ..RoleSet::default()
                },
                state: MemberState::Active,
            };
            catalog.cluster.members.insert(NodeId(id), member);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Catalog)) {
        self.catalog.send_modify(|catalog| {
            let catalog = Arc::make_mut(catalog);
            catalog.version += 1;
            change(catalog);
        });
    }

    fn fake(&self, id: u64) -> Arc<Fake> {
        Arc::clone(&self.fakes.lock()[&id])
    }

    fn set(&self, id: u64, behaviour: Behaviour) {
        *self.fake(id).behaviour.lock() = behaviour;
    }

    fn holds(&self, id: u64, heads: Vec<HeadBatches>) {
        let version = self.catalog.borrow().version;
        self.set(id, Behaviour::Answers(Recent { heads, version }));
    }
}

fn ring(version: u64, ids: &[u64]) -> Ring {
    Ring {
        version: RingVersion(version),
        shards: SHAPE.shards,
        members: ids.iter().map(|id| (NodeId(*id), "z".into())).collect(),
    }
}

#[async_trait]
impl MetaApi for World {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let mut catalog = self.catalog.subscribe();
        let newer = catalog.wait_for(|catalog| catalog.version > version).await;
        Arc::clone(&newer.unwrap())
    }

    async fn propose(&self, _: Command) -> Result<Outcome, Error> {
        unreachable!("a search changes nothing")
    }
}

impl Network for World {
    fn ingest(&self, _: &str) -> Arc<dyn IngestApi> {
        unreachable!("a search sends nothing")
    }

    fn search(&self, address: &str) -> Arc<dyn SearchApi> {
        self.fake(address.parse().unwrap())
    }

    fn owner(&self, _: &str) -> Arc<dyn OwnerApi> {
        unreachable!("a search is no owner")
    }

    fn meta(&self, _: &str) -> Arc<dyn MetaPeerApi> {
        unreachable!("a search asks its own coordinator")
    }
}

fn search(world: &Arc<World>) -> ClusterSearch {
    let meta = Arc::clone(world) as Arc<dyn MetaApi>;
    ClusterSearch::new(meta, Arc::clone(world) as Arc<dyn Network>, None)
}

fn everything() -> RecentRequest {
    RecentRequest::all(TenantId::default(), TimeRange::ALL)
}

async fn found(world: &Arc<World>) -> Result<Vec<u128>, String> {
    let recent = search(world).recent(everything()).await;
    let recent = recent.map_err(|error| error.to_string())?;
    let batches = recent.heads.into_iter().flat_map(|head| head.batches);
    let mut ids: Vec<u128> = batches.map(|held| held.id.0).collect();
    ids.sort_unstable();
    Ok(ids)
}

#[tokio::test(start_paused = true)]
async fn copies_are_united_and_one_missing_owner_of_three_costs_nothing() {
    let world = World::new(&[1, 2, 3]);
    world.holds(1, vec![head(1, 1, 1, 0, &[7, 8])]);
    world.holds(2, vec![head(2, 5, 1, 0, &[8, 9])]);
    for third in [Behaviour::Fails, Behaviour::Hangs] {
        world.set(3, third);
        assert_eq!(found(&world).await, Ok(vec![7, 8, 9]));
    }
}

#[tokio::test(start_paused = true)]
async fn too_few_owners_are_an_error_that_names_shard_and_reason() {
    let world = World::new(&[1, 2, 3]);
    world.set(1, Behaviour::Fails);
    world.set(2, Behaviour::Fails);
    let error = found(&world).await.unwrap_err();
    for part in [
        "shard 0 (ring 1)",
        "1 of 3 answered, 2 are needed",
        "node 2: it is down",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_a_covered_head_of_one_owner_is_left_out_of_those_of_the_others() {
    let world = World::new(&[1, 2, 3]);
    world.holds(1, vec![head(1, 4, 1, 0, &[7, 8])]);
    world.holds(2, vec![head(2, 9, 1, 0, &[8, 9])]);
    world.change(|catalog| {
        catalog.covered.entry(1).or_default().also.insert(4);
    });
    assert_eq!(found(&world).await, Ok(vec![9]));
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_the_catalog_that_an_ingester_went_by() {
    let world = World::new(&[1, 2, 3]);
    for id in [1, 2, 3] {
        let version = world.catalog.borrow().version + 1;
        let heads = vec![head(id, 1, 1, 0, &[7])];
        world.set(id, Behaviour::Answers(Recent { heads, version }));
    }
    let question = tokio::spawn({
        let world = Arc::clone(&world);
        async move { found(&world).await }
    });
    while world.fake(3).asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.change(|catalog| {
        for id in [1, 2, 3] {
            catalog.covered.entry(id).or_default().below = 2;
        }
    });
    assert_eq!(question.await.unwrap(), Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_hears_nothing_of_the_newer_catalog_gives_up() {
    let world = World::new(&[1]);
    let version = world.catalog.borrow().version + 1;
    let heads = Vec::new();
    world.set(1, Behaviour::Answers(Recent { heads, version }));
    let error = found(&world).await.unwrap_err();
    assert!(
        error.contains("does not hear from the coordinators"),
        "{error}"
    );
}

/// Ring 1 was replaced by ring 2; `undrained` and `lost` of ring 1.
fn with_past(world: &World, past: &[u64], now: &[u64], undrained: &[u64], lost: &[u64]) {
    world.change(|catalog| {
        catalog.cluster.ring = ring(2, now);
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect();
        let past = PastRing {
            ring: ring(1, past),
            undrained: ids(undrained),
            lost: ids(lost),
        };
        catalog.cluster.past_rings.insert(RingVersion(1), past);
        let members = &mut catalog.cluster.members;
        members.retain(|id, _| !lost.contains(&id.0));
    });
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_who_took_the_place_of_an_ingester_is_not_that_ones() {
    let world = World::new(&[1]);
    let none = Behaviour::First(Box::new(Behaviour::Fails));
    world.set(1, none);
    let question = tokio::spawn({
        let world = Arc::clone(&world);
        async move { found(&world).await }
    });
    while world.fake(1).asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.add(4);
    with_past(&world, &[1], &[4], &[], &[1]);
    let error = question.await.unwrap().unwrap_err();
    assert!(error.contains("(ring 1) 0 of 1 answered"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn owners_of_a_past_ring_are_needed_until_they_have_drained() {
    // (undrained, lost, failing) of ring 1 = {1, 2, 3}; ring 2 = {3, 4, 5}.
    for (undrained, lost, failing, answers) in [
        (&[1, 2, 3][..], &[][..], &[1][..], true),
        (&[1, 2, 3], &[], &[1, 2], false),
        (&[2, 3], &[], &[1, 2], true),
        (&[3], &[1, 2], &[], false),
        (&[2, 3], &[1], &[], true),
        (&[2, 3], &[1], &[2], false),
    ] {
        let world = World::new(&[1, 2, 3]);
        world.add(4);
        world.add(5);
        with_past(&world, &[1, 2, 3], &[3, 4, 5], undrained, lost);
        for id in failing {
            world.set(*id, Behaviour::Fails);
        }
        let found = found(&world).await;
        assert_eq!(
            found.is_ok(),
            answers,
            "{undrained:?} {lost:?} {failing:?}: {found:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_ingester_that_joins_meanwhile_is_asked_too() {
    let world = World::new(&[1]);
    world.change(|catalog| {
        catalog.cluster.shape = Some(ClusterShape {
            replicas: 1,
            ..SHAPE
        })
    });
    let version = world.catalog.borrow().version + 2;
    let heads = Vec::new();
    world.set(1, Behaviour::Answers(Recent { heads, version }));
    let question = tokio::spawn({
        let world = Arc::clone(&world);
        async move { found(&world).await }
    });
    while world.fake(1).asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.add(2);
    world.holds(2, vec![head(2, 1, 2, 0, &[9])]);
    world.change(|catalog| catalog.cluster.ring = ring(2, &[1, 2]));
    assert_eq!(question.await.unwrap(), Ok(vec![9]));
}

#[tokio::test(start_paused = true)]
async fn an_ingester_that_joins_while_another_is_down_is_asked_too() {
    let world = World::new(&[1, 2]);
    world.set(1, Behaviour::Fails);
    let version = world.catalog.borrow().version + 2;
    let heads = Vec::new();
    world.set(2, Behaviour::Answers(Recent { heads, version }));
    let question = tokio::spawn({
        let world = Arc::clone(&world);
        async move { found(&world).await }
    });
    while world.fake(2).asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.add(3);
    world.holds(3, vec![head(3, 1, 2, 0, &[9])]);
    // Nobody has anything of the ring before.
    world.change(|catalog| catalog.cluster.ring = ring(2, &[1, 2, 3]));
    assert_eq!(question.await.unwrap(), Ok(vec![9]));
}

#[tokio::test(start_paused = true)]
async fn who_is_needed_is_asked_again_when_it_is_silent_or_fails() {
    for (first, took) in [
        (Behaviour::Hangs, HEDGE_AFTER),
        (Behaviour::Fails, RETRY_AFTER),
    ] {
        let world = World::new(&[1, 2, 3]);
        world.set(1, Behaviour::Fails);
        world.set(2, Behaviour::First(Box::new(first)));
        let began = tokio::time::Instant::now();
        assert_eq!(found(&world).await, Ok(vec![]));
        assert_eq!(began.elapsed(), took);
        assert_eq!(world.fake(2).asked.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_a_question_as_long_again_as_the_others_took() {
    let world = World::new(&[1, 2, 3]);
    world.set(2, Behaviour::Hangs);
    let began = tokio::time::Instant::now();
    assert_eq!(found(&world).await, Ok(vec![]));
    assert_eq!(began.elapsed(), GRACE_MIN);
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_stops_the_calls() {
    let world = World::new(&[1, 2, 3]);
    for id in [1, 2, 3] {
        world.set(id, Behaviour::Hangs);
    }
    let question = tokio::spawn({
        let world = Arc::clone(&world);
        async move { found(&world).await }
    });
    while world.fake(3).under_way.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    question.abort();
    assert!(question.await.unwrap_err().is_cancelled());
    assert_eq!(world.fake(1).under_way.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tail_gives_each_batch_once_and_follows_those_who_join_and_come_back() {
    let world = World::new(&[1, 2]);
    let mut tail = search(&world).tail();
    let listens = |id: u64| {
        let world = Arc::clone(&world);
        async move {
            while world.fake(id).tail.lock().receivers() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let send = |id: u64, batch: u128| world.fake(id).tail.lock().send(held(batch));
    listens(1).await;
    listens(2).await;
    send(1, 5);
    assert_eq!(tail.recv().await.unwrap().id, BatchId(5));
    send(2, 5);
    send(2, 6);
    assert_eq!(tail.recv().await.unwrap().id, BatchId(6));
    world.add(3);
    world.change(|catalog| catalog.cluster.ring = ring(2, &[1, 2, 3]));
    listens(3).await;
    send(3, 7);
    assert_eq!(tail.recv().await.unwrap().id, BatchId(7));
    // Its process starts again, long after anything happened to the others: the old tail ends.
    tokio::time::sleep(tail::DOUBT).await;
    *world.fake(1).tail.lock() = TailSender::new(64, 1 << 20);
    listens(1).await;
    send(1, 8);
    assert_eq!(tail.recv().await.unwrap().id, BatchId(8));
    // With two of three broken, what both own may pass by.
    *world.fake(2).tail.lock() = TailSender::new(64, 1 << 20);
    assert_eq!(tail.recv().await, Err(TailError::Missed(1)));
    listens(2).await;
    assert_eq!(tail.recv().await, Err(TailError::Missed(1)));
    world.fake(2).tail.lock().missed(3);
    assert_eq!(tail.recv().await, Err(TailError::Missed(3)));
    drop(tail);
    while world.fake(2).tail.lock().receivers() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
