//! Puts the roles of one process together and takes them apart again in the right order.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::Registry;
use rpc::{Command, MemberState, MetaApi};
use runtime::{Readiness, Shutdown, Telemetry, explained, serve_http, status_router, termination};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tracing::{info, warn};

use crate::announce;
use crate::cluster::Cluster;
use crate::ops::{self, Services, StopRequest};
use crate::options::Settings;
use crate::ring_metrics;
use crate::roles::Roles;

/// The open ports of the process. They are opened before anything is read back, so that a taken
/// address is told at once; that for people answers 503 until the roles have started.
struct Ports {
    http: TcpListener,
    otlp: Option<(TcpListener, TcpListener)>,
    /// For other processes.
    rpc: Option<TcpListener>,
}

/// Why the process ends.
enum End {
    /// A signal, or a listener that failed.
    Told,
    /// It is to leave the cluster.
    Leave,
    /// The coordinator or a role cannot go on.
    Failed(anyhow::Error),
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
    ops::warn_of_unknown_variables();
    let server = settings.server.clone();
    let registry = Registry::new();
    let readiness = Readiness::default();
    readiness.set("roles", false);
    let ports = Ports::open(&settings).await?;
    let listeners = Shutdown::new();
    let main = Arc::new(OnceLock::new());
    let services = Services::new(server.roles);
    let ops = ops::early(settings.shown.clone(), telemetry.level(), services.clone());
    let router = status_router(registry.clone(), readiness.clone()).merge(ops);
    let router = router.merge(late(&main)).layer(CompressionLayer::new());
    listeners.spawn("http", serve_http(ports.http, router, listeners.token()));
    std::fs::create_dir_all(&server.data_dir)
        .with_context(|| format!("cannot make data_dir {}", server.data_dir.display()))?;
    let joining = Cluster::join(&server, &settings.cluster, ports.rpc);
    let cluster = tokio::select! {
        cluster = joining => cluster?,
        signal = termination() => {
            info!(signal = signal?, "stopping before the cluster was joined");
            return Ok(());
        }
    };
    ring_metrics::register(&registry, cluster.node.clone())?;
    let roles = Roles::start(settings, &cluster, &registry).await?;
    if let (Some((grpc, http)), Some(distributor)) = (ports.otlp, &roles.distributor) {
        let service = distributor::grpc_service(distributor.clone());
        let routes = tonic::service::Routes::new(service).into_axum_router();
        listeners.spawn("otlp grpc", serve_http(grpc, routes, listeners.token()));
        let routes = distributor::otlp_router(distributor.clone());
        let routes = explained(routes, "this port takes POST /v1/logs, and logs only");
        listeners.spawn("otlp http", serve_http(http, routes, listeners.token()));
    }
    // Set once, here; nobody else has the cell.
    let stop = StopRequest::new(&server.data_dir);
    let _ = main.set(roles.router(&cluster, &stop));
    roles.activate(&cluster).await?;
    cluster.outgrow().await;
    readiness.set("roles", true);
    services.running();
    announce::ready(&server);
    info!(http = %server.http_addr, "ready");
    let mut end = end(&cluster, &roles, &listeners, &stop).await?;
    readiness.set("roles", false);
    services.stopping();
    if matches!(end, End::Leave) {
        tokio::select! {
            () = roles.leave(&cluster) => info!("left the cluster"),
            error = failed(&cluster, &roles) => end = End::Failed(error),
            signal = termination() => info!(signal = signal?, "stopping before all is stored; it goes on leaving at the next start"),
        }
    }
    listeners.end(server.shutdown_patience).await;
    let stopped = roles.shutdown().await;
    cluster.end(server.shutdown_patience).await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    if stopped.is_ok() {
        stop.unprepare()
            .context("cannot take back what prepare_shutdown left in data_dir")?;
    }
    let stopped = stopped.context("not everything was flushed; the rest is in the write-ahead log and is read back at the next start");
    match end {
        // Why not everything was flushed, if so.
        End::Failed(error) => Err(error),
        End::Told | End::Leave => stopped,
    }
}

/// Waits until the process is to end.
async fn end(
    cluster: &Cluster,
    roles: &Roles,
    listeners: &Shutdown,
    stop: &StopRequest,
) -> anyhow::Result<End> {
    let token = listeners.token();
    Ok(tokio::select! {
        signal = termination() => {
            info!(signal = signal?, "stopping");
            told(cluster, stop.prepared()).await
        }
        leave = stop.asked() => {
            info!("stopping, because an operator wants it");
            told(cluster, leave || stop.prepared()).await
        }
        () = token.cancelled() => {
            info!("stopping, because a listener failed");
            End::Told
        }
        () = cluster.told_to_leave() => {
            info!("leaving the cluster");
            End::Leave
        }
        error = failed(cluster, roles) => End::Failed(error),
    })
}

/// Returns, with the reason, when a part of this process cannot go on.
async fn failed(cluster: &Cluster, roles: &Roles) -> anyhow::Error {
    tokio::select! {
        error = cluster.failed() => error,
        error = roles.failed() => error,
    }
}

/// How the process ends that was told to: it leaves the cluster if that is wanted and others can
/// take over. The only ingester of a cluster stores what it has and stays a member.
async fn told(cluster: &Cluster, leave: bool) -> End {
    let catalog = cluster.node.catalog();
    if !leave || !catalog.cluster.can_leave(cluster.id) {
        return End::Told;
    }
    let leaving = Command::SetState(cluster.id, MemberState::Leaving);
    match cluster.node.propose(leaving).await {
        Ok(_) => End::Leave,
        Err(error) => {
            warn!(%error, "cannot leave the cluster; what is stored is stored");
            End::Told
        }
    }
}

impl Ports {
    async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let server = &settings.server;
        let http = listen(server.http_addr, "http_addr").await?;
        let otlp = if server.roles.distributor {
            let grpc = listen(server.otlp_grpc_addr, "otlp_grpc_addr").await?;
            Some((grpc, listen(server.otlp_http_addr, "otlp_http_addr").await?))
        } else {
            None
        };
        let rpc = match settings.cluster.listen()? {
            Some(address) => Some(listen(address, "rpc_addr").await?),
            None => None,
        };
        Ok(Ports { http, otlp, rpc })
    }
}

async fn listen(address: std::net::SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}; free it or set {option}"))
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
