use std::path::PathBuf;
use std::time::Duration;

use model::SlotLength;
use runtime::{ByteText, DurationText};

use crate::{Config, MergeConfig};

runtime::options! {
    /// What an operator may decide about an ingester.
    pub struct Settings / Options {
        /// How long after its slot's end a head still takes batches.
        slot_grace: Duration as DurationText = "10s",
        /// A head that reaches this size is flushed at once; the next batch opens another.
        head_bytes_max: usize as ByteText = "32MiB",
        /// Size of all heads together. From half of it on the largest head is flushed early; at the whole of it
        /// requests wait, and are then answered 429.
        head_memory_bytes_max: usize as ByteText = "64MiB",
        /// How long a request waits for room before it is answered 429.
        room_wait: Duration as DurationText = "2s",
        /// A file of the write-ahead log that has reached this size is followed by another.
        wal_file_bytes_max: u64 as ByteText = "64MiB",
        /// Heads that are encoded and uploaded at the same time.
        flush_workers: usize = "1",
        /// How long each owner of a shard waits for the one before it to flush a slot that is over.
        takeover_delay: Duration as DurationText = "30s",
        /// How long another owner of a shard may take to answer before a flush goes on without it.
        owner_timeout: Duration as DurationText = "5s",
        /// For how long an ingester takes a merge or another job that one at a time does; it renews it while it works.
        /// When it dies, another may do the job after this.
        lease_duration: Duration as DurationText = "60s",
        /// Whether merging, retention and deletion run by themselves; without it only on request.
        merge_enabled: bool = "true",
        /// How often to look for segments to merge, expire or delete.
        merge_interval: Duration as DurationText = "10s",
        /// So many segments of one day and of about the same size are merged into one; at least 2.
        merge_inputs_min: usize = "8",
        /// At most so many segments are merged at once. Each takes about 5 MB of memory meanwhile.
        merge_inputs_max: usize = "16",
        /// While `merge_inputs_min` segments of one day and size come in within `merge_interval`, merging them waits until so
        /// many lie there, so that a burst has the processors for itself; 0 never waits. Queries read that many more.
        merge_backlog_max: usize = "128",
        /// A merge on request leaves segments of this size alone.
        merge_small_bytes_max: u64 as ByteText = "64MiB",
        /// A merged segment is planned to be at most this large.
        merge_object_bytes_max: u64 as ByteText = "1GiB",
        /// How long an object that is no longer in the catalog is kept for queries that still read it.
        delete_grace: Duration as DurationText = "10m",
        /// Objects that no catalog entry names are removed when they are older than this, which must be longer than
        /// any upload takes, and `1m` at least.
        orphan_age: Duration as DurationText = "1h",
    }
}

impl Settings {
    /// With what the process decides, or shares with other roles.
    pub fn config(self, data_dir: PathBuf, slot_length: SlotLength, retention: Duration) -> Config {
        Config {
            data_dir,
            slot_length,
            slot_grace: self.slot_grace,
            head_bytes_max: self.head_bytes_max,
            memory_bytes_max: self.head_memory_bytes_max,
            room_wait: self.room_wait,
            wal_file_bytes_max: self.wal_file_bytes_max,
            flush_workers: self.flush_workers,
            takeover_delay: self.takeover_delay,
            owner_timeout: self.owner_timeout,
            lease_duration: self.lease_duration,
            merge: MergeConfig {
                enabled: self.merge_enabled,
                interval: self.merge_interval,
                inputs_min: self.merge_inputs_min,
                inputs_max: self.merge_inputs_max,
                backlog_max: self.merge_backlog_max,
                small_bytes_max: self.merge_small_bytes_max,
                object_bytes_max: self.merge_object_bytes_max,
            },
            retention,
            delete_grace: self.delete_grace,
            orphan_age: self.orphan_age,
            late_copies: Config::LATE_COPIES,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Settings::default().config(PathBuf::from("./data"), SlotLength::DEFAULT, Duration::ZERO)
    }
}

impl Default for MergeConfig {
    fn default() -> Self {
        Config::default().merge
    }
}
