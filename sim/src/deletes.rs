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
use crate::records::{APPS, Client, ITEMS, Sender, Sent, tenant, tenant_of};
use crate::world::{Purpose, World};

/// The times of a request are whole seconds and end before it is asked for.
const YOUNGEST: i64 = 1;
const OLDEST_MAX: u64 = 60;
/// How many clients send what is deleted; how often they do, in a thousand, and how long after they
/// hear that a request ends: most requests are closed for some milliseconds.
pub(crate) const DELETED_CLIENTS: u64 = 3;
const SENT_AT_THE_END: u64 = 600;
const SENT_WITHIN: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(200),
];

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

    /// Whether it names more than one record.
    pub(crate) fn names_many(&self) -> bool {
        !matches!(self.named, Named::Record(_))
    }

    /// How a record is made that it names; `None` when there is one only.
    pub(crate) fn late(&self, dice: &Dice) -> Option<Late> {
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
    pub(crate) async fn push_what_is_deleted(self: Arc<Self>, client: u64) {
        let mut sender = Sender::new(&self, Client::Deleted, client);
        loop {
            let Some(catalog) = self.next_catalog(&sender.dice).await else {
                continue;
            };
            let closed = self.closed_in(&catalog);
            let late = sender.dice.pick(&closed).and_then(|a| a.late(&sender.dice));
            let Some(late) = late.filter(|_| sender.dice.chance(SENT_AT_THE_END)) else {
                continue;
            };
            let within = SENT_WITHIN[sender.dice.below(3) as usize];
            tokio::time::sleep(sender.dice.between(Duration::ZERO, within)).await;
            let records = sender.late(&self, late);
            self.push_to_any(&records, sender.dice.next()).await;
        }
    }

    /// The requests that are about to end in this catalog.
    pub(crate) fn closed_in(&self, catalog: &Catalog) -> Vec<Arc<Asked>> {
        let asked = self.asked.lock();
        let closed = asked.iter().filter(|asked| asked.is_closed(catalog));
        closed.cloned().collect()
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

    pub(crate) async fn delete_some(&self, run: &Run, dice: &Dice) {
        let seconds = 1 + dice.below(OLDEST_MAX) as i64;
        let of = dice.below(self.plan.tenants);
        let range = self.range_of_last(seconds);
        let candidates = self.sent_within(of, range);
        let Some((any, _)) = dice.pick(&candidates) else {
            return;
        };
        let named = match dice.below(4) {
            0 => Named::Item(dice.below(ITEMS)),
            1 => Named::App(dice.below(APPS)),
            _ => Named::Record(*any),
        };
        self.delete(run, Asked { of, named, range }).await;
    }

    /// Has one record deleted; whether the request was taken.
    pub(crate) async fn delete_record(&self, run: &Run, record: RecordNumber) -> bool {
        let asked = Asked {
            of: tenant_of(record),
            named: Named::Record(record),
            range: self.range_of_last(OLDEST_MAX as i64),
        };
        self.delete(run, asked).await
    }

    /// The last seconds that may be deleted.
    fn range_of_last(&self, seconds: i64) -> TimeRange {
        let end = self.now() / NANOS_PER_SECOND - YOUNGEST;
        let start = end - seconds;
        TimeRange::inclusive(start * NANOS_PER_SECOND, end * NANOS_PER_SECOND)
    }

    fn sent_within(&self, of: u64, range: TimeRange) -> Vec<(RecordNumber, Sent)> {
        let sent = self.sent.lock();
        let within = sent
            .iter()
            .filter(|(number, sent)| tenant_of(**number) == of && range.contains(sent.at));
        within.map(|(number, sent)| (*number, *sent)).collect()
    }

    async fn delete(&self, run: &Run, asked: Asked) -> bool {
        let Asked { of, named, range } = asked;
        let asked = Arc::new(asked);
        let candidates = self.sent_within(of, range);
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
        let (start, end) = (
            range.start / NANOS_PER_SECOND,
            (range.end - 1) / NANOS_PER_SECOND,
        );
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
                true
            }
            Ok(Some(Err(error))) => {
                self.trace
                    .tell(format_args!("{by} does not delete {named:?}: {error}"));
                false
            }
            Ok(None) | Err(_) => {
                self.trace
                    .tell(format_args!("{by} says nothing of deleting {named:?}"));
                false
            }
        }
    }
}
