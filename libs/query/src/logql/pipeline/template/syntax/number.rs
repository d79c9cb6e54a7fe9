//! Numbers and characters as Go writes them.

use super::lex::{Kind, Token};
use super::{Stop, unquoted, wrong};
use crate::logql::parse::quote;

/// Whether it is one that Go can read.
pub(super) fn check_number(token: &Token) -> Result<(), Stop> {
    let text = &token.text;
    if token.kind == Kind::CharConstant {
        return check_char(text);
    }
    if text.strip_suffix('i').is_some_and(is_float) || is_integer(text) {
        return Ok(());
    }
    match is_float(text) {
        true if text.contains(['.', 'e', 'E', 'p', 'P']) => Ok(()),
        true => wrong(format!("integer overflow: {}", quote(text))),
        false => wrong(format!("illegal number syntax: {}", quote(text))),
    }
}

fn check_char(text: &str) -> Result<(), Stop> {
    let inner = &text[1..text.len() - 1];
    let first = match inner.strip_prefix('\\') {
        None => inner.chars().next().map_or(0, char::len_utf8),
        Some(escape) => {
            1 + match escape.as_bytes().first() {
                Some(b'x') => 3,
                Some(b'u') => 5,
                Some(b'U') => 9,
                Some(b'0'..=b'7') => 3,
                _ => 1,
            }
        }
    };
    let (Some(one), Some(rest)) = (inner.get(..first), inner.get(first..)) else {
        return wrong("invalid syntax");
    };
    let text_of_one = match one {
        "\\'" => "\"'\"".to_owned(),
        "\\\"" | "" => return wrong("invalid syntax"),
        "\"" => "\"\\\"\"".to_owned(),
        one => format!("\"{one}\""),
    };
    unquoted(&text_of_one)?;
    match rest.is_empty() {
        true => Ok(()),
        false => wrong(format!("malformed character constant: {text}")),
    }
}

/// A whole number of 64 bits, with or without a sign, of any base.
fn is_integer(text: &str) -> bool {
    let (is_negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    let bare = rest.replace('_', "");
    let has_sign = digits.len() < text.len();
    let Ok(value) = u64::from_str_radix(&bare, base) else {
        return false;
    };
    !bare.starts_with('+')
        && match (has_sign, is_negative) {
            (false, _) => true,
            (true, true) => value <= i64::MIN.unsigned_abs(),
            (true, false) => value <= i64::MAX.unsigned_abs(),
        }
}

fn is_float(text: &str) -> bool {
    let bare = text.replace('_', "").to_ascii_lowercase();
    let digits = bare.trim_start_matches(['+', '-']);
    match digits.strip_prefix("0x") {
        Some(hex) => {
            let (mantissa, exponent) = hex.split_once('p').unwrap_or((hex, ""));
            mantissa.chars().any(|c| c.is_ascii_hexdigit()) && exponent.parse::<i32>().is_ok()
        }
        None => bare.parse::<f64>().is_ok(),
    }
}
