//! Somebody who logs what must not be kept, and has it deleted at once: before the last copies of it have
//! come to all owners.

use std::sync::Arc;
use std::time::Duration;

use rpc::IngestApi;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::process::Run;
use crate::questions::{Form, Question};
use crate::records::{Client, Sender};
use crate::world::{Purpose, World};

/// Between two leaks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// An owner that does not get it in time gets it after so long.
const STALL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// The times of a request are whole seconds that are past.
const REQUESTED_AFTER: Duration = Duration::from_millis(2100);
/// How often somebody sees to it that the request is carried out, and how long that may take.
const ROUNDS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// Leaks in peace, and how often it is looked for them: until the last copies have come.
const LEAKS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LATEST_COPY: Duration = Duration::from_secs(10);

impl World {
    /// Never returns.
    pub(crate) async fn leak_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Leaks as u64);
        let mut sender = Sender::new(&self, Client::Leak, 0);
        loop {
            tokio::time::sleep(dice.between(PAUSE.0, PAUSE.1)).await;
            self.leak(&mut sender).await;
        }
    }

    /// Some leaks while all else is well, so that requests end soon; and whether anybody shows what is
    /// deleted when the last copies come.
    pub(crate) async fn leak_in_peace(self: &Arc<Self>) {
        // An owner that lacks a copy is one of three.
        let lacks = self.plan.may_stall() && self.plan.shape.replicas > 2;
        if self.plan.delete_every.is_zero() || !lacks {
            return;
        }
        let leaks = async {
            let mut sender = Sender::new(self, Client::LeakInPeace, 0);
            for _ in 0..LEAKS {
                self.leak(&mut sender).await;
            }
            tokio::time::sleep(LATEST_COPY).await;
        };
        tokio::select! {
            biased;
            () = leaks => {}
            () = self.look_for_leaks() => {}
        }
    }

    /// Never returns.
    async fn look_for_leaks(&self) {
        loop {
            for run in self.runs().iter().filter(|run| run.queries.is_some()) {
                let question = Question {
                    form: Form::Lines,
                    tenants: (0..self.plan.tenants).collect(),
                };
                self.ask(run, &question).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn leak(self: &Arc<Self>, sender: &mut Sender) {
        let owner = sender.dice.pick(&self.ingesters_at_work()).cloned();
        if let Some(owner) = owner.filter(|_| self.plan.may_stall()) {
            let stall = sender.dice.between(STALL.0, STALL.1);
            self.net.stall(&owner.life.address, stall);
        }
        let records = sender.small(self);
        if !self.push_to_any(&records, sender.dice.next()).await {
            return;
        }
        tokio::time::sleep(REQUESTED_AFTER).await;
        let Some(record) = sender.dice.pick(&records.numbers) else {
            return;
        };
        // To some, by their clocks, its time is not yet past.
        for run in self.runs().iter().filter(|run| run.queries.is_some()) {
            if self.delete_record(run, *record).await {
                return self.carry_out(&sender.dice).await;
            }
        }
    }

    /// Has what is in memory stored, and delete requests carried out.
    async fn carry_out(&self, dice: &Dice) {
        for _ in 0..ROUNDS {
            let Some(run) = dice.pick(&self.ingesters_at_work()).cloned() else {
                return;
            };
            let Some(ingester) = run.ingester else {
                return;
            };
            let work = async {
                let flushed = ingester.flush().await;
                let merged = ingester.merge_now().await;
                let address = &run.life.address;
                self.trace.tell(format_args!(
                    "{address} carries deletes out: {flushed:?}, {merged:?}"
                ));
            };
            // It is tried again, by another.
            let _ = timeout(PATIENCE, run.life.live(work)).await;
        }
    }

    fn ingesters_at_work(&self) -> Vec<Run> {
        let runs = self.runs().into_iter();
        runs.filter(|run| run.ingester.is_some()).collect()
    }
}
