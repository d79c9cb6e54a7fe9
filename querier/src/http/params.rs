//! Query parameters as Loki reads them: names, forms, defaults and error texts.

use std::borrow::Cow;

use model::{NANOS_PER_SECOND, TimeRange, Timestamp};

use super::duration::{parse_duration, seconds_to_nanos};
use crate::source::step_of;

/// How far back a query looks when it does not say.
const SINCE_DEFAULT_NANOS: i64 = 3600 * NANOS_PER_SECOND;
/// How many entries a query returns when it does not say.
const LIMIT_DEFAULT: u64 = 100;
/// Most steps of a range query; one week in minutes, or one year in hours.
const POINTS_MAX: i64 = 11_000;

/// The parameters of one request, from the URL and, for a form, the body; the first of a name wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

/// Why parameters are not acceptable; always the client's fault (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ParamError(pub(crate) String);

/// Which end of the range comes first in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// What `query_range` asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RangeQuery {
    pub(crate) query: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) step: i64,
    pub(crate) interval: i64,
    pub(crate) limit: u64,
    pub(crate) direction: Direction,
}

impl RangeQuery {
    /// The least range around this one that begins and ends at multiples of its step.
    pub(crate) fn aligned(&self) -> RangeQuery {
        let above = self.end.rem_euclid(self.step);
        let missing = if above == 0 { 0 } else { self.step - above };
        RangeQuery {
            start: step_of(self.start, self.step),
            end: self.end.saturating_add(missing),
            ..self.clone()
        }
    }
}

/// What `query` asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InstantQuery {
    pub(crate) query: String,
    pub(crate) time: Timestamp,
    pub(crate) limit: u64,
    pub(crate) direction: Direction,
}

impl Params {
    /// Form-encoded texts (the URL's query, the body), the earlier ones first.
    pub(crate) fn decode(texts: &[&[u8]]) -> Params {
        let mut pairs = Vec::new();
        for text in texts {
            for pair in text.split(|byte| *byte == b'&').filter(|p| !p.is_empty()) {
                let split = pair.iter().position(|byte| *byte == b'=');
                let (name, value) = match split {
                    Some(at) => (&pair[..at], &pair[at + 1..]),
                    None => (pair, &[][..]),
                };
                pairs.push((unescape(name), unescape(value)));
            }
        }
        Params { pairs }
    }

    /// The first value of a name; `None` when absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }

    /// Every value of a name, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| &**value)
    }

    /// The `query`, empty when absent.
    pub(crate) fn query(&self) -> &str {
        self.get("query").unwrap_or("")
    }

    /// `start`, `end`, `since`.
    pub(crate) fn bounds(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), ParamError> {
        let since = match self.get("since") {
            None => SINCE_DEFAULT_NANOS,
            Some(text) => parse_duration(text)
                .map_err(|e| ParamError(format!("could not parse 'since' parameter: {e}")))?,
        };
        let end = self.timestamp("end", now)?;
        let start = self.timestamp("start", end.min(now).saturating_sub(since))?;
        Ok((start, end))
    }

    /// `start`, `end`, `since` as a range of records: Loki shows `start <= t < end`.
    pub(crate) fn range(&self, now: Timestamp) -> Result<TimeRange, ParamError> {
        let (start, end) = self.bounds(now)?;
        if end < start {
            return Err(ParamError(END_BEFORE_START.into()));
        }
        Ok(TimeRange::new(start, end))
    }

    /// One time parameter.
    pub(crate) fn timestamp(
        &self,
        name: &str,
        default: Timestamp,
    ) -> Result<Timestamp, ParamError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => parse_timestamp(text)
                .map_err(|e| ParamError(format!("could not parse '{name}' parameter: {e}"))),
        }
    }

    /// `limit` under any name.
    pub(crate) fn limit(&self, name: &str, default: u64) -> Result<u64, ParamError> {
        let limit = self.integer(name)?.unwrap_or(default as i64);
        if limit <= 0 {
            return Err(ParamError("limit must be a positive value".into()));
        }
        Ok(limit as u64)
    }

    /// A whole number; `None` when absent.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ParamError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|e: std::num::ParseIntError| {
                ParamError(format!("strconv.Atoi: parsing {text:?}: {}", go_reason(&e)))
            })
    }

    /// `direction`.
    pub(crate) fn direction(&self) -> Result<Direction, ParamError> {
        match self.get("direction") {
            None => Ok(Direction::Backward),
            Some(text) if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
            Some(text) if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
            Some(text) => Err(ParamError(format!("invalid direction '{text}'"))),
        }
    }

    /// `step`, nanoseconds; by default the range in 250 steps of whole seconds.
    pub(crate) fn step(&self, start: Timestamp, end: Timestamp) -> Result<i64, ParamError> {
        let Some(text) = self.get("step") else {
            let seconds = end.saturating_sub(start) / NANOS_PER_SECOND / 250;
            return Ok(seconds.max(1) * NANOS_PER_SECOND);
        };
        let step = seconds_or_duration(text)?;
        if step <= 0 {
            return Err(ParamError(STEP_NOT_POSITIVE.into()));
        }
        if end.saturating_sub(start) / step > POINTS_MAX {
            return Err(ParamError(TOO_MANY_POINTS.into()));
        }
        Ok(step)
    }

    /// Everything of `query_range`.
    pub(crate) fn range_query(&self, now: Timestamp) -> Result<RangeQuery, ParamError> {
        let range = self.range(now)?;
        let (start, end) = (range.start, range.end);
        let limit = self.limit("limit", LIMIT_DEFAULT)?;
        let direction = self.direction()?;
        let step = self.step(start, end)?;
        let interval = self.interval()?;
        Ok(RangeQuery {
            query: self.query().to_owned(),
            start,
            end,
            step,
            interval,
            limit,
            direction,
        })
    }

    /// `interval`, nanoseconds; 0 by default.
    pub(crate) fn interval(&self) -> Result<i64, ParamError> {
        match self.get("interval").map_or(Ok(0), seconds_or_duration)? {
            interval if interval < 0 => Err(ParamError("interval must be >= 0".into())),
            interval => Ok(interval),
        }
    }

    /// `time`; now by default.
    pub(crate) fn time(&self, now: Timestamp) -> Result<Timestamp, ParamError> {
        self.get("time").map_or(Ok(now), parse_timestamp)
    }

    /// Everything of `query`.
    pub(crate) fn instant_query(&self, now: Timestamp) -> Result<InstantQuery, ParamError> {
        let limit = self.limit("limit", LIMIT_DEFAULT)?;
        let time = self.time(now)?;
        Ok(InstantQuery {
            query: self.query().to_owned(),
            time,
            limit,
            direction: self.direction()?,
        })
    }
}

const END_BEFORE_START: &str = "end timestamp must not be before or equal to start time";
const STEP_NOT_POSITIVE: &str =
    "zero or negative query resolution step widths are not accepted. Try a positive integer";
const TOO_MANY_POINTS: &str = "exceeded maximum resolution of 11,000 points per time series. \
     Try increasing the value of the step parameter";

/// A time: with a point float seconds, up to ten digits seconds, longer nanoseconds, else RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, ParamError> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok(float_seconds(seconds));
    }
    let number = text.parse::<i64>();
    match number {
        Ok(seconds) if text.len() <= 10 => Ok(seconds.saturating_mul(NANOS_PER_SECOND)),
        Ok(nanos) => Ok(nanos),
        Err(reason) => {
            let instant = text.parse::<jiff::Timestamp>().map_err(|_| {
                ParamError(format!(
                    "strconv.ParseInt: parsing {text:?}: {}",
                    go_reason(&reason)
                ))
            })?;
            // Nothing is as old or as new as what 64 bits cannot tell.
            let nanos = instant.as_nanosecond();
            Ok(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as Timestamp)
        }
    }
}

/// Whole seconds and, to the millisecond, their fraction: a float has no more to give today.
fn float_seconds(seconds: f64) -> Timestamp {
    let millis = (seconds.fract() * 1000.0).round() as i64;
    (seconds.trunc() as i64)
        .saturating_mul(NANOS_PER_SECOND)
        .saturating_add(millis * 1_000_000)
}

/// Seconds as a number, or a duration such as `1m30s`; nanoseconds.
fn seconds_or_duration(text: &str) -> Result<i64, ParamError> {
    if let Ok(seconds) = text.parse::<f64>() {
        // As in Go, what is no number is the least one.
        if seconds.is_nan() {
            return Ok(i64::MIN);
        }
        return seconds_to_nanos(seconds).ok_or_else(|| {
            ParamError(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ))
        });
    }
    parse_duration(text)
        .map_err(|_| ParamError(format!("cannot parse {text:?} to a valid duration")))
}

fn go_reason(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// `+` and `%XX` of a form; a broken escape stays as it is.
fn unescape(text: &[u8]) -> String {
    let mut bytes = Cow::Borrowed(text);
    if text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        let mut plain = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let hex = text.get(at + 1..at + 3).and_then(hex_byte);
            match (text[at], hex) {
                (b'+', _) => plain.push(b' '),
                (b'%', Some(byte)) => {
                    plain.push(byte);
                    at += 2;
                }
                (byte, _) => plain.push(byte),
            }
            at += 1;
        }
        bytes = Cow::Owned(plain);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let value = digit(digits[0])? * 16 + digit(digits[1])?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests;
