//! Changes a parsed template where the template engine would print numbers other than Go does:
//! Go writes a million as `1e+06`, the engine as `1000000`.
//!
//! Each action gets a last command that shows its value, and `printf` gets its format from a
//! function that asks for `%g` where a number meets `%v`.

use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};
use gotmpl::{FuncMap, Value};

use super::functions::{add, fail, int, string, text};
use super::sites::{FAIL, MARK, Sites};
use super::{CONTEXT, sites, times};

const SHOW: &str = "__show__";
/// Gives the labels without those that the row lacks: all that a template names are there for it.
const PRESENT: &str = "__present__";
const FORMAT: &str = "__format__";
/// Methods of Go's `time.Time` that templates may call: `__timestamp__.Unix`,
/// `(toDate "2006-01-02" .day).Format "Jan 2"`.
const METHODS: [&str; 15] = [
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
    "YearDay",
];

pub(super) fn register(map: &mut FuncMap) {
    add(map, SHOW, 1, |args| {
        CONTEXT.with_borrow_mut(|context| context.site = None);
        match &args[0] {
            Value::Nil | Value::String(_) => Ok(args[0].clone()),
            value => string(shown(value)),
        }
    });
    add(map, PRESENT, 1, |args| match &args[0] {
        Value::Map(labels) => CONTEXT.with_borrow(|context| {
            if context.absent.is_empty() {
                return Ok(args[0].clone());
            }
            let mut labels = (**labels).clone();
            for name in &context.absent {
                labels.remove(name);
            }
            Ok(Value::Map(labels.into()))
        }),
        other => Ok(other.clone()),
    });
    add(map, MARK, 2, |args| {
        let site = usize::try_from(int(args, 0)?).ok();
        CONTEXT.with_borrow_mut(|context| context.site = site);
        Ok(args[1].clone())
    });
    add(map, FAIL, 1, |args| {
        Err(fail(sites::complete(text(args, 0)?)))
    });
    add(map, FORMAT, 1, |args| {
        string(with_numbers_as_g(text(args, 0)?, &args[1..]))
    });
    add(map, "print", 0, |args| string(joined(args, false)));
    add(map, "println", 0, |args| string(joined(args, true)));
}

/// The template with numbers shown as Go shows them.
pub(super) fn list(list: &ListNode, sites: &mut Sites<'_>) -> ListNode {
    ListNode {
        pos: list.pos,
        nodes: list.nodes.iter().map(|inner| node(inner, sites)).collect(),
    }
}

fn node(node: &Node, sites: &mut Sites<'_>) -> Node {
    let mut node = node.clone();
    match &mut node {
        Node::List(inner) => *inner = list(inner, sites),
        Node::Action(action) => {
            action.pipe = pipe(&action.pipe, sites);
            if action.pipe.decl.is_empty() {
                action.pipe.commands.push(show(action));
            }
        }
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            branch.pipe = pipe(&branch.pipe, sites);
            branch.body = list(&branch.body, sites);
            branch.else_body = branch.else_body.as_ref().map(|body| list(body, sites));
        }
        Node::Template(template) => {
            let only_dot = |inner: &PipeNode| matches!(&inner.commands[..], [command] if matches!(&command.args[..], [Expr::Dot(_)]));
            if template.pipe.as_ref().is_some_and(|inner| !only_dot(inner)) {
                template.pipe = template.pipe.as_ref().map(|inner| pipe(inner, sites));
            }
        }
        Node::Define(define) => define.body = list(&define.body, sites),
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

fn pipe(pipe: &PipeNode, sites: &mut Sites<'_>) -> PipeNode {
    let mut commands: Vec<CommandNode> = Vec::with_capacity(pipe.commands.len());
    for original in &pipe.commands {
        let piped = !commands.is_empty();
        if let Some(message) = sites.refusal(original, piped) {
            commands.push(failing(original.pos, &message));
            continue;
        }
        let mut args = Vec::with_capacity(original.args.len());
        for (at, arg) in original.args.iter().enumerate() {
            args.push(match (at, arg) {
                (_, Expr::Dot(pos)) if !is_lookup(original) => present(*pos),
                (0, arg) => inside(arg, sites),
                (_, arg) => expr(arg, sites),
            });
        }
        let mut command = CommandNode {
            pos: original.pos,
            args,
        };
        call_method(&mut command);
        let called = match original.args.first() {
            Some(Expr::Identifier(_, name)) => name.as_str(),
            _ => "",
        };
        if called == "printf" {
            // What is piped in becomes the last argument, so that the format can see it.
            if piped {
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
        if !matches!(called, "" | "and" | "or") {
            let site = sites.add(original);
            mark(&mut command, &mut commands, site);
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

/// `index . "name"`, for which an absent label is an empty one.
fn is_lookup(command: &CommandNode) -> bool {
    matches!(&command.args[..], [Expr::Identifier(_, name), Expr::Dot(_), ..] if name == "index")
}

fn present(pos: Pos) -> Expr {
    let command = CommandNode {
        pos,
        args: vec![Expr::Identifier(pos, PRESENT.into()), Expr::Dot(pos)],
    };
    let pipe = PipeNode {
        pos,
        decl: Vec::new(),
        commands: vec![command],
        is_assign: false,
    };
    Expr::Pipe(pos, pipe)
}

fn failing(pos: Pos, message: &str) -> CommandNode {
    CommandNode {
        pos,
        args: vec![
            Expr::Identifier(pos, FAIL.into()),
            Expr::String(pos, message.into()),
        ],
    }
}

/// Puts the mark of a call where it is reached last before the call: at its last argument, or
/// behind what is piped in.
fn mark(command: &mut CommandNode, before: &mut Vec<CommandNode>, site: usize) {
    let pos = command.pos;
    let mut args = vec![
        Expr::Identifier(pos, MARK.into()),
        Expr::Number(pos, Number::Int(site as i64)),
    ];
    if command.args.len() == 1 {
        if !before.is_empty() {
            before.push(CommandNode { pos, args });
        }
        return;
    }
    if let Some(last) = command.args.last_mut() {
        args.push(last.clone());
        let marked = PipeNode {
            pos,
            decl: Vec::new(),
            commands: vec![CommandNode { pos, args }],
            is_assign: false,
        };
        *last = Expr::Pipe(pos, marked);
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
fn expr(expr: &Expr, sites: &mut Sites<'_>) -> Expr {
    let expr = inside(expr, sites);
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
fn inside(expr: &Expr, sites: &mut Sites<'_>) -> Expr {
    match expr {
        Expr::Pipe(pos, inner) => Expr::Pipe(*pos, pipe(inner, sites)),
        Expr::Chain(pos, inner, chain) => {
            Expr::Chain(*pos, Box::new(self::expr(inner, sites)), chain.clone())
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
