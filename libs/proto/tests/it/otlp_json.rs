//! OTLP's JSON, with all that senders make of it.

use proto::otlp::decode_json;

use crate::recorder::{Recorder, Said, pairs, record};

const ARRIVAL: i64 = 99;

fn decoded(body: &str) -> Result<Vec<Said>, String> {
    let mut recorder = Recorder::default();
    decode_json(body.as_bytes(), ARRIVAL, &mut recorder).map_err(|error| error.to_string())?;
    Ok(recorder.said)
}

/// The only record of a request with this record.
#[track_caller]
fn one(log: &str) -> Said {
    let body = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{log}]}}]}}]}}"#);
    let mut said = decoded(&body).unwrap_or_else(|error| panic!("{log}: {error}"));
    assert_eq!(said.len(), 2, "{log}: {said:?}");
    said.remove(1)
}

#[test]
fn a_whole_request_is_mapped_as_from_protobuf() {
    let body = r#"{"resourceLogs":[{
        "resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"shop"}},
            {"key":"host.name","value":{"stringValue":"h\n1"}}]},
        "scopeLogs":[{
            "scope":{"name":"lib","version":"2","attributes":[{"key":"s","value":{"boolValue":true}}]},
            "logRecords":[{
                "timeUnixNano":"1544712660300000000","observedTimeUnixNano":"1544712660300000001",
                "severityNumber":10,"severityText":"Information",
                "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174",
                "body":{"stringValue":"Example"},
                "attributes":[
                    {"key":"int","value":{"intValue":"-637704092"}},
                    {"key":"map","value":{"kvlistValue":{"values":[{"key":"a.b","value":{"doubleValue":637.704}}]}}},
                    {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"many"},{"intValue":2}]}}}]
            }]}]}]}"#;
    let metadata = [
        ("host_name", "h\n1"),
        ("s", "true"),
        ("scope_name", "lib"),
        ("scope_version", "2"),
        ("observed_timestamp", "1544712660300000001"),
        ("severity_number", "10"),
        ("severity_text", "Information"),
        ("trace_id", "5b8efff798038103d269b633813fc60c"),
        ("span_id", "eee19b7ec3c1b174"),
        ("int", "-637704092"),
        ("map_a_b", "637.704"),
        ("list", r#"["many",2]"#),
    ];
    let want = vec![
        pairs(&[("service_name", "shop")]),
        record(1_544_712_660_300_000_000, "Example", &metadata),
    ];
    assert_eq!(decoded(body), Ok(want));
}

#[test]
fn null_is_the_default_of_every_field() {
    let log = r#"{"timeUnixNano":null,"observedTimeUnixNano":null,"severityNumber":null,
        "severityText":null,"body":null,"attributes":null,"droppedAttributesCount":null,
        "flags":null,"traceId":null,"spanId":null,"eventName":null}"#;
    assert_eq!(one(log), record(ARRIVAL, "", &[]));
    assert_eq!(one("{}"), record(ARRIVAL, "", &[]));
    for body in ["{}", r#"{"resourceLogs":null}"#, r#"{"resourceLogs":[]}"#] {
        assert_eq!(decoded(body), Ok(vec![]), "{body}");
    }
    let nulls = r#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"scope":null,"logRecords":null},{"scope":{"name":null,"attributes":null}}]}]}"#;
    assert_eq!(decoded(nulls), Ok(vec![pairs(&[])]));
}

#[test]
fn scalars_are_taken_in_every_form_in_which_they_are_sent() {
    for (log, want) in [
        (r#"{"timeUnixNano":5}"#, record(5, "", &[])),
        (r#"{"timeUnixNano":"5"}"#, record(5, "", &[])),
        (r#"{"timeUnixNano":5e0}"#, record(5, "", &[])),
        (
            r#"{"time_unix_nano":"5","severity_text":"x"}"#,
            record(5, "", &[("severity_text", "x")]),
        ),
        (
            r#"{"timeUnixNano":"5","unknownField":{"a":[1]}}"#,
            record(5, "", &[]),
        ),
        (r#"{"observedTimeUnixNano":"6"}"#, record(6, "", &[])),
        (
            r#"{"severityNumber":"SEVERITY_NUMBER_INFO"}"#,
            record(ARRIVAL, "", &[("severity_number", "9")]),
        ),
        (
            r#"{"severityNumber":"fatal4"}"#,
            record(ARRIVAL, "", &[("severity_number", "24")]),
        ),
        (
            r#"{"severityNumber":"SEVERITY_NUMBER_UNSPECIFIED"}"#,
            record(ARRIVAL, "", &[]),
        ),
        (
            r#"{"severityNumber":"13"}"#,
            record(ARRIVAL, "", &[("severity_number", "13")]),
        ),
        (r#"{"flags":"1"}"#, record(ARRIVAL, "", &[("flags", "1")])),
        (r#"{"traceId":"","spanId":""}"#, record(ARRIVAL, "", &[])),
        (
            r#"{"traceId":"00000000000000000000000000000000"}"#,
            record(ARRIVAL, "", &[]),
        ),
        (
            r#"{"traceId":"not hex","spanId":"abc"}"#,
            record(ARRIVAL, "", &[]),
        ),
        (r#"{"body":{}}"#, record(ARRIVAL, "", &[])),
        (r#"{"body":{"stringValue":null}}"#, record(ARRIVAL, "", &[])),
        (
            r#"{"body":{"string_value":"s"}}"#,
            record(ARRIVAL, "s", &[]),
        ),
        (
            r#"{"body":{"boolValue":false}}"#,
            record(ARRIVAL, "false", &[]),
        ),
        (
            r#"{"body":{"intValue":9223372036854775807}}"#,
            record(ARRIVAL, "9223372036854775807", &[]),
        ),
        (r#"{"body":{"intValue":"-1"}}"#, record(ARRIVAL, "-1", &[])),
        (
            r#"{"body":{"doubleValue":"NaN"}}"#,
            record(ARRIVAL, "NaN", &[]),
        ),
        (
            r#"{"body":{"doubleValue":"-Infinity"}}"#,
            record(ARRIVAL, "-Inf", &[]),
        ),
        (
            r#"{"body":{"doubleValue":"1.5"}}"#,
            record(ARRIVAL, "1.5", &[]),
        ),
        (r#"{"body":{"doubleValue":2}}"#, record(ARRIVAL, "2", &[])),
        (
            r#"{"body":{"bytesValue":"+/8="}}"#,
            record(ARRIVAL, "+/8=", &[]),
        ),
        (
            r#"{"body":{"bytesValue":"-_8"}}"#,
            record(ARRIVAL, "+/8=", &[]),
        ),
        (r#"{"body":{"arrayValue":{}}}"#, record(ARRIVAL, "[]", &[])),
        (
            r#"{"body":{"arrayValue":{"values":null}}}"#,
            record(ARRIVAL, "[]", &[]),
        ),
        (r#"{"body":{"kvlistValue":{}}}"#, record(ARRIVAL, "{}", &[])),
        (
            r#"{"attributes":[{"key":"k","value":null},{"key":"l"}]}"#,
            record(ARRIVAL, "", &[("k", ""), ("l", "")]),
        ),
    ] {
        assert_eq!(one(log), want, "{log}");
    }
}

#[test]
fn a_time_beyond_the_range_spoils_its_record_only() {
    let said = one(r#"{"timeUnixNano":"18446744073709551615"}"#);
    assert!(matches!(said, Said::Flaw(_)), "{said:?}");
}

#[test]
fn malformed_requests_name_line_and_column() {
    for (body, want) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[1]", "line 1 column"),
        (
            r#"{"resourceLogs":{}}"#,
            "expected a sequence at line 1 column",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"x"}]}]}]}"#,
            "an integer of 64 bits",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1.5}]}]}]}"#,
            "an integer of 64 bits",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"LOUD"}]}]}]}"#,
            "a severity number",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"*"}}]}]}]}"#,
            "bad base64",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":"text"}]}]}]}"#,
            "expected a value: an object such as {\"stringValue\": ..} at line 1 column",
        ),
    ] {
        let error = decoded(body).expect_err(body);
        assert!(error.contains(want), "{body}: {error}");
    }
}

#[test]
fn a_body_of_very_many_objects_is_refused_before_it_fills_the_memory() {
    let body = format!(r#"{{"resourceLogs":[{}{{}}]}}"#, "{},".repeat(500_000));
    let error = decoded(&body).unwrap_err();
    assert!(
        error.contains("more than 500000 objects and lists"),
        "{error}"
    );
}
