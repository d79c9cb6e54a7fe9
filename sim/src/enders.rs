//! The ends of delete requests: records that come at that very moment, and whoever ends a request dies in
//! the middle of that and stays away: what the request names must soon be taken all the same.

use std::sync::Arc;
use std::time::Duration;

use rpc::MetaApi;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::deletes::Asked;
use crate::dice::Dice;
use crate::net::Weather;
use crate::process::Run;
use crate::records::{Client, Sender};
use crate::world::World;

/// The lease of the ingester that ends requests.
const LEASE: &str = "finish deletes";
/// Requests end when their last copies may have come, and somebody looks then.
const AFTER_COPIES: Duration = Duration::from_secs(20);
/// How long a client may be refused: for two rounds of a distributor, and an election.
const REFUSED_MAX: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const TRIES: u64 = 3;
/// How many ends are raced with, and for how long.
const RACES: usize = 6;
const RACES_MAX: Duration = Duration::from_secs(40);
/// Records that race with one, at most, and when they are sent. Few and late: one that comes before
/// heads are looked at keeps the request from its end.
const RACING_MAX: u64 = 2;
const RACING_WITHIN: Duration = Duration::from_millis(300);
const SLOW_WIRES: Weather = Weather {
    way_max: Duration::from_millis(20),
    ..Weather::FAIR
};

impl World {
    /// Some requests end while records come that they name.
    pub(crate) async fn race_with_ends(self: &Arc<Self>) {
        if self.plan.delete_every.is_zero() {
            return;
        }
        // So that much may come between two steps of an end.
        self.net.set_weather(SLOW_WIRES);
        let mut sender = Sender::new(self, Client::RacedEnd, 0);
        let until = Instant::now() + RACES_MAX;
        for _ in 0..RACES {
            let Some((asked, _)) = self.an_end(&sender.dice, until).await else {
                break;
            };
            let mut racing = JoinSet::new();
            for _ in 0..=sender.dice.below(RACING_MAX) {
                let Some(late) = asked.late(&sender.dice) else {
                    continue;
                };
                let after = sender.dice.between(Duration::ZERO, RACING_WITHIN);
                let (records, pick) = (sender.late(self, late), sender.dice.next());
                let world = Arc::clone(self);
                racing.spawn(async move {
                    tokio::time::sleep(after).await;
                    world.push_to_any(&records, pick).await
                });
            }
            racing.join_all().await;
        }
        self.net.set_weather(Weather::FAIR);
    }

    /// Where each record has three owners, one of whom may be away.
    pub(crate) async fn kill_who_ends_a_request(self: &Arc<Self>) {
        if self.plan.delete_every.is_zero() || self.plan.shape.replicas < 3 {
            return;
        }
        let mut sender = Sender::new(self, Client::CutEnd, 0);
        let until = Instant::now() + self.plan.ingester.late_copies + AFTER_COPIES;
        let Some((asked, ender)) = self.an_end(&sender.dice, until).await else {
            return;
        };
        if !self.voters_are_well() {
            return;
        }
        self.crash(&ender);
        let began = Instant::now();
        for _ in 0..TRIES {
            if let Some(late) = asked.late(&sender.dice) {
                let records = sender.late(self, late);
                let left = REFUSED_MAX.saturating_sub(began.elapsed());
                let taken = async {
                    while !self.push_to_any(&records, sender.dice.next()).await {
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                };
                if timeout(left, taken).await.is_err() {
                    let how = format!("{ender} ended a request and died: records are refused");
                    self.checks.fail("a_dead_process_holds_up_no_writes", how);
                }
            }
        }
        self.start(&ender);
    }

    /// Asks for records to be deleted, and waits until a request is about to end that names what may
    /// still come.
    async fn an_end(&self, dice: &Dice, until: Instant) -> Option<(Arc<Asked>, Arc<str>)> {
        for _ in 0..TRIES {
            let runs = self.runs();
            let askable: Vec<&Run> = runs.iter().filter(|run| run.queries.is_some()).collect();
            if let Some(run) = dice.pick(&askable) {
                self.delete_some(run, dice).await;
            }
        }
        timeout_at(until, self.who_ends()).await.ok().flatten()
    }

    /// A request that is about to end, and who ends it.
    async fn who_ends(&self) -> Option<(Arc<Asked>, Arc<str>)> {
        let node = self.runs().into_iter().find_map(|run| run.node)?;
        let mut catalog = node.catalog();
        loop {
            let closed = self.closed_in(&catalog);
            let named = closed.into_iter().find(|asked| asked.names_many());
            let cluster = &catalog.cluster;
            if let Some(asked) = named
                && let Some(lease) = cluster.leases.get(LEASE)
            {
                let ender = cluster.members.get(&lease.holder)?;
                return Some((asked, Arc::clone(&ender.address)));
            }
            catalog = node.changed(catalog.version).await;
        }
    }
}
