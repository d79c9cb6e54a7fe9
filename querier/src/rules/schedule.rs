//! When groups are evaluated: at times that their names alone decide, so that whoever goes on with
//! a group evaluates it for the times at which the one before would have.

use std::collections::BTreeMap;

use model::{TenantId, Timestamp};
use rpc::RuleGroupId;
use xxhash_rust::xxh3::Xxh3;

/// How far into its interval a group is evaluated, so that not all are at once.
fn offset(id: &RuleGroupId, interval: i64) -> i64 {
    let mut hash = Xxh3::new();
    for part in [id.tenant.as_str(), &id.namespace, &id.name] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    (hash.digest() % interval.max(1).unsigned_abs()) as i64
}

/// The first time after `now` for which the group is evaluated.
pub(crate) fn next(id: &RuleGroupId, interval: i64, now: Timestamp) -> Timestamp {
    let interval = interval.max(1);
    let into = now
        .saturating_sub(offset(id, interval))
        .rem_euclid(interval);
    now.saturating_sub(into).saturating_add(interval)
}

/// The time for which a group is evaluated that was due at `due`, and how many times were missed
/// before it.
pub(crate) fn latest(due: Timestamp, interval: i64, now: Timestamp) -> (Timestamp, u64) {
    let missed = (now.saturating_sub(due) / interval.max(1)).max(0);
    (
        due.saturating_add(missed.saturating_mul(interval)),
        missed.unsigned_abs(),
    )
}

/// Whose turn it is, so that no tenant keeps the others waiting.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    count: u64,
    /// The last turn of each tenant.
    last: BTreeMap<TenantId, u64>,
}

impl Turns {
    /// Which of the groups that wait is next, with since when they do: of a tenant of which fewest are `running`, of
    /// these the one whose turn is longest ago, of its groups the one that waits longest.
    pub(crate) fn pick(
        &mut self,
        waiting: &[(RuleGroupId, Timestamp)],
        running: &BTreeMap<TenantId, usize>,
    ) -> Option<usize> {
        let rank = |(id, since): &(RuleGroupId, Timestamp)| {
            let of_tenant = running.get(&id.tenant).copied().unwrap_or(0);
            let last = self.last.get(&id.tenant).copied().unwrap_or(0);
            (of_tenant, last, *since)
        };
        let (at, (id, _)) = waiting
            .iter()
            .enumerate()
            .min_by_key(|(_, group)| rank(group))?;
        self.count += 1;
        self.last.insert(id.tenant.clone(), self.count);
        Some(at)
    }

    /// Forgets other tenants.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&TenantId) -> bool) {
        self.last.retain(|tenant, _| wanted(tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> RuleGroupId {
        RuleGroupId {
            tenant: TenantId::default(),
            namespace: "n".into(),
            name: name.into(),
        }
    }

    #[test]
    fn times_are_an_interval_apart_and_the_same_for_whoever_asks() {
        for name in ["a", "b", "c"] {
            let first = next(&id(name), 60, 1000);
            assert!((1001..=1060).contains(&first), "{first}");
            assert_eq!(next(&id(name), 60, first), first + 60);
            assert_eq!(next(&id(name), 60, first - 1), first);
            assert_eq!(next(&id(name), 60, 1000), first);
        }
        assert_ne!(offset(&id("a"), 1 << 40), offset(&id("b"), 1 << 40));
    }

    #[test]
    fn who_is_late_evaluates_for_the_latest_time_and_knows_what_was_missed() {
        assert_eq!(latest(100, 10, 100), (100, 0));
        assert_eq!(latest(100, 10, 109), (100, 0));
        assert_eq!(latest(100, 10, 125), (120, 2));
    }

    #[test]
    fn tenants_take_turns_however_many_groups_of_one_wait() {
        let id = |tenant: &str, name: &str| RuleGroupId {
            tenant: TenantId::new(tenant).unwrap(),
            ..id(name)
        };
        let mut waiting = vec![
            (id("a", "1"), 1),
            (id("a", "2"), 0),
            (id("a", "3"), 2),
            (id("b", "1"), 9),
            (id("c", "1"), 8),
        ];
        let mut turns = Turns::default();
        let mut running = BTreeMap::new();
        let mut picked = Vec::new();
        while let Some(at) = turns.pick(&waiting, &running) {
            let (id, _) = waiting.remove(at);
            picked.push(format!("{}{}", id.tenant, id.name));
            *running.entry(id.tenant).or_default() += 1;
        }
        assert_eq!(picked, ["a2", "c1", "b1", "a1", "a3"]);
        let both = [(id("a", "1"), 1), (id("b", "1"), 9)];
        assert_eq!(
            turns.pick(&both, &BTreeMap::new()),
            Some(1),
            "b's turn is longer ago"
        );
    }
}
