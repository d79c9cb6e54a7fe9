//! Functions of Go's template language itself.

use std::sync::Arc;

use super::functions::{Bodies, Failure, Outcome, add, fail, text};
use super::printf::sprintf;
use super::strings::url_encode;
use super::text::Text;
use super::value::Value;
use crate::logql::parse::is_shown;
use crate::logql::pipeline::convert::push_clean;

pub(super) fn register(map: &mut Bodies) {
    add(map, "len", |a| match length(&a[0]) {
        Some(length) => Ok(Value::Int(length)),
        None => Err(fail(match a[0] {
            Value::Nil => "reflect: call of reflect.Value.Type on zero Value".to_owned(),
            ref other => format!("len of type {}", other.type_name()),
        })),
    });
    add(map, "index", |a| {
        a[1..]
            .iter()
            .try_fold(a[0].clone(), |item, at| index(&item, at))
    });
    add(map, "slice", slice);
    add(map, "not", |a| Ok(Value::Bool(!a[0].is_truthy())));
    add(map, "print", |a| joined(a, false)?.done());
    add(map, "println", |a| joined(a, true)?.done());
    add(map, "printf", |a| sprintf(text(a, 0)?, &a[1..])?.done());
    add(map, "html", |a| {
        html(&joined(a, false)?.into_string())?.done()
    });
    add(map, "js", |a| js(&joined(a, false)?.into_string())?.done());
    add(map, "urlquery", |a| {
        url_encode(&joined(a, false)?.into_string())?.done()
    });
    add(map, "call", |a| match &a[0] {
        Value::Nil => Err(fail("call of nil")),
        other => Err(fail(format!(
            "non-function {} of type {}",
            other.shown(),
            other.type_name()
        ))),
    });
}

fn length(value: &Value) -> Option<i64> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Map(members) => members.len(),
        Value::Labels(labels) => labels.len(),
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
        Value::Labels(labels) => match at {
            Value::String(name) => {
                let value = labels.get(name).cloned();
                Ok(Value::String(value.unwrap_or_else(|| Arc::from(""))))
            }
            Value::Nil => Err(fail("value is nil; should be string")),
            other => {
                let name = other.type_name();
                Err(fail(format!("value has type {name}; should be string")))
            }
        },
        Value::List(items) => {
            let at = position(at, items.len())?;
            items.get(at).cloned().ok_or_else(|| behind("slice"))
        }
        Value::String(_) | Value::Bytes(_) => {
            let bytes = match item {
                Value::Bytes(bytes) => bytes,
                Value::String(text) => text.as_bytes(),
                _ => &[],
            };
            let at = position(at, bytes.len())?;
            let byte = bytes.get(at);
            byte.map(|byte| Value::Byte(*byte)).ok_or_else(|| {
                behind(match item {
                    Value::Bytes(_) => "slice",
                    _ => "string",
                })
            })
        }
        Value::Nil => Err(fail("index of untyped nil")),
        other => Err(fail(format!(
            "can't index item of type {}",
            other.type_name()
        ))),
    }
}

/// A position in something so long; the length itself is one.
fn position(at: &Value, length: usize) -> Result<usize, Failure> {
    let at = match at {
        Value::Nil => return Err(fail("cannot index slice/array with nil")),
        other => other.integer().ok_or_else(|| {
            let name = other.type_name();
            fail(format!("cannot index slice/array with type {name}"))
        })?,
    };
    usize::try_from(at)
        .ok()
        .filter(|at| *at <= length)
        .ok_or_else(|| out_of_range(at))
}

/// Go's check lets the length itself pass; then its reflection fails.
fn behind(kind: &str) -> Failure {
    fail(format!("reflect: {kind} index out of range"))
}

fn out_of_range(at: i64) -> Failure {
    fail(format!("index out of range: {at}"))
}

fn slice(args: &[Value]) -> Outcome {
    let Some(length) =
        length(&args[0]).filter(|_| !matches!(args[0], Value::Map(_) | Value::Labels(_)))
    else {
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
        Value::Bytes(bytes) => Value::Bytes(bytes[from..to].into()),
        Value::String(text) => {
            let mut part = String::new();
            push_clean(&mut part, &text.as_bytes()[from..to]);
            Value::String(Arc::from(part))
        }
        other => other.clone(),
    })
}

/// Blanks stand between all for `println`, else between two that are no texts.
fn joined(args: &[Value], line: bool) -> Result<Text, Failure> {
    let mut out = Text::default();
    for (at, arg) in args.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::String(_));
        if at > 0 && (line || !(text(arg) || text(&args[at - 1]))) {
            out.push(' ')?;
        }
        out.push_str(&arg.shown())?;
    }
    if line {
        out.push('\n')?;
    }
    Ok(out)
}

fn html(text: &str) -> Result<Text, Failure> {
    let mut out = Text::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;")?,
            '\'' => out.push_str("&#39;")?,
            '&' => out.push_str("&amp;")?,
            '<' => out.push_str("&lt;")?,
            '>' => out.push_str("&gt;")?,
            '\0' => out.push('\u{fffd}')?,
            c => out.push(c)?,
        }
    }
    Ok(out)
}

fn js(text: &str) -> Result<Text, Failure> {
    let mut out = Text::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                out.push('\\')?;
                out.push(c)?;
            }
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32))?,
            c if c < ' ' || !is_shown(c) => out.push_str(&format!("\\u{:04X}", c as u32))?,
            c => out.push(c)?,
        }
    }
    Ok(out)
}
