//! How much a stream gets, and over how many shards it is spread therefore.

use model::{NANOS_PER_SECOND, Shard, Timestamp};
use parking_lot::Mutex;

/// Measures one stream.
#[derive(Debug, Default)]
pub(crate) struct Heat(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the window began; 0 before the first record.
    since: Timestamp,
    /// Bytes in the window so far.
    bytes: u64,
    /// Bytes per second of the window before.
    rate: u64,
}

/// Long enough that the usual pushes, one each second or so, do not look like a flood and a drought
/// in turn.
const WINDOW: i64 = 5 * NANOS_PER_SECOND;

impl Heat {
    /// So many bytes of lines and metadata came for the stream. Of requests at the same time one may
    /// come with a time a little before the window that another has begun; it counts in that.
    pub(crate) fn add(&self, bytes: u64, now: Timestamp) {
        let mut state = self.0.lock();
        let elapsed = now.saturating_sub(state.since);
        if elapsed <= -WINDOW {
            // The clock was set back; how long the window was is not known.
            (state.since, state.bytes) = (now, 0);
        } else if elapsed >= WINDOW {
            // The first window has no length that is known; after a pause the long one counts.
            state.rate = match state.since {
                0 => 0,
                _ => per_second(state.bytes, elapsed),
            };
            (state.since, state.bytes) = (now, 0);
        }
        state.bytes += bytes;
    }

    /// Over how many shards the stream is spread if each may get so much of it, bytes per second.
    fn width(&self, rate_max: u64, shards: u32) -> u32 {
        let wanted = self.0.lock().rate.div_ceil(rate_max.max(1));
        u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .clamp(1, shards.max(1))
    }

    /// The shard for what a request of this time brings: the stream's own, `home`, or one of those
    /// behind it, each as likely.
    pub(crate) fn shard(&self, home: Shard, shards: u32, rate_max: u64, now: Timestamp) -> Shard {
        let width = self.width(rate_max, shards);
        let mixed = (now as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let step = (mixed * u64::from(width)) >> 32;
        Shard(((u64::from(home.0) + step) % u64::from(shards.max(1))) as u32)
    }
}

fn per_second(bytes: u64, nanos: i64) -> u64 {
    let rate = u128::from(bytes) * NANOS_PER_SECOND as u128 / nanos.max(1) as u128;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// So many bytes in each of ten pushes per second, for some seconds.
    fn push(heat: &Heat, from: i64, seconds: i64, bytes: u64) -> i64 {
        for step in 0..seconds * 10 {
            heat.add(bytes, from + step * NANOS_PER_SECOND / 10);
        }
        from + seconds * NANOS_PER_SECOND
    }

    #[test]
    fn a_stream_is_as_wide_as_it_is_hot_and_narrow_again_when_it_cools() {
        let heat = Heat::default();
        let start = 1_790_000_000 * NANOS_PER_SECOND;
        assert_eq!(heat.width(1000, 16), 1);
        let now = push(&heat, start, 20, 350);
        assert_eq!(heat.width(1000, 16), 4, "3,500 bytes per second");
        assert_eq!(heat.width(1000, 3), 3, "there are no more shards");
        assert_eq!(heat.width(10_000, 16), 1);
        let now = push(&heat, now, 20, 50);
        assert_eq!(heat.width(1000, 16), 1);
        let now = push(&heat, now, 20, 350);
        heat.add(1, now + 3600 * NANOS_PER_SECOND);
        assert_eq!(heat.width(1000, 16), 1, "quiet for an hour");
    }

    #[test]
    fn requests_are_spread_evenly_over_the_shards_from_home_on() {
        let heat = Heat::default();
        let now = push(&heat, NANOS_PER_SECOND, 20, 350);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for request in 0..4000 {
            let shard = heat.shard(Shard(14), 16, 1000, now + request * 1_000_003);
            *counts.entry(shard.0).or_default() += 1;
        }
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [0, 1, 14, 15]);
        assert!(
            counts.values().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        let same = |_| heat.shard(Shard(14), 16, 1000, now);
        assert!(
            (0..10).map(same).all(|shard| shard == same(0)),
            "all of one request"
        );
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        for back in [1, NANOS_PER_SECOND, WINDOW, 9 * NANOS_PER_SECOND] {
            let heat = Heat::default();
            heat.add(1000, 10 * NANOS_PER_SECOND);
            heat.add(1000, 10 * NANOS_PER_SECOND - back);
            heat.add(1000, 10 * NANOS_PER_SECOND);
            assert_eq!(heat.width(1000, 16), 1, "{back} ns back");
            let now = push(&heat, 11 * NANOS_PER_SECOND, 20, 350);
            assert_eq!(
                heat.width(1000, 16),
                4,
                "{back} ns back, 3,500 bytes per second"
            );
            heat.add(1000, now - back);
            assert_eq!(heat.width(1000, 16), 4, "{back} ns back while it is hot");
        }
        assert_eq!(Heat::default().shard(Shard(0), 0, 0, 5), Shard(0));
    }
}
