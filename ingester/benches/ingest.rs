//! What it costs to keep a batch: the log with its fdatasync on a real file, and the flush:
//! `make bench-micro`, or `cargo bench -p ingester`.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ingester::{Config, Deps, Ingester, Metrics};
use meta::MemoryMeta;
use model::{
    BatchId, Labels, LogBatch, LogBatchBuilder, NodeId, RingVersion, Shard, Signal, Slot, StreamId,
    TenantId,
};
use rpc::{IngestApi, IngestRequest};
use store::ObjectStorage;
use tokio::runtime::Runtime;

const ROWS: usize = 8000;
const HEAD_BATCHES: usize = 10;

fn main() {
    divan::main();
}

/// An ingester with its log in a folder of the temporary directory.
struct Bench {
    runtime: Runtime,
    ingester: Ingester,
    /// Different ones, for copies of a record are dropped.
    batches: Vec<Arc<LogBatch>>,
    next: AtomicU64,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::TempDir::new().unwrap();
        let runtime = Runtime::new().unwrap();
        let mut config = Config {
            data_dir: folder.path().to_owned(),
            ..Config::default()
        };
        config.merge.enabled = false;
        let deps = Deps {
            cluster: "c1".into(),
            node: NodeId(1),
            storage: ObjectStorage::in_memory(),
            meta: Arc::new(MemoryMeta::default()),
            network: None,
            clock: Arc::new(|| 0),
            metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
            storage_clock: None,
            log_files: None,
            blocking: runtime::Blocking::threads(),
        };
        let ingester = runtime.block_on(Ingester::start(config, deps)).unwrap();
        Bench {
            runtime,
            ingester,
            batches: (0..HEAD_BATCHES).map(batch).collect(),
            next: AtomicU64::new(0),
            _folder: folder,
        }
    }

    /// So many batches at once, each in its own request; returns when all are safe.
    fn ingest(&self, batches: usize) {
        let requests = (0..batches).map(|_| {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let request = IngestRequest {
                batch_id: BatchId(id.into()),
                shard: Shard(0),
                slot: Slot(0),
                ring: RingVersion(1),
                batch: Arc::clone(&self.batches[id as usize % HEAD_BATCHES]),
            };
            self.ingester.ingest(vec![request])
        });
        let requests: Vec<_> = requests.collect();
        self.runtime.block_on(async {
            for request in requests {
                request.await.unwrap();
            }
        });
    }
}

fn batch(number: usize) -> Arc<LogBatch> {
    let tenant = TenantId::default();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    for stream in 0..100 {
        let labels = Labels::new([("app", "shop"), ("pod", &format!("shop-{stream}"))]);
        let labels = Arc::new(labels.unwrap());
        builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
        for row in 0..ROWS / 100 {
            let line = format!("GET /items/{row} 200 in {stream} ms, client 10.0.{stream}.{row}");
            let at = (number * ROWS + row) as i64;
            builder.push(at, line.as_bytes(), &mut []);
        }
    }
    Arc::new(builder.finish())
}

/// From the request to its acknowledgement, one after the other: each waits for its own fdatasync.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn append(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let bytes = bench.batches[0].content_bytes();
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| bench.ingest(1));
}

/// A head of several batches to a committed segment in memory.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn flush(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher
        .counter(ItemsCount::new(HEAD_BATCHES * ROWS))
        .with_inputs(|| bench.ingest(HEAD_BATCHES))
        .bench_local_values(|()| bench.runtime.block_on(bench.ingester.flush()).unwrap());
}
