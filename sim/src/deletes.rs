//! Those who want records gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use model::NANOS_PER_SECOND;
use rpc::MetaApi;
use tokio::time::timeout;

use crate::clients::PATIENCE;
use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::process::Run;
use crate::questions::{escaped, send};
use crate::records::{APPS, ITEMS, Sent, tenant_of};
use crate::world::{Purpose, World};

/// The times of a request are whole seconds and end before it is asked for.
const YOUNGEST: i64 = 1;
const OLDEST_MAX: u64 = 60;

/// Which records of a tenant are to go.
#[derive(Clone, Copy, Debug)]
enum Named {
    Record(RecordNumber),
    /// Those whose lines speak of it.
    Item(u64),
    /// Those of its streams.
    App(u64),
}

impl Named {
    fn is(self, number: RecordNumber, sent: &Sent) -> bool {
        match self {
            Named::Record(named) => number == named,
            Named::Item(item) => number % ITEMS == item,
            Named::App(app) => sent.app == app,
        }
    }

    /// A line filter of each kind, and a selector.
    fn query(self) -> String {
        match self {
            Named::Record(number) => format!(r#"{{app=~".+"}} |= "r{number} ""#),
            Named::Item(item) => format!(r#"{{env="sim"}} |~ "GET /items/{item}/p""#),
            Named::App(app) => format!(r#"{{app="a{app}"}}"#),
        }
    }
}

impl World {
    /// Has some records deleted now and then, by whichever querier.
    pub(crate) async fn delete_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Deletes as u64);
        loop {
            let pause = (Duration::from_millis(500), self.plan.delete_every);
            tokio::time::sleep(dice.between(pause.0, pause.1)).await;
            let runs = self.runs();
            let askable: Vec<&Run> = runs.iter().filter(|run| run.queries.is_some()).collect();
            if let Some(run) = dice.pick(&askable) {
                self.delete_some(run, &dice).await;
            }
        }
    }

    async fn delete_some(&self, run: &Run, dice: &Dice) {
        let now = self.now() / NANOS_PER_SECOND;
        let end = now - YOUNGEST;
        let start = end - 1 - dice.below(OLDEST_MAX) as i64;
        let (first, last) = (start * NANOS_PER_SECOND, end * NANOS_PER_SECOND);
        let of = dice.below(self.plan.tenants);
        let candidates: Vec<(RecordNumber, Sent)> = {
            let sent = self.sent.lock();
            let of = sent.iter().filter(|(number, sent)| {
                tenant_of(**number) == of && (first..=last).contains(&sent.at)
            });
            of.map(|(number, sent)| (*number, *sent)).collect()
        };
        let Some((any, _)) = dice.pick(&candidates) else {
            return;
        };
        let named = match dice.below(4) {
            0 => Named::Item(dice.below(ITEMS)),
            1 => Named::App(dice.below(APPS)),
            _ => Named::Record(*any),
        };
        let going = candidates
            .iter()
            .filter(|(number, sent)| named.is(*number, sent));
        let going: BTreeSet<RecordNumber> = going.map(|(number, _)| *number).collect();
        // Whether or not there is an answer: it may be carried out.
        self.checks.see(&Event::DeleteAsked(going.clone()));
        let query = escaped(&named.query());
        let address = format!("/loki/api/v1/delete?start={start}&end={end}&query={query}");
        let router = run.queries.clone().unwrap_or_default();
        let tenants = BTreeSet::from([of]);
        let asked = send(router, Method::POST, &tenants, address);
        let answer = timeout(PATIENCE, run.life.live(asked)).await;
        let by = &run.life.address;
        match answer {
            Ok(Some(Ok(_))) => {
                let version = run.node.as_ref().map_or(u64::MAX, |n| n.catalog().version);
                let count = going.len();
                self.trace.tell(format_args!(
                    "{by} deletes {named:?} of {of}, {count} records, at {version}"
                ));
                self.checks.see(&Event::Deleted {
                    records: going,
                    version,
                });
            }
            Ok(Some(Err(error))) => {
                self.trace
                    .tell(format_args!("{by} does not delete {named:?}: {error}"));
            }
            Ok(None) | Err(_) => {
                self.trace
                    .tell(format_args!("{by} says nothing of deleting {named:?}"));
            }
        }
    }
}
