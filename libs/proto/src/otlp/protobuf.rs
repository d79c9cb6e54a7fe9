use std::borrow::Cow;
use std::cell::Cell;

use model::Timestamp;

use super::mapping::{Mapper, RecordFields, ScopeFields};
use super::value::Value;
use crate::wire::{DEPTH_MAX, Reader, WireType, wrong_layout};
use crate::{Error, Flaw, Receiver, WireError, repaired};

/// Decodes an `ExportLogsServiceRequest`, decompressed. `arrival` is the time of records that have
/// none. Bytes of values that are no UTF-8 are U+FFFD. A name, a version or a severity with such bytes is
/// a [`Flaw`] of the record, or of every record of the resource or scope in which it stands. Fields may
/// come in any order and unknown ones are skipped.
///
/// # Errors
/// [`Error::Wire`] with offset and field; the receiver may have taken records by then.
pub fn decode_protobuf(
    body: &[u8],
    arrival: Timestamp,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    let mut mapper = Mapper::new(arrival, receiver);
    let mut request = Reader::new(body);
    let mut index = 0;
    while let Some((number, wire_type)) = request.field()? {
        if (number, wire_type) != (1, WireType::Bytes) {
            check_unknown(number, 1..=1, &request)?;
            request.skip(number, wire_type)?;
            continue;
        }
        request
            .message()
            .and_then(|resource_logs| decode_resource_logs(resource_logs, &mut mapper))
            .map_err(|error| error.within_item("resourceLogs", index))?;
        index += 1;
    }
    Ok(())
}

/// How deep a value is nested, and how many parts the whole value has so far.
#[derive(Clone, Copy)]
struct Nesting<'n> {
    depth: usize,
    parts: &'n Cell<usize>,
}

/// Most values inside a list or map, all levels together: two bytes of body can be one, and each
/// needs some 32 bytes until it is written out.
const PARTS_MAX: usize = 1 << 16;

impl<'n> Nesting<'n> {
    fn top(parts: &'n Cell<usize>) -> Self {
        Nesting { depth: 0, parts }
    }

    /// One level deeper, for one more part.
    fn inside(self, offset: usize) -> Result<Self, Trouble> {
        if self.depth >= DEPTH_MAX {
            return Err(WireError::new(offset, "values nest too deeply").into());
        }
        self.parts.set(self.parts.get() + 1);
        if self.parts.get() > PARTS_MAX {
            let problem = format!("a list or map has more than {PARTS_MAX} values");
            return Err(Trouble::Flaw(Flaw::Shape(problem)));
        }
        Ok(Nesting {
            depth: self.depth + 1,
            ..self
        })
    }
}

/// Why a message is not taken: the body is malformed, or only this part of it is unusable.
enum Trouble {
    Wire(WireError),
    Flaw(Flaw),
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Trouble::Wire(error)
    }
}

impl Trouble {
    fn within(self, field: &str) -> Self {
        match self {
            Trouble::Wire(error) => Trouble::Wire(error.within(field)),
            Trouble::Flaw(flaw) => Trouble::Flaw(flaw),
        }
    }

    /// Flaws become values, malformed bodies stay errors.
    fn split(result: Result<(), Trouble>) -> Result<Option<Flaw>, WireError> {
        match result {
            Ok(()) => Ok(None),
            Err(Trouble::Flaw(flaw)) => Ok(Some(flaw)),
            Err(Trouble::Wire(error)) => Err(error),
        }
    }
}

fn decode_resource_logs<R: Receiver>(
    message: Reader<'_>,
    mapper: &mut Mapper<'_, R>,
) -> Result<(), WireError> {
    mapper.begin_resource();
    let mut flaw = None;
    // The resource first, wherever it stands.
    each_message(message, 1, |resource, _| {
        let result = decode_resource(resource, mapper);
        flaw = Trouble::split(result.map_err(|trouble| trouble.within("resource")))?;
        Ok(())
    })?;
    mapper.end_resource();
    each_message(message, 2, |scope_logs, index| {
        decode_scope_logs(scope_logs, flaw.as_ref(), mapper)
            .map_err(|error| error.within_item("scopeLogs", index))
    })
}

/// Calls `visit` for each message under field `wanted`, with its index.
fn each_message<'a>(
    mut message: Reader<'a>,
    wanted: u32,
    mut visit: impl FnMut(Reader<'a>, usize) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut index = 0;
    while let Some((number, wire_type)) = message.field()? {
        if (number, wire_type) == (wanted, WireType::Bytes) {
            visit(message.message()?, index)?;
            index += 1;
        } else {
            check_unknown(number, wanted..=wanted, &message)?;
            message.skip(number, wire_type)?;
        }
    }
    Ok(())
}

/// A field that was not matched must not be a known one: then its wire type is wrong.
fn check_unknown(
    number: u32,
    known: std::ops::RangeInclusive<u32>,
    message: &Reader<'_>,
) -> Result<(), WireError> {
    if known.contains(&number) {
        return Err(wrong_layout(message.offset()));
    }
    Ok(())
}

fn decode_resource<R: Receiver>(
    mut resource: Reader<'_>,
    mapper: &mut Mapper<'_, R>,
) -> Result<(), Trouble> {
    while let Some((number, wire_type)) = resource.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                let (key, value) = decode_attribute(resource.message()?)?;
                mapper.resource_attribute(key, &value);
            }
            (1, _) => return Err(wrong_layout(resource.offset()).into()),
            _ => resource.skip(number, wire_type)?,
        }
    }
    Ok(())
}

fn decode_scope_logs<R: Receiver>(
    message: Reader<'_>,
    resource_flaw: Option<&Flaw>,
    mapper: &mut Mapper<'_, R>,
) -> Result<(), WireError> {
    mapper.begin_scope();
    let mut scope_flaw = None;
    let mut fields = ScopeFields::default();
    each_message(message, 1, |scope, _| {
        let result = decode_scope(scope, &mut fields, mapper);
        scope_flaw = Trouble::split(result.map_err(|trouble| trouble.within("scope")))?;
        Ok(())
    })?;
    mapper.end_scope(&fields);
    let flaw = resource_flaw.or(scope_flaw.as_ref());
    each_message(message, 2, |record, index| {
        let result = match flaw {
            Some(flaw) => Err(Trouble::Flaw(flaw.clone())),
            None => decode_record(record, mapper),
        };
        if let Some(flaw) =
            Trouble::split(result).map_err(|error| error.within_item("logRecords", index))?
        {
            mapper.flawed(flaw);
        }
        Ok(())
    })
}

fn decode_scope<'a, R: Receiver>(
    mut scope: Reader<'a>,
    fields: &mut ScopeFields<'a>,
    mapper: &mut Mapper<'_, R>,
) -> Result<(), Trouble> {
    while let Some((number, wire_type)) = scope.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => fields.name = text(scope.bytes()?, "scope.name")?,
            (2, WireType::Bytes) => fields.version = text(scope.bytes()?, "scope.version")?,
            (3, WireType::Bytes) => {
                let (key, value) = decode_attribute(scope.message()?)?;
                mapper.attribute(key, &value);
            }
            (4, WireType::Varint) => fields.dropped_attributes = scope.varint()? as u32,
            (1..=4, _) => return Err(wrong_layout(scope.offset()).into()),
            _ => scope.skip(number, wire_type)?,
        }
    }
    Ok(())
}

fn decode_record<R: Receiver>(
    mut message: Reader<'_>,
    mapper: &mut Mapper<'_, R>,
) -> Result<(), Trouble> {
    let mut record = RecordFields::default();
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Fixed64) => record.time = message.fixed64()?,
            (2, WireType::Varint) => record.severity_number = message.varint()? as i32,
            (3, WireType::Bytes) => {
                record.severity_text = text(message.bytes()?, "severityText")?;
            }
            (5, WireType::Bytes) => {
                record.body = decode_value(message.message()?, "body", Nesting::top(&Cell::new(0)))
                    .map_err(|trouble| trouble.within("body"))?;
            }
            (6, WireType::Bytes) => {
                let (key, value) = decode_attribute(message.message()?)?;
                mapper.attribute(key, &value);
            }
            (7, WireType::Varint) => record.dropped_attributes = message.varint()? as u32,
            (8, WireType::Fixed32) => record.flags = message.fixed32()?,
            (9, WireType::Bytes) => record.trace_id = message.bytes()?,
            (10, WireType::Bytes) => record.span_id = message.bytes()?,
            (11, WireType::Fixed64) => record.observed_time = message.fixed64()?,
            (12, WireType::Bytes) => record.event_name = text(message.bytes()?, "eventName")?,
            (1..=3 | 5..=12, _) => return Err(wrong_layout(message.offset()).into()),
            _ => message.skip(number, wire_type)?,
        }
    }
    mapper.end_record(&record);
    Ok(())
}

fn decode_attribute(mut message: Reader<'_>) -> Result<(&str, Value<'_>), Trouble> {
    decode_key_value(&mut message, Nesting::top(&Cell::new(0)))
        .map_err(|trouble| trouble.within("attributes"))
}

fn decode_key_value<'a>(
    message: &mut Reader<'a>,
    nesting: Nesting<'_>,
) -> Result<(&'a str, Value<'a>), Trouble> {
    let mut key = "";
    let mut value = Value::Empty;
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => key = text(message.bytes()?, "attribute key")?,
            (2, WireType::Bytes) => {
                value = decode_value(message.message()?, "attribute value", nesting)?;
            }
            (1..=2, _) => return Err(wrong_layout(message.offset()).into()),
            _ => message.skip(number, wire_type)?,
        }
    }
    Ok((key, value))
}

fn decode_value<'a>(
    mut message: Reader<'a>,
    field: &'static str,
    nesting: Nesting<'_>,
) -> Result<Value<'a>, Trouble> {
    let mut value = Value::Empty;
    while let Some((number, wire_type)) = message.field()? {
        value = match (number, wire_type) {
            (1, WireType::Bytes) => {
                let mark = char::REPLACEMENT_CHARACTER;
                Value::Text(repaired(message.bytes()?, mark))
            }
            (2, WireType::Varint) => Value::Bool(message.varint()? != 0),
            (3, WireType::Varint) => Value::Int(message.varint()? as i64),
            (4, WireType::Fixed64) => Value::Double(f64::from_bits(message.fixed64()?)),
            (5, WireType::Bytes) => decode_list(message.message()?, field, nesting)?,
            (6, WireType::Bytes) => decode_map(message.message()?, nesting)?,
            (7, WireType::Bytes) => Value::Bytes(Cow::Borrowed(message.bytes()?)),
            (1..=7, _) => return Err(wrong_layout(message.offset()).into()),
            _ => {
                message.skip(number, wire_type)?;
                value
            }
        };
    }
    Ok(value)
}

fn decode_list<'a>(
    mut message: Reader<'a>,
    field: &'static str,
    nesting: Nesting<'_>,
) -> Result<Value<'a>, Trouble> {
    let mut values = Vec::new();
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                let inside = nesting.inside(message.offset())?;
                values.push(decode_value(message.message()?, field, inside)?);
            }
            (1, _) => return Err(wrong_layout(message.offset()).into()),
            _ => message.skip(number, wire_type)?,
        }
    }
    Ok(Value::List(values))
}

fn decode_map<'a>(mut message: Reader<'a>, nesting: Nesting<'_>) -> Result<Value<'a>, Trouble> {
    let mut entries = Vec::new();
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                let inside = nesting.inside(message.offset())?;
                let (key, value) = decode_key_value(&mut message.message()?, inside)?;
                entries.push((Cow::Borrowed(key), value));
            }
            (1, _) => return Err(wrong_layout(message.offset()).into()),
            _ => message.skip(number, wire_type)?,
        }
    }
    Ok(Value::Map(entries))
}

fn text<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, Trouble> {
    std::str::from_utf8(bytes).map_err(|error| {
        Trouble::Flaw(Flaw::Utf8 {
            field,
            at: error.valid_up_to(),
        })
    })
}
