//! The functions that templates may call: their parameters and where their bodies are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::run::Param;
use super::value::Value;
use super::{CONTEXT, builtins, compare, math, strings, times};

/// What a function gives.
pub(super) type Outcome = Result<Value, Failure>;

/// Why a function gives nothing.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

type Body = Box<dyn Fn(&[Value]) -> Outcome + Send + Sync>;

/// Bodies by name.
pub(super) type Bodies = HashMap<&'static str, Body>;

/// Names, what they take, and whether the last may stand any number of times, also none.
const SIGNATURES: &[(&str, &[Param], bool)] = {
    use Param::{Any, Float, Int, Text, Time};
    &[
        (
            "ToLower ToUpper TrimSpace urldecode urlencode bytes duration",
            &[Text],
            false,
        ),
        (
            "duration_seconds unixToTime b64dec b64enc lower upper title",
            &[Text],
            false,
        ),
        ("trim fromJson", &[Text], false),
        (
            "Trim TrimLeft TrimRight TrimPrefix TrimSuffix count contains",
            &[Text, Text],
            false,
        ),
        (
            "hasPrefix hasSuffix trimAll trimPrefix trimSuffix toDate",
            &[Text, Text],
            false,
        ),
        ("Replace", &[Text, Text, Text, Int], false),
        (
            "regexReplaceAll regexReplaceAllLiteral replace toDateInZone",
            &[Text, Text, Text],
            false,
        ),
        (
            "alignLeft alignRight trunc indent nindent repeat",
            &[Int, Text],
            false,
        ),
        ("substr", &[Int, Int, Text], false),
        ("date", &[Text, Any], false),
        ("int float64 ceil floor not len", &[Any], false),
        ("unixEpoch unixEpochMillis unixEpochNanos", &[Time], false),
        ("sub div mod lt le gt ge ne", &[Any, Any], false),
        ("add addf print println html js urlquery", &[Any], true),
        (
            "mul subf mulf divf max min maxf minf default index slice eq call and or",
            &[Any, Any],
            true,
        ),
        ("round", &[Any, Int, Float], true),
        ("printf", &[Text, Any], true),
        ("now __line__ __timestamp__", &[], false),
    ]
};

struct Function {
    params: &'static [Param],
    more: bool,
    body: Body,
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut bodies = Bodies::new();
    strings::register(&mut bodies);
    math::register(&mut bodies);
    builtins::register(&mut bodies);
    compare::register(&mut bodies);
    times::register(&mut bodies);
    add(&mut bodies, "__line__", |_| {
        Ok(Value::String(CONTEXT.with_borrow(|c| {
            c.line.clone().unwrap_or_else(|| Arc::from(""))
        })))
    });
    add(&mut bodies, "default", |args| {
        Ok(match args.get(1) {
            Some(value) if value.is_truthy() => value.clone(),
            _ => args[0].clone(),
        })
    });
    let mut functions = HashMap::new();
    for (names, params, more) in SIGNATURES {
        for name in names.split(' ') {
            // `and` and `or` have no body: they do not evaluate all their arguments.
            let body = bodies
                .remove(name)
                .unwrap_or_else(|| Box::new(|_| Ok(Value::Nil)));
            let function = Function {
                params,
                more: *more,
                body,
            };
            functions.insert(name, function);
        }
    }
    functions
});

/// What a function takes, and whether the last may stand any number of times.
pub(super) fn signature(name: &str) -> Option<(&'static [Param], bool)> {
    let function = FUNCTIONS.get(name)?;
    Some((function.params, function.more))
}

/// Calls a function with arguments that fit its parameters.
pub(super) fn call(name: &str, args: &[Value]) -> Outcome {
    match FUNCTIONS.get(name) {
        Some(function) => (function.body)(args),
        None => Err(fail(format!("{name:?} is not a defined function"))),
    }
}

/// Registers a body. It is given as many arguments as its signature asks for at least.
pub(super) fn add(
    bodies: &mut Bodies,
    name: &'static str,
    body: impl Fn(&[Value]) -> Outcome + Send + Sync + 'static,
) {
    bodies.insert(name, Box::new(body));
}

/// An argument that is a text.
pub(super) fn text(args: &[Value], at: usize) -> Result<&str, Failure> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(fail("text expected")),
    }
}

/// An argument that is an integer.
pub(super) fn int(args: &[Value], at: usize) -> Result<i64, Failure> {
    let number = args.get(at).and_then(Value::integer);
    number.ok_or_else(|| fail("integer expected"))
}

pub(super) fn fail(message: impl Into<String>) -> Failure {
    Failure(message.into())
}

pub(super) fn string(text: impl Into<Arc<str>>) -> Outcome {
    Ok(Value::String(text.into()))
}
