//! The functions that templates may call besides those of Go itself.

use std::sync::{Arc, LazyLock};

use gotmpl::{FuncMap, TemplateError, Value};

use super::{CONTEXT, builtins, math, rewrite, sites, strings, times};

/// What a function gives.
pub(super) type Outcome = Result<Value, TemplateError>;

/// Those of Go's template language.
const BUILTINS: [&str; 20] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery", "nil",
];

static FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut map = FuncMap::new();
    strings::register(&mut map);
    math::register(&mut map);
    builtins::register(&mut map);
    times::register(&mut map);
    rewrite::register(&mut map);
    add(&mut map, "__line__", 0, |_| {
        Ok(Value::String(CONTEXT.with_borrow(|c| {
            c.line.clone().unwrap_or_else(|| Arc::from(""))
        })))
    });
    add(&mut map, "default", 1, |args| {
        Ok(match args.get(1) {
            Some(value) if value.is_truthy() => value.clone(),
            _ => args[0].clone(),
        })
    });
    map
});

/// All of them, to be given to a template.
pub(super) fn all() -> FuncMap {
    FUNCTIONS.clone()
}

/// Whether a template may call it.
pub(super) fn is_known(name: &str) -> bool {
    BUILTINS.contains(&name) || FUNCTIONS.contains_key(name)
}

/// Registers a function that takes at least `args_min` arguments.
pub(super) fn add(
    map: &mut FuncMap,
    name: &'static str,
    args_min: usize,
    body: impl Fn(&[Value]) -> Outcome + Send + Sync + 'static,
) {
    map.insert(
        name.to_owned(),
        Arc::new(move |args: &[Value]| {
            if args.len() < args_min {
                return Err(TemplateError::ArgCount {
                    name: name.to_owned(),
                    expected: args_min,
                    got: args.len(),
                });
            }
            body(args)
        }),
    );
}

/// An argument that must be a text; a missing label is the empty text.
pub(super) fn text(args: &[Value], at: usize) -> Result<&str, TemplateError> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Nil) => Ok(""),
        other => Err(wrong_type("string", other, at)),
    }
}

/// An argument that must be an integer.
pub(super) fn int(args: &[Value], at: usize) -> Result<i64, TemplateError> {
    match args.get(at) {
        Some(Value::Int(n)) => Ok(*n),
        Some(Value::Uint(n)) => Ok(*n as i64),
        other => Err(wrong_type("int", other, at)),
    }
}

pub(super) fn fail(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

pub(super) fn string(text: impl Into<Arc<str>>) -> Outcome {
    Ok(Value::String(text.into()))
}

fn wrong_type(want: &str, got: Option<&Value>, at: usize) -> TemplateError {
    let got = got.map_or("nothing", Value::type_name);
    let problem = format!("wrong type for value; expected {want}; got {got}");
    fail(sites::wrong_argument(at, &problem))
}
