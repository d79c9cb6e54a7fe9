//! One rule, evaluated, and what follows of what it gave.

use std::sync::Arc;

use model::{NANOS_PER_SECOND, Timestamp};
use parking_lot::Mutex;
use rpc::RuleGroupId;

use super::super::decide::{Evaluated, GroupState, Pace, decide};
use super::super::evaluate::evaluate;
use super::super::group::Group;
use super::super::report::GroupReport;
use super::super::saved;
use super::places::Places;
use crate::run::Shared;

/// The states of a group are saved, and told to who asks, before its other rules are evaluated when a rule takes so
/// long, nanoseconds.
const SLOW: i64 = NANOS_PER_SECOND;

/// How a group is; `None` when it is evaluated no more, so that an evaluation which ends late changes and tells nothing.
pub(super) type State = Arc<Mutex<Option<GroupState>>>;

/// A rule that was evaluated.
pub(super) struct Finished {
    pub(super) id: RuleGroupId,
    pub(super) version: u64,
    /// Whether it was the last one of its group.
    pub(super) is_last: bool,
    /// After the last rule, and after slow ones.
    pub(super) outcome: Option<Outcome>,
}

/// What a group's evaluation leaves.
pub(super) struct Outcome {
    pub(super) text: saved::Text,
    pub(super) report: GroupReport,
}

/// One rule to evaluate.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) places: Arc<Places>,
    pub(super) id: RuleGroupId,
    pub(super) version: u64,
    pub(super) group: Arc<Group>,
    pub(super) state: State,
    pub(super) number: usize,
    pub(super) at: Timestamp,
    pub(super) pace: Pace,
}

impl Job {
    pub(super) async fn run(self) -> Finished {
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
