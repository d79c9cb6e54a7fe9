//! Where in a template a node stands, and its text as Go writes it in errors.

use gotmpl::parse::{CommandNode, Expr, PipeNode, TemplateNode};

/// A node that may be named in an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'p> {
    Start,
    Template(&'p TemplateNode),
    Expr(&'p Expr),
    /// A whole call.
    Command(&'p CommandNode),
    Pipe(&'p PipeNode),
}

impl At<'_> {
    /// Line from 1, column in bytes from 0, text.
    pub(super) fn shown(self, source: &str) -> (usize, usize, String) {
        let (offset, text) = match self {
            At::Start => (0, String::new()),
            At::Template(call) => template(source, call),
            At::Expr(expr) => (offset_of(source, expr), text(source, expr)),
            At::Command(command) => (
                command
                    .args
                    .first()
                    .map_or(command.pos.offset, |first| offset_of(source, first)),
                command_text(source, command),
            ),
            At::Pipe(pipe) => (pipe.pos.offset, pipe_text(source, pipe)),
        };
        let before = source.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            1 + before.matches('\n').count(),
            before.len() - line_start,
            text,
        )
    }
}

/// Go counts from the name of the template.
fn template(source: &str, call: &TemplateNode) -> (usize, String) {
    let start = call.pos.offset;
    let behind = source.get(start..).unwrap_or_default();
    let name = behind.find(['"', '`']).unwrap_or_default();
    let given = call.pipe.as_ref();
    let given = given.map_or(String::new(), |pipe| {
        format!(" {}", pipe_text(source, pipe))
    });
    let text = format!("{{{{template {:?}{given}}}}}", call.name.as_str());
    (start + name, text)
}

/// Of names behind each other Go counts from the second one, of members of what is in parentheses
/// from the first.
fn offset_of(source: &str, expr: &Expr) -> usize {
    let start = expr.pos().offset;
    match expr {
        Expr::Field(_, chain) if chain.len() > 1 => start + 1 + chain[0].len(),
        Expr::Variable(_, name, chain) if !chain.is_empty() => start + name.len(),
        Expr::Chain(_, inner, _) => start + text(source, inner).len(),
        _ => start,
    }
}

pub(super) fn text(source: &str, expr: &Expr) -> String {
    let fields =
        |fields: &[_]| -> String { fields.iter().map(|field| format!(".{field}")).collect() };
    match expr {
        Expr::Dot(_) => ".".to_owned(),
        Expr::Field(_, chain) => fields(chain),
        Expr::Variable(_, name, chain) => format!("{name}{}", fields(chain)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(pos, _) | Expr::Number(pos, _) => literal(source, pos.offset).to_owned(),
        Expr::Bool(_, value) => value.to_string(),
        Expr::Nil(_) => "nil".to_owned(),
        Expr::Pipe(_, pipe) => format!("({})", pipe_text(source, pipe)),
        Expr::Chain(_, inner, chain) => format!("{}{}", text(source, inner), fields(chain)),
    }
}

fn command_text(source: &str, command: &CommandNode) -> String {
    let args: Vec<String> = command.args.iter().map(|arg| text(source, arg)).collect();
    args.join(" ")
}

fn pipe_text(source: &str, pipe: &PipeNode) -> String {
    let commands: Vec<String> = pipe
        .commands
        .iter()
        .map(|command| command_text(source, command))
        .collect();
    let declared: Vec<&str> = pipe.decl.iter().map(|name| name.as_str()).collect();
    let sign = if pipe.is_assign { "=" } else { ":=" };
    match declared.is_empty() {
        true => commands.join(" | "),
        false => format!("{} {sign} {}", declared.join(", "), commands.join(" | ")),
    }
}

/// The text or number that starts at a place of the template.
pub(super) fn literal(source: &str, offset: usize) -> &str {
    let rest = source.get(offset..).unwrap_or_default();
    let first = rest.chars().next();
    let Some(quote) = first.filter(|c| matches!(c, '"' | '`' | '\'')) else {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ')' | '|' | '}' | ','));
        return &rest[..end.unwrap_or(rest.len())];
    };
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && quote != '`' && !escaped;
        ends
    });
    &rest[..end.map_or(rest.len(), |(at, _)| at + 1)]
}
