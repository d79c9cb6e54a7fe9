//! How long to wait for what. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// How long a delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Without a quorum by then, the sender gets an error.
    pub(super) deadline: Duration,
    /// An owner that has not answered by then is asked a second time.
    pub(super) hedge_after: Duration,
    /// For so long after the answer, the other owners are still served.
    pub(super) late: Duration,
    /// How often after a failure.
    pub(super) late_tries_max: u32,
    /// When an owner is asked again whose disk is full.
    pub(super) full_disk: Duration,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

impl Patience {
    /// After the first and each further failure twice as long, less up to a half, by `seed`, so that
    /// not all distributors come back at the same moment.
    pub(super) fn backoff(&self, failures: u32, seed: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let whole = BACKOFF_FIRST
            .saturating_mul(1 << doublings)
            .min(BACKOFF_MAX);
        let mixed = (seed ^ u64::from(failures)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        whole - whole.mul_f64(mixed as f64 / f64::from(u16::MAX) / 2.0)
    }
}

/// How long the last acknowledgements took, and from when on an owner counts as slow.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: VecDeque<Duration>,
    /// Second attempts that may be made: each first one earns a part of one, so that owners which
    /// are all slow, because there is much to do, do not get twice as much.
    hedges: f64,
}

impl Pace {
    const KEPT: usize = 128;
    const HEDGES_PER_CALL: f64 = 0.05;
    const HEDGES_MAX: f64 = 16.0;
    const SLOW_MIN: Duration = Duration::from_millis(100);
    const SLOW_MAX: Duration = Duration::from_secs(2);

    /// An owner took so long to acknowledge.
    pub(super) fn took(&mut self, time: Duration) {
        if self.last.len() >= Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(time);
    }

    /// A call is made.
    pub(super) fn called(&mut self) {
        self.hedges = (self.hedges + Self::HEDGES_PER_CALL).min(Self::HEDGES_MAX);
    }

    /// Whether a second attempt may be made now; if so, it counts as made.
    pub(super) fn may_hedge(&mut self) -> bool {
        let may = self.hedges >= 1.0;
        self.hedges -= f64::from(u8::from(may));
        may
    }

    /// Twice what 19 of 20 calls took, within bounds.
    pub(super) fn slow_after(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let slow = sorted.get(sorted.len() * 19 / 20);
        let slow = slow.map_or(Self::SLOW_MAX, |time| time.saturating_mul(2));
        slow.clamp(Self::SLOW_MIN, Self::SLOW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_with_jitter_up_to_a_bound() {
        let patience = Patience {
            deadline: Duration::ZERO,
            hedge_after: Duration::ZERO,
            late: Duration::ZERO,
            late_tries_max: 0,
            full_disk: Duration::ZERO,
        };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            for (failures, whole) in [
                (1, 50),
                (2, 100),
                (5, 800),
                (6, 1600),
                (7, 2000),
                (99, 2000),
            ] {
                let whole = Duration::from_millis(whole);
                let backoff = patience.backoff(failures, seed << 20);
                assert!(
                    backoff <= whole && backoff >= whole / 2,
                    "{failures}: {backoff:?}"
                );
                seen.insert(backoff);
            }
        }
        assert!(seen.len() > 100, "no jitter: {}", seen.len());
    }

    #[test]
    fn slow_is_what_one_call_in_twenty_is_within_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.slow_after(), Pace::SLOW_MAX);
        (0..1000).for_each(|_| pace.took(Duration::from_millis(1)));
        assert_eq!(pace.slow_after(), Pace::SLOW_MIN);
        for at in 0..100 {
            pace.took(Duration::from_millis(if at % 10 == 0 { 300 } else { 1 }));
        }
        assert_eq!(pace.slow_after(), Duration::from_millis(600));
    }

    #[test]
    fn second_attempts_are_one_in_twenty_and_never_many_at_once() {
        let mut pace = Pace::default();
        assert!(!pace.may_hedge());
        (0..1_000_000).for_each(|_| pace.called());
        assert_eq!((0..100).filter(|_| pace.may_hedge()).count(), 16);
    }
}
