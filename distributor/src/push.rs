use std::sync::Arc;

use axum::body::HttpBody;
use model::{RingVersion, TenantId, Timestamp};
use parking_lot::Mutex;
use proto::Encoding;
use rpc::{IngestApi, IngestRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{self, Body};
use crate::budget::{Budget, Share};
use crate::rate::{Exceeded, RateLimiter};
use crate::session::{Request, Session, Sorted};
use crate::streams::Streams;
use crate::{Config, Error, Metrics, Refusals, Sources};

/// What a body is, once decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Loki push, protobuf.
    LokiProtobuf,
    /// Loki push, JSON.
    LokiJson,
    /// OTLP over HTTP, protobuf.
    OtlpProtobuf,
    /// OTLP over HTTP, JSON.
    OtlpJson,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// `POST /ingest`.
    Ingest,
    /// `POST /logs`.
    Logs,
}

impl Format {
    /// Every format, in order of its number.
    pub const ALL: [Format; 7] = [
        Format::LokiProtobuf,
        Format::LokiJson,
        Format::OtlpProtobuf,
        Format::OtlpJson,
        Format::OtlpGrpc,
        Format::Ingest,
        Format::Logs,
    ];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::LokiProtobuf => "loki_protobuf",
            Format::LokiJson => "loki_json",
            Format::OtlpProtobuf => "otlp_http_protobuf",
            Format::OtlpJson => "otlp_http_json",
            Format::OtlpGrpc => "otlp_grpc",
            Format::Ingest => "ingest",
            Format::Logs => "logs",
        }
    }

    /// Whether records without any label are taken, under `unknown_service`.
    fn takes_unlabelled(self) -> bool {
        matches!(
            self,
            Format::LokiProtobuf
                | Format::LokiJson
                | Format::OtlpProtobuf
                | Format::OtlpJson
                | Format::OtlpGrpc
                | Format::Logs
        )
    }
}

/// One request to store records.
#[derive(Debug)]
pub(crate) struct Push {
    /// Whose records.
    pub(crate) tenant: TenantId,
    /// What the body is, once decompressed.
    pub(crate) format: Format,
    /// How it is compressed.
    pub(crate) encoding: Encoding,
    /// The body as it was sent.
    pub(crate) body: Body,
}

/// What was done with the records of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records stored.
    pub records: u64,
    /// Records refused.
    pub refusals: Refusals,
    /// Whether the request named any stream, be it one without records or a refused one.
    pub named_streams: bool,
    /// What is wrong with labels that cannot be read, of a stream without records: there is none
    /// that was refused for it.
    pub unread_labels: Option<String>,
}

/// Takes requests; cheap to clone.
#[derive(Clone)]
pub struct Distributor {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    ingest: Arc<dyn IngestApi>,
    sources: Sources,
    metrics: Metrics,
    streams: Streams,
    rate: RateLimiter,
    decoders: Arc<Semaphore>,
    /// Of bodies that arrive or wait for a decoder.
    waiting: Budget,
    /// Of batches that are being stored.
    unstored: Budget,
    /// Scratch memory for decompression, to be used again.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Bodies up to this size are decoded where they are; larger ones would keep the other tasks of
/// the thread waiting, at about 3 µs per KiB.
const INLINE_BODY_BYTES: usize = 16 << 10;

/// Larger buffers are not kept.
const BUFFER_BYTES_MAX: usize = 8 << 20;

impl Distributor {
    /// A distributor that stores through `ingest`.
    pub fn new(
        config: Config,
        ingest: Arc<dyn IngestApi>,
        sources: Sources,
        metrics: Metrics,
    ) -> Self {
        Distributor {
            inner: Arc::new(Inner {
                streams: Streams::new(config.limits.clone(), sources.seed),
                rate: RateLimiter::new(&config.limits),
                decoders: Arc::new(Semaphore::new(config.decoders_max.max(1))),
                waiting: Budget::new(config.waiting_bytes_max),
                unstored: Budget::new(config.unstored_bytes_max),
                buffers: Mutex::new(Vec::new()),
                config,
                ingest,
                sources,
                metrics,
            }),
        }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Decodes and checks the body and stores its good records; when it returns `Ok`, they are
    /// safe.
    ///
    /// # Errors
    /// Nothing is acknowledged then; see [`Error`].
    #[tracing::instrument(skip_all, fields(tenant = %push.tenant, protocol = push.format.as_str(), body_bytes = push.body.bytes.len() as i64))]
    pub(crate) async fn push(&self, push: Push) -> Result<Outcome, Error> {
        let (format, inner) = (push.format, &self.inner);
        inner.metrics.received(format, push.body.bytes.len());
        let result = self.try_push(push).await;
        match &result {
            Ok(outcome) => inner.metrics.refused(&outcome.refusals),
            Err(error) => {
                inner.metrics.failed(format);
                tracing::debug!(protocol = format.as_str(), %error, "push refused");
            }
        }
        result
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is larger, ends early, or finds no room beside the others that are under way.
    pub(crate) async fn receive<B>(&self, sent: B, limit: usize) -> Result<Body, Error>
    where
        B: HttpBody + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let waiting = self.inner.config.waiting_bytes_max;
        body::read(sent, limit, self.share(), waiting).await
    }

    /// Nothing yet of the memory for bodies.
    pub(crate) fn share(&self) -> Share {
        self.inner.waiting.share()
    }

    async fn try_push(&self, push: Push) -> Result<Outcome, Error> {
        let (format, tenant) = (push.format, push.tenant.clone());
        let inner = &self.inner;
        // The semaphore is never closed; if it were, going on without a permit is harmless.
        let decoder = Arc::clone(&inner.decoders).acquire_owned().await.ok();
        let now = (inner.sources.now)();
        let (sorted, held) = self.decode(push, decoder, now).await?;
        let bytes = sorted.bytes;
        let distributors = (inner.sources.distributors)();
        match inner.rate.take(&tenant, bytes, now, distributors) {
            Ok(()) => {}
            Err(Exceeded::Never(burst)) => return Err(Error::LargerThanBurst { bytes, burst }),
            Err(Exceeded::Wait(retry_after_seconds)) => {
                return Err(Error::RateLimited {
                    tenant,
                    limit: inner.config.limits.rate_bytes_per_second,
                    records: sorted.records,
                    bytes,
                    retry_after_seconds,
                });
            }
        }
        let batches = sorted.batches.iter();
        let batch_bytes = batches.map(|(_, batch)| batch.memory_bytes()).sum();
        // The decoder is kept meanwhile, so that what is decoded but has no room is bounded, too.
        let _unstored = inner.unstored.take(batch_bytes).await;
        drop(held);
        let slot = inner.config.slot_length.slot_at(now);
        let requests: Vec<IngestRequest> = sorted
            .batches
            .into_iter()
            .map(|(shard, batch)| IngestRequest {
                batch_id: (inner.sources.batch_id)(),
                shard,
                slot,
                ring: RingVersion::default(),
                batch: Arc::new(batch),
            })
            .collect();
        if !requests.is_empty() {
            inner.ingest.ingest(requests).await?;
        }
        inner.metrics.taken(format, sorted.records, bytes);
        Ok(Outcome {
            records: sorted.records,
            refusals: sorted.refusals,
            named_streams: sorted.named_streams,
            unread_labels: sorted.unread_labels,
        })
    }

    /// What the request holds of the budgets comes back with its records: a client that leaves gives
    /// nothing back before the decoder has ended.
    async fn decode(
        &self,
        push: Push,
        decoder: Option<OwnedSemaphorePermit>,
        now: Timestamp,
    ) -> Result<(Sorted, Held), Error> {
        let inner = Arc::clone(&self.inner);
        let is_short = is_short(push.encoding, push.body.bytes.len());
        let decode = move || {
            let sorted = inner.decode(&push, now)?;
            Ok((sorted, Held(decoder, push.body)))
        };
        if is_short {
            return decode();
        }
        tokio::task::spawn_blocking(decode).await.map_err(|error| {
            let problem = format!("decoding a request stopped: {error}");
            Error::from(rpc::Error::Internal(problem))
        })?
    }
}

/// A decoder and the memory of a body, until they are dropped.
struct Held(
    #[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "held")] Body,
);

/// Whether a body is decoded where it is. Snappy makes at most some twenty bytes of one, the other
/// encodings a thousand and more.
fn is_short(encoding: Encoding, bytes: usize) -> bool {
    let is_bounded = matches!(
        encoding,
        Encoding::Identity | Encoding::Snappy | Encoding::SnappyFramed
    );
    is_bounded && bytes <= INLINE_BODY_BYTES
}

impl Inner {
    fn decode(&self, push: &Push, now: Timestamp) -> Result<Sorted, Error> {
        let mut buffer = self.buffers.lock().pop().unwrap_or_default();
        let result = self.decode_through(push, now, &mut buffer);
        if buffer.capacity() <= BUFFER_BYTES_MAX {
            let mut buffers = self.buffers.lock();
            if buffers.len() < self.config.decoders_max {
                buffers.push(buffer);
            }
        }
        result
    }

    fn decode_through(
        &self,
        push: &Push,
        now: Timestamp,
        buffer: &mut Vec<u8>,
    ) -> Result<Sorted, Error> {
        let limit = self.config.decompressed_bytes_max;
        let body = proto::decompress(push.encoding, &push.body.bytes, limit, buffer)?;
        let mut session = Session::new(
            &self.streams,
            &self.config.limits,
            &push.tenant,
            (self.sources.shards)(),
            Request {
                unlabelled: push.format.takes_unlabelled(),
                body_bytes: body.len(),
                record_bytes_max: self.config.record_bytes_max(),
            },
            now,
        );
        match push.format {
            Format::LokiProtobuf => proto::loki::decode_protobuf(body, &mut session)?,
            Format::LokiJson => proto::loki::decode_json(body, limit, &mut session)?,
            Format::OtlpProtobuf | Format::OtlpGrpc => {
                proto::otlp::decode_protobuf(body, now, &mut session)?;
            }
            Format::OtlpJson => proto::otlp::decode_json(body, now, &mut session)?,
            Format::Ingest => proto::plain::decode_ingest(body, now, &mut session)?,
            Format::Logs => proto::plain::decode_logs(body, now, &mut session)?,
        }
        session.finish().ok_or(Error::ContentTooLarge {
            limit: self.config.record_bytes_max(),
        })
    }
}

impl std::fmt::Debug for Distributor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distributor")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
