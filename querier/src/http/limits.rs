//! Limits that a request brings with it, as JSON in the header `X-Loki-Query-Limits`: they tighten
//! what the querier allows and never loosen it.

use std::time::Duration;

use axum::http::HeaderMap;
use model::{TimeRange, Timestamp};
use query::logql::ast::{Expr, Matcher, MetricExpr, RangeInput};
use query::logql::deep;
use serde::{Deserialize, Deserializer, de};

use super::duration::{parse_duration, print_duration};
use super::params::parse_timestamp;
use super::selector::of_matchers;
use crate::Error;
use crate::source::Wanted;
use crate::tenants::TenantsSource;

const LIMITS_HEADER: &str = "x-loki-query-limits";
const CONTEXT_HEADER: &str = "x-loki-query-limits-context";

/// See the module. What is absent or zero is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct QueryLimits {
    /// Longest time range.
    #[serde(rename = "maxQueryLength")]
    pub(super) length: Nanos,
    /// How far back from now records are looked at; older ones are left out.
    #[serde(rename = "maxQueryLookback")]
    lookback: Nanos,
    /// Longest `[..]`.
    #[serde(rename = "maxQueryInterval")]
    window: Nanos,
    /// Most entries that may be asked for.
    #[serde(rename = "maxEntriesLimitPerQuery")]
    entries: u64,
    /// How long the query may take.
    #[serde(rename = "maxQueryTime")]
    time: Nanos,
    /// Labels that every selector must name.
    #[serde(rename = "requiredLabels")]
    labels: Vec<String>,
    /// How many matchers every selector must have.
    #[serde(rename = "minimumLabelsNumber")]
    matchers: usize,
    /// Bytes of the streams that the selectors choose.
    #[serde(rename = "maxQueryBytesRead")]
    bytes: Bytes,
    /// The query of which this one is a part: its bytes count.
    #[serde(skip)]
    context: Option<Context>,
}

/// Nanoseconds, written as `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nanos(i64);

/// Written as `10GB`; units are powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes(u64);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Context {
    expr: String,
    from: String,
    to: String,
}

/// A selector and the times that an expression looks at.
struct Part<'a> {
    matchers: &'a [Matcher],
    range: TimeRange,
}

impl QueryLimits {
    /// Of the headers of a request. As in Loki, what cannot be read is no limit.
    pub(super) fn of(headers: &HeaderMap) -> QueryLimits {
        fn read<T: serde::de::DeserializeOwned>(headers: &HeaderMap, name: &str) -> Option<T> {
            let value = headers.get(name)?;
            match serde_json::from_slice(value.as_bytes()) {
                Ok(read) => Some(read),
                Err(error) => {
                    tracing::warn!(header = name, %error, "header left aside");
                    None
                }
            }
        }
        let limits: QueryLimits = read(headers, LIMITS_HEADER).unwrap_or_default();
        QueryLimits {
            context: read(headers, CONTEXT_HEADER),
            ..limits
        }
    }

    /// The times that may be looked at.
    pub(super) fn kept(&self, range: TimeRange, now: Timestamp) -> TimeRange {
        match self.lookback.0 {
            0 => range,
            back => {
                let start = range.start.max(now.saturating_sub(back));
                TimeRange::new(start, range.end.max(start))
            }
        }
    }

    /// How long a query may take.
    pub(super) fn time(&self, own: Duration) -> Duration {
        match u64::try_from(self.time.0) {
            Ok(0) | Err(_) => own,
            Ok(nanos) => own.min(Duration::from_nanos(nanos)),
        }
    }

    /// How many entries may be asked for.
    pub(super) fn entries(&self, own: u64) -> u64 {
        match self.entries {
            0 => own,
            entries => own.min(entries),
        }
    }

    /// Checks a query before it runs.
    pub(super) fn check(&self, expr: &Expr) -> Result<(), Error> {
        for part in parts(expr, 0, 0) {
            self.check_matchers(part.matchers)?;
        }
        let window = match expr {
            Expr::Log(_) => 0,
            Expr::Metric(expr) => longest_range(expr),
        };
        if self.window.0 > 0 && window > self.window.0 {
            return Err(Error::Invalid(format!(
                "[interval] value exceeds limit: [{}] > [{}]",
                print_duration(window),
                print_duration(self.window.0)
            )));
        }
        Ok(())
    }

    /// Checks one selector.
    pub(super) fn check_matchers(&self, matchers: &[Matcher]) -> Result<(), Error> {
        let present: Vec<&str> = matchers.iter().map(|matcher| &*matcher.name).collect();
        let missing = self.labels.iter().map(|name| &**name);
        let missing: Vec<&str> = missing.filter(|name| !present.contains(name)).collect();
        if !missing.is_empty() {
            return Err(Error::Invalid(format!(
                "stream selector is missing required matchers [{}], labels present in the query were [{}]",
                missing.join(", "),
                present.join(", ")
            )));
        }
        if present.len() < self.matchers {
            return Err(Error::Invalid(format!(
                "stream selector has less label matchers than required: (present: [{}], number_present: {}, required_number_label_matchers: {})",
                present.join(", "),
                present.len(),
                self.matchers
            )));
        }
        Ok(())
    }

    /// Checks what the query, or that of which it is a part, would read.
    pub(super) fn check_bytes(
        &self,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        source: &TenantsSource,
        budget: &query::Budget,
    ) -> Result<(), Error> {
        let max = self.bytes.0;
        if max == 0 {
            return Ok(());
        }
        let whole = self.context.as_ref().and_then(|context| {
            let time = |text: &str| parse_timestamp(text).ok();
            let expr = query::logql::parse(&context.expr).ok()?;
            Some((expr, time(&context.from)?, time(&context.to)?))
        });
        let (expr, start, end) = match &whole {
            Some((expr, from, to)) => (expr, *from, *to),
            None => (expr, start, end),
        };
        let mut bytes = 0;
        for part in parts(expr, start, end) {
            let selector = of_matchers(part.matchers)?;
            for (source, selector, _) in source.select(&selector) {
                let found = source.streams(&selector, part.range, Wanted::Totals, budget)?;
                bytes += found.totals.values().map(|total| total.bytes).sum::<u64>();
            }
        }
        if bytes <= max {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the query would read too many bytes (query: {}, limit: {}); consider adding more specific stream selectors or reduce the time range of the query",
            print_bytes(bytes),
            print_bytes(max)
        )))
    }
}

impl Nanos {
    /// The smaller of two limits, of which 0 is none.
    pub(super) fn smaller(self, other: i64) -> i64 {
        match (self.0, other) {
            (0, other) => other,
            (own, 0) => own,
            (own, other) => own.min(other),
        }
    }
}

fn text_of<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Option<T>,
    want: &'static str,
) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &want))
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| parse_duration(text).ok().map(Nanos);
        text_of(deserializer, parse, "a duration such as 1h30m")
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_of(
            deserializer,
            |text| parse_size(text).map(Bytes),
            "a size such as 10GB",
        )
    }
}

/// `10GB`, in bytes; units are powers of 1024.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_uppercase();
    let power = match unit.trim_end_matches('B') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1024_u64.checked_pow(power)?)
}

/// `512 B`, `1.5 KiB`, `20 MiB`.
fn print_bytes(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut unit = units.next();
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024.0, Some(next));
    }
    let size = (size * 10.0 + 0.5).floor() / 10.0;
    let unit = unit.unwrap_or(&"B");
    match size < 10.0 {
        true => format!("{size:.1} {unit}"),
        false => format!("{size:.0} {unit}"),
    }
}

/// How far before its first evaluation an expression looks, offsets not counted; nanoseconds.
pub(crate) fn longest_window(expr: &MetricExpr) -> i64 {
    deep(|| match expr {
        MetricExpr::Range(aggregation) => match &aggregation.over {
            RangeInput::Logs(logs) => logs.range,
            RangeInput::Subquery { expr, range, .. } => range.saturating_add(longest_window(expr)),
        },
        MetricExpr::Vector(aggregation) => longest_window(&aggregation.expr),
        MetricExpr::Binary(binary) => longest_window(&binary.lhs).max(longest_window(&binary.rhs)),
        MetricExpr::LabelReplace { expr, .. } => longest_window(expr),
        MetricExpr::ToVector(_) | MetricExpr::Number(_) => 0,
    })
}

/// The longest `[..]`, nanoseconds.
fn longest_range(expr: &MetricExpr) -> i64 {
    deep(|| match expr {
        MetricExpr::Range(aggregation) => match &aggregation.over {
            RangeInput::Logs(logs) => logs.range,
            RangeInput::Subquery { expr, range, .. } => longest_range(expr).max(*range),
        },
        MetricExpr::Vector(aggregation) => longest_range(&aggregation.expr),
        MetricExpr::Binary(binary) => longest_range(&binary.lhs).max(longest_range(&binary.rhs)),
        MetricExpr::LabelReplace { expr, .. } => longest_range(expr),
        MetricExpr::ToVector(_) | MetricExpr::Number(_) => 0,
    })
}

/// The selectors of an expression that is evaluated from `start` to `end`.
fn parts(expr: &Expr, start: Timestamp, end: Timestamp) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    match expr {
        Expr::Log(log) => found.push(Part {
            matchers: &log.selector,
            range: TimeRange::new(start, end.max(start)),
        }),
        Expr::Metric(expr) => metric_parts(expr, start, end, &mut found),
    }
    found
}

fn metric_parts<'a>(
    expr: &'a MetricExpr,
    start: Timestamp,
    end: Timestamp,
    found: &mut Vec<Part<'a>>,
) {
    deep(|| match expr {
        MetricExpr::Range(aggregation) => {
            let (range, offset) = match &aggregation.over {
                RangeInput::Logs(logs) => (logs.range, logs.offset),
                RangeInput::Subquery { range, offset, .. } => (*range, *offset),
            };
            let end = end.saturating_sub(offset);
            let start = start.saturating_sub(offset).saturating_sub(range);
            match &aggregation.over {
                RangeInput::Logs(logs) => found.push(Part {
                    matchers: &logs.log.selector,
                    range: TimeRange::new(start, end.max(start)),
                }),
                RangeInput::Subquery { expr, .. } => metric_parts(expr, start, end, found),
            }
        }
        MetricExpr::Vector(aggregation) => metric_parts(&aggregation.expr, start, end, found),
        MetricExpr::Binary(binary) => {
            metric_parts(&binary.lhs, start, end, found);
            metric_parts(&binary.rhs, start, end, found);
        }
        MetricExpr::LabelReplace { expr, .. } => metric_parts(expr, start, end, found),
        MetricExpr::ToVector(_) | MetricExpr::Number(_) => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> QueryLimits {
        let headers = [(LIMITS_HEADER.parse().unwrap(), json.parse().unwrap())];
        QueryLimits::of(&HeaderMap::from_iter(headers))
    }

    fn problem(limits: &QueryLimits, query: &str) -> Option<String> {
        let expr = query::logql::parse(query).unwrap();
        limits.check(&expr).err().map(|error| error.to_string())
    }

    #[test]
    fn limits_tighten_and_never_loosen() {
        let limits = limits(
            r#"{"maxQueryTime":"5s","maxEntriesLimitPerQuery":10,"maxQueryLookback":"1m","maxQueryLength":"1h"}"#,
        );
        let second = Duration::from_secs(1);
        assert_eq!(limits.time(second), second);
        assert_eq!(limits.time(second * 60), second * 5);
        assert_eq!((limits.entries(5), limits.entries(50)), (5, 10));
        let minute = 60_000_000_000;
        assert_eq!(
            limits.kept(TimeRange::new(0, minute * 2), minute * 2).start,
            minute
        );
        assert_eq!(limits.length.smaller(0), 60 * minute);
        assert_eq!(limits.length.smaller(minute), minute);
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        assert_eq!(limits("{"), QueryLimits::default());
        assert_eq!(limits(r#"{"maxQueryLength":7}"#), QueryLimits::default());
        assert_eq!(limits(r#"{"unknown":7}"#), QueryLimits::default());
    }

    #[test]
    fn selectors_must_name_what_is_required() {
        let required = limits(r#"{"requiredLabels":["app","env"]}"#);
        assert_eq!(problem(&required, r#"{app="a",env="b"}"#), None);
        assert_eq!(
            problem(
                &required,
                r#"sum(rate({app="a"}[1m])) / sum(rate({app="a",env="b"}[1m]))"#
            )
            .unwrap(),
            "stream selector is missing required matchers [env], labels present in the query were [app]"
        );
        let number = limits(r#"{"minimumLabelsNumber":2}"#);
        assert_eq!(
            problem(&number, r#"{app="a"}"#).unwrap(),
            "stream selector has less label matchers than required: (present: [app], number_present: 1, required_number_label_matchers: 2)"
        );
        let window = limits(r#"{"maxQueryInterval":"1m"}"#);
        assert_eq!(problem(&window, r#"rate({app="a"}[1m])"#), None);
        assert_eq!(
            problem(&window, r#"rate({app="a"}[5m])"#).unwrap(),
            "[interval] value exceeds limit: [5m] > [1m]"
        );
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, want) in [("10", 10), ("2kb", 2048), ("3GB", 3 << 30), ("1M", 1 << 20)] {
            assert_eq!(parse_size(text), Some(want), "{text}");
        }
        for text in ["", "KB", "1.5GB", "1XB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for (bytes, want) in [
            (9, "9 B"),
            (700, "700 B"),
            (1536, "1.5 KiB"),
            (20 << 20, "20 MiB"),
        ] {
            assert_eq!(print_bytes(bytes), want);
        }
    }
}
