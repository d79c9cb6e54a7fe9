//! Arithmetic as sprig has it: whatever is no number counts as 0.

use super::decimal::{Decimal, DivisionByZero};
use super::functions::{Bodies, Failure, Outcome, add, fail, text};
use super::value::Value;
use crate::logql::pipeline::convert::{parse_bytes, parse_duration, parse_float};

pub(super) fn register(map: &mut Bodies) {
    register_ints(map);
    register_floats(map);
    register_decimals(map);
    add(map, "bytes", |a| match parse_bytes(text(a, 0)?) {
        Ok(bytes) => Ok(Value::Float(bytes as f64)),
        Err(error) => Err(fail(error)),
    });
    for name in ["duration", "duration_seconds"] {
        add(map, name, |a| match parse_duration(text(a, 0)?) {
            Ok(nanos) => Ok(Value::Float(seconds(nanos))),
            Err(error) => Err(fail(error)),
        });
    }
}

/// Nanoseconds as seconds, as Go's `Duration.Seconds` rounds them.
pub(in super::super) fn seconds(nanos: i64) -> f64 {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    whole as f64 + rest as f64 / 1e9
}

/// As in Go, NaN is larger and smaller than all but the infinity that is looked for.
fn larger(a: f64, b: f64) -> f64 {
    match a == f64::INFINITY || b == f64::INFINITY {
        true => f64::INFINITY,
        false if a.is_nan() || b.is_nan() => f64::NAN,
        false => a.max(b),
    }
}

fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

fn register_ints(map: &mut Bodies) {
    add(map, "int", |a| Ok(Value::Int(to_int(&a[0]))));
    add(map, "add", |a| {
        Ok(Value::Int64(
            a.iter().fold(0i64, |sum, v| sum.wrapping_add(to_int(v))),
        ))
    });
    add(map, "mul", |a| {
        Ok(Value::Int64(
            a.iter().fold(1i64, |all, v| all.wrapping_mul(to_int(v))),
        ))
    });
    add(map, "sub", |a| {
        Ok(Value::Int64(to_int(&a[0]).wrapping_sub(to_int(&a[1]))))
    });
    add(map, "div", |a| match to_int(&a[1]) {
        0 => Err(divide_by_zero()),
        by => Ok(Value::Int64(to_int(&a[0]).wrapping_div(by))),
    });
    add(map, "mod", |a| match to_int(&a[1]) {
        0 => Err(divide_by_zero()),
        by => Ok(Value::Int64(to_int(&a[0]).wrapping_rem(by))),
    });
    add(map, "max", |a| {
        Ok(Value::Int64(a.iter().map(to_int).max().unwrap_or(0)))
    });
    add(map, "min", |a| {
        Ok(Value::Int64(a.iter().map(to_int).min().unwrap_or(0)))
    });
}

fn register_floats(map: &mut Bodies) {
    add(map, "float64", |a| Ok(Value::Float(to_float(&a[0]))));
    add(map, "maxf", |a| floats(a, larger));
    add(map, "minf", |a| floats(a, smaller));
    add(map, "ceil", |a| Ok(Value::Float(to_float(&a[0]).ceil())));
    add(map, "floor", |a| Ok(Value::Float(to_float(&a[0]).floor())));
    add(map, "round", |a| {
        let on = a.get(2).map_or(0.5, to_float);
        let scale = 10f64.powf(super::functions::int(a, 1)? as f64);
        let digits = scale * to_float(&a[0]);
        let rounded = match digits.fract() >= on {
            true => digits.ceil(),
            false => digits.floor(),
        };
        Ok(Value::Float(rounded / scale))
    });
}

fn register_decimals(map: &mut Bodies) {
    add(map, "addf", |a| decimals(a, |x, y| Ok(x.add(y))));
    add(map, "subf", |a| decimals(a, |x, y| Ok(x.sub(y))));
    add(map, "mulf", |a| decimals(a, |x, y| Ok(x.mul(y))));
    add(map, "divf", |a| decimals(a, Decimal::div));
}

fn floats(args: &[Value], pick: fn(f64, f64) -> f64) -> Outcome {
    let values = args.iter().map(to_float);
    Ok(Value::Float(values.reduce(pick).unwrap_or(0.0)))
}

fn decimals(
    args: &[Value],
    apply: impl Fn(Decimal, Decimal) -> Result<Decimal, DivisionByZero>,
) -> Outcome {
    let mut total = decimal(&args[0])?;
    for arg in &args[1..] {
        total =
            apply(total, decimal(arg)?).map_err(|DivisionByZero| fail("decimal division by 0"))?;
    }
    Ok(Value::Float(total.to_f64()))
}

fn decimal(value: &Value) -> Result<Decimal, Failure> {
    let number = to_float(value);
    let refused = match number {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        number if number.is_nan() => "NaN",
        number => return Ok(Decimal::from_f64(number)),
    };
    Err(fail(format!("Cannot create a Decimal from {refused}")))
}

fn divide_by_zero() -> Failure {
    fail("runtime error: integer divide by zero")
}

fn to_int(value: &Value) -> i64 {
    match value {
        Value::Float(f) => *f as i64,
        Value::Bool(b) => i64::from(*b),
        Value::String(text) => text_to_int(text).unwrap_or(0),
        other => other.integer().unwrap_or(0),
    }
}

/// `strconv.ParseInt` with base 0, after digits behind a point were left out.
fn text_to_int(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) => whole,
        _ => text,
    };
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::String(text) => parse_float(text).unwrap_or(0.0),
        other => other.integer().unwrap_or(0) as f64,
    }
}
