//! What taking logs costs before anything is stored: `decode FOLDER [ROUNDS]` pushes every file of
//! the folder (snappy Loki push bodies) through a distributor whose ingester only counts, and
//! prints lines and the CPU time per line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use distributor::{Config, Distributor, Limits, Metrics, Sources, http_router};
use rpc::{Error, IngestApi, IngestRequest};
use tower::ServiceExt;

#[derive(Default)]
struct Count(AtomicU64);

#[async_trait::async_trait]
impl IngestApi for Count {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        for request in requests {
            let records = request.batch.len() as u64;
            self.0.fetch_add(records, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// User and system time of this process, seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| {
        let text = after_name.split_whitespace().nth(n);
        text.and_then(|text| text.parse::<f64>().ok())
    };
    let ticks = field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0);
    ticks / 100.0
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: decode FOLDER [ROUNDS]")?;
    let rounds: u32 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let mut bodies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sz") {
            bodies.push(bytes::Bytes::from(std::fs::read(path)?));
        }
    }
    let count = Arc::new(Count::default());
    let config = Config {
        limits: Limits {
            creation_grace_nanos: 0,
            ..Limits::default()
        },
        ..Config::default()
    };
    let distributor = Distributor::new(
        config,
        Arc::clone(&count) as Arc<dyn IngestApi>,
        Sources::new(Arc::new(|| 0)),
        Metrics::new(&prometheus::Registry::new())?,
    );
    let router = http_router(distributor);
    let before = cpu_seconds();
    for _ in 0..rounds {
        for body in &bodies {
            let request = Request::post("/loki/api/v1/push")
                .header("content-type", "application/x-protobuf")
                .body(Body::from(body.clone()))?;
            let status = router.clone().oneshot(request).await?.status();
            if status != StatusCode::NO_CONTENT {
                return Err(format!("a push was answered with {status}").into());
            }
        }
    }
    let spent = cpu_seconds() - before;
    let lines = count.0.load(Ordering::Relaxed);
    println!(
        "{lines} lines, {spent:.2} CPU s, {:.3} CPU microseconds per line",
        spent * 1e6 / lines.max(1) as f64
    );
    Ok(())
}
