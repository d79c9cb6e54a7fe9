//! Groups as YAML, byte for byte as Loki writes them: what is kept under version control and posted
//! again should not change on its way.

use std::collections::BTreeMap;

use super::group::{Group, Rule, Span, Texts};
use crate::http::print_duration;

/// How much deeper what is inside stands.
const STEP: usize = 4;

/// One group.
pub(crate) fn of_group(group: &Group) -> String {
    let mut yaml = Yaml::default();
    yaml.group(group, 0);
    yaml.out
}

/// Groups by namespace, as Loki lists them.
pub(crate) fn of_namespaces(groups: &BTreeMap<String, Vec<Group>>) -> String {
    let mut yaml = Yaml::default();
    for (namespace, groups) in groups {
        yaml.list(namespace, groups, 0, Yaml::group);
    }
    yaml.out
}

#[derive(Default)]
struct Yaml {
    out: String,
    /// The next key is the first of an element of a list.
    begins: bool,
}

impl Yaml {
    fn group(&mut self, group: &Group, indent: usize) {
        self.pair("name", &group.name, indent);
        self.span("interval", group.interval, indent);
        self.span("query_offset", group.query_offset, indent);
        if group.limit != 0 {
            self.key("limit", indent);
            self.out.push_str(&format!(" {}\n", group.limit));
        }
        self.list("rules", &group.rules, indent, Yaml::rule);
        self.texts("labels", &group.labels, indent);
    }

    fn rule(&mut self, rule: &Rule, indent: usize) {
        for (name, text) in [("record", &rule.record), ("alert", &rule.alert)] {
            if !text.is_empty() {
                self.pair(name, text, indent);
            }
        }
        self.pair("expr", &rule.expr, indent);
        self.span("for", rule.hold, indent);
        self.span("keep_firing_for", rule.keep_firing_for, indent);
        self.texts("labels", &rule.labels, indent);
        self.texts("annotations", &rule.annotations, indent);
    }

    fn list<T>(
        &mut self,
        name: &str,
        elements: &[T],
        indent: usize,
        element: impl Fn(&mut Yaml, &T, usize),
    ) {
        self.key(name, indent);
        if elements.is_empty() {
            self.out.push_str(" []");
        }
        self.out.push('\n');
        for each in elements {
            self.begins = true;
            element(self, each, inner(indent) + 2);
        }
    }

    fn texts(&mut self, name: &str, texts: &Texts, indent: usize) {
        if texts.is_empty() {
            return;
        }
        self.key(name, indent);
        self.out.push('\n');
        for (name, text) in texts {
            self.pair(name, text, inner(indent));
        }
    }

    fn span(&mut self, name: &str, span: Span, indent: usize) {
        if span.0 != 0 {
            self.pair(name, &print_duration(span.0), indent);
        }
    }

    fn pair(&mut self, name: &str, text: &str, indent: usize) {
        self.key(name, indent);
        self.out.push(' ');
        match Style::of(text) {
            Style::Literal if inner(indent) == indent + STEP || !needs_hint(text) => {
                self.literal(text, inner(indent));
            }
            Style::Literal => quote(&mut self.out, text),
            style => style.write(&mut self.out, text),
        }
        if !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn key(&mut self, name: &str, indent: usize) {
        let spaces = match std::mem::take(&mut self.begins) {
            true => format!("{}- ", " ".repeat(indent - 2)),
            false => " ".repeat(indent),
        };
        self.out.push_str(&spaces);
        match Style::of(name) {
            Style::Literal => quote(&mut self.out, name),
            style => style.write(&mut self.out, name),
        }
        self.out.push(':');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if needs_hint(text) {
            self.out.push_str(&STEP.to_string());
        }
        let lines = match text.strip_suffix('\n') {
            None => {
                self.out.push('-');
                text
            }
            Some(lines) if lines.is_empty() || lines.ends_with('\n') => {
                self.out.push('+');
                lines
            }
            Some(lines) => lines,
        };
        self.out.push('\n');
        for line in lines.split('\n') {
            if !line.is_empty() {
                self.out.push_str(&" ".repeat(indent));
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }
}

/// Where what is inside stands: at the next multiple of the step.
fn inner(indent: usize) -> usize {
    (indent + STEP) / STEP * STEP
}

/// Whether a reader could not tell how deep the lines stand.
fn needs_hint(text: &str) -> bool {
    text.starts_with([' ', '\n'])
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Style {
    fn of(text: &str) -> Style {
        let is_special = |c: char| !is_printable(c) && c != '\n';
        if text.contains('\n') {
            let double = text.contains(" \n")
                || text.ends_with(' ')
                || text.contains(|c: char| is_special(c) && c != '\t' || is_break(c));
            return if double {
                Style::Double
            } else {
                Style::Literal
            };
        }
        if is_of_another_type(text) || text.contains(is_special) {
            return Style::Double;
        }
        match needs_quotes(text) {
            true => Style::Single,
            false => Style::Plain,
        }
    }

    fn write(self, out: &mut String, text: &str) {
        match self {
            Style::Plain => out.push_str(text),
            Style::Single => {
                out.push('\'');
                out.push_str(&text.replace('\'', "''"));
                out.push('\'');
            }
            Style::Double | Style::Literal => quote(out, text),
        }
    }
}

/// What a reader would take for something else than a text of this line.
fn needs_quotes(text: &str) -> bool {
    let first = text.starts_with(|c| "#,[]{}&*!|>'\"%@`".contains(c));
    let dash = |sign: &str| {
        let rest = text.strip_prefix(sign);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let ends = text.starts_with(' ') || text.ends_with([' ', ':']);
    let marks = text.starts_with("---") || text.starts_with("...");
    let inside = text.contains(": ") || text.contains(" #") || text.contains(is_break);
    first || dash("-") || dash("?") || ends || marks || inside
}

/// What YAML calls the end of a line besides a newline, and what is printed.
fn is_break(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// Whether a reader takes the plain text for nothing, a truth, a number or a time.
fn is_of_another_type(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "", "~", "null", "true", "false", "y", "yes", "on", "n", "no",
    ];
    let lower = text.to_ascii_lowercase();
    let mixed = {
        let rest = text.get(1..).unwrap_or_default();
        let all = |is: fn(&char) -> bool| rest.chars().all(|c| is(&c));
        let upper_first = text.starts_with(|c: char| c.is_ascii_uppercase());
        !(all(char::is_ascii_lowercase) || upper_first && all(char::is_ascii_uppercase))
    };
    let is_word = WORDS.contains(&&*lower) || lower == "off";
    (is_word && (!mixed || text == "~")) || is_number(text) || is_time(text)
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return false;
    }
    let text = text.replace('_', "");
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(&*text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
        }
    }
    is_decimal(unsigned) || is_sexagesimal(unsigned)
}

/// `1.5e+3`, `.5`, `1.`
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, exponent) = match text.split_once(['e', 'E']) {
        None => (text, None),
        Some((number, exponent)) => (number, Some(exponent)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_exponent = |text: &str| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && digits(text)
    };
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(is_exponent)
}

/// `12:30:45`, a number to the base of 60 for older readers.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let is_part =
        |part: &str| matches!(part.len(), 1 | 2) && part.parse::<u8>().is_ok_and(|n| n < 60);
    let rest: Vec<&str> = parts.collect();
    let last = rest
        .last()
        .map(|last| last.split('.').next().unwrap_or(last));
    !first.is_empty()
        && first.bytes().all(|byte| byte.is_ascii_digit())
        && last.is_some_and(is_part)
        && rest[..rest.len() - 1].iter().all(|part| is_part(part))
}

/// What looks like a date, with or without a time.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 6
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"-+:.tTzZ ".contains(byte))
}

/// In double quotes, with escapes.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' | '\\' => c,
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c if is_printable(c) => {
                out.push(c);
                continue;
            }
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02X}"),
                    0x100..=0xffff => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                });
                continue;
            }
        };
        out.push('\\');
        out.push(short);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let group = Group {
            name: "g".to_owned(),
            labels: Texts::from([("k".to_owned(), text.to_owned())]),
            ..Group::default()
        };
        let yaml = of_group(&group);
        assert_eq!(Group::from_yaml(&yaml), Ok(group), "{yaml}");
        let at = yaml.find("    k: ").unwrap();
        yaml[at + 7..].to_owned()
    }

    #[test]
    fn texts_are_written_as_loki_writes_them() {
        for (text, want) in [
            ("a b", "a b\n"),
            ("", "\"\"\n"),
            (" lead", "' lead'\n"),
            ("1.5", "\"1.5\"\n"),
            ("0x1f", "\"0x1f\"\n"),
            ("0x1G", "0x1G\n"),
            ("1_000", "\"1_000\"\n"),
            ("_1", "_1\n"),
            ("yes", "\"yes\"\n"),
            ("No", "\"No\"\n"),
            ("OFF", "\"OFF\"\n"),
            ("tRue", "tRue\n"),
            ("~", "\"~\"\n"),
            ("nan", "nan\n"),
            (".nan", "\".nan\"\n"),
            ("12:30:45", "\"12:30:45\"\n"),
            ("1:60", "1:60\n"),
            ("2020-01-01", "\"2020-01-01\"\n"),
            ("a: b", "'a: b'\n"),
            ("a:b", "a:b\n"),
            ("a:", "'a:'\n"),
            ("a #b", "'a #b'\n"),
            ("- x", "'- x'\n"),
            ("-x", "-x\n"),
            ("it's", "it's\n"),
            ("'a'", "'''a'''\n"),
            ("{{ $x }}", "'{{ $x }}'\n"),
            ("a\\b", "a\\b\n"),
            ("tab\t", "\"tab\\t\"\n"),
            ("é: b", "'é: b'\n"),
            ("😀", "\"\\U0001F600\"\n"),
            ("\u{1b}[0m", "\"\\e[0m\"\n"),
            ("a\nb", "|-\n        a\n        b\n"),
            ("a\n\nb\n", "|\n        a\n\n        b\n"),
            ("a\n\n", "|+\n        a\n\n"),
            (" a\nb", "|4-\n         a\n        b\n"),
            ("a \nb", "\"a \\nb\"\n"),
            ("a\n\tb", "|-\n        a\n        \tb\n"),
        ] {
            assert_eq!(written(text), want, "{text:?}");
        }
    }

    #[test]
    fn lists_and_maps_stand_where_loki_puts_them() {
        let group = "name: g\nlimit: 3\nrules:\n    - alert: A\n      expr: |\n        sum(\n          1\n        )\n      for: 1m30s\n      labels:\n        \"yes\": |-\n            a\n            b\n    - record: r\n      expr: \"1\"\n";
        let read = Group::from_yaml(group).unwrap();
        assert_eq!(of_group(&read), group);
        let inside: String = group
            .lines()
            .skip(1)
            .map(|line| match line {
                "" => "\n".to_owned(),
                line => format!("      {line}\n"),
            })
            .collect();
        let both = of_namespaces(&BTreeMap::from([("ns".to_owned(), vec![read])]));
        assert!(both.starts_with("ns:\n    - name: g\n      limit: 3\n      rules:\n        - alert: A\n          expr: |\n            sum(\n"), "{both}");
        assert_eq!(both.lines().count(), inside.lines().count() + 2);
    }

    fn any_text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[ -~]{0,6}",
            Just("\n".to_owned()),
            Just(" ".to_owned()),
            Just("\t".to_owned()),
            Just("- ".to_owned()),
            Just(": ".to_owned()),
            any::<char>().prop_map(|c| c.to_string()),
        ];
        vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_group_is_read_back_as_it_was_written(
            name in any_text(),
            namespace in any_text(),
            expr in any_text(),
            texts in btree_map(any_text(), any_text(), 0..4),
        ) {
            let rule = Rule { alert: "A".to_owned(), expr, annotations: texts, ..Rule::default() };
            let group = Group { name, rules: vec![rule], ..Group::default() };
            let yaml = of_group(&group);
            let read = Group::from_yaml(&yaml);
            prop_assert_eq!(read.as_ref(), Ok(&group), "{}", yaml);
            let groups = BTreeMap::from([(namespace, vec![group])]);
            let yaml = of_namespaces(&groups);
            let read: Result<BTreeMap<String, Vec<Group>>, _> = serde_saphyr::from_str(&yaml);
            prop_assert!(read.as_ref().is_ok_and(|read| *read == groups), "{:?}\n{}", read, yaml);
        }
    }
}
