//! The plain JSON endpoints, for people with curl and for services without a log library.

use std::borrow::Cow;
use std::fmt;

use model::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{Text, TextMap, ValueMap, check_structures};
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
/// `ts` is an RFC 3339 time, or a number, bare or in a string, that counts from 1970. How large it
/// is tells the unit: an integer of at most 10 digits is seconds, of 11 to 13 milliseconds, of 14
/// to 16 microseconds, a longer one nanoseconds; with a fraction or an exponent it is seconds.
/// Without `ts`, or if it is `null`, the record has the time `arrival`. An entry may have
/// `metadata`, an object whose values are strings.
///
/// # Errors
/// [`Error::Json`] with line and column, [`Error::TooComplex`] for more than 500,000 objects and
/// lists; the receiver has taken nothing then.
pub fn decode_ingest(
    body: &[u8],
    arrival: Timestamp,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    check_structures(body)?;
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
    logs: &'a RawValue,
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
    #[serde(borrow, default)]
    metadata: Option<ValueMap<'a>>,
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
/// bare, everything else as the JSON that it is. `timestamp` as in [`decode_ingest`].
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
    let list = match serde_json::from_str::<Logs<'_>>(text) {
        Ok(batch) if text.starts_with('{') => batch.logs.get(),
        _ => text,
    };
    if list.starts_with('[') {
        serde_json::Deserializer::from_str(list).deserialize_seq(List { arrival, receiver })?;
    } else {
        // Of the whole body, so that an error's line and column are the body's.
        decode_log(&serde_json::from_slice(body)?, arrival, receiver);
    }
    Ok(())
}

/// The records of a list, one after the other: a list of numbers would take eight times its text.
struct List<'r, R> {
    arrival: Timestamp,
    receiver: &'r mut R,
}

impl<'de, R: Receiver> Visitor<'de> for List<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(record) = list.next_element::<&RawValue>()? {
            match serde_json::from_str(record.get()) {
                Ok(record) => decode_log(&record, self.arrival, self.receiver),
                Err(error) => {
                    let problem = without_position(&error);
                    self.receiver.flawed(Flaw::Item { index, problem });
                }
            }
            index += 1;
        }
        Ok(())
    }
}

/// What is wrong, without line and column: those count from the record's start, not the body's.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
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
    let mut metadata = record.metadata.as_ref().map(ValueMap::metadata);
    let metadata = metadata.as_deref_mut().unwrap_or_default();
    match parse_time(record.timestamp, arrival) {
        Ok(time) => receiver.record(time, record.message.0.as_bytes(), metadata),
        Err(flaw) => receiver.flawed(flaw),
    }
}

/// A time in one of the forms that [`decode_ingest`] lists; absent or `null` is `arrival`.
fn parse_time(time: Option<&RawValue>, arrival: Timestamp) -> Result<Timestamp, Flaw> {
    let Some(time) = time.map(RawValue::get).filter(|text| *text != "null") else {
        return Ok(arrival);
    };
    let text: Cow<'_, str> = serde_json::from_str::<String>(time).map_or(time.into(), Cow::Owned);
    let nanos = match text.parse::<i64>() {
        Ok(number) => integer_nanos(number),
        Err(_) if is_decimal(&text) => seconds_nanos(&text),
        Err(_) => rfc_3339_nanos(&text),
    };
    nanos.ok_or_else(|| Flaw::Timestamp(text.into_owned()))
}

/// The unit is told by the number of digits: clocks of our time have 10 in seconds, 13 in
/// milliseconds, 16 in microseconds and 19 in nanoseconds.
fn integer_nanos(number: i64) -> Option<Timestamp> {
    let nanos_per_unit = match number.unsigned_abs() {
        0..10_000_000_000 => 1_000_000_000,
        10_000_000_000..10_000_000_000_000 => 1_000_000,
        10_000_000_000_000..10_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(nanos_per_unit)
}

/// Whether it is a number with a fraction or an exponent.
fn is_decimal(text: &str) -> bool {
    text.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Seconds with a fraction, exact to the nanosecond, which a float of today's time is not; what has
/// an exponent is as exact as a float.
fn seconds_nanos(text: &str) -> Option<Timestamp> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let nanos = match unsigned.split_once('.') {
        Some((whole, fraction)) if digits(whole) && digits(fraction) => {
            let whole = i128::from(whole.parse::<i64>().ok()?);
            let fraction = format!("{:0<9.9}", fraction).parse::<i128>().ok()?;
            whole * 1_000_000_000 + fraction
        }
        // Saturates, and then does not fit below.
        _ => (unsigned.parse::<f64>().ok()? * 1e9).round() as i128,
    };
    let nanos = if unsigned == text { nanos } else { -nanos };
    Timestamp::try_from(nanos).ok()
}

fn rfc_3339_nanos(text: &str) -> Option<Timestamp> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Timestamp::try_from(time.as_nanosecond()).ok()
}
