//! Puts the roles of one process together and takes them apart again in the right order.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meta::Node;
use parking_lot::Mutex;
use prometheus::Registry;
use rpc::{Command, MemberState, MetaApi};
use runtime::{Shutdown, Telemetry, Termination, explained, serve_http, status_router};
use store::ObjectStorage;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tracing::{info, warn};

use crate::announce;
use crate::cluster::{Cluster, Joining};
use crate::ops::{self, Services, StopRequest};
use crate::options::{ServerConfig, Settings};
use crate::roles::Roles;
use crate::{process_metrics, ring_metrics, storage};

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
    let served = in_cluster(settings, &telemetry).await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    served
}

/// Opens what needs no other process, joins the cluster, and runs. Whatever goes wrong on the way, the
/// coordinator is stopped in the end: it would be told as its failure otherwise.
async fn in_cluster(settings: Settings, telemetry: &Telemetry) -> anyhow::Result<()> {
    let patience = settings.server.shutdown_patience;
    let mut signals = Termination::listen()?;
    let (open, rpc) = Open::new(&settings, telemetry).await?;
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let joining = Joining::open(&settings.server, &settings.cluster, rpc).await?;
    let node = joining.node.clone();
    open.phase.set(Phase::Joining(node.clone()));
    let joined = tokio::select! {
        joined = joining.join() => joined.map(Some),
        signal = signals.next() => {
            info!(signal, "stopping before the cluster was joined");
            Ok(None)
        }
    };
    let cluster = match joined {
        Ok(Some(cluster)) => cluster,
        other => {
            node.shutdown().await;
            return other.map(drop);
        }
    };
    open.phase.set(Phase::Roles(settings.server.roles.ingester));
    let started = tokio::select! {
        started = Running::start(settings, open, &cluster) => started.map(Some),
        signal = signals.next() => {
            info!(signal, "stopping before the start was done; the write-ahead log is as it was");
            Ok(None)
        }
    };
    match started {
        Ok(Some(running)) => running.until_told(cluster, signals).await,
        other => {
            cluster.end(patience).await;
            other.map(drop)
        }
    }
}

/// What a process has before it is in a cluster: its ports for people answer 503 but for its state.
struct Open {
    registry: Registry,
    phase: Shared,
    services: Services,
    storage: ObjectStorage,
    /// What the port for people serves in the end.
    main: Arc<OnceLock<Router>>,
    otlp: Option<(TcpListener, TcpListener)>,
    listeners: Shutdown,
}

impl Open {
    /// Gives the port for other processes, too.
    async fn new(
        settings: &Settings,
        telemetry: &Telemetry,
    ) -> anyhow::Result<(Self, Option<TcpListener>)> {
        let server = &settings.server;
        let registry = Registry::new();
        process_metrics::register(&registry)?;
        let ports = Ports::open(settings).await?;
        std::fs::create_dir_all(&server.data_dir)
            .with_context(|| format!("cannot make data_dir {}", server.data_dir.display()))?;
        let storage = storage::open(&settings.storage, &server.data_dir)?;
        storage::look_at(storage.clone(), settings.storage.storage_url.clone());
        let (phase, main) = (Shared::default(), Arc::new(OnceLock::new()));
        let services = Services::new(server.roles);
        let ops = ops::early(settings.shown.clone(), telemetry.level(), services.clone());
        let unready = phase.clone();
        let router = status_router(registry.clone(), move || unready.reason()).merge(ops);
        let router = router.merge(late(&main, &phase));
        let router = router.layer(CompressionLayer::new());
        let listeners = Shutdown::new();
        listeners.spawn("http", serve_http(ports.http, router, listeners.token()));
        let open = Open {
            registry,
            phase,
            services,
            storage,
            main,
            otlp: ports.otlp,
            listeners,
        };
        Ok((open, ports.rpc))
    }
}

/// A process at work.
struct Running {
    server: ServerConfig,
    roles: Roles,
    phase: Shared,
    services: Services,
    listeners: Shutdown,
    stop: StopRequest,
}

impl Running {
    async fn start(settings: Settings, open: Open, cluster: &Cluster) -> anyhow::Result<Self> {
        let server = settings.server.clone();
        let listeners = open.listeners;
        ring_metrics::register(&open.registry, cluster.node.clone())?;
        process_metrics::register_coordinator(&open.registry, cluster.node.clone())?;
        let roles = Roles::start(settings, cluster, open.storage, &open.registry).await?;
        if let (Some((grpc, http)), Some(distributor)) = (open.otlp, &roles.distributor) {
            let service = distributor::grpc_service(distributor.clone());
            let routes = tonic::service::Routes::new(service).into_axum_router();
            listeners.spawn("otlp grpc", serve_http(grpc, routes, listeners.token()));
            let routes = distributor::otlp_router(distributor.clone());
            let routes = explained(routes, "this port takes POST /v1/logs, and logs only");
            listeners.spawn("otlp http", serve_http(http, routes, listeners.token()));
        }
        let stop = StopRequest::new(&server.data_dir);
        // Set once, here; nobody else has the cell.
        let _ = open.main.set(roles.router(cluster, &stop));
        roles.activate(cluster).await?;
        cluster.outgrow().await;
        open.phase.set(Phase::Ready);
        open.services.running();
        announce::ready(&server);
        info!(http = %server.http_addr, "ready");
        Ok(Running {
            server,
            roles,
            phase: open.phase,
            services: open.services,
            listeners,
            stop,
        })
    }

    async fn until_told(self, cluster: Cluster, signals: Termination) -> anyhow::Result<()> {
        let end = self.wait(&cluster, signals).await;
        self.listeners.end(self.server.shutdown_patience).await;
        let stopped = self.roles.shutdown().await;
        cluster.end(self.server.shutdown_patience).await;
        if stopped.is_ok() {
            self.stop
                .unprepare()
                .context("cannot take back what prepare_shutdown left in data_dir")?;
        }
        let stopped = stopped.context("not everything was flushed; the rest is in the write-ahead log and is read back at the next start");
        match end {
            // Why not everything was flushed, if so.
            End::Failed(error) => Err(error),
            End::Told | End::Leave => stopped,
        }
    }

    /// Waits until the process is to end, and leaves the cluster if that is wanted.
    async fn wait(&self, cluster: &Cluster, mut signals: Termination) -> End {
        let roles = &self.roles;
        let mut end = end(cluster, roles, &self.listeners, &self.stop, &mut signals).await;
        self.phase.set(Phase::Stopping);
        self.services.stopping();
        if matches!(end, End::Leave) {
            tokio::select! {
                () = roles.leave(cluster) => info!("left the cluster"),
                error = failed(cluster, roles) => {
                    // That this process is no member any more may be heard here first.
                    if cluster.is_member() {
                        end = End::Failed(error);
                    }
                }
                signal = signals.next() => info!(signal, "stopping before all is stored; it goes on leaving at the next start"),
            }
        }
        end
    }
}

/// Waits until the process is to end.
async fn end(
    cluster: &Cluster,
    roles: &Roles,
    listeners: &Shutdown,
    stop: &StopRequest,
    signals: &mut Termination,
) -> End {
    let token = listeners.token();
    tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
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
    }
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

/// How far the process is.
#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Opening,
    Joining(Node),
    /// The roles start; an ingester is among them.
    Roles(bool),
    Ready,
    Stopping,
}

impl Phase {
    /// Why it does not serve.
    fn reason(&self) -> Option<String> {
        let text = match self {
            Phase::Ready => return None,
            Phase::Opening => "the process opens its folders",
            Phase::Joining(node) => {
                let waits = node.waits_for().map(|what| format!("waits for {what}"));
                return Some(waits.unwrap_or_else(|| "the cluster is being joined".to_owned()));
            }
            Phase::Roles(true) => "the write-ahead log is being read back",
            Phase::Roles(false) => "the roles start",
            Phase::Stopping => "stopping",
        };
        Some(text.to_owned())
    }
}

/// The phase, for whoever asks.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Phase>>);

impl Shared {
    fn set(&self, phase: Phase) {
        *self.0.lock() = phase;
    }

    fn reason(&self) -> Option<String> {
        let phase = self.0.lock().clone();
        phase.reason()
    }
}

/// Serves what the cell holds, and 503 as long as it is empty.
fn late(main: &Arc<OnceLock<Router>>, phase: &Shared) -> Router {
    let (main, phase) = (Arc::clone(main), phase.clone());
    Router::new().fallback(move |request: Request<Body>| {
        let (router, phase) = (main.get().cloned(), phase.clone());
        async move {
            match router {
                Some(router) => router.oneshot(request).await.into_response(),
                None => starting(phase.reason()),
            }
        }
    })
}

fn starting(reason: Option<String>) -> Response {
    let reason = reason.unwrap_or_else(|| "almost ready".to_owned());
    let text = format!("starting: {reason}; try again soon\n");
    let retry = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_what_keeps_it_from_serving() {
        let phase = Shared::default();
        assert!(phase.reason().is_some());
        phase.set(Phase::Roles(true));
        let text = "the write-ahead log is being read back";
        assert_eq!(phase.reason().as_deref(), Some(text));
        phase.set(Phase::Ready);
        assert_eq!(phase.reason(), None);
        phase.set(Phase::Stopping);
        assert_eq!(phase.reason().as_deref(), Some("stopping"));
    }
}
