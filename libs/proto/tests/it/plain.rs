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
fn ingest_takes_times_as_rfc_3339_and_as_numbers() {
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
        record(3 * SECOND, "c", &[]),
        record(4 * SECOND, "d", &[]),
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
    // No line and column: they would count from the record's start.
    assert_eq!(flaw.to_string(), "logs[0]: missing field `message`");
}

#[test]
fn an_error_of_a_single_record_stands_where_it_is_in_the_body() {
    let error = logs("\n\n{\"level\":\"info\"}").unwrap_err();
    let want = "malformed JSON: missing field `message` at line 3 column 16";
    assert_eq!(error.to_string(), want);
}

#[test]
fn the_size_of_a_number_tells_its_unit() {
    const TODAY: i64 = 1_700_000_000;
    for (written, want) in [
        ("1700000000", TODAY * SECOND),
        ("1700000000123", TODAY * SECOND + 123_000_000),
        ("1700000000123456", TODAY * SECOND + 123_456_000),
        ("1700000000123456789", TODAY * SECOND + 123_456_789),
        ("1700000000.5", TODAY * SECOND + 500_000_000),
        ("1700000000.123456789", TODAY * SECOND + 123_456_789),
        ("1700000000.1234567891", TODAY * SECOND + 123_456_789),
        ("1.7e9", TODAY * SECOND),
        ("1.7E+9", TODAY * SECOND),
        ("0", 0),
        ("0.0", 0),
        ("-1", -SECOND),
        ("-1.25", -SECOND * 5 / 4),
        ("9223372036", 9_223_372_036 * SECOND),
        ("10000000000", 10_000_000_000_000_000),
        ("9223372036854", 9_223_372_036_854_000_000),
        ("10000000000000", 10_000_000_000_000_000),
        ("9223372036854775", 9_223_372_036_854_775_000),
        ("10000000000000000", 10_000_000_000_000_000),
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
    ] {
        for text in [written.to_owned(), format!("\"{written}\"")] {
            let body = format!(r#"{{"message":"x","timestamp":{text}}}"#);
            assert_eq!(logs(&body).unwrap()[1], record(want, "x", &[]), "{text}");
        }
    }
}

#[test]
fn numbers_that_are_no_time_are_named() {
    for written in [
        "9999999999",
        "9999999999999",
        "9999999999999999",
        "9223372036854775808",
        "1700000000123.5",
        "1e300",
        "-1e300",
    ] {
        for text in [written.to_owned(), format!("\"{written}\"")] {
            let body = format!(r#"{{"message":"x","timestamp":{text}}}"#);
            let want = Said::Flaw(Flaw::Timestamp(written.to_owned()));
            assert_eq!(logs(&body).unwrap()[1], want, "{text}");
        }
    }
    for written in ["\"inf\"", "\"\"", "true", "{}", "\"1.2.3\"", "\".\""] {
        let body = format!(r#"{{"message":"x","timestamp":{written}}}"#);
        let said = logs(&body).unwrap();
        assert!(matches!(&said[1], Said::Flaw(_)), "{written}: {said:?}");
    }
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

#[test]
fn a_body_of_nothing_but_small_parts_needs_little_memory() {
    let body =
        |entries: &str| format!("{{\"streams\":[{{\"labels\":{{}},\"entries\":[{entries}]}}]}}");
    let error = ingest(&body(&vec!["{}"; 500_000].join(","))).unwrap_err();
    assert_eq!(error, Error::TooComplex { limit: 500_000 });

    let pairs: Vec<String> = (0..70_000).map(|n| format!("\"k{n}\":\"\"")).collect();
    let said = ingest(&body(&format!(
        "{{\"line\":\"x\",\"metadata\":{{{}}}}}",
        pairs.join(",")
    )));
    let told = said.unwrap().into_iter().find_map(|said| match said {
        Said::Record { metadata, .. } => Some(metadata.len()),
        _ => None,
    });
    let one_too_many = proto::PAIRS_MAX + 1;
    assert_eq!(
        told,
        Some(one_too_many),
        "a limit sees that they are too many"
    );
}
