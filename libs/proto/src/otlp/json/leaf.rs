//! Scalars in all the forms in which JSON senders write them.

use std::fmt;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::json::Text;

/// An integer of 64 bits, signed or not: a number, or a string with one. Wide enough for both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Integer(pub(super) i128);

/// A float: a number, or a string with one, `NaN`, `Infinity` or `-Infinity`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Double(pub(super) f64);

/// A severity: its number, or its name, with or without `SEVERITY_NUMBER_`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Severity(pub(super) i32);

/// Bytes in base64 of either alphabet, with or without padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Base64(pub(super) Vec<u8>);

/// A trace or span id in hex of either case; what is not hex counts as no id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HexId(pub(super) Vec<u8>);

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = Integer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer of 64 bits, or a string with one")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Integer, E> {
        Ok(Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Integer, E> {
        Ok(Integer(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Integer, E> {
        let range = -(2f64.powi(63))..2f64.powi(64);
        if number.fract() == 0.0 && range.contains(&number) {
            return Ok(Integer(number as i128));
        }
        Err(E::invalid_value(
            serde::de::Unexpected::Float(number),
            &self,
        ))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Integer, E> {
        let number: Option<i128> = text.trim().parse().ok();
        let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Integer(number)),
            None => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor)
    }
}

struct DoubleVisitor;

impl Visitor<'_> for DoubleVisitor {
    type Value = Double;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a string with one, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Double, E> {
        Ok(Double(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
        text.trim()
            .parse()
            .map(Double)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DoubleVisitor)
    }
}

struct SeverityVisitor;

impl Visitor<'_> for SeverityVisitor {
    type Value = Severity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a severity number, or a name such as \"SEVERITY_NUMBER_INFO\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Severity, E> {
        i32::try_from(number)
            .map(Severity)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Severity, E> {
        i32::try_from(number)
            .map(Severity)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Severity, E> {
        severity(text)
            .map(Severity)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeverityVisitor)
    }
}

/// Six names with four steps each: TRACE is 1, TRACE2 2, ..., FATAL4 24.
fn severity(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SEVERITY_NUMBER_").unwrap_or(&name);
    if name == "UNSPECIFIED" {
        return Some(0);
    }
    let names = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    names.iter().zip(0..).find_map(|(base, index)| {
        let step = match name.strip_prefix(base)? {
            "" => 1,
            "2" => 2,
            "3" => 3,
            "4" => 4,
            _ => return None,
        };
        Some(index * 4 + step)
    })
}

/// Either alphabet, and padding or none.
fn base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    GeneralPurpose::new(alphabet, lenient).decode(text)
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        base64(&text.0)
            .map(Base64)
            .map_err(|error| D::Error::custom(format!("bad base64: {error}")))
    }
}

impl<'de> Deserialize<'de> for HexId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text): Text<'de> = Text::deserialize(deserializer)?;
        Ok(HexId(unhex(&text).unwrap_or_default()))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let [high, low] = pair else { return None };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            Some((digit(high)? << 4 | digit(low)?) as u8)
        })
        .collect()
}
