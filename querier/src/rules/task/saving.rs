//! What must not be forgotten goes into the catalog: what changed since the last command, in the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use prometheus::IntGauge;
use rpc::{Command, MetaApi, RuleGroupId, RuleProgress};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// How long to wait when states cannot be saved.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes of states saved by one command; a state that is larger goes alone.
const SAVE_BYTES_MAX: usize = 256 * 1024;

/// Saves the states of groups, in one command at a time.
pub(super) struct Saving {
    meta: Arc<dyn MetaApi>,
    own: NodeId,
    /// States to save, by group.
    unsaved: BTreeMap<RuleGroupId, Arc<str>>,
    /// At most one; gives back what could not be saved.
    command: JoinSet<Vec<RuleProgress>>,
    /// States that the command under way saves.
    in_command: usize,
    /// Nothing is saved before, since it failed.
    not_before: Option<Instant>,
    /// Shows how many states are not saved yet.
    unsaved_shown: IntGauge,
}

impl Saving {
    pub(super) fn new(meta: Arc<dyn MetaApi>, own: NodeId, unsaved_shown: IntGauge) -> Saving {
        Saving {
            meta,
            own,
            unsaved: BTreeMap::new(),
            command: JoinSet::new(),
            in_command: 0,
            not_before: None,
            unsaved_shown,
        }
    }

    fn show(&self) {
        let count = self.unsaved.len() + self.in_command;
        self.unsaved_shown
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Saves that soon, instead of what was to be saved of the group.
    pub(super) fn put(&mut self, group: RuleGroupId, state: String) {
        self.unsaved.insert(group, state.into());
        self.show();
    }

    pub(super) fn waits(&self, group: &RuleGroupId) -> bool {
        self.unsaved.contains_key(group)
    }

    /// Saves nothing of other groups any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(&RuleGroupId) -> bool) {
        self.unsaved.retain(|id, _| wanted(id));
        self.show();
    }

    /// Before what time nothing is saved.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// One command for what changed since the last one, as far as it fits.
    pub(super) fn start(&mut self) {
        let is_early = self
            .not_before
            .is_some_and(|not_before| Instant::now() < not_before);
        if self.unsaved.is_empty() || !self.command.is_empty() || is_early {
            return;
        }
        self.not_before = None;
        let groups = part(&mut self.unsaved, SAVE_BYTES_MAX);
        self.in_command = groups.len();
        let (meta, holder) = (Arc::clone(&self.meta), self.own);
        self.command.spawn(async move {
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

    /// What came of the command under way; `None` when there is none.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<RuleProgress>, JoinError>> {
        self.command.join_next().await
    }

    /// Takes back what could not be saved; what changed again meanwhile is newer.
    pub(super) fn done(&mut self, done: Result<Vec<RuleProgress>, JoinError>) {
        let failed = done.unwrap_or_else(|error| {
            tracing::error!(%error, "saving the states of rules broke off");
            Vec::new()
        });
        if !failed.is_empty() {
            self.not_before = Some(Instant::now() + SAVE_AGAIN_AFTER);
        }
        for RuleProgress { group, state } in failed {
            self.unsaved.entry(group).or_insert(state);
        }
        self.in_command = 0;
        self.show();
    }

    /// Saves what is not saved yet, each state once.
    pub(super) async fn rest(&mut self) {
        while let Some(done) = self.next().await {
            self.done(done);
        }
        while !self.unsaved.is_empty() {
            self.not_before = None;
            self.start();
            while let Some(done) = self.next().await {
                if done.is_err() || done.is_ok_and(|failed| !failed.is_empty()) {
                    return;
                }
            }
        }
    }
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
    use model::TenantId;

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
