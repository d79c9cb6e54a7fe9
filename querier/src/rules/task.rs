//! The one task that evaluates: it follows the catalog, starts what is due, and does what
//! [`decide`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{NANOS_PER_SECOND, NodeId, TenantId, Timestamp};
use parking_lot::Mutex;
use rpc::{Catalog, Command, RuleGroup, RuleGroupId, RuleProgress};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Evaluated, GroupState, Pace, Written, carried, decide, ended};
use super::evaluate::{evaluate, external_url};
use super::group::Group;
use super::lease::is_ours;
use super::outbox::Outbox;
use super::report::GroupReport;
use super::schedule::Turns;
use super::{saved, schedule, wire};
use crate::run::Shared;

/// A clock that is set is noticed after this time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Alerts are worth sending for so long at least.
const ALERTS_FRESH_FOR_MIN: Duration = Duration::from_secs(30);
/// How long to wait when states cannot be saved.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes of states saved by one command; a state that is larger goes alone.
const SAVE_BYTES_MAX: usize = 256 * 1024;
/// The states of a group are saved, and told to who asks, before its other rules are evaluated when a rule takes so
/// long, nanoseconds.
const SLOW: i64 = NANOS_PER_SECOND;
/// How long a task that is stopped takes to save states.
const SAVE_LAST_FOR: Duration = Duration::from_secs(2);

/// Where alerts and samples go.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) alertmanagers: Vec<Outbox>,
    pub(super) remote_write: Option<Outbox>,
}

/// How a group is; `None` when it is evaluated no more, so that an evaluation which ends late changes and tells nothing.
type State = Arc<Mutex<Option<GroupState>>>;

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

/// A rule that was evaluated.
struct Finished {
    id: RuleGroupId,
    version: u64,
    /// Whether it was the last one of its group.
    is_last: bool,
    /// After the last rule, and after slow ones.
    outcome: Option<Outcome>,
}

/// What a group's evaluation leaves.
struct Outcome {
    text: saved::Text,
    report: GroupReport,
}

/// One rule to evaluate.
struct Job {
    shared: Arc<Shared>,
    places: Arc<Places>,
    id: RuleGroupId,
    version: u64,
    group: Arc<Group>,
    state: State,
    number: usize,
    at: Timestamp,
    pace: Pace,
}

pub(super) struct Task {
    shared: Arc<Shared>,
    own: NodeId,
    places: Arc<Places>,
    groups: BTreeMap<RuleGroupId, Running>,
    turns: Turns,
    evaluations: JoinSet<Finished>,
    /// States to save, by group.
    unsaved: BTreeMap<RuleGroupId, Arc<str>>,
    /// At most one; gives back what could not be saved.
    saving: JoinSet<Vec<RuleProgress>>,
    /// Nothing is saved before, since it failed.
    save_after: Option<Instant>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, own: NodeId, places: Places) -> Task {
        Task {
            shared,
            own,
            places: Arc::new(places),
            groups: BTreeMap::new(),
            turns: Turns::default(),
            evaluations: JoinSet::new(),
            unsaved: BTreeMap::new(),
            saving: JoinSet::new(),
            save_after: None,
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
        self.evaluations.abort_all();
        self.keep_begun();
        if tokio::time::timeout(SAVE_LAST_FOR, self.save_rest())
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
                    self.unsaved.insert(id.clone(), text.whole.into());
                }
            }
        }
    }

    /// Saves what is not saved yet, each state once.
    async fn save_rest(&mut self) {
        while let Some(done) = self.saving.join_next().await {
            self.not_saved(done.unwrap_or_default());
        }
        while !self.unsaved.is_empty() {
            self.save_after = None;
            self.start_saving();
            while let Some(done) = self.saving.join_next().await {
                if done.is_err() || done.is_ok_and(|failed| !failed.is_empty()) {
                    return;
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
            self.unsaved.clear();
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
        if saved.as_ref() != Some(&text.worth) || self.unsaved.contains_key(id) {
            self.unsaved.insert(id.clone(), text.whole.into());
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
        self.save_after
            .map_or(until, |save_after| until.min(save_after))
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
            self.unsaved.insert(finished.id.clone(), text.whole.into());
        }
        self.shared.rules.set(finished.id, report);
    }

    /// One command for what changed since the last one, as far as it fits.
    fn start_saving(&mut self) {
        let is_early = self.save_after.is_some_and(|after| Instant::now() < after);
        if self.unsaved.is_empty() || !self.saving.is_empty() || is_early {
            return;
        }
        self.save_after = None;
        let groups = part(&mut self.unsaved, SAVE_BYTES_MAX);
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
                    groups
                }
            }
        });
    }

    /// What changed again meanwhile is newer.
    fn not_saved(&mut self, failed: Vec<RuleProgress>) {
        if !failed.is_empty() {
            self.save_after = Some(Instant::now() + SAVE_AGAIN_AFTER);
        }
        for RuleProgress { group, state } in failed {
            self.unsaved.entry(group).or_insert(state);
        }
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

impl Job {
    async fn run(self) -> Finished {
        let (id, version) = (self.id.clone(), self.version);
        let is_last = self.number + 1 >= self.group.rules.len();
        let metrics = &self.shared.metrics.rules;
        let evaluated = match self.group.rules.is_empty() {
            true => None,
            false => {
                let Job { shared, group, .. } = &self;
                Some(evaluate(shared, &id.tenant, group, self.number, self.at).await)
            }
        };
        if let Some(evaluated) = &evaluated {
            metrics.evaluations.inc();
            metrics.failures.inc_by(evaluated.results.is_err().into());
        }
        let is_slow = evaluated.as_ref().is_some_and(|rule| rule.nanos >= SLOW);
        let blocking = self.shared.backend.blocking.clone();
        let done = blocking.run(move || self.take_in(evaluated, is_last || is_slow));
        let outcome = done.await.unwrap_or_else(|error| {
            tracing::error!(name = %id.name, %error, "what a rule gave was not taken in");
            None
        });
        Finished {
            id,
            version,
            is_last,
            outcome,
        }
    }

    /// Does what follows of what the rule gave, unless the group is evaluated no more.
    fn take_in(self, evaluated: Option<Evaluated>, is_told: bool) -> Option<Outcome> {
        let mut state = self.state.lock();
        let state = state.as_mut()?;
        let (group, pace) = (&self.group, &self.pace);
        if let Some(evaluated) = evaluated {
            let decision = decide(group, state, self.number, evaluated, self.at, pace);
            self.places.send(&self.shared, &self.id.tenant, &decision);
        }
        is_told.then(|| Outcome {
            text: saved::save(group, state),
            report: GroupReport::of(&self.id, self.version, group, state),
        })
    }
}

impl Places {
    fn send(&self, shared: &Shared, tenant: &TenantId, decision: &Decision) {
        let url = external_url(&shared.config.rules_external_url);
        // After two tellings a newer one is in the line.
        let fresh_for = shared.config.rules_resend_delay.saturating_mul(2);
        let fresh_for = fresh_for.max(ALERTS_FRESH_FOR_MIN);
        if !self.alertmanagers.is_empty() {
            for post in wire::alerts(tenant, &decision.notices, url, fresh_for) {
                for alertmanager in &self.alertmanagers {
                    alertmanager.put(post.clone());
                }
            }
        }
        self.write(tenant, &decision.samples);
    }

    fn write(&self, tenant: &TenantId, samples: &[Written]) {
        if let Some(remote) = &self.remote_write {
            for post in wire::samples(tenant, samples) {
                remote.put(post);
            }
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Takes out the first states that fit into one command, one at least.
fn part(unsaved: &mut BTreeMap<RuleGroupId, Arc<str>>, bytes_max: usize) -> Vec<RuleProgress> {
    let mut part = Vec::new();
    let mut bytes = 0_usize;
    while let Some(first) = unsaved.first_entry() {
        bytes = bytes.saturating_add(first.get().len());
        if bytes > bytes_max && !part.is_empty() {
            break;
        }
        let (group, state) = first.remove_entry();
        part.push(RuleProgress { group, state });
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_saved_in_commands_of_limited_size_and_a_larger_state_alone() {
        let mut unsaved = BTreeMap::new();
        for (name, bytes) in [("a", 10), ("b", 20), ("c", 99), ("d", 1), ("e", 0)] {
            let id = RuleGroupId {
                tenant: TenantId::default(),
                namespace: "n".into(),
                name: name.into(),
            };
            unsaved.insert(id, "x".repeat(bytes).into());
        }
        let mut names = || -> String {
            let part = part(&mut unsaved, 30);
            part.iter().map(|progress| &*progress.group.name).collect()
        };
        assert_eq!([names(), names(), names(), names()], ["ab", "c", "de", ""]);
    }
}
