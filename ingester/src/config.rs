use std::path::PathBuf;
use std::time::Duration;

use model::SlotLength;

use crate::Error;

/// What an ingester may be told. Memory: heads hold at most `memory_bytes_max` plus one request;
/// requests that wait for room at most a quarter of it; one flush worker encodes one head of at
/// most `head_bytes_max` (plus one request) at a time.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the WAL (`wal/`) and of unfinished merges (`tmp/`). Made when missing.
    pub data_dir: PathBuf,
    /// Length of a slot; the distributor's must be the same.
    pub slot_length: SlotLength,
    /// How long after its slot's end a head is still open.
    pub slot_grace: Duration,
    /// A head that reaches this many bytes is flushed at once; the next batch opens another.
    pub head_bytes_max: usize,
    /// Bytes of all heads. From half of it on the largest head is flushed early; at the whole of it
    /// requests wait.
    pub memory_bytes_max: usize,
    /// How long a request waits for room before it is refused with a time to try again.
    pub room_wait: Duration,
    /// A WAL file that has reached this many bytes is followed by another.
    pub wal_file_bytes_max: u64,
    /// Heads that are encoded and uploaded at the same time.
    pub flush_workers: usize,
    /// How long each owner of a shard waits for the one before it to flush a slot that is over.
    pub takeover_delay: Duration,
    /// How long another owner may take to answer; it is then flushed without, and left alone for
    /// three times as long.
    pub owner_timeout: Duration,
    /// For how long a job that one ingester at a time does is taken; it is renewed well before.
    pub lease_duration: Duration,
    /// How to merge.
    pub merge: MergeConfig,
    /// Records older than this are dropped, unless their tenant has a setting of its own; zero
    /// keeps them for ever.
    pub retention: Duration,
    /// How long an object that is no longer in the catalog is kept for queries that still read it.
    pub delete_grace: Duration,
    /// Objects that no catalog entry names are removed when they are older than this: longer than
    /// any upload takes.
    pub orphan_age: Duration,
    /// For how long a batch that some owners have may be on its way to another. Delete requests of a
    /// cluster stay active so long at least after the last flush that may have brought records of
    /// theirs: once one is finished, such records would be shown again.
    pub late_copies: Duration,
}

/// When segments are merged.
#[derive(Clone, Debug)]
pub struct MergeConfig {
    /// Whether merging, retention and deletion run by themselves; without it only on request.
    pub enabled: bool,
    /// How often to look for work.
    pub interval: Duration,
    /// So many segments of one day and of about the same size are merged into one; at least 2.
    pub inputs_min: usize,
    /// At most so many at once.
    pub inputs_max: usize,
    /// While `inputs_min` of one day and size come in within `interval`, merging them waits until so
    /// many lie there; 0 never waits.
    pub backlog_max: usize,
    /// On request, segments from this size on are left alone.
    pub small_bytes_max: u64,
    /// A merged segment is planned to be at most this large.
    pub object_bytes_max: u64,
}

/// An object must be named within half of `orphan_age`: 30 s for storing it and for the commit.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(60);

impl Config {
    /// A distributor asks for 15 s by default, goes on for 10 s after it has its quorum, and a call may
    /// take 30 s.
    pub const LATE_COPIES: Duration = Duration::from_secs(60);

    /// # Errors
    /// `Config` names the setting that cannot work.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let positive = [
            ("head_bytes_max", self.head_bytes_max > 0),
            ("head_memory_bytes_max", self.memory_bytes_max > 0),
            ("flush_workers", self.flush_workers > 0),
            ("slot_duration", self.slot_length.0 > 0),
            ("wal_file_bytes_max", self.wal_file_bytes_max > 0),
            ("merge_interval", !self.merge.interval.is_zero()),
            ("owner_timeout", !self.owner_timeout.is_zero()),
            ("lease_duration", !self.lease_duration.is_zero()),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, positive)| !positive) {
            return Err(Error::Config(format!("{name} is 0; set it to at least 1")));
        }
        if self.orphan_age < ORPHAN_AGE_MIN {
            return Err(Error::Config(format!(
                "orphan_age is {:?}; set it to at least {ORPHAN_AGE_MIN:?}: what takes half of it to be stored and named is stored again",
                self.orphan_age
            )));
        }
        if self.merge.inputs_min < 2 || self.merge.inputs_max < self.merge.inputs_min {
            return Err(Error::Config(format!(
                "merge_inputs_min is {} and merge_inputs_max {}; want 2 <= merge_inputs_min <= merge_inputs_max",
                self.merge.inputs_min, self.merge.inputs_max
            )));
        }
        Ok(())
    }
}

/// A duration as nanoseconds, at most what a timestamp holds.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_of_orphans_within_which_nothing_can_be_stored_is_refused() {
        let refused = |orphan_age| {
            let config = Config {
                orphan_age,
                ..Config::default()
            };
            config.validate().map_err(|error| error.to_string()).err()
        };
        let text = refused(Duration::ZERO).unwrap();
        assert!(
            text.starts_with("orphan_age is 0ns; set it to at least 60s"),
            "{text}"
        );
        assert!(refused(Duration::from_millis(59_999)).is_some());
        assert_eq!(refused(Duration::from_secs(60)), None);
    }
}
