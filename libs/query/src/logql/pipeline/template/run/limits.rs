//! What one rendering may cost: steps, and bytes that its calls make.

use super::super::functions::{Failure, Outcome};
use super::super::text::allowed;
use super::super::value::Value;
use super::place::At;
use super::{Run, Step};

/// Most nodes, commands, expressions and members that one rendering evaluates.
const STEPS_MAX: usize = 1_000_000;
/// After so many steps it is asked whether the query is over, and at the first.
const STEPS_OF_LOOK: usize = 1024;
/// Most bytes that all calls of one rendering make.
const MADE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// So many bytes of a call's arguments count as a step.
const BYTES_OF_STEP: usize = 1024;
/// Compiling a regular expression counts as so many steps.
const REGEX_STEPS: usize = 100;
/// A lookup that passes so many variables counts as a step.
const VARIABLES_OF_STEP: usize = 64;
/// What a byte of JSON may need in memory.
const BYTES_OF_JSON: usize = 32;

/// What a rendering has cost.
#[derive(Debug, Default)]
pub(super) struct Cost {
    steps: usize,
    made: usize,
}

impl<'p> Run<'p, '_> {
    pub(super) fn step(&mut self) -> Step<()> {
        self.steps(1)
    }

    fn steps(&mut self, steps: usize) -> Step<()> {
        let looked = self.cost.steps / STEPS_OF_LOOK;
        self.cost.steps = self.cost.steps.saturating_add(steps);
        if (looked < self.cost.steps / STEPS_OF_LOOK || self.cost.steps == steps)
            && self.halt.is_set()
        {
            return self.fail("the query is over");
        }
        match self.cost.steps > STEPS_MAX {
            true => self.fail(format!("more than {STEPS_MAX} steps")),
            false => Ok(()),
        }
    }

    fn made(&mut self, bytes: usize) -> Step<()> {
        self.cost.made = self.cost.made.saturating_add(bytes);
        match self.cost.made > MADE_BYTES_MAX {
            true => self.fail(format!("calls make more than {MADE_BYTES_MAX} bytes")),
            false => Ok(()),
        }
    }

    /// Counts what a call is going to look at.
    pub(super) fn before_call(&mut self, name: &str, args: &[Value]) -> Step<()> {
        let bytes = |arg: &Value| match arg {
            Value::String(text) => text.len(),
            _ => 0,
        };
        let bytes: usize = args.iter().map(bytes).sum();
        let more = match name {
            "regexReplaceAll" | "regexReplaceAllLiteral" | "count" => REGEX_STEPS,
            "reReplaceAll" | "match" => REGEX_STEPS,
            _ => 0,
        };
        self.steps(bytes / BYTES_OF_STEP + more)?;
        match name {
            "fromJson" => self.made(bytes.saturating_mul(BYTES_OF_JSON)),
            _ => Ok(()),
        }
    }

    /// What a call gave, counted; `whole` is where it fails.
    pub(super) fn after_call(
        &mut self,
        name: &str,
        whole: At<'p>,
        outcome: Outcome,
    ) -> Step<Value> {
        let outcome = outcome.and_then(|value| Ok((bytes_made(name, &value)?, value)));
        let at = std::mem::replace(&mut self.at, whole);
        match outcome {
            Ok((bytes, value)) => {
                self.made(bytes)?;
                self.at = at;
                Ok(value)
            }
            Err(Failure(problem)) => self.fail(format!("error calling {name}: {problem}")),
        }
    }

    /// Where a variable is, counted.
    pub(super) fn place_of(&mut self, name: &str) -> Step<usize> {
        let Some(at) = self.variables.iter().rposition(|(n, _)| *n == name) else {
            return self.fail(format!("undefined variable: {name}"));
        };
        self.steps((self.variables.len() - at) / VARIABLES_OF_STEP)?;
        Ok(at)
    }
}

/// An error when it is too long.
fn bytes_made(name: &str, value: &Value) -> Result<usize, Failure> {
    match value {
        // They share what was there before.
        Value::String(_) if matches!(name, "default" | "index" | "__line__") => Ok(0),
        Value::String(text) => allowed(text).map(|()| text.len()),
        Value::Bytes(bytes) => Ok(bytes.len()),
        Value::List(items) if name == "slice" => Ok(size_of_val::<[Value]>(items)),
        _ => Ok(0),
    }
}
