//! One run from its beginning to its verdict.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::Context;
use model::{HeadId, TimeRange};
use parking_lot::Mutex;
use rpc::{RecentRequest, SearchApi};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::deletes::DELETED_CLIENTS;
use crate::dice::Dice;
use crate::invariants::{Broken, Event};
use crate::mutants::Mutant;
use crate::plan::Plan;
use crate::process::Run;
use crate::questions::{Form, Question};
use crate::records::tenant;
use crate::world::{Purpose, Tally, World};

/// How long the first start may take, and everything to be as it should be after the last fault.
const START_PATIENCE: Duration = Duration::from_secs(120);
const HEAL_PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether things are as they should be.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLIENTS: u64 = 3;

/// Panics of all threads; there is one run at a time.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static TURN: Mutex<()> = Mutex::new(());

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// What was broken, and how.
    pub broken: Option<(String, String)>,
    /// Equal for runs in which the same happened.
    pub hash: u64,
    /// The last things that happened.
    pub trace: Vec<String>,
    /// How much happened.
    pub summary: String,
}

/// Simulates what the seed says, and keeps the last lines of the trace. With a mutant, something is
/// wrong on purpose.
///
/// # Errors
/// When there is no place for temporary files.
pub fn simulate(seed: u64, kept: usize, mutant: Option<Mutant>) -> anyhow::Result<Verdict> {
    let mut plan = Plan::draw(&Dice::new(seed, Purpose::Plan as u64));
    plan.mutant = mutant;
    if mutant == Some(Mutant::ForgetCopies) {
        plan.ingester.late_copies = Duration::ZERO;
    }
    let lived = in_world(seed, plan, kept, async |world| live(&world).await);
    lived.map(|((), verdict)| verdict)
}

/// Runs `work` in a world of its own, and says what came of it. In a thread of its own, too, for
/// the seeds of hash maps follow from those that the thread had before.
pub(crate) fn in_world<T: Send>(
    seed: u64,
    plan: Plan,
    kept: usize,
    work: impl AsyncFnOnce(Arc<World>) -> T + Send,
) -> anyhow::Result<(T, Verdict)> {
    let _turn = TURN.lock();
    listen_for_panics();
    PANICS.lock().clear();
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let path: PathBuf = folder.path().to_owned();
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let (done, world, seconds) = runtime.block_on(async {
            let world = World::new(seed, plan, path, kept);
            let done = work(Arc::clone(&world)).await;
            let seconds = world.began.elapsed().as_secs_f64();
            (done, world, seconds)
        });
        let verdict = verdict(&world, seconds);
        drop(runtime);
        Ok((done, verdict))
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn verdict(world: &World, seconds: f64) -> Verdict {
    let panics = PANICS.lock();
    let broken = world.checks.broken().or_else(|| {
        panics.first().map(|panic| Broken {
            invariant: "no_panic",
            how: panic.clone(),
        })
    });
    let Tally {
        sent,
        acknowledged,
        answered,
        unanswered,
        crashes,
        faults,
        ..
    } = *world.tally.lock();
    Verdict {
        seed: world.seed,
        broken: broken.map(|broken| (broken.invariant.to_owned(), broken.how)),
        hash: world.trace.hash(),
        trace: world.trace.last_lines(),
        summary: format!(
            "{:.0} s, {} calls, {faults} faults, {crashes} crashes, {acknowledged} of {sent} records acknowledged, {answered} queries answered, {unanswered} not, {} uploads",
            seconds,
            world.net.calls(),
            world.checks.uploads().values().sum::<u64>(),
        ),
    }
}

/// Panics of tasks and of work are found wherever they end up.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.lock().push(panic.to_string());
            before(panic);
        }));
    });
}

/// Start, trouble, peace, last look.
async fn live(world: &Arc<World>) {
    if !world.start_all().await {
        return;
    }
    world.cloud();
    let mut busy = JoinSet::new();
    for client in 0..CLIENTS {
        busy.spawn(Arc::clone(world).push_now_and_then(client));
    }
    busy.spawn(Arc::clone(world).ask_now_and_then());
    busy.spawn(Arc::clone(world).watch_now_and_then());
    busy.spawn(Arc::clone(world).raise_shards_now_and_then());
    let operator = tokio::spawn(Arc::clone(world).accept_losses());
    if !world.plan.delete_every.is_zero() {
        busy.spawn(Arc::clone(world).delete_now_and_then());
        busy.spawn(Arc::clone(world).leak_now_and_then());
        for client in 0..DELETED_CLIENTS {
            busy.spawn(Arc::clone(world).push_what_is_deleted(client));
        }
    }
    if !world.plan.fault_every.is_zero() {
        busy.spawn(Arc::clone(world).make_trouble());
    }
    let ends = Instant::now() + world.plan.trouble;
    while Instant::now() < ends && world.checks.broken().is_none() && PANICS.lock().is_empty() {
        sleep(LOOK_EVERY).await;
    }
    busy.shutdown().await;
    if world.checks.broken().is_none() {
        world.settle().await;
    }
    operator.abort();
}

fn all_ready(world: &World) -> bool {
    let mut sites = world.sites().into_iter();
    sites.all(|site| {
        let run = world.run_of(&site.placed.address);
        run.is_some_and(|run| run.ready)
    })
}

impl World {
    /// Whether it comes true in time.
    async fn until(self: &Arc<Self>, patience: Duration, is: impl Fn(&World) -> bool) -> bool {
        let ends = Instant::now() + patience;
        while !is(self) {
            if Instant::now() >= ends || !PANICS.lock().is_empty() {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    fn fail_to(&self, what: &'static str) {
        let waiting = self.runs();
        let waiting = waiting.iter().filter(|run| !run.ready);
        let waiting: Vec<_> = waiting.map(|run| run.life.address.to_string()).collect();
        let statuses = self.runs().into_iter().filter_map(|run| run.node);
        let statuses: Vec<String> = statuses
            .map(|node| {
                let status = node.status();
                format!("{} {:?} {:?}", status.address, status.leader, status.voters)
            })
            .collect();
        let how = format!("not ready: {waiting:?}; {statuses:?}");
        self.checks.fail(what, how);
    }

    /// Starts everybody for the first time; whether all are ready in time.
    pub(crate) async fn start_all(self: &Arc<Self>) -> bool {
        for placed in &self.plan.first {
            self.start(&placed.address);
        }
        let ready = self.until(START_PATIENCE, all_ready).await;
        if !ready {
            self.fail_to("the_cluster_forms");
        }
        ready
    }

    /// Waits until no ingester holds a head.
    pub(crate) async fn settle_quietly(&self) {
        let ends = Instant::now() + HEAL_PATIENCE;
        let mut held = self.held().await;
        while !held.is_empty() && Instant::now() < ends && self.checks.broken().is_none() {
            sleep(LOOK_EVERY * 5).await;
            held = self.held().await;
        }
        self.checks.see(&Event::Settled { held });
    }

    /// Faults are over: everything that was acknowledged is found by everybody, and ends up in
    /// segments.
    async fn settle(self: &Arc<Self>) {
        self.heal();
        if !self.until(HEAL_PATIENCE, all_ready).await {
            self.fail_to("the_cluster_heals");
            return;
        }
        self.ask_all().await;
        self.leak_in_peace().await;
        self.race_with_ends().await;
        // Voters whose disks are lost are replaced after a while.
        self.until(HEAL_PATIENCE, World::voters_are_well).await;
        self.kill_who_ends_a_request().await;
        if !self.until(HEAL_PATIENCE, all_ready).await {
            self.fail_to("the_cluster_heals");
            return;
        }
        self.settle_quietly().await;
        self.ask_all().await;
        for run in self.runs() {
            if let Some(ingester) = run.ingester {
                let merged = ingester.merge_now().await;
                let address = &run.life.address;
                self.trace
                    .tell(format_args!("{address} merges: {merged:?}"));
                break;
            }
        }
        self.ask_all().await;
    }

    /// Everybody who can be asked must answer, soon.
    async fn ask_all(self: &Arc<Self>) {
        let ends = Instant::now() + HEAL_PATIENCE;
        let of_all: BTreeSet<u64> = (0..self.plan.tenants).collect();
        for run in self.runs().iter().filter(|run| run.queries.is_some()) {
            for form in [Form::Lines, Form::Counts] {
                let tenants = of_all.clone();
                let question = Question { form, tenants };
                // One that has left meanwhile need not answer.
                while !run.life.is_over()
                    && !self.ask(run, &question).await
                    && self.checks.broken().is_none()
                {
                    if Instant::now() >= ends {
                        let catalog = self.newest_catalog();
                        let past = catalog.map(|catalog| catalog.cluster.past_rings.clone());
                        let by = &run.life.address;
                        let how = format!("{by} does not answer; past rings: {past:?}");
                        self.checks.fail("queries_are_answered_again", how);
                        return;
                    }
                    sleep(LOOK_EVERY * 5).await;
                }
            }
        }
    }

    /// Heads that some ingester holds.
    async fn held(&self) -> Vec<HeadId> {
        let mut held = Vec::new();
        for Run { ingester, life, .. } in self.runs() {
            let Some(ingester) = ingester else {
                continue;
            };
            for of in 0..self.plan.tenants {
                let everything = RecentRequest::all(tenant(of), TimeRange::ALL);
                let recent = life.live(ingester.recent(everything)).await;
                if let Some(Ok(recent)) = recent {
                    held.extend(recent.heads.iter().map(|head| head.head));
                }
            }
        }
        held
    }
}
