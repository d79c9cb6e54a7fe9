//! Calls of functions: how many arguments there must be, and of which types.

use std::sync::Arc;

use gotmpl::parse::{Expr, Number};

use super::super::functions::fail;
use super::super::value::Value;
use super::super::{alert, functions};
use super::place::{self, At};
use super::{Dialect, Run, Step};

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Param {
    Text,
    Int,
    Float,
    Time,
    Duration,
    /// Or nothing.
    Location,
    /// Or nothing, which is none.
    Bytes,
    Any,
}

impl<'p> Run<'p, '_> {
    /// A call. `whole` is where the function fails, `word` where its arguments are too few.
    pub(super) fn function(
        &mut self,
        dot: &Value,
        name: &str,
        whole: At<'p>,
        word: At<'p>,
        args: &'p [Expr],
        piped: Option<Value>,
    ) -> Step<Value> {
        self.at = word;
        let signature = match self.program.dialect {
            Dialect::Lines => functions::signature(name),
            Dialect::Alerts => alert::signature(name),
        };
        let Some((params, more)) = signature else {
            return self.fail(format!("{name:?} is not a defined function"));
        };
        let got = args.len() + usize::from(piped.is_some());
        let fixed = params.len() - usize::from(more);
        if more && got < fixed {
            let got = args.len();
            return self.fail(format!(
                "wrong number of args for {name}: want at least {fixed} got {got}"
            ));
        }
        if !more && got != fixed {
            return self.fail(format!(
                "wrong number of args for {name}: want {fixed} got {got}"
            ));
        }
        if matches!(name, "and" | "or") {
            return self.first_deciding(dot, name == "or", args, piped);
        }
        let values = self.arguments(dot, params, more, args, piped)?;
        self.before_call(name, &values)?;
        let outcome = match (self.program.dialect, name) {
            // Go names what it should call as it is written.
            (_, "call") if !args.is_empty() && !matches!(values[0], Value::Nil) => {
                let called = place::text(&self.program.source, &args[0]);
                let kind = values[0].type_name();
                Err(fail(format!("non-function {called} of type {kind}")))
            }
            (Dialect::Lines, _) => functions::call(name, &values),
            (Dialect::Alerts, "query") => (self.queries)(&values),
            (Dialect::Alerts, _) => alert::call(name, &values, self.root),
        };
        self.after_call(name, whole, outcome)
    }

    /// `and` and `or` stop at the first value that decides.
    fn first_deciding(
        &mut self,
        dot: &Value,
        wanted: bool,
        args: &'p [Expr],
        piped: Option<Value>,
    ) -> Step<Value> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.argument(dot, Param::Any, arg)?;
            if value.is_truthy() == wanted {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    /// What a call is given: written arguments, then what is piped in. With `more` the last
    /// parameter takes any number.
    pub(super) fn arguments(
        &mut self,
        dot: &Value,
        params: &[Param],
        more: bool,
        args: &'p [Expr],
        piped: Option<Value>,
    ) -> Step<Vec<Value>> {
        let last = params.last().copied().unwrap_or(Param::Any);
        let param = |at: usize| params.get(at).copied().unwrap_or(last);
        let mut values = Vec::with_capacity(args.len() + 1);
        for (at, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, param(at), arg)?);
        }
        if let Some(value) = piped {
            let at = values.len();
            let wanted = if more { param(at) } else { last };
            values.push(self.fitting(value, wanted)?);
        }
        Ok(values)
    }

    fn argument(&mut self, dot: &Value, param: Param, arg: &'p Expr) -> Step<Value> {
        self.at = At::Expr(arg);
        let source = &self.program.source;
        let text = || At::Expr(arg).shown(source).2;
        match (param, arg) {
            (Param::Any, Expr::Nil(_)) => Ok(Value::Nil),
            (Param::Location, Expr::Nil(_)) => Ok(Value::Nil),
            (Param::Bytes, Expr::Nil(_)) => Ok(Value::Bytes(Arc::default())),
            (_, Expr::Nil(_)) => self.fail(format!("cannot assign nil to {}", param.type_name())),
            (Param::Text, Expr::Number(..) | Expr::Bool(..)) => {
                self.fail(format!("expected string; found {}", text()))
            }
            (Param::Int | Param::Duration, Expr::Number(_, number)) => match whole(*number) {
                Some(number) if param == Param::Duration => Ok(Value::Duration(number)),
                Some(number) => Ok(Value::Int(number)),
                None => self.fail(format!("expected integer; found {}", text())),
            },
            (Param::Int | Param::Duration, Expr::String(..) | Expr::Bool(..)) => {
                self.fail(format!("expected integer; found {}", text()))
            }
            (Param::Float, Expr::Number(_, number)) => Ok(Value::Float(match number {
                Number::Int(n) => *n as f64,
                Number::Uint(n) => *n as f64,
                Number::Float(n) => *n,
            })),
            (Param::Float, Expr::String(..) | Expr::Bool(..)) => {
                self.fail(format!("expected float; found {}", text()))
            }
            (
                Param::Time | Param::Location | Param::Bytes,
                Expr::Number(..) | Expr::String(..) | Expr::Bool(..),
            ) => {
                let (text, name) = (text(), param.type_name());
                self.fail(format!("can't handle {text} for arg of type {name}"))
            }
            _ => {
                let value = self.value(dot, arg)?;
                self.fitting(value, param)
            }
        }
    }

    /// The value, if it has the type.
    fn fitting(&mut self, value: Value, param: Param) -> Step<Value> {
        let fits = match (param, &value) {
            (Param::Any, _)
            | (Param::Text, Value::String(_))
            | (Param::Int, Value::Int(_))
            | (Param::Float, Value::Float(_))
            | (Param::Time, Value::Time(_))
            | (Param::Location, Value::Location(_))
            | (Param::Bytes, Value::Bytes(_))
            | (Param::Duration, Value::Duration(_)) => true,
            (_, Value::Nil) => {
                return self.fail(format!("invalid value; expected {}", param.type_name()));
            }
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let (want, got) = (param.type_name(), value.type_name());
        self.fail(format!("wrong type for value; expected {want}; got {got}"))
    }
}

/// The number as an integer, if it is one.
fn whole(number: Number) -> Option<i64> {
    match number {
        Number::Int(n) => Some(n),
        Number::Uint(_) => None,
        Number::Float(n) => (n.fract() == 0.0 && n.abs() < 9.2e18).then_some(n as i64),
    }
}

impl Param {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Param::Text => "string",
            Param::Int => "int",
            Param::Float => "float64",
            Param::Time => "time.Time",
            Param::Location => "*time.Location",
            Param::Bytes => "[]uint8",
            Param::Duration => "time.Duration",
            Param::Any => "interface {}",
        }
    }
}
