//! What a scan goes through, in which order, and what each source spans.

use model::Timestamp;
use query::{ScanOrder, ScanRequest};

use super::super::Planned;
use super::super::contest::Span;
use super::super::heads::Heads;

/// A chunk, or the head rows of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Chunk { segment: usize, chunk: usize },
    Head { stream: usize },
}

/// What each source spans of each stream. Rows outside of the range are never delivered.
pub(super) fn spans(planned: &[Planned], heads: &Heads, request: &ScanRequest) -> Vec<Span> {
    let sources = planned.len() + usize::from(!heads.streams.is_empty());
    if sources < 2 {
        return Vec::new();
    }
    let range = request.range;
    let mut spans = Vec::new();
    for (at, planned) in planned.iter().enumerate() {
        let chunks = planned.plan.chunks().iter();
        spans.extend(chunks.flat_map(|chunk| &chunk.streams).map(|stream| Span {
            stream: stream.id,
            first: stream.first.max(range.start),
            last: stream.last.min(range.end - 1),
            source: at as u32,
        }));
    }
    spans.extend(heads.streams.iter().map(|stream| {
        let (first, last) = stream.bounds();
        Span {
            stream: stream.id,
            first,
            last,
            source: planned.len() as u32,
        }
    }));
    spans
}

pub(super) fn works(planned: &[Planned], heads: &Heads, order: ScanOrder) -> Vec<Work> {
    let mut works = Vec::new();
    for (stream, head) in heads.streams.iter().enumerate() {
        let (first, last) = head.bounds();
        works.push(Work {
            first,
            last,
            place: Place::Head { stream },
        });
    }
    for (segment, planned) in planned.iter().enumerate() {
        for (chunk, planned) in planned.plan.chunks().iter().enumerate() {
            works.push(Work {
                first: planned.first,
                last: planned.last,
                place: Place::Chunk { segment, chunk },
            });
        }
    }
    match order {
        ScanOrder::Any => {}
        ScanOrder::Backward => works.sort_by_key(|work| std::cmp::Reverse(work.last)),
        ScanOrder::Forward => works.sort_by_key(|work| work.first),
    }
    works
}
