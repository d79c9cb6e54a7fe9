mod leaf;

use std::borrow::Cow;

use model::Timestamp;
use serde::{Deserialize, Deserializer};

use self::leaf::{Base64, Double, HexId, Integer, Severity};
use super::mapping::{Mapper, RecordFields, ScopeFields};
use super::value::Value;
use crate::json::{Text, check_structures};
use crate::{Error, Receiver};

/// Decodes an `ExportLogsServiceRequest` in OTLP's JSON form, decompressed. `arrival` is the time
/// of records that have none.
///
/// Taken beyond the letter of the specification, because senders do it: `null` for any field (its
/// default), names in snake_case, integers as numbers or strings, enums by name, `NaN` and
/// `Infinity` as strings, base64 of both alphabets with or without padding. Unknown fields are
/// skipped.
///
/// # Errors
/// [`Error::Json`] with line and column, [`Error::TooComplex`] for more than 500,000 objects and
/// lists; the receiver has taken nothing then.
pub fn decode_json(
    body: &[u8],
    arrival: Timestamp,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    check_structures(body)?;
    let request: Request<'_> = serde_json::from_slice(body)?;
    let mut mapper = Mapper::new(arrival, receiver);
    for resource_logs in &request.resource_logs {
        map_resource_logs(resource_logs, &mut mapper);
    }
    Ok(())
}

fn map_resource_logs<R: Receiver>(resource_logs: &ResourceLogs<'_>, mapper: &mut Mapper<'_, R>) {
    mapper.begin_resource();
    for attribute in &resource_logs.resource.attributes {
        mapper.resource_attribute(&attribute.key.0, &attribute.value.to_value());
    }
    mapper.end_resource();
    for scope_logs in &resource_logs.scope_logs {
        mapper.begin_scope();
        let scope = &scope_logs.scope;
        for attribute in &scope.attributes {
            mapper.attribute(&attribute.key.0, &attribute.value.to_value());
        }
        mapper.end_scope(&ScopeFields {
            name: &scope.name.0,
            version: &scope.version.0,
            dropped_attributes: scope.dropped_attributes_count.0 as u32,
        });
        for record in &scope_logs.log_records {
            map_record(record, mapper);
        }
    }
}

fn map_record<R: Receiver>(record: &LogRecord<'_>, mapper: &mut Mapper<'_, R>) {
    for attribute in &record.attributes {
        mapper.attribute(&attribute.key.0, &attribute.value.to_value());
    }
    mapper.end_record(&RecordFields {
        time: record.time_unix_nano.0 as u64,
        observed_time: record.observed_time_unix_nano.0 as u64,
        severity_number: record.severity_number.0,
        severity_text: &record.severity_text.0,
        body: record.body.to_value(),
        dropped_attributes: record.dropped_attributes_count.0 as u32,
        flags: record.flags.0 as u32,
        trace_id: &record.trace_id.0,
        span_id: &record.span_id.0,
        event_name: &record.event_name.0,
    });
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    rename_all = "camelCase",
    expecting = "an object with \"resourceLogs\""
)]
struct Request<'a> {
    #[serde(borrow, alias = "resource_logs", deserialize_with = "or_default")]
    resource_logs: Vec<ResourceLogs<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a ResourceLogs object")]
struct ResourceLogs<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    resource: Resource<'a>,
    #[serde(borrow, alias = "scope_logs", deserialize_with = "or_default")]
    scope_logs: Vec<ScopeLogs<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a Resource object")]
struct Resource<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a ScopeLogs object")]
struct ScopeLogs<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    scope: Scope<'a>,
    #[serde(borrow, alias = "log_records", deserialize_with = "or_default")]
    log_records: Vec<LogRecord<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a scope object")]
struct Scope<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    version: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    attributes: Vec<KeyValue<'a>>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "or_default")]
    dropped_attributes_count: Integer,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a LogRecord object")]
struct LogRecord<'a> {
    #[serde(alias = "time_unix_nano", deserialize_with = "or_default")]
    time_unix_nano: Integer,
    #[serde(alias = "observed_time_unix_nano", deserialize_with = "or_default")]
    observed_time_unix_nano: Integer,
    #[serde(alias = "severity_number", deserialize_with = "or_default")]
    severity_number: Severity,
    #[serde(borrow, alias = "severity_text", deserialize_with = "or_default")]
    severity_text: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    body: AnyValue<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    attributes: Vec<KeyValue<'a>>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "or_default")]
    dropped_attributes_count: Integer,
    #[serde(deserialize_with = "or_default")]
    flags: Integer,
    #[serde(alias = "trace_id", deserialize_with = "or_default")]
    trace_id: HexId,
    #[serde(alias = "span_id", deserialize_with = "or_default")]
    span_id: HexId,
    #[serde(borrow, alias = "event_name", deserialize_with = "or_default")]
    event_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    expecting = "an attribute: an object with \"key\" and \"value\""
)]
struct KeyValue<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    key: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    value: AnyValue<'a>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    rename_all = "camelCase",
    expecting = "a value: an object such as {\"stringValue\": ..}"
)]
struct AnyValue<'a> {
    #[serde(borrow, alias = "string_value")]
    string_value: Option<Text<'a>>,
    #[serde(alias = "bool_value")]
    bool_value: Option<bool>,
    #[serde(alias = "int_value")]
    int_value: Option<Integer>,
    #[serde(alias = "double_value")]
    double_value: Option<Double>,
    #[serde(alias = "bytes_value")]
    bytes_value: Option<Base64>,
    #[serde(borrow, alias = "array_value")]
    array_value: Option<List<AnyValue<'a>>>,
    #[serde(borrow, alias = "kvlist_value")]
    kvlist_value: Option<List<KeyValue<'a>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct List<T> {
    #[serde(default = "Vec::new", deserialize_with = "or_default")]
    values: Vec<T>,
}

impl AnyValue<'_> {
    fn to_value(&self) -> Value<'_> {
        if let Some(text) = &self.string_value {
            Value::Text(Cow::Borrowed(&text.0))
        } else if let Some(list) = &self.array_value {
            Value::List(list.values.iter().map(AnyValue::to_value).collect())
        } else if let Some(map) = &self.kvlist_value {
            let entries = map.values.iter();
            Value::Map(
                entries
                    .map(|entry| (Cow::Borrowed(&*entry.key.0), entry.value.to_value()))
                    .collect(),
            )
        } else if let Some(bytes) = &self.bytes_value {
            Value::Bytes(Cow::Borrowed(&bytes.0))
        } else if let Some(number) = self.int_value {
            Value::Int(number.0 as i64)
        } else if let Some(number) = self.double_value {
            Value::Double(number.0)
        } else if let Some(truth) = self.bool_value {
            Value::Bool(truth)
        } else {
            Value::Empty
        }
    }
}

/// `null` stands for the default of any field.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
