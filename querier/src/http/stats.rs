//! The `stats` of an answer, in the shape that Loki's clients read.

use std::sync::atomic::{AtomicU64, Ordering};

use query::ScanStats;

use super::json::Json;
use crate::run::Effort;

/// Writes the object. What Loki counts and Pharos does not have (caches of results, index gateways)
/// is there with zeros, because clients take the names for granted.
pub(super) fn write(json: &mut Json, scan: &ScanStats, effort: &Effort, returned: u64) {
    let tally = &effort.tally;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let exec_seconds = effort.exec_nanos as f64 / 1e9;
    let per_second = |total: u64| match effort.exec_nanos {
        nanos if nanos > 0 => (total as f64 / exec_seconds) as u64,
        _ => 0,
    };
    json.object(|json| {
        json.key("summary").object(|json| {
            for (name, value) in [
                ("bytesProcessedPerSecond", per_second(scan.bytes_processed)),
                ("linesProcessedPerSecond", per_second(scan.rows_processed)),
                ("totalBytesProcessed", scan.bytes_processed),
                ("totalLinesProcessed", scan.rows_processed),
            ] {
                json.key(name).int(value);
            }
            json.key("execTime").float(exec_seconds);
            json.key("queueTime").float(effort.queue_nanos as f64 / 1e9);
            for (name, value) in [
                ("subqueries", 0),
                ("totalEntriesReturned", returned),
                ("splits", 0),
                ("shards", 0),
                ("totalPostFilterLines", scan.rows_matched),
                ("totalStructuredMetadataBytesProcessed", 0),
            ] {
                json.key(name).int(value);
            }
        });
        let head_matched = get(&tally.head_rows_matched);
        json.key("querier").object(|json| {
            let store = Store {
                chunks_seen: get(&tally.chunks) + scan.chunks_skipped,
                chunks: get(&tally.chunks),
                read_nanos: get(&tally.read_nanos),
                bytes: get(&tally.chunk_bytes),
                lines: get(&tally.chunk_rows),
                compressed: scan.bytes_read,
                duplicates: scan.duplicates,
                matched: scan.rows_matched.saturating_sub(head_matched),
                ..Store::default()
            };
            store.write(json.key("store"));
            json.key("querierExecTime").float(exec_seconds);
        });
        json.key("ingester").object(|json| {
            json.key("totalReached")
                .int(u64::from(get(&tally.head_batches) > 0));
            json.key("totalChunksMatched").int(get(&tally.head_batches));
            json.key("totalBatches").int(get(&tally.head_batches));
            json.key("totalLinesSent").int(head_matched);
            let store = Store {
                head_bytes: get(&tally.head_bytes),
                head_lines: get(&tally.head_rows),
                matched: head_matched,
                ..Store::default()
            };
            store.write(json.key("store"));
            json.key("recvWaitTime").int(0);
        });
        caches(json.key("cache"));
        index(json.key("index"), scan);
    });
}

fn index(json: &mut Json, scan: &ScanStats) {
    json.object(|json| {
        json.key("totalChunks")
            .int(scan.chunks + scan.chunks_skipped);
        json.key("postFilterChunks").int(scan.chunks);
        json.key("shardsDuration").int(0);
        json.key("usedBloomFilters").raw("false");
        for name in ["totalStreams", "chunkRefsLookupTime", "bloomFilterTime"] {
            json.key(name).int(0);
        }
    });
}

#[derive(Default)]
struct Store {
    chunks_seen: u64,
    chunks: u64,
    read_nanos: u64,
    head_bytes: u64,
    head_lines: u64,
    bytes: u64,
    lines: u64,
    compressed: u64,
    duplicates: u64,
    matched: u64,
}

impl Store {
    fn write(&self, json: &mut Json) {
        json.object(|json| {
            json.key("totalChunksRef").int(self.chunks_seen);
            json.key("totalChunksDownloaded").int(self.chunks);
            json.key("chunksDownloadTime").int(self.read_nanos);
            json.key("queryReferencedStructuredMetadata").raw("false");
            json.key("queryUsedV2Engine").raw("false");
            json.key("chunk").object(|json| {
                for (name, value) in [
                    ("headChunkBytes", self.head_bytes),
                    ("headChunkLines", self.head_lines),
                    ("decompressedBytes", self.bytes),
                    ("decompressedLines", self.lines),
                    ("compressedBytes", self.compressed),
                    ("totalDuplicates", self.duplicates),
                    ("postFilterLines", self.matched),
                    ("headChunkStructuredMetadataBytes", 0),
                    ("decompressedStructuredMetadataBytes", 0),
                ] {
                    json.key(name).int(value);
                }
            });
            for name in [
                "chunkRefsFetchTime",
                "congestionControlLatency",
                "pipelineWrapperFilteredLines",
            ] {
                json.key(name).int(0);
            }
            zeros(json.key("dataobj"), &DATA_OBJECTS);
        });
    }
}

fn caches(json: &mut Json) {
    json.object(|json| {
        for cache in [
            "chunk",
            "index",
            "result",
            "statsResult",
            "volumeResult",
            "seriesResult",
            "labelResult",
            "instantMetricResult",
        ] {
            zeros(json.key(cache), &CACHE);
        }
    });
}

/// What Loki counts of each cache.
const CACHE: [&str; 8] = [
    "entriesFound",
    "entriesRequested",
    "entriesStored",
    "bytesReceived",
    "bytesSent",
    "requests",
    "downloadTime",
    "queryLengthServed",
];

/// What Loki counts of its columnar storage.
const DATA_OBJECTS: [&str; 13] = [
    "prePredicateDecompressedRows",
    "prePredicateDecompressedBytes",
    "prePredicateDecompressedStructuredMetadataBytes",
    "postPredicateRows",
    "postPredicateDecompressedBytes",
    "postPredicateStructuredMetadataBytes",
    "postFilterRows",
    "pagesScanned",
    "pagesDownloaded",
    "pagesDownloadedBytes",
    "pageBatches",
    "totalRowsAvailable",
    "totalPageDownloadTime",
];

fn zeros(json: &mut Json, names: &[&str]) {
    json.object(|json| {
        for name in names {
            json.key(name).int(0);
        }
    });
}
