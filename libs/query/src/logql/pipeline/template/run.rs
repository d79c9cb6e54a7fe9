//! Runs a parsed template as Go's `text/template` does: what is evaluated in which order, which
//! types fit, and what is said, at which place, when something does not:
//! `template: line:1:3: executing "line" at <div 1 0>: error calling div: ...`.

mod call;
mod limits;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode};

pub(super) use self::call::Param;
use self::limits::Cost;
use self::place::{At, literal};
use super::functions::{Failure, Outcome};
use super::value::Value;
use super::{OUTPUT_BYTES_MAX, TURNS_MAX, methods};
use crate::Halt;

/// Deepest nesting of templates that call each other, of branches and of expressions, together.
const DEPTH_MAX: usize = 2_000;

/// The trees of a template and of those that it defines.
pub(super) struct Program {
    /// What errors call it.
    pub(super) kind: Arc<str>,
    /// Which functions it has.
    pub(super) dialect: Dialect,
    pub(super) source: String,
    pub(super) trees: BTreeMap<String, ListNode>,
}

impl Program {
    /// A template of `line_format` or `label_format`.
    pub(super) fn of_lines(kind: &str, source: &str, trees: BTreeMap<String, ListNode>) -> Self {
        Program {
            kind: kind.into(),
            dialect: Dialect::Lines,
            source: source.to_owned(),
            trees,
        }
    }
}

/// Which functions a template may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Those of `line_format` and `label_format`.
    Lines,
    /// Those of alerts.
    Alerts,
}

/// Answers the queries of a template.
pub(super) type Queries<'a> = dyn Fn(&[Value]) -> Outcome + 'a;

/// Why a template stopped.
pub(super) enum Stop {
    /// A whole message.
    Failed(String),
    Break,
    Continue,
}

type Step<T> = Result<T, Stop>;

struct Run<'p, 'o> {
    program: &'p Program,
    out: &'o mut String,
    /// Length of `out` that must not be exceeded.
    end: usize,
    turns: u64,
    cost: Cost,
    depth: usize,
    /// The template that runs.
    name: &'p str,
    /// The node that was reached last, where errors are.
    at: At<'p>,
    variables: Vec<(&'p str, Value)>,
    /// What the main template was given.
    root: &'o Value,
    queries: &'o Queries<'o>,
    halt: &'o Halt,
}

/// Runs the main template over the labels; what it writes is appended to `out`.
pub(super) fn run(
    program: &Program,
    dot: &Value,
    halt: &Halt,
    out: &mut String,
) -> Result<(), String> {
    run_with(program, dot, &super::alert::no_queries, halt, out)
}

/// As [`run`], with answers to the queries that the template contains.
pub(super) fn run_with(
    program: &Program,
    dot: &Value,
    queries: &Queries<'_>,
    halt: &Halt,
    out: &mut String,
) -> Result<(), String> {
    let kind = &*program.kind;
    let Some((name, tree)) = program.trees.get_key_value(kind) else {
        return Err(format!(
            "template: {kind}: {kind:?} is an incomplete or empty template"
        ));
    };
    let end = out.len().saturating_add(OUTPUT_BYTES_MAX);
    let mut run = Run {
        program,
        out,
        end,
        turns: 0,
        cost: Cost::default(),
        depth: 0,
        name,
        at: At::Start,
        variables: vec![("$", dot.clone())],
        root: dot,
        queries,
        halt,
    };
    match run.list(dot, tree) {
        Err(Stop::Failed(message)) => Err(message),
        _ => Ok(()),
    }
}

impl<'p> Run<'p, '_> {
    fn fail<T>(&self, problem: impl AsRef<str>) -> Step<T> {
        let Program { kind, source, .. } = self.program;
        let (line, column, text) = self.at.shown(source);
        let (name, problem) = (self.name, problem.as_ref());
        Err(Stop::Failed(format!(
            "template: {kind}:{line}:{column}: executing {name:?} at <{text}>: {problem}"
        )))
    }

    fn write(&mut self, text: &str) -> Step<()> {
        if self.out.len() + text.len() > self.end {
            return self.fail(format!("output of more than {OUTPUT_BYTES_MAX} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    /// Goes one level deeper for the time of `inner`.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        if self.depth >= DEPTH_MAX {
            return self.fail(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        self.depth += 1;
        let result = crate::logql::deep(|| inner(self));
        self.depth -= 1;
        result
    }

    fn list(&mut self, dot: &Value, list: &'p ListNode) -> Step<()> {
        list.nodes.iter().try_for_each(|node| self.node(dot, node))
    }

    fn node(&mut self, dot: &Value, node: &'p Node) -> Step<()> {
        self.step()?;
        match node {
            Node::Text(text) => self.write(&text.text),
            Node::List(list) => self.deeper(|run| run.list(dot, list)),
            Node::Action(action) => {
                let value = self.pipe(dot, &action.pipe)?;
                if action.pipe.decl.is_empty() {
                    self.at = At::Pipe(&action.pipe);
                    match &value {
                        Value::String(text) => self.write(text)?,
                        Value::Nil => self.write("<no value>")?,
                        value => self.write(&value.shown())?,
                    }
                }
                Ok(())
            }
            Node::If(branch) => self.branch(dot, branch, false),
            Node::With(branch) => self.branch(dot, branch, true),
            Node::Range(branch) => self.range(dot, branch),
            Node::Template(call) => {
                let Some((name, tree)) = self.program.trees.get_key_value(call.name.as_str())
                else {
                    self.at = At::Template(call);
                    return self.fail(format!("template {:?} not defined", call.name.as_str()));
                };
                let dot = match &call.pipe {
                    Some(pipe) => self.pipe(dot, pipe)?,
                    None => Value::Nil,
                };
                self.at = At::Template(call);
                let outer_name = std::mem::replace(&mut self.name, name);
                let outer = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
                let result = self.deeper(|run| run.list(&dot, tree));
                self.variables = outer;
                result?;
                self.name = outer_name;
                Ok(())
            }
            Node::Define(_) => Ok(()),
            Node::Break(_) => Err(Stop::Break),
            Node::Continue(_) => Err(Stop::Continue),
        }
    }

    fn branch(&mut self, dot: &Value, branch: &'p BranchNode, with: bool) -> Step<()> {
        let mark = self.variables.len();
        let (mut branch, mut with) = (branch, with);
        let result = loop {
            let value = self.pipe(dot, &branch.pipe)?;
            if value.is_truthy() {
                let dot = if with { &value } else { dot };
                break self.deeper(|run| run.list(dot, &branch.body));
            }
            // `else if`s go no deeper, however many they are.
            match branch.else_body.as_ref().map(|list| &list.nodes[..]) {
                Some([Node::If(next)]) => (branch, with) = (next, false),
                Some([Node::With(next)]) => (branch, with) = (next, true),
                _ => break self.otherwise(dot, branch),
            }
            self.step()?;
        };
        self.variables.truncate(mark);
        result
    }

    fn otherwise(&mut self, dot: &Value, branch: &'p BranchNode) -> Step<()> {
        match &branch.else_body {
            Some(list) => self.deeper(|run| run.list(dot, list)),
            None => Ok(()),
        }
    }

    fn range(&mut self, dot: &Value, branch: &'p BranchNode) -> Step<()> {
        let mark = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let result = self.turns(dot, branch, value);
        self.variables.truncate(mark);
        result
    }

    fn turns(&mut self, dot: &Value, branch: &'p BranchNode, value: Value) -> Step<()> {
        let mut any = false;
        let ended = match &value {
            Value::List(items) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(at, item)| {
                    any = true;
                    self.turn(branch, Value::Int(at as i64), item.clone())
                })
            }
            Value::Bytes(bytes) => bytes.iter().enumerate().try_for_each(|(at, byte)| {
                any = true;
                self.turn(branch, Value::Int(at as i64), Value::Byte(*byte))
            }),
            Value::Labels(labels) => labels.iter().try_for_each(|(name, value)| {
                any = true;
                let value = Value::String(Arc::clone(value));
                self.turn(branch, Value::String(Arc::clone(name)), value)
            }),
            Value::Map(members) => members.iter().try_for_each(|(name, value)| {
                any = true;
                self.turn(branch, Value::String(Arc::clone(name)), value.clone())
            }),
            Value::Nil => Ok(()),
            value => match value.integer() {
                Some(_) if branch.pipe.decl.len() > 1 => {
                    return self.fail(format!(
                        "can't use {} to iterate over more than one variable",
                        value.shown()
                    ));
                }
                Some(count) => (0..count).try_for_each(|at| {
                    any = true;
                    self.turn(branch, Value::Int(at), Value::Int(at))
                }),
                None => {
                    return self.fail(format!("range can't iterate over {}", value.shown()));
                }
            },
        };
        match ended {
            Ok(()) if !any => self.otherwise(dot, branch),
            Ok(()) | Err(Stop::Break) => Ok(()),
            Err(stop) => Err(stop),
        }
    }

    fn turn(&mut self, branch: &'p BranchNode, key: Value, item: Value) -> Step<()> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return self.fail(format!("more than {TURNS_MAX} turns of loops"));
        }
        let declared = &branch.pipe.decl;
        let values = match declared.len() {
            0 => Vec::new(),
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in declared.iter().zip(values) {
            self.assign(name, value)?;
        }
        let mark = self.variables.len();
        let result = self.deeper(|run| run.list(&item, &branch.body));
        self.variables.truncate(mark);
        match result {
            Err(Stop::Continue) => Ok(()),
            other => other,
        }
    }

    fn assign(&mut self, name: &str, value: Value) -> Step<()> {
        let at = self.place_of(name)?;
        self.variables[at].1 = value;
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'p PipeNode) -> Step<Value> {
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.deeper(|run| run.command(dot, command, value.take()))?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.decl {
            if pipe.is_assign {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name.as_str(), value.clone()));
            }
        }
        Ok(value)
    }

    /// `piped`: what stands before the `|`.
    fn command(
        &mut self,
        dot: &Value,
        command: &'p CommandNode,
        piped: Option<Value>,
    ) -> Step<Value> {
        self.step()?;
        let Some(first) = command.args.first() else {
            return Ok(Value::Nil);
        };
        let args = &command.args[1..];
        match first {
            Expr::Identifier(_, name) => self.function(
                dot,
                name,
                At::Command(command),
                At::Expr(first),
                args,
                piped,
            ),
            Expr::Field(_, chain) => {
                self.at = At::Expr(first);
                self.members(dot, dot.clone(), chain, first, args, piped)
            }
            Expr::Chain(_, inner, chain) => {
                self.at = At::Expr(first);
                let receiver = self.value(dot, inner)?;
                self.members(dot, receiver, chain, first, args, piped)
            }
            Expr::Variable(_, name, chain) => {
                self.at = At::Expr(first);
                let value = self.variable(name)?;
                if chain.is_empty() {
                    self.refuse_arguments(first, args, piped.as_ref())?;
                    return Ok(value);
                }
                self.members(dot, value, chain, first, args, piped)
            }
            Expr::Pipe(_, inner) => {
                self.refuse_arguments(first, args, piped.as_ref())?;
                self.pipe(dot, inner)
            }
            _ => {
                self.at = At::Expr(first);
                self.refuse_arguments(first, args, piped.as_ref())?;
                match first {
                    Expr::Nil(_) => self.fail("nil is not a command"),
                    other => self.value(dot, other),
                }
            }
        }
    }

    fn refuse_arguments(&self, first: &Expr, args: &[Expr], piped: Option<&Value>) -> Step<()> {
        if args.is_empty() && piped.is_none() {
            return Ok(());
        }
        let at = match first {
            Expr::Pipe(_, pipe) => At::Pipe(pipe),
            first => At::Expr(first),
        };
        let (_, _, text) = at.shown(&self.program.source);
        self.fail(format!("can't give argument to non-function {text}"))
    }

    fn variable(&mut self, name: &str) -> Step<Value> {
        let at = self.place_of(name)?;
        Ok(self.variables[at].1.clone())
    }

    /// `.a.b.c`, where the last may be a method with arguments.
    fn members(
        &mut self,
        dot: &Value,
        receiver: Value,
        chain: &'p [impl AsRef<str>],
        node: &'p Expr,
        args: &'p [Expr],
        piped: Option<Value>,
    ) -> Step<Value> {
        let Some((last, before)) = chain.split_last() else {
            return Ok(receiver);
        };
        let mut value = receiver;
        // What an object of JSON holds has the type that its members have.
        let mut inside = false;
        for name in before {
            let of_json = matches!(value, Value::Map(_));
            value = self.member(dot, (value, inside), name.as_ref(), node, &[], None)?;
            inside = of_json;
        }
        self.member(dot, (value, inside), last.as_ref(), node, args, piped)
    }

    fn member(
        &mut self,
        dot: &Value,
        (receiver, of_json): (Value, bool),
        name: &str,
        node: &'p Expr,
        args: &'p [Expr],
        piped: Option<Value>,
    ) -> Step<Value> {
        self.step()?;
        match methods::find(&receiver, name) {
            Err(Failure(problem)) => return self.fail(problem),
            Ok(Some(method)) => {
                let (params, got) = (method.params, args.len() + usize::from(piped.is_some()));
                if got != params.len() {
                    let want = params.len();
                    return self.fail(format!(
                        "wrong number of args for {name}: want {want} got {got}"
                    ));
                }
                let values = self.arguments(dot, params, false, args, piped)?;
                self.before_call(name, &values)?;
                let outcome = (method.body)(&receiver, &values);
                return self.after_call(name, At::Expr(node), outcome);
            }
            Ok(None) => {}
        }
        let has_arguments = !args.is_empty() || piped.is_some();
        match &receiver {
            Value::Labels(_) | Value::Map(_) if has_arguments => {
                self.fail(format!("{name} is not a method but has arguments"))
            }
            Value::Labels(labels) => {
                let value = labels.get(name).cloned();
                Ok(Value::String(value.unwrap_or_else(|| Arc::from(""))))
            }
            Value::Map(members) => Ok(members.get(name).cloned().unwrap_or(Value::Nil)),
            // Go tells nothing at all from a member that is nothing.
            Value::Nil if !of_json => Ok(Value::Nil),
            Value::Nil => self.fail(format!("nil pointer evaluating interface {{}}.{name}")),
            other => {
                let any = Param::Any.type_name();
                let kind = if of_json { any } else { other.type_name() };
                self.fail(format!("can't evaluate field {name} in type {kind}"))
            }
        }
    }

    /// An expression that is given no arguments.
    fn value(&mut self, dot: &Value, expr: &'p Expr) -> Step<Value> {
        self.at = At::Expr(expr);
        self.step()?;
        match expr {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Nil(_) => self.fail("nil is not a command"),
            Expr::Bool(_, value) => Ok(Value::Bool(*value)),
            Expr::String(_, text) => Ok(Value::String(Arc::clone(text))),
            Expr::Number(pos, number) => self.number(pos.offset, *number),
            Expr::Field(_, chain) => self.members(dot, dot.clone(), chain, expr, &[], None),
            Expr::Variable(_, name, chain) => {
                let value = self.variable(name)?;
                self.members(dot, value, chain, expr, &[], None)
            }
            Expr::Chain(_, inner, chain) => {
                let receiver = self.deeper(|run| run.value(dot, inner))?;
                self.members(dot, receiver, chain, expr, &[], None)
            }
            Expr::Identifier(_, name) => {
                let at = At::Expr(expr);
                self.function(dot, name, at, at, &[], None)
            }
            Expr::Pipe(_, pipe) => self.pipe(dot, pipe),
        }
    }

    /// A number where its type does not matter: it is what it looks like.
    fn number(&self, offset: usize, number: Number) -> Step<Value> {
        let text = literal(&self.program.source, offset);
        let based = text.starts_with("0x") || text.starts_with("0X") || text.starts_with('\'');
        let pointed = text.contains(['.', 'p', 'P']) || (!based && text.contains(['e', 'E']));
        Ok(match number {
            Number::Float(value) => Value::Float(value),
            Number::Int(value) if pointed => Value::Float(value as f64),
            Number::Int(value) => Value::Int(value),
            Number::Uint(_) => return self.fail(format!("{text} overflows int")),
        })
    }
}
