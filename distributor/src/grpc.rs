use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http;
use bytes::Bytes;
use proto::Encoding;
use rpc::remote::RawCodec;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::{Grpc, NamedService, UnaryService};

use crate::body;
use crate::budget::Share;
use crate::http::{otlp, request};
use crate::push::Push;
use crate::status::grpc_code;
use crate::{Distributor, Error, Format};

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The header that names how messages are compressed.
const GRPC_ENCODING: &str = "grpc-encoding";
/// A message's frame: a flag that says whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// OTLP's `LogsService` over gRPC, plain, gzip, zstd or snappy. Messages stay bytes until the decoder that
/// OTLP over HTTP has, too.
#[derive(Clone, Debug)]
pub struct GrpcService {
    distributor: Distributor,
}

/// The service to add to a gRPC server.
pub fn grpc_service(distributor: Distributor) -> GrpcService {
    GrpcService { distributor }
}

impl NamedService for GrpcService {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl<B> tower::Service<http::Request<B>> for GrpcService
where
    B: HttpBody + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let distributor = self.distributor.clone();
        Box::pin(async move {
            if request.uri().path() != EXPORT_PATH {
                let status = tonic::Status::unimplemented("LogsService has only Export");
                return Ok(status.into_http());
            }
            // Bodies are read and decompressed here, as those over HTTP are: gRPC's own code would do
            // both before anybody could say that there is no room.
            let size_max = distributor.config().decompressed_bytes_max;
            let mut answers = EnabledCompressionEncodings::default();
            answers.enable(CompressionEncoding::Gzip);
            answers.enable(CompressionEncoding::Zstd);
            let mut grpc = Grpc::new(RawCodec)
                .apply_compression_config(answers, answers)
                .apply_max_message_size_config(Some(size_max), None);
            match unmarked(&distributor, request, size_max).await {
                Ok((request, export)) => Ok(grpc.unary(export, request).await),
                Err(error) => Ok(status(&error).into_http()),
            }
        })
    }
}

/// A request whose message may be compressed, made one that tonic takes for a plain one: its message
/// goes on as it is, and the distributor decompresses it. One with an encoding that the distributor
/// does not know stays as it is, so that tonic answers with those that are.
async fn unmarked<B>(
    distributor: &Distributor,
    request: http::Request<B>,
    size_max: usize,
) -> Result<(http::Request<tonic::body::Body>, Export), Error>
where
    B: HttpBody + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut parts, sent) = request.into_parts();
    let limit = size_max.saturating_add(FRAME_BYTES);
    let body = distributor.receive(sent, limit).await?;
    let named = parts.headers.get(GRPC_ENCODING);
    let named = named.map_or(Some(Encoding::Identity), of_name);
    let mut message = Vec::from(body.bytes);
    let mut encoding = Encoding::Identity;
    if let (Some(known), Some(flag @ 1)) = (named, message.first_mut())
        && known != Encoding::Identity
    {
        *flag = 0;
        encoding = known;
    }
    if named.is_some() {
        parts.headers.remove(GRPC_ENCODING);
    }
    let export = Export {
        distributor: distributor.clone(),
        encoding,
        share: Some(body.share),
    };
    let message = http_body_util::Full::new(Bytes::from(message));
    let message = tonic::body::Body::new(message);
    Ok((http::Request::from_parts(parts, message), export))
}

/// Those of OpenTelemetry's collectors.
fn of_name(name: &http::HeaderValue) -> Option<Encoding> {
    match name.as_bytes() {
        b"identity" => Some(Encoding::Identity),
        b"gzip" => Some(Encoding::Gzip),
        b"zstd" => Some(Encoding::Zstd),
        b"snappy" => Some(Encoding::Snappy),
        _ => None,
    }
}

/// What to do with a message, which may still be compressed.
struct Export {
    distributor: Distributor,
    encoding: Encoding,
    /// Of the memory for bodies; taken by the one call that there is.
    share: Option<Share>,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (distributor, encoding) = (self.distributor.clone(), self.encoding);
        let share = self.share.take();
        Box::pin(async move {
            let (metadata, _, bytes) = request.into_parts();
            let share = share.unwrap_or_else(|| distributor.share());
            let body = body::Body { bytes, share };
            match export(&distributor, &metadata.into_headers(), encoding, body).await {
                Ok(response) => Ok(tonic::Response::new(response)),
                Err(error) => Err(status(&error)),
            }
        })
    }
}

async fn export(
    distributor: &Distributor,
    headers: &http::HeaderMap,
    encoding: Encoding,
    body: body::Body,
) -> Result<Bytes, Error> {
    let tenant = request::tenant(headers)?;
    let outcome = distributor
        .push(Push {
            tenant,
            format: Format::OtlpGrpc,
            encoding,
            body,
        })
        .await?;
    Ok(otlp::partial_success(&outcome).to_protobuf().into())
}

fn status(error: &Error) -> tonic::Status {
    let details = otlp::status(error).to_protobuf();
    tonic::Status::with_details(grpc_code(error), error.to_string(), details.into())
}
