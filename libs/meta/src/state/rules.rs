//! The rules of rule groups: kept by name, changed as a whole, evaluated by one process.

use std::sync::Arc;

use model::{NodeId, TenantId};
use rpc::{Catalog, Lease, RuleGroup, RuleGroupId, RuleProgress};

use super::Rejected;

pub(super) fn check_set(
    catalog: &Catalog,
    id: &RuleGroupId,
    groups_max: u64,
) -> Result<(), Rejected> {
    if id.namespace.is_empty() || id.name.is_empty() {
        return Err(Rejected::Invalid(
            "a rule group needs a namespace and a name".to_owned(),
        ));
    }
    let groups = catalog.rules_of(&id.tenant);
    let others = groups.filter(|(other, _)| *other != id).count() as u64;
    match groups_max > 0 && others >= groups_max {
        false => Ok(()),
        true => Err(Rejected::Conflict(format!(
            "tenant {} has {others} other rule groups, and may have {groups_max} in all",
            id.tenant
        ))),
    }
}

pub(super) fn check_delete(
    catalog: &Catalog,
    tenant: &TenantId,
    namespace: &str,
    name: Option<&str>,
) -> Result<(), Rejected> {
    let mut groups = catalog.rules.keys();
    if groups.any(|id| is_named(id, tenant, namespace, name)) {
        return Ok(());
    }
    Err(Rejected::Conflict(match name {
        Some(name) => format!("namespace {namespace:?} has no rule group {name:?}"),
        None => format!("there is no namespace {namespace:?} of rule groups"),
    }))
}

pub(super) fn check_progress(catalog: &Catalog, holder: NodeId) -> Result<(), Rejected> {
    match catalog.rules_evaluator() {
        Some(other) if other != holder => Err(Rejected::Conflict(format!(
            "node {} has the lease {:?}",
            other.0,
            Lease::RULES
        ))),
        // Who is the only querier needs no lease.
        None if catalog.is_rules_lease_needed() => Err(Rejected::Conflict(format!(
            "nobody has the lease {:?}",
            Lease::RULES
        ))),
        _ => Ok(()),
    }
}

/// Alerts of a group that is changed go on: what its evaluation left stays. A group that is set to what it is
/// stays as it is.
pub(super) fn set(catalog: &mut Catalog, id: &RuleGroupId, definition: &Arc<str>) {
    let before = catalog.rules.get(id);
    if before.is_some_and(|group| group.definition == *definition) {
        return;
    }
    let group = RuleGroup {
        definition: Arc::clone(definition),
        version: catalog.version,
        state: before.map_or_else(|| Arc::from(""), |group| Arc::clone(&group.state)),
    };
    catalog.rules.insert(id.clone(), Arc::new(group));
}

pub(super) fn delete(
    catalog: &mut Catalog,
    tenant: &TenantId,
    namespace: &str,
    name: Option<&str>,
) {
    let groups = &mut catalog.rules;
    groups.retain(|id, _| !is_named(id, tenant, namespace, name));
}

/// Groups that were deleted meanwhile are left out.
pub(super) fn progress(catalog: &mut Catalog, groups: &[RuleProgress]) {
    for RuleProgress { group, state } in groups {
        if let Some(group) = catalog.rules.get_mut(group) {
            Arc::make_mut(group).state = Arc::clone(state);
        }
    }
}

fn is_named(id: &RuleGroupId, tenant: &TenantId, namespace: &str, name: Option<&str>) -> bool {
    id.is_in(tenant, namespace) && name.is_none_or(|name| *id.name == *name)
}

#[cfg(test)]
mod tests {
    use rpc::{ClusterShape, Command, Member, MemberState, Outcome, RoleSet};

    use super::super::StateMachine;
    use super::*;

    fn id(tenant: &str, namespace: &str, name: &str) -> RuleGroupId {
        RuleGroupId {
            tenant: TenantId::new(tenant).unwrap(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn set_rules(tenant: &str, namespace: &str, name: &str, definition: &str) -> Command {
        Command::SetRules {
            group: id(tenant, namespace, name),
            definition: definition.into(),
            groups_max: 0,
        }
    }

    #[test]
    fn a_tenant_has_as_many_groups_as_its_command_allows_and_replaces_its_own() {
        let limited = |tenant: &str, name: &str| Command::SetRules {
            group: id(tenant, "n", name),
            definition: "1".into(),
            groups_max: 2,
        };
        let mut machine = StateMachine::default();
        for (tenant, name) in [("a", "g"), ("a", "h"), ("b", "i"), ("a", "g")] {
            machine.apply(&limited(tenant, name)).unwrap();
        }
        let refused = machine.apply(&limited("a", "i"));
        assert!(matches!(refused, Err(Rejected::Conflict(_))), "{refused:?}");
        assert_eq!(names(&machine, "a"), ["n/g=1", "n/h=1"]);
        machine.apply(&set_rules("a", "n", "i", "1")).unwrap();
        assert_eq!(names(&machine, "a").len(), 3, "no limit");
    }

    fn delete_rules(namespace: &str, name: Option<&str>) -> Command {
        Command::DeleteRules {
            tenant: TenantId::new("a").unwrap(),
            namespace: namespace.into(),
            name: name.map(Arc::from),
        }
    }

    fn save(holder: u64, groups: &[RuleGroupId]) -> Command {
        let progress = |group: &RuleGroupId| RuleProgress {
            group: group.clone(),
            state: "state".into(),
        };
        Command::SaveRuleStates {
            holder: NodeId(holder),
            groups: groups.iter().map(progress).collect(),
        }
    }

    fn names(machine: &StateMachine, tenant: &str) -> Vec<String> {
        let tenant = TenantId::new(tenant).unwrap();
        let groups = machine.catalog().rules_of(&tenant);
        groups
            .map(|(id, group)| format!("{}/{}={}", id.namespace, id.name, group.definition))
            .collect()
    }

    #[test]
    fn groups_are_set_replaced_and_deleted_by_name_for_each_tenant() {
        let mut machine = StateMachine::default();
        for command in [
            set_rules("b", "n", "g", "1"),
            set_rules("a", "n", "g", "2"),
            set_rules("a", "n", "h", "3"),
            set_rules("a", "m", "g", "4"),
            set_rules("a", "n", "g", "5"),
        ] {
            machine.apply(&command).unwrap();
        }
        assert_eq!(names(&machine, "a"), ["m/g=4", "n/g=5", "n/h=3"]);
        machine.apply(&delete_rules("n", Some("h"))).unwrap();
        assert_eq!(names(&machine, "a"), ["m/g=4", "n/g=5"]);
        machine.apply(&delete_rules("n", None)).unwrap();
        assert_eq!(names(&machine, "a"), ["m/g=4"]);
        assert_eq!(names(&machine, "b"), ["n/g=1"]);
        let version = machine.catalog().version;
        for missing in [delete_rules("n", None), delete_rules("m", Some("x"))] {
            let refused = machine.apply(&missing);
            assert!(matches!(refused, Err(Rejected::Conflict(_))), "{refused:?}");
        }
        let unnamed = machine.apply(&set_rules("a", "n", "", "1"));
        assert!(matches!(unnamed, Err(Rejected::Invalid(_))));
        assert_eq!(machine.catalog().version, version);
    }

    #[test]
    fn a_state_outlives_a_change_of_its_group_and_not_its_deletion() {
        let mut machine = StateMachine::default();
        let group = id("a", "n", "g");
        let state = |machine: &StateMachine| machine.catalog().rules[&group].state.to_string();
        machine.apply(&set_rules("a", "n", "g", "1")).unwrap();
        let gone = id("a", "n", "gone");
        let saved = machine.apply(&save(1, &[group.clone(), gone]));
        assert_eq!(saved, Ok(Outcome::Done { version: 2 }));
        assert_eq!(machine.catalog().rules.len(), 1);
        machine.apply(&set_rules("a", "n", "g", "2")).unwrap();
        assert_eq!(state(&machine), "state");
        assert_eq!(machine.catalog().rules[&group].version, 3);
        machine.apply(&delete_rules("n", None)).unwrap();
        machine.apply(&set_rules("a", "n", "g", "2")).unwrap();
        assert_eq!(state(&machine), "");
    }

    #[test]
    fn only_who_has_the_lease_saves_states() {
        let mut machine = StateMachine::default();
        let group = id("a", "n", "g");
        machine.apply(&set_rules("a", "n", "g", "1")).unwrap();
        let take = Command::TakeLease {
            name: Lease::RULES.into(),
            holder: NodeId(1),
            run_out: 0,
            until: 5,
        };
        machine.apply(&take).unwrap();
        let refused = machine.apply(&save(2, std::slice::from_ref(&group)));
        assert!(matches!(refused, Err(Rejected::Conflict(_))), "{refused:?}");
        assert!(machine.apply(&save(1, &[group])).is_ok());
    }

    #[test]
    fn a_state_that_comes_after_the_lease_was_given_back_is_refused_unless_there_is_one_querier() {
        let mut machine = StateMachine::default();
        let group = id("a", "n", "g");
        machine.apply(&set_rules("a", "n", "g", "1")).unwrap();
        let join = |address: &str| {
            Command::Join(Member {
                id: NodeId(0),
                address: address.into(),
                zone: "z".into(),
                roles: RoleSet {
                    querier: true,
                    ..RoleSet::default()
                },
                state: MemberState::Joining,
            })
        };
        machine.apply(&form()).unwrap();
        machine.apply(&join("a:1")).unwrap();
        let alone = machine.apply(&save(1, std::slice::from_ref(&group)));
        assert!(alone.is_ok(), "{alone:?}");
        machine.apply(&join("b:1")).unwrap();
        let refused = machine.apply(&save(1, &[group]));
        assert!(matches!(refused, Err(Rejected::Conflict(_))), "{refused:?}");
    }

    fn form() -> Command {
        Command::FormCluster(ClusterShape {
            shards: 4,
            replicas: 1,
            slot_nanos: 1,
        })
    }

    #[test]
    fn a_group_that_is_set_to_what_it_is_does_not_become_another() {
        let mut machine = StateMachine::default();
        let version = |machine: &StateMachine| machine.catalog().rules[&id("a", "n", "g")].version;
        machine.apply(&set_rules("a", "n", "g", "1")).unwrap();
        machine.apply(&set_rules("a", "n", "g", "1")).unwrap();
        assert_eq!(version(&machine), 1);
        machine.apply(&set_rules("a", "n", "g", "2")).unwrap();
        assert_eq!(version(&machine), 3);
    }
}
