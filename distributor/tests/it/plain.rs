use axum::http::StatusCode;

use crate::fixture::{Fixture, NOW};

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn ingest_stores_entries_and_counts_them() {
    let fixture = Fixture::new();
    let body = r#"{"streams":[{"labels":{"app":"x"},"entries":[
        {"ts":"2023-11-14T22:13:20Z","line":"a"},{"ts":"2023-11-14T22:13:20.5Z","line":"b"}]}]}"#;
    let (status, _, answer) = fixture.post("/ingest", &[], body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        json(&answer),
        serde_json::json!({"accepted": 2, "rejected": 0})
    );
    let labels = r#"{app="x", service_name="x"}"#;
    let want = [
        format!("default {labels} {NOW} a []"),
        format!("default {labels} {} b []", NOW + 500_000_000),
    ];
    assert_eq!(fixture.stored(), want);
}

#[tokio::test]
async fn logs_of_many_services_and_levels_become_a_stream_each() {
    let fixture = Fixture::new();
    let body = r#"{"logs":[
        {"message":"1","service":"a","level":"INFO"},
        {"message":"2","service":"b","level":"info"},
        {"message":"3","service":"a","level":"info","metadata":{"n":1}},
        {"message":"4"}]}"#;
    for path in ["/logs", "/api/v1/logs"] {
        let headers = [("content-type", "application/json"), ("x-scope-orgid", "t")];
        let (status, _, answer) = fixture.post(path, &headers, body).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(json(&answer)["accepted"], 4);
    }
    let mut stored = fixture.stored();
    stored.dedup();
    let want = [
        format!(r#"t {{level="info", service_name="a"}} {NOW} 1 []"#),
        format!(r#"t {{level="info", service_name="a"}} {NOW} 3 [n=1]"#),
        format!(r#"t {{level="info", service_name="b"}} {NOW} 2 []"#),
        format!(r#"t {{service_name="unknown_service"}} {NOW} 4 []"#),
    ];
    assert_eq!(stored, want);
}

#[tokio::test]
async fn bad_records_are_named_and_the_others_stored() {
    let fixture = Fixture::new();
    let body = r#"[{"message":"good"},{"massage":"bad"},{"message":"x","timestamp":"2100-01-01T00:00:00Z"}]"#;
    let (status, _, answer) = fixture.post("/logs", &[], body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let answer = json(&answer);
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&1.into(), &2.into())
    );
    // Not the stream of its neighbour, and no position that counts from the record's start.
    assert_eq!(answer["errors"][0], "logs[1]: missing field `message`");
    assert!(
        answer["errors"][1]
            .as_str()
            .unwrap()
            .contains("timestamp too new: 2100-01-01")
    );
    assert_eq!(fixture.stored().len(), 1);
}

#[tokio::test]
async fn failures_are_json_too() {
    let fixture = Fixture::new();
    let (status, _, answer) = fixture.post("/ingest", &[], "nonsense").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        json(&answer)["error"]
            .as_str()
            .unwrap()
            .starts_with("malformed JSON")
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (status, _, answer) = fixture.post("/logs", &form, "{}").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(
        json(&answer)["error"]
            .as_str()
            .unwrap()
            .ends_with("takes application/json (or none)")
    );
}
