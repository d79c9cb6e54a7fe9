//! The one task that evaluates: it follows the catalog, starts what is due, and does what
//! [`decide`] says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, Timestamp};
use rpc::{Catalog, Command, RuleGroup, RuleGroupId, RuleProgress};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Evaluated, GroupState, Pace, carried, decide};
use super::evaluate::{evaluate, external_url};
use super::group::Group;
use super::lease::is_ours;
use super::outbox::Outbox;
use super::report::GroupReport;
use super::{saved, schedule, wire};
use crate::run::Shared;

/// A clock that is set is noticed after this time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Alerts are worth sending for so long at least.
const ALERTS_FRESH_FOR_MIN: Duration = Duration::from_secs(30);
/// How long to wait when states cannot be saved.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where alerts and samples go.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) alertmanagers: Vec<Outbox>,
    pub(super) remote_write: Option<Outbox>,
}

/// A group that is evaluated here.
struct Running {
    version: u64,
    group: Arc<Group>,
    state: GroupState,
    /// For when it is evaluated next.
    due: Timestamp,
    is_busy: bool,
    /// What was saved last, as far as it is worth saving.
    saved: String,
}

/// An evaluation that is done.
struct Finished {
    id: RuleGroupId,
    version: u64,
    at: Timestamp,
    evaluated: Vec<Evaluated>,
}

pub(super) struct Task {
    shared: Arc<Shared>,
    own: NodeId,
    places: Places,
    groups: BTreeMap<RuleGroupId, Running>,
    evaluations: JoinSet<Finished>,
    /// States to save, by group.
    unsaved: BTreeMap<RuleGroupId, Arc<str>>,
    /// At most one; gives back what could not be saved.
    saving: JoinSet<Vec<RuleProgress>>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, own: NodeId, places: Places) -> Task {
        Task {
            shared,
            own,
            places,
            groups: BTreeMap::new(),
            evaluations: JoinSet::new(),
            unsaved: BTreeMap::new(),
            saving: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let meta = Arc::clone(&self.shared.backend.meta);
        loop {
            let catalog = meta.catalog();
            self.follow(&catalog);
            self.start_due();
            self.start_saving();
            let wait = self.wait();
            tokio::select! {
                _ = meta.changed(catalog.version) => {}
                () = tokio::time::sleep_until(wait) => {}
                Some(done) = self.evaluations.join_next() => match done {
                    Ok(finished) => self.finished(finished),
                    Err(error) => self.broke_off(&error),
                },
                Some(done) = self.saving.join_next() => match done {
                    Ok(failed) => self.not_saved(failed),
                    Err(error) => tracing::error!(%error, "saving the states of rules broke off"),
                },
                () = stop.cancelled() => break,
            }
        }
    }

    /// Nobody knows of which group it was: all may be evaluated again.
    fn broke_off(&mut self, error: &JoinError) {
        if !error.is_cancelled() {
            tracing::error!(%error, "the evaluation of a rule group broke off");
            self.groups.values_mut().for_each(|r| r.is_busy = false);
        }
    }

    fn default_interval(&self) -> i64 {
        nanos(self.shared.config.rules_interval)
    }

    /// Takes on the groups of the catalog, or lets go of all when another evaluates.
    fn follow(&mut self, catalog: &Catalog) {
        if !is_ours(catalog, self.own) {
            if !self.groups.is_empty() {
                tracing::info!("another querier evaluates the rules now");
            }
            self.groups.clear();
            self.unsaved.clear();
            self.evaluations.abort_all();
            self.shared.rules.clear();
            self.count_groups();
            return;
        }
        let known = &catalog.rules;
        self.groups.retain(|id, _| known.contains_key(id));
        self.unsaved.retain(|id, _| known.contains_key(id));
        self.shared.rules.keep(|id| known.contains_key(id));
        for (id, kept) in known {
            let is_new = self
                .groups
                .get(id)
                .is_none_or(|r| r.version != kept.version);
            if is_new {
                self.take_on(id, kept);
            }
        }
        self.count_groups();
    }

    fn count_groups(&self) {
        let count = i64::try_from(self.groups.len()).unwrap_or(i64::MAX);
        self.shared.metrics.rules.groups.set(count);
    }

    fn take_on(&mut self, id: &RuleGroupId, kept: &RuleGroup) {
        let group = Group::from_kept(&kept.definition).unwrap_or_else(|error| {
            let (namespace, name) = (&id.namespace, &id.name);
            tracing::error!(tenant = %id.tenant, %namespace, %name, error, "a rule group cannot be read");
            Group::default()
        });
        let state = match self.groups.remove(id) {
            Some(running) => carried(&running.group, running.state, &group),
            None => saved::restore(&group, &kept.state).unwrap_or_else(|error| {
                tracing::warn!(name = %id.name, error, "the state of a rule group cannot be read; its alerts begin anew");
                GroupState::of(&group)
            }),
        };
        let interval = group.interval_or(self.default_interval());
        let running = Running {
            version: kept.version,
            due: schedule::next(id, interval, self.shared.now()),
            is_busy: false,
            saved: saved::save(&group, &state).1,
            group: Arc::new(group),
            state,
        };
        self.report(id, &running);
        self.groups.insert(id.clone(), running);
    }

    fn report(&self, id: &RuleGroupId, running: &Running) {
        let report = GroupReport::of(id, running.version, &running.group, &running.state);
        self.shared.rules.set(id.clone(), report);
    }

    /// Starts what is due, as far as there is room.
    fn start_due(&mut self) {
        let (now, default) = (self.shared.now(), self.default_interval());
        let metrics = &self.shared.metrics.rules;
        let max = self.shared.config.rules_groups_at_once.max(1);
        let mut due: Vec<_> = self
            .groups
            .iter_mut()
            .filter(|(_, running)| !running.is_busy && running.due <= now)
            .collect();
        due.sort_by_key(|(_, running)| running.due);
        let room = max.saturating_sub(self.evaluations.len());
        for (id, running) in due.into_iter().take(room) {
            let interval = running.group.interval_or(default);
            let (at, missed) = schedule::latest(running.due, interval, now);
            metrics.missed.inc_by(missed);
            running.due = at.saturating_add(interval);
            running.is_busy = true;
            let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&running.group));
            let (id, version) = (id.clone(), running.version);
            self.evaluations.spawn(async move {
                let evaluated = evaluate(&shared, &id.tenant, &group, at).await;
                Finished {
                    id,
                    version,
                    at,
                    evaluated,
                }
            });
        }
    }

    /// Until when nothing is to be done by itself.
    fn wait(&self) -> Instant {
        let now = self.shared.now();
        let idle = self.groups.values().filter(|running| !running.is_busy);
        let full = self.evaluations.len() >= self.shared.config.rules_groups_at_once.max(1);
        let wait = match idle.map(|running| running.due).min() {
            Some(due) if !full => {
                Duration::from_nanos(due.saturating_sub(now).max(0).unsigned_abs())
            }
            _ => LOOK_AGAIN_AFTER,
        };
        Instant::now() + wait.min(LOOK_AGAIN_AFTER)
    }

    fn finished(&mut self, finished: Finished) {
        let default = self.default_interval();
        let Some(running) = self.groups.get_mut(&finished.id) else {
            return;
        };
        if running.version != finished.version {
            return;
        }
        running.is_busy = false;
        let metrics = &self.shared.metrics.rules;
        metrics.evaluations.inc_by(finished.evaluated.len() as u64);
        let failed = finished.evaluated.iter().filter(|e| e.results.is_err());
        metrics.failures.inc_by(failed.count() as u64);
        let pace = Pace {
            interval: running.group.interval_or(default),
            resend: nanos(self.shared.config.rules_resend_delay),
        };
        let (group, state) = (&running.group, &mut running.state);
        let decision = decide(group, state, finished.evaluated, finished.at, &pace);
        let (text, worth) = saved::save(group, state);
        if worth != running.saved {
            running.saved = worth;
            self.unsaved.insert(finished.id.clone(), text.into());
        }
        if let Some(running) = self.groups.get(&finished.id) {
            self.report(&finished.id, running);
        }
        self.send(&finished.id, &decision);
    }

    fn send(&self, id: &RuleGroupId, decision: &Decision) {
        let url = external_url(&self.shared.config.rules_external_url);
        // After two tellings a newer one is in the line.
        let fresh_for = self.shared.config.rules_resend_delay.saturating_mul(2);
        let fresh_for = fresh_for.max(ALERTS_FRESH_FOR_MIN);
        for post in wire::alerts(&id.tenant, &decision.notices, url, fresh_for) {
            for alertmanager in &self.places.alertmanagers {
                alertmanager.put(post.clone());
            }
        }
        if let Some(remote) = &self.places.remote_write {
            for post in wire::samples(&id.tenant, &decision.samples) {
                remote.put(post);
            }
        }
    }

    /// One command for all that changed since the last one.
    fn start_saving(&mut self) {
        if self.unsaved.is_empty() || !self.saving.is_empty() {
            return;
        }
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        let progress = |(group, state)| RuleProgress { group, state };
        let groups: Vec<RuleProgress> = unsaved.map(progress).collect();
        let (meta, holder) = (Arc::clone(&self.shared.backend.meta), self.own);
        self.saving.spawn(async move {
            let command = Command::SaveRuleStates {
                holder,
                groups: groups.clone(),
            };
            match meta.propose(command).await {
                Ok(_) => Vec::new(),
                Err(rpc::Error::Conflict(reason)) => {
                    tracing::info!(reason, "states of rules are another querier's to save");
                    Vec::new()
                }
                Err(error) => {
                    tracing::warn!(%error, "states of rules cannot be saved; it is tried again");
                    tokio::time::sleep(SAVE_AGAIN_AFTER).await;
                    groups
                }
            }
        });
    }

    /// What changed again meanwhile is newer.
    fn not_saved(&mut self, failed: Vec<RuleProgress>) {
        for RuleProgress { group, state } in failed {
            self.unsaved.entry(group).or_insert(state);
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
