use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use proto::Encoding;
use rpc::remote::RawCodec;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::{Grpc, NamedService, UnaryService};

use crate::http::{otlp, request};
use crate::status::grpc_code;
use crate::{Distributor, Error, Format, Push};

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The header that names how messages are compressed.
const GRPC_ENCODING: &str = "grpc-encoding";
/// What tonic does not know and collectors can send.
const SNAPPY: &[u8] = b"snappy";
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
    B: axum::body::HttpBody + Send + 'static,
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
            let mut encodings = EnabledCompressionEncodings::default();
            encodings.enable(CompressionEncoding::Gzip);
            encodings.enable(CompressionEncoding::Zstd);
            // One cap for both: gRPC decompresses before anybody sees the message.
            let size_max = distributor.config().decompressed_bytes_max;
            let mut grpc = Grpc::new(RawCodec)
                .apply_compression_config(encodings, encodings)
                .apply_max_message_size_config(Some(size_max), None);
            let encoding = request.headers().get(GRPC_ENCODING);
            if encoding.is_none_or(|encoding| encoding.as_bytes() != SNAPPY) {
                let export = Export(distributor, Encoding::Identity);
                return Ok(grpc.unary(export, request).await);
            }
            match unmarked(request, size_max).await {
                Ok((request, encoding)) => {
                    Ok(grpc.unary(Export(distributor, encoding), request).await)
                }
                Err(error) => Ok(status(&error).into_http()),
            }
        })
    }
}

/// A request whose message may be compressed with snappy, made one that tonic takes for a plain one:
/// its message goes on as it is, and the distributor decompresses it.
async fn unmarked<B>(
    request: http::Request<B>,
    size_max: usize,
) -> Result<(http::Request<Body>, Encoding), Error>
where
    B: axum::body::HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    let limit = size_max.saturating_add(FRAME_BYTES);
    let body = match Limited::new(body, limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Error::BodyTooLarge { limit: size_max });
        }
        Err(error) => return Err(Error::BodyIncomplete(error.to_string())),
    };
    let mut body = Vec::from(body);
    let mut encoding = Encoding::Identity;
    if let Some(flag @ 1) = body.first_mut() {
        *flag = 0;
        encoding = Encoding::Snappy;
    }
    parts.headers.remove(GRPC_ENCODING);
    Ok((http::Request::from_parts(parts, Body::from(body)), encoding))
}

/// What to do with a message, which may still be compressed.
struct Export(Distributor, Encoding);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (distributor, encoding) = (self.0.clone(), self.1);
        Box::pin(async move {
            let (metadata, _, body) = request.into_parts();
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
    body: Bytes,
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
