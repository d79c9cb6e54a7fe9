//! The one task that evaluates: it follows the catalog and starts what is due. [`job`] evaluates a rule and does what
//! [`decide`](super::decide) says, [`saving`] remembers, [`places`] tells.

mod job;
mod places;
mod saving;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, TenantId, Timestamp};
use parking_lot::Mutex;
use rpc::{Catalog, RuleGroup, RuleGroupId};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{GroupState, Pace, carried, ended};
use super::group::Group;
use super::lease::is_ours;
use super::report::GroupReport;
use super::schedule::Turns;
use super::{saved, schedule};
use job::{Finished, Job, Outcome, State};
pub(super) use places::Places;
use saving::Saving;

use crate::run::Shared;

/// A clock that is set is noticed after this time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a task that is stopped takes to save states.
const SAVE_LAST_FOR: Duration = Duration::from_secs(2);

/// A group that is evaluated here.
struct Running {
    version: u64,
    group: Arc<Group>,
    state: State,
    /// For when it is evaluated next.
    due: Timestamp,
    /// The evaluation that has begun and is not done.
    begun: Option<Begun>,
    /// What was saved last, as far as it is worth saving.
    saved: String,
}

/// How far an evaluation is. Between two rules it is another tenant's turn.
struct Begun {
    at: Timestamp,
    /// The rule that is evaluated or is next.
    number: usize,
    /// While it is evaluated.
    task: Option<AbortHandle>,
}

pub(super) struct Task {
    shared: Arc<Shared>,
    own: NodeId,
    places: Arc<Places>,
    groups: BTreeMap<RuleGroupId, Running>,
    turns: Turns,
    evaluations: JoinSet<Finished>,
    saving: Saving,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, own: NodeId, places: Places) -> Task {
        let saving = Saving::new(
            Arc::clone(&shared.backend.meta),
            own,
            shared.metrics.rules.unsaved.clone(),
        );
        Task {
            shared,
            own,
            places: Arc::new(places),
            groups: BTreeMap::new(),
            turns: Turns::default(),
            evaluations: JoinSet::new(),
            saving,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let meta = Arc::clone(&self.shared.backend.meta);
        loop {
            let catalog = meta.catalog();
            self.follow(&catalog);
            self.start_due();
            self.saving.start();
            let wait = self.wait();
            tokio::select! {
                _ = meta.changed(catalog.version) => {}
                () = tokio::time::sleep_until(wait) => {}
                Some(done) = self.evaluations.join_next() => match done {
                    Ok(finished) => self.finished(finished),
                    Err(error) => self.broke_off(&error),
                },
                Some(done) = self.saving.next() => self.saving.done(done),
                () = stop.cancelled() => break,
            }
        }
        self.evaluations.abort_all();
        self.keep_begun();
        if tokio::time::timeout(SAVE_LAST_FOR, self.saving.rest())
            .await
            .is_err()
        {
            tracing::warn!("the last states of rules were not saved in time");
        }
    }

    /// What the rules gave that were evaluated of a group that is not done.
    fn keep_begun(&mut self) {
        for (id, running) in &mut self.groups {
            let Some(state) = running.end() else {
                continue;
            };
            if running.begun.is_some() {
                let text = saved::save(&running.group, &state);
                if text.worth != running.saved {
                    self.saving.put(id.clone(), text.whole);
                }
            }
        }
    }

    /// The group of an evaluation that broke off is evaluated again at its next time.
    fn broke_off(&mut self, error: &JoinError) {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(%error, "the evaluation of a rule broke off");
        for running in self.groups.values_mut() {
            let task = running.begun.as_ref().and_then(|begun| begun.task.as_ref());
            if task.is_some_and(|task| task.id() == error.id()) {
                running.begun = None;
            }
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
            for (_, running) in std::mem::take(&mut self.groups) {
                running.end();
            }
            self.turns = Turns::default();
            self.saving.keep(|_| false);
            self.evaluations.abort_all();
            self.shared.rules.clear();
            self.count_groups();
            return;
        }
        let known = &catalog.rules;
        let gone: Vec<RuleGroupId> = self
            .groups
            .keys()
            .filter(|id| !known.contains_key(id))
            .cloned()
            .collect();
        for id in gone {
            self.let_go(&id);
        }
        let tenants: BTreeSet<&TenantId> = known.keys().map(|id| &id.tenant).collect();
        self.turns.keep(|tenant| tenants.contains(tenant));
        self.saving.keep(|id| known.contains_key(id));
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

    /// Ends what is under way for a group that was removed, and its series.
    fn let_go(&mut self, id: &RuleGroupId) {
        let ended_state = self.groups.remove(id).and_then(|running| running.end());
        if let Some(mut state) = ended_state {
            let samples = ended(&mut state.rules, self.shared.now());
            self.places.write(&id.tenant, &samples);
        }
    }

    fn take_on(&mut self, id: &RuleGroupId, kept: &RuleGroup) {
        let group = Group::from_kept(&kept.definition).unwrap_or_else(|error| {
            let (namespace, name) = (&id.namespace, &id.name);
            tracing::error!(tenant = %id.tenant, %namespace, %name, error, "a rule group cannot be read");
            Group::default()
        });
        let interval = group.interval_or(self.default_interval());
        let mut due = schedule::next(id, interval, self.shared.now());
        let mut saved = saved::worth(&kept.state);
        let state = match self.groups.remove(id) {
            Some(running) => {
                let old = running.end();
                let mut old = old.unwrap_or_else(|| GroupState::of(&running.group));
                let state = carried(&running.group, &mut old, &group);
                // What was removed must not come back, whether it is saved or on its way.
                saved = saved.filter(|saved| *saved == running.saved);
                if running.group.interval_or(self.default_interval()) == interval {
                    due = running.begun.as_ref().map_or(running.due, |begun| begun.at);
                }
                let samples = ended(&mut old.rules, self.shared.now());
                self.places.write(&id.tenant, &samples);
                state
            }
            None => saved::restore(&group, &kept.state).unwrap_or_else(|error| {
                tracing::warn!(name = %id.name, error, "the state of a rule group cannot be read; its alerts begin anew");
                GroupState::of(&group)
            }),
        };
        let text = saved::save(&group, &state);
        if saved.as_ref() != Some(&text.worth) || self.saving.waits(id) {
            self.saving.put(id.clone(), text.whole);
        }
        let report = GroupReport::of(id, kept.version, &group, &state);
        self.shared.rules.set(id.clone(), report);
        let running = Running {
            version: kept.version,
            due,
            begun: None,
            saved: text.worth,
            group: Arc::new(group),
            state: Arc::new(Mutex::new(Some(state))),
        };
        self.groups.insert(id.clone(), running);
    }

    /// Starts what is due, as far as there is room.
    fn start_due(&mut self) {
        let (now, default) = (self.shared.now(), self.default_interval());
        let max = self.shared.config.rules_groups_at_once.max(1);
        let mut running: BTreeMap<TenantId, usize> = BTreeMap::new();
        let mut waiting: Vec<(RuleGroupId, Timestamp)> = Vec::new();
        for (id, group) in &self.groups {
            match group.waits_since() {
                Some(due) if due <= now => waiting.push((id.clone(), due)),
                Some(_) => {}
                None => *running.entry(id.tenant.clone()).or_default() += 1,
            }
        }
        let mut room = max.saturating_sub(running.values().sum());
        while room > 0
            && let Some(at) = self.turns.pick(&waiting, &running)
        {
            room -= 1;
            let (id, _) = waiting.swap_remove(at);
            *running.entry(id.tenant.clone()).or_default() += 1;
            self.start(id, now, default);
        }
    }

    /// Starts the next rule of a group.
    fn start(&mut self, id: RuleGroupId, now: Timestamp, default: i64) {
        let Some(running) = self.groups.get_mut(&id) else {
            return;
        };
        let interval = running.group.interval_or(default);
        let due = running.due;
        let begun = running.begun.get_or_insert_with(|| {
            let (at, missed) = schedule::latest(due, interval, now);
            self.shared.metrics.rules.missed.inc_by(missed);
            Begun {
                at,
                number: 0,
                task: None,
            }
        });
        running.due = begun.at.saturating_add(interval);
        let job = Job {
            shared: Arc::clone(&self.shared),
            places: Arc::clone(&self.places),
            id,
            version: running.version,
            group: Arc::clone(&running.group),
            state: Arc::clone(&running.state),
            number: begun.number,
            at: begun.at,
            pace: Pace {
                interval,
                resend: nanos(self.shared.config.rules_resend_delay),
                writes: self.places.remote_write.is_some(),
            },
        };
        begun.task = Some(self.evaluations.spawn(job.run()));
    }

    /// Until when nothing is to be done by itself.
    fn wait(&self) -> Instant {
        let now = self.shared.now();
        let idle = self.groups.values().filter_map(Running::waits_since);
        let busy = self
            .groups
            .values()
            .filter(|running| running.waits_since().is_none());
        let full = busy.count() >= self.shared.config.rules_groups_at_once.max(1);
        let wait = match idle.min() {
            Some(due) if !full => {
                Duration::from_nanos(due.saturating_sub(now).max(0).unsigned_abs())
            }
            _ => LOOK_AGAIN_AFTER,
        };
        let until = Instant::now() + wait.min(LOOK_AGAIN_AFTER);
        let not_before = self.saving.not_before();
        not_before.map_or(until, |not_before| until.min(not_before))
    }

    fn finished(&mut self, finished: Finished) {
        let Some(running) = self.groups.get_mut(&finished.id) else {
            return;
        };
        if running.version != finished.version {
            return;
        }
        match &mut running.begun {
            Some(begun) if !finished.is_last => {
                begun.number += 1;
                begun.task = None;
            }
            begun => *begun = None,
        }
        let Some(Outcome { text, report }) = finished.outcome else {
            return;
        };
        if text.worth != running.saved {
            if text.left_out > 0 {
                let (tenant, name, alerts) =
                    (&finished.id.tenant, &finished.id.name, text.left_out);
                tracing::warn!(%tenant, %name, alerts, "too many alerts to save all: some begin anew when another querier takes over");
            }
            running.saved = text.worth;
            self.saving.put(finished.id.clone(), text.whole);
        }
        self.shared.rules.set(finished.id, report);
    }
}

impl Running {
    /// Since when it waits for its turn, or until when for its time; `None` while a rule of it is evaluated.
    fn waits_since(&self) -> Option<Timestamp> {
        match &self.begun {
            None => Some(self.due),
            Some(begun) if begun.task.is_none() => Some(begun.at),
            Some(_) => None,
        }
    }

    /// Breaks off what is under way, and gives the state; `None` when that was given before.
    fn end(&self) -> Option<GroupState> {
        let task = self.begun.as_ref().and_then(|begun| begun.task.as_ref());
        if let Some(task) = task {
            task.abort();
        }
        self.state.lock().take()
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
