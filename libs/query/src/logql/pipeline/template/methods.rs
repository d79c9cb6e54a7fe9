//! Methods of Go's times and durations: `__timestamp__.Unix`, `(toDate "2006-01-02" .day).Format "Jan 2"`.

use std::sync::Arc;

use super::functions::{Failure, Outcome, string};
use super::layout::GoTime;
use super::location::Location;
use super::run::Param;
use super::value::Value;

/// A method: its parameters and what it does.
pub(super) struct Method {
    pub(super) params: &'static [Param],
    pub(super) body: fn(&Value, &[Value]) -> Outcome,
}

const NANOS_OF_SECOND: i128 = 1_000_000_000;

/// The method of a value; an error when Go has one that templates cannot call. `None` if there is
/// none.
pub(super) fn find(value: &Value, name: &str) -> Result<Option<Method>, Failure> {
    match value {
        Value::Time(_) => of_time(name),
        Value::Duration(_) => Ok(of_duration(name)),
        Value::Location(_) if name == "String" => {
            Ok(Some(method(&[], |value, _| string(value.shown()))))
        }
        Value::Month(_) | Value::Weekday(_) if name == "String" => {
            Ok(Some(method(&[], |value, _| string(value.shown()))))
        }
        _ => Ok(None),
    }
}

fn method(params: &'static [Param], body: fn(&Value, &[Value]) -> Outcome) -> Method {
    Method { params, body }
}

/// The time that a method is called on, or its argument; the types were looked at before.
fn time(value: Option<&Value>) -> Arc<GoTime> {
    match value {
        Some(Value::Time(time)) => Arc::clone(time),
        _ => Arc::new(GoTime::zero()),
    }
}

fn number(args: &[Value], at: usize) -> i64 {
    args.get(at).and_then(Value::integer).unwrap_or(0)
}

fn give(time: GoTime) -> Outcome {
    Ok(Value::Time(Arc::new(time)))
}

fn of_time(name: &str) -> Result<Option<Method>, Failure> {
    // tidy: long because it is a flat table of methods.
    use Param::{Duration, Int, Text, Time};
    if let Some(found) = part_of_time(name) {
        return Ok(Some(found));
    }
    Ok(Some(match name {
        "Format" => method(&[Text], |t, args| match &args[0] {
            Value::String(layout) => string(time(Some(t)).format(layout)),
            _ => Ok(Value::Nil),
        }),
        "Add" => method(&[Duration], |t, args| {
            give(moved(&time(Some(t)), i128::from(number(args, 0))))
        }),
        "AddDate" => method(&[Int, Int, Int], |t, args| {
            let (years, months, days) = (number(args, 0), number(args, 1), number(args, 2));
            give(time(Some(t)).add_date(years, months, days))
        }),
        "Sub" => method(&[Time], |t, args| {
            let apart = nanos(&time(Some(t))) - nanos(&time(args.first()));
            let apart = apart.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
            Ok(Value::Duration(apart as i64))
        }),
        "Before" => method(&[Time], |t, args| {
            compare(t, args, std::cmp::Ordering::is_lt)
        }),
        "After" => method(&[Time], |t, args| {
            compare(t, args, std::cmp::Ordering::is_gt)
        }),
        "Equal" => method(&[Time], |t, args| {
            compare(t, args, std::cmp::Ordering::is_eq)
        }),
        "Compare" => method(&[Time], |t, args| {
            let order = nanos(&time(Some(t))).cmp(&nanos(&time(args.first())));
            Ok(Value::Int(order as i64))
        }),
        "Truncate" => method(&[Duration], |t, args| {
            let time = time(Some(t));
            let unit = i128::from(number(args, 0));
            let rest = since_zero(&time)
                .checked_rem_euclid(unit)
                .filter(|_| unit > 0);
            give(moved(&time, -rest.unwrap_or(0)))
        }),
        "Round" => method(&[Duration], |t, args| {
            let time = time(Some(t));
            let unit = i128::from(number(args, 0));
            let rest = since_zero(&time)
                .checked_rem_euclid(unit)
                .filter(|_| unit > 0);
            let rest = rest.unwrap_or(0);
            give(moved(
                &time,
                if rest * 2 < unit { -rest } else { unit - rest },
            ))
        }),
        "In" => method(&[Param::Location], |t, args| match &args[0] {
            Value::Location(location) => give(GoTime::clone(&time(Some(t))).at(location)),
            _ => Err(Failure(
                "time: missing Location in call to Time.In".to_owned(),
            )),
        }),
        "AppendFormat" => method(&[Param::Bytes, Text], |t, args| {
            let (Value::Bytes(before), Value::String(layout)) = (&args[0], &args[1]) else {
                return Ok(Value::Nil);
            };
            let shown = time(Some(t)).format(layout);
            Ok(Value::Bytes([before, shown.as_bytes()].concat().into()))
        }),
        "Zone" | "ISOWeek" => return Err(second_value(name, "int")),
        "ZoneBounds" => return Err(second_value(name, "time.Time")),
        "Date" | "Clock" => {
            return Err(Failure(format!(
                "function {name} has 3 return values; should be 1 or 2"
            )));
        }
        _ => return Ok(None),
    }))
}

/// Methods without arguments.
fn part_of_time(name: &str) -> Option<Method> {
    let body: fn(&Value, &[Value]) -> Outcome = match name {
        "Unix" => |t, _| Ok(Value::Int64(time(Some(t)).seconds)),
        "UnixMilli" => |t, _| {
            Ok(Value::Int64(
                time(Some(t)).unix_nanos().div_euclid(1_000_000),
            ))
        },
        "UnixMicro" => |t, _| Ok(Value::Int64(time(Some(t)).unix_nanos().div_euclid(1_000))),
        "UnixNano" => |t, _| Ok(Value::Int64(time(Some(t)).unix_nanos())),
        "Nanosecond" => |t, _| Ok(Value::Int(i64::from(time(Some(t)).nanos))),
        "String" => |t, _| string(time(Some(t)).show()),
        "UTC" => |t, _| give(GoTime::clone(&time(Some(t))).at(&Location::Utc)),
        "Local" => |t, _| give(GoTime::clone(&time(Some(t))).at(&Location::Local)),
        "IsZero" => |t, _| Ok(Value::Bool(nanos(&time(Some(t))) == nanos(&GoTime::zero()))),
        "GoString" => |t, _| string(time(Some(t)).as_source()),
        "Location" => |t, _| Ok(Value::Location(time(Some(t)).location.clone())),
        "IsDST" => |t, _| {
            let time = time(Some(t));
            let there = time.location.at(time.seconds);
            Ok(Value::Bool(there.is_some_and(|(_, _, summer)| summer)))
        },
        "MarshalText" => |t, _| marshal(t, "MarshalText", ""),
        "MarshalJSON" => |t, _| marshal(t, "MarshalJSON", "\""),
        "Year" => |t, _| Ok(Value::Int(part(t, "2006"))),
        "Month" => |t, _| Ok(Value::Month(part(t, "1") as u8)),
        "Weekday" => |t, _| {
            let days = time(Some(t)).local_days();
            Ok(Value::Weekday((days + 4).rem_euclid(7) as u8))
        },
        "Day" => |t, _| Ok(Value::Int(part(t, "2"))),
        "YearDay" => |t, _| Ok(Value::Int(part(t, "002"))),
        "Hour" => |t, _| Ok(Value::Int(part(t, "15"))),
        "Minute" => |t, _| Ok(Value::Int(part(t, "4"))),
        "Second" => |t, _| Ok(Value::Int(part(t, "5"))),
        _ => return None,
    };
    Some(method(&[], body))
}

/// As RFC 3339, in quotes.
fn marshal(value: &Value, name: &str, quote: &str) -> Outcome {
    match time(Some(value)).rfc3339() {
        Some(shown) => Ok(Value::Bytes(
            format!("{quote}{shown}{quote}").into_bytes().into(),
        )),
        None => Err(Failure(format!(
            "Time.{name}: year outside of range [0,9999]"
        ))),
    }
}

fn part(value: &Value, layout: &str) -> i64 {
    time(Some(value)).format(layout).parse().unwrap_or(0)
}

fn second_value(name: &str, kind: &str) -> Failure {
    Failure(format!(
        "invalid function signature for {name}: second return value should be error; is {kind}"
    ))
}

fn compare(t: &Value, args: &[Value], is: fn(std::cmp::Ordering) -> bool) -> Outcome {
    let order = nanos(&time(Some(t))).cmp(&nanos(&time(args.first())));
    Ok(Value::Bool(is(order)))
}

/// Since 1970.
fn nanos(time: &GoTime) -> i128 {
    i128::from(time.seconds) * NANOS_OF_SECOND + i128::from(time.nanos)
}

/// Go counts multiples of a duration from year 1.
fn since_zero(time: &GoTime) -> i128 {
    nanos(time) - nanos(&GoTime::zero())
}

fn moved(time: &GoTime, by: i128) -> GoTime {
    let nanos = nanos(time) + by;
    GoTime {
        seconds: nanos.div_euclid(NANOS_OF_SECOND) as i64,
        nanos: nanos.rem_euclid(NANOS_OF_SECOND) as u32,
        ..time.clone()
    }
    .at(&time.location)
}

fn of_duration(name: &str) -> Option<Method> {
    const SECOND: i64 = 1_000_000_000;
    fn in_units(value: &Value, unit: i64) -> Outcome {
        let nanos = value.integer().unwrap_or(0);
        let (whole, rest) = (nanos / unit, nanos % unit);
        Ok(Value::Float(whole as f64 + rest as f64 / unit as f64))
    }
    let body: fn(&Value, &[Value]) -> Outcome = match name {
        "Hours" => |d, _| in_units(d, 3_600 * SECOND),
        "Minutes" => |d, _| in_units(d, 60 * SECOND),
        "Seconds" => |d, _| in_units(d, SECOND),
        "Milliseconds" => |d, _| Ok(Value::Int64(d.integer().unwrap_or(0) / 1_000_000)),
        "Microseconds" => |d, _| Ok(Value::Int64(d.integer().unwrap_or(0) / 1_000)),
        "Nanoseconds" => |d, _| Ok(Value::Int64(d.integer().unwrap_or(0))),
        "Abs" => |d, _| Ok(Value::Duration(d.integer().unwrap_or(0).saturating_abs())),
        "String" => |d, _| string(d.shown()),
        "Truncate" => {
            return Some(method(&[Param::Duration], |d, args| {
                let (nanos, unit) = (d.integer().unwrap_or(0), number(args, 0));
                let rest = if unit > 0 { nanos % unit } else { 0 };
                Ok(Value::Duration(nanos - rest))
            }));
        }
        "Round" => {
            return Some(method(&[Param::Duration], |d, args| {
                let (nanos, unit) = (d.integer().unwrap_or(0), number(args, 0));
                if unit <= 0 {
                    return Ok(Value::Duration(nanos));
                }
                let rest = nanos % unit;
                let away = i128::from(rest.unsigned_abs()) * 2 >= i128::from(unit);
                let next = if nanos < 0 { -unit } else { unit };
                Ok(Value::Duration(match away {
                    true => (nanos - rest).saturating_add(next),
                    false => nanos - rest,
                }))
            }));
        }
        _ => return None,
    };
    Some(method(&[], body))
}
