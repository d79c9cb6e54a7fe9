//! Who gets which batch when, and when the sender may be told that it is safe. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BatchId, Kind, NodeId, RingVersion, Shard};
use rpc::Error;

use super::patience::Patience;

/// Time since the delivery began.
pub(super) type At = Duration;

/// An attempt to give batches to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallId(pub(super) usize);

/// Who owns the batches.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) ring: RingVersion,
    /// By batch.
    pub(super) owners: Vec<Vec<NodeId>>,
    /// By batch: how many owners must have it.
    pub(super) needed: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Give these batches to the node, by this ring.
    Send {
        call: CallId,
        node: NodeId,
        ring: RingVersion,
        batches: Vec<usize>,
        /// An earlier attempt is still under way.
        hedge: bool,
    },
    /// Tell the sender; given once.
    Answer(Result<(), Error>),
}

/// The batches of one request on their way to their owners.
pub(super) struct Delivery {
    patience: Patience,
    batches: Vec<Batch>,
    ring: RingVersion,
    targets: BTreeMap<NodeId, Target>,
    calls: Vec<Call>,
    /// When, and whether it was a yes.
    answered: Option<(At, bool)>,
}

struct Batch {
    id: BatchId,
    shard: Shard,
    owners: Vec<NodeId>,
    needed: usize,
    /// Who has it, by this ring or an earlier one.
    held: Vec<NodeId>,
}

/// An owner, by the current ring, of at least one batch.
#[derive(Default)]
struct Target {
    /// Those that it owns.
    batches: Vec<usize>,
    failures: u32,
    /// Not asked again before.
    retry_at: At,
    trouble: Option<Trouble>,
    hedged: bool,
}

enum Trouble {
    /// It did not answer, or not what it should; it is asked again.
    Failed(Error),
    /// It answered that it cannot take them now.
    Refused(Error),
    /// It knows a newer ring.
    Stale,
}

struct Call {
    node: NodeId,
    ring: RingVersion,
    batches: Vec<usize>,
    since: At,
    open: bool,
}

impl Delivery {
    /// Of batches that nobody has yet.
    pub(super) fn new(patience: Patience, batches: Vec<(BatchId, Shard)>, placed: Placed) -> Self {
        let batches = batches.into_iter().map(|(id, shard)| Batch {
            id,
            shard,
            owners: Vec::new(),
            needed: 1,
            held: Vec::new(),
        });
        let mut delivery = Delivery {
            patience,
            batches: batches.collect(),
            ring: placed.ring,
            targets: BTreeMap::new(),
            calls: Vec::new(),
            answered: None,
        };
        delivery.place(placed);
        delivery
    }

    /// The ring by which the owners were chosen last.
    pub(super) fn ring(&self) -> RingVersion {
        self.ring
    }

    /// There is a newer ring. Who has a batch already keeps it, and counts if it is still an owner.
    pub(super) fn placed_anew(&mut self, placed: Placed) {
        if placed.ring > self.ring && self.answered.is_none() {
            self.place(placed);
        }
    }

    fn place(&mut self, placed: Placed) {
        self.ring = placed.ring;
        let mut before = std::mem::take(&mut self.targets);
        before.retain(|_, target| !target.is_stale());
        let owners = placed.owners.into_iter().zip(placed.needed);
        for (at, (batch, (owners, needed))) in self.batches.iter_mut().zip(owners).enumerate() {
            for owner in &owners {
                let target = self.targets.entry(*owner).or_insert_with(|| Target {
                    batches: Vec::new(),
                    ..before.remove(owner).unwrap_or_default()
                });
                target.batches.push(at);
            }
            (batch.owners, batch.needed) = (owners, needed);
        }
    }

    /// The node has stored the batches of the call.
    pub(super) fn acked(&mut self, id: CallId) {
        let call = &mut self.calls[id.0];
        call.open = false;
        for batch in &call.batches {
            let held = &mut self.batches[*batch].held;
            if !held.contains(&call.node) {
                held.push(call.node);
            }
        }
        if let Some(target) = self.targets.get_mut(&call.node) {
            target.failures = 0;
            target.trouble = None;
            target.hedged = false;
        }
    }

    /// How many of the call's batches its owner is not known to have.
    pub(super) fn news(&self, id: CallId) -> usize {
        let call = &self.calls[id.0];
        let held = |batch: &&usize| self.batches[**batch].held.contains(&call.node);
        call.batches.iter().filter(|batch| !held(batch)).count()
    }

    /// The call brought an error; any of the batches may be stored or not.
    pub(super) fn failed(&mut self, now: At, id: CallId, error: Error) {
        let call = &mut self.calls[id.0];
        call.open = false;
        let Some(target) = self.targets.get_mut(&call.node) else {
            return;
        };
        target.hedged = false;
        if error.kind() == Kind::Conflict {
            // Under a newer ring it has not been asked yet.
            if call.ring == self.ring {
                target.trouble = Some(Trouble::Stale);
            }
            return;
        }
        target.failures += 1;
        let seed = self.batches.first().map_or(0, |batch| batch.id.0 as u64);
        let backoff = self.patience.backoff(target.failures, seed ^ call.node.0);
        (target.retry_at, target.trouble) = match &error {
            Error::Exhausted {
                retry_after_seconds,
                ..
            } => {
                let wait = Duration::from_secs(u64::from(*retry_after_seconds));
                (now + wait.max(backoff), Some(Trouble::Refused(error)))
            }
            Error::OutOfSpace(_) => {
                let wait = self.patience.full_disk;
                (now + wait, Some(Trouble::Refused(error)))
            }
            // Also `Invalid`: the request was checked before it was cut into batches, so what the owner
            // does not understand is the other version of a rolling upgrade, and the next attempt may
            // meet the new one.
            _ => (now + backoff, Some(Trouble::Failed(error))),
        };
    }

    /// What is to be done now. `may_hedge` is asked before an owner that is slow is asked a second
    /// time.
    pub(super) fn step(&mut self, now: At, may_hedge: &mut dyn FnMut() -> bool) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.answered.is_none()
            && let Some(result) = self.verdict(now)
        {
            self.answered = Some((now, result.is_ok()));
            actions.push(Action::Answer(result));
        }
        if !self.is_done(now) {
            for node in self.targets.keys().copied().collect::<Vec<_>>() {
                actions.extend(self.send(now, node, may_hedge));
            }
        }
        actions
    }

    fn send(
        &mut self,
        now: At,
        node: NodeId,
        may_hedge: &mut dyn FnMut() -> bool,
    ) -> Option<Action> {
        let hedge = if self.unsent(node).is_empty() {
            let due = self.hedge_at(node).is_some_and(|at| at <= now);
            let target = self.targets.get_mut(&node)?;
            target.hedged |= due;
            if !due || !may_hedge() {
                return None;
            }
            true
        } else {
            let target = self.targets.get_mut(&node)?;
            if target.is_stale() || target.retry_at > now {
                return None;
            }
            // Asked again, it may well say yes; what it said last is kept for the report.
            if let Some(Trouble::Refused(error)) = target.trouble.take_if(|t| t.is_refusal()) {
                target.trouble = Some(Trouble::Failed(error));
            }
            false
        };
        let batches = if hedge {
            self.missing(node)
        } else {
            self.unsent(node)
        };
        let call = CallId(self.calls.len());
        self.calls.push(Call {
            node,
            ring: self.ring,
            batches: batches.clone(),
            since: now,
            open: true,
        });
        Some(Action::Send {
            call,
            node,
            ring: self.ring,
            batches,
            hedge,
        })
    }

    /// What the node should have and has not, as far as is known.
    fn missing(&self, node: NodeId) -> Vec<usize> {
        let owned = self.targets.get(&node).map(|target| &target.batches);
        let owned = owned.into_iter().flatten().copied();
        owned
            .filter(|at| !self.batches[*at].held.contains(&node))
            .collect()
    }

    /// What of it is in no open call.
    fn unsent(&self, node: NodeId) -> Vec<usize> {
        let mut missing = self.missing(node);
        for call in self.open_calls(node) {
            missing.retain(|batch| !call.batches.contains(batch));
        }
        missing
    }

    fn open_calls(&self, node: NodeId) -> impl Iterator<Item = &Call> {
        let calls = self.calls.iter();
        calls.filter(move |call| call.open && call.node == node)
    }

    /// When the node is to be asked a second time while it has not answered the first; only while
    /// the sender waits.
    fn hedge_at(&self, node: NodeId) -> Option<At> {
        let target = self.targets.get(&node)?;
        if self.answered.is_some() || target.hedged || self.missing(node).is_empty() {
            return None;
        }
        let since = self.open_calls(node).map(|call| call.since).min()?;
        Some(since + self.patience.hedge_after)
    }

    /// Whether the sender can be told something.
    fn verdict(&self, now: At) -> Option<Result<(), Error>> {
        let mut open = self.batches.iter();
        let Some(worst) = open.find(|batch| batch.has() < batch.needed) else {
            return Some(Ok(()));
        };
        for batch in &self.batches {
            let refusals = batch.owners.iter().filter_map(|owner| self.refusal(owner));
            let refusals: Vec<&Error> = refusals.collect();
            let possible = batch.owners.len() - refusals.len();
            if !refusals.is_empty() && batch.has() < batch.needed && possible < batch.needed {
                return Some(Err(most_telling(&refusals)));
            }
        }
        (now >= self.patience.deadline).then(|| Err(self.too_late(worst)))
    }

    fn refusal(&self, node: &NodeId) -> Option<&Error> {
        match &self.targets.get(node)?.trouble {
            Some(Trouble::Refused(error)) if !self.missing(*node).is_empty() => Some(error),
            _ => None,
        }
    }

    fn too_late(&self, batch: &Batch) -> Error {
        if batch.owners.is_empty() {
            let text = "no ingester is at work, so that nothing can be stored; start one";
            return Error::Unavailable(text.to_owned());
        }
        let without = batch.owners.iter().filter(|o| !batch.held.contains(o));
        let why = without.map(|owner| {
            let trouble = self.targets.get(owner).and_then(|t| t.trouble.as_ref());
            let text = match trouble {
                Some(Trouble::Failed(error) | Trouble::Refused(error)) => error.to_string(),
                Some(Trouble::Stale) => "knows a newer ring than this process".to_owned(),
                None => "no answer".to_owned(),
            };
            format!("node {}: {text}", owner.0)
        });
        Error::Unavailable(format!(
            "of the owners of shard {} (ring {}) {} of {} have stored the records, {} are needed ({}); send again later",
            batch.shard.0,
            self.ring.0,
            batch.has(),
            batch.owners.len(),
            batch.needed,
            why.collect::<Vec<_>>().join("; "),
        ))
    }

    /// Whether an owner knows a newer ring, or does not answer, which a newer ring may mend: then
    /// the delivery waits for one.
    pub(super) fn wants_newer_ring(&self) -> bool {
        let mut targets = self.targets.values();
        self.answered.is_none()
            && (self.targets.is_empty() || targets.any(|target| target.trouble.is_some()))
    }

    /// Whether the sender has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Owners that lack batches.
    pub(super) fn unserved(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.targets.keys().copied();
        nodes.filter(|node| !self.missing(*node).is_empty())
    }

    /// Whether nothing is left to do: a no was answered, or all owners have everything, or those
    /// that have not are given up.
    pub(super) fn is_done(&self, now: At) -> bool {
        match self.answered {
            None => false,
            Some((_, false)) => true,
            Some((at, true)) => {
                let tries_max = self.patience.late_tries_max;
                let given_up = |target: &Target| target.is_stale() || target.failures > tries_max;
                now >= at + self.patience.late
                    || self.unserved().all(|node| given_up(&self.targets[&node]))
            }
        }
    }

    /// When `step` has something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> At {
        let end = match self.answered {
            None => self.patience.deadline,
            Some((at, _)) => at + self.patience.late,
        };
        let next =
            self.targets
                .iter()
                .filter_map(|(node, target)| match self.unsent(*node).is_empty() {
                    true => self.hedge_at(*node),
                    false if target.is_stale() => None,
                    false => Some(target.retry_at),
                });
        next.chain([end]).min().unwrap_or(end)
    }
}

impl Batch {
    /// How many of its owners have it.
    fn has(&self) -> usize {
        let owners = self.owners.iter();
        owners.filter(|owner| self.held.contains(owner)).count()
    }
}

impl Trouble {
    fn is_refusal(&self) -> bool {
        matches!(self, Trouble::Refused(_))
    }
}

impl Target {
    fn is_stale(&self) -> bool {
        matches!(self.trouble, Some(Trouble::Stale))
    }
}

/// Of the refusals that leave no quorum, what the sender should hear: a lack of memory passes soonest,
/// with the longest wait of those who said one; what can never pass is told only if nothing else is.
fn most_telling(refusals: &[&Error]) -> Error {
    let rank = |error: &&&Error| match error {
        Error::Exhausted {
            retry_after_seconds,
            ..
        } => (2, *retry_after_seconds),
        Error::OutOfSpace(_) => (1, 0),
        _ => (0, 0),
    };
    let telling = refusals.iter().max_by_key(rank);
    telling.map_or_else(
        || Error::Internal("an owner refused without a reason, a defect".to_owned()),
        |error| (*error).clone(),
    )
}

#[cfg(test)]
mod tests;
