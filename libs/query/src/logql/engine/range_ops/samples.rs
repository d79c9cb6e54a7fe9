use std::cmp::Ordering;

use model::Timestamp;

use super::super::super::ast::RangeOp;
use super::super::series::Points;
use super::super::share::{Reader, Writer};
use super::super::steps::Windows;
use super::{Finish, Lane};

/// Every sample of a series.
#[derive(Debug, Default)]
pub(in super::super) struct SampleLane {
    samples: Vec<(Timestamp, f64)>,
}

impl Lane for SampleLane {
    fn add(&mut self, _bucket: usize, at: Timestamp, value: f64) -> usize {
        let before = self.samples.capacity();
        self.samples.push((at, value));
        (self.samples.capacity() - before) * size_of::<(Timestamp, f64)>()
    }

    fn add_many(&mut self, _bucket: usize, _rows: u64, _bytes: u64) -> usize {
        0
    }

    fn absorb(&mut self, mut other: Self) -> usize {
        let before = self.samples.capacity();
        if self.samples.is_empty() {
            self.samples = other.samples;
        } else {
            self.samples.append(&mut other.samples);
        }
        let grown = self.samples.capacity().saturating_sub(before);
        grown * size_of::<(Timestamp, f64)>()
    }

    fn save(&self, out: &mut Writer) {
        out.count(self.samples.len());
        for (at, value) in &self.samples {
            out.i64(*at);
            out.f64(*value);
        }
    }

    fn load(from: &mut Reader<'_>, _buckets: usize) -> Option<Self> {
        let samples = (0..from.number()?).map(|_| Some((from.i64()?, from.f64()?)));
        let samples: Vec<_> = samples.collect::<Option<_>>()?;
        Some(SampleLane { samples })
    }

    fn finish(mut self, windows: &Windows, finish: &Finish) -> Points {
        self.samples
            .sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        match finish.op {
            RangeOp::RateCounter => rate_counter(&self.samples, windows, finish),
            _ => quantile(&self.samples, windows, finish),
        }
    }
}

/// Calls `f` with each window that holds samples, and which samples these are.
fn for_windows(
    samples: &[(Timestamp, f64)],
    windows: &Windows,
    range: i64,
    mut f: impl FnMut(usize, usize, usize),
) {
    let (mut from, mut to) = (0, 0);
    for window in 0..windows.count() {
        let end = windows.end(window);
        let start = end.saturating_sub(range);
        while to < samples.len() && samples[to].0 <= end {
            to += 1;
        }
        while from < to && samples[from].0 <= start {
            from += 1;
        }
        if from < to {
            f(window, from, to);
        }
    }
}

/// The increase of a counter per second, resets allowed for.
fn rate_counter(samples: &[(Timestamp, f64)], windows: &Windows, finish: &Finish) -> Points {
    // resets[i]: what was lost by resets up to and including sample i.
    let mut resets = Vec::with_capacity(samples.len());
    let mut lost = 0.0;
    for (at, sample) in samples.iter().enumerate() {
        if at > 0 && sample.1 < samples[at - 1].1 {
            lost += samples[at - 1].1;
        }
        resets.push(lost);
    }
    let mut points = Points::empty(windows.count());
    for_windows(samples, windows, finish.range, |window, from, to| {
        let (first, last) = (samples[from], samples[to - 1]);
        let increase = last.1 - first.1 + (resets[to - 1] - resets[from]);
        let end = windows.end(window);
        points.set(
            window,
            extrapolate(finish, end, first, last.0, to - from, increase),
        );
    });
    points
}

/// Prometheus' extrapolation of an increase between samples to the ends of the window, per second.
/// One sample gives 0.
fn extrapolate(
    finish: &Finish,
    window_end: Timestamp,
    first: (Timestamp, f64),
    last: Timestamp,
    samples: usize,
    increase: f64,
) -> f64 {
    if samples < 2 {
        return 0.0;
    }
    let spanned = (last - first.0) as f64 / 1e9;
    let between = spanned / (samples - 1) as f64;
    let window_start = window_end.saturating_sub(finish.range);
    let mut to_start = first.0.saturating_sub(window_start) as f64 / 1e9;
    let mut to_end = window_end.saturating_sub(last) as f64 / 1e9;
    // Where a sample is missing, half of the usual distance is added.
    let threshold = between * 1.1;
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    // A counter is never below zero.
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(spanned * (first.1 / increase));
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    let extended = spanned + to_start + to_end;
    increase * (extended / spanned) / finish.seconds()
}

/// Quantiles of all windows in O(n log n): samples enter and leave a tree of counts over the ranks
/// of all values.
fn quantile(samples: &[(Timestamp, f64)], windows: &Windows, finish: &Finish) -> Points {
    let mut by_value: Vec<usize> = (0..samples.len()).collect();
    by_value.sort_by(|&a, &b| nan_first(samples[a].1, samples[b].1));
    let mut rank = vec![0; samples.len()];
    for (at, sample) in by_value.iter().enumerate() {
        rank[*sample] = at;
    }
    let mut tree = Counts::new(samples.len());
    let (mut added, mut removed) = (0, 0);
    let mut points = Points::empty(windows.count());
    for_windows(samples, windows, finish.range, |window, from, to| {
        while added < to {
            tree.add(rank[added], 1);
            added += 1;
        }
        while removed < from {
            tree.add(rank[removed], -1);
            removed += 1;
        }
        let nth = |n: usize| samples[by_value[tree.nth(n)]].1;
        points.set(window, interpolate(finish.param, to - from, nth));
    });
    points
}

/// The q-quantile of `count` values, of which `nth` gives the n-th smallest (from 0).
fn interpolate(q: f64, count: usize, nth: impl Fn(usize) -> f64) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (count - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(count - 1);
    let weight = rank - rank.floor();
    nth(lower) * (1.0 - weight) + nth(upper) * weight
}

fn nan_first(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(&b),
        (a, b) => b.cmp(&a),
    }
}

/// Counts per rank with their prefix sums (a Fenwick tree).
struct Counts {
    sums: Vec<i64>,
}

impl Counts {
    fn new(ranks: usize) -> Self {
        Counts {
            sums: vec![0; ranks + 1],
        }
    }

    fn add(&mut self, rank: usize, count: i64) {
        let mut at = rank + 1;
        while at < self.sums.len() {
            self.sums[at] += count;
            at += at & at.wrapping_neg();
        }
    }

    /// The rank of the n-th element counted, from 0.
    fn nth(&self, n: usize) -> usize {
        let (mut at, mut left) = (0, n as i64);
        let mut jump = self.sums.len().next_power_of_two();
        while jump > 0 {
            let next = at + jump;
            if next < self.sums.len() && self.sums[next] <= left {
                left -= self.sums[next];
                at = next;
            }
            jump /= 2;
        }
        at
    }
}
