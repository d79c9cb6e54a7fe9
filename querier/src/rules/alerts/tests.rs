use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn labels(name: u8) -> Texts {
    Texts::from([("alertname".to_owned(), name.to_string())])
}

fn found(name: u8, value: f64) -> Found {
    Found {
        labels: labels(name),
        annotations: Texts::from([("v".to_owned(), value.to_string())]),
        value,
    }
}

const TERMS: Terms = Terms {
    hold: 10,
    keep_firing_for: 0,
    limit: 0,
};

/// Phases of the alerts after each evaluation at these times, which found or did not find one alert.
fn phases(terms: &Terms, times: &[(i64, bool)]) -> Vec<Option<Phase>> {
    let mut alerts = Alerts::new();
    let mut seen = Vec::new();
    for (now, is_found) in times {
        let found = is_found.then(|| found(1, 1.0)).into_iter().collect();
        advance(&mut alerts, found, terms, *now).unwrap();
        seen.push(alerts.values().next().map(|alert| alert.phase));
    }
    seen
}

#[test]
fn an_alert_is_pending_for_as_long_as_the_rule_says_then_fires_and_is_resolved() {
    use Phase::{Firing, Inactive, Pending};
    let seen = phases(
        &TERMS,
        &[(0, true), (9, true), (10, true), (11, false), (12, true)],
    );
    let want = [Pending, Pending, Firing, Inactive, Pending].map(Some);
    assert_eq!(seen, want);
    let at_once = Terms { hold: 0, ..TERMS };
    assert_eq!(phases(&at_once, &[(0, true)]), [Some(Firing)]);
    assert_eq!(
        phases(
            &TERMS,
            &[(0, true), (5, false), (6, true), (15, true), (16, true)]
        ),
        [
            Some(Pending),
            None,
            Some(Pending),
            Some(Pending),
            Some(Firing)
        ],
        "a gap begins anew"
    );
}

#[test]
fn a_firing_alert_is_kept_for_some_time_when_the_rule_says_so() {
    use Phase::{Firing, Inactive};
    let keeping = Terms {
        hold: 0,
        keep_firing_for: 10,
        limit: 0,
    };
    let times = [(0, true), (1, false), (10, false), (11, false)];
    assert_eq!(
        phases(&keeping, &times),
        [Firing, Firing, Firing, Inactive].map(Some)
    );
    let times = [
        (0, true),
        (1, false),
        (5, true),
        (11, false),
        (20, false),
        (21, false),
    ];
    let want = [Firing, Firing, Firing, Firing, Firing, Inactive].map(Some);
    assert_eq!(
        phases(&keeping, &times),
        want,
        "what comes back counts anew"
    );
}

#[test]
fn a_resolved_alert_is_told_for_a_quarter_of_an_hour() {
    let at_once = Terms { hold: 0, ..TERMS };
    let end = 1 + RESOLVED_FOR;
    let seen = phases(
        &at_once,
        &[(0, true), (1, false), (end, false), (end + 1, false)],
    );
    let inactive = Some(Phase::Inactive);
    assert_eq!(seen, [Some(Phase::Firing), inactive, inactive, None]);
}

#[test]
fn too_many_alerts_are_none_and_two_alike_change_nothing() {
    let limited = Terms { limit: 1, ..TERMS };
    let mut alerts = Alerts::new();
    advance(&mut alerts, vec![found(1, 1.0)], &limited, 0).unwrap();
    let before = alerts.clone();
    let alike = advance(&mut alerts, vec![found(2, 1.0), found(2, 2.0)], &limited, 1);
    assert!(alike.unwrap_err().contains("same labelset"));
    assert_eq!(alerts, before);
    let many = advance(&mut alerts, vec![found(1, 1.0), found(2, 2.0)], &limited, 2);
    assert_eq!(many.unwrap_err(), "exceeded limit of 1 with 2 alerts");
    assert!(alerts.is_empty());
}

#[test]
fn alertmanagers_are_told_at_once_then_now_and_then_and_when_it_is_resolved() {
    let mut alert = pending(Texts::new(), 1.0, 0);
    assert!(!is_due(&alert, 0, 60), "nobody is told of what is pending");
    alert.phase = Phase::Firing;
    assert!(is_due(&alert, 0, 60));
    alert.sent_at = Some(0);
    assert!(!is_due(&alert, 60, 60));
    assert!(is_due(&alert, 61, 60));
    (alert.phase, alert.resolved_at) = (Phase::Inactive, Some(30));
    assert!(is_due(&alert, 31, 60));
    alert.sent_at = Some(31);
    assert!(!is_due(&alert, 32, 60));
}

/// All that was found so far, looked through anew each time.
struct Twin {
    terms: Terms,
    /// Time and names found.
    history: Vec<(i64, Vec<u8>)>,
}

impl Twin {
    /// The phase of one alert after all evaluations, told from its whole past.
    fn phase(&self, name: u8) -> Option<Phase> {
        let mut phase = None;
        let (mut since, mut gone, mut resolved) = (0, None, 0);
        for (now, names) in &self.history {
            let is_found = names.contains(&name);
            phase = match (phase, is_found) {
                (None | Some(Phase::Inactive), true) => {
                    (since, gone) = (*now, None);
                    Some(Phase::Pending)
                }
                (Some(phase), true) => {
                    gone = None;
                    Some(phase)
                }
                (Some(Phase::Firing), false) => {
                    let first = *gone.get_or_insert(*now);
                    let keep = self.terms.keep_firing_for;
                    match keep > 0 && now - first < keep {
                        true => Some(Phase::Firing),
                        false => {
                            resolved = *now;
                            Some(Phase::Inactive)
                        }
                    }
                }
                (Some(Phase::Inactive), false) if now - resolved <= RESOLVED_FOR => {
                    Some(Phase::Inactive)
                }
                (_, false) => None,
            };
            if phase == Some(Phase::Pending) && now - since >= self.terms.hold {
                phase = Some(Phase::Firing);
            }
        }
        phase
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn alerts_are_what_a_look_at_the_whole_past_says(
        hold in 0..5_i64,
        keep in 0..4_i64,
        steps in vec((1..4_i64, vec(0..4_u8, 0..4), any::<bool>()), 1..30),
    ) {
        // In units in which the quarter of an hour is reached now and then.
        let unit = RESOLVED_FOR / 5;
        let terms = Terms { hold: hold * unit, keep_firing_for: keep * unit, limit: 0 };
        let mut twin = Twin { terms, history: Vec::new() };
        let mut alerts = Alerts::new();
        let mut now = 0;
        for (step, mut names, is_saved) in steps {
            now += step * unit;
            names.sort_unstable();
            names.dedup();
            let all = names.iter().map(|name| found(*name, now as f64)).collect();
            advance(&mut alerts, all, &terms, now).unwrap();
            twin.history.push((now, names));
            if is_saved {
                // Another process goes on with what was saved.
                alerts = super::super::saved::round_trip(&alerts);
            }
            for name in 0..4 {
                let phase = alerts.get(&labels(name)).map(|alert| alert.phase);
                prop_assert_eq!(phase, twin.phase(name), "alert {} at {}", name, now);
            }
        }
    }
}
