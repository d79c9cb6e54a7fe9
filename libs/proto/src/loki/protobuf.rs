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
    let mut ahead = Ahead::default();
    loop {
        request = ahead.look(request);
        if !ahead.labels.is_empty() {
            receiver.streams_ahead(&ahead.labels);
        }
        for (labels, entries) in ahead.labels.iter().zip(&ahead.entries) {
            decode_stream(labels, *entries, &mut pairs, receiver)
                .map_err(|error| error.within_item("streams", index))?;
            index += 1;
        }
        if ahead.labels.len() < STREAMS_AHEAD {
            return ended(request, index);
        }
    }
}

/// Whether a request that cannot be read on is over; `index` is that of its next stream.
///
/// # Errors
/// What is wrong there.
fn ended(mut request: Reader<'_>, index: usize) -> Result<(), Error> {
    match request.field()? {
        None => {}
        Some((1, WireType::Bytes)) => {
            let stream = request.message().and_then(labels_of);
            stream.map_err(|error| error.within_item("streams", index))?;
        }
        Some((1, _)) => return Err(wrong_layout(request.offset()).within("streams").into()),
        Some((number, wire_type)) => request.skip(number, wire_type)?,
    }
    Ok(())
}

/// The next streams of a request: the labels of each, and a reader of the rest of it.
#[derive(Default)]
struct Ahead<'a> {
    labels: Vec<&'a [u8]>,
    entries: Vec<Reader<'a>>,
}

impl<'a> Ahead<'a> {
    /// Looks at the next [`STREAMS_AHEAD`] streams, fewer if the request ends or is malformed before; returns
    /// what follows them.
    fn look(&mut self, mut request: Reader<'a>) -> Reader<'a> {
        self.labels.clear();
        self.entries.clear();
        let mut rest = request;
        while self.labels.len() < STREAMS_AHEAD
            && let Ok(Some((number, wire_type))) = request.field()
        {
            match (number, wire_type) {
                (1, WireType::Bytes) => {
                    let Ok((labels, entries)) = request.message().and_then(labels_of) else {
                        break;
                    };
                    self.labels.push(labels);
                    self.entries.push(entries);
                }
                (1, _) => break,
                _ if request.skip(number, wire_type).is_err() => break,
                _ => {}
            }
            rest = request;
        }
        rest
    }
}

fn decode_stream<'a>(
    labels: &'a [u8],
    mut stream: Reader<'a>,
    pairs: &mut Vec<Pair<'a>>,
    receiver: &mut impl Receiver,
) -> Result<(), WireError> {
    receiver.stream_text(labels);
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

/// The label text, which every writer puts first, but which may stand anywhere; and a reader of what may hold
/// entries.
#[inline]
fn labels_of(stream: Reader<'_>) -> Result<(&[u8], Reader<'_>), WireError> {
    let mut rest = stream;
    let mut labels: &[u8] = &[];
    let mut first = true;
    while let Some((number, wire_type)) = rest.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                labels = rest.bytes().map_err(|error| error.within("labels"))?;
                if first {
                    return Ok((labels, rest));
                }
            }
            (1, _) => return Err(wrong_layout(rest.offset()).within("labels")),
            _ => rest.skip(number, wire_type)?,
        }
        first = false;
    }
    Ok((labels, stream))
}

#[inline]
fn decode_entry<'a>(
    mut entry: Reader<'a>,
    pairs: &mut Vec<Pair<'a>>,
    receiver: &mut impl Receiver,
) -> Result<(), WireError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut line: &[u8] = &[];
    let mut bad_name = None;
    pairs.clear();
    while let Some((number, wire_type)) = entry.field()? {
        match (number, wire_type) {
            (1, WireType::Bytes) => {
                (seconds, nanos) = entry
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
                    Err(error) => bad_name = Some(error.valid_up_to()),
                }
            }
            (1..=3, _) => return Err(wrong_layout(entry.offset())),
            _ => entry.skip(number, wire_type)?,
        }
    }
    match (time_of(seconds, nanos), bad_name) {
        (Some(timestamp), None) => receiver.record(timestamp, line, pairs),
        (None, _) => receiver.flawed(Flaw::Timestamp(format!(
            "{seconds} s {nanos} ns since 1970"
        ))),
        (_, Some(at)) => receiver.flawed(Flaw::Utf8 {
            field: "structured metadata name",
            at,
        }),
    }
    Ok(())
}

/// Seconds and nanoseconds since 1970.
#[inline]
fn decode_timestamp(mut message: Reader<'_>) -> Result<(i64, i32), WireError> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, wire_type)) = message.field()? {
        match (number, wire_type) {
            (1, WireType::Varint) => seconds = message.varint()? as i64,
            (2, WireType::Varint) => nanos = message.varint()? as i32,
            (1..=2, _) => return Err(wrong_layout(message.offset())),
            _ => message.skip(number, wire_type)?,
        }
    }
    Ok((seconds, nanos))
}

#[inline]
fn time_of(seconds: i64, nanos: i32) -> Option<Timestamp> {
    let whole = seconds.checked_mul(NANOS_PER_SECOND);
    whole
        .and_then(|whole| whole.checked_add(nanos.into()))
        .or_else(|| {
            // Through 128 bits, so that the very first second, whose start lies before the range, counts.
            let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
            Timestamp::try_from(total).ok()
        })
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
