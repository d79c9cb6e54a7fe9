use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::json::{Text, TextMap, ValueMap};
use crate::repair::repaired_within;
use crate::{Error, Flaw, Receiver};

/// Decodes the JSON form of a push, decompressed:
///
/// ```json
/// {"streams": [{"stream": {"app": "x"}, "values": [["<ns>", "<line>", {"key": "value"}], ...]}]}
/// ```
///
/// The times are strings, nanoseconds since 1970; the object after the line is optional. As in
/// Loki a record may be `null`, which is none, may lack its line, which is empty then, and what
/// stands behind the object is not looked at; a label value that is not a string is its JSON text.
/// A time that is not a number is a [`Flaw`] of its record; any other shape refuses the body.
///
/// Bytes that are no UTF-8 are U+FFFD, which is three bytes for each; the body may be `bytes_max` long
/// with them. One without such bytes is not copied, however long it is.
///
/// Loki reads nothing behind the object. What stands there is looked over here, too, unless it could be
/// another push: those records would be lost, and nobody be told.
///
/// # Errors
/// [`Error::Json`] with line and column; the receiver may have taken records by then.
/// [`Error::TooLarge`] when bytes that are no UTF-8 make it longer than `bytes_max`.
pub fn decode_json(
    body: &[u8],
    bytes_max: usize,
    receiver: &mut impl Receiver,
) -> Result<(), Error> {
    let body = repaired_within(body, char::REPLACEMENT_CHARACTER, bytes_max)?;
    let mut deserializer = serde_json::Deserializer::from_str(&body);
    deserializer.deserialize_any(Push(receiver))?;
    let Err(error) = deserializer.end() else {
        return Ok(());
    };
    let end = deserializer.into_iter::<IgnoredAny>().byte_offset();
    match body.get(end..).is_some_and(|rest| rest.contains('{')) {
        true => Err(error.into()),
        false => Ok(()),
    }
}

struct Push<'r, R>(&'r mut R);

impl<'de, R: Receiver> Visitor<'de> for Push<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"streams\"")
    }

    /// `null`, which names no stream.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "streams" => map.next_value_seed(Streams(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// `null`, or a list of streams.
struct Streams<'r, R>(&'r mut R);

impl<'de, R: Receiver> DeserializeSeed<'de> for Streams<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Receiver> Visitor<'de> for Streams<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of streams")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Stream(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct Stream<'r, R>(&'r mut R);

impl<'de, R: Receiver> DeserializeSeed<'de> for Stream<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: Receiver> Visitor<'de> for Stream<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream: an object with \"stream\" and \"values\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut named = false;
        // Values that stand before the labels they belong to have to wait for them.
        let mut waiting: Vec<&'de RawValue> = Vec::new();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "stream" => {
                    let labels: ValueMap<'de> = map.next_value()?;
                    self.0.stream_pairs(&labels.pairs());
                    named = true;
                }
                "values" if named => map.next_value_seed(Values(&mut *self.0))?,
                "values" => waiting.push(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !named {
            self.0.stream_pairs(&[]);
        }
        for values in waiting {
            let mut deserializer = serde_json::Deserializer::from_str(values.get());
            Values(&mut *self.0)
                .deserialize(&mut deserializer)
                .map_err(|error| A::Error::custom(format!("{error} of \"values\"")))?;
        }
        Ok(())
    }
}

/// `null`, or a list of records.
struct Values<'r, R>(&'r mut R);

impl<'de, R: Receiver> DeserializeSeed<'de> for Values<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Receiver> Visitor<'de> for Values<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Record(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct Record<'r, R>(&'r mut R);

impl<'de, R: Receiver> DeserializeSeed<'de> for Record<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Receiver> Visitor<'de> for Record<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record: [\"<nanoseconds>\", \"<line>\", {metadata}]")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let time: Text<'de> = list
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(0, &"a record with its time"))?;
        let line: Text<'de> = list.next_element()?.unwrap_or_default();
        let metadata: TextMap<'de> = list.next_element()?.unwrap_or_default();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        match time.0.parse() {
            Ok(time) => self
                .0
                .record(time, line.0.as_bytes(), &mut metadata.metadata()),
            Err(_) => self.0.flawed(Flaw::Timestamp(time.0.into_owned())),
        }
        Ok(())
    }
}
