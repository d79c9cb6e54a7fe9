//! Goal: an object that a rebuild of the catalog names is not deleted, whatever its writer is told.
//! Method: a coordinator that gets another's command just before that of the ingester.

use rpc::SwapCommit;

use super::*;

/// What another does, given a command that is on its way.
type Other = fn(&Command) -> Option<Command>;

struct Racing {
    meta: Arc<Flaky>,
    other: Other,
    /// How often the catalog may be looked at before the other does it, if that is when.
    looks: Mutex<Option<(usize, Command)>>,
}

#[async_trait]
impl MetaApi for Racing {
    fn catalog(&self) -> Arc<Catalog> {
        let mut looks = self.looks.lock();
        if let Some((left, command)) = looks.take() {
            match left.checked_sub(1) {
                Some(left) => *looks = Some((left, command)),
                None => drop(now(self.meta.propose(command)).unwrap()),
            }
        }
        self.meta.catalog()
    }
    async fn changed(&self, version: u64) -> Arc<Catalog> {
        self.meta.changed(version).await
    }
    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        if let Some(first) = (self.other)(&command) {
            self.meta.propose(first).await.unwrap();
        }
        self.meta.propose(command).await
    }
}

/// What needs no waiting.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

async fn start(world: &World, other: Other) -> (Ingester, Arc<Racing>) {
    let racing = Arc::new(Racing {
        meta: Arc::clone(&world.meta),
        other,
        looks: Mutex::new(None),
    });
    let deps = Deps {
        meta: Arc::clone(&racing) as Arc<dyn MetaApi>,
        ..world.deps()
    };
    let ingester = Ingester::start(world.config.clone(), deps).await;
    (ingester.unwrap(), racing)
}

fn added(segments: &[rpc::SegmentMeta]) -> Option<Command> {
    Some(Command::SwapSegments(SwapCommit {
        remove: Vec::new(),
        add: segments.to_vec(),
        deleted: BTreeSet::new(),
        delete_after: 0,
    }))
}

/// Each live segment has its object.
async fn assert_whole(world: &World) {
    for segment in world.meta.catalog().segments.values() {
        world.storage.size(&segment.path).await.unwrap();
    }
}

/// A merge whose swap is refused, after what another did; how many objects are left.
async fn refused_merge(other: Other) -> usize {
    let world = World::new();
    let (ingester, _) = start(&world, other).await;
    for number in 0..9 {
        ingester.ingest(vec![request(number)]).await.unwrap();
        ingester.flush().await.unwrap();
    }
    ingester.merge_now().await.unwrap();
    assert_whole(&world).await;
    world.objects().await
}

#[tokio::test]
async fn the_output_of_a_refused_merge_goes_unless_a_rebuild_has_named_it() {
    let left = refused_merge(|command| match command {
        Command::SwapSegments(swap) => Some(Command::SwapSegments(SwapCommit {
            add: Vec::new(),
            ..swap.clone()
        })),
        _ => None,
    });
    assert_eq!(left.await, 9);
    let named = refused_merge(|command| match command {
        Command::SwapSegments(swap) => Some(Command::SwapSegments(swap.clone())),
        _ => None,
    });
    assert_eq!(named.await, 10);
}

#[tokio::test]
async fn an_object_that_a_rebuild_named_first_is_stored_again_at_once() {
    let world = World::new();
    let (ingester, _) = start(&world, |command| match command {
        Command::CommitFlush(commit) if !commit.segments[0].path.contains("-again-") => {
            added(&commit.segments)
        }
        _ => None,
    })
    .await;
    ingester.ingest(vec![request(1)]).await.unwrap();
    ingester.flush().await.unwrap();
    assert_eq!((world.segments(), world.objects().await), (2, 2));
    assert_eq!(recent(&world, &ingester).await, 0);
    assert_whole(&world).await;
    ingester.merge_now().await.unwrap();
    assert_eq!(world.records(), 1, "copies are dropped");
}

#[tokio::test]
async fn an_orphan_that_is_named_while_others_are_removed_stays() {
    let mut looked = Vec::new();
    for looks in 0..6 {
        let world = World::new();
        let (ingester, racing) = start(&world, |_| None).await;
        ingester.ingest(vec![request(1)]).await.unwrap();
        ingester.flush().await.unwrap();
        let catalog = world.meta.catalog();
        let flushed = catalog.segments.values().next().unwrap();
        let orphan = |name: &str| rpc::SegmentMeta {
            path: format!("segments/c1/logs/x/1-{name}-0.seg").into(),
            ..(**flushed).clone()
        };
        let orphans = ["h1", "h2"].map(orphan);
        for orphan in &orphans {
            let part = bytes::Bytes::from_static(b"left by a crash");
            world.storage.put(&orphan.path, vec![part]).await.unwrap();
        }
        world.now.store(i64::MAX / 2, Ordering::Relaxed);
        *racing.looks.lock() = added(&orphans[1..]).map(|command| (looks, command));
        let removed = ingester.clean_now().await.unwrap();
        // Not looked at so often: named too late.
        looked.push(removed == 1);
        let stays = world.storage.size(&orphans[1].path).await.is_ok();
        assert_eq!(stays, removed == 1);
    }
    // The lease, the condemned, all orphans, each of them.
    assert_eq!(looked, [true, true, true, true, true, false]);
}
