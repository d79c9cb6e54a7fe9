//! A scan that several queriers do together.
//!
//! ```text
//! segments ─ slices::cut, assign ─▶ here:  scan ──────────────────────────────┐
//!                                └▶ there: QueryApi::share ─▶ ShareSink::load ├─▶ sinks
//!                                   failed, slow: scan here ──────────────────┘
//! ```
//! Recent records are here alone, so slices with any of them are done here. Whatever goes wrong at
//! another querier, its slice is done here instead: what a scan gives, or why it fails, does not depend
//! on the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{NodeId, TimeRange, Timestamp};
use query::{Budget, Held, ScanOrder, ScanRequest, ScanStats, ShareSink, SourceError};
use rpc::{ShareRequest, ShareSegment};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::scan::Form;
use super::slices::{self, Slice};
use super::{Snapshot, SnapshotSource};
use crate::peers::{Peer, Peers};
use crate::share::Done;

/// How long the slices of others may take longer than those done here: as long again, at least this,
/// and at least what a slice takes at [`RATE_MIN`]. Then they are done here as well, one by one, until
/// the others have answered.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// Stored bytes a second that a querier does at least, be they nowhere but in the bucket.
const RATE_MIN: u64 = 16 << 20;
/// A slice is at least one part in so many of what is worth spreading, and each querier should get so
/// many, so that none waits long for the last one.
const SLICES_EACH: u64 = 4;
/// With a limit, the slices at the useful end may be enough: each turn does so many times as much as
/// the one before it.
const TURN_GROWTH: u64 = 4;

/// Asks a query for its share.
pub(super) type Share<'a> = &'a dyn Fn() -> Option<Vec<u8>>;

/// One scan over slices.
struct Spread<'a> {
    source: &'a SnapshotSource,
    peers: &'a Peers,
    snapshot: &'a Snapshot,
    request: &'a ScanRequest,
    share: Bytes,
    budget: &'a Budget,
}

/// A slice with who is to do it.
struct Assigned {
    slice: Slice,
    /// `None` for this process.
    to: Option<Peer>,
}

/// What another querier made of a slice; counted against the query's budget for as long as it is held.
type Answer = Result<(Bytes, Held), rpc::Error>;
type Numbered = (usize, Answer);

/// A slice that another querier is doing.
struct Away {
    slice: Slice,
    to: NodeId,
    _call: AbortOnDropHandle<()>,
}

impl SnapshotSource {
    /// The scan, done together with other queriers; `None` when that is not worth it or not possible.
    pub(super) fn spread<K: ShareSink>(
        &self,
        request: &ScanRequest,
        share: Share<'_>,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<Option<(Vec<K>, ScanStats)>, SourceError> {
        let worth = self.backend.spread_bytes;
        let Some(peers) = self.backend.peers.get().filter(|_| worth > 0) else {
            return Ok(None);
        };
        if request.range.is_empty() {
            return Ok(None);
        }
        let snapshot = self.snapshot(&request.selector, request.range, budget)?;
        let range = snapshot.hidden().kept(request.range);
        let segments = snapshot.segments(range);
        let bytes = segments.iter();
        let bytes = bytes.map(|meta| slices::stored_bytes(meta, &self.tenant, range));
        let bytes: u64 = bytes.sum();
        if range.is_empty() || bytes < worth {
            return Ok(None);
        }
        let others = peers.ready(Instant::now());
        if others.is_empty() {
            return Ok(None);
        }
        let even = bytes / (others.len() as u64 + 1) / SLICES_EACH;
        let bytes_min = even.max(worth / SLICES_EACH).max(1);
        let slices = slices::cut(&segments, &self.tenant, range, bytes_min);
        if slices.len() < 2 {
            return Ok(None);
        }
        let Some(share) = share() else {
            return Ok(None);
        };
        let spread = Spread {
            source: self,
            peers,
            snapshot: &snapshot,
            request,
            share: share.into(),
            budget,
        };
        spread.run(slices, &others, new_sink).map(Some)
    }
}

impl Spread<'_> {
    fn run<K: ShareSink>(
        &self,
        mut slices: Vec<Slice>,
        others: &[Peer],
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        if self.request.order == ScanOrder::Backward {
            slices.reverse();
        }
        let ids: Vec<NodeId> = others.iter().map(|peer| peer.id).collect();
        let mut turn_bytes = match self.request.order {
            ScanOrder::Any => u64::MAX,
            ScanOrder::Backward | ScanOrder::Forward => slices[0].bytes,
        };
        let mut slices = std::collections::VecDeque::from(slices);
        let (mut sinks, mut stats) = (vec![new_sink()], ScanStats::default());
        while !slices.is_empty() {
            let bound = sinks.iter().find_map(K::bound);
            let (mut turn, mut bytes) = (Vec::new(), 0_u64);
            while let Some(slice) = slices.pop_front() {
                if let Some(range) = useful(slice.range, bound, self.request.order) {
                    bytes = bytes.saturating_add(slice.bytes);
                    turn.push(Slice { range, ..slice });
                }
                if bytes >= turn_bytes {
                    break;
                }
            }
            turn_bytes = turn_bytes.saturating_mul(TURN_GROWTH);
            // To wait for one other and do nothing meanwhile gains nothing.
            let alone = turn.len() == 1;
            let here = |slice: &Slice| alone || self.snapshot.has_recent(slice.range);
            let assigned = slices::assign(&turn, here, self.peers.own(), &ids);
            let assigned = turn.into_iter().zip(assigned).map(|(slice, id)| Assigned {
                slice,
                to: others.iter().find(|peer| peer.id == id).cloned(),
            });
            self.turn(assigned.collect(), &mut sinks, &mut stats, new_sink)?;
        }
        Ok((sinks, stats))
    }

    /// Does some slices; returns when all of them are done.
    fn turn<K: ShareSink>(
        &self,
        assigned: Vec<Assigned>,
        sinks: &mut Vec<K>,
        stats: &mut ScanStats,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(), SourceError> {
        let began = Instant::now();
        let (send, mut answers) = mpsc::unbounded_channel();
        let (here, mut away) = self.send_away(assigned, &send);
        let metrics = &self.source.backend.shares;
        for range in joined(here.iter().map(|slice| slice.range).collect()) {
            self.here(range, sinks, stats, new_sink)?;
        }
        metrics.here.inc_by(here.len() as u64);
        let mut bytes_here: u64 = here.iter().map(|slice| slice.bytes).sum();
        let largest = away.values().map(|share| share.slice.bytes).max();
        let patience = Instant::now() + patience(began.elapsed(), largest.unwrap_or(0));
        let mut slow = false;
        while !away.is_empty() {
            let next = match slow {
                true => answers.try_recv().ok(),
                false => self.next(&mut answers, patience)?,
            };
            let taken_back = match next {
                Some((number, answer)) => {
                    let Some(share) = away.remove(&number) else {
                        continue;
                    };
                    if self.answered(&share, answer, sinks, stats, new_sink)? {
                        continue;
                    }
                    share
                }
                None if !slow => {
                    slow = true;
                    continue;
                }
                None => {
                    let Some((_, share)) = away.pop_first() else {
                        break;
                    };
                    self.too_slow(&share, bytes_here);
                    share
                }
            };
            self.here(taken_back.slice.range, sinks, stats, new_sink)?;
            bytes_here = bytes_here.saturating_add(taken_back.slice.bytes);
        }
        Ok(())
    }

    /// The next answer of another; `None` when the time is over.
    fn next(
        &self,
        answers: &mut mpsc::UnboundedReceiver<Numbered>,
        until: Instant,
    ) -> Result<Option<Numbered>, SourceError> {
        self.source.wait(self.budget, async {
            let next = tokio::time::timeout_at(until, answers.recv());
            Ok(next.await.ok().flatten())
        })
    }

    /// Notes that a slice is not waited for any longer. Only when as much was done here meanwhile is
    /// the other to blame; else it may be the storage.
    fn too_slow(&self, share: &Away, bytes_here: u64) {
        tracing::info!(
            node = share.to.0,
            "a querier is slow to do its share of a query; it is done here"
        );
        self.source.backend.shares.slow.inc();
        if bytes_here >= share.slice.bytes {
            self.peers.failed(share.to, Instant::now());
        }
    }

    /// Asks the others for their slices, by number; those for this process come back.
    fn send_away(
        &self,
        assigned: Vec<Assigned>,
        send: &mpsc::UnboundedSender<Numbered>,
    ) -> (Vec<Slice>, BTreeMap<usize, Away>) {
        let (mut here, mut away) = (Vec::new(), BTreeMap::new());
        let asked = assigned.iter().filter(|slice| slice.to.is_some()).count();
        let (memory_left, rows_max) = self.budget.left();
        // Of the memory, a part for each and one for what is done here; 0 stays no limit.
        let memory_bytes_max = match memory_left {
            0 => 0,
            left => (left / (asked as u64 + 1)).max(1),
        };
        for (number, Assigned { slice, to }) in assigned.into_iter().enumerate() {
            let Some(peer) = to else {
                here.push(slice);
                continue;
            };
            let request = self.ask(&slice, memory_bytes_max, rows_max);
            let (send, held) = (send.clone(), self.budget.hold());
            let call = self.source.backend.runtime.spawn(async move {
                let answer = peer.port.share(request).await;
                let answer = answer.and_then(|bytes| kept(bytes, held));
                // Nobody takes it any more when the slice was done elsewhere.
                let _ = send.send((number, answer));
            });
            let call = Away {
                slice,
                to: peer.id,
                _call: AbortOnDropHandle::new(call),
            };
            away.insert(number, call);
        }
        (here, away)
    }

    /// Adds what another made of its slice; `false` when it did not do it. All of it goes to the first
    /// sink, so that a series is held once.
    fn answered<K: ShareSink>(
        &self,
        share: &Away,
        answer: Answer,
        sinks: &mut Vec<K>,
        stats: &mut ScanStats,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<bool, SourceError> {
        let metrics = &self.source.backend.shares;
        // It has too much to do, or the query may not do so much: no reason to avoid it.
        let refused = matches!(answer, Err(rpc::Error::Exhausted { .. }));
        if sinks.is_empty() {
            sinks.push(new_sink());
        }
        match self.take(answer, &mut sinks[0], stats)? {
            Ok(()) => {
                metrics.there.inc();
                self.peers.did(share.to);
                Ok(true)
            }
            Err(error) => {
                tracing::info!(node = share.to.0, %error, "a querier did not do its share of a query; it is done here");
                metrics.failed.inc();
                if !refused {
                    self.peers.failed(share.to, Instant::now());
                }
                Ok(false)
            }
        }
    }

    /// Scans a part of the range here.
    fn here<K: ShareSink>(
        &self,
        range: TimeRange,
        sinks: &mut Vec<K>,
        stats: &mut ScanStats,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(), SourceError> {
        let request = ScanRequest {
            range,
            ..self.request.clone()
        };
        let done = self
            .source
            .scan_as(Form::Lines, &request, self.budget, new_sink);
        let (own, scanned) = done?;
        sinks.extend(own);
        stats.add(&scanned);
        Ok(())
    }

    fn ask(&self, slice: &Slice, memory_bytes_max: u64, rows_max: u64) -> ShareRequest {
        let source = self.source;
        let segment = |meta: &Arc<rpc::SegmentMeta>| {
            let own = meta.of_tenant(&source.tenant)?;
            Some(ShareSegment {
                id: meta.id,
                path: Arc::clone(&meta.path),
                object_bytes: meta.object_bytes,
                first: own.first,
                last: own.last,
            })
        };
        ShareRequest {
            tenant: source.tenant.clone(),
            share: self.share.clone(),
            range: slice.range,
            segments: slice.segments.iter().filter_map(segment).collect(),
            deletes: self.snapshot.deletes(slice.range),
            rows_max,
            memory_bytes_max,
            time: source.ends.saturating_duration_since(Instant::now()),
        }
    }

    /// Adds what another querier made of its slice to the sink. What is wrong with the answer is no error
    /// of the query: the slice is done here then.
    fn take<K: ShareSink>(
        &self,
        answer: Answer,
        sink: &mut K,
        stats: &mut ScanStats,
    ) -> Result<Result<(), SourceError>, SourceError> {
        let (bytes, _held) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(SourceError::Unavailable(error.to_string()))),
        };
        let done = match Done::decode(&bytes) {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        match sink.load(&done.saved) {
            Err(SourceError::Budget(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(error)),
            Ok(()) => {}
        }
        self.budget.take_rows(done.rows_taken)?;
        stats.add(&done.stats);
        self.source.tally.add_share(&done.stats);
        Ok(Ok(()))
    }
}

/// An answer that the query may hold.
fn kept(answer: Bytes, mut held: Held) -> Answer {
    match held.add(answer.len() as u64) {
        Ok(()) => Ok((answer, held)),
        Err(error) => Err(rpc::Error::Exhausted {
            reason: error.to_string(),
            retry_after_seconds: 0,
        }),
    }
}

/// How long others are waited for, after what was done here took so long.
fn patience(here: Duration, slice_bytes: u64) -> Duration {
    let at_worst = Duration::from_secs_f64(slice_bytes as f64 / RATE_MIN as f64);
    here.max(PATIENCE_MIN).max(at_worst)
}

/// What of a slice may still be of use, once rows beyond `bound` are not.
fn useful(range: TimeRange, bound: Option<Timestamp>, order: ScanOrder) -> Option<TimeRange> {
    let range = match (bound, order) {
        (Some(bound), ScanOrder::Backward) => TimeRange::new(range.start.max(bound), range.end),
        (Some(bound), ScanOrder::Forward) => {
            range.intersection(&TimeRange::inclusive(range.start, bound))
        }
        _ => range,
    };
    (!range.is_empty()).then_some(range)
}

/// Ranges that follow on each other as one.
fn joined(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<TimeRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_side_by_side_are_one() {
        let range = TimeRange::new;
        let all = vec![range(20, 30), range(0, 10), range(10, 20), range(40, 50)];
        assert_eq!(joined(all), [range(0, 30), range(40, 50)]);
    }

    #[test]
    fn others_are_waited_for_as_long_as_a_large_slice_may_take() {
        let second = Duration::from_secs(1);
        assert_eq!(patience(Duration::ZERO, 1000), second);
        assert_eq!(patience(Duration::ZERO, 5 * RATE_MIN), second * 5);
        assert_eq!(patience(second * 9, 5 * RATE_MIN), second * 9);
    }

    #[test]
    fn an_answer_counts_against_the_budget_until_it_is_dropped() {
        let budget = Budget::new(100, 0);
        let answer = kept(Bytes::from_static(&[0; 60]), budget.hold());
        assert_eq!(budget.left().0, 40);
        let more = kept(Bytes::from_static(&[0; 60]), budget.hold());
        assert!(matches!(more, Err(rpc::Error::Exhausted { .. })));
        assert_eq!(budget.left().0, 40);
        drop(answer);
        assert_eq!(budget.left().0, 100);
    }

    #[test]
    fn times_beyond_the_bound_are_of_no_use_and_the_bound_itself_is() {
        let range = TimeRange::new(10, 20);
        let useful = |bound, order| super::useful(range, Some(bound), order);
        assert_eq!(
            useful(15, ScanOrder::Backward),
            Some(TimeRange::new(15, 20))
        );
        assert_eq!(useful(15, ScanOrder::Forward), Some(TimeRange::new(10, 16)));
        assert_eq!(useful(20, ScanOrder::Backward), None);
        assert_eq!(useful(9, ScanOrder::Forward), None);
        assert_eq!(useful(9, ScanOrder::Any), Some(range));
    }
}
