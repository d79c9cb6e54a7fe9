use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use model::{BatchId, HeadKey, TenantId};
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codegen::http::HeaderValue;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::streams::Streams;
use super::{FORMAT, FORMAT_HEADER, Method, RawCodec, RemoteConfig, WireError, status, wire};
use crate::{
    Changes, Error, HeldBatch, IngestApi, IngestRequest, MetaCall, MetaPeerApi, OwnerApi, QueryApi,
    Recent, RecentRequest, ReconcileRequest, Reconciled, SearchApi, ShareRequest, TailReceiver,
    TailSender,
};

/// Batches that wait for receivers of a tail, and their bytes.
const TAIL_BATCHES_MAX: usize = 64;
const TAIL_BYTES_MAX: usize = 32 << 20;

/// The ports of the process at one address.
#[derive(Debug)]
pub(super) struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Arc<str>,
    channel: Result<Channel, Error>,
    config: RemoteConfig,
    streams: Streams,
}

impl Node {
    pub(super) fn new(
        address: Arc<str>,
        endpoint: Result<Endpoint, Error>,
        config: &RemoteConfig,
    ) -> Self {
        Node {
            shared: Arc::new(Shared {
                address,
                channel: endpoint.map(|endpoint| endpoint.connect_lazy()),
                config: config.clone(),
                streams: Streams::default(),
            }),
        }
    }
}

impl Shared {
    fn grpc(&self) -> Result<Grpc<Channel>, Error> {
        let grpc = Grpc::new(self.channel.clone()?)
            .max_decoding_message_size(self.config.message_bytes_max)
            .max_encoding_message_size(self.config.message_bytes_max)
            .accept_compressed(tonic::codec::CompressionEncoding::Zstd);
        Ok(match self.config.compression() {
            Some(encoding) => grpc.send_compressed(encoding),
            None => grpc,
        })
    }

    fn request(body: Bytes, timeout: Option<Duration>) -> Request<Bytes> {
        let mut request = Request::new(body);
        let format = MetadataValue::from(FORMAT);
        request.metadata_mut().insert(FORMAT_HEADER, format);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    fn error(&self, status: &Status) -> Error {
        status::to_error(&self.address, status)
    }

    fn damaged(&self, error: &WireError) -> Error {
        Error::Unavailable(format!("node at {}: {error}", self.address))
    }

    /// One message there, one back.
    async fn unary(&self, method: Method, body: Bytes) -> Result<Bytes, Error> {
        let timeout = self.config.call_timeout;
        let call = async {
            let mut grpc = self.grpc()?;
            grpc.ready().await.map_err(|error| self.refused(&error))?;
            let path = PathAndQuery::from_static(method.path());
            let request = Self::request(body, Some(timeout));
            let answer = grpc.unary(request, path, RawCodec).await;
            Ok(answer.map_err(|status| self.error(&status))?.into_inner())
        };
        self.in_time(timeout, call).await
    }

    /// One message there, many back; `timeout` is for all of them together.
    async fn stream(
        &self,
        method: Method,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<Streaming<Bytes>, Error> {
        let call = async {
            let mut grpc = self.grpc()?;
            grpc.ready().await.map_err(|error| self.refused(&error))?;
            let path = PathAndQuery::from_static(method.path());
            let request = Self::request(body, timeout);
            let answer = grpc.server_streaming(request, path, RawCodec).await;
            Ok(answer.map_err(|status| self.error(&status))?.into_inner())
        };
        let patience = timeout.unwrap_or(self.config.call_timeout);
        self.in_time(patience, call).await
    }

    /// The other side ends at the time limit as well; this is for one that is gone.
    async fn in_time<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(timeout, call).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable(format!(
                "node at {} did not answer within {timeout:?}",
                self.address
            ))),
        }
    }

    fn refused(&self, error: &tonic::transport::Error) -> Error {
        let status = Status::from_error(Box::new(std::io::Error::other(innermost(error))));
        let text = status.message();
        Error::Unavailable(format!("node at {}: {text}", self.address))
    }

    fn filed(&self, message: &[u8]) -> Result<wire::Filed, Error> {
        let decoded = self
            .streams
            .decode(|cache| wire::decode_filed(message, cache));
        decoded.map_err(|error| self.damaged(&error))
    }

    async fn recent(&self, request: &RecentRequest) -> Result<Recent, Error> {
        let body = wire::encode_recent(request);
        let timeout = self.config.call_timeout;
        let answer = async {
            let mut messages = self.stream(Method::Recent, body, Some(timeout)).await?;
            let Some(first) = messages.next().await else {
                let ended = WireError::early();
                return Err(self.damaged(&ended));
            };
            let first = first.map_err(|status| self.error(&status))?;
            let version = wire::decode_number(&first).map_err(|error| self.damaged(&error))?;
            let mut heads = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message.map_err(|status| self.error(&status))?;
                wire::gather(&mut heads, self.filed(&message)?);
            }
            Ok(Recent { heads, version })
        };
        self.in_time(timeout, answer).await
    }

    async fn share(&self, request: &ShareRequest) -> Result<Bytes, Error> {
        let body = wire::encode_share(request);
        let bytes_max = match request.memory_bytes_max {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let answer = async {
            let mut messages = self.stream(Method::Share, body, Some(request.time)).await?;
            let mut all = BytesMut::new();
            while let Some(message) = messages.next().await {
                all.extend_from_slice(&message.map_err(|status| self.error(&status))?);
                if all.len() > bytes_max {
                    return Err(Error::Exhausted {
                        reason: format!("a share of a query has more than {bytes_max} bytes"),
                        retry_after_seconds: 0,
                    });
                }
            }
            Ok(all.freeze())
        };
        self.in_time(request.time, answer).await
    }

    /// Hands on what the other side publishes until either side ends.
    async fn follow(&self, tail: &TailSender) -> Result<(), Error> {
        let mut messages = self.stream(Method::Tail, Bytes::new(), None).await?;
        tail.begin();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|status| self.error(&status))?;
            match wire::decode_number(&message) {
                Ok(missed) => tail.missed(missed),
                Err(_) => {
                    let filed = self.filed(&message)?;
                    tail.send(HeldBatch {
                        id: filed.filing.batch_id,
                        batch: filed.batch,
                    });
                }
            }
        }
        Ok(())
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

#[async_trait]
impl IngestApi for Node {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        let body = wire::encode_ingest(&requests);
        drop(requests);
        self.shared.unary(Method::Ingest, body).await.map(drop)
    }

    async fn flush(&self) -> Result<(), Error> {
        let flushed = self.shared.unary(Method::Flush, Bytes::new()).await;
        flushed.map(drop)
    }
}

#[async_trait]
impl SearchApi for Node {
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        self.shared.recent(&request).await
    }

    fn tail(&self) -> TailReceiver {
        let tail = TailSender::waiting(TAIL_BATCHES_MAX, TAIL_BYTES_MAX);
        let receiver = tail.subscribe();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::select! {
                ended = shared.follow(&tail) => if let Err(error) = ended {
                    tracing::debug!(%error, "a tail of another node ended");
                },
                () = tail.unwatched() => {}
            }
        });
        receiver
    }
}

#[async_trait]
impl OwnerApi for Node {
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error> {
        let body = wire::encode_reconcile(&request);
        let answer = self.shared.unary(Method::Reconcile, body).await?;
        wire::decode_reconciled(&answer).map_err(|error| self.shared.damaged(&error))
    }

    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error> {
        let body = wire::encode_reconcile(&ReconcileRequest { key, ids });
        let shared = &self.shared;
        let timeout = shared.config.call_timeout;
        let answer = async {
            let mut messages = shared.stream(Method::Pull, body, Some(timeout)).await?;
            let mut held = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message.map_err(|status| shared.error(&status))?;
                let filed = shared.filed(&message)?;
                held.push(HeldBatch {
                    id: filed.filing.batch_id,
                    batch: filed.batch,
                });
            }
            Ok(held)
        };
        shared.in_time(timeout, answer).await
    }
}

#[async_trait]
impl QueryApi for Node {
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error> {
        self.shared.share(&request).await
    }

    async fn rules(&self, tenant: TenantId) -> Result<Bytes, Error> {
        let body = Bytes::copy_from_slice(tenant.as_str().as_bytes());
        self.shared.unary(Method::Rules, body).await
    }
}

#[async_trait]
impl MetaPeerApi for Node {
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, Error> {
        let body = wire::encode_call(call, &body);
        self.shared.unary(Method::Meta, body).await
    }

    async fn watch(&self, after: u64) -> Result<Changes, Error> {
        let body = wire::encode_number(after);
        let messages = self.shared.stream(Method::Watch, body, None).await?;
        let shared = Arc::clone(&self.shared);
        let changes = messages.map(move |message| message.map_err(|status| shared.error(&status)));
        Ok(Box::pin(changes))
    }
}

/// The header that [`Shared::request`] sends, as the server sees it.
pub(super) fn is_own_format(value: Option<&HeaderValue>) -> Result<(), String> {
    let theirs = value.and_then(|value| value.to_str().ok());
    match theirs {
        Some(text) if text == FORMAT.to_string() => Ok(()),
        Some(text) => Err(text.to_owned()),
        None => Err("none".to_owned()),
    }
}
