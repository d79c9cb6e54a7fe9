/// Settings of the distributor.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long a slot is, nanoseconds.
    pub slot_length: model::SlotLength,
    /// Largest body taken, as it is sent (compressed), bytes.
    pub body_bytes_max: usize,
    /// Largest body taken, once decompressed, bytes.
    pub decompressed_bytes_max: usize,
    /// How many bodies are decoded at once; the others wait. Each needs its decompressed size.
    pub decoders_max: usize,
    /// Bodies that wait to be decoded, all together, bytes; requests beyond get 429.
    pub waiting_bytes_max: usize,
    /// Decoded batches on their way to the owners, all together, bytes; decoding waits beyond.
    pub unstored_bytes_max: usize,
    /// What a tenant may send.
    pub limits: Limits,
}

impl Config {
    pub(crate) fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.decompressed_bytes_max)
    }
}

/// What the records of one request may weigh once decoded, bytes. Senders may repeat in few
/// bytes what takes many: resource attributes, which every record has, and empty records.
pub(crate) fn record_bytes_max(decompressed_bytes_max: usize) -> usize {
    decompressed_bytes_max.saturating_mul(2)
}

/// What a tenant may send. The defaults are Loki's, but for the age of records.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most labels of a stream; an added or sent `service_name` does not count.
    pub label_names_max: usize,
    /// Labels from which the name of a stream's service is taken, the first that is there; empty =
    /// no `service_name` is added.
    pub service_labels: Vec<String>,
    /// Longest label name, bytes.
    pub label_name_bytes_max: usize,
    /// Longest label value, bytes.
    pub label_value_bytes_max: usize,
    /// Longest line, bytes.
    pub line_bytes_max: usize,
    /// Most structured metadata of a record, names and values together, bytes.
    pub metadata_bytes_max: usize,
    /// Most structured metadata pairs of a record.
    pub metadata_pairs_max: usize,
    /// Records may be at most this much newer than the clock, nanoseconds; 0 = any time is taken.
    pub creation_grace_nanos: i64,
    /// Records may be at most this old, nanoseconds; 0 = any age is taken, also the year 1970.
    pub record_age_nanos_max: i64,
    /// Bytes of lines and metadata per second and tenant, on average, of all distributors together;
    /// 0 = no limit.
    pub rate_bytes_per_second: u64,
    /// Bytes that a tenant may send at once beyond the average; a single request can never be
    /// larger.
    pub rate_burst_bytes: u64,
    /// Bytes of lines and metadata per second that one shard gets of one stream; a stream that gets
    /// more is spread over as many shards as it needs. 0 = each stream stays in its shard.
    pub shard_stream_bytes_per_second: u64,
}
