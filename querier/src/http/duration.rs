//! Durations as Prometheus writes them: `1h30m`, `500ms`, `1d`.

use model::NANOS_PER_SECOND;

/// Units, largest first; a text names each at most once and in this order.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3600 * NANOS_PER_SECOND),
    ("w", 7 * 24 * 3600 * NANOS_PER_SECOND),
    ("d", 24 * 3600 * NANOS_PER_SECOND),
    ("h", 3600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
];

/// Nanoseconds of `1d2h3m4s5ms` and the like.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    match text {
        "" => return Err("empty duration string".into()),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {text:?}");
    let mut rest = text;
    let mut nanos: i64 = 0;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let at = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        let length = units[at].1;
        units = &units[at + 1..];
        nanos = number
            .checked_mul(length)
            .and_then(|part| nanos.checked_add(part))
            .ok_or("duration out of range")?;
    }
    Ok(nanos)
}

/// `None` when the seconds are not a number or too many for 64 bits of nanoseconds.
pub(crate) fn seconds_to_nanos(seconds: f64) -> Option<i64> {
    let nanos = seconds * NANOS_PER_SECOND as f64;
    (nanos.abs() < i64::MAX as f64).then_some(nanos as i64)
}

/// The way Prometheus prints a duration, `30d1h`.
pub(crate) fn print_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let mut rest = nanos.unsigned_abs() / 1_000_000;
    let mut text = String::from(if nanos < 0 { "-" } else { "" });
    for (name, length) in UNITS {
        let length = length as u64 / 1_000_000;
        // Years and weeks are only used when nothing remains, so that 10d is not 1w3d.
        let exact = matches!(name, "y" | "w");
        if rest >= length && (!exact || rest.is_multiple_of(length)) {
            text.push_str(&format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    text
}

/// The way Go prints a duration of whole seconds and up, `722h0m0s`.
pub(crate) fn print_go_duration(nanos: i64) -> String {
    let seconds = nanos / NANOS_PER_SECOND;
    let fraction = (nanos % NANOS_PER_SECOND).unsigned_abs();
    let mut text = match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{}m", minutes.abs()),
    };
    let seconds = seconds % 60;
    if fraction == 0 {
        text.push_str(&format!("{seconds}s"));
    } else {
        let digits = format!("{fraction:09}");
        text.push_str(&format!("{seconds}.{}s", digits.trim_end_matches('0')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_name_each_unit_once_and_in_order() {
        let second = NANOS_PER_SECOND;
        for (text, want) in [
            ("0", 0),
            ("1s", second),
            ("1m30s", 90 * second),
            ("5ms", 5_000_000),
            ("1d2h", 26 * 3600 * second),
            ("1w", 7 * 86_400 * second),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
        for text in [
            "", "1", "s", "1s1m", "1s1s", "-1s", "1.5s", "1x", "300y", "1é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_like_the_two_libraries_do() {
        let hour = 3600 * NANOS_PER_SECOND;
        assert_eq!(print_duration(721 * hour), "30d1h");
        assert_eq!(print_duration(168 * hour), "1w");
        assert_eq!(print_duration(0), "0s");
        assert_eq!(print_go_duration(722 * hour), "722h0m0s");
        assert_eq!(print_go_duration(90 * NANOS_PER_SECOND), "1m30s");
        assert_eq!(print_go_duration(1_500_000_000), "1.5s");
    }
}
