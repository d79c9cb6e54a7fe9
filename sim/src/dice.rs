use std::time::Duration;

use parking_lot::Mutex;

/// Random numbers that follow from a seed: xorshift64* (Vigna, 2016).
#[derive(Debug)]
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    /// Different purposes of one seed get numbers that have nothing to do with each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        // splitmix64, so that near seeds are far apart.
        let mut mixed = seed
            .wrapping_add(purpose.wrapping_mul(0xd1b5_4a32_d192_ed03))
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Dice(Mutex::new((mixed ^ (mixed >> 31)) | 1))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below this, or 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// Between the two, in microseconds.
    pub(crate) fn between(&self, least: Duration, most: Duration) -> Duration {
        let micros = |duration: Duration| duration.as_micros() as u64;
        let span = micros(most.saturating_sub(least)) + 1;
        least + Duration::from_micros(self.below(span))
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}
