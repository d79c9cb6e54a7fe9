//! Those who want records gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use model::{NANOS_PER_SECOND, TimeRange, Timestamp};
use rpc::{Catalog, DeleteRequest, MetaApi};
use tokio::time::timeout;

use crate::clients::PATIENCE;
use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::process::Run;
use crate::questions::{escaped, send};
use crate::records::{APPS, ITEMS, Sender, Sent, tenant, tenant_of};
use crate::world::{Purpose, World};

/// The times of a request are whole seconds and end before it is asked for.
const YOUNGEST: i64 = 1;
const OLDEST_MAX: u64 = 60;
/// The number of the client that sends what is deleted; how often it does, in a thousand, and how
/// long after it hears that a request ends.
const DELETED_CLIENT: u64 = 9;
const SENT_AT_THE_END: u64 = 400;
const SENT_WITHIN: Duration = Duration::from_millis(200);

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

/// A request to delete.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    of: u64,
    named: Named,
    range: TimeRange,
}

impl Asked {
    /// Whether a record is to go.
    pub(crate) fn names(&self, number: RecordNumber, sent: &Sent) -> bool {
        tenant_of(number) == self.of && self.range.contains(sent.at) && self.named.is(number, sent)
    }

    /// Whether it, or an equal one, is in force.
    pub(crate) fn is_active(&self, catalog: &Catalog) -> bool {
        let mut active = catalog.deletes.values();
        active.any(|delete| self.is(&delete.request))
    }

    /// Whether it is about to end in this catalog.
    fn is_closed(&self, catalog: &Catalog) -> bool {
        let mut active = catalog.deletes.values();
        active.any(|delete| delete.closed.is_some() && self.is(&delete.request))
    }

    fn is(&self, request: &DeleteRequest) -> bool {
        request.range == self.range
            && request.tenant == tenant(self.of)
            && *request.query == *self.named.query()
    }

    /// How a record is made that it names; `None` when there is one only.
    fn late(&self, dice: &Dice) -> Option<Late> {
        let (app, item) = match self.named {
            Named::Record(_) => return None,
            Named::Item(item) => (dice.below(APPS), Some(item)),
            Named::App(app) => (app, None),
        };
        let length = (self.range.end - self.range.start) / NANOS_PER_SECOND;
        let after = dice.below(length as u64) as i64 * NANOS_PER_SECOND;
        Some(Late {
            of: self.of,
            app,
            item,
            time: self.range.start + after,
        })
    }
}

/// A record that comes late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late {
    pub(crate) of: u64,
    pub(crate) app: u64,
    pub(crate) item: Option<u64>,
    pub(crate) time: Timestamp,
}

impl World {
    /// Never returns. Sends records that requests name at the very moment when these end.
    pub(crate) async fn push_what_is_deleted(self: Arc<Self>) {
        let mut sender = Sender::new(&self, DELETED_CLIENT);
        loop {
            let Some(catalog) = self.next_catalog(&sender.dice).await else {
                continue;
            };
            let closed: Vec<Arc<Asked>> = {
                let asked = self.asked.lock();
                asked
                    .iter()
                    .filter(|a| a.is_closed(&catalog))
                    .cloned()
                    .collect()
            };
            let late = sender.dice.pick(&closed).and_then(|a| a.late(&sender.dice));
            let Some(late) = late.filter(|_| sender.dice.chance(SENT_AT_THE_END)) else {
                continue;
            };
            tokio::time::sleep(sender.dice.between(Duration::ZERO, SENT_WITHIN)).await;
            let records = sender.late(&self, late);
            self.push_to_any(&records, sender.dice.next()).await;
        }
    }

    /// What changes next at some process, if anything does soon.
    async fn next_catalog(&self, dice: &Dice) -> Option<Arc<Catalog>> {
        let node = dice.pick(&self.runs()).and_then(|run| run.node.clone());
        let soon = dice.between(Duration::from_millis(1), Duration::from_millis(300));
        let Some(node) = node else {
            tokio::time::sleep(soon).await;
            return None;
        };
        timeout(soon, node.changed(node.catalog().version))
            .await
            .ok()
    }

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
        let range = TimeRange::inclusive(start * NANOS_PER_SECOND, end * NANOS_PER_SECOND);
        let of = dice.below(self.plan.tenants);
        let candidates: Vec<(RecordNumber, Sent)> = {
            let sent = self.sent.lock();
            let of = sent
                .iter()
                .filter(|(number, sent)| tenant_of(**number) == of && range.contains(sent.at));
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
        let asked = Arc::new(Asked { of, named, range });
        self.asked.lock().push(Arc::clone(&asked));
        let going = candidates
            .iter()
            .filter(|(number, sent)| asked.names(*number, sent));
        let going: BTreeSet<RecordNumber> = going.map(|(number, _)| *number).collect();
        // Whether or not there is an answer: it may be carried out.
        self.checks.see(&Event::DeleteAsked {
            asked,
            records: going.clone(),
        });
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
