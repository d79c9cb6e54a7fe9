use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http;
use bytes::Bytes;
use proto::Encoding;
use rpc::remote::RawCodec;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::{Grpc, NamedService, UnaryService};

use crate::http::{otlp, request};
use crate::status::grpc_code;
use crate::{Distributor, Error, Format, Push};

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// OTLP's `LogsService` over gRPC, plain, gzip or zstd. Messages stay bytes until the decoder that
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
            Ok(grpc.unary(Export(distributor), request).await)
        })
    }
}

struct Export(Distributor);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let distributor = self.0.clone();
        Box::pin(async move {
            let (metadata, _, body) = request.into_parts();
            match export(&distributor, &metadata.into_headers(), body).await {
                Ok(response) => Ok(tonic::Response::new(response)),
                Err(error) => Err(status(&error)),
            }
        })
    }
}

async fn export(
    distributor: &Distributor,
    headers: &http::HeaderMap,
    body: Bytes,
) -> Result<Bytes, Error> {
    let tenant = request::tenant(headers)?;
    let outcome = distributor
        .push(Push {
            tenant,
            format: Format::OtlpGrpc,
            encoding: Encoding::Identity,
            body,
        })
        .await?;
    Ok(otlp::partial_success(&outcome).to_protobuf().into())
}

fn status(error: &Error) -> tonic::Status {
    let details = otlp::status(error).to_protobuf();
    tonic::Status::with_details(grpc_code(error), error.to_string(), details.into())
}
