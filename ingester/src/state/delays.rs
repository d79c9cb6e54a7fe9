//! Delays when the clock is set back.

use model::Timestamp;

use super::State;

impl State {
    /// Slots end by the clock, whatever it says. Delays are counted from when they began: as much is
    /// left of each after the clock was set back as before. Else one that began when the clock was a day
    /// ahead would last a day, a head whose flush failed then would stay that long, and all that waits
    /// for it: a past ring, and whoever is to accept what was lost with another of its members.
    ///
    /// A clock that is set ahead looks like time that passed: delays end early, which does no harm.
    pub(super) fn see_clock(&mut self, now: Timestamp) {
        let back = self.latest.saturating_sub(now);
        self.latest = now;
        if back > 0 {
            self.move_back(back);
        }
    }

    fn move_back(&mut self, by: i64) {
        let earlier = |time: &mut Timestamp| {
            // The ends of time are none.
            if *time != Timestamp::MAX {
                *time = time.saturating_sub(by);
            }
        };
        for head in self.heads.values_mut() {
            earlier(&mut head.retry_at);
            earlier(&mut head.latest);
            earlier(&mut head.due);
            earlier(&mut head.yielded_until);
        }
        for waiting in self.waiting.iter_mut().chain(&mut self.early) {
            earlier(&mut waiting.deadline);
        }
        self.past_since.values_mut().for_each(earlier);
        earlier(&mut self.told.1);
        earlier(&mut self.drained.1);
        self.seen.move_back(by);
    }
}
