use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use distributor::{Config, Distributor, Limits, Metrics, Sources, http_router};
use http_body_util::BodyExt;
use model::BatchId;
use rpc::{Error, IngestApi, IngestRequest};
use tower::ServiceExt;

/// 2023-11-14T22:13:20Z.
pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;

/// An ingester that keeps what it is given, or fails as it is told.
#[derive(Default)]
pub(crate) struct FakeIngest {
    pub(crate) requests: Mutex<Vec<IngestRequest>>,
    pub(crate) fail: Mutex<Option<Error>>,
    /// Nothing is stored while a test holds it.
    pub(crate) hold: tokio::sync::Mutex<()>,
}

#[async_trait::async_trait]
impl IngestApi for FakeIngest {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        if let Some(error) = self.fail.lock().unwrap().clone() {
            return Err(error);
        }
        let _held = self.hold.lock().await;
        self.requests.lock().unwrap().extend(requests);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A distributor over a fake ingester; the clock stands at [`NOW`].
pub(crate) struct Fixture {
    pub(crate) ingest: Arc<FakeIngest>,
    pub(crate) distributor: Distributor,
    pub(crate) registry: prometheus::Registry,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|config| change(&mut config.limits))
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let ingest = Arc::new(FakeIngest::default());
        let registry = prometheus::Registry::new();
        let last = Mutex::new(0);
        let sources = Sources {
            now: Arc::new(|| NOW),
            batch_id: Arc::new(move || {
                let mut last = last.lock().unwrap();
                *last += 1;
                BatchId(*last)
            }),
            seed: 7,
            distributors: Arc::new(|| 1),
            shards: Arc::new(|| 4),
        };
        let distributor = Distributor::new(
            config,
            Arc::clone(&ingest) as Arc<dyn IngestApi>,
            sources,
            Metrics::new(&registry).unwrap(),
        );
        Fixture {
            ingest,
            distributor,
            registry,
        }
    }

    pub(crate) fn fail_with(&self, error: Error) {
        *self.ingest.fail.lock().unwrap() = Some(error);
    }

    pub(crate) fn router(&self) -> Router {
        http_router(self.distributor.clone())
    }

    /// Posts the body and gives back the answer with its body as bytes.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (StatusCode, Response<()>, Vec<u8>) {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status, Response::from_parts(parts, ()), body)
    }

    /// Every record that was stored: tenant, labels, time, line, metadata; sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let mut stored = Vec::new();
        for request in self.ingest.requests.lock().unwrap().iter() {
            let batch = &request.batch;
            for stream in &batch.streams {
                for row in stream.rows.clone() {
                    let row = batch.row(row as usize);
                    let line = String::from_utf8(row.line().to_vec()).unwrap();
                    let metadata: Vec<String> = row
                        .metadata()
                        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
                        .collect();
                    stored.push(format!(
                        "{} {} {} {line} [{}]",
                        batch.tenant,
                        stream.labels,
                        row.timestamp(),
                        metadata.join(" ")
                    ));
                }
            }
        }
        stored.sort();
        stored
    }

    /// The value of a counter, by name and label value.
    pub(crate) fn counter(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        let metric = family
            .get_metric()
            .iter()
            .find(|m| m.get_label()[0].value() == label)
            .unwrap();
        metric.get_counter().get_value()
    }
}

/// A length-delimited protobuf field.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// The value of a header as text; "" if it is not there.
pub(crate) fn header(response: &Response<()>, name: &str) -> String {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap()).to_owned()
}
