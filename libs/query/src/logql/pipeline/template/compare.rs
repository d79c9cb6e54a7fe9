//! Go's `eq`, `ne`, `lt`, `le`, `gt` and `ge`.

use std::cmp::Ordering;

use super::functions::{Bodies, Failure, add, fail};
use super::printf::sprintf;
use super::value::Value;

/// What may be compared with what.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Whole,
    Float,
    Text,
    Other,
}

pub(super) fn register(bodies: &mut Bodies) {
    add(bodies, "eq", |args| equal(args).map(Value::Bool));
    add(bodies, "ne", |args| equal(args).map(|is| Value::Bool(!is)));
    add(bodies, "lt", |args| {
        order(args).map(|o| Value::Bool(o == Some(Ordering::Less)))
    });
    add(bodies, "le", |args| {
        let at_most = |o| matches!(o, Some(Ordering::Less | Ordering::Equal));
        order(args).map(|o| Value::Bool(at_most(o)))
    });
    // The opposites, also for what has no order.
    add(bodies, "gt", |args| {
        let at_most = |o| matches!(o, Some(Ordering::Less | Ordering::Equal));
        order(args).map(|o| Value::Bool(!at_most(o)))
    });
    add(bodies, "ge", |args| {
        order(args).map(|o| Value::Bool(o != Some(Ordering::Less)))
    });
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Bool(_) => Kind::Bool,
        Value::Float(_) => Kind::Float,
        Value::String(_) => Kind::Text,
        other if other.integer().is_some() => Kind::Whole,
        _ => Kind::Other,
    }
}

/// Whether the first is equal to any of the others.
fn equal(args: &[Value]) -> Result<bool, Failure> {
    let Some((first, others)) = args.split_first() else {
        return Err(fail("missing argument for comparison"));
    };
    if others.is_empty() {
        return Err(fail("missing argument for comparison"));
    }
    for other in others {
        let is = match (kind(first), kind(other)) {
            (Kind::Whole, Kind::Whole) => first.integer() == other.integer(),
            (Kind::Other, Kind::Other) => match (first, other) {
                (Value::Nil, other) | (other, Value::Nil) => *other == Value::Nil,
                (Value::Time(a), Value::Time(b)) => a == b,
                (Value::Location(a), Value::Location(b)) => a == b,
                (a, b) => {
                    if matches!(a, Value::Time(_)) {
                        let (a, b, of_a, of_b) =
                            (a.shown(), b.shown(), a.type_name(), b.type_name());
                        return Err(fail(format!(
                            "non-comparable types {a}: {of_a}, {of_b}: {b}"
                        )));
                    }
                    let (shown, kind) = (
                        sprintf("%s", std::slice::from_ref(a))?.into_string(),
                        a.type_name(),
                    );
                    return Err(fail(format!("non-comparable type {shown}: {kind}")));
                }
            },
            (a, b) if a == b => first == other,
            _ if *first == Value::Nil || *other == Value::Nil => false,
            _ => return Err(incompatible(first, other)),
        };
        if is {
            return Ok(true);
        }
    }
    Ok(false)
}

fn incompatible(a: &Value, b: &Value) -> Failure {
    let (a, b) = (a.type_name(), b.type_name());
    fail(format!("incompatible types for comparison: {a} and {b}"))
}

fn order(args: &[Value]) -> Result<Option<Ordering>, Failure> {
    let (first, other) = (&args[0], &args[1]);
    let (a, b) = (kind(first), kind(other));
    if a == Kind::Other || b == Kind::Other {
        return Err(fail("invalid type for comparison"));
    }
    if a != b {
        return Err(incompatible(first, other));
    }
    match (first, other) {
        (Value::Bool(_), _) => Err(fail("invalid type for comparison")),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        _ => Ok(first.integer().partial_cmp(&other.integer())),
    }
}
