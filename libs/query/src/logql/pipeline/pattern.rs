//! Patterns of literals and captures, `<ip> - <user> <_>`: as a parser, and as the line filters
//! `|>` and `!>`, where only `<_>` may stand for something.

use memchr::memmem;
use model::LineMatcher;

use super::CompileError;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    /// `None` for `<_>`.
    Capture(Option<Box<str>>),
}

/// A parsed pattern: no two literals stand next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// `|> "text"` as a test of a line.
#[derive(Clone, Debug)]
pub(super) struct LinePattern {
    pattern: Pattern,
    required: Vec<Box<[u8]>>,
}

impl Pattern {
    /// Reads a pattern. What looks like a capture but is none is literal text.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let inside = &rest[at + 1..];
            let name = inside
                .split_once('>')
                .map(|(name, _)| name)
                .filter(|name| model::is_valid_label_name(name));
            literal.push_str(&rest[..at]);
            let Some(name) = name else {
                literal.push('<');
                rest = inside;
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(
                    std::mem::take(&mut literal).into_bytes().into(),
                ));
            }
            parts.push(Part::Capture((name != "_").then(|| name.into())));
            rest = &inside[name.len() + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into_bytes().into()));
        }
        Pattern { parts }
    }

    /// Refuses what cannot be a parser.
    pub(super) fn check_captures(&self, text: &str) -> Result<(), CompileError> {
        if text.is_empty() {
            return Err(CompileError::PatternEmpty);
        }
        self.check_adjacent(text)?;
        let names: Vec<&str> = self.names().collect();
        if names.is_empty() {
            return Err(CompileError::PatternNoCapture(text.to_owned()));
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(CompileError::PatternDuplicate(
                    (*name).to_owned(),
                    text.to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn check_adjacent(&self, text: &str) -> Result<(), CompileError> {
        for pair in self.parts.windows(2) {
            if let [Part::Capture(a), Part::Capture(b)] = pair {
                let show =
                    |name: &Option<Box<str>>| format!("<{}>", name.as_deref().unwrap_or("_"));
                return Err(CompileError::PatternAdjacent(
                    show(a) + &show(b),
                    text.to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Names of the named captures, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) => name.as_deref(),
            Part::Literal(_) => None,
        })
    }

    /// Gives the named captures in order. A capture whose end is not found takes the rest of the
    /// line and is the last; a line that does not start with the pattern's first literal has none.
    pub(super) fn captures<'l>(&self, line: &'l [u8], mut found: impl FnMut(&'l [u8])) {
        let mut rest = line;
        let mut parts = self.parts.iter().peekable();
        if let Some(Part::Literal(start)) = parts.peek() {
            let Some(after) = rest.strip_prefix(&**start) else {
                return;
            };
            rest = after;
            parts.next();
        }
        if line.is_empty() {
            return;
        }
        while let Some(part) = parts.next() {
            let Part::Capture(name) = part else { return };
            let end = match parts.next() {
                Some(Part::Literal(literal)) => {
                    memmem::find(rest, literal).map(|at| (at, at + literal.len()))
                }
                _ => None,
            };
            let (capture, after) = match end {
                Some((end, next)) => (&rest[..end], Some(&rest[next..])),
                None => (rest, None),
            };
            if name.is_some() {
                found(capture);
            }
            match after {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    /// Whether the line has the pattern's form: literals in order, each found as early as
    /// possible, and something before each one that follows a capture. As in Loki, a literal at
    /// the start may stand anywhere, one at the end must end the line.
    fn is_match(&self, line: &[u8]) -> bool {
        if line.is_empty() || self.parts.is_empty() {
            return line.is_empty() && self.parts.is_empty();
        }
        let mut rest = line;
        for (at, part) in self.parts.iter().enumerate() {
            let Part::Literal(literal) = part else {
                continue;
            };
            let found = match at {
                0 => memmem::find(rest, literal),
                _ => memmem::find(rest, literal).filter(|found| *found > 0),
            };
            let Some(found) = found else { return false };
            rest = &rest[found + literal.len()..];
        }
        let ends_open = matches!(self.parts.last(), Some(Part::Capture(_)));
        ends_open != rest.is_empty()
    }
}

impl LinePattern {
    /// Reads a pattern without names.
    pub(super) fn compile(text: &str) -> Result<Self, CompileError> {
        let pattern = Pattern::parse(text);
        pattern.check_adjacent(text)?;
        if let Some(name) = pattern.names().next() {
            return Err(CompileError::PatternNamed(name.to_owned()));
        }
        let required = pattern
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Literal(literal) => Some(literal.clone()),
                Part::Capture(_) => None,
            })
            .collect();
        Ok(LinePattern { pattern, required })
    }
}

impl LineMatcher for LinePattern {
    fn is_match(&self, line: &[u8]) -> bool {
        self.pattern.is_match(line)
    }

    fn required_literals(&self) -> &[Box<[u8]>] {
        &self.required
    }
}
