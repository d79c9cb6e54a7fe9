//! Numbers as Go's verbs write them.

use super::super::value;
use super::{Flags, padded};
use crate::logql::parse::quote;

/// More digits than any number has behind its point: what follows are zeros. Rust writes no more
/// than 65,535.
const DIGITS_MAX: usize = 1_100;

pub(super) fn integer(flags: &Flags, verb: char, number: i64) -> Option<String> {
    let magnitude = number.unsigned_abs();
    let (mut digits, prefix) = match verb {
        'v' | 'd' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), "0b"),
        'o' => (format!("{magnitude:o}"), "0"),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), "0x"),
        'X' => (format!("{magnitude:X}"), "0X"),
        'c' => return Some(padded(flags, &character(number).to_string())),
        'q' => return Some(padded(flags, &format!("'{}'", rune(character(number))))),
        'U' => return Some(padded(flags, &format!("U+{magnitude:04X}"))),
        _ => return None,
    };
    let signed = number < 0 || flags.plus || flags.space;
    let least = match flags.precision {
        Some(0) if number == 0 => return Some(" ".repeat(flags.width.unwrap_or(0))),
        Some(precision) => precision,
        None if flags.zero && !flags.minus => {
            flags.width.unwrap_or(0).saturating_sub(usize::from(signed))
        }
        None => 0,
    };
    let missing = least.saturating_sub(digits.len());
    digits.insert_str(0, &"0".repeat(missing));
    if verb == 'O' || (flags.sharp && !(verb == 'o' && digits.starts_with('0'))) {
        digits.insert_str(0, prefix);
    }
    let sign = match (number < 0, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let blank = Flags {
        zero: false,
        ..*flags
    };
    Some(padded(&blank, &format!("{sign}{digits}")))
}

fn character(number: i64) -> char {
    let code = u32::try_from(number).ok();
    code.and_then(char::from_u32).unwrap_or('\u{fffd}')
}

/// A character as Go quotes it alone.
fn rune(c: char) -> String {
    match c {
        '\'' => "\\'".to_owned(),
        '"' => "\"".to_owned(),
        c => {
            let quoted = quote(&c.to_string());
            quoted[1..quoted.len() - 1].to_owned()
        }
    }
}

pub(super) fn float(flags: &Flags, verb: char, number: f64) -> Option<String> {
    let magnitude = number.abs();
    let digits = match verb {
        _ if !number.is_finite() && "vgGeEfF".contains(verb) => match number.is_nan() {
            true => "NaN".to_owned(),
            false => "Inf".to_owned(),
        },
        'e' | 'E' => scientific(magnitude, flags.precision.unwrap_or(6)),
        'f' | 'F' => {
            let (precision, zeros) = exact(flags.precision.unwrap_or(6));
            format!("{magnitude:.precision$}{}", "0".repeat(zeros))
        }
        'v' | 'g' | 'G' => match flags.precision {
            Some(precision) => general(magnitude, precision.max(1)),
            None => value::float(magnitude),
        },
        _ => return None,
    };
    let digits = match verb {
        'E' | 'G' => digits.to_uppercase(),
        _ => digits,
    };
    let sign = match (
        number.is_sign_negative() && !number.is_nan(),
        flags.plus,
        flags.space,
    ) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        // Infinity has its sign, whatever the flags.
        _ if number.is_infinite() => "+",
        _ => "",
    };
    let flags = Flags {
        zero: flags.zero && number.is_finite(),
        ..*flags
    };
    if flags.zero && !flags.minus {
        let missing = flags
            .width
            .map_or(0, |width| width.saturating_sub(sign.len() + digits.len()));
        return Some(format!("{sign}{}{digits}", "0".repeat(missing)));
    }
    Some(padded(&flags, &format!("{sign}{digits}")))
}

/// `1.5e+03` with so many digits behind the point.
fn scientific(number: f64, precision: usize) -> String {
    let (precision, zeros) = exact(precision);
    let text = format!("{number:.precision$e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power = exponent(power.parse().unwrap_or(0));
    format!("{digits}{}e{power}", "0".repeat(zeros))
}

/// How many digits behind the point are asked of Rust, and how many zeros follow.
fn exact(precision: usize) -> (usize, usize) {
    let digits = precision.min(DIGITS_MAX);
    (digits, precision - digits)
}

/// With a sign and two digits at least.
pub(in super::super) fn exponent(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{:02}", exponent.unsigned_abs())
}

/// At most so many digits, without zeros at the end.
fn general(number: f64, precision: usize) -> String {
    let precision = precision.min(DIGITS_MAX);
    let text = format!("{number:.*e}", precision - 1);
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    let count = digits.bytes().filter(u8::is_ascii_digit).count() as i32;
    // As many digits as the number has before the point are enough to write it out.
    let most = match precision as i32 > count && count > power {
        true => count,
        false => precision as i32,
    };
    if power < -4 || power >= most {
        return format!("{digits}e{}", exponent(power));
    }
    format!("{number:.*}", (count - 1 - power).max(0) as usize)
}
