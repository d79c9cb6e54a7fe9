//! Puts the roles of one process together and takes them apart again in the right order.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use distributor::Distributor;
use ingester::Ingester;
use meta::Node;
use model::SlotLength;
use prometheus::Registry;
use querier::Querier;
use rpc::{ClusterShape, IngestApi, MetaApi, SearchApi};
use runtime::{
    Readiness, Shutdown, Telemetry, clock, explained, serve_http, status_router, termination,
};
use store::ObjectStorage;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tracing::info;

use crate::options::{ServerConfig, Settings};
use crate::{admin, announce};

/// The open ports of the process. They are opened before anything is read back, so that a taken
/// address is told at once, and answer 503 until the roles have started.
struct Ports {
    http: TcpListener,
    otlp: Option<(TcpListener, TcpListener)>,
}

/// The roles, started.
struct Roles {
    ingester: Ingester,
    meta: Arc<dyn MetaApi>,
    distributor: Option<Distributor>,
    querier: Option<Querier>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(&settings.telemetry)?;
    let server = settings.server.clone();
    let registry = Registry::new();
    let readiness = Readiness::default();
    readiness.set("roles", false);
    let ports = Ports::open(&server).await?;
    let listeners = Shutdown::new();
    let main = Arc::new(OnceLock::new());
    let router = status_router(registry.clone(), readiness.clone()).merge(late(&main));
    let router = router.layer(CompressionLayer::new());
    listeners.spawn("http", serve_http(ports.http, router, listeners.token()));
    let roles = Roles::start(settings, &registry).await?;
    if let (Some((grpc, http)), Some(distributor)) = (ports.otlp, &roles.distributor) {
        let service = distributor::grpc_service(distributor.clone());
        let routes = tonic::service::Routes::new(service).into_axum_router();
        listeners.spawn("otlp grpc", serve_http(grpc, routes, listeners.token()));
        let routes = distributor::otlp_router(distributor.clone());
        let routes = explained(routes, "this port takes POST /v1/logs, and logs only");
        listeners.spawn("otlp http", serve_http(http, routes, listeners.token()));
    }
    // Set once, here; nobody else has the cell.
    let _ = main.set(roles.router());
    readiness.set("roles", true);
    announce::ready(&server);
    info!(http = %server.http_addr, "ready");
    let token = listeners.token();
    tokio::select! {
        signal = termination() => info!(signal = signal?, "stopping"),
        () = token.cancelled() => info!("stopping, because a listener failed"),
    }
    readiness.set("roles", false);
    listeners.end(server.shutdown_patience).await;
    let stopped = roles.ingester.shutdown().await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    stopped.context("not everything was flushed; the rest is in the write-ahead log and is read back at the next start")
}

impl Ports {
    async fn open(server: &ServerConfig) -> anyhow::Result<Self> {
        let http = listen(server.http_addr, "http_addr").await?;
        let otlp = if server.roles.distributor {
            let grpc = listen(server.otlp_grpc_addr, "otlp_grpc_addr").await?;
            Some((grpc, listen(server.otlp_http_addr, "otlp_http_addr").await?))
        } else {
            None
        };
        Ok(Ports { http, otlp })
    }
}

async fn listen(address: std::net::SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}; free it or set {option}"))
}

impl Roles {
    async fn start(settings: Settings, registry: &Registry) -> anyhow::Result<Self> {
        let Settings {
            server,
            storage,
            telemetry: _,
            distributor,
            ingester,
            querier,
        } = settings;
        let clock = clock();
        let slot = SlotLength(server.slot_duration.max(1));
        std::fs::create_dir_all(&server.data_dir)
            .with_context(|| format!("cannot make data_dir {}", server.data_dir.display()))?;
        let objects = ObjectStorage::open(&storage.store(&server.data_dir))?;
        let shape = ClusterShape {
            shards: server.shards.max(1),
            replicas: 1,
            slot_nanos: slot.0,
        };
        let node = Node::alone(&server.data_dir.join("meta"), shape).await?;
        let number = node.id().context("the coordinator has no number, a defect")?;
        let meta: Arc<dyn MetaApi> = Arc::new(node);
        let deps = ingester::Deps {
            node: number,
            storage: objects.clone(),
            meta: Arc::clone(&meta),
            network: None,
            clock: Arc::clone(&clock),
            metrics: ingester::Metrics::new(registry)?,
            log_files: None,
        };
        let ingester = Ingester::start(
            ingester.config(server.data_dir, slot, server.retention),
            deps,
        )
        .await?;
        let distributor = if server.roles.distributor {
            let ingest: Arc<dyn IngestApi> = Arc::new(ingester.clone());
            let sources = distributor::Sources::new(Arc::clone(&clock));
            let metrics = distributor::Metrics::new(registry)?;
            let config = distributor.config(server.shards.max(1), slot);
            Some(Distributor::new(config, ingest, sources, metrics))
        } else {
            None
        };
        let querier = if server.roles.querier {
            let search: Arc<dyn SearchApi> = Arc::new(ingester.clone());
            let sources = querier::Sources {
                search,
                meta: Arc::clone(&meta),
                storage: objects,
                retention: server.retention,
            };
            let metrics = querier::Metrics::new(registry)?;
            Some(Querier::new(querier, sources, metrics, clock))
        } else {
            None
        };
        Ok(Roles {
            ingester,
            meta,
            distributor,
            querier,
        })
    }

    /// What the main port serves besides status.
    fn router(&self) -> Router {
        let mut router = admin::router(self.ingester.clone(), Arc::clone(&self.meta));
        if let Some(distributor) = &self.distributor {
            router = router.merge(distributor::http_router(distributor.clone()));
        }
        if let Some(querier) = &self.querier {
            router = router.merge(querier::http_router(querier.clone()));
        }
        explained(router, "docs/reference/api.md lists the routes")
    }
}

/// Serves what the cell holds, and 503 as long as it is empty.
fn late(main: &Arc<OnceLock<Router>>) -> Router {
    let main = Arc::clone(main);
    Router::new().fallback(move |request: Request<Body>| {
        let router = main.get().cloned();
        async move {
            match router {
                Some(router) => router.oneshot(request).await.into_response(),
                None => starting(),
            }
        }
    })
}

fn starting() -> Response {
    let text = "starting: the write-ahead log is being read back; try again soon\n";
    let retry = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
}
