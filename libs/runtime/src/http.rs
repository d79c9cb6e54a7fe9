use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Which parts of the process are able to serve. Ready when every part named is.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

impl Readiness {
    /// Says whether a part is able to serve; a part first named as not ready holds `/ready` back.
    pub fn set(&self, part: &'static str, ready: bool) {
        self.parts.lock().insert(part, ready);
    }

    /// The parts that are not ready, by name.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = self.parts.lock();
        let missing = parts.iter().filter(|(_, ready)| !**ready);
        missing.map(|(part, _)| *part).collect()
    }
}

/// `/metrics` (Prometheus text), `/ready` (200 `ready`, or 503 with what is missing) and `/healthz`
/// (200 as long as the process answers at all).
pub fn status_router(registry: Registry, readiness: Readiness) -> Router {
    let metrics = move || async move { metrics(&registry) };
    let ready = move || async move {
        match readiness.missing().as_slice() {
            [] => (StatusCode::OK, "ready\n".to_owned()),
            missing => {
                let text = format!("not ready: {}\n", missing.join(", "));
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/healthz", get(|| async { "ok\n" }))
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => {
            let kind = (
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            );
            ([kind], text).into_response()
        }
        Err(reason) => {
            let text = format!("cannot encode metrics: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// Answers unknown paths and wrong methods with words; without it their bodies are empty.
/// `routes` says in a few words what there is instead.
pub fn explained(router: Router, routes: &'static str) -> Router {
    let missing = move |uri: Uri| async move {
        let text = format!("no route {}; {routes}\n", uri.path());
        (StatusCode::NOT_FOUND, text)
    };
    let wrong_method = move |method: Method, uri: Uri| async move {
        let text = format!("{} does not take {method}; {routes}\n", uri.path());
        (StatusCode::METHOD_NOT_ALLOWED, text)
    };
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(missing)
}

/// Serves HTTP/1.1 and HTTP/2 on the listener until the token is cancelled, then finishes the
/// requests under way.
///
/// # Errors
/// When the listener fails.
pub async fn serve_http(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_part_is() {
        let readiness = Readiness::default();
        readiness.set("ingester", false);
        readiness.set("querier", true);
        assert_eq!(readiness.missing(), ["ingester"]);
        readiness.set("ingester", true);
        assert!(readiness.missing().is_empty());
    }

    #[test]
    fn metrics_are_served_as_prometheus_text() {
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("pharos_test_total", "A test.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        let response = metrics(&registry);
        assert_eq!(response.status(), StatusCode::OK);
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert!(kind.to_str().unwrap().starts_with("text/plain"));
    }
}
