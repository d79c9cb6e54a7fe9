//! Texts as numbers, durations and byte counts, accepted and refused as Go's `strconv`, `time` and
//! the humanize library do, with their words, because they are shown in `__error_details__`.

use crate::logql::parse::{quote, underscores_are_right};

/// `strconv.ParseFloat`.
pub fn parse_float(text: &str) -> Result<f64, String> {
    let syntax = || {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quote(text)
        )
    };
    if text.contains('_') {
        return match underscores_are_right(text) && text.bytes().any(|b| b.is_ascii_digit()) {
            true => parse_float(&text.replace('_', "")).map_err(|_| syntax()),
            false => Err(syntax()),
        };
    }
    if let Some(value) = parse_hex_float(text) {
        return Ok(value);
    }
    let value: f64 = text.parse().map_err(|_| syntax())?;
    let unsigned = text.trim_start_matches(['+', '-']);
    if value.is_nan() && unsigned.len() != text.len() {
        return Err(syntax());
    }
    if value.is_infinite() && !unsigned.starts_with(['i', 'I']) {
        return Err(format!(
            "strconv.ParseFloat: parsing {}: value out of range",
            quote(text)
        ));
    }
    Ok(value)
}

/// `0x1.8p3`: the exponent is required.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let rest = rest
        .strip_prefix("0x")
        .or_else(|| rest.strip_prefix("0X"))?;
    let (mantissa, exponent) = rest.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let mut value = 0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    let value = value * 2f64.powi(shift);
    Some(if negative { -value } else { value })
}

/// `time.ParseDuration`: nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote_time(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, tail) = rest.split_at(digits(rest));
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => tail.split_at(digits(tail)),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let whole: u64 = match whole {
            "" => 0,
            digits => digits
                .parse()
                .ok()
                .filter(|n| *n <= 1 << 63)
                .ok_or_else(invalid)?,
        };
        let unit_end = tail
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!(
                "time: missing unit in duration {}",
                quote_time(text)
            ));
        }
        let scale = unit_nanos(unit).ok_or_else(|| {
            let (unit, text) = (quote_time(unit), quote_time(text));
            format!("time: unknown unit {unit} in duration {text}")
        })?;
        let fraction = match fraction {
            "" => 0,
            digits => (format!("0.{digits}").parse::<f64>().unwrap_or(0.0) * scale as f64) as u64,
        };
        total = whole
            .checked_mul(scale)
            .and_then(|n| n.checked_add(fraction))
            .and_then(|n| n.checked_add(total))
            .filter(|n| *n <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = tail;
    }
    match (negative, total) {
        (true, n) => Ok((n as i64).wrapping_neg()),
        (false, n) => i64::try_from(n).map_err(|_| invalid()),
    }
}

/// A text as Go's `time` quotes it: byte by byte, with nothing but printable ASCII.
fn quote_time(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..0x80 => quoted.push(char::from(byte)),
            byte => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

/// How many digits a text starts with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `humanize.ParseBytes`: `42 MB`, `1.5GiB`, `1,000`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits_end = text
        .find(|c: char| !c.is_numeric() && c != '.' && c != ',')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let value = match number.contains(',') {
        true => parse_float(&number.replace(',', ""))?,
        false => parse_float(number)?,
    };
    let unit = unit.trim().to_lowercase();
    let scale = byte_scale(&unit).ok_or_else(|| format!("unhandled size name: {unit}"))?;
    let value = value * scale;
    if value >= u64::MAX as f64 {
        return Err(format!("too large: {text}"));
    }
    Ok(value as u64)
}

fn byte_scale(unit: &str) -> Option<f64> {
    const KI: f64 = 1024.0;
    Some(match unit {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "e" | "eb" => 1e18,
        "ki" | "kib" => KI,
        "mi" | "mib" => KI * KI,
        "gi" | "gib" => KI * KI * KI,
        "ti" | "tib" => KI * KI * KI * KI,
        "pi" | "pib" => KI * KI * KI * KI * KI,
        "ei" | "eib" => KI * KI * KI * KI * KI * KI,
        _ => return None,
    })
}

/// The bytes as text, if they are UTF-8 without U+FFFD.
pub(super) fn clean_text(bytes: &[u8]) -> Option<&str> {
    // The first byte of U+FFFD, which few texts have: to look for the character takes longer than all
    // else that is done with a short value.
    let text = std::str::from_utf8(bytes).ok()?;
    let clean = memchr::memchr(0xef, bytes).is_none() || !text.contains('\u{fffd}');
    clean.then_some(text)
}

/// Appends bytes as text: what is not UTF-8 becomes a blank, as does U+FFFD itself.
pub(super) fn push_clean(out: &mut String, bytes: &[u8]) {
    if let Some(text) = clean_text(bytes) {
        return out.push_str(text);
    }
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().chars().map(blank_replacement));
        out.extend(std::iter::repeat_n(' ', chunk.invalid().len()));
    }
}

fn blank_replacement(c: char) -> char {
    if c == '\u{fffd}' { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, want) in [
            ("1", Some(1.0)),
            ("-1.5e3", Some(-1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("+Inf", Some(f64::INFINITY)),
            ("-infinity", Some(f64::NEG_INFINITY)),
            ("0x1p-2", Some(0.25)),
            ("0x1.8p1", Some(3.0)),
            ("", None),
            (" 1", None),
            ("1s", None),
            ("1e400", None),
            ("+nan", None),
        ] {
            assert_eq!(parse_float(text).ok(), want, "{text}");
        }
        assert!(parse_float("NaN").unwrap().is_nan());
        assert_eq!(
            parse_float("x").unwrap_err(),
            r#"strconv.ParseFloat: parsing "x": invalid syntax"#
        );
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, want) in [
            ("1s", Ok(1_000_000_000)),
            ("-1.5h", Ok(-5_400_000_000_000)),
            ("1h15m30.918273645s", Ok(4_530_918_273_645)),
            ("1µs", Ok(1_000)),
            ("0", Ok(0)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("", Err(r#"time: invalid duration """#)),
            ("1", Err(r#"time: missing unit in duration "1""#)),
            ("1d", Err(r#"time: unknown unit "d" in duration "1d""#)),
            (
                "10.0.0.1",
                Err(r#"time: missing unit in duration "10.0.0.1""#),
            ),
            (".s", Err(r#"time: invalid duration ".s""#)),
            ("9999999h", Err(r#"time: invalid duration "9999999h""#)),
        ] {
            assert_eq!(parse_duration(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_as_humanize_reads_them() {
        for (text, want) in [
            ("42", Ok(42)),
            ("42MB", Ok(42_000_000)),
            ("42 mib", Ok(44_040_192)),
            ("1.5KB", Ok(1_500)),
            ("1,005.03 MB", Ok(1_005_030_000)),
            ("1 k", Ok(1_000)),
            ("1 JB", Err("unhandled size name: jb")),
            ("16 EiB", Err("too large: 16 EiB")),
            (
                "x",
                Err(r#"strconv.ParseFloat: parsing "": invalid syntax"#),
            ),
        ] {
            assert_eq!(parse_bytes(text), want.map_err(str::to_owned), "{text}");
        }
    }
}
