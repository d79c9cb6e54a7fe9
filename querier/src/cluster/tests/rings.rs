//! Goal: a reader misses nothing that was acknowledged, however old its catalog is and whoever it is
//! cut off with (`docs/adr/0016-when-a-new-ring-may-be-used.md`). Method: the coordinator's real
//! rules; ingesters that hear of its catalogs late or, while they are cut off, not at all; a reader
//! that asks some of them, and gets of each newer catalog only as much as an answer makes it wait for.

use meta::StateMachine;

use super::*;

/// Ingesters that ever join.
const NODES_MAX: u64 = 6;

struct Reader {
    catalogs: Vec<Arc<Catalog>>,
    at: Mutex<usize>,
}

#[async_trait]
impl MetaApi for Reader {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalogs[*self.at.lock()])
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let mut at = self.at.lock();
        *at = (*at).max(version as usize + 1);
        Arc::clone(&self.catalogs[*at])
    }

    async fn propose(&self, _: Command) -> Result<Outcome, Error> {
        unreachable!("a search changes nothing")
    }
}

struct Story {
    machine: StateMachine,
    /// By version.
    catalogs: Vec<Arc<Catalog>>,
    /// The version of the catalog of each ingester.
    heard: BTreeMap<u64, u64>,
    cut_off: BTreeSet<u64>,
    /// Forgotten, and gone indeed.
    dead: BTreeSet<u64>,
    heads: BTreeMap<u64, Vec<HeadBatches>>,
    acknowledged: BTreeSet<u128>,
    next: u128,
    /// The version with which readers start at the earliest: there is an ingester.
    first: usize,
}

impl Story {
    /// A cluster of ingesters that have all heard of each other. `wait`: rings wait, as they do since
    /// there is a rule for it.
    fn new(shape: ClusterShape, nodes: u64, wait: bool) -> Self {
        let mut story = Story {
            machine: StateMachine::default(),
            catalogs: vec![Arc::default()],
            heard: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            dead: BTreeSet::new(),
            heads: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            next: 0,
            first: 0,
        };
        story.apply(&Command::FormCluster(shape));
        if wait {
            story.apply(&Command::Knows(NodeId(1), RingVersion(0)));
        }
        for _ in 0..nodes {
            story.join();
            story.all_hear();
        }
        story.first = story.catalogs.len() - 1;
        story
    }

    /// Whether it was accepted.
    fn apply(&mut self, command: &Command) -> bool {
        let applied = self.machine.apply(command).is_ok();
        if applied {
            self.catalogs.push(Arc::clone(self.machine.catalog()));
        }
        applied
    }

    fn newest(&self) -> Arc<Catalog> {
        Arc::clone(self.machine.catalog())
    }

    fn join(&mut self) {
        let id = self.newest().last_node + 1;
        if id > NODES_MAX {
            return;
        }
        let member = Member {
            id: NodeId(0),
            address: id.to_string().into(),
            zone: format!("z{}", id % 3).into(),
            roles: RoleSet {
                ingester: true,
                ..RoleSet::default()
            },
            state: MemberState::Joining,
        };
        self.apply(&Command::Join(member));
        self.apply(&Command::SetState(NodeId(id), MemberState::Active));
        let version = self.newest().version;
        self.heard.insert(id, version);
    }

    fn raise(&mut self) {
        let shards = self.newest().cluster.shape.map_or(0, |shape| shape.shards);
        self.apply(&Command::RaiseShards(shards * 2 + 1));
    }

    /// The ingester has the newest catalog, unless it is cut off, and says what it has to.
    fn hear(&mut self, id: u64) {
        if self.cut_off.contains(&id) || self.dead.contains(&id) || !self.heard.contains_key(&id) {
            return;
        }
        let newest = self.newest();
        let cluster = &newest.cluster;
        let untold = cluster.unaware().any(|(unaware, _)| unaware.0 == id);
        if let Some(next) = cluster.next_ring.as_ref().filter(|_| untold) {
            self.apply(&Command::Knows(NodeId(id), next.ring.version));
        }
        self.heard.insert(id, newest.version);
    }

    fn all_hear(&mut self) {
        for id in [1, 2].repeat(2) {
            for other in 1..=NODES_MAX {
                self.hear(other);
            }
            self.hear(id);
        }
    }

    /// A batch, by somebody on this side: those who are there of the owners and of the mask get it. An
    /// owner waits for the ring by which it was chosen.
    fn write(&mut self, shard: u32, mask: u8, cut_off: bool) {
        let on_side = |id: &u64| self.cut_off.contains(id) == cut_off && !self.dead.contains(id);
        let there: BTreeSet<u64> = self.heard.keys().copied().filter(on_side).collect();
        let versions = there.iter().map(|id| self.heard[id]);
        let catalog = match cut_off {
            false => self.newest(),
            true => Arc::clone(&self.catalogs[versions.max().unwrap_or(0) as usize]),
        };
        let Some(shape) = catalog.cluster.shape else {
            return;
        };
        let ring = &catalog.cluster.ring;
        let members = ring.members.iter().map(|(id, zone)| (*id, zone));
        let placement = ring::Placement::new(members, ring.shards, shape.replicas);
        // Any that the ring has: a sender may have cut by fewer.
        let shard = shard % ring.shards;
        let owners: Vec<u64> = placement
            .owners(Shard(shard))
            .iter()
            .map(|id| id.0)
            .collect();
        self.next += 1;
        let (id, version) = (self.next, ring.version.0);
        let mut reached = 0;
        for (at, owner) in owners.iter().enumerate() {
            if mask >> at & 1 == 0 || !there.contains(owner) {
                continue;
            }
            // On the side of the coordinator it hears, on the other from who has the newest.
            let heard = self.heard[owner].max(catalog.version);
            self.heard.insert(*owner, heard);
            let heads = self.heads.entry(*owner).or_default();
            let sequence = heads.len() as u64 + 1;
            heads.push(head(*owner, sequence, version, shard, &[id]));
            reached += 1;
        }
        if !owners.is_empty() && reached >= shape.write_quorum(owners.len()) {
            self.acknowledged.insert(id);
        }
    }

    fn forget(&mut self, id: u64) {
        if self.heard.contains_key(&id) && self.apply(&Command::Forget(NodeId(id))) {
            self.dead.insert(id);
        }
    }

    /// Who holds nothing of a past ring that it has heard of says so.
    fn drain(&mut self) {
        for (id, version) in self.heard.clone() {
            if self.cut_off.contains(&id) || self.dead.contains(&id) {
                continue;
            }
            let heads = self.heads.get(&id);
            let oldest = heads.and_then(|heads| heads.iter().map(|head| head.key.ring).min());
            let known = Arc::clone(&self.catalogs[version as usize]);
            let past = known.cluster.past_rings.keys().copied();
            let drained = past.filter(|ring| oldest.is_none_or(|oldest| *ring < oldest));
            if let Some(ring) = drained.max() {
                self.apply(&Command::Drained(NodeId(id), ring));
            }
        }
    }

    /// What a reader with the catalog of a version finds that reaches these alone.
    fn read(&self, version: usize, reached: &BTreeSet<u64>) -> Result<BTreeSet<u128>, Error> {
        let world = Arc::new(World::default());
        for id in 1..=NODES_MAX {
            world.add(id);
            let Some(version) = self.heard.get(&id).filter(|_| reached.contains(&id)) else {
                world.set(id, Behaviour::Fails);
                continue;
            };
            let recent = Recent {
                heads: self.heads.get(&id).cloned().unwrap_or_default(),
                version: *version,
            };
            world.set(id, Behaviour::Answers(recent));
        }
        let reader = Reader {
            catalogs: self.catalogs.clone(),
            at: Mutex::new(version.clamp(self.first, self.catalogs.len() - 1)),
        };
        let search = ClusterSearch::new(Arc::new(reader), world as Arc<dyn Network>, None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let recent = runtime.block_on(search.recent(everything()))?;
        let batches = recent.heads.into_iter().flat_map(|head| head.batches);
        Ok(batches.map(|held| held.id.0).collect())
    }
}

const ONE_SHARD: ClusterShape = ClusterShape {
    shards: 1,
    replicas: 3,
    slot_nanos: 1,
};

/// Two of three old owners of the only shard are cut off with a reader while others come and take
/// their place; what the reader finds then.
fn cut_off_while_the_ring_changes(wait: bool) -> (Story, Result<BTreeSet<u128>, Error>) {
    let mut story = Story::new(ONE_SHARD, 4, wait);
    let (ring, version) = (story.newest().cluster.ring.clone(), story.newest().version);
    let members = ring.members.iter().map(|(id, zone)| (*id, zone));
    let placement = ring::Placement::new(members, 1, 3);
    let old: Vec<u64> = placement.owners(Shard(0)).iter().map(|id| id.0).collect();
    story.cut_off = [old[0], old[1]].into();
    story.join();
    story.join();
    for id in 1..=4 {
        if !story.cut_off.contains(&id) && id != old[2] {
            story.apply(&Command::SetState(NodeId(id), MemberState::Leaving));
        }
    }
    for id in [old[0], old[1]] {
        story.apply(&Command::SetState(NodeId(id), MemberState::Leaving));
    }
    story.all_hear();
    story.write(0, 7, false);
    let found = story.read(version as usize, &story.cut_off);
    (story, found)
}

#[test]
fn a_reader_cut_off_with_two_of_three_old_owners_misses_nothing_because_the_ring_waits() {
    let (story, found) = cut_off_while_the_ring_changes(false);
    assert_eq!(
        story.acknowledged.len(),
        1,
        "as it was: two new owners have it"
    );
    assert_eq!(
        found.unwrap(),
        BTreeSet::new(),
        "and nobody tells the reader"
    );
    let (story, found) = cut_off_while_the_ring_changes(true);
    assert!(story.acknowledged.is_subset(&found.unwrap()));
    assert!(story.newest().cluster.next_ring.is_some());
}

#[test]
fn a_reader_whose_catalog_has_a_next_ring_asks_its_owners_too() {
    let shape = ClusterShape {
        shards: 8,
        replicas: 1,
        ..ONE_SHARD
    };
    let mut story = Story::new(shape, 1, true);
    story.join();
    // The only member knows the ring, and is cut off before it hears that this is in use.
    let known = story.newest().version;
    story.heard.insert(1, known);
    assert!(story.read(0, &[1].into()).is_err());
    assert!(story.read(0, &[1, 2].into()).is_ok());
    story.apply(&Command::Knows(NodeId(1), RingVersion(2)));
    story.heard.insert(2, known + 1);
    for shard in 0..8 {
        story.write(shard, 1, false);
    }
    story.heard.insert(1, known);
    assert_eq!(story.acknowledged.len(), 8);
    assert!(story.read(0, &[1].into()).is_err());
    assert_eq!(story.read(0, &[1, 2].into()).unwrap(), story.acknowledged);
}

#[derive(Clone, Debug)]
enum Event {
    Write { shard: u32, mask: u8, cut_off: bool },
    Join,
    Leave(u64),
    Forget(u64),
    Raise,
    Hear(u64),
    AllHear,
    Drain,
    CutOff(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let id = || 1..=NODES_MAX;
    let event = prop_oneof![
        6 => (0..16_u32, 1..8_u8, any::<bool>()).prop_map(|(shard, mask, cut_off)| Event::Write { shard, mask, cut_off }),
        2 => Just(Event::Join),
        2 => id().prop_map(Event::Leave),
        1 => id().prop_map(Event::Forget),
        1 => Just(Event::Raise),
        6 => id().prop_map(Event::Hear),
        2 => Just(Event::AllHear),
        1 => Just(Event::Drain),
        3 => (0..64_u8).prop_map(Event::CutOff),
    ];
    prop::collection::vec(event, 1..40)
}

fn of_mask(mask: u8) -> BTreeSet<u64> {
    (1..=NODES_MAX)
        .filter(|id| mask >> (id - 1) & 1 == 1)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reader_misses_what_was_acknowledged_however_old_its_catalog(
        (shards, replicas, nodes) in (1..3_u32, 1..4_u32, 1..5_u64),
        events in events(),
        also in 0..64_u8,
        version in 0..80_usize,
    ) {
        let shape = ClusterShape { shards, replicas, slot_nanos: 1 };
        let mut story = Story::new(shape, nodes, true);
        for event in events {
            match event {
                Event::Write { shard, mask, cut_off } => story.write(shard, mask, cut_off),
                Event::Join => story.join(),
                Event::Leave(id) => {
                    story.apply(&Command::SetState(NodeId(id), MemberState::Leaving));
                }
                Event::Forget(id) => story.forget(id),
                Event::Raise => story.raise(),
                Event::Hear(id) => story.hear(id),
                Event::AllHear => story.all_hear(),
                Event::Drain => story.drain(),
                Event::CutOff(mask) => story.cut_off = of_mask(mask),
            }
        }
        for reached in [story.cut_off.clone(), of_mask(also), &story.cut_off | &of_mask(also)] {
            let reached = &reached - &story.dead;
            if let Ok(found) = story.read(version, &reached) {
                let lost: Vec<&u128> = story.acknowledged.difference(&found).collect();
                prop_assert!(lost.is_empty(), "lost {lost:?} for {reached:?}");
            }
        }
    }
}
