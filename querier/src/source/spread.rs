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
use query::{Budget, ScanOrder, ScanRequest, ScanStats, ShareSink, SourceError};
use rpc::{ShareRequest, ShareSegment};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::scan::Form;
use super::slices::{self, Slice};
use super::{Snapshot, SnapshotSource};
use crate::peers::{Peer, Peers};
use crate::share::Done;

/// How long the slices of others may take longer than those done here: as long again, and at least
/// this. Then they are done here as well, one by one, until the others have answered.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
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
        let even = bytes / (others.len() as u64 + 1) / SLICES_EACH;
        let bytes_min = even.max(worth / SLICES_EACH).max(1);
        let slices = slices::cut(&segments, &self.tenant, range, bytes_min);
        if others.is_empty() || slices.len() < 2 {
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
            let here = |slice: &Slice| self.snapshot.has_recent(slice.range);
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
        let patience = Instant::now() + began.elapsed().max(PATIENCE_MIN);
        let mut slow = false;
        while !away.is_empty() {
            let next = match slow {
                true => answers.try_recv().ok(),
                false => self.source.wait(self.budget, async {
                    let next = tokio::time::timeout_at(patience, answers.recv());
                    Ok(next.await.ok().flatten())
                })?,
            };
            let taken_back = match next {
                Some((number, answer)) => {
                    let Some(share) = away.remove(&number) else {
                        continue;
                    };
                    match self.answered(&share, answer, stats, new_sink)? {
                        Some(sink) => {
                            sinks.push(sink);
                            continue;
                        }
                        None => share,
                    }
                }
                None if !slow => {
                    slow = true;
                    continue;
                }
                None => {
                    let Some((_, share)) = away.pop_first() else {
                        break;
                    };
                    tracing::info!(
                        node = share.to.0,
                        "a querier is slow to do its share of a query; it is done here"
                    );
                    metrics.slow.inc();
                    self.peers.failed(share.to, Instant::now());
                    share
                }
            };
            self.here(taken_back.slice.range, sinks, stats, new_sink)?;
        }
        Ok(())
    }

    /// Asks the others for their slices, by number; those for this process come back.
    fn send_away(
        &self,
        assigned: Vec<Assigned>,
        send: &mpsc::UnboundedSender<(usize, Result<Bytes, rpc::Error>)>,
    ) -> (Vec<Slice>, BTreeMap<usize, Away>) {
        let (mut here, mut away) = (Vec::new(), BTreeMap::new());
        for (number, Assigned { slice, to }) in assigned.into_iter().enumerate() {
            let Some(peer) = to else {
                here.push(slice);
                continue;
            };
            let (request, send) = (self.ask(&slice), send.clone());
            let call = self.source.backend.runtime.spawn(async move {
                // Nobody takes it any more when the slice was done elsewhere.
                let _ = send.send((number, peer.port.share(request).await));
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

    /// The sink with what another made of its slice; `None` when it did not.
    fn answered<K: ShareSink>(
        &self,
        share: &Away,
        answer: Result<Bytes, rpc::Error>,
        stats: &mut ScanStats,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<Option<K>, SourceError> {
        let metrics = &self.source.backend.shares;
        // It has too much to do, or the query may not do so much: no reason to avoid it.
        let refused = matches!(answer, Err(rpc::Error::Exhausted { .. }));
        match self.take(answer, stats, new_sink)? {
            Ok(sink) => {
                metrics.there.inc();
                self.peers.did(share.to);
                Ok(Some(sink))
            }
            Err(error) => {
                tracing::info!(node = share.to.0, %error, "a querier did not do its share of a query; it is done here");
                metrics.failed.inc();
                if !refused {
                    self.peers.failed(share.to, Instant::now());
                }
                Ok(None)
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

    fn ask(&self, slice: &Slice) -> ShareRequest {
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
        let (memory_bytes_max, rows_max) = self.budget.left();
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

    /// A sink with what another querier made of its slice. What is wrong with the answer is no error of
    /// the query: the slice is done here then.
    fn take<K: ShareSink>(
        &self,
        answer: Result<Bytes, rpc::Error>,
        stats: &mut ScanStats,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<Result<K, SourceError>, SourceError> {
        let done = answer.map_err(|error| SourceError::Unavailable(error.to_string()));
        let done = match done.and_then(|bytes| Done::decode(&bytes)) {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        let mut sink = new_sink();
        match sink.load(&done.saved) {
            Err(SourceError::Budget(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(error)),
            Ok(()) => {}
        }
        self.budget.take_rows(done.rows_taken)?;
        stats.add(&done.stats);
        self.source.tally.add_share(&done.stats);
        Ok(Ok(sink))
    }
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
