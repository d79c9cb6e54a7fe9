//! What it costs to take a request in, before anything is stored: `make bench-micro`, or
//! `cargo bench -p distributor`.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with a panic")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use distributor::{Config, Distributor, Limits, Metrics, Sources, http_router};
use divan::Bencher;
use divan::counter::ItemsCount;
use rpc::{Error, IngestApi, IngestRequest};
use tower::ServiceExt;

const LINES: usize = 8000;

/// An ingester that keeps nothing.
struct Nowhere;

#[async_trait::async_trait]
impl IngestApi for Nowhere {
    async fn ingest(&self, _: Vec<IngestRequest>) -> Result<(), Error> {
        Ok(())
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn main() {
    divan::main();
}

fn distributor() -> Distributor {
    let config = Config {
        limits: Limits {
            creation_grace_nanos: 0,
            ..Limits::default()
        },
        ..Config::default()
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    Distributor::new(
        config,
        Arc::new(Nowhere),
        Sources::new(Arc::new(|| 1_790_000_000_000_000_000)),
        metrics,
    )
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A Loki push of so many streams.
fn loki_body(streams: usize) -> Bytes {
    // 2026-09-21, as seconds of a protobuf timestamp.
    let at = field(1, &[0x08, 0x80, 0x9f, 0xc5, 0xd5, 0x06]);
    let mut body = Vec::new();
    for stream in 0..streams {
        let labels = format!("{{app=\"shop\", cluster=\"eu-1\", pod=\"shop-{stream}\"}}");
        let mut content = field(1, labels.as_bytes());
        for line in 0..LINES / streams {
            let line = format!("GET /api/v1/items/{line} 200 in {stream} ms, client 10.0.3.{line}");
            let entry = [at.clone(), field(2, line.as_bytes())].concat();
            content.extend_from_slice(&field(2, &entry));
        }
        body.extend_from_slice(&field(1, &content));
    }
    snap::raw::Encoder::new()
        .compress_vec(&body)
        .unwrap()
        .into()
}

/// Decompression, decoding, checks, sorting by shard; lines per second.
#[divan::bench(args = [1, 100, 4000])]
fn loki_push(bencher: Bencher<'_, '_>, streams: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let router = http_router(distributor());
    let body = loki_body(streams);
    let once = || {
        let request = Request::post("/loki/api/v1/push")
            .header("content-type", "application/x-protobuf")
            .body(Body::from(body.clone()));
        let answer = runtime.block_on(router.clone().oneshot(request.unwrap()));
        assert_eq!(answer.unwrap().status(), StatusCode::NO_CONTENT);
    };
    bencher.counter(ItemsCount::new(LINES)).bench_local(once);
}
