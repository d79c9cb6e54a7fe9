//! Go templates over a row's labels, for `line_format` and `label_format`.
//!
//! Templates of texts and plain labels, which most are, are copied together without the template
//! engine.

mod alert;
mod builtins;
mod compare;
mod decimal;
mod functions;
mod layout;
mod location;
mod math;
mod methods;
mod printf;
mod run;
mod strings;
mod syntax;
mod text;
mod times;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode};

pub use self::alert::{AlertData, AlertQueries, AlertSample, AlertTemplate};
pub(super) use self::math::seconds;
use self::run::Program;
use self::value::Value;

use super::label_filter::Place;
use super::names::Names;
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, Row};
use crate::Halt;

/// What errors call a template of `line_format`.
pub(super) const LINE: &str = "line";
/// What errors call a template of `label_format`.
pub(super) const LABEL: &str = "label";
/// Most turns of all loops of one rendering.
const TURNS_MAX: u64 = 100_000;
/// Longest output of one rendering.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

thread_local! {
    /// What `__line__`, `__timestamp__` and `now` give while a template runs on this thread.
    static CONTEXT: RefCell<Context> = RefCell::new(Context::default());
}

#[derive(Default)]
struct Context {
    line: Option<Arc<str>>,
    timestamp: i64,
    now: i64,
}

/// What a rendering sees besides the labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub(super) line: &'a [u8],
    pub(super) timestamp: i64,
    pub(super) now: i64,
    /// Ends it.
    pub(super) halt: &'a Halt,
}

/// A compiled template.
#[derive(Clone)]
pub(super) struct Template {
    body: Body,
    /// Labels that it names.
    fields: Vec<(Arc<str>, Place)>,
    /// Those of them that parsers know it to name.
    plain: Vec<Place>,
    /// It may look at any label.
    all: bool,
    line: bool,
}

#[derive(Clone)]
enum Body {
    Parts(Arc<[Part]>),
    Go(Arc<Program>),
}

enum Part {
    Text(Box<str>),
    Label(Place),
    Line,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template")
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles a template of this kind.
    pub(super) fn compile(
        text: &str,
        kind: &'static str,
        names: &mut Names,
    ) -> Result<Self, String> {
        let knows = |name: &str| functions::signature(name).is_some();
        if let Some((line, problem)) = syntax::refusal(kind, text, &knows) {
            return Err(format!("template: {kind}:{line}: {problem}"));
        }
        let wrong = |error: gotmpl::TemplateError| error.to_string();
        let template = gotmpl::Template::new(kind).parse(text).map_err(wrong)?;
        let trees: BTreeMap<String, ListNode> = template
            .templates()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), template.lookup(name)?.clone())))
            .collect();
        let mut seen = Seen::default();
        let mut parts = None;
        for (name, tree) in &trees {
            seen.is_main = name == kind;
            seen.list(tree);
        }
        if !trees.contains_key(kind) {
            // Blanks, if anything: Go keeps them, and so does the crate, but not as a tree.
            let blanks = template.execute_to_string(&gotmpl::Value::Nil);
            parts = Some(vec![Part::Text(blanks.unwrap_or_default().into())]);
        }
        if trees.len() <= 1
            && let Some(tree) = trees.get(kind)
        {
            parts = simple_parts(tree, kind, names);
            // As in Loki, `line_format` of just one label looks for no error.
            if let (LINE, Some([Part::Label(place)])) = (kind, parts.as_deref_mut())
                && !matches!(place, Place::Label(_))
            {
                parts = Some(Vec::new());
            }
        }
        let fields = seen
            .fields
            .iter()
            .map(|name| (Arc::from(name.as_str()), Place::of(name, names)))
            .collect();
        Ok(Template {
            body: match parts {
                Some(parts) => Body::Parts(parts.into()),
                None => Body::Go(Arc::new(Program::of_lines(kind, text, trees))),
            },
            fields,
            plain: seen
                .plain
                .iter()
                .map(|name| Place::of(name, names))
                .collect(),
            all: seen.all,
            line: seen.line,
        })
    }

    /// The labels that parsers must find for it. As in Loki these are not all that it looks at:
    /// not what `.` alone, a variable or a member of a call's result lead to.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Place> {
        self.plain.iter().copied()
    }

    /// The labels that it may look at; `None` for all of them.
    pub(super) fn places(&self) -> Option<impl Iterator<Item = Place>> {
        (!self.all).then(|| self.fields.iter().map(|(_, place)| *place))
    }

    /// Whether it looks at the line.
    pub(super) fn reads_line(&self) -> bool {
        self.line
    }

    /// Appends the result to `out`; on an error `out` may hold a part of it.
    pub(super) fn render(
        &self,
        row: &Row,
        moment: Moment<'_>,
        out: &mut String,
    ) -> Result<(), String> {
        let program = match &self.body {
            Body::Parts(parts) => {
                for part in parts.iter() {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Label(place) => out.push_str(value_at(row, *place)),
                        Part::Line => out.push_str(&String::from_utf8_lossy(moment.line)),
                    }
                }
                return Ok(());
            }
            Body::Go(program) => program,
        };
        CONTEXT.with_borrow_mut(|context| {
            context.line = self
                .line
                .then(|| String::from_utf8_lossy(moment.line).into());
            context.timestamp = moment.timestamp;
            context.now = moment.now;
        });
        run::run(program, &self.data(row), moment.halt, out)
    }

    fn data(&self, row: &Row) -> Value {
        let mut map: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        let mut insert = |name: Arc<str>, value: &str| {
            map.insert(name, value.into());
        };
        for (name, place) in &self.fields {
            if is_present(row, *place) {
                insert(Arc::clone(name), value_at(row, *place));
            }
        }
        if self.all {
            for (_, id, value) in row.visible_base() {
                insert(row.names.text(id).into(), value);
            }
            for entry in row.entries() {
                insert(row.names.text(entry.name).into(), row.entry_value(entry));
            }
            if row.has_error() {
                insert(ERROR_LABEL.into(), row.error());
            }
            if !row.shown_details().is_empty() {
                insert(ERROR_DETAILS_LABEL.into(), row.shown_details());
            }
        }
        Value::Labels(Arc::new(map))
    }
}

fn is_present(row: &Row, place: Place) -> bool {
    match place {
        Place::Label(id) => row.get(id).is_some(),
        Place::Error => row.has_error(),
        Place::ErrorDetails => !row.shown_details().is_empty(),
    }
}

fn value_at(row: &Row, place: Place) -> &str {
    match place {
        Place::Label(id) => row.get(id).unwrap_or(""),
        Place::Error => row.error(),
        Place::ErrorDetails => row.error_details(),
    }
}

/// The template as texts and labels, if it is nothing else.
fn simple_parts(tree: &ListNode, kind: &str, names: &mut Names) -> Option<Vec<Part>> {
    // As in Loki, `line_format` of just one label is that label, also when a variable takes it.
    let takes_label = kind == LINE && tree.nodes.len() == 1;
    tree.nodes
        .iter()
        .map(|node| match node {
            Node::Text(text) => Some(Part::Text((*text.text).into())),
            Node::Action(action) if action.pipe.decl.is_empty() || takes_label => {
                let [CommandNode { args, .. }] = &action.pipe.commands[..] else {
                    return None;
                };
                match &args[..] {
                    [Expr::Field(_, chain)] if chain.len() == 1 => {
                        Some(Part::Label(Place::of(&chain[0], names)))
                    }
                    [Expr::Identifier(_, name)]
                        if name == "__line__" && action.pipe.decl.is_empty() =>
                    {
                        Some(Part::Line)
                    }
                    _ => None,
                }
            }
            _ => None,
        })
        .collect()
}

/// What a template names.
#[derive(Default)]
struct Seen {
    fields: Vec<String>,
    /// Names behind a point, wherever they stand in the main template but for members of calls and
    /// variables.
    plain: Vec<String>,
    is_main: bool,
    all: bool,
    line: bool,
}

impl Seen {
    fn list(&mut self, list: &ListNode) {
        list.nodes.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                self.pipe(&branch.pipe);
                self.list(&branch.body);
                branch.else_body.iter().for_each(|body| self.list(body));
            }
            // The dot goes to another template, which is looked through by itself.
            Node::Template(template) => template.pipe.iter().for_each(|pipe| {
                let is_main = std::mem::take(&mut self.is_main);
                let only_dot = matches!(
                    &pipe.commands[..],
                    [command] if matches!(&command.args[..], [Expr::Dot(_)])
                );
                if !only_dot {
                    self.pipe(pipe);
                }
                self.is_main = is_main;
            }),
            Node::Define(define) => self.list(&define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        for command in &pipe.commands {
            self.command(command);
        }
    }

    fn command(&mut self, command: &CommandNode) {
        // `index . "name"` reads one label.
        if let [
            Expr::Identifier(_, index),
            Expr::Dot(_),
            Expr::String(_, name),
        ] = &command.args[..]
            && index == "index"
        {
            return self.field(name);
        }
        for arg in &command.args {
            self.expr(arg);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Dot(_) => self.all = true,
            Expr::Field(_, chain) => {
                if self.is_main {
                    self.plain.extend(chain.iter().map(|name| name.to_string()));
                }
                chain.first().into_iter().for_each(|name| self.field(name));
            }
            Expr::Variable(_, variable, chain) if variable == "$" => match chain.first() {
                Some(name) => self.field(name),
                None => self.all = true,
            },
            Expr::Identifier(_, name) => {
                self.line |= name == "__line__";
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => {
                let is_main = std::mem::take(&mut self.is_main);
                self.expr(inner);
                self.is_main = is_main;
            }
            Expr::Variable(..)
            | Expr::String(..)
            | Expr::Number(..)
            | Expr::Bool(..)
            | Expr::Nil(_) => {}
        }
    }

    fn field(&mut self, name: &str) {
        if !self.fields.iter().any(|known| known == name) {
            self.fields.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
