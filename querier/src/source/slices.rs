//! How a scan is cut for several queriers. Pure.
//!
//! A scan is cut by time: copies of a record have equal times, so that each slice has all copies of its
//! records, and no two slices have to be compared. Cuts are made where few segments reach over them,
//! for those are read on both sides.

use std::sync::Arc;

use model::{NodeId, TenantId, TimeRange, Timestamp};
use rpc::SegmentMeta;
use xxhash_rust::xxh3::xxh3_64;

/// One part in so many of a slice may be read once more by the next one.
const REPEATED_PARTS: u64 = 4;
/// How much more than its even part one querier may get, because segments in its caches fall to it:
/// one part in so many.
const UNEVEN_PARTS: u64 = 4;

/// A part of a scan's range, with the segments that touch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) range: TimeRange,
    /// All segments that may hold records of the range.
    pub(super) segments: Vec<Arc<SegmentMeta>>,
    /// About what is stored of it.
    pub(super) bytes: u64,
    /// The segment that holds most of it, by whose number it falls to a querier.
    pub(super) largest: u64,
}

/// About how many bytes of the object hold records of the tenant at times of the range.
pub(super) fn stored_bytes(meta: &SegmentMeta, tenant: &TenantId, range: TimeRange) -> u64 {
    let Some(own) = meta.of_tenant(tenant) else {
        return 0;
    };
    let all: u64 = meta
        .tenants
        .iter()
        .map(|t| t.content_bytes + t.records)
        .sum();
    let part = (own.content_bytes + own.records) as f64 / all.max(1) as f64;
    let length = |first: Timestamp, last: Timestamp| (last as f64 - first as f64).max(0.0) + 1.0;
    let inside = length(own.first.max(range.start), own.last.min(range.end - 1));
    let inside = (inside / length(own.first, own.last)).min(1.0);
    (meta.object_bytes as f64 * part * inside) as u64
}

/// Cuts a range into slices of at least `bytes_min`, but for the last one, in order of time. The
/// segments all touch the range.
pub(super) fn cut(
    segments: &[Arc<SegmentMeta>],
    tenant: &TenantId,
    range: TimeRange,
    bytes_min: u64,
) -> Vec<Slice> {
    let of_tenant = |meta: &Arc<SegmentMeta>| {
        let own = meta.of_tenant(tenant)?;
        Some(Piece {
            first: own.first.max(range.start),
            last: own.last.min(range.end - 1),
            bytes: stored_bytes(meta, tenant, range),
            meta: Arc::clone(meta),
        })
    };
    let mut pieces: Vec<Piece> = segments.iter().filter_map(of_tenant).collect();
    pieces.sort_by_key(|piece| (piece.first, piece.last, piece.meta.id));
    let mut slices = Vec::new();
    let mut start = range.start;
    let mut open: Vec<Piece> = Vec::new();
    let mut bytes = 0;
    for piece in pieces {
        let over = |open: &Piece| open.last >= piece.first;
        if bytes >= bytes_min && piece.first > start {
            let repeated: u64 = open.iter().filter(|o| over(o)).map(|o| o.bytes).sum();
            if repeated <= bytes / REPEATED_PARTS {
                slices.push(slice(TimeRange::new(start, piece.first), &open));
                start = piece.first;
                open.retain(over);
                bytes = repeated;
            }
        }
        bytes += piece.bytes;
        open.push(piece);
    }
    slices.push(slice(TimeRange::new(start, range.end), &open));
    slices
}

/// A segment with what of it is in the range.
struct Piece {
    first: Timestamp,
    /// Included.
    last: Timestamp,
    bytes: u64,
    meta: Arc<SegmentMeta>,
}

/// The slice of pieces that reach beyond its start.
fn slice(range: TimeRange, pieces: &[Piece]) -> Slice {
    let pieces = || pieces.iter().filter(|piece| piece.first < range.end);
    let largest = pieces().max_by_key(|piece| (piece.bytes, piece.meta.id));
    Slice {
        range,
        segments: pieces().map(|piece| Arc::clone(&piece.meta)).collect(),
        bytes: pieces().map(|piece| piece.bytes).sum(),
        largest: largest.map_or(0, |piece| piece.meta.id.0),
    }
}

/// Who does each slice: the querier to which its largest segment falls, unless that one would get much
/// more than the others. Those in `here` are for `own`, whatever else it gets.
pub(super) fn assign(
    slices: &[Slice],
    here: impl Fn(&Slice) -> bool,
    own: NodeId,
    others: &[NodeId],
) -> Vec<NodeId> {
    let queriers: Vec<NodeId> = std::iter::once(own).chain(others.iter().copied()).collect();
    let all: u64 = slices.iter().map(|slice| slice.bytes).sum();
    let even = all / queriers.len() as u64;
    let bytes_max = even + even / UNEVEN_PARTS;
    let mut loads = vec![0_u64; queriers.len()];
    let mut assigned = vec![own; slices.len()];
    let mut free: Vec<usize> = Vec::new();
    for (at, slice) in slices.iter().enumerate() {
        match here(slice) {
            true => loads[0] += slice.bytes,
            false => free.push(at),
        }
    }
    free.sort_by_key(|at| (std::cmp::Reverse(slices[*at].bytes), *at));
    for at in free {
        let slice = &slices[at];
        let fits = |querier: &usize| loads[*querier] + slice.bytes <= bytes_max;
        let rank = |querier: &usize| weight(queriers[*querier], slice.largest);
        let chosen = (0..queriers.len()).filter(fits).max_by_key(rank);
        let least = || (0..queriers.len()).min_by_key(|q| (loads[*q], std::cmp::Reverse(rank(q))));
        let Some(chosen) = chosen.or_else(least) else {
            continue;
        };
        loads[chosen] += slice.bytes;
        assigned[at] = queriers[chosen];
    }
    assigned
}

/// Rendezvous hashing (Thaler and Ravishankar 1998): when a querier comes or goes, nothing changes
/// hands but what falls to it.
fn weight(querier: NodeId, segment: u64) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&querier.0.to_le_bytes());
    key[8..].copy_from_slice(&segment.to_le_bytes());
    xxh3_64(&key)
}

#[cfg(test)]
mod tests {
    use model::Signal;
    use proptest::prelude::*;
    use rpc::{SegmentId, TenantSegment};

    use super::*;

    fn segment(id: u64, first: Timestamp, last: Timestamp, bytes: u64) -> Arc<SegmentMeta> {
        Arc::new(SegmentMeta {
            id: SegmentId(id),
            signal: Signal::Logs,
            path: format!("s{id}").into(),
            object_bytes: bytes,
            created: 0,
            level: 0,
            tenants: vec![TenantSegment {
                tenant: TenantId::default(),
                records: 10,
                content_bytes: bytes,
                first,
                last,
            }],
        })
    }

    fn cut_all(segments: &[Arc<SegmentMeta>], range: TimeRange, bytes_min: u64) -> Vec<Slice> {
        cut(segments, &TenantId::default(), range, bytes_min)
    }

    #[test]
    fn segments_one_after_another_are_slices_of_their_own() {
        let segments: Vec<_> = (0..4)
            .map(|n| segment(n, n as i64 * 10, n as i64 * 10 + 9, 100))
            .collect();
        let slices = cut_all(&segments, TimeRange::new(-5, 40), 90);
        let ranges: Vec<_> = slices
            .iter()
            .map(|s| (s.range.start, s.range.end))
            .collect();
        assert_eq!(ranges, [(-5, 10), (10, 20), (20, 30), (30, 40)]);
        assert!(slices.iter().all(|slice| slice.segments.len() == 1));
        assert_eq!(cut_all(&segments, TimeRange::new(0, 40), 150).len(), 2);
    }

    #[test]
    fn segments_side_by_side_are_not_cut() {
        let segments: Vec<_> = (0..8).map(|n| segment(n, n as i64, 100, 100)).collect();
        assert_eq!(cut_all(&segments, TimeRange::new(0, 101), 90).len(), 1);
    }

    #[test]
    fn slices_fall_to_all_queriers_and_again_to_the_same_ones() {
        let segments: Vec<_> = (0..64)
            .map(|n| segment(n, n as i64 * 10, n as i64 * 10 + 9, 100))
            .collect();
        let slices = cut_all(&segments, TimeRange::new(0, 640), 100);
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let assigned =
            |own: u64, others: &[u64]| assign(&slices, |_| false, NodeId(own), &ids(others));
        let from_1 = assigned(1, &[2, 3, 4]);
        let mine = |id: u64| from_1.iter().filter(|a| a.0 == id).count();
        assert!((1..=4).all(|id| mine(id) >= 8), "{from_1:?}");
        let from_3 = assigned(3, &[1, 2, 4]);
        let alike = from_1.iter().zip(&from_3).filter(|(a, b)| a == b).count();
        assert!(alike >= 60, "{alike} of 64 go to the same querier");
        let fewer = assigned(1, &[2, 3]);
        let stayed = from_1.iter().zip(&fewer).filter(|(a, b)| a == b).count();
        assert!(stayed >= 32, "{stayed} of 64 stay where they were");
    }

    #[test]
    fn what_must_stay_here_does_and_the_rest_goes_to_the_others() {
        let segments: Vec<_> = (0..4)
            .map(|n| segment(n, n as i64 * 10, n as i64 * 10 + 9, 100))
            .collect();
        let slices = cut_all(&segments, TimeRange::new(0, 40), 100);
        let here = |slice: &Slice| slice.range.start >= 20;
        let assigned = assign(&slices, here, NodeId(1), &[NodeId(2)]);
        assert_eq!(assigned, [2, 2, 1, 1].map(NodeId));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_time_is_in_one_slice_with_all_its_segments(
            spans in prop::collection::vec((-20i64..120, 0i64..40, 1u64..200), 0..20),
            bytes_min in 1u64..300,
        ) {
            let range = TimeRange::new(0, 100);
            let all = (0..).zip(&spans).map(|(id, (first, length, bytes))| {
                segment(id, *first, first + length, *bytes)
            });
            let touching = all.filter(|s| range.touches(s.tenants[0].first, s.tenants[0].last));
            let segments: Vec<_> = touching.collect();
            let slices = cut_all(&segments, range, bytes_min);
            prop_assert_eq!(slices[0].range.start, 0);
            prop_assert_eq!(slices[slices.len() - 1].range.end, 100);
            prop_assert!(slices.windows(2).all(|w| w[0].range.end == w[1].range.start));
            for slice in &slices {
                prop_assert!(!slice.range.is_empty());
                for segment in &segments {
                    let own = &segment.tenants[0];
                    let touches = slice.range.touches(own.first, own.last);
                    prop_assert_eq!(slice.segments.contains(segment), touches);
                }
            }
        }
    }
}
