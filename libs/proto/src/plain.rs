//! The plain JSON endpoints, for people with curl and for services without a log library.

use std::borrow::Cow;

use model::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Text, TextMap};
use crate::{Error, Flaw, Receiver};

#[derive(Deserialize)]
#[serde(expecting = "an object with \"streams\"")]
struct Ingest<'a> {
    #[serde(borrow)]
    streams: Vec<IngestStream<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a stream: an object with \"labels\" and \"entries\"")]
struct IngestStream<'a> {
    #[serde(borrow)]
    labels: TextMap<'a>,
    #[serde(borrow)]
    entries: Vec<IngestEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an entry: an object with \"ts\" and \"line\"")]
struct IngestEntry<'a> {
    #[serde(borrow)]
    ts: Option<&'a RawValue>,
    #[serde(borrow)]
    line: Text<'a>,
    #[serde(borrow, default)]
    metadata: Option<TextMap<'a>>,
}

/// Decodes the body of `POST /ingest`:
///
/// ```json
/// {"streams": [{"labels": {"app": "x"},
///               "entries": [{"ts": "2026-01-02T03:04:05.678Z", "line": "..."}]}]}
/// ```
///
/// `ts` is an RFC 3339 time, or nanoseconds since 1970 as a number or string; without it the record
/// has the time `arrival`. An entry may have `metadata`, an object whose values are strings.
///
/// # Errors
/// [`Error::Json`] with line and column; the receiver has taken nothing then.
pub fn decode_ingest(
    body: &[u8],
    arrival: Timestamp,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    let request: Ingest<'_> = serde_json::from_slice(body)?;
    for stream in &request.streams {
        receiver.stream_pairs(&stream.labels.pairs());
        for entry in &stream.entries {
            let mut metadata = entry.metadata.as_ref().map(TextMap::metadata);
            match parse_time(entry.ts, arrival) {
                Ok(time) => receiver.record(
                    time,
                    entry.line.0.as_bytes(),
                    metadata.as_deref_mut().unwrap_or_default(),
                ),
                Err(flaw) => receiver.flawed(flaw),
            }
        }
    }
    Ok(())
}

/// The labels that `POST /logs` gives when a record does not name its service.
const UNKNOWN_SERVICE: &str = "unknown_service";

#[derive(Deserialize)]
#[serde(expecting = "an object with \"logs\"")]
struct Logs<'a> {
    #[serde(borrow)]
    logs: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "a record: an object with \"message\"")]
struct LogsEntry<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    level: Option<Text<'a>>,
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(borrow, default)]
    service: Option<Text<'a>>,
    #[serde(default)]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Decodes the body of `POST /logs`: one record, a list of them, or `{"logs": [...]}`.
///
/// ```json
/// {"timestamp": "2026-01-02T03:04:05Z", "level": "error", "message": "...", "service": "api",
///  "metadata": {"user": 7}}
/// ```
///
/// `service` becomes the label `service_name` (`unknown_service` if absent) and `level`, in
/// lowercase, the label `level`: the two by which people narrow a search first, with few values
/// each. `message`, which alone is required, is the line. `metadata` is structured metadata: text
/// bare, everything else as JSON. `timestamp` as in [`decode_ingest`].
///
/// # Errors
/// [`Error::Json`] when the body is not JSON or not of this shape; a single record of a list that
/// has another shape is a [`Flaw`].
pub fn decode_logs(
    body: &[u8],
    arrival: Timestamp,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    let document: &RawValue = serde_json::from_slice(body)?;
    let text = document.get();
    if text.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text)?;
        decode_list(&list, arrival, receiver);
    } else if let Ok(batch) = serde_json::from_str::<Logs<'_>>(text) {
        decode_list(&batch.logs, arrival, receiver);
    } else {
        decode_log(&serde_json::from_str(text)?, arrival, receiver);
    }
    Ok(())
}

fn decode_list(list: &[&RawValue], arrival: Timestamp, receiver: &mut impl Receiver) {
    for (index, record) in list.iter().enumerate() {
        match serde_json::from_str(record.get()) {
            Ok(record) => decode_log(&record, arrival, receiver),
            Err(error) => receiver.flawed(Flaw::Shape(format!("logs[{index}]: {error}"))),
        }
    }
}

fn decode_log(record: &LogsEntry<'_>, arrival: Timestamp, receiver: &mut impl Receiver) {
    let service = record.service.as_ref().map_or("", |text| &*text.0);
    let level = record.level.as_ref().map_or("", |text| &*text.0);
    let level = level.trim().to_lowercase();
    let service = match service {
        "" => UNKNOWN_SERVICE,
        named => named,
    };
    receiver.stream_pairs(&[("service_name", service), ("level", &level)]);
    let texts: Vec<(&str, Cow<'_, str>)> = record
        .metadata
        .iter()
        .flatten()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name.as_str(), Cow::Borrowed(text.as_str())),
            other => (name.as_str(), Cow::Owned(other.to_string())),
        })
        .collect();
    let mut metadata: Vec<(&str, &[u8])> = texts
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    match parse_time(record.timestamp, arrival) {
        Ok(time) => receiver.record(time, record.message.0.as_bytes(), &mut metadata),
        Err(flaw) => receiver.flawed(flaw),
    }
}

/// RFC 3339, or nanoseconds as a number or a string; absent or `null` is `arrival`.
fn parse_time(time: Option<&RawValue>, arrival: Timestamp) -> Result<Timestamp, Flaw> {
    let Some(time) = time.map(RawValue::get).filter(|text| *text != "null") else {
        return Ok(arrival);
    };
    let text: Cow<'_, str> = serde_json::from_str::<String>(time).map_or(time.into(), Cow::Owned);
    if let Ok(nanos) = text.parse() {
        return Ok(nanos);
    }
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| Timestamp::try_from(time.as_nanosecond()).ok())
        .ok_or_else(|| Flaw::Timestamp(text.into_owned()))
}
