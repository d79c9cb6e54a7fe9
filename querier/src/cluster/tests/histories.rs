//! Goal: every acknowledged batch is in an answer or in the segments. Method: random histories of
//! writes, flushes and rings, with any ingesters down.

use proptest::prelude::*;

use super::*;

/// A step in the life of a cluster.
#[derive(Clone, Debug)]
enum Step {
    /// A batch goes to the owners of a shard; those of the mask get it.
    Write { shard: u32, mask: u8 },
    /// The heads of one ingester of a shard are flushed and covered.
    Flush { ingester: u64, shard: u32 },
    /// The ring is made of these.
    Ring { mask: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u32, 0..8_u8).prop_map(|(shard, mask)| Step::Write { shard, mask }),
        2 => (1..=5_u64, 0..4_u32).prop_map(|(ingester, shard)| Step::Flush { ingester, shard }),
        1 => (1..32_u8).prop_map(|mask| Step::Ring { mask }),
    ];
    prop::collection::vec(step, 1..40)
}

fn members_of(mask: u8) -> Vec<u64> {
    (1..=5).filter(|id| mask >> (id - 1) & 1 == 1).collect()
}

/// The heads of all ingesters, the batches that were acknowledged, and those that are stored.
#[derive(Default)]
struct History {
    heads: BTreeMap<u64, Vec<HeadBatches>>,
    sequences: BTreeMap<u64, u64>,
    acknowledged: BTreeSet<u128>,
    stored: BTreeSet<u128>,
    next: u128,
}

impl History {
    fn write(&mut self, world: &World, shard: u32, mask: u8) {
        let cluster = world.catalog().cluster.clone();
        let members = cluster.ring.members.iter().map(|(id, zone)| (*id, zone));
        let placement = ring::Placement::new(members, SHAPE.shards, SHAPE.replicas);
        let owners = placement.owners(Shard(shard));
        self.next += 1;
        let id = self.next;
        let reached = (0..).zip(owners).filter(|(at, _)| mask >> at & 1 == 1);
        let reached: Vec<u64> = reached.map(|(_, owner)| owner.0).collect();
        for owner in &reached {
            let sequence = self.sequences.entry(*owner).or_default();
            *sequence += 1;
            let head = head(*owner, *sequence, cluster.ring.version.0, shard, &[id]);
            self.heads.entry(*owner).or_default().push(head);
        }
        if reached.len() >= SHAPE.write_quorum(owners.len()) {
            self.acknowledged.insert(id);
        }
    }

    fn flush(&mut self, world: &World, ingester: u64, shard: u32) {
        let heads = self.heads.entry(ingester).or_default();
        let flushed = heads.extract_if(.., |head| head.key.shard == Shard(shard));
        for head in flushed {
            self.stored
                .extend(head.batches.iter().map(|held| held.id.0));
            world.change(|catalog| {
                let covered = catalog.covered.entry(ingester).or_default();
                covered.also.insert(head.head.sequence);
            });
        }
    }

    /// As the coordinator does; who has no head of a past ring has drained.
    fn ring(&mut self, world: &World, ids: &[u64]) {
        world.change(|catalog| {
            let cluster = &mut catalog.cluster;
            let version = cluster.ring.version.0 + 1;
            let before = std::mem::replace(&mut cluster.ring, ring(version, ids));
            let past = PastRing {
                undrained: before.members.keys().copied().collect(),
                lost: BTreeSet::new(),
                ring: before,
            };
            cluster.past_rings.insert(past.ring.version, past);
        });
    }

    fn drain(&self, world: &World) {
        world.change(|catalog| {
            for past in catalog.cluster.past_rings.values_mut() {
                let version = past.ring.version;
                past.undrained.retain(|id| {
                    let heads = self.heads.get(&id.0);
                    heads.is_some_and(|heads| heads.iter().any(|head| head.key.ring == version))
                });
            }
            let rings = &mut catalog.cluster.past_rings;
            rings.retain(|_, past| !past.undrained.is_empty());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_batch_is_in_an_answer_or_in_the_segments(
        steps in steps(),
        drained in any::<bool>(),
        down in 0..32_u8,
    ) {
        let world = World::new(&[1, 2, 3, 4, 5]);
        let mut history = History::default();
        for step in steps {
            match step {
                Step::Write { shard, mask } => history.write(&world, shard, mask),
                Step::Flush { ingester, shard } => history.flush(&world, ingester, shard),
                Step::Ring { mask } => history.ring(&world, &members_of(mask)),
            }
        }
        if drained {
            history.drain(&world);
        }
        for id in 1..=5 {
            world.holds(id, history.heads.remove(&id).unwrap_or_default());
        }
        for id in members_of(down) {
            world.set(id, Behaviour::Fails);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        if let Ok(found) = runtime.block_on(found(&world)) {
            let shown: BTreeSet<u128> = found.iter().copied().collect();
            prop_assert_eq!(shown.len(), found.len(), "a batch is there twice");
            let lost: Vec<&u128> = history.acknowledged.iter().filter(|id| !shown.contains(id) && !history.stored.contains(id)).collect();
            prop_assert!(lost.is_empty(), "lost {lost:?}");
        } else {
            prop_assert!(down != 0, "all are up");
        }
    }
}
