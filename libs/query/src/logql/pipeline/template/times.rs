//! Functions on times. Local time is UTC.

use std::sync::Arc;

use super::CONTEXT;
use super::functions::{Bodies, Failure, Outcome, add, fail, string, text};
use super::layout::{GoTime, parse};
use super::location::Location;
use super::value::Value;

pub(super) fn register(map: &mut Bodies) {
    add(map, "__timestamp__", |_| {
        give(GoTime::from_nanos(CONTEXT.with_borrow(|c| c.timestamp)))
    });
    add(map, "now", |_| {
        give(GoTime::from_nanos(CONTEXT.with_borrow(|c| c.now)))
    });
    add(map, "date", |a| {
        let layout = text(a, 0)?;
        let time = match &a[1] {
            Value::Int(seconds) | Value::Int64(seconds) => GoTime::utc(*seconds, 0),
            Value::Time(time) => GoTime::clone(time),
            _ => now(),
        };
        let time = time.at(&Location::Utc);
        string(time.format(layout))
    });
    add(map, "toDate", |a| {
        give(parse(text(a, 0)?, text(a, 1)?, &Location::Local).unwrap_or_else(GoTime::zero))
    });
    add(map, "toDateInZone", |a| {
        let zone = Location::named(text(a, 1)?);
        give(parse(text(a, 0)?, text(a, 2)?, &zone).unwrap_or_else(GoTime::zero))
    });
    add(map, "unixEpoch", |a| {
        string(time_of(a)?.seconds.to_string())
    });
    add(map, "unixEpochMillis", |a| {
        string((time_of(a)?.unix_nanos().div_euclid(1_000_000)).to_string())
    });
    add(map, "unixEpochNanos", |a| {
        string(time_of(a)?.unix_nanos().to_string())
    });
    add(map, "unixToTime", |a| unix_to_time(text(a, 0)?));
}

fn now() -> GoTime {
    GoTime::from_nanos(CONTEXT.with_borrow(|c| c.now))
}

fn give(time: GoTime) -> Outcome {
    Ok(Value::Time(Arc::new(time)))
}

fn time_of(args: &[Value]) -> Result<&GoTime, Failure> {
    match args.first() {
        Some(Value::Time(time)) => Ok(time),
        _ => Err(fail("time expected")),
    }
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
    give(GoTime::from_nanos(nanos))
}
