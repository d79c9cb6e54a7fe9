//! Goal: three owners of every shard, put together: one object per key whoever is away meanwhile;
//! joining, leaving, and jobs that one at a time does. Method: whole ingesters over simulated disks
//! that reach each other by address in memory, and one coordinator.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use model::HeadKey;
use rpc::{
    Changes, ClusterShape, HeldBatch, Member, MemberState, MetaCall, MetaPeerApi, Network,
    OwnerApi, ReconcileRequest, Reconciled, RoleSet,
};

use super::*;

const SLOT: i64 = 120 * NANOS_PER_SECOND;

/// The processes that run, by address.
#[derive(Clone, Default)]
struct Wires {
    running: Arc<Mutex<HashMap<String, Ingester>>>,
}

struct Remote {
    wires: Wires,
    address: String,
}

impl Network for Wires {
    fn ingest(&self, address: &str) -> Arc<dyn IngestApi> {
        self.remote(address)
    }
    fn search(&self, address: &str) -> Arc<dyn SearchApi> {
        self.remote(address)
    }
    fn owner(&self, address: &str) -> Arc<dyn OwnerApi> {
        self.remote(address)
    }
    fn meta(&self, address: &str) -> Arc<dyn MetaPeerApi> {
        self.remote(address)
    }
}

impl Wires {
    fn remote(&self, address: &str) -> Arc<Remote> {
        Arc::new(Remote {
            wires: self.clone(),
            address: address.to_owned(),
        })
    }
}

impl Remote {
    fn reach(&self) -> Result<Ingester, Error> {
        let running = self.wires.running.lock();
        let found = running.get(&self.address).cloned();
        found.ok_or_else(|| Error::Unavailable(format!("{} is down", self.address)))
    }
}

#[async_trait]
impl IngestApi for Remote {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        self.reach()?.ingest(requests).await
    }
    async fn flush(&self) -> Result<(), Error> {
        self.reach()?.flush().await
    }
}

#[async_trait]
impl SearchApi for Remote {
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        self.reach()?.recent(request).await
    }
    fn tail(&self) -> TailReceiver {
        self.reach().unwrap().tail()
    }
}

#[async_trait]
impl OwnerApi for Remote {
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error> {
        self.reach()?.reconcile(request).await
    }
    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error> {
        self.reach()?.pull(key, ids).await
    }
}

#[async_trait]
impl MetaPeerApi for Remote {
    async fn call(&self, _call: MetaCall, _body: Bytes) -> Result<Bytes, Error> {
        Err(Error::Unavailable("there is one coordinator".to_owned()))
    }
    async fn watch(&self, _after: u64) -> Result<Changes, Error> {
        Err(Error::Unavailable("there is one coordinator".to_owned()))
    }
}

/// Processes that share objects, coordinator and time.
struct Cluster {
    worlds: Vec<World>,
    wires: Wires,
}

fn address(at: usize) -> String {
    format!("node-{at}")
}

impl Cluster {
    async fn new(nodes: usize) -> Self {
        let first = World::new();
        let shape = ClusterShape {
            shards: 3,
            replicas: 3,
            slot_nanos: SLOT,
        };
        first
            .meta
            .propose(Command::FormCluster(shape))
            .await
            .unwrap();
        let mut cluster = Cluster {
            worlds: vec![first],
            wires: Wires::default(),
        };
        for at in 0..nodes {
            cluster.join(at).await;
        }
        cluster
    }

    async fn join(&mut self, at: usize) {
        let member = Member {
            id: NodeId(0),
            address: address(at).into(),
            zone: format!("zone {at}").into(),
            roles: RoleSet {
                ingester: true,
                ..RoleSet::default()
            },
            state: MemberState::Joining,
        };
        self.meta().propose(Command::Join(member)).await.unwrap();
        if at > 0 {
            let mut world = World::new();
            let first = &self.worlds[0];
            world.meta = Arc::new(Flaky {
                meta: Arc::clone(&first.meta.meta),
                lose_answers: AtomicBool::new(false),
                dead: AtomicBool::new(false),
            });
            world.storage = first.storage.clone();
            world.now = Arc::clone(&first.now);
            self.worlds.push(world);
        }
        self.start(at).await;
        let active = Command::SetState(NodeId(at as u64 + 1), MemberState::Active);
        self.meta().propose(active).await.unwrap();
        let mut catalog = self.meta().catalog();
        while catalog.cluster.next_ring.is_some() {
            catalog = self.meta().changed(catalog.version).await;
        }
    }

    fn meta(&self) -> &Flaky {
        &self.worlds[0].meta
    }

    fn node(&self, at: usize) -> Ingester {
        self.wires.running.lock()[&address(at)].clone()
    }

    fn deps(&self, at: usize) -> (Config, Deps) {
        let world = &self.worlds[at];
        let now = Arc::clone(&world.now);
        let deps = Deps {
            cluster: "c1".into(),
            node: NodeId(at as u64 + 1),
            storage: world.storage.clone(),
            meta: Arc::clone(&world.meta) as Arc<dyn MetaApi>,
            network: Some(Arc::new(self.wires.clone())),
            clock: Arc::new({
                let now = Arc::clone(&now);
                move || now.load(Ordering::Relaxed)
            }),
            storage_clock: Some(Arc::new(move || now.load(Ordering::Relaxed))),
            metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
            log_files: Some(Arc::new(Sim(world.disk.clone()))),
            blocking: runtime::Blocking::threads(),
        };
        (world.config.clone(), deps)
    }

    async fn start(&mut self, at: usize) {
        let (config, deps) = self.deps(at);
        let ingester = Ingester::start(config, deps).await.unwrap();
        self.wires.running.lock().insert(address(at), ingester);
    }

    /// As by a kill.
    fn stop(&mut self, at: usize) {
        let world = &mut self.worlds[at];
        world.meta.dead.store(true, Ordering::Relaxed);
        world.meta = Arc::new(Flaky {
            meta: Arc::clone(&world.meta.meta),
            lose_answers: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        });
        world.disk = world.disk.after_crash(0, true, true);
        self.wires.running.lock().remove(&address(at));
    }

    /// To the nodes at these places, by the newest ring.
    async fn send(&self, numbers: std::ops::Range<u64>, nodes: &[usize]) {
        let now = self.worlds[0].now.load(Ordering::Relaxed);
        let ring = self.meta().catalog().cluster.ring.version;
        for at in nodes {
            let requests = numbers.clone().map(|number| {
                let mut request = request(number);
                request.slot = SlotLength(SLOT).slot_at(now);
                request.ring = ring;
                request
            });
            self.node(*at).ingest(requests.collect()).await.unwrap();
        }
    }

    fn pass(&self, nanos: i64) {
        self.worlds[0].now.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Time passes until it is so, five times as fast as here.
    async fn until(&self, mut so: impl AsyncFnMut(&Catalog) -> bool) {
        while !so(&self.meta().catalog()).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.pass(NANOS_PER_SECOND / 10);
        }
    }

    /// Waits until the catalog covers all that these nodes hold now.
    async fn covered(&self, nodes: &[usize]) {
        for at in nodes {
            let node = self.node(*at);
            let recent = node.recent(everything(Selector::default())).await;
            let heads = recent.unwrap().heads;
            let covered = async |catalog: &Catalog| heads.iter().all(|h| catalog.covers(h.head));
            self.until(covered).await;
        }
    }

    /// Waits until so many objects are left: an owner that was slower than another removes its own.
    async fn objects(&self, objects: usize) {
        let left = async |_: &Catalog| self.worlds[0].objects().await == objects;
        self.until(left).await;
    }

    /// The numbers of all lines in segments, copies included.
    async fn stored(&self) -> Vec<u64> {
        numbers(&self.worlds[0]).await
    }

    fn segments(&self) -> usize {
        self.worlds[0].segments()
    }
}

fn all(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

/// When the slot is over, and the first owner's turn.
const OVER: i64 = SLOT + 10 * NANOS_PER_SECOND;

#[tokio::test]
async fn three_owners_store_one_object_for_each_shard_and_slot() {
    let cluster = Cluster::new(3).await;
    for slot in 0..3 {
        cluster.send(slot * 10..slot * 10 + 10, &[0, 1, 2]).await;
        cluster.pass(OVER);
        cluster.covered(&[0, 1, 2]).await;
    }
    assert_eq!(cluster.stored().await, all(0..30));
    assert_eq!(cluster.segments(), 9);
    cluster.objects(9).await;
    // Retries are known to all owners, and nothing is left for a shutdown.
    cluster.send(20..30, &[0, 1, 2]).await;
    for at in 0..3 {
        cluster.node(at).shutdown().await.unwrap();
    }
    cluster.objects(9).await;
}

#[tokio::test]
async fn what_an_owner_lacks_is_pulled_from_the_others_before_the_flush() {
    let cluster = Cluster::new(3).await;
    cluster.send(0..10, &[0, 1]).await;
    cluster.send(10..20, &[1, 2]).await;
    cluster.send(20..30, &[2, 0]).await;
    cluster.pass(OVER);
    cluster.covered(&[0, 1, 2]).await;
    assert_eq!(cluster.stored().await, all(0..30));
    cluster.objects(3).await;
}

#[tokio::test]
async fn others_flush_for_an_owner_that_is_away_and_it_adds_what_only_it_has() {
    let mut cluster = Cluster::new(3).await;
    cluster.send(0..10, &[0, 1, 2]).await;
    cluster.send(10..11, &[2]).await;
    cluster.stop(2);
    cluster.pass(OVER);
    // The second owner of the shards of which the third node is the first, and the third.
    cluster.pass(60 * NANOS_PER_SECOND);
    cluster.covered(&[0, 1]).await;
    assert_eq!(cluster.stored().await, all(0..10));
    // Not the objects: what was killed may have been about to store one.
    assert_eq!(cluster.segments(), 3);
    cluster.start(2).await;
    cluster.covered(&[2]).await;
    assert_eq!(cluster.stored().await, all(0..11), "no copies");
    assert_eq!(cluster.segments(), 4);
}

#[tokio::test]
async fn an_owner_that_lost_its_memory_learns_from_the_others_what_is_stored() {
    let mut cluster = Cluster::new(3).await;
    cluster.send(0..10, &[0, 1, 2]).await;
    for at in [0, 1, 2, 0] {
        cluster.stop(at);
        cluster.start(at).await;
    }
    cluster.send(10..20, &[0, 1, 2]).await;
    cluster.pass(OVER);
    cluster.covered(&[0, 1, 2]).await;
    assert_eq!(cluster.stored().await, all(0..20));
    cluster.objects(3).await;
}

#[tokio::test]
async fn who_leaves_stores_what_it_holds_and_is_forgotten_with_its_rings() {
    let cluster = Cluster::new(4).await;
    let ring = cluster.meta().catalog().cluster.ring.version;
    let shape = cluster.meta().catalog().cluster.shape.unwrap();
    assert_eq!(ring, RingVersion(4));
    cluster.send(0..10, &[0, 1, 2, 3]).await;
    let leaving = cluster.node(3);
    leaving.leave().await.unwrap();
    leaving.leave().await.unwrap();
    let catalog = cluster.meta().catalog();
    assert!(!catalog.cluster.members.contains_key(&NodeId(4)));
    assert_eq!(recent(&cluster.worlds[3], &leaving).await, 0);
    assert_eq!(cluster.stored().await, all(0..10));
    let mut late = request(11);
    late.ring = ring;
    let error = leaving.ingest(vec![late]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    leaving.shutdown().await.unwrap();
    cluster.wires.running.lock().remove(&address(3));
    // The others close their past rings a slot later.
    assert_eq!(shape.slot_nanos, SLOT);
    cluster.send(20..30, &[0, 1, 2]).await;
    cluster.pass(2 * OVER);
    let closed = async |catalog: &Catalog| {
        cluster.pass(SLOT / 10);
        catalog.cluster.past_rings.is_empty()
    };
    cluster.until(closed).await;
    cluster.covered(&[0, 1, 2]).await;
    assert_eq!(cluster.stored().await.len(), 20);
}

#[tokio::test]
async fn an_ingester_whose_log_is_gone_does_not_come_back_under_its_number() {
    let mut cluster = Cluster::new(2).await;
    cluster.send(0..10, &[0, 1]).await;
    cluster.pass(OVER);
    cluster.covered(&[0, 1]).await;
    cluster.stop(1);
    cluster.start(1).await;
    cluster.stop(1);
    cluster.worlds[1].disk = SimDisk::new();
    let (config, deps) = cluster.deps(1);
    let refused = Ingester::start(config, deps).await.unwrap_err();
    assert_eq!(refused.kind(), model::Kind::Corrupt);
    assert!(refused.to_string().contains("joins as a new ingester"));
    assert_eq!(cluster.stored().await, all(0..10));
}

#[tokio::test]
async fn a_batch_for_a_ring_that_is_not_known_yet_waits_for_it() {
    let mut cluster = Cluster::new(2).await;
    let mut early = request(1);
    early.ring = RingVersion(3);
    let node = cluster.node(0);
    let waits = tokio::spawn(async move { node.ingest(vec![early]).await });
    cluster.join(2).await;
    waits.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_ingester_at_a_time_merges() {
    let cluster = Cluster::new(3).await;
    for slot in 0..2 {
        cluster.send(slot * 10..slot * 10 + 10, &[0, 1, 2]).await;
        cluster.pass(OVER);
        cluster.covered(&[0, 1, 2]).await;
    }
    let first = *cluster.meta().catalog().segments.keys().next().unwrap();
    let name: Arc<str> = rpc::Lease::of_merge(first).into();
    let take = Command::TakeLease {
        name: Arc::clone(&name),
        holder: NodeId(3),
        run_out: 0,
        until: 1,
    };
    cluster.meta().propose(take).await.unwrap();
    cluster.pass(DAY);
    assert_eq!(
        cluster.node(0).merge_now().await.unwrap(),
        0,
        "what the clock says is nothing"
    );
    let free = Command::ReleaseLease {
        name,
        holder: NodeId(3),
    };
    cluster.meta().propose(free).await.unwrap();
    assert_eq!(cluster.node(0).merge_now().await.unwrap(), 1);
    assert_eq!(
        (cluster.segments(), cluster.stored().await),
        (1, all(0..20))
    );
    assert!(
        cluster.meta().catalog().cluster.leases.is_empty(),
        "given back"
    );
}

#[tokio::test]
async fn a_delete_request_is_finished_when_every_ingester_says_that_it_holds_nothing() {
    let mut cluster = Cluster::new(3).await;
    cluster.worlds[0].config.merge.small_bytes_max = 1;
    let id = delete(&cluster.worlds[0], "{app=~\".+\"}", 0..5).await;
    let active = |cluster: &Cluster| cluster.meta().catalog().deletes.contains_key(&id);
    cluster.send(0..10, &[2]).await;
    cluster.node(0).merge_now().await.unwrap();
    assert!(active(&cluster), "the third holds such records");
    cluster.stop(2);
    cluster.node(0).merge_now().await.unwrap();
    assert!(active(&cluster), "the third does not answer");
    cluster.start(2).await;
    cluster.node(2).flush().await.unwrap();
    cluster.node(0).merge_now().await.unwrap();
    assert!(!active(&cluster));
    assert_eq!(cluster.stored().await, all(5..10));
}

#[tokio::test]
async fn a_lease_that_was_lost_ends_the_job() {
    let cluster = Cluster::new(2).await;
    let leases = |node, clock| {
        let meta = Arc::clone(&cluster.worlds[0].meta) as Arc<dyn MetaApi>;
        let duration = Duration::from_millis(30);
        crate::lease::Leases::new(meta, NodeId(node), Arc::new(move || clock), duration)
    };
    // Neither clock goes, and the second is behind.
    let (one, other) = (leases(1, 1000), leases(2, 0));
    let job = async {
        // Takes it over as soon as it has run out, and then never ends.
        while !other.take("x", Duration::ZERO).await? {
            tokio::task::yield_now().await;
        }
        std::future::pending().await
    };
    let lost: Result<Option<()>, crate::Error> = one.hold("x", job).await;
    assert_eq!(lost.unwrap_err().kind(), Kind::Conflict);
    let done = other.hold("x", async { Ok(7) }).await;
    assert_eq!(done.unwrap(), Some(7));
}
