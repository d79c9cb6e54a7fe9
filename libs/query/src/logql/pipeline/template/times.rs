//! Functions on times. A time is handed from function to function in the form in which Go prints
//! it, so that `{{ __timestamp__ }}` shows what Go shows. Local time is UTC.

use gotmpl::{FuncMap, TemplateError, Value};
use jiff::tz::TimeZone;

use super::CONTEXT;
use super::functions::{Outcome, add, fail, string, text};
use super::layout::{GoTime, parse};

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
}

fn now() -> GoTime {
    GoTime::from_nanos(CONTEXT.with_borrow(|c| c.now))
}

fn give(time: &GoTime) -> Outcome {
    string(time.show())
}

fn time_of(args: &[Value]) -> Result<GoTime, TemplateError> {
    GoTime::read(text(args, 0)?)
        .ok_or_else(|| fail("wrong type for value; expected time.Time; got string"))
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
        _ => return Err(wrong("want 5, 10, 13, 16 or 19 digits")),
    };
    let nanos = number
        .checked_mul(unit)
        .ok_or_else(|| wrong("value out of range"))?;
    give(&GoTime::from_nanos(nanos))
}
