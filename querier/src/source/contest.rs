//! Where copies of a record can be: the times that two sources of one stream both span. Only rows
//! inside these windows need to be compared; all others are unique and pass untouched.

use hashbrown::{HashMap, HashSet};
use model::{RecordIdentity, StreamId, Timestamp};
use parking_lot::Mutex;
use query::{Budget, BudgetError};
use segment::PlannedChunk;

/// What an identity costs in a hash set at its average fill, bytes.
const IDENTITY_BYTES: u64 = 56;

/// Times from `first` to `last` (both included) of one stream that a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) stream: StreamId,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// Rows within one source are unique already.
    pub(super) source: u32,
}

/// The contested windows of all streams of a scan.
#[derive(Debug, Default)]
pub(super) struct Contest {
    streams: HashMap<StreamId, Contested>,
}

/// The contested windows of one stream, and which of its records were delivered already.
#[derive(Debug)]
pub(super) struct Contested {
    /// First and last nanosecond, both included; ascending, disjoint.
    windows: Vec<(Timestamp, Timestamp)>,
    seen: Mutex<HashSet<RecordIdentity>>,
}

impl Contest {
    /// Finds what at least two different sources span.
    pub(super) fn find(mut spans: Vec<Span>) -> Contest {
        spans.sort_unstable();
        let mut streams = HashMap::new();
        for of_stream in spans.chunk_by(|a, b| a.stream == b.stream) {
            let windows = overlaps(of_stream);
            if !windows.is_empty() {
                let contested = Contested {
                    windows,
                    seen: Mutex::default(),
                };
                streams.insert(of_stream[0].stream, contested);
            }
        }
        Contest { streams }
    }

    /// A contest in which only rows of these times, ascending, may have copies.
    pub(super) fn at_times(times: impl IntoIterator<Item = (StreamId, Vec<Timestamp>)>) -> Contest {
        let contested = |times: Vec<Timestamp>| Contested {
            windows: times.into_iter().map(|at| (at, at)).collect(),
            seen: Mutex::default(),
        };
        let streams = times.into_iter().filter(|(_, times)| !times.is_empty());
        Contest {
            streams: streams.map(|(id, times)| (id, contested(times))).collect(),
        }
    }

    /// Whether a chunk may hold rows that have copies elsewhere.
    pub(super) fn touches(&self, chunk: &PlannedChunk) -> bool {
        !self.is_empty()
            && chunk
                .streams
                .iter()
                .any(|stream| self.of(stream.id, stream.first, stream.last).is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The stream's windows if any of them touches `[first, last]`.
    pub(super) fn of(
        &self,
        stream: StreamId,
        first: Timestamp,
        last: Timestamp,
    ) -> Option<&Contested> {
        self.streams
            .get(&stream)
            .filter(|contested| contested.touches(first, last))
    }
}

impl Contested {
    fn touches(&self, first: Timestamp, last: Timestamp) -> bool {
        let at = self.windows.partition_point(|window| window.1 < first);
        self.windows.get(at).is_some_and(|window| window.0 <= last)
    }

    /// Calls `take` with the runs of `times`, ascending, that are inside of windows.
    pub(super) fn each_inside(&self, times: &[Timestamp], mut take: impl FnMut(&[Timestamp])) {
        let Some(first) = times.first() else { return };
        let window = self.windows.partition_point(|window| window.1 < *first);
        let mut rest = times;
        for (first, last) in &self.windows[window..] {
            rest = &rest[rest.partition_point(|at| at < first)..];
            let (inside, after) = rest.split_at(rest.partition_point(|at| at <= last));
            if !inside.is_empty() {
                take(inside);
            }
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Whether a record of this time may have a copy elsewhere.
    pub(super) fn contains(&self, at: Timestamp) -> bool {
        self.touches(at, at)
    }

    /// Whether the record was not delivered yet; from now on it was.
    ///
    /// # Errors
    /// When the query may not hold that many identities.
    pub(super) fn admit(
        &self,
        identity: RecordIdentity,
        budget: &Budget,
    ) -> Result<bool, BudgetError> {
        let new = self.seen.lock().insert(identity);
        if new {
            budget.take_memory(IDENTITY_BYTES)?;
        }
        Ok(new)
    }
}

/// Windows in which spans of different sources overlap; the spans ascend by `first`.
fn overlaps(spans: &[Span]) -> Vec<(Timestamp, Timestamp)> {
    // The span that ends last so far, and the one that ends last among those of other sources.
    let mut longest: Option<(Timestamp, u32)> = None;
    let mut runner_up: Option<(Timestamp, u32)> = None;
    let mut windows: Vec<(Timestamp, Timestamp)> = Vec::new();
    for span in spans {
        let other = match longest {
            Some((_, source)) if source == span.source => runner_up,
            _ => longest,
        };
        if let Some((end, _)) = other
            && end >= span.first
        {
            push_window(&mut windows, (span.first, end.min(span.last)));
        }
        let this = Some((span.last, span.source));
        match longest {
            Some((end, source)) if source == span.source => {
                longest = Some((end.max(span.last), source));
            }
            Some((end, _)) if span.last > end => {
                runner_up = longest;
                longest = this;
            }
            None => longest = this,
            Some(_) if runner_up.is_none_or(|(end, _)| span.last > end) => runner_up = this,
            Some(_) => {}
        }
    }
    windows
}

fn push_window(windows: &mut Vec<(Timestamp, Timestamp)>, window: (Timestamp, Timestamp)) {
    match windows.last_mut() {
        Some(last) if window.0 <= last.1 => last.1 = last.1.max(window.1),
        _ => windows.push(window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(source: u32, first: Timestamp, last: Timestamp) -> Span {
        Span {
            stream: StreamId(1),
            first,
            last,
            source,
        }
    }

    #[test]
    fn only_what_two_sources_span_is_contested() {
        let contest = Contest::find(vec![span(0, 0, 10), span(0, 10, 20), span(1, 20, 30)]);
        let contested = contest.of(StreamId(1), 0, 100).unwrap();
        assert_eq!(contested.windows, [(20, 20)]);
        assert!(contested.contains(20) && !contested.contains(19));
        assert!(contest.of(StreamId(1), 0, 19).is_none());
        assert!(contest.of(StreamId(2), 0, 100).is_none());
        assert!(Contest::find(vec![span(0, 0, 10), span(0, 5, 20)]).is_empty());
    }

    #[test]
    fn a_record_is_admitted_once() {
        let contest = Contest::find(vec![span(0, 0, 10), span(1, 0, 10)]);
        let contested = contest.of(StreamId(1), 0, 10).unwrap();
        let identity = RecordIdentity::of(1, b"x", std::iter::empty());
        let budget = Budget::new(IDENTITY_BYTES, 0);
        assert_eq!(contested.admit(identity, &budget), Ok(true));
        assert_eq!(contested.admit(identity, &budget), Ok(false));
        let another = RecordIdentity::of(2, b"x", std::iter::empty());
        assert!(contested.admit(another, &budget).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn windows_are_exactly_the_times_of_two_sources(
            spans in prop::collection::vec((0u32..4, 0i64..40, 0i64..10), 0..12),
        ) {
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(source, first, length)| span(source, first, first + length))
                .collect();
            let contest = Contest::find(spans.clone());
            for at in 0..60 {
                let sources: std::collections::BTreeSet<u32> = spans
                    .iter()
                    .filter(|span| span.first <= at && at <= span.last)
                    .map(|span| span.source)
                    .collect();
                let contested = contest.of(StreamId(1), at, at).is_some();
                prop_assert_eq!(contested, sources.len() > 1, "at {}", at);
            }
            if let Some(contested) = contest.of(StreamId(1), 0, 60) {
                let times: Vec<Timestamp> = (0..60).flat_map(|at| [at, at]).collect();
                let mut inside = Vec::new();
                contested.each_inside(&times, |run| inside.extend_from_slice(run));
                let wanted: Vec<Timestamp> = times.into_iter().filter(|at| contested.contains(*at)).collect();
                prop_assert_eq!(inside, wanted);
            }
        }
    }
}
