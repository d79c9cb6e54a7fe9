//! Where in a template a call stands, so that an error names its place as Go does:
//! `template: line:1:3: executing "line" at <div 1 0>: error calling div: ...`.
//!
//! Calls are found when a template is compiled. Those that Go refuses whatever the values are
//! (too many arguments, a number for a text) are replaced by one that fails; before each other call
//! its number is noted, so that it is known which one failed.

use gotmpl::parse::{CommandNode, Expr, Pos};

use super::CONTEXT;

/// Notes the number of the call that comes next, and gives its last argument.
pub(super) const MARK: &str = "__mark__";
/// Fails with the text given.
pub(super) const FAIL: &str = "__fail__";
/// What stands before a message that is complete.
const COMPLETE: &str = "\u{1}";
/// What stands before the number of an argument that has the wrong type.
const ARGUMENT: char = '\u{2}';

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Site {
    function: String,
    /// The place and text of the call, and of its arguments that are written behind the name.
    call: Place,
    arguments: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    line: usize,
    column: usize,
    text: String,
}

/// Finds places in one template.
#[derive(Debug)]
pub(super) struct Sites<'t> {
    kind: &'t str,
    source: &'t str,
    pub(super) found: Vec<Site>,
}

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq)]
enum Param {
    Text,
    Int,
    Any,
}

/// Names, what they take, and whether the last may stand any number of times, also none.
const SIGNATURES: &[(&str, &[Param], bool)] = {
    use Param::{Any, Int, Text};
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
        (
            "int float64 ceil floor not len unixEpoch unixEpochMillis",
            &[Any],
            false,
        ),
        ("unixEpochNanos", &[Any], false),
        ("sub div mod ne lt le gt ge", &[Any, Any], false),
        ("add addf print println html js urlquery", &[Any], true),
        (
            "mul subf mulf divf max min maxf minf default index slice eq",
            &[Any, Any],
            true,
        ),
        ("round", &[Any, Int, Any], true),
        ("printf", &[Text, Any], true),
        ("now __line__ __timestamp__", &[], false),
    ]
};

impl<'t> Sites<'t> {
    pub(super) fn new(kind: &'t str, source: &'t str) -> Self {
        Sites {
            kind,
            source,
            found: Vec::new(),
        }
    }

    /// Why Go refuses the call whatever its values are: a whole message.
    pub(super) fn refusal(&self, command: &CommandNode, piped: bool) -> Option<String> {
        let Some(Expr::Identifier(pos, name)) = command.args.first() else {
            return None;
        };
        let (_, params, more) = SIGNATURES
            .iter()
            .find(|(names, ..)| names.split(' ').any(|known| known == name.as_str()))?;
        let written = &command.args[1..];
        let got = written.len() + usize::from(piped);
        let least = params.len() - usize::from(*more);
        let wrong_count = if *more { got < least } else { got != least };
        if wrong_count {
            let want = if *more { "at least " } else { "" };
            let problem = format!("wrong number of args for {name}: want {want}{least} got {got}");
            return Some(self.message(&self.place(*pos, name.to_string()), &problem));
        }
        for (at, arg) in written.iter().enumerate() {
            let param = params[at.min(params.len() - 1)];
            let wanted = match (param, arg) {
                (Param::Text, Expr::Number(..) | Expr::Bool(..)) => "string",
                (Param::Int, Expr::String(..) | Expr::Bool(..)) => "integer",
                (Param::Int, Expr::Number(..))
                    if self
                        .text(arg)
                        .parse::<f64>()
                        .is_ok_and(|n| n.fract() != 0.0) =>
                {
                    "integer"
                }
                _ => continue,
            };
            let text = self.text(arg);
            let problem = format!("expected {wanted}; found {text}");
            return Some(self.message(&self.place(arg.pos(), text), &problem));
        }
        None
    }

    /// Remembers the call; gives its number.
    pub(super) fn add(&mut self, command: &CommandNode) -> usize {
        let function = match command.args.first() {
            Some(Expr::Identifier(_, name)) => name.to_string(),
            _ => String::new(),
        };
        let texts: Vec<String> = command.args.iter().map(|arg| self.text(arg)).collect();
        let pos = command.args.first().map_or(command.pos, Expr::pos);
        let arguments = command.args[1..].iter().zip(&texts[1..]);
        let arguments = arguments.map(|(arg, text)| self.place(arg.pos(), text.clone()));
        let site = Site {
            function,
            call: self.place(pos, texts.join(" ")),
            arguments: arguments.collect(),
        };
        self.found.push(site);
        self.found.len() - 1
    }

    fn place(&self, pos: Pos, text: String) -> Place {
        let before = self.source.get(..pos.offset).unwrap_or_default();
        Place {
            line: 1 + before.matches('\n').count(),
            column: before
                .rfind('\n')
                .map_or(before.len(), |at| before.len() - at - 1),
            text,
        }
    }

    fn message(&self, place: &Place, problem: &str) -> String {
        message(self.kind, place, problem)
    }

    /// An expression as Go writes it.
    fn text(&self, expr: &Expr) -> String {
        let fields =
            |fields: &[_]| -> String { fields.iter().map(|field| format!(".{field}")).collect() };
        match expr {
            Expr::Dot(_) => ".".to_owned(),
            Expr::Field(_, chain) => fields(chain),
            Expr::Variable(_, name, chain) => format!("{name}{}", fields(chain)),
            Expr::Identifier(_, name) => name.to_string(),
            Expr::String(pos, _) | Expr::Number(pos, _) => self.literal(*pos),
            Expr::Bool(_, value) => value.to_string(),
            Expr::Nil(_) => "nil".to_owned(),
            Expr::Pipe(_, pipe) => {
                let commands: Vec<String> = pipe
                    .commands
                    .iter()
                    .map(|command| {
                        let args: Vec<String> = command.args.iter().map(|a| self.text(a)).collect();
                        args.join(" ")
                    })
                    .collect();
                format!("({})", commands.join(" | "))
            }
            Expr::Chain(_, inner, chain) => format!("{}{}", self.text(inner), fields(chain)),
        }
    }

    /// The text or number that starts at a place of the template.
    fn literal(&self, pos: Pos) -> String {
        let rest = self.source.get(pos.offset..).unwrap_or_default();
        let Some(quote) = rest
            .chars()
            .next()
            .filter(|c| matches!(c, '"' | '`' | '\''))
        else {
            let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ')' | '|' | '}'));
            return rest[..end.unwrap_or(rest.len())].to_owned();
        };
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && quote != '`' && !escaped;
            ends
        });
        rest[..end.map_or(rest.len(), |(at, _)| at + 1)].to_owned()
    }
}

fn message(kind: &str, place: &Place, problem: &str) -> String {
    let Place { line, column, text } = place;
    format!("template: {kind}:{line}:{column}: executing {kind:?} at <{text}>: {problem}")
}

/// What an argument of the wrong type is reported as, before its place is known.
pub(super) fn wrong_argument(at: usize, problem: &str) -> String {
    format!("{ARGUMENT}{at} {problem}")
}

/// A message that needs nothing more.
pub(super) fn complete(message: &str) -> String {
    format!("{COMPLETE}{message}")
}

/// What an execution failed with, with the place of the call that failed.
pub(super) fn explained(kind: &str, sites: &[Site], problem: &str) -> String {
    const PREFIX: &str = "execution error: ";
    let problem = problem.strip_prefix(PREFIX).unwrap_or(problem);
    if let Some(message) = problem.strip_prefix(COMPLETE) {
        return message.to_owned();
    }
    let site = CONTEXT.with_borrow(|context| context.site);
    let Some(site) = site.and_then(|at| sites.get(at)) else {
        let problem = problem.trim_start_matches(|c: char| c == ARGUMENT || c.is_ascii_digit());
        return format!(
            "template: {kind}: executing {kind:?}: {}",
            problem.trim_start()
        );
    };
    if let Some(argument) = problem.strip_prefix(ARGUMENT) {
        let (at, problem) = argument.split_once(' ').unwrap_or(("", argument));
        let at: usize = at.parse().unwrap_or(usize::MAX);
        let place = site.arguments.get(at).unwrap_or(&site.call);
        return message(kind, place, problem);
    }
    let function = &site.function;
    let words = format!("{function}: ");
    let problem = problem.strip_prefix(&words).unwrap_or(problem);
    message(
        kind,
        &site.call,
        &format!("error calling {function}: {problem}"),
    )
}
