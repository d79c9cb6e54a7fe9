//! Goal: in spite of kills and take-overs an alert's `for` does not begin anew, and Alertmanagers are told
//! of it often enough and not more often. Method: `decide` on random histories, with the state that the
//! catalog keeps, against a twin that looks at the whole history of what is remembered each time.

use model::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::alerts::{Found, Phase};
use super::decide::{Evaluated, GroupState, Notice, Pace, Results, decide};
use super::group::{Group, Texts};
use super::saved;

const INTERVAL: i64 = 10;
const PACE: Pace = Pace {
    interval: INTERVAL,
    resend: 35,
    writes: false,
};
const HOLD: i64 = 25;

/// One time of the schedule.
#[derive(Clone, Debug)]
struct Step {
    /// What the query gives; `None` when it fails.
    found: Option<bool>,
    /// Whether all that changed so far is in the catalog before anything else happens.
    saved: bool,
    /// The evaluator dies then, and so many times pass before the next one evaluates.
    killed: Option<i64>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let found = prop_oneof![6 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    let killed = prop_oneof![4 => Just(None), 1 => (0..4_i64).prop_map(Some)];
    let step = (found, any::<bool>(), killed).prop_map(|(found, saved, killed)| Step {
        found,
        saved,
        killed,
    });
    vec(step, 1..40)
}

/// Since when the alert is active, and since when it fires, by what is remembered.
fn twin(history: &[(Timestamp, bool)]) -> Option<(Timestamp, Option<Timestamp>)> {
    let held = history.iter().rev().take_while(|(_, found)| *found).count();
    let held = &history[history.len() - held..];
    let since = held.first()?.0;
    let fires = held.iter().find(|(at, _)| at - since >= HOLD);
    Some((since, fires.map(|(at, _)| *at)))
}

fn evaluated(found: Option<bool>, at: Timestamp) -> Evaluated {
    let labels = Texts::from([("alertname".to_owned(), "A".to_owned())]);
    let results = found.map(|found| {
        let found = found.then(|| Found {
            labels,
            annotations: Texts::new(),
            value: 1.0,
        });
        Results::Found(found.into_iter().collect())
    });
    Evaluated {
        results: results.ok_or_else(|| "out of reach".to_owned()),
        at,
        nanos: 0,
    }
}

/// What Alertmanagers were told, and when another process took over.
#[derive(Debug, Default)]
struct Told {
    notices: Vec<(Timestamp, Notice)>,
    takeovers: Vec<Timestamp>,
}

impl Told {
    /// What is said at `at`, of an alert that fires since `fires`: Alertmanagers hold it for firing now. While no
    /// query succeeds for long they may have held it for resolved.
    fn check(&self, at: Timestamp, fires: Option<Timestamp>) -> Result<(), TestCaseError> {
        let firing: Vec<&(Timestamp, Notice)> = self
            .notices
            .iter()
            .filter(|(told, notice)| notice.ends_at > *told)
            .collect();
        let lately = |times: &mut dyn Iterator<Item = Timestamp>| {
            times.filter(|time| *time > at - PACE.resend).count()
        };
        let told = lately(&mut firing.iter().map(|(told, _)| *told));
        let takeovers = lately(&mut self.takeovers.iter().copied());
        prop_assert!(told <= 1 + takeovers, "told {told} times at {at}: {self:?}");
        let Some(fires) = fires else {
            return Ok(());
        };
        let last = firing.last().map(|(_, notice)| notice);
        prop_assert!(last.is_some_and(|n| n.ends_at > at && n.starts_at == fires));
        Ok(())
    }
}

fn live(steps: &[Step]) -> Result<(), TestCaseError> {
    let yaml = "name: g\nrules:\n- {alert: A, expr: vector(1)}\n";
    let mut group = Group::from_yaml(yaml).unwrap();
    group.rules[0].hold.0 = HOLD;
    let mut state = GroupState::of(&group);
    let (mut catalog, mut remembered) = (String::new(), 0);
    let (mut history, mut told) = (Vec::new(), Told::default());
    let mut at = 0;
    for step in steps {
        at += INTERVAL;
        let evaluated = evaluated(step.found, at);
        let decision = decide(&group, &mut state, 0, evaluated, at, &PACE);
        history.extend(step.found.map(|found| (at, found)));
        told.notices
            .extend(decision.notices.into_iter().map(|notice| (at, notice)));
        let want = twin(&history);
        let alert = state.rules[0].alerts.values().next();
        let active = alert.filter(|alert| alert.phase != Phase::Inactive);
        prop_assert_eq!(active.map(|a| (a.active_at, a.fired_at)), want);
        if step.found.is_some() {
            told.check(at, want.and_then(|(_, fires)| fires))?;
        }
        if step.saved {
            catalog = saved::save(&group, &state).whole;
            remembered = history.len();
        }
        if let Some(missed) = step.killed {
            state = saved::restore(&group, &catalog).unwrap();
            history.truncate(remembered);
            at += missed * INTERVAL;
            told.takeovers.push(at);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whoever_goes_on_holds_alerts_as_long_and_tells_them_as_often(steps in steps()) {
        live(&steps)?;
    }
}
