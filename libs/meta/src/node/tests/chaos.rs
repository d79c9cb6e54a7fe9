//! Everything at once, drawn by a seed: crashes, cut wires, lost, late and doubled messages. What was
//! answered must be there in the end, once, and the same everywhere.

use super::*;

/// How many runs, unless `SEEDS` says another number; each is some minutes of the cluster's time.
const SEEDS: u64 = 12;
const STEPS: usize = 60;
const INGESTERS: [&str; 4] = ["a", "b", "c", "d"];

/// xorshift64*, as the coordinator's own.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.roll(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }
}

/// What those who propose were told, and what was seen meanwhile.
#[derive(Default)]
struct Ledger {
    answered: Mutex<BTreeSet<u64>>,
    asked: Mutex<u64>,
    leaders: Mutex<BTreeMap<u64, u64>>,
}

impl Ledger {
    /// Two leaders of one term would be two truths.
    fn note_leaders(&self, world: &World) {
        let nodes = world.wires.nodes.lock().unwrap();
        for node in nodes.values() {
            let Some(metrics) = node.owner.core.metrics() else {
                continue;
            };
            if metrics.state == openraft::ServerState::Leader {
                let mut leaders = self.leaders.lock().unwrap();
                let leader = leaders.entry(metrics.current_term).or_insert(metrics.id);
                assert_eq!(*leader, metrics.id, "term {}", metrics.current_term);
            }
        }
    }

    /// Somebody proposes the next flush, in the background; it tells when it is answered.
    fn propose(self: &Arc<Self>, node: Node) {
        let sequence = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        let ledger = Arc::clone(self);
        tokio::spawn(async move {
            let path = format!("p{sequence}");
            if let Ok(outcome) = node.propose(flush(1, sequence, &[&path])).await {
                let Outcome::Done { version } = outcome else {
                    panic!("a flush has no other outcome");
                };
                assert!(node.catalog().version >= version);
                ledger.answered.lock().unwrap().insert(sequence);
            }
        });
    }
}

async fn step(world: &mut World, dice: &mut Dice, ledger: &Arc<Ledger>) {
    let one = dice.pick(&INGESTERS);
    let other = dice.pick(&["a", "b", "c", "d", "q"]);
    let up = world.wires.nodes.lock().unwrap().contains_key(one);
    match dice.roll(10) {
        0 if up => world.kill(one),
        0..=2 if !up => {
            let node = world.open(one, INGESTER).await;
            tokio::spawn(async move { node.join().await });
        }
        3 if one != other => world.cut(one, other),
        4 => world.heal(),
        _ => {
            let node = world.wires.nodes.lock().unwrap().get(other).cloned();
            if let Some(node) = node {
                ledger.propose(node);
            }
        }
    }
    for _ in 0..dice.roll(40) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ledger.note_leaders(world);
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
struct End {
    answered: BTreeSet<u64>,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    catalog: Arc<Catalog>,
}

async fn run(seed: u64) -> End {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new(&["a", "b", "c"]);
    world.snapshot_commands = Some(8);
    world.seed = seed;
    drop(world.three().await);
    drop(world.start("d", INGESTER).await);
    drop(world.start("q", QUERIER).await);
    world.wires.trouble.store(seed | 1, Ordering::SeqCst);
    let ledger = Arc::<Ledger>::default();
    for _ in 0..STEPS {
        step(&mut world, &mut dice, &ledger).await;
    }
    world.wires.trouble.store(0, Ordering::SeqCst);
    world.heal();
    let mut nodes = Vec::new();
    for address in INGESTERS {
        let up = world.wires.nodes.lock().unwrap().get(address).cloned();
        let node = match up {
            Some(node) => node,
            None => world.open(address, INGESTER).await,
        };
        nodes.push(node);
    }
    let joining = nodes.iter().map(|node| {
        let node = node.clone();
        tokio::spawn(async move { node.join().await.unwrap() })
    });
    for joined in joining.collect::<Vec<_>>() {
        joined.await.unwrap();
    }
    nodes.push(world.wires.nodes.lock().unwrap()["q"].clone());
    insist(&nodes[4], form()).await;
    // Proposals that still waited for an answer have it now.
    tokio::time::sleep(Duration::from_secs(30)).await;
    same_catalogs(&nodes).await;
    let catalog = nodes[0].catalog();
    let mut paths: Vec<_> = catalog
        .segments
        .values()
        .map(|s| s.path.to_string())
        .collect();
    let stored = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), stored, "nothing twice");
    let answered = ledger.answered.lock().unwrap().clone();
    for sequence in answered.iter() {
        let head = model::HeadId {
            ingester: 1,
            sequence: *sequence,
        };
        assert!(catalog.covers(head), "{head:?} was answered");
        assert!(paths.contains(&format!("p{sequence}")));
    }
    assert_eq!(catalog.cluster.ring.members.len(), 4);
    let leaders = ledger.leaders.lock().unwrap().clone();
    End {
        answered,
        leaders,
        catalog,
    }
}

fn run_paused(seed: u64) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(run(seed))
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().unwrap())
}

#[test]
fn what_was_answered_is_there_whatever_happens() {
    let (first, seeds) = (number("SEED_BASE", 0), number("SEEDS", SEEDS));
    let mut answered = 0;
    for seed in first..first + seeds {
        let ran = std::panic::catch_unwind(|| run_paused(seed));
        assert!(ran.is_ok(), "failed with SEED_BASE={seed} SEEDS=1");
        answered += ran.unwrap().answered.len();
    }
    let least = usize::try_from(seeds).unwrap() * 5;
    assert!(answered > least, "{answered} answers test nothing");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..3 {
        assert_eq!(run_paused(seed), run_paused(seed), "seed {seed}");
    }
}
