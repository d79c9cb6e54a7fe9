//! Which reads serve a list of ranges: pure.

use std::ops::Range;

use bytes::Bytes;

/// One read, and which of the ranges asked for lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// What to read.
    pub(crate) range: Range<u64>,
    /// Indexes of the ranges that it holds.
    pub(crate) members: Vec<usize>,
}

/// Joins ranges whose distance is at most `gap_max` bytes. Every non-empty range is in exactly one
/// read; empty ranges are in none.
pub(crate) fn coalesce(ranges: &[Range<u64>], gap_max: u64) -> Vec<Read> {
    let mut order: Vec<usize> = (0..ranges.len())
        .filter(|at| ranges[*at].start < ranges[*at].end)
        .collect();
    order.sort_by_key(|at| ranges[*at].start);
    let mut reads: Vec<Read> = Vec::with_capacity(order.len());
    for at in order {
        let range = &ranges[at];
        match reads.last_mut() {
            Some(read) if range.start <= read.range.end.saturating_add(gap_max) => {
                read.range.end = read.range.end.max(range.end);
                read.members.push(at);
            }
            _ => reads.push(Read {
                range: range.clone(),
                members: vec![at],
            }),
        }
    }
    reads
}

/// Cuts what a read brought into the ranges that were asked for. `bytes` must be as long as the
/// read's range.
pub(crate) fn distribute(read: &Read, bytes: &Bytes, ranges: &[Range<u64>], out: &mut [Bytes]) {
    for at in &read.members {
        let range = &ranges[*at];
        let start = (range.start - read.range.start) as usize;
        let end = (range.end - read.range.start) as usize;
        out[*at] = bytes.slice(start..end);
    }
}

/// The first of the read's ranges that reaches beyond the end of an object of `size` bytes.
pub(crate) fn beyond(ranges: &[Range<u64>], members: &[usize], size: u64) -> Option<Range<u64>> {
    members
        .iter()
        .map(|at| ranges[*at].clone())
        .find(|range| range.end > size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_share_a_read_and_far_ones_do_not() {
        let ranges = [100..110, 0..10, 14..20, 105..108];
        let reads = coalesce(&ranges, 4);
        assert_eq!(
            reads,
            [
                Read {
                    range: 0..20,
                    members: vec![1, 2]
                },
                Read {
                    range: 100..110,
                    members: vec![0, 3]
                },
            ]
        );
        assert_eq!(coalesce(&ranges, 3).len(), 3);
    }

    #[test]
    fn empty_and_reversed_ranges_are_not_read() {
        let reversed = Range { start: 9, end: 3 };
        assert_eq!(coalesce(&[5..5, reversed], 100), []);
    }

    #[test]
    fn every_range_gets_its_own_bytes() {
        let object: Vec<u8> = (0..200).collect();
        let ranges = [100..110, 0..10, 14..20, 7..7, 105..108];
        let mut out = vec![Bytes::new(); ranges.len()];
        for read in coalesce(&ranges, 4) {
            let range = read.range.start as usize..read.range.end as usize;
            let bytes = Bytes::copy_from_slice(&object[range]);
            distribute(&read, &bytes, &ranges, &mut out);
        }
        for (range, bytes) in ranges.iter().zip(&out) {
            assert_eq!(
                bytes[..],
                object[range.start as usize..range.end as usize],
                "{range:?}"
            );
        }
    }
}
