//! Rules: groups of LogQL queries that are evaluated again and again, and the alerts that follow.
//!
//! ```text
//! http ─▶ check ─▶ catalog ─▶ task: due? ─▶ evaluate ─▶ decide ─▶ Alertmanagers, remote write
//!                    ▲                                   │  └───▶ reports, for people
//!                    └── states worth remembering ◀──────┘
//! ```
//!
//! One querier evaluates all groups: the one that has the lease ([`lease`]). What it must not
//! forget stands in the catalog, so that the next one goes on where it was; the rest it tells when
//! it is asked. `docs/adr/0017-rules.md` says why.

mod alerts;
mod check;
mod decide;
mod evaluate;
mod group;
mod lease;
mod metrics;
mod outbox;
mod report;
mod saved;
mod schedule;
#[cfg(test)]
mod takeover;
mod task;
mod wire;
pub(crate) mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::TenantId;
use parking_lot::Mutex;
use reqwest::Url;
use rpc::{Catalog, RuleGroupId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use alerts::Phase;
pub(crate) use check::{Allowed, refusal};
pub(crate) use group::{Group, Rule};
pub(crate) use metrics::RuleMetrics;
pub(crate) use report::{AlertReport, GroupReport, RuleReport};

use crate::run::Shared;
use crate::{Config, Error, Querier};

/// How long a querier is asked how rules are.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How the groups are that are evaluated here.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    groups: Mutex<BTreeMap<RuleGroupId, Arc<GroupReport>>>,
}

impl Reports {
    fn set(&self, id: RuleGroupId, report: GroupReport) {
        self.groups.lock().insert(id, Arc::new(report));
    }

    fn keep(&self, wanted: impl Fn(&RuleGroupId) -> bool) {
        self.groups.lock().retain(|id, _| wanted(id));
    }

    fn clear(&self) {
        self.groups.lock().clear();
    }

    fn of(&self, tenant: &TenantId) -> Vec<Arc<GroupReport>> {
        let groups = self.groups.lock();
        let own = groups.iter().filter(|(id, _)| id.tenant == *tenant);
        own.map(|(_, report)| Arc::clone(report)).collect()
    }
}

/// Evaluates rules until it is stopped.
#[derive(Debug)]
pub struct Ruler {
    stop: CancellationToken,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
    querier: Querier,
}

impl Querier {
    /// Evaluates rules from now on, whenever this process has the lease. To be called once, when
    /// the process is a member of its cluster and [`share_with`](Querier::share_with) was called.
    ///
    /// # Errors
    /// `Invalid` when a URL of the configuration is none.
    pub fn start_rules(&self) -> Result<Ruler, Error> {
        let stop = CancellationToken::new();
        let places = places(&self.shared, &stop)?;
        let own = self.shared.own();
        let backend = &self.shared.backend;
        let lease = lease::keep(
            Arc::clone(&backend.meta),
            own,
            Arc::clone(&self.shared.clock),
            self.shared.config.rules_lease,
        );
        let stopped = stop.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            tokio::select! {
                () = lease => {}
                () = stopped.cancelled() => {}
            }
        });
        let task = task::Task::new(Arc::clone(&self.shared), own, places);
        tasks.spawn(task.run(stop.clone()));
        Ok(Ruler {
            stop,
            tasks: tokio::sync::Mutex::new(tasks),
            querier: self.clone(),
        })
    }
}

impl Ruler {
    /// Evaluates nothing any more, saves what is not saved yet within two seconds, and lets another querier take over
    /// at once.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        let shared = &self.querier.shared;
        lease::give_back(&*shared.backend.meta, shared.own()).await;
    }
}

impl Drop for Ruler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn places(shared: &Shared, stop: &CancellationToken) -> Result<task::Places, Error> {
    let client = outbox::client().map_err(Error::Internal)?;
    let metrics = &shared.metrics.rules;
    let addresses = shared.config.alertmanager_url.split(',').map(str::trim);
    let mut places = task::Places::default();
    for address in addresses.filter(|address| !address.is_empty()) {
        let option = "alertmanager_url";
        url(option, address)?;
        let address = format!("{}/api/v2/alerts", address.trim_end_matches('/'));
        let url = url(option, &address)?;
        let counts = metrics.of_alertmanager(&shown(&url));
        let outbox = outbox::Outbox::start(client.clone(), url, counts, stop.clone());
        places.alertmanagers.push(outbox);
    }
    let address = &shared.config.rules_remote_write_url;
    if !address.is_empty() {
        let url = url("rules_remote_write_url", address)?;
        let counts = metrics.remote_write.clone();
        let outbox = outbox::Outbox::start(client, url, counts, stop.clone());
        places.remote_write = Some(outbox);
    }
    Ok(places)
}

impl Config {
    /// Whether rules can be evaluated with it.
    ///
    /// # Errors
    /// `Invalid` when a URL is none.
    pub fn check(&self) -> Result<(), Error> {
        let alertmanagers = self.alertmanager_url.split(',').map(str::trim);
        for address in alertmanagers.filter(|address| !address.is_empty()) {
            url("alertmanager_url", address)?;
        }
        match self.rules_remote_write_url.as_str() {
            "" => Ok(()),
            address => url("rules_remote_write_url", address).map(drop),
        }
    }
}

fn url(option: &str, address: &str) -> Result<Url, Error> {
    let example = match option {
        "rules_remote_write_url" => "http://prometheus:9090/api/v1/write",
        _ => "http://alertmanager:9093",
    };
    let wrong = |reason: &str| {
        Error::Invalid(format!(
            "{option} {address:?}: {reason}; it is a URL such as {example}"
        ))
    };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong("neither http nor https")),
    }
}

/// Without name and password.
fn shown(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(0);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

impl Shared {
    /// The number of this process; 0 when it knows no others.
    fn own(&self) -> model::NodeId {
        let peers = self.backend.peers.get();
        peers.map_or(model::NodeId(0), |peers| peers.own())
    }

    /// How the groups of a tenant are, as whoever evaluates them tells; else as the catalog does.
    pub(crate) async fn rule_reports(&self, tenant: &TenantId) -> Vec<Arc<GroupReport>> {
        let catalog = self.backend.meta.catalog();
        if catalog.rules_of(tenant).next().is_none() {
            return Vec::new();
        }
        let given = match lease::is_ours(&catalog, self.own()) {
            true => self.rules.of(tenant),
            false => self.asked(&catalog, tenant).await,
        };
        let tenant = tenant.clone();
        let united = move || report::united(catalog.rules_of(&tenant), given);
        self.backend.blocking.run(united).await.unwrap_or_default()
    }

    async fn asked(&self, catalog: &Catalog, tenant: &TenantId) -> Vec<Arc<GroupReport>> {
        let peers = self.backend.peers.get();
        let port = catalog.rules_evaluator().and_then(|id| peers?.port(id));
        let Some(port) = port else {
            return Vec::new();
        };
        let asked = tokio::time::timeout(ASK_TIMEOUT, port.rules(tenant.clone())).await;
        let answer = match asked {
            Ok(Ok(answer)) => self.read(answer).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        answer.unwrap_or_else(|reason| {
            tracing::debug!(
                reason,
                "the querier that evaluates rules does not tell how they are"
            );
            Vec::new()
        })
    }

    async fn read(&self, answer: Bytes) -> Result<Vec<Arc<GroupReport>>, String> {
        let read = move || serde_json::from_slice::<Vec<GroupReport>>(&answer);
        let read = self.backend.blocking.run(read).await;
        let reports = read.map_err(|error| error.to_string())?;
        let reports = reports.map_err(|error| error.to_string())?;
        Ok(reports.into_iter().map(Arc::new).collect())
    }

    /// What another querier is told that asks how rules are.
    pub(crate) async fn told_rules(&self, tenant: &TenantId) -> Result<Bytes, rpc::Error> {
        if !lease::is_ours(&self.backend.meta.catalog(), self.own()) {
            let text = "another querier evaluates the rules";
            return Err(rpc::Error::Unavailable(text.to_owned()));
        }
        let reports = self.rules.of(tenant);
        let told = move || {
            let reports: Vec<&GroupReport> = reports.iter().map(Arc::as_ref).collect();
            serde_json::to_vec(&reports)
        };
        let told = self.backend.blocking.run(told).await;
        let told = told.map_err(|error| rpc::Error::Internal(error.to_string()))?;
        told.map(Bytes::from)
            .map_err(|error| rpc::Error::Internal(error.to_string()))
    }
}
