use std::sync::Arc;

use model::{NodeId, TenantId};

use crate::{Catalog, Lease};

/// A rule group, by whose it is and its names. In order of tenant, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleGroupId {
    /// Whose rules.
    pub tenant: TenantId,
    /// The namespace: what Loki calls a file. Never empty.
    pub namespace: Arc<str>,
    /// The group. Never empty.
    pub name: Arc<str>,
}

/// A rule group and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleGroup {
    /// Its rules; the business of the queriers alone. Whoever needs them reads the text anew.
    pub definition: Arc<str>,
    /// Version of the catalog with which the definition came; one that is equal to it leaves it.
    pub version: u64,
    /// What its evaluation left for whoever goes on; the business of the queriers alone. Empty at first.
    pub state: Arc<str>,
}

/// What the evaluation of a group left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProgress {
    /// Which group.
    pub group: RuleGroupId,
    /// What replaces its state.
    pub state: Arc<str>,
}

impl RuleGroupId {
    /// Whether it is in this namespace of the tenant.
    pub fn is_in(&self, tenant: &TenantId, namespace: &str) -> bool {
        self.tenant == *tenant && *self.namespace == *namespace
    }
}

impl Lease {
    /// The name of the job of evaluating all rules.
    pub const RULES: &'static str = "rules";
}

impl Catalog {
    /// The rule groups of a tenant, by namespace and name.
    pub fn rules_of(
        &self,
        tenant: &TenantId,
    ) -> impl Iterator<Item = (&RuleGroupId, &Arc<RuleGroup>)> {
        let first = RuleGroupId {
            tenant: tenant.clone(),
            namespace: Arc::from(""),
            name: Arc::from(""),
        };
        let groups = self.rules.range(first..);
        groups.take_while(move |(id, _)| id.tenant == *tenant)
    }

    /// Who evaluates rules, as far as it is known here.
    pub fn rules_evaluator(&self) -> Option<NodeId> {
        let lease = self.cluster.leases.get(Lease::RULES);
        lease.map(|lease| lease.holder)
    }

    /// Whether who evaluates rules must have the lease: not where there is one querier at most.
    pub fn is_rules_lease_needed(&self) -> bool {
        let members = self.cluster.members.values();
        members.filter(|member| member.roles.querier).count() > 1
    }
}
