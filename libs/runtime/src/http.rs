use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use prometheus::{Registry, TextEncoder};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// `/metrics` (Prometheus text), `/ready` (200 `ready`, or 503 with the reason that `unready` gives) and
/// `/healthz` (200 as long as the process answers at all).
pub fn status_router(
    registry: Registry,
    unready: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
) -> Router {
    let metrics = move || async move { metrics(&registry) };
    let ready = move || async move { readiness(unready()) };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/healthz", get(|| async { "ok\n" }))
}

fn readiness(unready: Option<String>) -> (StatusCode, String) {
    match unready {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        ),
    }
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

/// After how long a silence a connection's other side is asked whether it is still there, and how often
/// until it counts as gone (the system's number of times, 9 on Linux).
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10));

/// A client that vanished without a word would hold its connection for ever.
fn keep_alive(stream: &mut TcpStream) {
    let socket = SockRef::from(&*stream);
    let set = socket
        .set_tcp_keepalive(&KEEPALIVE)
        .and_then(|()| socket.set_tcp_nodelay(true));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection has the system's usual options");
    }
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
    axum::serve(listener.tap_io(keep_alive), router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_ready_says_why() {
        assert_eq!(readiness(None), (StatusCode::OK, "ready\n".to_owned()));
        let (status, text) = readiness(Some("waits for a:1".to_owned()));
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not ready: waits for a:1\n");
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
