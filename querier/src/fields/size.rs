//! Sizes as a query takes them.

use query::logql::pipeline::parse_bytes;

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// How Loki shows a value that is a size, so that it may stand in a query as it is: `1.0kB` for
/// `1,000 B`. It keeps two digits; where another size would come of that, the value's own. `None` when
/// the value is no size with a unit.
pub(crate) fn shown(value: &str) -> Option<String> {
    let has_unit = value.ends_with(|last: char| last.is_ascii_alphabetic());
    let is_number = value.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if !has_unit || !is_number {
        return None;
    }
    let bytes = parse_bytes(value).ok()?;
    let rounded = rounded(bytes);
    Some(match parse_bytes(&rounded) == Ok(bytes) {
        true => rounded,
        false => value.replace([' ', ','], ""),
    })
}

/// Two digits and a unit of thousands.
fn rounded(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes}B");
    }
    let unit = (bytes.ilog10() / 3) as usize;
    let units = bytes as f64 / 1000f64.powi(unit as i32);
    let tenths = (units * 10.0 + 0.5).floor() / 10.0;
    match tenths < 10.0 {
        true => format!("{tenths:.1}{}", UNITS[unit]),
        false => format!("{tenths:.0}{}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_queries_take_them() {
        for (value, want) in [
            ("1K", Some("1.0kB")),
            ("1m", Some("1.0MB")),
            ("1,000B", Some("1.0kB")),
            ("10 MB", Some("10MB")),
            ("1b", Some("1B")),
            (".5K", Some("500B")),
            ("999B", Some("999B")),
            ("1E", Some("1.0EB")),
            ("16EB", Some("16EB")),
            // Loki shows 1.0kB and 10MB, which are other sizes.
            ("1Ki", Some("1Ki")),
            ("10.5 MB", Some("10.5MB")),
            ("10s", None),
            ("1000", None),
            ("1,000", None),
            ("5.5", None),
            ("-1KB", None),
            ("1_000B", None),
            ("1e3KB", None),
            ("B", None),
            ("", None),
        ] {
            assert_eq!(shown(value).as_deref(), want, "{value}");
        }
    }
}
