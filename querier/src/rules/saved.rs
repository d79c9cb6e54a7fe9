//! What the evaluation of a group leaves in the catalog, so that another process goes on with it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use model::Timestamp;

#[cfg(test)]
use super::alerts::Alerts;
use super::alerts::{Alert, Phase};
use super::decide::{GroupState, RuleState, series_of_alerts};
use super::group::{Group, Rule, Texts};

/// The alerts and series of a group, by rule.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    rules: Vec<SavedRule>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRule {
    /// Empty for a recording.
    alert: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    record: String,
    /// Those of the rule: with the name they tell which one it is, also when the group was changed.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    labels: Texts,
    alerts: Vec<SavedAlert>,
    /// What a recording wrote last. The series of alerts follow from these.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    series: BTreeSet<Texts>,
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
    fn of(labels: &Texts, alert: &Alert) -> SavedAlert {
        SavedAlert {
            labels: labels.clone(),
            phase: alert.phase,
            active_at: alert.active_at,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
            kept_since: alert.kept_since,
            shown: None,
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

/// Bytes of what is saved of a group up to which values and annotations are in it, and bytes of all.
const SHOWN_BYTES_MAX: usize = 128 * 1024;
const BYTES_MAX: usize = 512 * 1024;
/// Bytes of the series of recordings that are saved of a group. A rule that writes more leaves them without an end when
/// another process goes on: who reads them sees them for five minutes longer.
const SERIES_BYTES_MAX: usize = 64 * 1024;

/// What is to be saved of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// Empty when there is nothing to remember.
    pub(crate) whole: String,
    /// The part of it that is worth saving when it changes.
    pub(crate) worth: String,
    /// Alerts for which there is no room.
    pub(crate) left_out: usize,
}

/// The state as text: of all alerts, if there is room; else of those that fire before others.
pub(crate) fn save(group: &Group, state: &GroupState) -> Text {
    let (mut saved, left_out) = saved_of(group, state, BYTES_MAX);
    let worth = saved.text();
    saved.show(state);
    let whole = saved.text();
    match whole.len() > SHOWN_BYTES_MAX {
        true => Text {
            whole: worth.clone(),
            worth,
            left_out,
        },
        false => Text {
            whole,
            worth,
            left_out,
        },
    }
}

/// Every rule, also without alerts and series, so that equal ones are told apart by their order.
fn saved_of(group: &Group, state: &GroupState, bytes_max: usize) -> (Saved, usize) {
    let mut saved = Saved {
        rules: group.rules.iter().map(SavedRule::of).collect(),
    };
    let mut room = SERIES_BYTES_MAX;
    let rules = group.rules.iter().zip(&state.rules);
    for ((rule, state), saved) in rules.zip(&mut saved.rules) {
        let bytes = match rule.is_alert() || state.series.is_empty() {
            true => continue,
            false => json(&state.series).len(),
        };
        if bytes <= room {
            room -= bytes;
            saved.series.clone_from(&state.series);
        }
    }
    let (mut bytes, mut left_out) = (json(&saved).len(), 0);
    for phase in [Phase::Firing, Phase::Pending, Phase::Inactive] {
        for (state, rule) in state.rules.iter().zip(&mut saved.rules) {
            for (labels, alert) in state.alerts.iter().filter(|(_, a)| a.phase == phase) {
                let alert = SavedAlert::of(labels, alert);
                bytes = bytes.saturating_add(json(&alert).len() + 1);
                match bytes > bytes_max {
                    true => left_out += 1,
                    false => rule.alerts.push(alert),
                }
            }
        }
    }
    (saved, left_out)
}

/// Texts and whole numbers are always JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The part of a saved text that is worth saving when it changes; `None` for what cannot be read.
pub(crate) fn worth(whole: &str) -> Option<String> {
    if whole.is_empty() {
        return Some(String::new());
    }
    let mut saved: Saved = serde_json::from_str(whole).ok()?;
    let alerts = saved.rules.iter_mut().flat_map(|rule| &mut rule.alerts);
    alerts.for_each(|alert| alert.shown = None);
    Some(saved.text())
}

impl Saved {
    fn text(&self) -> String {
        let mut rules = self.rules.iter();
        match rules.all(|rule| rule.alerts.is_empty() && rule.series.is_empty()) {
            true => String::new(),
            false => json(self),
        }
    }

    /// Adds what the alerts show.
    fn show(&mut self, state: &GroupState) {
        for (rule, state) in self.rules.iter_mut().zip(&state.rules) {
            for saved in &mut rule.alerts {
                saved.shown = state.alerts.get(&saved.labels).map(|alert| Shown {
                    annotations: alert.annotations.clone(),
                    value: alert.value.to_string(),
                });
            }
        }
    }
}

impl SavedRule {
    fn of(rule: &Rule) -> SavedRule {
        SavedRule {
            alert: rule.alert.clone(),
            record: rule.record.clone(),
            labels: rule.labels.clone(),
            alerts: Vec::new(),
            series: BTreeSet::new(),
        }
    }

    fn restore(self, state: &mut RuleState) {
        let alerts = self.alerts.into_iter().map(SavedAlert::restored);
        state.alerts = alerts.collect();
        let of_alerts = series_of_alerts(&state.alerts);
        state.series = self.series;
        state
            .series
            .extend(of_alerts.into_iter().map(|(labels, _)| labels));
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
        let is_same = |saved: &SavedRule| {
            saved.alert == rule.alert && saved.record == rule.record && saved.labels == rule.labels
        };
        if let Some(at) = saved.iter().position(is_same) {
            saved.remove(at).restore(state);
        }
    }
    Ok(state)
}

#[cfg(test)]
pub(crate) fn round_trip(alerts: &Alerts) -> Alerts {
    let group = Group::from_yaml("name: g\nrules:\n- {alert: A, expr: vector(1)}\n").unwrap();
    let mut state = GroupState::of(&group);
    state.rules[0].alerts = alerts.clone();
    let text = save(&group, &state).whole;
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
        assert_eq!(one.worth, two.worth);
        assert_ne!(one.whole, two.whole);
        assert_eq!(worth(&one.whole), Some(one.worth));
        let restored = restore(&group, &two.whole).unwrap();
        assert_eq!(restored.rules[0].alerts, firing(f64::INFINITY));
        assert_eq!(save(&group, &GroupState::of(&group)), Text::default());
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
        let text = save(&before, &state(&before, 0, firing(1.0))).whole;
        let after = restore(&yaml(&format!("{b}{a}")), &text).unwrap();
        let counts: Vec<usize> = after.rules.iter().map(|rule| rule.alerts.len()).collect();
        assert_eq!(counts, [0, 1]);
        let other = yaml("- {alert: A, expr: vector(1), labels: {x: z}}\n");
        assert!(restore(&other, &text).unwrap().rules[0].alerts.is_empty());
    }

    #[test]
    fn of_two_rules_with_the_same_name_each_keeps_its_own_alerts() {
        let rule = "- {alert: A, expr: vector(1)}\n";
        let yaml = format!("name: g\nrules:\n- {{record: r, expr: vector(1)}}\n{rule}{rule}");
        let group = Group::from_yaml(&yaml).unwrap();
        let text = save(&group, &state(&group, 2, firing(1.0))).whole;
        let restored = restore(&group, &text).unwrap();
        let counts: Vec<usize> = restored
            .rules
            .iter()
            .map(|rule| rule.alerts.len())
            .collect();
        assert_eq!(counts, [0, 0, 1]);
        assert_eq!(worth(&text), Some(save(&group, &restored).worth));
    }

    #[test]
    fn series_that_were_written_are_known_to_who_goes_on_as_far_as_there_is_room() {
        let rules = ["a", "b", "c"].map(|name| format!("- {{record: {name}, expr: vector(1)}}\n"));
        let alert = "- {alert: A, expr: vector(1)}\n";
        let yaml = format!("name: g\nrules:\n{}{alert}", rules.concat());
        let group = Group::from_yaml(&yaml).unwrap();
        let mut state = state(&group, 3, firing(1.0));
        let series = |value: String| BTreeSet::from([Texts::from([("n".to_owned(), value)])]);
        for (rule, bytes) in [(0, 10), (1, SERIES_BYTES_MAX), (2, 20)] {
            state.rules[rule].series = series("x".repeat(bytes));
        }
        let text = save(&group, &state);
        assert_eq!(worth(&text.whole), Some(text.worth));
        let restored = restore(&group, &text.whole).unwrap();
        let own = |rule: usize| restored.rules[rule].series.clone();
        assert_eq!(
            [own(0), own(2)],
            [series("x".repeat(10)), series("x".repeat(20))]
        );
        assert!(own(1).is_empty(), "no room");
        let names: Vec<String> = own(3).iter().map(|s| s["__name__"].clone()).collect();
        assert_eq!(names, ["ALERTS", "ALERTS_FOR_STATE"]);
    }

    #[test]
    fn what_is_saved_of_a_group_has_a_limit_and_those_that_fire_come_first() {
        let group = Group::from_yaml("name: g\nrules:\n- {alert: A, expr: vector(1)}\n").unwrap();
        let mut state = state(&group, 0, Alerts::new());
        let one = firing(1.0).into_values().next().unwrap();
        for number in 0..2000 {
            let mut alert = one.clone();
            if number < 1990 {
                alert.phase = Phase::Pending;
            }
            let long = format!("{number:05}{}", "x".repeat(1000));
            let labels = Texts::from([("a".to_owned(), long)]);
            state.rules[0].alerts.insert(labels, alert);
        }
        let text = save(&group, &state);
        assert!(text.whole.len() <= BYTES_MAX, "{}", text.whole.len());
        assert!((1500..1600).contains(&text.left_out), "{}", text.left_out);
        let restored = restore(&group, &text.whole).unwrap();
        let alerts = &restored.rules[0].alerts;
        let firing = alerts.values().filter(|a| a.phase == Phase::Firing);
        assert_eq!((firing.count(), alerts.len()), (10, 2000 - text.left_out));
    }

    #[test]
    fn annotations_are_left_out_before_alerts_are() {
        let group = Group::from_yaml("name: g\nrules:\n- {alert: A, expr: vector(1)}\n").unwrap();
        let mut alerts = firing(1.0);
        for alert in alerts.values_mut() {
            alert
                .annotations
                .insert("long".to_owned(), "x".repeat(SHOWN_BYTES_MAX));
        }
        let text = save(&group, &state(&group, 0, alerts));
        assert_eq!((text.left_out, &text.whole), (0, &text.worth));
        assert_eq!(
            restore(&group, &text.whole).unwrap().rules[0].alerts.len(),
            1
        );
    }
}
