//! JSON pieces that several protocols share.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Error, PAIRS_MAX};

/// Most objects and lists in a body: each needs up to some 400 bytes until it is taken in, and can be
/// written in three. Usual records have about ten.
const STRUCTURES_MAX: usize = 500_000;

/// Refuses a body that would need far more memory than its size.
///
/// # Errors
/// [`Error::TooComplex`] for more than 500,000 objects and lists.
pub(crate) fn check_structures(body: &[u8]) -> Result<(), Error> {
    let structures = body.iter().filter(|byte| matches!(byte, b'{' | b'['));
    match structures.count() > STRUCTURES_MAX {
        true => Err(Error::TooComplex {
            limit: STRUCTURES_MAX,
        }),
        false => Ok(()),
    }
}

/// A JSON string, borrowed from the body unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The entries of a JSON object whose values are strings, in order; a name may stand twice. Of more
/// than [`PAIRS_MAX`] one too many is kept.
#[derive(Debug, Default)]
pub(crate) struct TextMap<'a>(pub(crate) Vec<(Text<'a>, Text<'a>)>);

struct TextMapVisitor;

impl<'de> Visitor<'de> for TextMapVisitor {
    type Value = TextMap<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose values are strings")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            if pairs.len() <= PAIRS_MAX {
                pairs.push(pair);
            }
        }
        Ok(TextMap(pairs))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(TextMap::default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TextMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextMapVisitor)
    }
}

impl TextMap<'_> {
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(n, v)| (&*n.0, &*v.0)).collect()
    }

    pub(crate) fn metadata(&self) -> Vec<(&str, &[u8])> {
        self.0
            .iter()
            .map(|(n, v)| (&*n.0, v.0.as_bytes()))
            .collect()
    }
}

/// The entries of a JSON object, in order: strings as such, any other value as its JSON text. Of more
/// than [`PAIRS_MAX`] one too many is kept.
#[derive(Debug, Default)]
pub(crate) struct ValueMap<'a>(Vec<(Text<'a>, Text<'a>)>);

struct ValueMapVisitor;

impl<'de> Visitor<'de> for ValueMapVisitor {
    type Value = ValueMap<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            let value = match value.get() {
                text if text.starts_with('"') => {
                    serde_json::from_str(text).map_err(A::Error::custom)?
                }
                other => Text(Cow::Borrowed(other)),
            };
            if pairs.len() <= PAIRS_MAX {
                pairs.push((name, value));
            }
        }
        Ok(ValueMap(pairs))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ValueMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ValueMapVisitor)
    }
}

impl ValueMap<'_> {
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(n, v)| (&*n.0, &*v.0)).collect()
    }

    pub(crate) fn metadata(&self) -> Vec<(&str, &[u8])> {
        self.0
            .iter()
            .map(|(n, v)| (&*n.0, v.0.as_bytes()))
            .collect()
    }
}
