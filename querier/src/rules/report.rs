//! How rules are, for people and for other queriers.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Timestamp;
use rpc::{RuleGroup, RuleGroupId};
use serde::{Deserialize, Serialize};

use super::alerts::{Phase, phase_of};
use super::decide::{GroupState, RuleState, active};
use super::group::{Group, Texts};
use super::saved::restore;

/// How a group is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupReport {
    pub(crate) namespace: String,
    pub(crate) group: Group,
    /// Version of the catalog with which the group came.
    pub(crate) version: u64,
    pub(crate) evaluated_at: Option<Timestamp>,
    pub(crate) evaluation_nanos: i64,
    /// As many as the group has rules.
    pub(crate) rules: Vec<RuleReport>,
}

/// How a rule is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleReport {
    pub(crate) phase: Phase,
    /// `None` as long as it was not evaluated; what went wrong.
    pub(crate) outcome: Option<Result<(), String>>,
    pub(crate) evaluated_at: Option<Timestamp>,
    pub(crate) evaluation_nanos: i64,
    pub(crate) alerts: Vec<AlertReport>,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlertReport {
    pub(crate) labels: Texts,
    pub(crate) annotations: Texts,
    pub(crate) phase: Phase,
    pub(crate) active_at: Timestamp,
    /// As Prometheus writes it: JSON has no infinity.
    pub(crate) value: String,
}

impl GroupReport {
    pub(crate) fn of(
        id: &RuleGroupId,
        version: u64,
        group: &Group,
        state: &GroupState,
    ) -> GroupReport {
        GroupReport {
            namespace: id.namespace.to_string(),
            group: group.clone(),
            version,
            evaluated_at: state.evaluated_at,
            evaluation_nanos: state.evaluation_nanos,
            rules: state.rules.iter().map(RuleReport::of).collect(),
        }
    }

    /// What the catalog alone tells, when nobody can be asked who evaluates the group; `None` for
    /// what cannot be read.
    pub(crate) fn of_catalog(id: &RuleGroupId, kept: &RuleGroup) -> Option<GroupReport> {
        let group = Group::from_kept(&kept.definition).ok()?;
        let state = restore(&group, &kept.state).unwrap_or_else(|_| GroupState::of(&group));
        Some(GroupReport::of(id, kept.version, &group, &state))
    }
}

impl RuleReport {
    fn of(state: &RuleState) -> RuleReport {
        let alerts = active(&state.alerts).map(|(labels, alert)| AlertReport {
            labels: labels.clone(),
            annotations: alert.annotations.clone(),
            phase: alert.phase,
            active_at: alert.active_at,
            value: scientific(alert.value),
        });
        RuleReport {
            phase: phase_of(&state.alerts),
            outcome: state.outcome.clone(),
            evaluated_at: state.evaluated_at,
            evaluation_nanos: state.evaluation_nanos,
            alerts: alerts.collect(),
        }
    }
}

/// The reports of the catalog's groups, those that their evaluator gave where they are of the same
/// version.
pub(crate) fn united<'a>(
    kept: impl Iterator<Item = (&'a RuleGroupId, &'a Arc<RuleGroup>)>,
    given: Vec<Arc<GroupReport>>,
) -> Vec<Arc<GroupReport>> {
    let name = |report: &GroupReport| (report.namespace.clone(), report.group.name.clone());
    let mut given: BTreeMap<_, _> = given.into_iter().map(|r| (name(&r), r)).collect();
    let newest = |(id, kept): (&RuleGroupId, &Arc<RuleGroup>)| {
        let name = (id.namespace.to_string(), id.name.to_string());
        match given.remove(&name) {
            Some(given) if given.version == kept.version => Some(given),
            _ => GroupReport::of_catalog(id, kept).map(Arc::new),
        }
    };
    kept.filter_map(newest).collect()
}

/// A number with an exponent of two digits at least: `1.5e+00`.
fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return match (value.is_nan(), value > 0.0) {
            (true, _) => "NaN".to_owned(),
            (_, true) => "+Inf".to_owned(),
            (_, false) => "-Inf".to_owned(),
        };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use model::TenantId;

    use super::*;

    #[test]
    fn values_have_an_exponent_as_prometheus_writes_them() {
        for (value, want) in [
            (1.0, "1e+00"),
            (1_234_567.0, "1.234567e+06"),
            (0.000_5, "5e-04"),
            (-2.5e120, "-2.5e+120"),
            (0.0, "0e+00"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(scientific(value), want);
        }
    }

    #[test]
    fn a_report_of_another_version_of_a_group_is_not_shown() {
        let id = RuleGroupId {
            tenant: TenantId::default(),
            namespace: "n".into(),
            name: "g".into(),
        };
        let kept = Arc::new(RuleGroup {
            definition: "{\"name\":\"g\",\"rules\":[]}".into(),
            version: 7,
            state: "".into(),
        });
        let united = |version| {
            let mut given = GroupReport::of_catalog(&id, &kept).unwrap();
            given.version = version;
            given.evaluated_at = Some(5);
            let united = united([(&id, &kept)].into_iter(), vec![Arc::new(given)]);
            united[0].evaluated_at
        };
        assert_eq!((united(7), united(6)), (Some(5), None));
    }
}
