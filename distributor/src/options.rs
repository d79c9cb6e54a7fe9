use model::SlotLength;
use runtime::{ByteText, DurationText};

use crate::cluster::LATEST_CALL;
use crate::config::record_bytes_max;
use crate::{ClusterConfig, Config, Limits};

runtime::options! {
    /// What an operator may decide about a distributor.
    pub struct Settings / Options {
        /// Largest request body taken, as it is sent.
        body_bytes_max: usize as ByteText = "32MiB",
        /// Largest request body taken, once decompressed.
        decompressed_bytes_max: usize as ByteText = "64MiB",
        /// How many bodies are decoded at once; the others wait. Each needs its decompressed size.
        decoders_max: usize = "4",
        /// Bodies that wait to be decoded, all together; requests beyond are told to come later.
        waiting_bytes_max: usize as ByteText = "64MiB",
        /// Decoded batches that are being stored, all together; decoding waits beyond.
        unstored_bytes_max: usize as ByteText = "64MiB",
        /// Most labels of a stream; `service_name` does not count.
        label_names_max: usize = "15",
        /// Longest label name.
        label_name_bytes_max: usize as ByteText = "1024",
        /// Longest label value.
        label_value_bytes_max: usize as ByteText = "2048",
        /// Labels from which a stream without `service_name` gets it, the first that is there, else
        /// `unknown_service`; empty adds none.
        discover_service_name: String = "service,app,application,app_name,name,app_kubernetes_io_name,container,container_name,k8s_container_name,component,workload,job,k8s_job_name",
        /// Longest line.
        line_bytes_max: usize as ByteText = "256KiB",
        /// Most structured metadata of a record, names and values together.
        metadata_bytes_max: usize as ByteText = "64KiB",
        /// Most structured metadata pairs of a record.
        metadata_pairs_max: usize = "128",
        /// Records may be at most this much newer than the clock; 0 takes any time.
        creation_grace: i64 as DurationText = "10m",
        /// Records may be at most this old; 0 takes any age.
        record_age_max: i64 as DurationText = "0",
        /// How long to wait for a quorum of the owners of each record before the request is refused.
        ingest_patience: std::time::Duration as DurationText = "15s",
        /// Batches that a quorum has and that are still on their way to other owners, all together; beyond, those owners fetch
        /// them when they flush.
        late_bytes_max: usize as ByteText = "64MiB",
        /// Bytes of lines and metadata per second and tenant, on average, divided among all distributors; 0 is no limit.
        rate_bytes_per_second: u64 as ByteText = "0",
        /// Bytes that a tenant may send at once beyond the average; no request can be larger.
        rate_burst_bytes: u64 as ByteText = "64MiB",
        /// Bytes of lines and metadata per second that one shard gets of one stream from this process; a stream that gets more
        /// is spread over several shards. 0 keeps each stream in its shard.
        shard_stream_bytes_per_second: u64 as ByteText = "8MiB",
    }
}

impl Settings {
    /// Labels from which a stream gets its `service_name`, the first that is there.
    pub fn service_labels(&self) -> Vec<String> {
        names(&self.discover_service_name)
    }

    /// What the records of one request may weigh at most once decoded, bytes: an owner may get all of
    /// them in one call.
    pub fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.decompressed_bytes_max)
    }

    /// How long after a request was taken its last copy may arrive at an owner.
    pub fn last_copy_after(&self) -> std::time::Duration {
        self.ingest_patience.saturating_add(LATEST_CALL)
    }

    /// How batches are sent to their owners.
    pub fn cluster(&self) -> ClusterConfig {
        ClusterConfig {
            patience: self.ingest_patience,
            late_bytes_max: self.late_bytes_max,
        }
    }

    /// With what all roles of a cluster have in common: the slot.
    pub fn config(self, slot_length: SlotLength) -> Config {
        Config {
            slot_length,
            body_bytes_max: self.body_bytes_max,
            decompressed_bytes_max: self.decompressed_bytes_max,
            decoders_max: self.decoders_max,
            waiting_bytes_max: self.waiting_bytes_max,
            unstored_bytes_max: self.unstored_bytes_max,
            limits: Limits {
                service_labels: names(&self.discover_service_name),
                label_names_max: self.label_names_max,
                label_name_bytes_max: self.label_name_bytes_max,
                label_value_bytes_max: self.label_value_bytes_max,
                line_bytes_max: self.line_bytes_max,
                metadata_bytes_max: self.metadata_bytes_max,
                metadata_pairs_max: self.metadata_pairs_max,
                creation_grace_nanos: self.creation_grace,
                record_age_nanos_max: self.record_age_max,
                rate_bytes_per_second: self.rate_bytes_per_second,
                rate_burst_bytes: self.rate_burst_bytes,
                shard_stream_bytes_per_second: self.shard_stream_bytes_per_second,
            },
        }
    }
}

fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Default for Config {
    fn default() -> Self {
        Settings::default().config(SlotLength::DEFAULT)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Config::default().limits
    }
}

#[cfg(test)]
mod tests {
    use model::NANOS_PER_SECOND;

    use super::*;

    #[test]
    fn defaults_are_lokis_but_for_the_age_of_records() {
        let limits = Limits::default();
        assert_eq!(limits.line_bytes_max, 262_144);
        assert_eq!(limits.creation_grace_nanos, 600 * NANOS_PER_SECOND);
        assert_eq!(limits.record_age_nanos_max, 0);
        assert_eq!(limits.service_labels.len(), 13);
    }
}
