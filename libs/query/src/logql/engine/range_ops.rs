//! What is kept of the rows of one series, and what windows make of it.
//!
//! Two kinds of lanes. A [`BucketLane`] folds rows into one small part per bucket and combines the
//! parts of a window: O(rows + windows), whatever the overlap. A [`SampleLane`] keeps every sample,
//! for what needs their order or all of them: O(rows log rows + windows).
//!
//! Results do not depend on how rows were split over sinks and blocks: counts and bytes are exact
//! integers, minimum and maximum are exact, first and last break ties of time by value, samples are
//! sorted, and sums of numbers are carried with twice the precision of the result, so that a
//! different order of addition changes less than the last bit can show but in the rarest rounding
//! ties.

mod parts;
mod samples;

use model::Timestamp;

use super::super::ast::RangeOp;
use super::series::Points;
use super::share::{Reader, Writer};
use super::steps::Windows;

pub(super) use parts::{Earliest, Largest, Latest, Moments, Smallest, Tally, Total};
pub(super) use samples::SampleLane;

/// What is computed of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    pub(super) op: RangeOp,
    /// The quantile of `quantile_over_time`.
    pub(super) param: f64,
    /// Window, nanoseconds.
    pub(super) range: i64,
}

impl Finish {
    /// Length of the window in seconds, what rates divide by.
    fn seconds(&self) -> f64 {
        self.range as f64 / 1e9
    }
}

/// What is kept of one series.
pub(super) trait Lane: Default + Send {
    /// Files one row; returns by how many bytes the lane grew.
    fn add(&mut self, bucket: usize, at: Timestamp, value: f64) -> usize;

    /// Files rows whose times and values do not matter, only how many they are and how many bytes
    /// their lines have. Only lanes of [`Tally`] are asked.
    fn add_many(&mut self, bucket: usize, rows: u64, bytes: u64) -> usize;

    /// Takes over what another sink kept of the same series; returns by how many bytes the lane grew.
    fn absorb(&mut self, other: Self) -> usize;

    /// What is kept, for [`load`](Self::load).
    fn save(&self, out: &mut Writer);

    /// A lane as it was saved; `None` for what is none of so many buckets.
    fn load(from: &mut Reader<'_>, buckets: usize) -> Option<Self>;

    /// The result of each window that holds a row.
    fn finish(self, windows: &Windows, finish: &Finish) -> Points;
}

/// What is kept of the rows of one bucket. The default is a bucket without rows.
pub(super) trait Part: Copy + Default + Send {
    fn add(&mut self, at: Timestamp, value: f64);

    fn add_many(&mut self, rows: u64, bytes: u64);

    /// Joins with the rows of another part. Associative and, with the stated precision,
    /// commutative; the default is neutral.
    fn merge(&mut self, other: &Self);

    fn save(&self, out: &mut Writer);

    fn load(from: &mut Reader<'_>) -> Option<Self>;

    /// The result for a window of these rows, `None` when there are none.
    fn value(&self, finish: &Finish) -> Option<f64>;
}

/// Parts of the buckets between the first and the last with a row.
#[derive(Debug, Default)]
pub(super) struct BucketLane<P> {
    first: usize,
    parts: Vec<P>,
}

impl<P: Part> BucketLane<P> {
    /// The part of a bucket, and by how many bytes the lane had to grow for it.
    fn part(&mut self, bucket: usize) -> (&mut P, usize) {
        let before = self.parts.capacity();
        if self.parts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            // Twice the room, so that rows which come latest first do not move all parts each time.
            let room = (self.first - bucket).max(self.parts.len()).min(self.first);
            self.parts
                .splice(0..0, std::iter::repeat_n(P::default(), room));
            self.first -= room;
        }
        let at = bucket - self.first;
        if at >= self.parts.len() {
            self.parts.resize(at + 1, P::default());
        }
        let grown = self.parts.capacity() - before;
        (&mut self.parts[at], grown * size_of::<P>())
    }
}

impl<P: Part> Lane for BucketLane<P> {
    fn add(&mut self, bucket: usize, at: Timestamp, value: f64) -> usize {
        let (part, grown) = self.part(bucket);
        part.add(at, value);
        grown
    }

    fn add_many(&mut self, bucket: usize, rows: u64, bytes: u64) -> usize {
        let (part, grown) = self.part(bucket);
        part.add_many(rows, bytes);
        grown
    }

    fn absorb(&mut self, other: Self) -> usize {
        if self.parts.is_empty() {
            *self = other;
            return self.parts.capacity() * size_of::<P>();
        }
        let mut grown = 0;
        for (at, theirs) in other.parts.iter().enumerate() {
            let (part, bytes) = self.part(other.first + at);
            part.merge(theirs);
            grown += bytes;
        }
        grown
    }

    fn save(&self, out: &mut Writer) {
        out.count(self.first);
        out.count(self.parts.len());
        self.parts.iter().for_each(|part| part.save(out));
    }

    fn load(from: &mut Reader<'_>, buckets: usize) -> Option<Self> {
        let first = usize::try_from(from.number()?).ok()?;
        let count = usize::try_from(from.number()?).ok()?;
        if first.checked_add(count)? > buckets {
            return None;
        }
        let parts = (0..count).map(|_| P::load(from));
        let parts: Vec<P> = parts.collect::<Option<_>>()?;
        Some(BucketLane { first, parts })
    }

    fn finish(self, windows: &Windows, finish: &Finish) -> Points {
        let mut points = Points::empty(windows.count());
        let mut emit = |window: usize, part: &P| {
            if let Some(value) = part.value(finish) {
                points.set(window, value);
            }
        };
        if windows.are_apart() {
            for (at, part) in self.parts.iter().enumerate() {
                emit(self.first + at, part);
            }
        } else if !self.parts.is_empty() {
            slide(self.first, &self.parts, windows, emit);
        }
        points
    }
}

/// Combines the parts of every window in O(parts + windows) without ever taking a part away again:
/// parts up to `middle` are folded from the right into `tails`, those after it from the left into
/// `front`; when a window starts past the middle, the middle moves to its end.
fn slide<P: Part>(first: usize, parts: &[P], windows: &Windows, mut emit: impl FnMut(usize, &P)) {
    let last = first + parts.len();
    let mut tails: Vec<P> = Vec::new();
    let (mut tails_from, mut middle, mut reached) = (first, first, first);
    let mut front = P::default();
    for window in windows.windows_of(first..last) {
        let buckets = windows.window(window);
        let (from, to) = (buckets.start.max(first), buckets.end.min(last));
        if from >= to {
            continue;
        }
        if from >= middle {
            tails.clear();
            let mut tail = P::default();
            for part in parts[from - first..to - first].iter().rev() {
                let mut next = *part;
                next.merge(&tail);
                tail = next;
                tails.push(tail);
            }
            tails.reverse();
            (tails_from, middle, reached) = (from, to, to);
            front = P::default();
        }
        while reached < to {
            front.merge(&parts[reached - first]);
            reached += 1;
        }
        let mut whole = tails[from - tails_from];
        whole.merge(&front);
        emit(window, &whole);
    }
}
