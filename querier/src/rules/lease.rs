//! Who evaluates rules: one querier, which the catalog names.

use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, Timestamp};
use rpc::{Catalog, Command, Lease, MetaApi};
use tokio::time::{Instant, sleep_until};

use crate::Clock;

/// How long to wait when the coordinator does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Whether this process evaluates rules. It goes on when the coordinator cannot be reached: nobody
/// is told then that another took over, and alerts that two tell are one to Alertmanagers.
pub(crate) fn is_ours(catalog: &Catalog, own: NodeId) -> bool {
    match catalog.rules_evaluator() {
        Some(holder) => holder == own,
        None => is_alone(catalog),
    }
}

/// With one querier there is nobody else.
fn is_alone(catalog: &Catalog) -> bool {
    !catalog.is_rules_lease_needed()
}

/// What is to be done about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing before the catalog changes, or that time.
    Wait(Option<Instant>),
    /// Take or renew it; that is what another's was last.
    Take(Timestamp),
}

/// What was seen of the lease. No wall clock counts: another's has run out when it was seen
/// unrenewed for as long as leases last.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<(Lease, Instant)>,
}

impl Watch {
    fn plan(&mut self, catalog: &Catalog, own: NodeId, duration: Duration, now: Instant) -> Plan {
        let held = catalog.cluster.leases.get(Lease::RULES);
        if catalog.rules.is_empty() {
            self.seen = None;
            return Plan::Wait(None);
        }
        let Some(held) = held else {
            self.seen = None;
            return match is_alone(catalog) {
                true => Plan::Wait(None),
                false => Plan::Take(0),
            };
        };
        if self.seen.as_ref().is_none_or(|(lease, _)| lease != held) {
            self.seen = Some((held.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if held.holder == own && is_alone(catalog) {
            return Plan::Wait(None);
        }
        let wait = match held.holder == own {
            true => duration / 3,
            false => duration,
        };
        match now >= since + wait {
            true => Plan::Take(held.until),
            false => Plan::Wait(Some(since + wait)),
        }
    }
}

/// Takes and renews the lease for as long as it is polled.
pub(crate) async fn keep(meta: Arc<dyn MetaApi>, own: NodeId, clock: Clock, duration: Duration) {
    let mut watch = Watch::default();
    loop {
        let catalog = meta.catalog();
        match watch.plan(&catalog, own, duration, Instant::now()) {
            Plan::Wait(None) => drop(meta.changed(catalog.version).await),
            Plan::Wait(Some(until)) => {
                tokio::select! {
                    _ = meta.changed(catalog.version) => {}
                    () = sleep_until(until) => {}
                }
            }
            Plan::Take(run_out) => {
                let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
                let take = Command::TakeLease {
                    name: Lease::RULES.into(),
                    holder: own,
                    run_out,
                    until: clock().saturating_add(nanos),
                };
                if let Err(error) = meta.propose(take).await {
                    tracing::debug!(%error, "the lease of rules cannot be taken; it is tried again");
                    tokio::time::sleep(AGAIN_AFTER.min(duration / 3)).await;
                }
            }
        }
    }
}

/// Lets another take over at once, if this process evaluates.
pub(crate) async fn give_back(meta: &dyn MetaApi, own: NodeId) {
    if meta.catalog().rules_evaluator() != Some(own) {
        return;
    }
    let release = Command::ReleaseLease {
        name: Lease::RULES.into(),
        holder: own,
    };
    let done = tokio::time::timeout(AGAIN_AFTER * 2, meta.propose(release)).await;
    if !matches!(done, Ok(Ok(_))) {
        tracing::debug!("the lease of rules cannot be given back; it runs out by itself");
    }
}

#[cfg(test)]
mod tests {
    use model::TenantId;
    use rpc::{Member, MemberState, RoleSet, RuleGroup, RuleGroupId};

    use super::*;

    const DURATION: Duration = Duration::from_secs(30);

    fn catalog(queriers: u64, lease: Option<(u64, i64)>) -> Catalog {
        let mut catalog = Catalog::default();
        for id in (1..=queriers).map(NodeId) {
            let member = Member {
                id,
                address: format!("{}:1", id.0).into(),
                zone: "z".into(),
                roles: RoleSet {
                    querier: true,
                    ..RoleSet::default()
                },
                state: MemberState::Active,
            };
            catalog.cluster.members.insert(id, member);
        }
        if let Some((holder, until)) = lease {
            let holder = NodeId(holder);
            let lease = Lease { holder, until };
            catalog.cluster.leases.insert(Lease::RULES.into(), lease);
        }
        let id = RuleGroupId {
            tenant: TenantId::default(),
            namespace: "n".into(),
            name: "g".into(),
        };
        let group = RuleGroup {
            definition: "{}".into(),
            version: 1,
            state: "".into(),
        };
        catalog.rules.insert(id, Arc::new(group));
        catalog
    }

    #[test]
    fn who_has_the_lease_evaluates_and_where_nobody_has_it_the_only_querier_does() {
        assert!(is_ours(&catalog(1, None), NodeId(1)));
        assert!(!is_ours(&catalog(2, None), NodeId(1)));
        assert!(is_ours(&catalog(2, Some((1, 0))), NodeId(1)));
        assert!(!is_ours(&catalog(2, Some((2, 0))), NodeId(1)));
        assert!(!is_ours(&catalog(1, Some((2, 0))), NodeId(1)));
    }

    #[test]
    fn a_lease_is_renewed_in_time_and_taken_over_when_it_was_seen_unrenewed_for_its_length() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        let mut plan = |catalog: &Catalog, own, seconds| {
            watch.plan(catalog, NodeId(own), DURATION, at(seconds))
        };
        assert_eq!(plan(&catalog(2, None), 1, 0), Plan::Take(0));
        let own = catalog(2, Some((1, 7)));
        assert_eq!(plan(&own, 1, 1), Plan::Wait(Some(at(11))));
        assert_eq!(plan(&own, 1, 11), Plan::Take(7));
        let others = catalog(2, Some((2, 8)));
        assert_eq!(plan(&others, 1, 12), Plan::Wait(Some(at(42))));
        let renewed = catalog(2, Some((2, 9)));
        assert_eq!(plan(&renewed, 1, 41), Plan::Wait(Some(at(71))));
        assert_eq!(plan(&renewed, 1, 71), Plan::Take(9));
        assert_eq!(plan(&catalog(1, None), 1, 72), Plan::Wait(None), "alone");
        let mut without_rules = catalog(2, None);
        without_rules.rules.clear();
        assert_eq!(plan(&without_rules, 1, 73), Plan::Wait(None));
    }
}
