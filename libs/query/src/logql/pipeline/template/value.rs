//! What template expressions evaluate to, with the types that Go has for them: errors name types,
//! and an `int64` is no `int` where a function takes one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::{GoTime, day_name, month_name};
use super::location::Location;
use crate::logql::print::GoDuration;

/// A value of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing: a missing member, JSON's `null`.
    Nil,
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`
    Int64(i64),
    /// `uint8`
    Byte(u8),
    Float(f64),
    String(Arc<str>),
    List(Arc<[Value]>),
    /// `[]uint8`
    Bytes(Arc<[u8]>),
    /// The row's labels.
    Labels(Arc<BTreeMap<Arc<str>, Arc<str>>>),
    /// An object of JSON.
    Map(Arc<BTreeMap<Arc<str>, Value>>),
    Time(Arc<GoTime>),
    Location(Location),
    /// Nanoseconds.
    Duration(i64),
    /// From 1.
    Month(u8),
    /// From Sunday, 0.
    Weekday(u8),
}

impl Value {
    /// The name that Go has for the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Byte(_) => "uint8",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Bytes(_) => "[]uint8",
            Value::Labels(_) => "map[string]string",
            Value::Map(_) => "map[string]interface {}",
            Value::Time(_) => "time.Time",
            Value::Location(_) => "*time.Location",
            Value::Duration(_) => "time.Duration",
            Value::Month(_) => "time.Month",
            Value::Weekday(_) => "time.Weekday",
        }
    }

    /// Whether `if` takes its first branch.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Float(value) => *value != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Map(members) => !members.is_empty(),
            Value::Time(_) | Value::Location(_) => true,
            other => other.integer() != Some(0),
        }
    }

    /// The number, if the value is a whole one in Go's eyes.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Value::Int(n) | Value::Int64(n) | Value::Duration(n) => Some(*n),
            Value::Byte(n) | Value::Month(n) | Value::Weekday(n) => Some(i64::from(*n)),
            _ => None,
        }
    }

    /// As `%v` shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Nil => "<nil>".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(n) | Value::Int64(n) => n.to_string(),
            Value::Byte(n) => n.to_string(),
            Value::Float(number) => float(*number),
            Value::String(text) => text.to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::shown).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Bytes(bytes) => {
                let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
                format!("[{}]", bytes.join(" "))
            }
            Value::Labels(labels) => {
                let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}:{v}")).collect();
                format!("map[{}]", labels.join(" "))
            }
            Value::Map(members) => {
                let members = members.iter();
                let members: Vec<String> = members
                    .map(|(name, value)| format!("{name}:{}", value.shown()))
                    .collect();
                format!("map[{}]", members.join(" "))
            }
            Value::Time(time) => time.show(),
            Value::Location(location) => location.name().to_owned(),
            Value::Duration(nanos) => GoDuration(*nanos).to_string(),
            Value::Month(number) => month_name(*number).to_owned(),
            Value::Weekday(number) => day_name(*number).to_owned(),
        }
    }
}

/// As Go's `%v`: the fewest digits that say the number, with an exponent from a million up and
/// below one ten-thousandth.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match exponent {
        -4..6 => format!("{number}"),
        _ => format!("{digits}e{}", super::printf::exponent(exponent)),
    }
}
