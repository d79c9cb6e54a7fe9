//! What becomes of a group when its rules were evaluated: pure.

use std::collections::BTreeSet;

use model::{NANOS_PER_SECOND, Timestamp};

use super::alerts::{Alert, Alerts, Found, Phase, Terms, advance, is_due};
use super::group::{Group, Rule, Texts};

/// Alertmanagers take an alert for resolved when they were not told of it for so many times of
/// telling.
const TELLINGS_MISSED: i64 = 4;

/// What Prometheus writes where a series ends.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// How a rule was when it was evaluated last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuleState {
    pub(crate) alerts: Alerts,
    /// Series that were written last time.
    pub(crate) series: BTreeSet<Texts>,
    /// `None` before the first evaluation; what went wrong otherwise.
    pub(crate) outcome: Option<Result<(), String>>,
    pub(crate) evaluated_at: Option<Timestamp>,
    pub(crate) evaluation_nanos: i64,
}

/// How a group was when it was evaluated last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupState {
    /// As many as the group has rules.
    pub(crate) rules: Vec<RuleState>,
    pub(crate) evaluated_at: Option<Timestamp>,
    pub(crate) evaluation_nanos: i64,
}

impl GroupState {
    /// Of a group that was never evaluated.
    pub(crate) fn of(group: &Group) -> GroupState {
        GroupState {
            rules: vec![RuleState::default(); group.rules.len()],
            ..GroupState::default()
        }
    }
}

/// What a rule's query gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Results {
    /// Of an alert.
    Found(Vec<Found>),
    /// Of a recording: labels and values.
    Samples(Vec<(Texts, f64)>),
}

/// One rule, evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluated {
    pub(crate) results: Result<Results, String>,
    /// When it began.
    pub(crate) at: Timestamp,
    pub(crate) nanos: i64,
}

/// How it is told; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) interval: i64,
    /// How often Alertmanagers are told of one alert.
    pub(crate) resend: i64,
    /// Whether the series of alerts have a place to go.
    pub(crate) writes: bool,
}

/// An alert for Alertmanagers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) labels: Texts,
    pub(crate) annotations: Texts,
    pub(crate) starts_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    /// The query that found it.
    pub(crate) expr: String,
}

/// A sample to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// With `__name__`.
    pub(crate) labels: Texts,
    pub(crate) value: f64,
    pub(crate) at: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) notices: Vec<Notice>,
    pub(crate) samples: Vec<Written>,
}

/// Takes in what one rule of a group gave that was evaluated for the time `at`. Nothing, when the group has no such
/// rule.
pub(crate) fn decide(
    group: &Group,
    state: &mut GroupState,
    number: usize,
    evaluated: Evaluated,
    at: Timestamp,
    pace: &Pace,
) -> Decision {
    let mut decision = Decision::default();
    let (Some(rule), Some(own)) = (group.rules.get(number), state.rules.get_mut(number)) else {
        return decision;
    };
    if number == 0 {
        state.evaluated_at = Some(evaluated.at);
        state.evaluation_nanos = 0;
    }
    state.evaluation_nanos = state.evaluation_nanos.saturating_add(evaluated.nanos);
    own.evaluated_at = Some(evaluated.at);
    own.evaluation_nanos = evaluated.nanos;
    let known_at = at.max(evaluated.at.saturating_add(evaluated.nanos));
    let done = evaluated.results.and_then(|results| {
        let written = match results {
            Results::Found(found) => {
                let done = advance(&mut own.alerts, found, &terms(group, rule), at);
                done.map(|()| match pace.writes {
                    true => series_of_alerts(&own.alerts),
                    false => Vec::new(),
                })
            }
            Results::Samples(samples) => recorded(group, rule, samples),
        }?;
        decision.notices = notices(rule, &mut own.alerts, at, known_at, pace);
        write(own, written, at, &mut decision.samples);
        Ok(())
    });
    own.outcome = Some(done);
    decision
}

fn terms(group: &Group, rule: &Rule) -> Terms {
    Terms {
        hold: rule.hold.0,
        keep_firing_for: rule.keep_firing_for.0,
        limit: group.limit,
    }
}

/// What is known since `known_at` is told until the next tellings, however late the rule was.
fn notices(
    rule: &Rule,
    alerts: &mut Alerts,
    at: Timestamp,
    known_at: Timestamp,
    pace: &Pace,
) -> Vec<Notice> {
    let valid = pace
        .interval
        .max(pace.resend)
        .saturating_mul(TELLINGS_MISSED);
    let due = alerts
        .iter_mut()
        .filter(|(_, alert)| is_due(alert, at, pace.resend));
    due.map(|(labels, alert)| {
        alert.sent_at = Some(at);
        Notice {
            labels: labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: alert.fired_at.unwrap_or(alert.active_at),
            ends_at: alert.resolved_at.unwrap_or(known_at.saturating_add(valid)),
            expr: rule.expr.clone(),
        }
    })
    .collect()
}

/// `ALERTS` and `ALERTS_FOR_STATE`, as Prometheus records them.
pub(crate) fn series_of_alerts(alerts: &Alerts) -> Vec<(Texts, f64)> {
    let active = alerts.iter().filter(|(_, a)| a.phase != Phase::Inactive);
    let series = active.flat_map(|(labels, alert)| {
        let phase = if alert.phase == Phase::Firing {
            "firing"
        } else {
            "pending"
        };
        let mut state = named(labels, "ALERTS");
        state.insert("alertstate".to_owned(), phase.to_owned());
        let since = alert.active_at.div_euclid(NANOS_PER_SECOND) as f64;
        [(state, 1.0), (named(labels, "ALERTS_FOR_STATE"), since)]
    });
    series.collect()
}

fn named(labels: &Texts, name: &str) -> Texts {
    let mut labels = labels.clone();
    labels.insert("__name__".to_owned(), name.to_owned());
    labels
}

/// What a recording rule writes.
///
/// # Errors
/// Two samples of one series, or more series than the limit.
fn recorded(
    group: &Group,
    rule: &Rule,
    samples: Vec<(Texts, f64)>,
) -> Result<Vec<(Texts, f64)>, String> {
    let own = group.labels_of(rule);
    let mut series = BTreeSet::new();
    let mut written = Vec::with_capacity(samples.len());
    for (mut labels, value) in samples {
        for (name, text) in &own {
            labels.insert(name.clone(), text.clone());
        }
        labels.retain(|_, text| !text.is_empty());
        let labels = named(&labels, &rule.record);
        if !series.insert(labels.clone()) {
            let text = "vector contains metrics with the same labelset after applying rule labels";
            return Err(text.to_owned());
        }
        written.push((labels, value));
    }
    let count = written.len();
    if group.limit > 0 && count as i64 > group.limit {
        let limit = group.limit;
        return Err(format!("exceeded limit of {limit} with {count} series"));
    }
    Ok(written)
}

/// Adds the samples, and the ends of the series that were written last time and are not now.
fn write(state: &mut RuleState, samples: Vec<(Texts, f64)>, at: Timestamp, out: &mut Vec<Written>) {
    let now: BTreeSet<Texts> = samples.iter().map(|(labels, _)| labels.clone()).collect();
    let ended = state.series.difference(&now).cloned();
    let ended = ended.map(|labels| (labels, STALE)).collect::<Vec<_>>();
    let all = samples.into_iter().chain(ended);
    out.extend(all.map(|(labels, value)| Written { labels, value, at }));
    state.series = now;
}

/// The ends of the series of these rules, which are not evaluated any more.
pub(crate) fn ended<'a>(
    rules: impl IntoIterator<Item = &'a mut RuleState>,
    at: Timestamp,
) -> Vec<Written> {
    let series = rules
        .into_iter()
        .flat_map(|rule| std::mem::take(&mut rule.series));
    let ended = series.map(|labels| Written {
        labels,
        value: STALE,
        at,
    });
    ended.collect()
}

/// The state of a group that is replaced, for the rules that stay: those with the same name and the
/// same labels. What they have is taken out of the old one.
pub(crate) fn carried(before: &Group, state: &mut GroupState, after: &Group) -> GroupState {
    let mut carried = GroupState::of(after);
    let mut taken = vec![false; before.rules.len()];
    for (rule, new) in after.rules.iter().zip(&mut carried.rules) {
        let mut old = before.rules.iter().enumerate();
        let same = old.find(|(at, old)| {
            !taken[*at]
                && old.name() == rule.name()
                && old.is_alert() == rule.is_alert()
                && old.labels == rule.labels
        });
        if let Some((at, _)) = same {
            taken[at] = true;
            *new = std::mem::take(&mut state.rules[at]);
        }
    }
    carried
}

/// How a rule's alert is shown.
pub(crate) fn active(alerts: &Alerts) -> impl Iterator<Item = (&Texts, &Alert)> {
    alerts.iter().filter(|(_, a)| a.phase != Phase::Inactive)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        interval: 10,
        resend: 60,
        writes: true,
    };

    fn group(rules: &str) -> Group {
        Group::from_yaml(&format!(
            "name: g\nlimit: 2\nlabels: {{team: x}}\nrules:\n{rules}"
        ))
        .unwrap()
    }

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn evaluated(results: Result<Results, String>) -> Evaluated {
        Evaluated {
            results,
            at: 5,
            nanos: 3,
        }
    }

    fn found(names: &[&str]) -> Result<Results, String> {
        let found = names.iter().map(|name| Found {
            labels: texts(&[("alertname", name)]),
            annotations: Texts::new(),
            value: 1.0,
        });
        Ok(Results::Found(found.collect()))
    }

    #[test]
    fn firing_alerts_are_told_and_recorded_and_end_when_they_are_resolved() {
        let group = group("- {alert: A, expr: vector(1)}\n");
        let mut state = GroupState::of(&group);
        let first = decide(&group, &mut state, 0, evaluated(found(&["A"])), 100, &PACE);
        assert_eq!(first.notices.len(), 1);
        assert_eq!(
            (first.notices[0].starts_at, first.notices[0].ends_at),
            (100, 340)
        );
        let names: Vec<&str> = first
            .samples
            .iter()
            .map(|s| &*s.labels["__name__"])
            .collect();
        assert_eq!(names, ["ALERTS", "ALERTS_FOR_STATE"]);
        let again = decide(&group, &mut state, 0, evaluated(found(&["A"])), 110, &PACE);
        assert!(again.notices.is_empty(), "told a moment ago");
        let end = decide(&group, &mut state, 0, evaluated(found(&[])), 120, &PACE);
        assert_eq!(
            (end.notices[0].starts_at, end.notices[0].ends_at),
            (100, 120)
        );
        let stale = end
            .samples
            .iter()
            .filter(|s| s.value.to_bits() == STALE.to_bits());
        assert_eq!(stale.count(), 2);
        let quiet = decide(&group, &mut state, 0, evaluated(found(&[])), 130, &PACE);
        assert_eq!(quiet, Decision::default());
    }

    #[test]
    fn a_query_that_fails_changes_no_alert_and_tells_nobody() {
        let group = group("- {alert: A, expr: vector(1)}\n");
        let mut state = GroupState::of(&group);
        decide(&group, &mut state, 0, evaluated(found(&["A"])), 100, &PACE);
        let alerts = state.rules[0].alerts.clone();
        let failed = evaluated(Err("out of reach".to_owned()));
        assert_eq!(
            decide(&group, &mut state, 0, failed, 1000, &PACE),
            Decision::default()
        );
        assert_eq!(state.rules[0].alerts, alerts);
        assert_eq!(state.rules[0].outcome, Some(Err("out of reach".to_owned())));
        let many = decide(
            &group,
            &mut state,
            0,
            evaluated(found(&["A", "B", "C"])),
            1010,
            &PACE,
        );
        assert!(many.notices.is_empty());
        let text = "exceeded limit of 2 with 3 alerts".to_owned();
        assert_eq!(state.rules[0].outcome, Some(Err(text)));
    }

    #[test]
    fn recordings_get_their_name_and_labels_and_end_when_they_are_gone() {
        let group = group("- {record: 'r:x', expr: vector(1), labels: {a: '', b: c}}\n");
        let mut state = GroupState::of(&group);
        let samples = |names: &[&str]| {
            let samples = names
                .iter()
                .map(|name| (texts(&[("a", "old"), ("n", name)]), 2.0));
            evaluated(Ok(Results::Samples(samples.collect())))
        };
        let first = decide(&group, &mut state, 0, samples(&["1"]), 7, &PACE);
        let labels = texts(&[("__name__", "r:x"), ("b", "c"), ("n", "1"), ("team", "x")]);
        let want = Written {
            labels: labels.clone(),
            value: 2.0,
            at: 7,
        };
        assert_eq!(first.samples, [want]);
        let next = decide(&group, &mut state, 0, samples(&[]), 8, &PACE);
        assert_eq!((&next.samples[0].labels, next.samples[0].at), (&labels, 8));
        assert_eq!(next.samples[0].value.to_bits(), STALE.to_bits());
        let many = decide(&group, &mut state, 0, samples(&["1", "2", "3"]), 9, &PACE);
        assert!(many.samples.is_empty());
        decide(&group, &mut state, 0, samples(&["1", "1"]), 9, &PACE);
        let failure = state.rules[0].outcome.clone();
        assert!(matches!(failure, Some(Err(text)) if text.contains("same labelset")));
    }

    #[test]
    fn a_changed_group_keeps_the_state_of_the_rules_that_stay() {
        let before = group("- {alert: A, expr: vector(1)}\n- {alert: B, expr: vector(1)}\n");
        let mut state = GroupState::of(&before);
        for (number, name) in ["A", "B"].into_iter().enumerate() {
            decide(
                &before,
                &mut state,
                number,
                evaluated(found(&[name])),
                1,
                &PACE,
            );
        }
        let after = group("- {alert: B, expr: vector(2)}\n- {alert: C, expr: vector(1)}\n");
        let carried = carried(&before, &mut state, &after);
        let alerts: Vec<usize> = carried.rules.iter().map(|rule| rule.alerts.len()).collect();
        assert_eq!(alerts, [1, 0]);
        let ended = ended(&mut state.rules, 9);
        let names: Vec<&str> = ended.iter().map(|s| &*s.labels["alertname"]).collect();
        assert_eq!(names, ["A", "A"], "its two series end");
        assert!(
            ended
                .iter()
                .all(|s| s.value.to_bits() == STALE.to_bits() && s.at == 9)
        );
    }

    #[test]
    fn an_alert_that_is_known_late_is_told_for_as_long_as_one_that_is_known_in_time() {
        let group = group("- {alert: A, expr: vector(1)}\n");
        let mut state = GroupState::of(&group);
        let late = Evaluated {
            results: found(&["A"]),
            at: 1000,
            nanos: 500,
        };
        let told = decide(&group, &mut state, 0, late, 100, &PACE);
        let notice = &told.notices[0];
        assert_eq!((notice.starts_at, notice.ends_at), (100, 1740));
    }

    #[test]
    fn series_of_alerts_are_made_only_when_they_have_a_place_to_go() {
        let group = group("- {alert: A, expr: vector(1)}\n");
        let mut state = GroupState::of(&group);
        let pace = Pace {
            writes: false,
            ..PACE
        };
        let told = decide(&group, &mut state, 0, evaluated(found(&["A"])), 100, &pace);
        assert_eq!((told.notices.len(), told.samples.len()), (1, 0));
        assert!(state.rules[0].series.is_empty());
    }
}
