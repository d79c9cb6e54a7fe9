use std::str::FromStr;
use std::time::Duration;

/// A number of bytes as people write it: `64MiB`, `1.5 GB`, `4096`. K, M, G, T are powers of 1000,
/// Ki, Mi, Gi, Ti of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteText(pub u64);

/// A length of time as people write it: `500ms`, `2m`, `1h30m`, `7d`; `0` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl FromStr for ByteText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("\"{text}\" is not a number of bytes; write for example 64MiB or 4096");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "K" | "KB" | "kB" => 1_000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "T" | "TB" => 1_000_000_000_000,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            _ => return Err(bad()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(ByteText).ok_or_else(bad);
        }
        let number: f64 = number.parse().map_err(|_| bad())?;
        Ok(ByteText((number * factor as f64) as u64))
    }
}

impl FromStr for DurationText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("\"{text}\" is not a length of time; write for example 500ms, 2m or 1h30m");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(DurationText(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(bad());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, tail) = rest.split_at(digits.ok_or_else(bad)?);
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic());
            let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
            let seconds = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                "w" => 604_800.0,
                _ => return Err(bad()),
            };
            let number: f64 = number.parse().map_err(|_| bad())?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = tail.trim_start();
        }
        Ok(DurationText(total))
    }
}

impl From<ByteText> for u64 {
    fn from(text: ByteText) -> u64 {
        text.0
    }
}

impl From<ByteText> for usize {
    fn from(text: ByteText) -> usize {
        usize::try_from(text.0).unwrap_or(usize::MAX)
    }
}

impl From<DurationText> for Duration {
    fn from(text: DurationText) -> Duration {
        text.0
    }
}

/// Nanoseconds; lengths over 292 years count as 292 years.
impl From<DurationText> for i64 {
    fn from(text: DurationText) -> i64 {
        i64::try_from(text.0.as_nanos()).unwrap_or(i64::MAX)
    }
}
