//! OTLP over gRPC, spoken by hand: a message is a flag byte, its length, and its bytes.

use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::fixture::{Fixture, NOW};
use crate::otlp::message;

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

struct Answer {
    code: String,
    text: String,
    details: String,
    /// The message, without its frame.
    message: Vec<u8>,
}

async fn call(fixture: &Fixture, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
    let mut frame = vec![u8::from(
        headers.iter().any(|(name, _)| *name == "grpc-encoding"),
    )];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let mut request = Request::post(path).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let service = distributor::grpc_service(fixture.distributor.clone());
    let request = request.body(Body::from(frame)).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    // An error without a message has its status among the headers.
    let trailers = body.trailers().cloned().unwrap_or(parts.headers);
    let of = |name: &str| {
        let value = trailers.get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    Answer {
        code: of("grpc-status"),
        text: of("grpc-message"),
        details: of("grpc-status-details-bin"),
        message: body.to_bytes().iter().copied().skip(5).collect(),
    }
}

/// As Go's writer of snappy streams, which collectors use.
fn framed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).unwrap();
    encoder.into_inner().unwrap()
}

#[tokio::test]
async fn exports_come_plain_and_compressed_in_every_way() {
    let plain = message("shop", &[b"hello"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    for (headers, body) in [
        (vec![("x-scope-orgid", "t")], plain.clone()),
        (
            vec![("x-scope-orgid", "t"), ("grpc-encoding", "gzip")],
            gzip.finish().unwrap(),
        ),
        (
            vec![("x-scope-orgid", "t"), ("grpc-encoding", "zstd")],
            zstd::encode_all(&*plain, 3).unwrap(),
        ),
        (
            vec![("x-scope-orgid", "t"), ("grpc-encoding", "snappy")],
            snap::raw::Encoder::new().compress_vec(&plain).unwrap(),
        ),
        (
            vec![("x-scope-orgid", "t"), ("grpc-encoding", "snappy")],
            framed(&plain),
        ),
    ] {
        let fixture = Fixture::new();
        let answer = call(&fixture, EXPORT, &headers, &body).await;
        assert_eq!((&*answer.code, &*answer.text), ("0", ""));
        assert!(answer.message.is_empty());
        let want = format!(r#"t {{service_name="shop"}} {NOW} hello []"#);
        assert_eq!(fixture.stored(), [want]);
        assert_eq!(
            fixture.counter("pharos_distributor_records_total", "otlp_grpc"),
            1.0
        );
    }
}

#[tokio::test]
async fn bad_records_are_a_partial_success() {
    let fixture = Fixture::with_limits(|limits| limits.line_bytes_max = 5);
    let body = message("shop", &[b"good", b"too long"]);
    let answer = call(&fixture, EXPORT, &[], &body).await;
    assert_eq!(answer.code, "0");
    assert_eq!(answer.message[0], 0x0a);
    assert_eq!(fixture.stored().len(), 1);
}

#[tokio::test]
async fn errors_have_codes_and_say_when_to_retry() {
    let fixture = Fixture::new();
    let answer = call(&fixture, EXPORT, &[], &[0x0a, 5]).await;
    assert_eq!(answer.code, "3");
    assert!(
        answer.text.contains("malformed%20protobuf"),
        "{}",
        answer.text
    );
    let answer = call(&fixture, EXPORT, &[("x-scope-orgid", "a b")], &[]).await;
    assert_eq!(answer.code, "3");
    let answer = call(
        &fixture,
        "/opentelemetry.proto.collector.logs.v1.LogsService/X",
        &[],
        &[],
    )
    .await;
    assert_eq!(answer.code, "12");

    fixture.fail_with(rpc::Error::Exhausted {
        reason: "no memory".into(),
        retry_after_seconds: 2,
    });
    let answer = call(&fixture, EXPORT, &[], &message("shop", &[b"x"])).await;
    assert_eq!(answer.code, "8");
    assert!(!answer.details.is_empty());
    fixture.fail_with(rpc::Error::Unavailable("leaving".into()));
    let answer = call(&fixture, EXPORT, &[], &message("shop", &[b"x"])).await;
    assert_eq!(answer.code, "14");
}

#[tokio::test]
async fn a_message_beyond_the_cap_is_refused_also_when_it_is_small_on_the_wire() {
    let fixture = Fixture::with(|config| config.decompressed_bytes_max = 1000);
    let bomb = zstd::encode_all(&*vec![0; 100_000], 3).unwrap();
    let answer = call(&fixture, EXPORT, &[("grpc-encoding", "zstd")], &bomb).await;
    assert_ne!(answer.code, "0");
    let bomb = framed(&vec![0; 100_000]);
    let answer = call(&fixture, EXPORT, &[("grpc-encoding", "snappy")], &bomb).await;
    assert_ne!(answer.code, "0");
    let answer = call(&fixture, EXPORT, &[("grpc-encoding", "snappy")], b"\xff").await;
    assert_eq!(answer.code, "3");
    assert!(fixture.stored().is_empty());
}
