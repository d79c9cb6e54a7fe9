//! What Go's parser refuses and the crate's does not: `end` and `else` that belong to nothing,
//! variables that are not declared, `break` outside of a loop; and Go's words for what both refuse.

use gotmpl::parse::{BranchNode, Expr, ListNode, Node, PipeNode};

/// Why Go would not take the template that these trees were made of.
pub(super) fn refusal<'t>(
    source: &str,
    trees: impl IntoIterator<Item = &'t ListNode>,
) -> Option<String> {
    if let Some(problem) = unbalanced(source) {
        return Some(problem);
    }
    trees.into_iter().find_map(|tree| {
        let mut scope = Scope {
            variables: vec!["$".to_owned()],
            loops: 0,
        };
        scope.list(tree).err()
    })
}

/// Go's words for an error of the crate.
pub(super) fn in_words_of_go(message: &str) -> String {
    const WORDS: [(&str, &str); 2] = [
        ("unterminated string", "unterminated quoted string"),
        (
            "expected closing delimiter, got RightParen (\")\")",
            "unexpected right paren",
        ),
    ];
    let found = WORDS.iter().find(|(own, _)| message.ends_with(own));
    match found {
        Some((own, go)) => format!("{}{go}", message.trim_end_matches(own)),
        None => message.to_owned(),
    }
}

/// An `end` or `else` that closes nothing.
fn unbalanced(source: &str) -> Option<String> {
    let mut open = 0_usize;
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start + 2..];
        let inner = action.strip_prefix("- ").unwrap_or(action).trim_start();
        let word = inner
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or("");
        match word {
            "if" | "with" | "range" | "define" | "block" => open += 1,
            "end" | "else" if open == 0 => return Some(format!("unexpected {{{{{word}}}}}")),
            "end" => open -= 1,
            _ => {}
        }
        rest = &action[end_of_action(action)..];
    }
    None
}

/// Where the action ends whose inside starts here, behind its `}}`.
fn end_of_action(action: &str) -> usize {
    let trimmed = action.strip_prefix("- ").unwrap_or(action);
    if trimmed.starts_with("/*") {
        let end = action.find("*/").unwrap_or(action.len());
        let close = action[end..].find("}}").map(|at| end + at + 2);
        return close.unwrap_or(action.len());
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in action.char_indices() {
        match quote {
            Some(open) => {
                if c == open && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && open != '`' && !escaped;
            }
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if action[at..].starts_with("}}") => return at + 2,
            None => {}
        }
    }
    action.len()
}

struct Scope {
    variables: Vec<String>,
    loops: usize,
}

impl Scope {
    fn list(&mut self, list: &ListNode) -> Result<(), String> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::With(branch) => self.branch(branch, 0),
            Node::Range(branch) => self.branch(branch, 1),
            Node::Template(call) => call.pipe.iter().try_for_each(|pipe| self.pipe(pipe)),
            Node::Break(_) | Node::Continue(_) if self.loops == 0 => {
                let word = match node {
                    Node::Break(_) => "break",
                    _ => "continue",
                };
                Err(format!("{{{{{word}}}}} outside {{{{range}}}}"))
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &BranchNode, loops: usize) -> Result<(), String> {
        let mark = self.variables.len();
        self.pipe(&branch.pipe)?;
        self.loops += loops;
        self.list(&branch.body)?;
        self.loops -= loops;
        branch
            .else_body
            .iter()
            .try_for_each(|body| self.list(body))?;
        self.variables.truncate(mark);
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), String> {
        if pipe.is_assign {
            pipe.decl.iter().try_for_each(|name| self.known(name))?;
        }
        for arg in pipe.commands.iter().flat_map(|command| &command.args) {
            self.expr(arg)?;
        }
        if !pipe.is_assign {
            self.variables
                .extend(pipe.decl.iter().map(|name| name.to_string()));
        }
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Variable(_, name, _) => self.known(name),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            _ => Ok(()),
        }
    }

    fn known(&self, name: &str) -> Result<(), String> {
        match self.variables.iter().any(|known| known == name) {
            true => Ok(()),
            false => Err(format!("undefined variable {name:?}")),
        }
    }
}
