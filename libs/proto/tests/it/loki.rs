//! Loki push against messages that prost encodes.

use proptest::prelude::*;
use prost::Message;
use proto::loki::{decode_json, decode_protobuf};
use proto::{Error, Flaw};

use crate::recorder::{Recorder, Said, pairs, record, text};

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
    #[prost(string, tag = "2")]
    format: String,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(bytes = "vec", tag = "2")]
    line: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
    #[prost(message, repeated, tag = "4")]
    parsed: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// What the decoder should say, by the plainest possible reading.
fn expected(request: &PushRequest) -> Vec<Said> {
    let mut said = Vec::new();
    for stream in &request.streams {
        said.push(text(&stream.labels));
        for entry in &stream.entries {
            let time = entry.timestamp.clone().unwrap_or_default();
            let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
            said.push(match i64::try_from(nanos) {
                Ok(time) => Said::Record {
                    time,
                    line: entry.line.clone(),
                    metadata: entry
                        .metadata
                        .iter()
                        .map(|pair| (pair.name.clone(), pair.value.clone()))
                        .collect(),
                },
                Err(_) => Said::Flaw(Flaw::Timestamp(format!(
                    "{} s {} ns since 1970",
                    time.seconds, time.nanos
                ))),
            });
        }
    }
    said
}

fn decoded(body: &[u8]) -> Result<Vec<Said>, Error> {
    let mut recorder = Recorder::default();
    decode_protobuf(body, &mut recorder)?;
    Ok(recorder.said)
}

fn any_pair() -> impl Strategy<Value = Pair> {
    let value = prop::collection::vec(any::<u8>(), 0..12);
    ("\\PC{0,8}", value).prop_map(|(name, value)| Pair { name, value })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let seconds = prop_oneof![
        any::<i64>(),
        -9_300_000_000i64..9_300_000_000,
        1_700_000_000i64..1_800_000_000,
    ];
    let timestamp = prop::option::of(
        (seconds, any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos }),
    );
    let line = prop::collection::vec(any::<u8>(), 0..200);
    let metadata = prop::collection::vec(any_pair(), 0..3);
    let parsed = prop::collection::vec(any_pair(), 0..2);
    (timestamp, line, metadata, parsed).prop_map(|(timestamp, line, metadata, parsed)| Entry {
        timestamp,
        line,
        metadata,
        parsed,
    })
}

fn any_request() -> impl Strategy<Value = PushRequest> {
    let entries = prop::collection::vec(any_entry(), 0..5);
    let stream = ("\\PC{0,20}", entries, any::<u64>()).prop_map(|(labels, entries, hash)| Stream {
        labels,
        entries,
        hash,
    });
    let streams = prop::collection::vec(stream, 0..4);
    (streams, "\\PC{0,4}").prop_map(|(streams, format)| PushRequest { streams, format })
}

fn sample() -> PushRequest {
    let pair = |name: &str, value: &str| Pair {
        name: name.into(),
        value: value.into(),
    };
    PushRequest {
        streams: vec![Stream {
            labels: r#"{app="x"}"#.into(),
            entries: vec![
                Entry {
                    timestamp: Some(Timestamp {
                        seconds: 1_700_000_000,
                        nanos: 5,
                    }),
                    line: b"first".to_vec(),
                    metadata: vec![pair("trace_id", "abc")],
                    parsed: Vec::new(),
                },
                Entry {
                    timestamp: None,
                    line: b"second".to_vec(),
                    metadata: Vec::new(),
                    parsed: Vec::new(),
                },
            ],
            hash: 7,
        }],
        format: String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_prost_encodes_is_decoded_alike(request in any_request()) {
        prop_assert_eq!(decoded(&request.encode_to_vec()), Ok(expected(&request)));
    }

    #[test]
    fn any_bytes_give_records_or_an_error_inside_the_body(
        body in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        if let Err(Error::Wire(error)) = decoded(&body) {
            prop_assert!(error.offset <= body.len());
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(request in any_request(), at in any::<usize>(), bit in 0..8u32) {
        let mut body = request.encode_to_vec();
        if !body.is_empty() {
            let at = at % body.len();
            body[at] ^= 1 << bit;
        }
        let _ = decoded(&body);
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error_inside_what_is_left() {
    let body = sample().encode_to_vec();
    for cut in 1..body.len() {
        match decoded(&body[..cut]) {
            Err(Error::Wire(error)) => assert!(error.offset <= cut, "cut at {cut}: {error}"),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn an_error_names_offset_and_field() {
    let mut request = sample();
    let length = request.encode_to_vec().len();
    let mut body = sample().encode_to_vec();
    // The second entry's line is the last thing in its stream but for the hash (2 bytes): make its
    // length point beyond the entry.
    let at = length - 2 - "second".len() - 1;
    assert_eq!(body[at], 6);
    body[at] = 7;
    let error = decoded(&body).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "malformed protobuf at byte {at} in streams[0].entries[1].line: a length points beyond \
             the end of its message"
        )
    );
    request.streams.clear();
    assert_eq!(decoded(&request.encode_to_vec()), Ok(Vec::new()));
}

#[test]
fn labels_may_stand_behind_the_entries() {
    let mut stream = Vec::new();
    let entry = &sample().streams[0].entries[1];
    prost::encoding::message::encode(2, entry, &mut stream);
    prost::encoding::string::encode(1, &"{a=\"b\"}".to_owned(), &mut stream);
    let mut body = vec![0x0a, stream.len() as u8];
    body.extend(stream);
    let want = vec![text("{a=\"b\"}"), record(0, "second", &[])];
    assert_eq!(decoded(&body), Ok(want));
}

#[test]
fn all_streams_before_the_first_that_is_malformed_are_told_ahead_and_decoded() {
    let stream = |n: usize| Stream {
        labels: format!("{{n=\"{n}\"}}"),
        entries: sample().streams[0].entries.clone(),
        hash: n as u64,
    };
    for streams in [1, 63, 64, 65, 128, 150] {
        let request = PushRequest {
            streams: (0..streams).map(stream).collect(),
            format: "x".into(),
        };
        let mut body = request.encode_to_vec();
        let mut recorder = Recorder::default();
        decode_protobuf(&body, &mut recorder).unwrap();
        assert_eq!((recorder.said, recorder.surprises), (expected(&request), 0));
        // A stream whose labels are longer than it is.
        body.extend([0x0a, 2, 0x0a, 1]);
        let mut recorder = Recorder::default();
        let error = decode_protobuf(&body, &mut recorder).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("streams[{streams}].labels"))
        );
        assert_eq!(recorder.said, expected(&request));
    }
}

#[test]
fn a_metadata_name_that_is_not_utf8_spoils_its_record_only() {
    let mut body = sample().encode_to_vec();
    let at = body.windows(5).position(|w| w == b"trace").unwrap();
    body[at + 2] = 0xff;
    let said = decoded(&body).unwrap();
    assert!(matches!(said[1], Said::Flaw(Flaw::Utf8 { at: 2, .. })));
    assert_eq!(said[2], record(0, "second", &[]));
}

fn json(body: &str) -> Result<Vec<Said>, Error> {
    let mut recorder = Recorder::default();
    decode_json(body.as_bytes(), body.len(), &mut recorder)?;
    Ok(recorder.said)
}

#[test]
fn bytes_of_json_that_are_no_text_are_marked() {
    let mut recorder = Recorder::default();
    let body = b"{\"streams\":[{\"stream\":{},\"values\":[[\"1\",\"caf\xe9\"]]}]}\xff";
    decode_json(body, body.len() + 4, &mut recorder).unwrap();
    assert_eq!(recorder.said[1], record(1, "caf\u{fffd}", &[]));
    let mut recorder = Recorder::default();
    let limit = body.len() + 3;
    let refused = decode_json(body, limit, &mut recorder);
    assert_eq!(refused, Err(Error::TooLarge { limit }));
    assert!(recorder.said.is_empty(), "{:?}", recorder.said);
}

#[test]
fn json_pushes_of_every_shape_are_read() {
    let two = vec![
        pairs(&[("app", "x"), ("b", "c\"")]),
        record(1_700_000_000_000_000_001, "line \"1\"", &[]),
        record(-2, "", &[("k", "v")]),
    ];
    for body in [
        r#"{"streams":[{"stream":{"app":"x","b":"c\""},"values":[["1700000000000000001","line \"1\""],["-2","",{"k":"v"}]]}]}"#,
        r#" { "other": [1,{"a":2}], "streams": [ { "values": [ ["1700000000000000001","line \u00221\"", {}], ["-2","",{"k":"v"}] ] , "more": null, "stream": {"app":"x","b":"c\""} } ] } "#,
    ] {
        assert_eq!(json(body), Ok(two.clone()), "{body}");
    }
    for body in [
        "{}",
        "null",
        r#"{"streams":null}"#,
        r#"{"streams":[]}"#,
        r#"{"streams":[]} x"#,
        r#"{"streams":[]}}"#,
    ] {
        assert_eq!(json(body), Ok(Vec::new()), "{body}");
    }
    let empty = r#"{"streams":[{"stream":{"a":"b"},"values":null},{"values":[]}]}"#;
    assert_eq!(json(empty), Ok(vec![pairs(&[("a", "b")]), pairs(&[])]));
}

#[test]
fn json_records_may_have_any_number_of_elements_after_their_time() {
    let body = r#"{"streams":[{"stream":{"a":"b"},"values":[["1"],null,["2","x",{"k":"v"},{"l":"w"},5],["3","y",{},"z"]]}]}"#;
    let want = vec![
        pairs(&[("a", "b")]),
        record(1, "", &[]),
        record(2, "x", &[("k", "v")]),
        record(3, "y", &[]),
    ];
    assert_eq!(json(body), Ok(want));
}

#[test]
fn a_json_label_value_that_is_no_string_is_its_text() {
    let body = r#"{"streams":[{"stream":{"a":5,"b":1.50,"c":1e5,"d":true,"e":null,"f": { "g" : "h" } ,"i":["j"],"k":"\u00e9"}}]}"#;
    let want = pairs(&[
        ("a", "5"),
        ("b", "1.50"),
        ("c", "1e5"),
        ("d", "true"),
        ("e", "null"),
        ("f", r#"{ "g" : "h" }"#),
        ("i", r#"["j"]"#),
        ("k", "\u{e9}"),
    ]);
    assert_eq!(json(body), Ok(vec![want]));
}

#[test]
fn a_json_time_that_is_no_number_spoils_its_record_only() {
    let body = r#"{"streams":[{"stream":{"a":"b"},"values":[["soon","x"],["99999999999999999999","y"],["3","z"]]}]}"#;
    let flaw = |text: &str| Said::Flaw(Flaw::Timestamp(text.to_owned()));
    let want = vec![
        pairs(&[("a", "b")]),
        flaw("soon"),
        flaw("99999999999999999999"),
        record(3, "z", &[]),
    ];
    assert_eq!(json(body), Ok(want));
}

#[test]
fn malformed_json_names_line_and_column() {
    for (body, want) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "expected an object with \"streams\" at line 1 column"),
        (
            r#"{"streams":[{"stream":null}]}"#,
            "invalid type: null, expected an object at line 1 column",
        ),
        (
            r#"{"streams":[{"stream":{"a":"\x"}}]}"#,
            "invalid escape at line 1 column",
        ),
        (
            r#"{"streams":[{"stream":{},"values":[[1,"x"]]}]}"#,
            "expected a string at line 1 column",
        ),
        (
            r#"{"streams":[{"stream":{},"values":[[]]}]}"#,
            "expected a record with its time",
        ),
        (
            r#"{"streams":[{"stream":{},"values":[["1",2]]}]}"#,
            "expected a string at line 1 column",
        ),
        (
            r#"{"streams":[{"stream":{},"values":[["1","x",{"a":2}]]}]}"#,
            "expected a string at line 1 column",
        ),
        (
            r#"{"streams":[{"values":[[]],"stream":{}}]}"#,
            "of \"values\"",
        ),
        ("{\"streams\":[\n}", "line 2 column 1"),
        (
            r#"{"streams":[]} {"streams":[]}"#,
            "trailing characters at line 1 column 16",
        ),
    ] {
        let error = json(body).expect_err(body).to_string();
        assert!(
            error.starts_with("malformed JSON: ") && error.contains(want),
            "{body}: {error}"
        );
    }
    let deep = format!(r#"{{"streams":{}"#, "[".repeat(100_000));
    assert!(json(&deep).is_err());
}
