//! The life of the alerts of one rule: pure.
//!
//! ```text
//!          found              held for `for`               gone, and kept for `keep_firing_for`
//! (none) ────────▶ pending ──────────────────▶ firing ─────────────────────────────────────▶ inactive
//!                     │ gone                                                                    │
//!                     └──▶ (none)                      found: pending again, 15 minutes: (none) ◀┘
//! ```
//! An inactive alert was firing and is resolved: it stays to be told for some time.

use std::collections::BTreeMap;

use model::{NANOS_PER_SECOND, Timestamp};

use super::group::Texts;

/// For how long it is told that an alert is resolved.
pub(crate) const RESOLVED_FOR: i64 = 15 * 60 * NANOS_PER_SECOND;

/// How far an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Inactive,
    Pending,
    Firing,
}

/// One alert, which its labels name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    pub(crate) phase: Phase,
    pub(crate) annotations: Texts,
    /// The last value of the query.
    pub(crate) value: f64,
    /// Since when the condition holds.
    pub(crate) active_at: Timestamp,
    pub(crate) fired_at: Option<Timestamp>,
    pub(crate) resolved_at: Option<Timestamp>,
    /// Since when the condition of a firing alert does not hold any more.
    pub(crate) kept_since: Option<Timestamp>,
    /// When Alertmanagers were told last, by this process.
    pub(crate) sent_at: Option<Timestamp>,
}

/// The alerts of a rule by their labels.
pub(crate) type Alerts = BTreeMap<Texts, Alert>;

/// What the query found: an alert with its labels and annotations as they read now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) labels: Texts,
    pub(crate) annotations: Texts,
    pub(crate) value: f64,
}

/// The rule's times, nanoseconds, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) hold: i64,
    pub(crate) keep_firing_for: i64,
    /// Most active alerts; 0 means no limit.
    pub(crate) limit: i64,
}

/// What becomes of the alerts when the query found these at that time.
///
/// # Errors
/// When two have equal labels: nothing changes. When there are too many: then there is none.
pub(crate) fn advance(
    alerts: &mut Alerts,
    found: Vec<Found>,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), String> {
    let mut by_labels = BTreeMap::new();
    for Found {
        labels,
        annotations,
        value,
    } in found
    {
        if by_labels.insert(labels, (annotations, value)).is_some() {
            let text = "vector contains metrics with the same labelset after applying alert labels";
            return Err(text.to_owned());
        }
    }
    alerts.retain(|labels, alert| match by_labels.remove(labels) {
        Some((annotations, value)) => {
            hold(alert, annotations, value, terms, now);
            true
        }
        None => let_go(alert, terms, now),
    });
    for (labels, (annotations, value)) in by_labels {
        let mut alert = pending(annotations, value, now);
        fire(&mut alert, terms, now);
        alerts.insert(labels, alert);
    }
    let active = alerts.values().filter(|a| a.phase != Phase::Inactive);
    let count = active.count();
    if terms.limit > 0 && count as i64 > terms.limit {
        alerts.clear();
        let limit = terms.limit;
        return Err(format!("exceeded limit of {limit} with {count} alerts"));
    }
    Ok(())
}

fn pending(annotations: Texts, value: f64, now: Timestamp) -> Alert {
    Alert {
        phase: Phase::Pending,
        annotations,
        value,
        active_at: now,
        fired_at: None,
        resolved_at: None,
        kept_since: None,
        sent_at: None,
    }
}

/// The condition holds.
fn hold(alert: &mut Alert, annotations: Texts, value: f64, terms: &Terms, now: Timestamp) {
    match alert.phase {
        Phase::Inactive => *alert = pending(annotations, value, now),
        Phase::Pending | Phase::Firing => {
            alert.annotations = annotations;
            alert.value = value;
            alert.kept_since = None;
        }
    }
    fire(alert, terms, now);
}

fn fire(alert: &mut Alert, terms: &Terms, now: Timestamp) {
    if alert.phase == Phase::Pending && now.saturating_sub(alert.active_at) >= terms.hold {
        alert.phase = Phase::Firing;
        alert.fired_at = Some(now);
    }
}

/// The condition does not hold; `false` when the alert is forgotten.
fn let_go(alert: &mut Alert, terms: &Terms, now: Timestamp) -> bool {
    match alert.phase {
        Phase::Pending => false,
        Phase::Inactive => alert
            .resolved_at
            .is_some_and(|at| now.saturating_sub(at) <= RESOLVED_FOR),
        Phase::Firing => {
            if terms.keep_firing_for > 0 {
                let since = *alert.kept_since.get_or_insert(now);
                if now.saturating_sub(since) < terms.keep_firing_for {
                    return true;
                }
            }
            alert.phase = Phase::Inactive;
            alert.resolved_at = Some(now);
            true
        }
    }
}

/// Whether Alertmanagers are to be told of the alert now.
pub(crate) fn is_due(alert: &Alert, now: Timestamp, resend: i64) -> bool {
    let Some(sent) = alert.sent_at else {
        return alert.phase != Phase::Pending;
    };
    alert.phase != Phase::Pending
        && (alert.resolved_at.is_some_and(|at| at > sent) || sent.saturating_add(resend) < now)
}

/// What a rule with these alerts is said to be.
pub(crate) fn phase_of(alerts: &Alerts) -> Phase {
    let phases = alerts.values().map(|alert| alert.phase);
    phases
        .max_by_key(|phase| *phase as u8)
        .unwrap_or(Phase::Inactive)
}

#[cfg(test)]
mod tests;
