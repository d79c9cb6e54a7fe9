use proto::plain::{decode_ingest, decode_logs};
use proto::{Error, Flaw};

use crate::recorder::{Recorder, Said, pairs, record};

const ARRIVAL: i64 = 99;
const SECOND: i64 = 1_000_000_000;

fn ingest(body: &str) -> Result<Vec<Said>, Error> {
    let mut recorder = Recorder::default();
    decode_ingest(body.as_bytes(), ARRIVAL, &mut recorder)?;
    Ok(recorder.said)
}

fn logs(body: &str) -> Result<Vec<Said>, Error> {
    let mut recorder = Recorder::default();
    decode_logs(body.as_bytes(), ARRIVAL, &mut recorder)?;
    Ok(recorder.said)
}

#[test]
fn ingest_takes_times_as_rfc_3339_and_as_nanoseconds() {
    let body = r#"{"streams":[{"labels":{"app":"x"},"entries":[
        {"ts":"1970-01-01T00:00:01.5Z","line":"a"},
        {"ts":"1970-01-01T01:00:02+01:00","line":"b","metadata":{"k":"v"}},
        {"ts":3,"line":"c"},
        {"ts":"4","line":"d","metadata":null},
        {"ts":null,"line":"e"},
        {"line":"f"},
        {"ts":"yesterday","line":"g"},
        {"ts":"2300-01-01T00:00:00Z","line":"h"}]}]}"#;
    let flaw = |text: &str| Said::Flaw(Flaw::Timestamp(text.to_owned()));
    let want = vec![
        pairs(&[("app", "x")]),
        record(SECOND * 3 / 2, "a", &[]),
        record(2 * SECOND, "b", &[("k", "v")]),
        record(3, "c", &[]),
        record(4, "d", &[]),
        record(ARRIVAL, "e", &[]),
        record(ARRIVAL, "f", &[]),
        flaw("yesterday"),
        flaw("2300-01-01T00:00:00Z"),
    ];
    assert_eq!(ingest(body), Ok(want));
}

#[test]
fn ingest_names_the_place_of_what_is_missing() {
    for (body, want) in [
        ("{}", "missing field `streams`"),
        (r#"{"streams":[{"entries":[]}]}"#, "missing field `labels`"),
        (
            r#"{"streams":[{"labels":{},"entries":[{"ts":"1"}]}]}"#,
            "missing field `line`",
        ),
        (
            r#"{"streams":[{"labels":{"a":1},"entries":[]}]}"#,
            "expected a string",
        ),
    ] {
        let error = ingest(body).expect_err(body).to_string();
        assert!(
            error.contains(want) && error.contains("line 1 column"),
            "{body}: {error}"
        );
    }
}

#[test]
fn logs_takes_one_record_a_list_or_a_batch() {
    let one = r#"{"timestamp":"1970-01-01T00:00:01Z","level":" ERROR ","message":"boom",
        "service":"api","metadata":{"user":7,"name":"x","tags":["a"]}}"#;
    let want = vec![
        pairs(&[("service_name", "api"), ("level", "error")]),
        record(
            SECOND,
            "boom",
            &[("user", "7"), ("name", "x"), ("tags", r#"["a"]"#)],
        ),
    ];
    assert_eq!(logs(one), Ok(want.clone()));
    assert_eq!(logs(&format!(" [{one}]")), Ok(want.clone()));
    assert_eq!(logs(&format!(r#"{{"logs":[{one}]}}"#)), Ok(want));
    let bare = vec![
        pairs(&[("service_name", "unknown_service"), ("level", "")]),
        record(ARRIVAL, "x", &[]),
    ];
    assert_eq!(logs(r#"{"message":"x"}"#), Ok(bare));
}

#[test]
fn a_bad_record_of_a_batch_spoils_itself_only() {
    let said = logs(r#"{"logs":[{"level":"info"},{"message":"x"}]}"#).unwrap();
    assert_eq!(said.len(), 3);
    let Said::Flaw(flaw) = &said[0] else {
        panic!("{said:?}");
    };
    let text = flaw.to_string();
    assert!(
        text.starts_with("logs[0]: missing field `message`"),
        "{text}"
    );
}

#[test]
fn a_body_of_another_shape_is_an_error() {
    for (body, want) in [
        ("", "EOF"),
        ("3", "expected a record: an object with \"message\""),
        ("{}", "missing field `message`"),
        (r#"{"message":3}"#, "expected a string"),
        (r#"{"logs":3}"#, "missing field `message`"),
    ] {
        let error = logs(body).expect_err(body).to_string();
        assert!(error.contains(want), "{body}: {error}");
    }
}
