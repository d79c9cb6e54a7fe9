//! OTLP protobuf against messages that prost encodes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use proto::otlp::{INDEXED_ATTRIBUTES, decode_protobuf, sanitize_name};
use proto::{Error, Flaw};

use crate::recorder::{Recorder, Said, pairs, record};

const ARRIVAL: i64 = 1_800_000_000_000_000_000;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "2")]
    dropped: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    records: Vec<LogRecord>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "4")]
    dropped: u32,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "7")]
    dropped: u32,
    #[prost(fixed32, tag = "8")]
    flags: u32,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    span_id: Vec<u8>,
    #[prost(fixed64, tag = "11")]
    observed_time: u64,
    #[prost(string, tag = "12")]
    event_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "OneValue", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<OneValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OneValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(ValueList),
    #[prost(message, tag = "6")]
    Map(KeyValueList),
    #[prost(bytes, tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
struct ValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

fn value(value: OneValue) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, one: OneValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value(one),
    }
}

fn text(text: &str) -> OneValue {
    OneValue::Text(text.into())
}

fn decoded(body: &[u8]) -> Result<Vec<Said>, Error> {
    let mut recorder = Recorder::default();
    decode_protobuf(body, ARRIVAL, &mut recorder)?;
    Ok(recorder.said)
}

/// The scalars that the generated messages use, as text.
fn naive_text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(OneValue::Text(text)) => text.clone(),
        Some(OneValue::Bool(truth)) => truth.to_string(),
        Some(OneValue::Int(number)) => number.to_string(),
        None => String::new(),
        other => panic!("not generated: {other:?}"),
    }
}

type Metadata = BTreeMap<String, Vec<u8>>;

fn naive_attributes(attributes: &[KeyValue], metadata: &mut Metadata) {
    for attribute in attributes {
        let text = naive_text(&attribute.value);
        metadata.insert(sanitize_name(&attribute.key), text.into());
    }
}

fn naive_record(log: &LogRecord, mut metadata: Metadata) -> Said {
    naive_attributes(&log.attributes, &mut metadata);
    let time = match (log.time, log.observed_time) {
        (0, 0) => ARRIVAL as u64,
        (0, observed) => observed,
        (time, _) => time,
    };
    let Ok(time) = i64::try_from(time) else {
        return Said::Flaw(Flaw::Timestamp(format!("{time} ns since 1970")));
    };
    let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let is_id = |id: &[u8], length| id.len() == length && id.iter().any(|b| *b != 0);
    let observed = if log.time == 0 { 0 } else { log.observed_time };
    for (name, wanted, text) in [
        ("observed_timestamp", observed != 0, observed.to_string()),
        (
            "severity_number",
            log.severity_number > 0,
            log.severity_number.to_string(),
        ),
        (
            "severity_text",
            !log.severity_text.is_empty(),
            log.severity_text.clone(),
        ),
        (
            "dropped_attributes_count",
            log.dropped != 0,
            log.dropped.to_string(),
        ),
        ("flags", log.flags != 0, log.flags.to_string()),
        ("trace_id", is_id(&log.trace_id, 16), hex(&log.trace_id)),
        ("span_id", is_id(&log.span_id, 8), hex(&log.span_id)),
        (
            "event_name",
            !log.event_name.is_empty(),
            log.event_name.clone(),
        ),
    ] {
        if wanted {
            metadata.insert(name.to_owned(), text.into());
        }
    }
    Said::Record {
        time,
        line: naive_text(&log.body).into(),
        metadata,
    }
}

fn expected(request: &Request) -> Vec<Said> {
    let mut said = Vec::new();
    for resource_logs in &request.resource_logs {
        let mut labels = Vec::new();
        let mut of_resource = Metadata::new();
        for attribute in resource_logs.resource.iter().flat_map(|r| &r.attributes) {
            if INDEXED_ATTRIBUTES.contains(&&*attribute.key) {
                let name = sanitize_name(&attribute.key);
                labels.push((name, naive_text(&attribute.value)));
            } else {
                naive_attributes(std::slice::from_ref(attribute), &mut of_resource);
            }
        }
        said.push(Said::Pairs(labels));
        for scope_logs in &resource_logs.scope_logs {
            let scope = scope_logs.scope.clone().unwrap_or_default();
            let mut metadata = of_resource.clone();
            naive_attributes(&scope.attributes, &mut metadata);
            for (name, wanted, text) in [
                ("scope_name", !scope.name.is_empty(), scope.name),
                ("scope_version", !scope.version.is_empty(), scope.version),
                (
                    "scope_dropped_attributes_count",
                    scope.dropped != 0,
                    scope.dropped.to_string(),
                ),
            ] {
                if wanted {
                    metadata.insert(name.to_owned(), text.into());
                }
            }
            let records = scope_logs.records.iter();
            said.extend(records.map(|log| naive_record(log, metadata.clone())));
        }
    }
    said
}

fn any_value() -> impl Strategy<Value = Option<AnyValue>> {
    let one = prop_oneof![
        "\\PC{0,12}".prop_map(OneValue::Text),
        any::<bool>().prop_map(OneValue::Bool),
        any::<i64>().prop_map(OneValue::Int),
    ];
    prop::option::of(one).prop_map(|value| Some(AnyValue { value }))
}

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        Just("service.name".to_owned()),
        Just("k8s.pod.name".to_owned()),
        "[a-z.]{1,6}",
        "\\PC{0,4}",
    ];
    let pair = (key, any_value()).prop_map(|(key, value)| KeyValue { key, value });
    prop::collection::vec(pair, 0..4)
}

fn any_record() -> impl Strategy<Value = LogRecord> {
    let time = || {
        prop_oneof![
            Just(0u64),
            1_700_000_000_000_000_000u64..1_800_000_000_000_000_000,
            any::<u64>()
        ]
    };
    let id = |length| {
        prop_oneof![
            Just(Vec::new()),
            Just(vec![0; length]),
            prop::collection::vec(any::<u8>(), length),
            prop::collection::vec(any::<u8>(), 0..20),
        ]
    };
    (
        (time(), time(), -1i32..25, "[A-Z]{0,5}", any_value()),
        (
            any_attributes(),
            0u32..3,
            0u32..3,
            id(16),
            id(8),
            "[a-z]{0,3}",
        ),
    )
        .prop_map(
            |((time, observed_time, severity_number, severity_text, body), rest)| {
                let (attributes, dropped, flags, trace_id, span_id, event_name) = rest;
                LogRecord {
                    time,
                    severity_number,
                    severity_text,
                    body,
                    attributes,
                    dropped,
                    flags,
                    trace_id,
                    span_id,
                    observed_time,
                    event_name,
                }
            },
        )
}

fn any_request() -> impl Strategy<Value = Request> {
    let scope = ("[a-z]{0,4}", "[0-9.]{0,3}", any_attributes(), 0u32..2).prop_map(
        |(name, version, attributes, dropped)| Scope {
            name,
            version,
            attributes,
            dropped,
        },
    );
    let records = prop::collection::vec(any_record(), 0..4);
    let scope_logs = (prop::option::of(scope), records, "[a-z]{0,3}").prop_map(
        |(scope, records, schema_url)| ScopeLogs {
            scope,
            records,
            schema_url,
        },
    );
    let resource = any_attributes().prop_map(|attributes| Resource {
        attributes,
        dropped: 3,
    });
    let resource_logs = (
        prop::option::of(resource),
        prop::collection::vec(scope_logs, 0..3),
    )
        .prop_map(|(resource, scope_logs)| ResourceLogs {
            resource,
            scope_logs,
            schema_url: String::new(),
        });
    prop::collection::vec(resource_logs, 0..3).prop_map(|resource_logs| Request { resource_logs })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_prost_encodes_is_mapped_as_by_the_table(request in any_request()) {
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

fn one_record(log: LogRecord) -> Request {
    Request {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![
                    attribute("service.name", text("shop")),
                    attribute("host.name", text("h1")),
                ],
                dropped: 0,
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(Scope {
                    name: "lib".into(),
                    version: "1.2".into(),
                    attributes: vec![attribute("host.name", text("narrower"))],
                    dropped: 0,
                }),
                records: vec![log],
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

#[test]
fn nested_attributes_are_flattened_and_nested_bodies_are_json() {
    let map = OneValue::Map(KeyValueList {
        values: vec![
            attribute("request.method", text("GET")),
            attribute(
                "deep",
                OneValue::Map(KeyValueList {
                    values: vec![attribute("er", OneValue::Double(0.5))],
                }),
            ),
            attribute("empty", OneValue::Map(KeyValueList::default())),
        ],
    });
    let list = OneValue::List(ValueList {
        values: vec![
            AnyValue {
                value: Some(OneValue::Int(1)),
            },
            AnyValue {
                value: Some(map.clone()),
            },
        ],
    });
    let request = one_record(LogRecord {
        time: 7,
        body: value(map.clone()),
        attributes: vec![
            attribute("http", map),
            attribute("list", list),
            attribute("raw", OneValue::Bytes(vec![1, 2, 255])),
        ],
        ..LogRecord::default()
    });
    let json = r#"{"deep":{"er":0.5},"empty":{},"request.method":"GET"}"#;
    let want = vec![
        pairs(&[("service_name", "shop")]),
        record(
            7,
            json,
            &[
                ("host_name", "narrower"),
                ("scope_name", "lib"),
                ("scope_version", "1.2"),
                ("http_request_method", "GET"),
                ("http_deep_er", "0.5"),
                ("list", &format!("[1,{json}]")),
                ("raw", "AQL/"),
            ],
        ),
    ];
    assert_eq!(decoded(&request.encode_to_vec()), Ok(want));
}

#[test]
fn text_that_is_not_utf8_spoils_as_little_as_possible() {
    let mut request = one_record(LogRecord {
        time: 1,
        body: value(text("BAD1")),
        ..LogRecord::default()
    });
    let records = &mut request.resource_logs[0].scope_logs[0].records;
    records.push(LogRecord {
        time: 2,
        body: value(text("good")),
        ..LogRecord::default()
    });
    let clean = request.encode_to_vec();
    let spoil = |wanted: &[u8]| {
        let mut body = clean.clone();
        let at = body
            .windows(wanted.len())
            .position(|w| w == wanted)
            .unwrap();
        body[at + 1] = 0xff;
        let said = decoded(&body).unwrap();
        let flaws = said.iter().filter(|said| matches!(said, Said::Flaw(_)));
        (flaws.count(), said.len())
    };
    assert_eq!(spoil(b"BAD1"), (0, 3), "a body is repaired");
    assert_eq!(spoil(b"shop"), (0, 3), "values of attributes are repaired");
    assert_eq!(spoil(b"service.name"), (2, 3), "a name spoils its records");
}

#[test]
fn a_message_cut_anywhere_is_an_error_inside_what_is_left() {
    let request = one_record(LogRecord {
        time: 5,
        severity_number: 9,
        body: value(text("body")),
        attributes: vec![attribute("k", OneValue::Double(1.0))],
        trace_id: vec![1; 16],
        ..LogRecord::default()
    });
    let body = request.encode_to_vec();
    for cut in 1..body.len() {
        match decoded(&body[..cut]) {
            Err(Error::Wire(error)) => assert!(error.offset <= cut, "cut at {cut}: {error}"),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn a_long_name_repeated_for_many_leaves_spoils_its_record_only() {
    let leaves = (0..100).map(|n| attribute(&n.to_string(), text("x")));
    let map = OneValue::Map(KeyValueList {
        values: leaves.collect(),
    });
    let mut request = one_record(LogRecord {
        time: 1,
        attributes: vec![attribute(&"n".repeat(20_000), map)],
        ..LogRecord::default()
    });
    let records = &mut request.resource_logs[0].scope_logs[0].records;
    records.push(LogRecord {
        time: 2,
        ..LogRecord::default()
    });
    let said = decoded(&request.encode_to_vec()).unwrap();
    assert!(
        matches!(said[1], Said::Flaw(Flaw::Shape(_))),
        "{:?}",
        said[1]
    );
    assert!(matches!(said[2], Said::Record { time: 2, .. }));
}

#[test]
fn a_list_of_very_many_values_spoils_its_record_only() {
    let list = |length| {
        let values = vec![AnyValue { value: None }; length];
        one_record(LogRecord {
            time: 1,
            body: value(OneValue::List(ValueList { values })),
            ..LogRecord::default()
        })
    };
    let said = decoded(&list(65_536).encode_to_vec()).unwrap();
    assert!(matches!(said[1], Said::Record { .. }));
    let said = decoded(&list(65_537).encode_to_vec()).unwrap();
    assert!(matches!(said[1], Said::Flaw(Flaw::Shape(_))));
}

#[test]
fn values_that_nest_too_deeply_are_refused() {
    let mut nested = AnyValue {
        value: Some(text("leaf")),
    };
    for _ in 0..90 {
        nested = AnyValue {
            value: Some(OneValue::List(ValueList {
                values: vec![nested],
            })),
        };
    }
    let request = one_record(LogRecord {
        body: Some(nested),
        ..LogRecord::default()
    });
    let error = decoded(&request.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("values nest too deeply"), "{error}");
    assert!(
        error.contains("resourceLogs[0].scopeLogs[0].logRecords[0].body"),
        "{error}"
    );
}

#[test]
fn a_known_field_with_another_wire_type_is_an_error() {
    // resourceLogs as a varint; logRecords[0].timeUnixNano as a varint.
    for body in [
        &[0x08, 0x01][..],
        &[0x0a, 0x06, 0x12, 0x04, 0x12, 0x02, 0x08, 0x01],
    ] {
        let error = decoded(body).unwrap_err().to_string();
        assert!(error.contains("another wire type"), "{error}");
    }
}
