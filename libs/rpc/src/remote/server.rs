use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use model::{StreamRows, ValuePattern};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::client::is_own_format;
use super::streams::Streams;
use super::{FORMAT_HEADER, Method, RawCodec, RemoteConfig, WireError, other_format, status, wire};
use crate::{
    Error, IngestApi, MetaPeerApi, OwnerApi, QueryApi, Recent, RecentRequest, SearchApi, TailError,
    TailReceiver,
};

/// Messages in which a long answer travels.
const PIECE_BYTES: usize = 1 << 20;

/// What a process offers to others. Set one after another while it starts; what is not set yet
/// answers `Unavailable`.
#[derive(Default)]
pub struct Ports {
    meta: OnceLock<Arc<dyn MetaPeerApi>>,
    ingester: OnceLock<Ingester>,
    patterns: OnceLock<CompilePattern>,
    querier: OnceLock<Arc<dyn QueryApi>>,
}

/// Compiles the regular expression of a label matcher; `None` when it is none.
pub type CompilePattern = fn(&str) -> Option<Arc<dyn ValuePattern>>;

struct Ingester {
    ingest: Arc<dyn IngestApi>,
    search: Arc<dyn SearchApi>,
    owner: Arc<dyn OwnerApi>,
}

impl Ports {
    /// Offers the coordinator's port. Only the first call counts.
    pub fn set_meta(&self, meta: Arc<dyn MetaPeerApi>) {
        let _ = self.meta.set(meta);
    }

    /// Offers an ingester's ports. Only the first call counts.
    pub fn set_ingester<I: IngestApi + SearchApi + OwnerApi>(&self, ingester: &Arc<I>) {
        let _ = self.ingester.set(Ingester {
            ingest: Arc::clone(ingester) as Arc<dyn IngestApi>,
            search: Arc::clone(ingester) as Arc<dyn SearchApi>,
            owner: Arc::clone(ingester) as Arc<dyn OwnerApi>,
        });
    }

    /// How the regular expressions of readers are compiled; without it their matchers are left out,
    /// and readers get more streams than they asked for. Only the first call counts.
    pub fn set_patterns(&self, compile: CompilePattern) {
        let _ = self.patterns.set(compile);
    }

    /// Offers a querier's port. Only the first call counts.
    pub fn set_querier(&self, querier: Arc<dyn QueryApi>) {
        let _ = self.querier.set(querier);
    }

    fn querier(&self) -> Result<&Arc<dyn QueryApi>, Error> {
        self.querier.get().ok_or_else(|| starting("querier"))
    }

    fn patterns(&self) -> CompilePattern {
        self.patterns.get().copied().unwrap_or(|_| None)
    }

    fn meta(&self) -> Result<&Arc<dyn MetaPeerApi>, Error> {
        self.meta.get().ok_or_else(|| starting("coordinator"))
    }

    fn ingester(&self) -> Result<&Ingester, Error> {
        self.ingester.get().ok_or_else(|| starting("ingester"))
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("meta", &self.meta.get().is_some())
            .field("ingester", &self.ingester.get().is_some())
            .field("querier", &self.querier.get().is_some())
            .finish()
    }
}

fn starting(what: &str) -> Error {
    Error::Unavailable(format!(
        "this process has no {what}, or it has not started yet"
    ))
}

/// Serves the ports until `end` is done; calls under way are then finished, and streams that would go
/// on for ever (changes of the catalog, batches as they come) end, so that their readers go elsewhere.
///
/// # Errors
/// `Invalid` when a TLS file is missing or no PEM; `Unavailable` when the listener fails.
pub async fn serve(
    listener: TcpListener,
    ports: Arc<Ports>,
    config: &RemoteConfig,
    end: impl Future<Output = ()>,
) -> Result<(), Error> {
    let invalid = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Error::Invalid(format!(
            "TLS: {}",
            cause.unwrap_or_else(|| error.to_string())
        ))
    };
    let mut server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(config.keep_alive))
        .http2_keepalive_timeout(Some(config.keep_alive))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    if let Some(tls) = &config.tls {
        server = server.tls_config(tls.server()?).map_err(invalid)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = Service::new(ports, config);
    let shared = Arc::clone(&service.shared);
    let end = async move {
        end.await;
        shared.ending.send_replace(true);
    };
    server
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, end)
        .await
        .map_err(|error| Error::Unavailable(format!("the port for other processes: {error}")))
}

/// The gRPC service. One for each process; clones share what they remember.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ports: Arc<Ports>,
    config: RemoteConfig,
    streams: Streams,
    /// Set when streams without an end are to end.
    ending: watch::Sender<bool>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Call<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl Service {
    /// A service for these ports.
    pub fn new(ports: Arc<Ports>, config: &RemoteConfig) -> Self {
        Service {
            shared: Arc::new(Shared {
                ports,
                config: config.clone(),
                streams: Streams::default(),
                ending: watch::Sender::new(false),
            }),
        }
    }
}

impl NamedService for Service {
    const NAME: &'static str = "pharos.rpc.Node";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(shared.answer(request).await) })
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Body> {
        if let Err(theirs) = is_own_format(request.headers().get(FORMAT_HEADER)) {
            return status::to_status(&other_format(&theirs)).into_http();
        }
        let Some(method) = Method::of_path(request.uri().path()) else {
            let text = format!("there is no call {}", request.uri().path());
            return Status::unimplemented(text).into_http();
        };
        let mut accept = EnabledCompressionEncodings::default();
        accept.enable(CompressionEncoding::Zstd);
        let mut send = EnabledCompressionEncodings::default();
        if let Some(encoding) = self.config.compression() {
            send.enable(encoding);
        }
        let limit = Some(self.config.message_bytes_max);
        let mut grpc = Grpc::new(RawCodec)
            .apply_compression_config(accept, send)
            .apply_max_message_size_config(limit, limit);
        match method {
            Method::Recent | Method::Tail | Method::Pull | Method::Share | Method::Watch => {
                grpc.server_streaming(Streamed(self, method), request).await
            }
            Method::Ingest | Method::Flush | Method::Reconcile | Method::Rules | Method::Meta => {
                grpc.unary(Unary(self, method), request).await
            }
        }
    }

    async fn unary(&self, method: Method, body: Bytes) -> Result<Bytes, Error> {
        match method {
            Method::Ingest => {
                let decode = |cache: &mut _| wire::decode_ingest(&body, cache);
                let requests = self.streams.decode(decode)?;
                drop(body);
                self.ports.ingester()?.ingest.ingest(requests).await?;
                Ok(Bytes::new())
            }
            Method::Flush => {
                self.ports.ingester()?.ingest.flush().await?;
                Ok(Bytes::new())
            }
            Method::Reconcile => {
                let request = wire::decode_reconcile(&body)?;
                let answer = self.ports.ingester()?.owner.reconcile(request).await?;
                Ok(wire::encode_reconciled(&answer))
            }
            Method::Rules => {
                let tenant = wire::decode_tenant(&body)?;
                self.ports.querier()?.rules(tenant).await
            }
            Method::Meta => {
                let (call, body) = wire::decode_call(&body)?;
                self.ports.meta()?.call(call, body).await
            }
            other => Err(Error::Internal(format!("{other:?} answers with a stream"))),
        }
    }

    async fn streamed(&self, method: Method, body: Bytes) -> Result<Answers, Error> {
        match method {
            Method::Recent => {
                let request = wire::decode_recent(&body, self.ports.patterns())?;
                let search = &self.ports.ingester()?.search;
                let recent = search.recent(request.clone()).await?;
                Ok(Box::pin(tokio_stream::iter(
                    answers(request, recent).map(Ok),
                )))
            }
            Method::Tail => Ok(self.until_end(tail(self.ports.ingester()?.search.tail()))),
            Method::Pull => {
                let request = wire::decode_reconcile(&body)?;
                let owner = &self.ports.ingester()?.owner;
                let held = owner.pull(request.key, request.ids).await?;
                let messages = held.into_iter().map(|held| Ok(wire::encode_held(&held)));
                Ok(Box::pin(tokio_stream::iter(messages)))
            }
            Method::Share => {
                let request = wire::decode_share(&body)?;
                let answer = self.ports.querier()?.share(request).await?;
                Ok(Box::pin(tokio_stream::iter(pieces(answer).map(Ok))))
            }
            Method::Watch => {
                let after = wire::decode_number(&body)?;
                let changes = self.ports.meta()?.watch(after).await?;
                let changes = changes.map(|c| c.map_err(|error| status::to_status(&error)));
                Ok(self.until_end(Box::pin(changes)))
            }
            other => Err(Error::Internal(format!("{other:?} answers once"))),
        }
    }

    /// A stream that nothing else ends.
    fn until_end(&self, endless: Answers) -> Answers {
        let mut ending = self.ending.subscribe();
        let ended = async move {
            // The sender is gone: so is the service.
            let _ = ending.wait_for(|ending| *ending).await;
        };
        Box::pin(futures::StreamExt::take_until(endless, ended))
    }
}

/// The version, then the batches with nothing in them but what was asked for; those without any are
/// left out. Each is cut and encoded when the connection takes it.
fn answers(request: RecentRequest, recent: Recent) -> impl Iterator<Item = Bytes> + Send {
    let version = wire::encode_number(recent.version);
    let batches = recent.heads.into_iter().flat_map(|head| {
        let (id, key) = (head.head, head.key);
        head.batches.into_iter().map(move |held| (id, key, held))
    });
    let mut known = HashMap::new();
    let batches = batches.filter_map(move |(head, key, mut held)| {
        let wanted = |stream: &StreamRows| request.wants(stream, &mut known);
        if let Some(cut) = held.batch.cut(wanted, request.range) {
            held.batch = Arc::new(cut);
        }
        let any = !held.batch.is_empty();
        any.then(|| wire::encode_filed(head, key, &held))
    });
    std::iter::once(version).chain(batches)
}

/// An answer in messages of a size that any node takes.
fn pieces(mut answer: Bytes) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let bytes = answer.len().min(PIECE_BYTES);
        (bytes > 0).then(|| answer.split_to(bytes))
    })
}

/// Batches as they come; eight bytes are the number of those that were missed.
fn tail(receiver: TailReceiver) -> Answers {
    let next = async |mut receiver: TailReceiver| {
        let message = match receiver.recv().await {
            Ok(held) => wire::encode_held(&held),
            Err(TailError::Missed(batches)) => wire::encode_number(batches),
            Err(TailError::Ended) => return None,
        };
        Some((Ok(message), receiver))
    };
    Box::pin(futures::stream::unfold(receiver, next))
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Error::Invalid(error.to_string())
    }
}

struct Unary(Arc<Shared>, Method);

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = Call<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (shared, method) = (Arc::clone(&self.0), self.1);
        Box::pin(async move {
            let answer = shared.unary(method, request.into_inner()).await;
            answer
                .map(Response::new)
                .map_err(|error| status::to_status(&error))
        })
    }
}

struct Streamed(Arc<Shared>, Method);

impl ServerStreamingService<Bytes> for Streamed {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Call<Answers>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (shared, method) = (Arc::clone(&self.0), self.1);
        Box::pin(async move {
            let answer = shared.streamed(method, request.into_inner()).await;
            answer
                .map(Response::new)
                .map_err(|error| status::to_status(&error))
        })
    }
}
