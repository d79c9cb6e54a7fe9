//! Numbers, durations and sizes as Go and Loki write them.

use std::fmt::{self, Display, Formatter};

use super::super::parse::{format_bytes, parse_bytes};

/// Zero with a minus; `-0` would be a duration.
const MINUS_ZERO: &str = "-0.0";

/// A number without an exponent.
pub(in super::super) struct Plain(pub(in super::super) f64);

impl Display for Plain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match is_minus_zero(self.0) {
            true => f.write_str(MINUS_ZERO),
            false => write!(f, "{}", self.0),
        }
    }
}

fn is_minus_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// A number as an expression; those that have no literal are written as the operation that gives
/// them.
pub(in super::super) struct Literal(pub(in super::super) f64);

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("(0 / 0)"),
            f64::INFINITY => f.write_str("(1e308 * 10)"),
            f64::NEG_INFINITY => f.write_str("(-1e308 * 10)"),
            value if is_minus_zero(value) => f.write_str(MINUS_ZERO),
            value => shortest(f, value),
        }
    }
}

/// `%g` of Go: an exponent from 1e+06 on and below 0.0001, of two digits at least.
fn shortest(f: &mut Formatter<'_>, value: f64) -> fmt::Result {
    let text = format!("{value:e}");
    let parts = text.split_once('e');
    let Some((digits, Ok(exponent))) = parts.map(|(d, e)| (d, e.parse::<i32>())) else {
        return f.write_str(&text);
    };
    if value == 0.0 || (-4..6).contains(&exponent) {
        return write!(f, "{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(f, "{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A number with six digits behind the point, or with more when it would become another one.
pub(super) struct Six(pub(super) f64);

impl Display for Six {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = format!("{:.6}", self.0);
        match text.parse::<f64>() {
            Ok(value) if value.to_bits() == self.0.to_bits() => f.write_str(&text),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// Nanoseconds as Go writes a duration: `1h0m0.5s`, `1.5ms`, `0s`.
pub(in super::super) struct GoDuration(pub(in super::super) i64);

impl Display for GoDuration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanos = self.0.unsigned_abs();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "µs"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if seconds >= 60 {
                    write!(f, "{minutes}m")?;
                }
                decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// `value / unit` with as many digits as it needs.
fn decimal(f: &mut Formatter<'_>, value: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", value / unit)?;
    let rest = value % unit;
    if rest > 0 {
        // `unit` is 10^width.
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

/// A size with two digits, as Loki rounds it (`1.5MB`), or exactly when that is another one.
pub(in super::super) struct Bytes(pub(in super::super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match rounded(self.0) {
            Some(text) if parse_bytes(&text) == Some(self.0) => f.write_str(&text),
            _ => f.write_str(&format_bytes(self.0)),
        }
    }
}

/// `None` for exabytes: `1EB` reads as the start of `1E5`.
fn rounded(bytes: u64) -> Option<String> {
    if bytes < 10 {
        return Some(format!("{bytes}B"));
    }
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let power = bytes.ilog10() / 3;
    let unit = units.get(power as usize)?;
    let value = (bytes as f64 / 1000_f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    Some(match value < 10.0 {
        true => format!("{value:.1}{unit}"),
        false => format!("{value:.0}{unit}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let shown = |nanos| GoDuration(nanos).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(-1_500), "-1.5µs");
        assert_eq!(shown(1_050_000), "1.05ms");
        assert_eq!(shown(60_000_000_000), "1m0s");
        assert_eq!(shown(3_600_500_000_000), "1h0m0.5s");
        assert_eq!(shown(i64::MAX), "2562047h47m16.854775807s");
    }

    #[test]
    fn literals_have_an_exponent_where_go_writes_one() {
        let shown = |value| Literal(value).to_string();
        assert_eq!(shown(-0.0), "-0.0");
        assert_eq!(shown(999_999.0), "999999");
        assert_eq!(shown(1e6), "1e+06");
        assert_eq!(shown(1_234_567.25), "1.23456725e+06");
        assert_eq!(shown(0.0001), "0.0001");
        assert_eq!(shown(-0.000_012), "-1.2e-05");
        assert_eq!(shown(123_456.5), "123456.5");
        assert_eq!(shown(1e300), "1e+300");
    }

    #[test]
    fn sizes_are_rounded_only_where_nothing_is_lost() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0B");
        assert_eq!(shown(999), "999B");
        assert_eq!(shown(1_000), "1.0kB");
        assert_eq!(shown(5_500), "5.5kB");
        assert_eq!(shown(10_000), "10kB");
        assert_eq!(shown(1_024), "1KiB");
        assert_eq!(shown(1_234_567), "1234567B");
        assert_eq!(shown(1_000_000_000_000_000_000), "1EB");
    }
}
