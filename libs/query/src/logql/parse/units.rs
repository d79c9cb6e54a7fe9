//! Durations, sizes and quoted texts.

use std::fmt::Write as _;

const SECOND: i64 = 1_000_000_000;

/// Units of durations with their nanoseconds, longest first.
const DURATIONS: &[(&str, i64)] = &[
    ("y", 365 * 86_400 * SECOND),
    ("w", 7 * 86_400 * SECOND),
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of sizes with their bytes, largest first.
const SIZES: &[(&str, u64)] = &[
    ("EiB", 1 << 60),
    ("EB", 1_000_000_000_000_000_000),
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
];

/// A duration as Prometheus writes it (`1d12h`: whole numbers, largest unit first) or else as Go
/// does (`1.5h`, `-30s`: no days), in nanoseconds. `None` when the text is none or does not fit.
pub fn parse_duration(text: &str) -> Option<i64> {
    parse_range(text).ok().or_else(|| go_duration(text))
}

/// A duration as Prometheus writes it, in nanoseconds.
///
/// # Errors
/// What is wrong, in the words of Prometheus.
pub(super) fn parse_range(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let out_of_range = || "duration out of range".to_owned();
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let (mut rest, mut total, mut least_unit) = (text, 0_i64, i64::MAX);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| invalid())?;
        let end = tail.find(|c: char| c.is_ascii_digit());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let known = DURATIONS
            .iter()
            .find(|(name, nanos)| *name == unit && *nanos >= 1_000_000);
        let Some((_, nanos)) = known else {
            return Err(format!(
                "unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        };
        if *nanos >= least_unit {
            return Err(invalid());
        }
        least_unit = *nanos;
        let part = number.checked_mul(*nanos).ok_or_else(out_of_range)?;
        total = total.checked_add(part).ok_or_else(out_of_range)?;
        rest = tail;
    }
    Ok(total)
}

/// A duration as Go writes it: `None` when the text is none or does not fit.
pub(super) fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let unit = if matches!(unit, "µs" | "μs") {
            "us"
        } else {
            unit
        };
        let (_, nanos) = DURATIONS
            .iter()
            .find(|(name, nanos)| *name == unit && *nanos <= 3_600 * SECOND)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    Some(if negative { -total } else { total })
}

/// `number` (digits with at most one point) times `unit`, rounded down, exact.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = match whole {
        "" => 0,
        whole => whole.parse::<i64>().ok()?,
    };
    // Beyond 18 digits a fraction adds less than a nanosecond to any unit.
    let digits = &fraction[..fraction.len().min(18)];
    let part = match digits {
        "" => 0,
        digits => {
            let value = i128::from(digits.parse::<i64>().ok()?);
            let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
            i64::try_from(value * i128::from(unit) / scale).ok()?
        }
    };
    whole.checked_mul(unit)?.checked_add(part)
}

/// A duration as Prometheus writes it, with `us` and `ns` for what it cannot say.
pub(crate) fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    if nanos < 0 {
        text.push('-');
    }
    let mut rest = nanos.unsigned_abs();
    for (name, unit) in DURATIONS {
        let unit = unit.unsigned_abs();
        // Years and weeks only when nothing is left over.
        if matches!(*name, "y" | "w") && !rest.is_multiple_of(unit) {
            continue;
        }
        // Days go with neither a sign nor units below milliseconds.
        let plain = nanos > 0 && nanos % 1_000_000 == 0;
        if matches!(*name, "y" | "w" | "d") && !plain {
            continue;
        }
        if rest >= unit {
            let _ = write!(text, "{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

/// A size (`10KB`, `1.5MiB`, `5B`, any case), in bytes. `None` when the text is none or does not
/// fit.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let scale = match unit.as_str() {
        "b" => 1,
        unit => {
            // `k`, `kb` and `ki`, `kib` mean the same.
            let full = match unit.strip_suffix('b') {
                Some(_) => unit.to_owned(),
                None => format!("{unit}b"),
            };
            let found = SIZES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(&full));
            found?.1
        }
    };
    if !number.contains('.') {
        return number.parse::<u64>().ok()?.checked_mul(scale);
    }
    if number.matches('.').count() > 1 || number.len() < 2 {
        return None;
    }
    let value = number.parse::<f64>().ok()? * scale as f64;
    (value < u64::MAX as f64).then_some(value as u64)
}

/// A size in the largest unit that says it exactly.
pub(crate) fn format_bytes(bytes: u64) -> String {
    let unit = SIZES
        .iter()
        .find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    match unit {
        Some((name, size)) => format!("{}{name}", bytes / size),
        None => format!("{bytes}B"),
    }
}

/// A text as Go would quote it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x80 && c.is_control() => {
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c if is_shown(c) => quoted.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(quoted, "\\U{:08x}", c as u32);
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether Go leaves a character as it is: no controls, no spaces but the plain one. The standard
/// library shows the same ones, once no mark stands at the very start of a text.
pub(crate) fn is_shown(c: char) -> bool {
    c.is_ascii() || format!("a{c}").escape_debug().nth(1) == Some(c)
}

/// What stands between double quotes, with Go's escapes resolved.
pub(crate) fn unquote(text: &str) -> Result<String, &'static str> {
    const INVALID: &str = "invalid char escape";
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Bytes, because `\xE2\x82\xAC` is one character.
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().ok_or(INVALID)?;
        let simple = match escape {
            b'a' => Some(7),
            b'b' => Some(8),
            b'f' => Some(12),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(11),
            b'\\' | b'"' => Some(escape),
            _ => None,
        };
        if let Some(byte) = simple {
            bytes.push(byte);
            rest = &rest[at + 2..];
            continue;
        }
        let (start, length, radix) = match escape {
            b'0'..=b'7' => (at + 1, 3, 8),
            b'x' => (at + 2, 2, 16),
            b'u' => (at + 2, 4, 16),
            b'U' => (at + 2, 8, 16),
            _ => return Err(INVALID),
        };
        let digits = rest.get(start..start + length).ok_or(INVALID)?;
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(INVALID);
        }
        let code = u32::from_str_radix(digits, radix).map_err(|_| INVALID)?;
        if matches!(escape, b'u' | b'U') {
            let c = char::from_u32(code).ok_or(INVALID)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(code).map_err(|_| INVALID)?);
        }
        rest = &rest[start + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| "text is not valid UTF-8")
}
