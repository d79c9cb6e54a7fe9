use std::ops::Range;

use model::{TimeRange, Timestamp};

/// The times at which a query is evaluated: `start`, `start + step`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) start: Timestamp,
    /// Nanoseconds, at least 1.
    pub(super) step: i64,
    pub(super) count: usize,
}

impl Steps {
    /// From `start` to `end`, both included; a `step` of 0 means `end` alone.
    pub(super) fn new(start: Timestamp, end: Timestamp, step: i64) -> Self {
        if step <= 0 {
            return Steps {
                start: end,
                step: 1,
                count: 1,
            };
        }
        let length = end.saturating_sub(start);
        Steps {
            start,
            step,
            count: if length < 0 {
                0
            } else {
                (length / step) as usize + 1
            },
        }
    }

    pub(super) fn at(&self, step: usize) -> Timestamp {
        let shift = self.step.saturating_mul(step as i64);
        self.start.saturating_add(shift)
    }
}

/// The windows `(t - offset - range, t - offset]` of all steps, cut into *buckets*: spans of time
/// inside of which every row belongs to the same windows. A row is filed once, under its bucket,
/// and each window is a run of buckets.
///
/// ```text
/// range <= step        bucket i = window i        |   (##]   (##]   (##]
/// range = q * step     one bucket per step        |(1](2](3](4]     window i = buckets i..i+q
/// otherwise            two buckets per step, cut where windows begin
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// End of the first window, included.
    first_end: Timestamp,
    step: i64,
    range: i64,
    count: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A row belongs to one window at most.
    Apart,
    /// Windows overlap.
    Overlapping {
        /// Steps that a window spans, the last one perhaps in part.
        span: usize,
        /// Where in a step's span windows begin, if not at its start.
        cut: Option<i64>,
        /// Start of the first bucket, excluded.
        base: Timestamp,
    },
}

impl Windows {
    pub(super) fn new(steps: &Steps, range: i64, offset: i64) -> Self {
        let first_end = steps.start.saturating_sub(offset);
        // Nothing is in a window without length.
        let count = if range > 0 { steps.count } else { 0 };
        let range = range.max(1);
        let kind = if range <= steps.step || steps.count <= 1 {
            Kind::Apart
        } else {
            let rest = range % steps.step;
            let span = (range / steps.step) as usize + usize::from(rest > 0);
            Kind::Overlapping {
                span,
                cut: (rest > 0).then_some(steps.step - rest),
                base: first_end.saturating_sub((span as i64).saturating_mul(steps.step)),
            }
        };
        Windows {
            first_end,
            step: steps.step,
            range,
            count,
            kind,
        }
    }

    /// How many windows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many buckets.
    pub(super) fn buckets(&self) -> usize {
        match self.kind {
            Kind::Apart => self.count,
            Kind::Overlapping { span, cut, .. } => {
                (span + self.count - 1) * if cut.is_some() { 2 } else { 1 }
            }
        }
    }

    /// Whether every row that a scan of [`scan_range`](Self::scan_range) gives belongs to the one
    /// and only bucket.
    pub(super) fn is_single(&self) -> bool {
        self.count == 1
    }

    /// Whether each window is the bucket of the same number.
    pub(super) fn are_apart(&self) -> bool {
        matches!(self.kind, Kind::Apart)
    }

    /// All times that belong to any window (and, between windows that are apart, some that do not).
    pub(super) fn scan_range(&self) -> TimeRange {
        if self.count == 0 {
            return TimeRange::new(0, 0);
        }
        let length = self.step.saturating_mul(self.count as i64 - 1);
        let after_start = |at: Timestamp| at.saturating_add(1);
        TimeRange::new(
            after_start(self.first_end.saturating_sub(self.range)),
            after_start(self.first_end.saturating_add(length)),
        )
    }

    /// The end of a window, included.
    pub(super) fn end(&self, window: usize) -> Timestamp {
        let shift = self.step.saturating_mul(window as i64);
        self.first_end.saturating_add(shift)
    }

    /// The buckets that make up a window.
    pub(super) fn window(&self, window: usize) -> Range<usize> {
        match self.kind {
            Kind::Apart => window..window + 1,
            Kind::Overlapping { span, cut, .. } => match cut {
                None => window..window + span,
                Some(_) => 2 * window + 1..2 * (window + span),
            },
        }
    }

    /// The windows that hold any of these buckets.
    pub(super) fn windows_of(&self, buckets: Range<usize>) -> Range<usize> {
        match self.kind {
            Kind::Apart => buckets,
            Kind::Overlapping { span, cut, .. } => {
                let per_step = if cut.is_some() { 2 } else { 1 };
                let (first, last) = (buckets.start / per_step, (buckets.end - 1) / per_step);
                (first + 1).saturating_sub(span)..(last + 1).min(self.count)
            }
        }
    }

    /// The bucket of a time, `None` when it belongs to no window, and the last time up to which the
    /// answer stays the same.
    pub(super) fn bucket(&self, at: Timestamp) -> (Option<usize>, Timestamp) {
        match self.kind {
            Kind::Apart => self.bucket_apart(at),
            Kind::Overlapping { cut, base, .. } => {
                let past = at.saturating_sub(base);
                if past <= 0 {
                    return (None, base);
                }
                let step = ((past - 1) / self.step) as usize;
                let start = base.saturating_add(self.step.saturating_mul(step as i64));
                let end = start.saturating_add(self.step);
                let (bucket, end) = match cut {
                    None => (step, end),
                    Some(cut) if at - start <= cut => (2 * step, start + cut),
                    Some(_) => (2 * step + 1, end),
                };
                if bucket < self.buckets() {
                    (Some(bucket), end)
                } else {
                    (None, Timestamp::MAX)
                }
            }
        }
    }

    fn bucket_apart(&self, at: Timestamp) -> (Option<usize>, Timestamp) {
        let past = at.saturating_sub(self.first_end);
        let window = if past <= 0 {
            0
        } else {
            ((past - 1) / self.step) as usize + 1
        };
        if window >= self.count {
            return (None, Timestamp::MAX);
        }
        let end = self.end(window);
        let start = end.saturating_sub(self.range);
        if at <= start {
            (None, start)
        } else {
            (Some(window), end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: Steps, range: i64, offset: i64) {
        let windows = Windows::new(&steps, range, offset);
        for at in -60..120 {
            let (bucket, until) = windows.bucket(at);
            assert!(until >= at, "{steps:?} {range} {at}");
            for window in 0..steps.count {
                let end = steps.at(window) - offset;
                let inside = end - range < at && at <= end;
                let filed = bucket.is_some_and(|b| windows.window(window).contains(&b));
                assert_eq!(inside, filed, "{steps:?} {range} {offset} {at} {window}");
                if let Some(bucket) = bucket {
                    let of = windows.windows_of(bucket..bucket + 1);
                    assert!(!inside || of.contains(&window), "{steps:?} {range} {at}");
                    assert!(of.end <= steps.count && bucket < windows.buckets());
                }
                if inside {
                    assert!(windows.scan_range().contains(at));
                }
            }
            if until < 120 {
                assert_eq!(windows.bucket(until).0, bucket);
                assert_ne!(windows.bucket(until + 1).0, bucket);
            }
        }
    }

    #[test]
    fn a_bucket_says_exactly_which_windows_hold_a_time() {
        for step in [1, 3, 7, 10] {
            for range in [1, 2, 3, 7, 9, 10, 14, 23, 30] {
                for offset in [-4, 0, 11] {
                    check(Steps::new(5, 5 + 4 * step, step), range, offset);
                }
            }
        }
        check(Steps::new(20, 20, 0), 15, 0);
    }

    #[test]
    fn steps_include_their_end_and_may_be_none() {
        assert_eq!(Steps::new(0, 10, 5).count, 3);
        assert_eq!(Steps::new(0, 9, 5).count, 2);
        assert_eq!(Steps::new(10, 0, 5).count, 0);
        let instant = Steps::new(7, 7, 0);
        assert_eq!((instant.count, instant.at(0)), (1, 7));
    }
}
