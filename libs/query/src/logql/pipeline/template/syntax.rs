//! What Go's parser has against a template, in its words: the crate takes more than Go does, and says it otherwise.

mod lex;
mod number;

use std::collections::BTreeMap;

use crate::logql::parse::{quote, unquote};
use lex::{Kind, Lexer, Token};
use number::check_number;

/// Templates may nest so deep; of deeper ones nothing is said here.
const DEPTH_MAX: usize = 200;

/// Why Go would not take a template: the line and the problem. `knows` tells which functions there are.
pub(super) fn refusal(
    kind: &str,
    source: &str,
    knows: &dyn Fn(&str) -> bool,
) -> Option<(usize, String)> {
    let mut parser = Parser {
        kind,
        lexer: Lexer::new(source),
        knows,
        last_line: 1,
        ahead: Vec::new(),
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
        action_line: 0,
        templates: BTreeMap::new(),
    };
    match parser.main() {
        Err(Stop::Wrong(problem)) => Some((parser.last_line, problem)),
        Ok(()) | Err(Stop::TooDeep) => None,
    }
}

/// Why it goes no further.
enum Stop {
    Wrong(String),
    TooDeep,
}

fn wrong<T>(problem: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(problem.into()))
}

/// What ends a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    End,
    Else,
}

impl End {
    fn shown(self) -> &'static str {
        match self {
            End::End => "{{end}}",
            End::Else => "{{else}}",
        }
    }
}

/// What stands between two ends: whether it is anything but blanks, and what ends it.
struct List {
    is_empty: bool,
    end: End,
}

/// What text and actions are.
enum Node {
    /// Blanks, or a definition.
    Nothing,
    Something,
    End(End),
}

/// An operand, as far as problems tell of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// A text, number, `true`, `nil` or `.`: it takes no argument and has no members.
    Constant,
    Other,
}

struct Parser<'s> {
    kind: &'s str,
    lexer: Lexer<'s>,
    knows: &'s dyn Fn(&str) -> bool,
    /// Where the last word that was cut begins: problems are told there.
    last_line: usize,
    /// Words that were put back, the next one last.
    ahead: Vec<Token>,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    /// Where the action begins; 0 outside of one.
    action_line: usize,
    /// By name, whether there is anything in it.
    templates: BTreeMap<String, bool>,
}

impl Parser<'_> {
    fn main(&mut self) -> Result<(), Stop> {
        let mut is_empty = true;
        loop {
            let token = self.next();
            match token.kind {
                Kind::End => break,
                Kind::Open => {
                    let word = self.next_word();
                    if word.is_keyword("define") {
                        self.definition()?;
                        continue;
                    }
                    self.back(word);
                }
                _ => {}
            }
            self.back(token);
            match self.text_or_action()? {
                Node::Nothing => {}
                Node::Something => is_empty = false,
                Node::End(end) => return wrong(format!("unexpected {}", end.shown())),
            }
        }
        self.add(self.kind.to_owned(), is_empty)
    }

    fn next(&mut self) -> Token {
        self.ahead.pop().unwrap_or_else(|| {
            let token = self.lexer.next();
            self.last_line = token.line;
            token
        })
    }

    fn back(&mut self, token: Token) {
        self.ahead.push(token);
    }

    fn peek(&mut self) -> &Token {
        if self.ahead.is_empty() {
            let token = self.next();
            self.back(token);
        }
        &self.ahead[self.ahead.len() - 1]
    }

    fn next_word(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_word(&mut self) -> &Token {
        let token = self.next_word();
        self.back(token);
        self.peek()
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Stop> {
        if token.kind != Kind::Error {
            return wrong(format!("unexpected {} in {context}", token.shown()));
        }
        let mut extra = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            extra = format!(" in action started at {}:{}", self.kind, self.action_line);
            if token.text.ends_with(" action") {
                extra = extra.trim_start_matches(" in action").to_owned();
            }
        }
        wrong(format!("{}{extra}", token.text))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<(), Stop> {
        let token = self.next_word();
        match token.kind == kind {
            true => Ok(()),
            false => self.unexpected(&token, context),
        }
    }

    fn add(&mut self, name: String, is_empty: bool) -> Result<(), Stop> {
        match self.templates.get(&name) {
            Some(false) if !is_empty => {
                let name = quote(&name);
                wrong(format!("template: multiple definition of template {name}"))
            }
            Some(false) => Ok(()),
            _ => {
                self.templates.insert(name, is_empty);
                Ok(())
            }
        }
    }

    /// The rest of `define`.
    fn definition(&mut self) -> Result<(), Stop> {
        let context = "define clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        self.expect(Kind::Close, context)?;
        self.body(name, context)
    }

    fn template_name(&self, token: &Token, context: &str) -> Result<String, Stop> {
        match token.kind {
            Kind::String | Kind::RawString => unquoted(&token.text),
            _ => self.unexpected(token, context),
        }
    }

    /// What stands in a template of its own: it sees no variables of the one around it.
    fn body(&mut self, name: String, context: &str) -> Result<(), Stop> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let action_line = std::mem::take(&mut self.action_line);
        let list = self.list()?;
        if list.end != End::End {
            return wrong(format!("unexpected {} in {context}", list.end.shown()));
        }
        self.add(name, list.is_empty)?;
        (self.variables, self.loops, self.action_line) = (variables, loops, action_line);
        Ok(())
    }

    fn list(&mut self) -> Result<List, Stop> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        let mut is_empty = true;
        while self.peek_word().kind != Kind::End {
            match self.text_or_action()? {
                Node::Nothing => {}
                Node::Something => is_empty = false,
                Node::End(end) => {
                    self.depth -= 1;
                    return Ok(List { is_empty, end });
                }
            }
        }
        wrong("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Node, Stop> {
        let token = self.next_word();
        match token.kind {
            Kind::Text if token.text.trim().is_empty() => Ok(Node::Nothing),
            Kind::Text => Ok(Node::Something),
            Kind::Open => {
                self.action_line = token.line;
                let node = self.action();
                self.action_line = 0;
                node
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Node, Stop> {
        let token = self.next_word();
        if token.kind != Kind::Keyword {
            self.back(token);
            self.pipeline("command", Kind::Close)?;
            return Ok(Node::Something);
        }
        match token.text.as_str() {
            "block" => {
                let context = "block clause";
                let token = self.next_word();
                let name = self.template_name(&token, context)?;
                self.pipeline(context, Kind::Close)?;
                self.body(name, context)?;
            }
            word @ ("break" | "continue") => {
                let context = format!("{{{{{word}}}}}");
                self.expect(Kind::Close, &context)?;
                if self.loops == 0 {
                    return wrong(format!("{context} outside {{{{range}}}}"));
                }
            }
            "else" => {
                let next = self.peek_word();
                if !next.is_keyword("if") && !next.is_keyword("with") {
                    self.expect(Kind::Close, "else")?;
                }
                return Ok(Node::End(End::Else));
            }
            "end" => {
                self.expect(Kind::Close, "end")?;
                return Ok(Node::End(End::End));
            }
            word @ ("if" | "range" | "with") => self.branch(word)?,
            "template" => {
                let context = "template clause";
                let token = self.next_word();
                self.template_name(&token, context)?;
                let token = self.next_word();
                if token.kind != Kind::Close {
                    self.back(token);
                    self.pipeline(context, Kind::Close)?;
                }
            }
            _ => {
                self.back(token);
                self.pipeline("command", Kind::Close)?;
            }
        }
        Ok(Node::Something)
    }

    /// `if`, `range` or `with`, up to its end.
    fn branch(&mut self, word: &str) -> Result<(), Stop> {
        let seen = self.variables.len();
        self.pipeline(word, Kind::Close)?;
        let is_loop = usize::from(word == "range");
        self.loops += is_loop;
        let list = self.list()?;
        self.loops -= is_loop;
        if list.end == End::Else {
            if word != "range" && self.peek().is_keyword(word) {
                self.next();
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Stop::TooDeep);
                }
                self.branch(word)?;
                self.depth -= 1;
            } else {
                let list = self.list()?;
                if list.end != End::End {
                    return wrong(format!("expected end; found {}", list.end.shown()));
                }
            }
        }
        self.variables.truncate(seen);
        Ok(())
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<(), Stop> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        self.declarations(context)?;
        let mut stage = 0;
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => break,
                kind if begins_operand(kind, &token) => {
                    self.back(token);
                    stage += 1;
                    let first = self.command()?;
                    if stage > 1 && first == Operand::Constant {
                        // Go looks when the pipeline is whole.
                        self.rest_of_pipeline(context, end)?;
                        let text = format!("non executable command in pipeline stage {stage}");
                        return wrong(text);
                    }
                }
                _ => return self.unexpected(&token, context),
            }
        }
        self.depth -= 1;
        match stage {
            0 => wrong(format!("missing value for {context}")),
            _ => Ok(()),
        }
    }

    fn rest_of_pipeline(&mut self, context: &str, end: Kind) -> Result<(), Stop> {
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => return Ok(()),
                kind if begins_operand(kind, &token) => {
                    self.back(token);
                    self.command()?;
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    /// `$x :=`, `$x =` or `$x, $y :=`, if they stand here.
    fn declarations(&mut self, context: &str) -> Result<(), Stop> {
        let mut count = 0;
        loop {
            if self.peek_word().kind != Kind::Variable {
                return Ok(());
            }
            let variable = self.next();
            let after = self.next();
            let space = (after.kind == Kind::Space).then(|| after.clone());
            let next = match space {
                Some(_) => self.next_word(),
                None => after,
            };
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    self.variables.push(variable.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.variables.push(variable.text);
                    count += 1;
                    if context != "range" || count > 1 {
                        return wrong(format!("too many declarations in {context}"));
                    }
                    let next = self.peek_word();
                    if !matches!(next.kind, Kind::Variable | Kind::Close | Kind::RightParen) {
                        return wrong("range can only initialize variables");
                    }
                }
                _ => {
                    self.back(next);
                    space.into_iter().for_each(|space| self.back(space));
                    self.back(variable);
                    return Ok(());
                }
            }
        }
    }

    /// A command; its first operand.
    fn command(&mut self) -> Result<Operand, Stop> {
        let mut first = None;
        loop {
            self.peek_word();
            let operand = self.operand()?;
            first = first.or(operand);
            let token = self.next();
            match token.kind {
                Kind::Space => {}
                Kind::Close | Kind::RightParen => {
                    self.back(token);
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        first.map_or_else(|| wrong("empty command"), Ok)
    }

    fn operand(&mut self) -> Result<Option<Operand>, Stop> {
        let Some((mut operand, text)) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind == Kind::Field {
            while self.peek().kind == Kind::Field {
                self.next();
            }
            if operand == Operand::Constant {
                return wrong(format!("unexpected . after term {}", quote(&text)));
            }
            operand = Operand::Other;
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Result<Option<(Operand, String)>, Stop> {
        let token = self.next_word();
        let operand = match token.kind {
            Kind::Identifier if !(self.knows)(&token.text) => {
                return wrong(format!("function {} not defined", quote(&token.text)));
            }
            Kind::Variable if !self.variables.contains(&token.text) => {
                return wrong(format!("undefined variable {}", quote(&token.text)));
            }
            Kind::Identifier | Kind::Variable | Kind::Field => Operand::Other,
            Kind::LeftParen => {
                self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                Operand::Other
            }
            Kind::Keyword if matches!(&*token.text, "." | "nil") => Operand::Constant,
            Kind::Bool | Kind::Complex => Operand::Constant,
            Kind::Number | Kind::CharConstant => {
                check_number(&token)?;
                Operand::Constant
            }
            Kind::String | Kind::RawString => {
                unquoted(&token.text)?;
                Operand::Constant
            }
            _ => {
                self.back(token);
                return Ok(None);
            }
        };
        Ok(Some((operand, token.text)))
    }
}

fn begins_operand(kind: Kind, token: &Token) -> bool {
    match kind {
        Kind::Keyword => matches!(&*token.text, "." | "nil"),
        Kind::Bool
        | Kind::CharConstant
        | Kind::Complex
        | Kind::Field
        | Kind::Identifier
        | Kind::Number
        | Kind::RawString
        | Kind::String
        | Kind::Variable
        | Kind::LeftParen => true,
        _ => false,
    }
}

/// A text without its quotes.
fn unquoted(text: &str) -> Result<String, Stop> {
    let inner = text.get(1..text.len() - 1).unwrap_or_default();
    match text.starts_with('`') {
        true => Ok(inner.to_owned()),
        false => unquote(inner).or_else(|_| wrong("invalid syntax")),
    }
}

#[cfg(test)]
mod tests;
