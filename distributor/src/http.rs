mod loki;
pub(crate) mod otlp;
mod plain;
pub(crate) mod request;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use crate::Distributor;

/// Everything that the main port takes: `POST /loki/api/v1/push`, `/api/prom/push`,
/// `/otlp/v1/logs`, `/ingest`, `/logs`, `/api/v1/logs`.
pub fn http_router(distributor: Distributor) -> Router {
    Router::new()
        .route("/loki/api/v1/push", post(loki::push))
        .route("/api/prom/push", post(loki::push))
        .route("/otlp/v1/logs", post(otlp::export_as_loki))
        .route("/ingest", post(plain::ingest))
        .route("/logs", post(plain::logs))
        .route("/api/v1/logs", post(plain::logs))
        .layer(DefaultBodyLimit::disable())
        .with_state(distributor)
}

/// Everything that the OTLP/HTTP port takes: `POST /v1/logs`.
pub fn otlp_router(distributor: Distributor) -> Router {
    Router::new()
        .route("/v1/logs", post(otlp::export))
        .layer(DefaultBodyLimit::disable())
        .with_state(distributor)
}
