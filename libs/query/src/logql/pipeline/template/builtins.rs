//! Go's own `len`, `index` and `slice`, for the sake of their errors.

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value};

use super::functions::{Outcome, add, fail};
use crate::logql::pipeline::convert::push_clean;

pub(super) fn register(map: &mut FuncMap) {
    add(map, "len", 1, |a| match length(&a[0]) {
        Some(length) => Ok(Value::Int(length)),
        None => Err(fail(match a[0] {
            Value::Nil => "len of nil pointer".to_owned(),
            ref other => format!("len of type {}", other.type_name()),
        })),
    });
    add(map, "index", 1, |a| {
        a[1..]
            .iter()
            .try_fold(a[0].clone(), |item, at| index(&item, at))
    });
    add(map, "slice", 1, slice);
}

fn length(value: &Value) -> Option<i64> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.len(),
        _ => return None,
    };
    Some(length as i64)
}

fn index(item: &Value, at: &Value) -> Outcome {
    match item {
        Value::Map(members) => match at {
            Value::String(name) => Ok(members.get(name).cloned().unwrap_or(Value::Nil)),
            Value::Nil => Err(fail("value is nil; should be string")),
            other => {
                let name = other.type_name();
                Err(fail(format!("value has type {name}; should be string")))
            }
        },
        Value::List(items) => {
            let at = position(at, items.len())?;
            items
                .get(at)
                .cloned()
                .ok_or_else(|| out_of_range(at as i64))
        }
        Value::String(text) => {
            let at = position(at, text.len())?;
            let byte = text.as_bytes().get(at);
            byte.map(|byte| Value::Uint(u64::from(*byte)))
                .ok_or_else(|| out_of_range(at as i64))
        }
        Value::Nil => Err(fail("index of untyped nil")),
        other => Err(fail(format!(
            "can't index item of type {}",
            other.type_name()
        ))),
    }
}

/// A position in something so long; the length itself is one.
fn position(at: &Value, length: usize) -> Result<usize, TemplateError> {
    let at = match at {
        Value::Int(at) => *at,
        Value::Uint(at) => i64::try_from(*at).unwrap_or(i64::MAX),
        Value::Nil => return Err(fail("cannot index slice/array with nil")),
        other => {
            let name = other.type_name();
            return Err(fail(format!("cannot index slice/array with type {name}")));
        }
    };
    usize::try_from(at)
        .ok()
        .filter(|at| *at <= length)
        .ok_or_else(|| out_of_range(at))
}

fn out_of_range(at: i64) -> TemplateError {
    fail(format!("index out of range: {at}"))
}

fn slice(args: &[Value]) -> Outcome {
    let Some(length) = length(&args[0]).filter(|_| !matches!(args[0], Value::Map(_))) else {
        let name = args[0].type_name();
        return Err(fail(match args[0] {
            Value::Nil => "slice of untyped nil".to_owned(),
            _ => format!("can't slice item of type {name}"),
        }));
    };
    let bounds = &args[1..];
    if bounds.len() > 3 {
        let count = bounds.len();
        return Err(fail(format!("too many slice indexes: {count}")));
    }
    if bounds.len() == 3 && matches!(args[0], Value::String(_)) {
        return Err(fail("cannot 3-index slice a string"));
    }
    let length = length as usize;
    let mut ends = [0, length];
    for (end, bound) in ends.iter_mut().zip(bounds) {
        *end = position(bound, length)?;
    }
    let [from, to] = ends;
    if from > to {
        return Err(fail(format!("invalid slice index: {from} > {to}")));
    }
    Ok(match &args[0] {
        Value::List(items) => Value::List(items[from..to].into()),
        Value::String(text) => {
            let mut part = String::new();
            push_clean(&mut part, &text.as_bytes()[from..to]);
            Value::String(Arc::from(part))
        }
        other => other.clone(),
    })
}
