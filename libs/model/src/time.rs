/// Nanoseconds since 1970-01-01T00:00:00Z; negative before.
pub type Timestamp = i64;

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: i64 = 1_000_000;
/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A span of time: `start` is included, `end` is not. Empty when `end <= start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First nanosecond that belongs to the range.
    pub start: Timestamp,
    /// First nanosecond after the range.
    pub end: Timestamp,
}

impl TimeRange {
    /// Everything that a timestamp can say, but for the very last nanosecond.
    pub const ALL: TimeRange = TimeRange {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };

    /// `[start, end)`.
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        TimeRange { start, end }
    }

    /// `[first, last]`, both included.
    pub fn inclusive(first: Timestamp, last: Timestamp) -> Self {
        TimeRange {
            start: first,
            end: last.saturating_add(1),
        }
    }

    /// Whether no timestamp belongs to the range.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether `at` belongs to the range.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether every timestamp of `[first, last]` (both included) belongs to the range.
    pub fn covers(&self, first: Timestamp, last: Timestamp) -> bool {
        self.start <= first && last < self.end
    }

    /// Whether any timestamp of `[first, last]` (both included) belongs to the range.
    pub fn touches(&self, first: Timestamp, last: Timestamp) -> bool {
        self.start <= last && first < self.end
    }

    /// The timestamps that both ranges hold; possibly empty.
    pub fn intersection(&self, other: &TimeRange) -> TimeRange {
        TimeRange {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }

    /// Length in nanoseconds, 0 when empty.
    pub fn nanos(&self) -> i64 {
        self.end.saturating_sub(self.start).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let range = TimeRange::new(10, 20);
        assert!(range.contains(10) && range.contains(19));
        assert!(!range.contains(9) && !range.contains(20));
        assert!(range.touches(19, 30) && !range.touches(20, 30));
        assert!(range.covers(10, 19) && !range.covers(10, 20));
    }

    #[test]
    fn intersection_of_disjoint_ranges_is_empty() {
        let range = TimeRange::new(0, 5).intersection(&TimeRange::new(7, 9));
        assert!(range.is_empty());
        assert_eq!(range.nanos(), 0);
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(TimeRange::inclusive(0, i64::MAX).end, i64::MAX);
        assert_eq!(TimeRange::ALL.nanos(), i64::MAX);
    }
}
