use axum::http::StatusCode;

use crate::fixture::{Fixture, NOW, field, header};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const PATH: &str = "/otlp/v1/logs";

/// An export of `service` with these bodies, without times.
pub(crate) fn message(service: &str, bodies: &[&[u8]]) -> Vec<u8> {
    let value = field(1, service.as_bytes());
    let attribute = [field(1, b"service.name"), field(2, &value)].concat();
    let resource = field(1, &attribute);
    let records: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| field(2, &field(5, &field(1, body))))
        .collect();
    let resource_logs = [field(1, &resource), field(2, &records.concat())].concat();
    field(1, &resource_logs)
}

#[tokio::test]
async fn an_export_that_is_stored_at_arrival_has_no_body_in_its_answer() {
    let fixture = Fixture::new();
    let zstd = zstd::encode_all(&*message("shop", &[b"hello"]), 3).unwrap();
    let headers = [
        PROTOBUF,
        ("content-encoding", "zstd"),
        ("x-scope-orgid", "t"),
    ];
    let (status, response, answer) = fixture.post(PATH, &headers, zstd).await;
    assert_eq!((status, answer), (StatusCode::NO_CONTENT, Vec::new()));
    assert_eq!(header(&response, "content-type"), "");
    let want = format!(r#"t {{service_name="shop"}} {NOW} hello []"#);
    assert_eq!(fixture.stored(), [want]);
}

#[tokio::test]
async fn a_json_export_on_the_main_port_is_answered_as_loki_does() {
    let fixture = Fixture::new();
    let body = r#"{"resourceLogs":[{"resource":{"attributes":[
        {"key":"k8s.pod.name","value":{"stringValue":"p"}},{"key":"x.y","value":{"intValue":"3"}}]},
        "scopeLogs":[{"logRecords":[{"timeUnixNano":"7","severityText":"INFO","body":{"stringValue":"b"}}]}]}]}"#;
    let (status, _, answer) = fixture.post(PATH, &[JSON], body).await;
    assert_eq!((status, &*answer), (StatusCode::NO_CONTENT, &b""[..]));
    let want = r#"default {k8s_pod_name="p", service_name="unknown_service"} 7 b [severity_text=INFO x_y=3]"#;
    assert_eq!(fixture.stored(), [want]);
}

#[tokio::test]
async fn the_otlp_port_has_its_own_path() {
    use tower::ServiceExt;
    let fixture = Fixture::new();
    let json =
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"b"}}]}]}]}"#;
    let protobuf = message("shop", &[b"hello"]);
    for ((name, media_type), body, want) in [(PROTOBUF, protobuf, ""), (JSON, json.into(), "{}")] {
        let request = axum::http::Request::post("/v1/logs")
            .header(name, media_type)
            .body(axum::body::Body::from(body))
            .unwrap();
        let router = distributor::otlp_router(fixture.distributor.clone());
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], media_type);
        let body = axum::body::to_bytes(response.into_body(), 100).await;
        assert_eq!(body.unwrap(), want);
    }
    assert_eq!(fixture.stored().len(), 2);
}

#[tokio::test]
async fn bad_records_are_a_partial_success() {
    let fixture = Fixture::with_limits(|limits| limits.line_bytes_max = 5);
    let body = message("shop", &[b"good", b"b\xffd", b"too long", b"longer"]);
    let (status, _, answer) = fixture.post(PATH, &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::OK);
    // partialSuccess { rejectedLogRecords: 2, errorMessage: ... }
    assert_eq!(answer[0], 0x0a);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("max entry size '5' bytes exceeded"), "{text}");
    assert_eq!(fixture.stored().len(), 2);

    let json =
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"123456"}}]}]}]}"#;
    let (status, _, answer) = fixture.post(PATH, &[JSON], json).await;
    assert_eq!(status, StatusCode::OK);
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
}

#[tokio::test]
async fn attributes_that_many_records_share_cannot_fill_the_memory() {
    let fixture = Fixture::with(|config| config.decompressed_bytes_max = 100_000);
    let value = field(1, &[b'v'; 60_000]);
    let attribute = [field(1, b"shared"), field(2, &value)].concat();
    let records = field(2, b"").repeat(10_000);
    let resource_logs = [field(1, &field(1, &attribute)), field(2, &records)].concat();
    let body = field(1, &resource_logs);
    let (status, _, answer) = fixture.post(PATH, &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("need more than 200000 bytes"), "{text}");
    assert!(fixture.stored().is_empty());
}

#[tokio::test]
async fn errors_are_a_status_in_the_type_of_the_request() {
    let fixture = Fixture::new();
    let (status, response, answer) = fixture.post(PATH, &[JSON], "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(header(&response, "content-type"), "application/json");
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["code"], 3);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("line 1 column 1")
    );

    let body = message("shop", &[b"x"]);
    let cut = body[..body.len() - 1].to_vec();
    let (status, response, answer) = fixture.post(PATH, &[PROTOBUF], cut).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(header(&response, "content-type"), "application/x-protobuf");
    // Status { code: 3, message: ... }
    assert_eq!(answer[..2], [0x08, 3]);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("at byte 1 in resourceLogs[0]"), "{text}");

    let (status, _, _) = fixture
        .post(PATH, &[("content-type", "text/csv")], "")
        .await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, _, _) = fixture
        .post(PATH, &[JSON, ("x-scope-orgid", "..")], "{}")
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_full_disk_is_worth_another_try_for_otlp_clients() {
    let fixture = Fixture::new();
    fixture.fail_with(rpc::Error::OutOfSpace("disk full".into()));
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    let (status, response, answer) = fixture.post(PATH, &[JSON], json).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, "retry-after"), "30");
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["details"][0]["retryDelay"], "30s");
}
