//! Changes a parsed template where the template engine would print numbers other than Go does:
//! Go writes a million as `1e+06`, the engine as `1000000`.
//!
//! Each action gets a last command that shows its value, and `printf` gets its format from a
//! function that asks for `%g` where a number meets `%v`.

use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, PipeNode};
use gotmpl::{FuncMap, Value};

use super::functions::{add, string, text};
use super::times;

const SHOW: &str = "__show__";
const FORMAT: &str = "__format__";
/// Methods of Go's `time.Time` that templates may call: `__timestamp__.Unix`,
/// `(toDate "2006-01-02" .day).Format "Jan 2"`.
const METHODS: [&str; 14] = [
    "Day",
    "Format",
    "Hour",
    "Minute",
    "Month",
    "Nanosecond",
    "Second",
    "String",
    "UTC",
    "Unix",
    "UnixMilli",
    "UnixNano",
    "Weekday",
    "Year",
];

pub(super) fn register(map: &mut FuncMap) {
    add(map, SHOW, 1, |args| match &args[0] {
        Value::Nil | Value::String(_) => Ok(args[0].clone()),
        value => string(shown(value)),
    });
    add(map, FORMAT, 1, |args| {
        string(with_numbers_as_g(text(args, 0)?, &args[1..]))
    });
    add(map, "print", 0, |args| string(joined(args, false)));
    add(map, "println", 0, |args| string(joined(args, true)));
}

/// The template with numbers shown as Go shows them.
pub(super) fn list(list: &ListNode) -> ListNode {
    ListNode {
        pos: list.pos,
        nodes: list.nodes.iter().map(node).collect(),
    }
}

fn node(node: &Node) -> Node {
    let mut node = node.clone();
    match &mut node {
        Node::List(inner) => *inner = list(inner),
        Node::Action(action) => {
            action.pipe = pipe(&action.pipe);
            if action.pipe.decl.is_empty() {
                action.pipe.commands.push(show(action));
            }
        }
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            branch.pipe = pipe(&branch.pipe);
            branch.body = list(&branch.body);
            branch.else_body = branch.else_body.as_ref().map(list);
        }
        Node::Template(template) => template.pipe = template.pipe.as_ref().map(pipe),
        Node::Define(define) => define.body = list(&define.body),
        Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
    }
    node
}

fn show(action: &ActionNode) -> CommandNode {
    CommandNode {
        pos: action.pos,
        args: vec![Expr::Identifier(action.pos, SHOW.into())],
    }
}

fn pipe(pipe: &PipeNode) -> PipeNode {
    let mut commands: Vec<CommandNode> = Vec::with_capacity(pipe.commands.len());
    for command in &pipe.commands {
        let mut command = CommandNode {
            pos: command.pos,
            args: command
                .args
                .iter()
                .enumerate()
                .map(|(at, arg)| if at == 0 { inside(arg) } else { expr(arg) })
                .collect(),
        };
        call_method(&mut command);
        let is_printf = matches!(&command.args[0], Expr::Identifier(_, name) if name == "printf");
        if is_printf {
            // What is piped in becomes the last argument, so that the format can see it.
            if !commands.is_empty() {
                let before = PipeNode {
                    pos: pipe.pos,
                    decl: Vec::new(),
                    commands: std::mem::take(&mut commands),
                    is_assign: false,
                };
                command.args.push(Expr::Pipe(pipe.pos, before));
            }
            add_format(&mut command);
        }
        commands.push(command);
    }
    PipeNode {
        pos: pipe.pos,
        decl: pipe.decl.clone(),
        commands,
        is_assign: pipe.is_assign,
    }
}

/// `printf f x` becomes `printf (__format__ f x) x`, unless `f` is a text without `%v`.
fn add_format(command: &mut CommandNode) {
    let needed = match command.args.get(1) {
        Some(Expr::String(_, format)) => format.contains('v'),
        Some(_) => true,
        None => false,
    };
    if !needed {
        return;
    }
    let mut args = command.args.clone();
    args[0] = Expr::Identifier(command.pos, FORMAT.into());
    let format = PipeNode {
        pos: command.pos,
        decl: Vec::new(),
        commands: vec![CommandNode {
            pos: command.pos,
            args,
        }],
        is_assign: false,
    };
    command.args[1] = Expr::Pipe(command.pos, format);
}

/// An argument, with its own parts changed and a method call as a pipeline.
fn expr(expr: &Expr) -> Expr {
    let expr = inside(expr);
    let pos = expr.pos();
    let mut command = CommandNode {
        pos,
        args: vec![expr],
    };
    if !call_method(&mut command) {
        return command.args.swap_remove(0);
    }
    let call = PipeNode {
        pos,
        decl: Vec::new(),
        commands: vec![command],
        is_assign: false,
    };
    Expr::Pipe(pos, call)
}

/// The expression with its own parts changed.
fn inside(expr: &Expr) -> Expr {
    match expr {
        Expr::Pipe(pos, inner) => Expr::Pipe(*pos, pipe(inner)),
        Expr::Chain(pos, inner, chain) => {
            Expr::Chain(*pos, Box::new(self::expr(inner)), chain.clone())
        }
        other => other.clone(),
    }
}

/// `x.Unix` becomes `__method__ "Unix" x`, `x.Format "2006"` becomes `__method__ "Format" x "2006"`.
/// False if the command calls no method. What has a member of that name gives the member.
fn call_method(command: &mut CommandNode) -> bool {
    let Some(Expr::Chain(pos, inner, chain)) = command.args.first() else {
        return false;
    };
    let [name] = &chain[..] else { return false };
    if !METHODS.contains(&name.as_str()) {
        return false;
    }
    let head = [
        Expr::Identifier(*pos, times::METHOD.into()),
        Expr::String(*pos, name.as_str().into()),
        (**inner).clone(),
    ];
    command.args.splice(..1, head);
    true
}

/// The format with `g` for `v` where the argument is a floating-point number. Formats that choose
/// their arguments themselves (`%[1]v`, `%*v`) are left alone.
fn with_numbers_as_g(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len());
    let mut args = args.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c != '%' {
            continue;
        }
        for verb in chars.by_ref() {
            match verb {
                '[' | '*' => return format.to_owned(),
                '+' | '-' | '#' | ' ' | '.' | '0'..='9' => out.push(verb),
                '%' => {
                    out.push('%');
                    break;
                }
                verb => {
                    let number = matches!(args.next(), Some(Value::Float(_)));
                    out.push(if number && verb == 'v' { 'g' } else { verb });
                    break;
                }
            }
        }
    }
    out
}

/// Blanks stand between all for `println`, else between two that are no texts.
fn joined(args: &[Value], line: bool) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::String(_));
        if at > 0 && (line || !(text(arg) || text(&args[at - 1]))) {
            out.push(' ');
        }
        out.push_str(&shown(arg));
    }
    if line {
        out.push('\n');
    }
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::Float(number) => float(*number),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", shown(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// As Go's `%v`: the fewest digits that say the number, with an exponent from a million up and
/// below one ten-thousandth.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match exponent {
        -4..6 => format!("{number}"),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}
