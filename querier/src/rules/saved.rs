//! What the evaluation of a group leaves in the catalog, so that another process goes on with it.

use serde::{Deserialize, Serialize};

use model::Timestamp;

#[cfg(test)]
use super::alerts::Alerts;
use super::alerts::{Alert, Phase};
use super::decide::{GroupState, RuleState};
use super::group::{Group, Rule, Texts};

/// The alerts of a group, by rule.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    rules: Vec<SavedRule>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRule {
    alert: String,
    /// Those of the rule: with the name they tell which one it is, also when the group was changed.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    labels: Texts,
    alerts: Vec<SavedAlert>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedAlert {
    labels: Texts,
    phase: Phase,
    active_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fired_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolved_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept_since: Option<Timestamp>,
    /// As they were when the rest changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<Shown>,
}

/// What changes with every evaluation: it is saved along, and is no reason to save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shown {
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    annotations: Texts,
    /// As text: JSON has no infinity.
    value: String,
}

impl SavedAlert {
    fn of(labels: &Texts, alert: &Alert, with_shown: bool) -> SavedAlert {
        SavedAlert {
            labels: labels.clone(),
            phase: alert.phase,
            active_at: alert.active_at,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
            kept_since: alert.kept_since,
            shown: with_shown.then(|| Shown {
                annotations: alert.annotations.clone(),
                value: alert.value.to_string(),
            }),
        }
    }

    fn restored(self) -> (Texts, Alert) {
        let shown = self.shown.unwrap_or(Shown {
            annotations: Texts::new(),
            value: String::new(),
        });
        let alert = Alert {
            phase: self.phase,
            annotations: shown.annotations,
            value: shown.value.parse().unwrap_or(0.0),
            active_at: self.active_at,
            fired_at: self.fired_at,
            resolved_at: self.resolved_at,
            kept_since: self.kept_since,
            sent_at: None,
        };
        (self.labels, alert)
    }
}

/// The state as text, empty when there is nothing to remember; and the part of it that is worth
/// saving when it changes.
pub(crate) fn save(group: &Group, state: &GroupState) -> (String, String) {
    let text = |with_shown| {
        let rules = group.rules.iter().zip(&state.rules);
        let rules = rules.filter(|(_, state)| !state.alerts.is_empty());
        let saved = Saved {
            rules: rules
                .map(|(rule, state)| saved_rule(rule, state, with_shown))
                .collect(),
        };
        match saved.rules.is_empty() {
            true => String::new(),
            // Texts and whole numbers are always JSON.
            false => serde_json::to_string(&saved).unwrap_or_default(),
        }
    };
    (text(true), text(false))
}

fn saved_rule(rule: &Rule, state: &RuleState, with_shown: bool) -> SavedRule {
    let alerts = state.alerts.iter();
    SavedRule {
        alert: rule.alert.clone(),
        labels: rule.labels.clone(),
        alerts: alerts
            .map(|(labels, alert)| SavedAlert::of(labels, alert, with_shown))
            .collect(),
    }
}

/// The state that the catalog keeps for a group. What cannot be read is as if there were none, and
/// is told.
pub(crate) fn restore(group: &Group, text: &str) -> Result<GroupState, String> {
    let mut state = GroupState::of(group);
    if text.is_empty() {
        return Ok(state);
    }
    let saved: Saved = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut saved = saved.rules;
    for (rule, state) in group.rules.iter().zip(&mut state.rules) {
        let is_same = |saved: &SavedRule| saved.alert == rule.alert && saved.labels == rule.labels;
        if rule.is_alert()
            && let Some(at) = saved.iter().position(is_same)
        {
            let alerts = saved.remove(at).alerts;
            state.alerts = alerts.into_iter().map(SavedAlert::restored).collect();
        }
    }
    Ok(state)
}

#[cfg(test)]
pub(crate) fn round_trip(alerts: &Alerts) -> Alerts {
    let group = Group::from_yaml("name: g\nrules:\n- {alert: A, expr: vector(1)}\n").unwrap();
    let mut state = GroupState::of(&group);
    state.rules[0].alerts = alerts.clone();
    let (text, _) = save(&group, &state);
    let mut restored = restore(&group, &text).unwrap();
    std::mem::take(&mut restored.rules[0].alerts)
}

#[cfg(test)]
mod tests {
    use super::super::alerts::{Found, Terms, advance};
    use super::*;

    fn firing(value: f64) -> Alerts {
        let mut alerts = Alerts::new();
        let found = Found {
            labels: Texts::from([("a".to_owned(), "b".to_owned())]),
            annotations: Texts::from([("v".to_owned(), value.to_string())]),
            value,
        };
        let terms = Terms {
            hold: 0,
            keep_firing_for: 0,
            limit: 0,
        };
        advance(&mut alerts, vec![found], &terms, 7).unwrap();
        alerts
    }

    fn state(group: &Group, rule: usize, alerts: Alerts) -> GroupState {
        let mut state = GroupState::of(group);
        state.rules[rule].alerts = alerts;
        state
    }

    #[test]
    fn values_are_saved_and_are_no_reason_to_save() {
        let group = Group::from_yaml("name: g\nrules:\n- {alert: A, expr: vector(1)}\n").unwrap();
        let one = save(&group, &state(&group, 0, firing(1.0)));
        let two = save(&group, &state(&group, 0, firing(f64::INFINITY)));
        assert_eq!(one.1, two.1);
        assert_ne!(one.0, two.0);
        let restored = restore(&group, &two.0).unwrap();
        assert_eq!(restored.rules[0].alerts, firing(f64::INFINITY));
        assert_eq!(save(&group, &GroupState::of(&group)).0, "");
        assert!(restore(&group, "{").is_err());
    }

    #[test]
    fn alerts_stay_with_their_rule_when_the_group_is_changed() {
        let yaml = |rules: &str| Group::from_yaml(&format!("name: g\nrules:\n{rules}")).unwrap();
        let (a, b) = (
            "- {alert: A, expr: vector(1)}\n",
            "- {alert: B, expr: vector(1)}\n",
        );
        let before = yaml(&format!("{a}{b}"));
        let (text, _) = save(&before, &state(&before, 0, firing(1.0)));
        let after = restore(&yaml(&format!("{b}{a}")), &text).unwrap();
        let counts: Vec<usize> = after.rules.iter().map(|rule| rule.alerts.len()).collect();
        assert_eq!(counts, [0, 1]);
        let other = yaml("- {alert: A, expr: vector(1), labels: {x: z}}\n");
        assert!(restore(&other, &text).unwrap().rules[0].alerts.is_empty());
    }
}
