//! What Loki makes of the regular expressions of filters before it runs them: where an expression
//! is only texts, `.*`, `.+` and `|`, it looks for the texts themselves. That is not always what
//! the expression says, and answers depend on it: in a label filter `a.*` passes every value that
//! *contains* `a`, and a leg that passes everything is left out of its alternation (`a|.*` is `a`).
//!
//! The tree is the one that Go's parser builds: common prefixes of neighbouring legs are taken out
//! (`err|error` is `err(?:|or)`), and neighbouring single characters become a class.

/// What is looked for instead of running the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Simple {
    /// Passes everything.
    Always,
    /// Passes what is not empty.
    NotEmpty,
    /// The whole text; whether case is ignored.
    Equal(String, bool),
    /// A part of the text; whether case is ignored.
    Contains(String, bool),
    /// One of these passes; none is `Always` or `Any`.
    Any(Vec<Simple>),
}

/// A parsed expression. What is not one of these is never simplified.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Empty,
    /// Characters; whether case is ignored.
    Text(Vec<char>, bool),
    /// `.*`
    Rest,
    /// `.+`
    Some,
    Concat(Vec<Node>),
    Alternation(Vec<Node>),
    Capture(Box<Node>),
}

/// The simple form of an expression; `None` if it has none. `whole` is for label filters, where a
/// text alone must be the whole value.
pub(in super::super) fn simplify(text: &str, whole: bool) -> Option<Simple> {
    let mut parser = Parser {
        rest: text,
        fold: false,
        depth: 0,
    };
    let node = parser.alternation()?;
    match parser.rest.is_empty() {
        true => simple(node, whole),
        false => None,
    }
}

impl Simple {
    /// Whether a value passes.
    pub(in super::super) fn is_match(&self, value: &str) -> bool {
        match self {
            Simple::Always => true,
            Simple::NotEmpty => !value.is_empty(),
            Simple::Equal(text, false) => text == value,
            Simple::Equal(text, true) => {
                text.len() == value.len() && value.to_lowercase() == text.to_lowercase()
            }
            Simple::Contains(text, false) => value.contains(text.as_str()),
            Simple::Contains(text, true) => value.to_lowercase().contains(&text.to_lowercase()),
            Simple::Any(parts) => parts.iter().any(|part| part.is_match(value)),
        }
    }
}

/// Deepest nesting of groups that is followed.
const DEPTH_MAX: usize = 50;

struct Parser<'a> {
    rest: &'a str,
    /// `(?i)`
    fold: bool,
    depth: usize,
}

impl Parser<'_> {
    /// Legs up to `)` or the end.
    fn alternation(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let mut legs = vec![self.concat()?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            legs.push(self.concat()?);
        }
        self.depth -= 1;
        alternate(legs)
    }

    fn concat(&mut self) -> Option<Node> {
        let mut parts: Vec<Node> = Vec::new();
        while let Some(c) = self.rest.chars().next() {
            if matches!(c, '|' | ')') {
                break;
            }
            self.rest = &self.rest[c.len_utf8()..];
            let node = match c {
                '(' => match self.group()? {
                    Some(node) => node,
                    None => continue,
                },
                '.' => self.dot()?,
                '\\' => {
                    let escaped = self.rest.chars().next()?;
                    if !escaped.is_ascii_punctuation() {
                        return None;
                    }
                    self.rest = &self.rest[1..];
                    Node::Text(vec![escaped], self.fold)
                }
                '*' | '+' | '?' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
                c => Node::Text(vec![c], self.fold),
            };
            if self.rest.starts_with(['*', '+', '?', '{']) {
                return None;
            }
            push(&mut parts, node);
        }
        Some(concat(parts))
    }

    /// What follows a `.`, which was taken: only `.*` and `.+` are followed, lazy or not.
    fn dot(&mut self) -> Option<Node> {
        let node = match self.rest.as_bytes().first()? {
            b'*' => Node::Rest,
            b'+' => Node::Some,
            _ => return None,
        };
        let rest = &self.rest[1..];
        self.rest = rest.strip_prefix('?').unwrap_or(rest);
        Some(node)
    }

    /// A group whose `(` was taken; `None` inside if it only sets flags.
    fn group(&mut self) -> Option<Option<Node>> {
        let outer = self.fold;
        let mut captures = true;
        if let Some(rest) = self.rest.strip_prefix('?') {
            captures = false;
            let end = rest.find([':', ')', '<'])?;
            match &rest[..end] {
                "" => {}
                "i" => self.fold = true,
                "-i" => self.fold = false,
                "P" if rest[end..].starts_with('<') => captures = true,
                _ => return None,
            }
            match rest.as_bytes()[end] {
                b')' if end == 0 => return None,
                b')' => {
                    self.rest = &rest[end + 1..];
                    return Some(None);
                }
                b'<' => {
                    captures = true;
                    let name_end = rest.find('>')?;
                    self.rest = &rest[name_end + 1..];
                }
                _ => self.rest = &rest[end + 1..],
            }
        }
        let inside = self.alternation()?;
        self.rest = self.rest.strip_prefix(')')?;
        self.fold = outer;
        Some(Some(match captures {
            true => Node::Capture(Box::new(inside)),
            false => inside,
        }))
    }
}

/// Appends a part; texts that stand side by side are one.
fn push(parts: &mut Vec<Node>, node: Node) {
    match (parts.last_mut(), node) {
        (Some(Node::Text(before, a)), Node::Text(mut text, b)) if *a == b => {
            before.append(&mut text);
        }
        (_, Node::Concat(inner)) => inner.into_iter().for_each(|node| push(parts, node)),
        (_, node) => parts.push(node),
    }
}

fn concat(mut parts: Vec<Node>) -> Node {
    match parts.len() {
        0 => Node::Empty,
        1 => parts.remove(0),
        _ => Node::Concat(parts),
    }
}

/// Legs as one node, common prefixes taken out. `None` if neighbouring single characters make a
/// class.
fn alternate(legs: Vec<Node>) -> Option<Node> {
    let mut flat = Vec::new();
    for leg in legs {
        match leg {
            Node::Alternation(inner) => flat.extend(inner),
            leg => flat.push(leg),
        }
    }
    if flat.len() == 1 {
        return flat.pop();
    }
    let mut out: Vec<Node> = Vec::new();
    let mut run: Vec<Node> = Vec::new();
    let mut prefix: (Vec<char>, bool) = (Vec::new(), false);
    for leg in flat {
        let (text, fold) = leading(&leg);
        let same = match fold == prefix.1 && !run.is_empty() {
            true => text
                .iter()
                .zip(&prefix.0)
                .take_while(|(a, b)| a == b)
                .count(),
            false => 0,
        };
        if same > 0 {
            prefix.0.truncate(same);
        } else {
            close_run(&mut out, &mut run, &prefix)?;
            prefix = (text.to_vec(), fold);
        }
        run.push(leg);
    }
    close_run(&mut out, &mut run, &prefix)?;
    let single = |node: &Node| matches!(node, Node::Text(text, _) if text.len() == 1);
    if out.windows(2).any(|pair| pair.iter().all(single)) {
        return None;
    }
    out.dedup_by(|a, b| *a == Node::Empty && *b == Node::Empty);
    match out.len() {
        1 => out.pop(),
        _ => Some(Node::Alternation(out)),
    }
}

fn leading(node: &Node) -> (&[char], bool) {
    match node {
        Node::Text(text, fold) => (text, *fold),
        Node::Concat(parts) => match parts.first() {
            Some(Node::Text(text, fold)) => (text, *fold),
            _ => (&[], false),
        },
        _ => (&[], false),
    }
}

fn close_run(out: &mut Vec<Node>, run: &mut Vec<Node>, prefix: &(Vec<char>, bool)) -> Option<()> {
    if run.len() < 2 {
        out.append(run);
        return Some(());
    }
    let length = prefix.0.len();
    let tails = run.drain(..).map(|leg| without_leading(leg, length));
    let tails = alternate(tails.collect())?;
    out.push(Node::Concat(vec![
        Node::Text(prefix.0.clone(), prefix.1),
        tails,
    ]));
    Some(())
}

fn without_leading(node: Node, length: usize) -> Node {
    match node {
        Node::Text(text, fold) => match &text[length..] {
            [] => Node::Empty,
            rest => Node::Text(rest.to_vec(), fold),
        },
        Node::Concat(mut parts) => {
            let first = without_leading(parts.remove(0), length);
            if first != Node::Empty {
                parts.insert(0, first);
            }
            concat(parts)
        }
        node => node,
    }
}

fn simple(node: Node, whole: bool) -> Option<Simple> {
    match node {
        Node::Alternation(legs) => {
            let mut all = None;
            for leg in legs {
                // The parentheses around a leg say nothing.
                let leg = simple(without_capture(leg), whole)?;
                all = Some(match all {
                    None => leg,
                    Some(before) => either(before, leg),
                });
            }
            all
        }
        Node::Concat(parts) => simple_concat(parts, None),
        Node::Capture(inside) => simple(*inside, whole),
        Node::Text(text, fold) => {
            let text = text.into_iter().collect();
            Some(match whole {
                true => Simple::Equal(text, fold),
                false => Simple::Contains(text, fold),
            })
        }
        Node::Rest | Node::Empty => Some(Simple::Always),
        Node::Some => Some(Simple::NotEmpty),
    }
}

fn without_capture(node: Node) -> Node {
    match node {
        Node::Capture(inside) => *inside,
        node => node,
    }
}

/// Either of the two; what passes everything is left out.
fn either(a: Simple, b: Simple) -> Simple {
    let parts = |simple| match simple {
        Simple::Any(parts) => parts,
        simple => vec![simple],
    };
    match (a, b) {
        (Simple::Always, other) | (other, Simple::Always) => other,
        (a, b) => {
            let mut all = parts(a);
            all.extend(parts(b));
            Simple::Any(all)
        }
    }
}

/// At most one text with `.*` around it and legs behind it.
fn simple_concat(parts: Vec<Node>, before: Option<&str>) -> Option<Simple> {
    let parts: Vec<Node> = parts.into_iter().map(without_capture).collect();
    let parts: Vec<Node> = parts.into_iter().filter(|p| *p != Node::Empty).collect();
    if parts.len() > 3 {
        return None;
    }
    let mut text: Option<String> = before.map(str::to_owned);
    let (mut found, mut has_text, mut fold) = (None, false, false);
    for part in parts {
        match (part, &mut text) {
            (Node::Text(..), _) if has_text => return None,
            (Node::Text(more, ignores_case), text) => {
                has_text = true;
                fold = ignores_case;
                text.get_or_insert_default().extend(more);
            }
            (Node::Alternation(legs), Some(text)) => {
                found = Some(simple_legs(legs, text, found, fold)?);
            }
            (Node::Rest, _) => {}
            _ => return None,
        }
    }
    found.or_else(|| Some(Simple::Contains(text?, fold)))
}

/// A text with each of the legs behind it.
fn simple_legs(
    legs: Vec<Node>,
    text: &str,
    mut found: Option<Simple>,
    fold: bool,
) -> Option<Simple> {
    for leg in legs {
        let leg = match leg {
            Node::Text(_, true) if !fold => return None,
            Node::Text(more, _) => {
                let more: String = more.into_iter().collect();
                Simple::Contains(format!("{text}{more}"), fold)
            }
            Node::Empty | Node::Rest => Simple::Contains(text.to_owned(), fold),
            Node::Concat(parts) => simple_concat(parts, Some(text))?,
            Node::Some | Node::Alternation(_) | Node::Capture(_) => return None,
        };
        found = Some(match found {
            None => leg,
            Some(before) => either(before, leg),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_filters_look_for_the_texts_of_simple_expressions() {
        for (text, passes, fails) in [
            ("foo", vec!["foo"], vec!["xfoo", "foox", "FOO"]),
            ("foo.*", vec!["foo", "foox", "xfoo"], vec!["fo"]),
            (".*foo", vec!["xfoo", "foox"], vec!["fo"]),
            ("err|error", vec!["err", "error", "xerrx"], vec!["er"]),
            ("warn|error", vec!["warn", "error"], vec!["xwarn", "errors"]),
            ("(warn|error)", vec!["warn", "error"], vec!["xwarn"]),
            ("foo|", vec!["foo"], vec!["", "bar"]),
            ("foo|.*", vec!["foo"], vec!["", "bar"]),
            ("(?i)foo", vec!["FOO", "foo"], vec!["xfoo"]),
            (".+", vec!["x"], vec![""]),
            (".*", vec!["x", ""], vec![]),
            ("a\\.b", vec!["a.b"], vec!["axb"]),
        ] {
            let simple = simplify(text, true).unwrap_or_else(|| panic!("{text}"));
            for value in passes {
                assert!(simple.is_match(value), "{text} {value}");
            }
            for value in fails {
                assert!(!simple.is_match(value), "{text} {value}");
            }
        }
    }

    #[test]
    fn other_expressions_are_run() {
        for text in [
            "a|b",
            "bar|baz",
            "foo.",
            "foo.+",
            "fo?o",
            "[ab]",
            "^foo$",
            "a.*b.*c.*",
            "foo(bar)",
            "foo.*bar",
            "(",
            "(?s).*",
            "x{2}",
            "\\d",
        ] {
            assert_eq!(simplify(text, true), None, "{text}");
        }
    }

    #[test]
    fn line_filters_look_for_parts() {
        let contains = |text: &str| Simple::Contains(text.to_owned(), false);
        assert_eq!(simplify("foo", false), Some(contains("foo")));
        assert_eq!(
            simplify("foo|bar", false),
            Some(Simple::Any(vec![contains("foo"), contains("bar")]))
        );
        assert_eq!(simplify("foo|.*", false), Some(contains("foo")));
        assert_eq!(simplify("", false), Some(Simple::Always));
    }
}
