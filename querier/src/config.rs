use std::time::Duration;

use runtime::{ByteText, DurationText};

runtime::options! {
    /// What an operator may decide about queries.
    pub struct Config / Options {
        /// Queries that run at once; more wait in line, tenant by tenant.
        queries_max: usize = "16",
        /// Queries of one tenant that may wait in line; more are answered 429.
        queries_waiting_max: usize = "100",
        /// Threads that one query decodes with; 0 takes the number of cores.
        query_workers: usize = "0",
        /// Bytes of segments (as stored) that a query must have to read before other queriers do shares of it; 0 keeps every query in the querier that was asked.
        query_spread_bytes: u64 as ByteText = "64MiB",
        /// A query that takes longer is answered 504.
        query_timeout: Duration as DurationText = "60s",
        /// Bytes that one query may hold; 0 means no limit.
        query_memory_bytes_max: u64 as ByteText = "512MiB",
        /// Records that one query may look at; 0 means no limit.
        query_rows_max: u64 = "0",
        /// Log entries that one query may ask for.
        entries_max: u64 = "5000",
        /// Series that one query may return.
        series_max: usize = "500",
        /// Whether records without a `detected_level` show one that is found in their level fields
        /// or lines, as in Loki.
        discover_log_levels: bool = "true",
        /// Whether the points of a metric query lie at multiples of its `step`, those around `start` and `end` with them, as a
        /// Loki shows them that splits queries (`split_queries_by_interval`, its default): graphs then stay as they are when
        /// they are asked for again a little later. Off, points begin at `start`, as in Prometheus and in Loki's engine.
        query_align_steps: bool = "false",
        /// Longest time range of a query, that of `[..]` included; zero means no limit.
        query_length_max: Duration as DurationText = "0",
        /// Bytes of opened segments (their footers) kept in memory; the one used last is kept whatever its size.
        segment_cache_bytes: u64 as ByteText = "256MiB",
        /// Object reads that one query has under way at once.
        query_reads_max: usize = "32",
        /// Open tail connections of one tenant.
        tails_max: usize = "10",
        /// A tail connection is closed after this time.
        tail_duration_max: Duration as DurationText = "1h",
        /// Entries kept for a tail client that reads slowly; older ones are dropped, and it is told.
        tail_entries_max: usize = "10000",
        /// Alertmanagers that are told of alerts, with commas between: URLs such as `http://alertmanager:9093`, without
        /// `/api/v2/alerts`. Empty: nobody is told.
        alertmanager_url: String = "",
        /// Where recording rules write to: the URL of a Prometheus remote write endpoint. Empty: groups with recording
        /// rules are refused, since this server stores no metrics.
        rules_remote_write_url: String = "",
        /// Where people reach this server or its Grafana: links in alerts begin with it.
        rules_external_url: String = "",
        /// How often rule groups are evaluated that do not say it.
        rules_interval: Duration as DurationText = "1m",
        /// How often Alertmanagers are told again of an alert.
        rules_resend_delay: Duration as DurationText = "1m",
        /// Rule groups of one tenant; 0 means no limit.
        rules_groups_max: usize = "0",
        /// Rules of one group; 0 means no limit.
        rules_per_group_max: usize = "0",
        /// Rule groups that are evaluated at once.
        rules_groups_at_once: usize = "4",
        /// After so long another querier evaluates the rules when the one that did is gone.
        rules_lease: Duration as DurationText = "30s",
    }
}
