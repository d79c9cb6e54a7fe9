use model::{NANOS_PER_SECOND, Timestamp};

use crate::wire::{Reader, WireType, wrong_layout};
use crate::{Error, Flaw, PAIRS_MAX, Receiver, STREAMS_AHEAD, WireError};

/// Key and value of one structured metadata pair.
type Pair<'a> = (&'a str, &'a [u8]);

/// Decodes a `PushRequest`, decompressed:
///
/// ```text
/// PushRequest     1 streams: Stream*
/// Stream          1 labels: string    2 entries: Entry*
/// Entry           1 timestamp: {1 seconds, 2 nanos}    2 line: string    3 metadata: Pair*
/// Pair            1 name: string      2 value: string
/// ```
///
/// Fields may come in any order and unknown ones are skipped. Nothing is allocated per record.
///
/// # Errors
/// [`Error::Wire`] with offset and field; the receiver may have taken records by then.
pub fn decode_protobuf(body: &[u8], receiver: &mut impl Receiver) -> Result<(), Error> {
    let mut request = Reader::new(body);
    let mut pairs = Vec::new();
    let mut index = 0;
    let mut ahead = Vec::with_capacity(STREAMS_AHEAD);
    let mut told = 0;
    loop {
        let here = request;
        let Some((number, wire_type)) = request.field()? else {
            return Ok(());
        };
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                if told == 0 {
                    ahead.clear();
                    look_ahead(here, &mut ahead);
                    receiver.streams_ahead(&ahead);
                    told = ahead.len();
                }
                told = told.saturating_sub(1);
                request
                    .message()
                    .and_then(|stream| decode_stream(stream, &mut pairs, receiver))
                    .map_err(|error| error.within_item("streams", index))?;
                index += 1;
            }
            (1, _) => return Err(wrong_layout(request.offset()).within("streams").into()),
            _ => request.skip(number, wire_type)?,
        }
    }
}

/// The labels of the next streams, as far as they can be read.
fn look_ahead<'a>(mut request: Reader<'a>, labels: &mut Vec<&'a [u8]>) {
    while labels.len() < STREAMS_AHEAD
        && let Ok(Some((number, wire_type))) = request.field()
    {
        let found = match (number, wire_type) {
            (1, WireType::Bytes) => request.message().and_then(labels_of).map(Some),
            (1, _) => return,
            _ => request.skip(number, wire_type).map(|()| None),
        };
        match found {
            Ok(found) => labels.extend(found),
            Err(_) => return,
        }
    }
}

fn decode_stream<'a>(
    mut stream: Reader<'a>,
    pairs: &mut Vec<Pair<'a>>,
    receiver: &mut impl Receiver,
) -> Result<(), WireError> {
    receiver.stream_text(labels_of(stream)?);
    let mut index = 0;
    while let Some((number, wire_type)) = stream.field()? {
        match (number, wire_type) {
            (2, WireType::Bytes) => {
                stream
                    .message()
                    .and_then(|entry| decode_entry(entry, pairs, receiver))
                    .map_err(|error| error.within_item("entries", index))?;
                index += 1;
            }
            (2, _) => return Err(wrong_layout(stream.offset()).within("entries")),
            _ => stream.skip(number, wire_type)?,
        }
    }
    Ok(())
}

/// The label text, which every writer puts first, but which may stand anywhere.
fn labels_of<'a>(mut stream: Reader<'a>) -> Result<&'a [u8], WireError> {
    let mut labels: &[u8] = &[];
    let mut first = true;
    while let Some((number, wire_type)) = stream.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                labels = stream.bytes().map_err(|error| error.within("labels"))?;
                if first {
                    return Ok(labels);
                }
            }
            (1, _) => return Err(wrong_layout(stream.offset()).within("labels")),
            _ => stream.skip(number, wire_type)?,
        }
        first = false;
    }
    Ok(labels)
}

#[inline]
fn decode_entry<'a>(
    mut entry: Reader<'a>,
    pairs: &mut Vec<Pair<'a>>,
    receiver: &mut impl Receiver,
) -> Result<(), WireError> {
    let mut timestamp = Ok(0);
    let mut line: &[u8] = &[];
    let mut flaw = None;
    pairs.clear();
    while let Some((number, wire_type)) = entry.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                timestamp = entry
                    .message()
                    .and_then(decode_timestamp)
                    .map_err(|error| error.within("timestamp"))?;
            }
            (2, WireType::Bytes) => {
                line = entry.bytes().map_err(|error| error.within("line"))?;
            }
            (3, WireType::Bytes) => {
                let index = pairs.len();
                let (name, value) = entry
                    .message()
                    .and_then(decode_pair)
                    .map_err(|error| error.within_item("structuredMetadata", index))?;
                match std::str::from_utf8(name) {
                    // One more than may be shows that they are too many.
                    Ok(name) if pairs.len() <= PAIRS_MAX => pairs.push((name, value)),
                    Ok(_) => {}
                    Err(error) => {
                        flaw = Some(Flaw::Utf8 {
                            field: "structured metadata name",
                            at: error.valid_up_to(),
                        });
                    }
                }
            }
            (1..=3, _) => return Err(wrong_layout(entry.offset())),
            _ => entry.skip(number, wire_type)?,
        }
    }
    match (timestamp, flaw) {
        (Ok(timestamp), None) => receiver.record(timestamp, line, pairs),
        (Err(flaw), _) | (_, Some(flaw)) => receiver.flawed(flaw),
    }
    Ok(())
}

#[inline]
fn decode_timestamp(mut message: Reader<'_>) -> Result<Result<Timestamp, Flaw>, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Varint) => seconds = message.varint()? as i64,
            (2, WireType::Varint) => nanos = message.varint()? as i32,
            (1..=2, _) => return Err(wrong_layout(message.offset())),
            _ => message.skip(number, wire_type)?,
        }
    }
    let nanos = i64::from(nanos);
    // Through 128 bits, so that the very first second, whose start lies before the range, counts.
    let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    Ok(Timestamp::try_from(total)
        .map_err(|_| Flaw::Timestamp(format!("{seconds} s {nanos} ns since 1970"))))
}

fn decode_pair(mut message: Reader<'_>) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => name = message.bytes()?,
            (2, WireType::Bytes) => value = message.bytes()?,
            (1..=2, _) => return Err(wrong_layout(message.offset())),
            _ => message.skip(number, wire_type)?,
        }
    }
    Ok((name, value))
}
