//! Functions on times. A time is handed from function to function in the form in which Go prints
//! it, so that `{{ __timestamp__ }}` shows what Go shows. Local time is UTC.

use gotmpl::{FuncMap, TemplateError, Value};
use jiff::tz::TimeZone;

use super::CONTEXT;
use super::functions::{Outcome, add, fail, string, text};
use super::layout::{GoTime, parse};
use super::sites::wrong_argument;

/// Calls a method of a time: its name, the time, arguments.
pub(super) const METHOD: &str = "__method__";

pub(super) fn register(map: &mut FuncMap) {
    add(map, "__timestamp__", 0, |_| {
        give(&GoTime::from_nanos(CONTEXT.with_borrow(|c| c.timestamp)))
    });
    add(map, "now", 0, |_| {
        give(&GoTime::from_nanos(CONTEXT.with_borrow(|c| c.now)))
    });
    add(map, "date", 2, |a| {
        let layout = text(a, 0)?;
        let time = match &a[1] {
            Value::Int(seconds) => GoTime::utc(*seconds, 0),
            Value::String(shown) => GoTime::read(shown).unwrap_or_else(now),
            _ => now(),
        };
        let time = time.in_zone(&TimeZone::UTC);
        string(time.format(layout))
    });
    add(map, "toDate", 2, |a| {
        give(&parse(text(a, 0)?, text(a, 1)?, &TimeZone::UTC).unwrap_or_else(GoTime::zero))
    });
    add(map, "toDateInZone", 3, |a| {
        let zone = match text(a, 1)? {
            "" | "UTC" | "Local" => TimeZone::UTC,
            name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        };
        give(&parse(text(a, 0)?, text(a, 2)?, &zone).unwrap_or_else(GoTime::zero))
    });
    add(map, "unixEpoch", 1, |a| {
        string(time_of(a)?.seconds.to_string())
    });
    add(map, "unixEpochMillis", 1, |a| {
        string((time_of(a)?.unix_nanos().div_euclid(1_000_000)).to_string())
    });
    add(map, "unixEpochNanos", 1, |a| {
        string(time_of(a)?.unix_nanos().to_string())
    });
    add(map, "unixToTime", 1, |a| unix_to_time(text(a, 0)?));
    add(map, METHOD, 2, method);
}

fn method(args: &[Value]) -> Outcome {
    let name = text(args, 0)?;
    if let Value::Map(members) = &args[1] {
        return Ok(members.get(name).cloned().unwrap_or(Value::Nil));
    }
    let Some(time) = GoTime::read(text(args, 1)?) else {
        return Err(fail(format!("can't evaluate field {name} in type string")));
    };
    let part = |layout: &str| Ok(Value::Int(time.format(layout).parse().unwrap_or(0)));
    match name {
        "Unix" => Ok(Value::Int(time.seconds)),
        "UnixMilli" => Ok(Value::Int(time.unix_nanos().div_euclid(1_000_000))),
        "UnixNano" => Ok(Value::Int(time.unix_nanos())),
        "Nanosecond" => Ok(Value::Int(i64::from(time.nanos))),
        "Format" => string(time.format(text(args, 2)?)),
        "String" => string(time.show()),
        "UTC" => give(&time.in_zone(&TimeZone::UTC)),
        "Year" => part("2006"),
        "Month" => string(time.format("January")),
        "Weekday" => string(time.format("Monday")),
        "Day" => part("2"),
        "Hour" => part("15"),
        "YearDay" => part("002"),
        "Minute" => part("4"),
        "Second" => part("5"),
        other => Err(fail(format!(
            "can't evaluate field {other} in type time.Time"
        ))),
    }
}

fn now() -> GoTime {
    GoTime::from_nanos(CONTEXT.with_borrow(|c| c.now))
}

fn give(time: &GoTime) -> Outcome {
    string(time.show())
}

fn time_of(args: &[Value]) -> Result<GoTime, TemplateError> {
    let problem = "wrong type for value; expected time.Time; got string";
    GoTime::read(text(args, 0)?).ok_or_else(|| fail(wrong_argument(0, problem)))
}

/// Days, seconds, milliseconds, microseconds or nanoseconds, by the number of digits.
fn unix_to_time(epoch: &str) -> Outcome {
    let wrong = |why: &str| fail(format!("unable to parse time '{epoch}': {why}"));
    let number: i64 = epoch.parse().map_err(|_| {
        wrong(&format!(
            "strconv.ParseInt: parsing {epoch:?}: invalid syntax"
        ))
    })?;
    let unit: i64 = match epoch.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        // Loki's own words for an error that is not there.
        _ => return Err(wrong("%!w(<nil>)")),
    };
    let nanos = number
        .checked_mul(unit)
        .ok_or_else(|| wrong("value out of range"))?;
    give(&GoTime::from_nanos(nanos))
}
