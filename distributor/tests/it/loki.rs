use std::io::Write;

use axum::http::StatusCode;

use crate::fixture::{Fixture, NOW, field, header};

const PATH: &str = "/loki/api/v1/push";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A push of one stream with these lines, all of the second [`NOW`], not compressed.
fn message(labels: &str, lines: &[&[u8]]) -> Vec<u8> {
    let mut stream = field(1, labels.as_bytes());
    // Seconds as a varint of 5 bytes.
    let mut time = vec![0x08];
    let mut seconds = (NOW / 1_000_000_000) as u64;
    while seconds >= 0x80 {
        time.push(seconds as u8 | 0x80);
        seconds >>= 7;
    }
    time.push(seconds as u8);
    for line in lines {
        let entry = [field(1, &time), field(2, line)].concat();
        stream.extend(field(2, &entry));
    }
    field(1, &stream)
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

/// A body, without the end of its line.
fn text(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap();
    text.strip_suffix('\n').unwrap_or(text)
}

#[tokio::test]
async fn a_snappy_protobuf_push_is_stored_with_or_without_a_content_type() {
    let fixture = Fixture::new();
    let body = snappy(&message(r#"{app="x"}"#, &[b"one", b"two"]));
    for (path, headers) in [
        (PATH, &[PROTOBUF, ("content-encoding", "snappy")][..]),
        ("/api/prom/push", &[][..]),
    ] {
        let (status, _, answer) = fixture.post(path, headers, body.clone()).await;
        assert_eq!((status, text(&answer)), (StatusCode::NO_CONTENT, ""));
    }
    let line = |text: &str| format!(r#"default {{app="x", service_name="x"}} {NOW} {text} []"#);
    let want = [line("one"), line("one"), line("two"), line("two")];
    assert_eq!(fixture.stored(), want);
    let requests = fixture.ingest.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].batch_id, requests[1].batch_id);
    assert_eq!(requests[0].slot, model::SlotLength::DEFAULT.slot_at(NOW));
    let stream = requests[0].batch.streams[0].id;
    assert_eq!(requests[0].shard, model::Shard::of(stream, 4));
    let records = "pharos_distributor_records_total";
    assert_eq!(fixture.counter(records, "loki_protobuf"), 4.0);
}

#[tokio::test]
async fn json_pushes_come_plain_gzipped_and_deflated() {
    let json = format!(
        r#"{{"streams":[{{"stream":{{"app":"x"}},"values":[["{NOW}","l",{{"k":"v"}}]]}}]}}"#
    );
    let level = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(json.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(json.as_bytes()).unwrap();
    for (encoding, body) in [
        ("identity", json.clone().into_bytes()),
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("snappy", snappy(json.as_bytes())),
    ] {
        let fixture = Fixture::new();
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("content-encoding", encoding),
            ("x-scope-orgid", "team-a"),
        ];
        let (status, _, answer) = fixture.post(PATH, &headers, body).await;
        assert_eq!(
            status,
            StatusCode::NO_CONTENT,
            "{encoding} {}",
            text(&answer)
        );
        let want = format!(r#"team-a {{app="x", service_name="x"}} {NOW} l [k=v]"#);
        assert_eq!(fixture.stored(), [want]);
    }
}

#[tokio::test]
async fn good_records_are_stored_although_the_answer_names_the_bad_ones() {
    let fixture = Fixture::with_limits(|limits| limits.line_bytes_max = 5);
    let mut body = message(r#"{app="x"}"#, &[b"good", b"b\xffd", b"too long", b"fine"]);
    body.extend(message("{broken", &[b"lost", b"lost"]));
    let (status, _, answer) = fixture.post(PATH, &[PROTOBUF], snappy(&body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let stored = fixture.stored();
    assert_eq!(stored.len(), 3, "{stored:?}");
    assert!(
        stored.iter().any(|line| line.ends_with(" b\u{fffd}d []")),
        "{stored:?}"
    );
    let answer: Vec<&str> = text(&answer).lines().collect();
    assert_eq!(answer.len(), 3, "{answer:?}");
    assert!(answer[0].starts_with("max entry size '5' bytes exceeded"));
    assert!(answer[1].starts_with("error parsing labels '{broken' with error: 1:8: parse error"));
    assert_eq!(answer[2], "3 lines were refused in all");
    let refused = "pharos_distributor_refused_records_total";
    assert_eq!(fixture.counter(refused, "invalid_labels"), 2.0);
    assert_eq!(fixture.counter(refused, "line_too_long"), 1.0);
}

#[tokio::test]
async fn a_malformed_body_is_refused_whole_and_says_where() {
    let fixture = Fixture::new();
    let body = message(r#"{app="x"}"#, &[b"one", b"two"]);
    for (headers, body, want) in [
        (
            &[PROTOBUF][..],
            snappy(&body[..body.len() - 1]),
            "malformed protobuf at byte 1 in streams[0]",
        ),
        (
            &[PROTOBUF],
            body.clone(),
            "cannot decompress the body as snappy",
        ),
        (
            &[JSON],
            b"{\"streams\":[{]}".to_vec(),
            "malformed JSON: key must be a string at line 1 column",
        ),
        (
            &[JSON, ("content-encoding", "gzip")],
            b"{}".to_vec(),
            "cannot decompress the body as gzip",
        ),
        (
            &[PROTOBUF, ("x-scope-orgid", "a/b")],
            Vec::new(),
            "contains unsupported character '/' at position 1",
        ),
        (
            &[PROTOBUF, ("x-scope-orgid", "")],
            Vec::new(),
            "invalid X-Scope-OrgID: tenant ID is empty",
        ),
    ] {
        let (status, _, answer) = fixture.post(PATH, headers, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{want}");
        assert!(text(&answer).contains(want), "{}", text(&answer));
    }
    assert!(fixture.stored().is_empty());
}

#[tokio::test]
async fn other_content_types_and_encodings_are_told_what_is_taken() {
    let fixture = Fixture::new();
    for (headers, want) in [
        (
            &[("content-type", "text/plain")][..],
            "unsupported content type 'text/plain': this endpoint takes application/x-protobuf (or none), application/json",
        ),
        (
            &[JSON, ("content-encoding", "br")],
            "unsupported content encoding 'br': this endpoint takes identity, gzip, zstd, snappy, x-snappy-framed, deflate, zlib, lz4",
        ),
    ] {
        let (status, _, answer) = fixture.post(PATH, headers, "").await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(text(&answer), want);
    }
}

#[tokio::test]
async fn bodies_beyond_the_caps_are_too_large_before_and_after_decompression() {
    let fixture = Fixture::with(|config| {
        config.body_bytes_max = 100;
        config.decompressed_bytes_max = 1000;
    });
    let (status, _, _) = fixture.post(PATH, &[PROTOBUF], vec![0; 101]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // Of unknown length.
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(vec![0u8; 10]));
    let stream = axum::body::Body::from_stream(futures::stream::iter(chunks));
    let (status, _, answer) = fixture.post(PATH, &[PROTOBUF], stream).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        text(&answer),
        "request body too large: send at most 100 bytes at once"
    );
    let bomb = snappy(&vec![0; 1001]);
    let (status, _, _) = fixture.post(PATH, &[PROTOBUF], bomb).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn trouble_of_the_ingester_has_its_status_and_says_when_to_retry() {
    for (error, want, retry) in [
        (
            rpc::Error::Exhausted {
                reason: "no memory".into(),
                retry_after_seconds: 3,
            },
            429,
            "3",
        ),
        (rpc::Error::OutOfSpace("disk full".into()), 507, "30"),
        (rpc::Error::Unavailable("leaving".into()), 503, "5"),
        (rpc::Error::Internal("bug".into()), 500, ""),
    ] {
        let fixture = Fixture::new();
        fixture.fail_with(error.clone());
        let body = snappy(&message(r#"{app="x"}"#, &[b"one"]));
        let (status, response, answer) = fixture.post(PATH, &[PROTOBUF], body).await;
        assert_eq!(status.as_u16(), want);
        assert_eq!(header(&response, "retry-after"), retry);
        assert_eq!(text(&answer), error.to_string());
        let failed = "pharos_distributor_failed_requests_total";
        assert_eq!(fixture.counter(failed, "loki_protobuf"), 1.0);
    }
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_to_wait() {
    let fixture = Fixture::with_limits(|limits| {
        limits.rate_bytes_per_second = 2;
        limits.rate_burst_bytes = 5;
    });
    let body = snappy(&message(r#"{app="x"}"#, &[b"1234"]));
    let (status, _, _) = fixture.post(PATH, &[PROTOBUF], body.clone()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, response, answer) = fixture.post(PATH, &[PROTOBUF], body.clone()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after"), "2");
    assert!(text(&answer).starts_with("ingestion rate limit exceeded for tenant default"));
    let other = [PROTOBUF, ("x-scope-orgid", "other")];
    let (status, _, _) = fixture.post(PATH, &other, body).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let large = snappy(&message(r#"{app="x"}"#, &[b"123456"]));
    let (status, response, answer) = fixture.post(PATH, &[PROTOBUF], large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(header(&response, "retry-after"), "");
    assert_eq!(
        text(&answer),
        "request of 6 bytes is larger than rate_burst_bytes (5) and can never be taken; send less at once"
    );
}

#[tokio::test]
async fn more_bodies_than_may_wait_are_told_to_come_again() {
    let fixture = Fixture::with(|config| {
        config.waiting_bytes_max = 1024;
        config.unstored_bytes_max = 1024;
    });
    let hold = fixture.ingest.hold.lock().await;
    let body = snappy(&message(r#"{app="x"}"#, &[b"one"]));
    // The first holds the decoder's room for batches, the second waits for it, the third is one
    // too many.
    let posts: Vec<_> = (0..3)
        .map(|_| Box::pin(fixture.post(PATH, &[PROTOBUF], body.clone())))
        .collect();
    let (answer, _, others) = futures::future::select_all(posts).await;
    assert_eq!(answer.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&answer.1, "retry-after"), "1");
    drop(hold);
    for (status, _, _) in futures::future::join_all(others).await {
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn labels_that_cannot_be_read_are_told_also_without_records() {
    let fixture = Fixture::new();
    let bad = snappy(&message(r#"{app="x"#, &[]));
    let good = message(r#"{app="x"}"#, &[b"kept"]);
    let both = snappy(&[message(r#"{app="x"#, &[]), good].concat());
    let json = br#"{"streams":[{"stream":{"a b":"x"},"values":[]}]}"#.to_vec();
    for (header, body) in [(PROTOBUF, bad), (PROTOBUF, both), (JSON, json)] {
        let (status, _, answer) = fixture.post(PATH, &[header], body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text(&answer).contains("label"), "{}", text(&answer));
    }
    // As when a record is refused, the others are stored.
    assert_eq!(fixture.stored().len(), 1);
}

#[tokio::test]
async fn a_push_must_name_a_stream_which_may_be_empty() {
    let fixture = Fixture::new();
    for (header, body) in [
        (PROTOBUF, snappy(&[])),
        (JSON, br#"{"streams":[]}"#.to_vec()),
        (JSON, br#"{"streams":null}"#.to_vec()),
        (JSON, br#"{"other":5}"#.to_vec()),
    ] {
        let (status, _, answer) = fixture.post(PATH, &[header], body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let want = "error at least one valid stream is required for ingestion";
        assert_eq!(text(&answer), want);
    }
    for (header, body) in [
        (PROTOBUF, snappy(&message(r#"{app="x"}"#, &[]))),
        (PROTOBUF, snappy(&message("{}", &[]))),
        (JSON, br#"{"streams":[{}]}"#.to_vec()),
        (
            JSON,
            br#"{"streams":[{"stream":{},"values":[null]}]}"#.to_vec(),
        ),
    ] {
        let (status, _, answer) = fixture.post(PATH, &[header], body).await;
        assert_eq!((status, text(&answer)), (StatusCode::NO_CONTENT, ""));
    }
    assert!(fixture.ingest.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn streams_without_labels_are_of_an_unknown_service() {
    let fixture = Fixture::new();
    let json = |stream: &str| {
        format!(r#"{{"streams":[{{{stream}"values":[["{NOW}","line"]]}}]}}"#).into_bytes()
    };
    for (header, body) in [
        (PROTOBUF, snappy(&message("{}", &[b"line"]))),
        (PROTOBUF, snappy(&message("", &[b"line"]))),
        (PROTOBUF, snappy(&message(r#"{app=""}"#, &[b"line"]))),
        (JSON, json(r#""stream":{},"#)),
        (JSON, json("")),
    ] {
        let (status, _, answer) = fixture.post(PATH, &[header], body).await;
        assert_eq!((status, text(&answer)), (StatusCode::NO_CONTENT, ""));
    }
    let want = format!(r#"default {{service_name="unknown_service"}} {NOW} line []"#);
    assert_eq!(fixture.stored(), vec![want; 5]);
}

#[tokio::test]
async fn a_large_body_is_decoded_off_the_reactor_with_the_same_result() {
    let fixture = Fixture::new();
    // Hardly compressible, so that the body stays large.
    let lines: Vec<Vec<u8>> = (0..2000u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes())
        .collect();
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let body = snappy(&message(r#"{app="x"}"#, &lines));
    assert!(body.len() > 20_000, "{}", body.len());
    let (status, _, _) = fixture.post(PATH, &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(fixture.stored().len(), 2000);
}
