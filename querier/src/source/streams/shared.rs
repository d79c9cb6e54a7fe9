//! Which streams may have records twice, by what tables of segments say of whole streams.

use hashbrown::{HashMap, HashSet};
use model::{Selector, StreamId, TimeRange, Timestamp};
use query::{Budget, BudgetError};
use segment::Segment;

use crate::source::heads::Heads;

/// What a stream takes while its times are gathered, bytes: an id, two times, a byte of control, at
/// average fill.
const KNOWN_BYTES: u64 = 64;

/// Streams of which the tables of two sources tell times that are not apart. A stream that is not here
/// has each record once; one that is here may have copies.
#[derive(Debug, Default)]
pub(super) struct Shared {
    streams: HashSet<StreamId>,
}

/// From the first to the last time at which the sources so far have a stream, both included.
type Hulls = HashMap<StreamId, (Timestamp, Timestamp)>;

impl Shared {
    /// Compares segments and heads, as far as they are in the range. Segments that are in order of
    /// time give the fewest streams that need not be here.
    ///
    /// # Errors
    /// When the query may not hold that many streams.
    pub(super) fn find<'a>(
        segments: impl ExactSizeIterator<Item = &'a Segment>,
        heads: &Heads,
        tenant: &model::TenantId,
        (selector, range): (&Selector, TimeRange),
        budget: &Budget,
    ) -> Result<Shared, BudgetError> {
        let mut shared = Shared::default();
        if segments.len() + usize::from(!heads.streams.is_empty()) < 2 {
            return Ok(shared);
        }
        let (mut hulls, mut held) = (Hulls::new(), 0);
        for segment in segments {
            budget.check()?;
            let before = hulls.len();
            let entries = segment.streams(tenant).filter(|entry| {
                range.touches(entry.first, entry.last) && selector.is_match(entry.labels)
            });
            for entry in entries {
                let first = entry.first.max(range.start);
                shared.add(&mut hulls, entry.id, first, entry.last.min(range.end - 1));
            }
            let grown = (hulls.len() - before) as u64 * KNOWN_BYTES;
            budget.take_memory(grown)?;
            held += grown;
        }
        for stream in &heads.streams {
            let (first, last) = stream.bounds();
            if hulls.contains_key(&stream.id) {
                shared.add(&mut hulls, stream.id, first, last);
            }
        }
        budget.give_memory(held);
        Ok(shared)
    }

    fn add(&mut self, hulls: &mut Hulls, id: StreamId, first: Timestamp, last: Timestamp) {
        let hull = hulls.entry(id).or_insert((Timestamp::MAX, Timestamp::MIN));
        if first <= hull.1 && hull.0 <= last {
            self.streams.insert(id);
        }
        *hull = (hull.0.min(first), hull.1.max(last));
    }

    /// Whether records of the stream may be there twice.
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.streams.contains(&id)
    }
}
