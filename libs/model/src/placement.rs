use crate::{StreamId, Timestamp};

/// One of S equal ranges of the stream-hash space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub u32);

impl Shard {
    /// The shard of a stream when there are `shards` of them (at least 1): the hash space is cut
    /// into equal ranges, so doubling `shards` splits each in two.
    pub fn of(stream: StreamId, shards: u32) -> Shard {
        let high = (stream.0 >> 96) as u64;
        Shard(((high * u64::from(shards.max(1))) >> 32) as u32)
    }
}

/// A short interval of arrival time, numbered from 1970: slot n covers `[n * length, (n+1) * length)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub i64);

/// How long a slot is, nanoseconds; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLength(pub i64);

impl SlotLength {
    /// Two minutes, the default.
    pub const DEFAULT: SlotLength = SlotLength(120 * 1_000_000_000);

    /// The slot in which something that arrives at `now` is filed.
    pub fn slot_at(self, now: Timestamp) -> Slot {
        Slot(now.div_euclid(self.0.max(1)))
    }

    /// First nanosecond after the slot.
    pub fn end_of(self, slot: Slot) -> Timestamp {
        slot.0.saturating_add(1).saturating_mul(self.0.max(1))
    }
}

/// A process of the cluster, by the number that the coordinator gave it; never used again, so a
/// process whose disk is gone comes back under another. Ingesters' heads are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// Which set of owners is meant: grows by one whenever an ingester starts or ends taking batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingVersion(pub u64);

/// What the owners of a batch file it under: all owners of a shard under one ring version have the
/// same batches of a slot, but for those that a fault kept from one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeadKey {
    /// The shard of its streams.
    pub shard: Shard,
    /// When it arrived.
    pub slot: Slot,
    /// By which ring its owners were chosen.
    pub ring: RingVersion,
}

/// One head of one owner, ever: the catalog names the heads that a flushed segment covers, and WAL
/// records name the head that they feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeadId {
    /// The ingester, by the id that its data folder was given when it was made.
    pub ingester: u64,
    /// Counts the heads of that ingester from 1; never used again, not even after a restart.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_equal_ranges_of_the_hash_space() {
        assert_eq!(Shard::of(StreamId(0), 4), Shard(0));
        assert_eq!(Shard::of(StreamId(u128::MAX), 4), Shard(3));
        assert_eq!(Shard::of(StreamId(1 << 127), 4), Shard(2));
        assert_eq!(Shard::of(StreamId(u128::MAX), 1), Shard(0));
    }

    #[test]
    fn slots_tile_time_also_before_1970() {
        let length = SlotLength(10);
        assert_eq!(length.slot_at(0), Slot(0));
        assert_eq!(length.slot_at(9), Slot(0));
        assert_eq!(length.slot_at(10), Slot(1));
        assert_eq!(length.slot_at(-1), Slot(-1));
        assert_eq!(length.end_of(Slot(-1)), 0);
    }
}
