//! What is wrong with a group, in Loki's words.

use model::NANOS_PER_SECOND;
use query::logql::parse;
use query::logql::pipeline::AlertTemplate;

use super::group::{Group, Rule};
use crate::http::print_duration;

/// What a server takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Most rules of a group; 0 means no limit.
    pub(crate) rules_max: usize,
    /// Whether recorded series have a place to go.
    pub(crate) records: bool,
}

/// Why a group is refused.
pub(crate) fn refusal(group: &Group, allowed: &Allowed) -> Option<String> {
    let mut problems = Vec::new();
    if group.name.is_empty() {
        problems.push("group 0: Groupname must not be empty".to_owned());
    }
    if (1..NANOS_PER_SECOND).contains(&group.interval.0) {
        let interval = print_duration(group.interval.0);
        problems.push(format!(
            "interval {interval} is too short: a second is the shortest"
        ));
    }
    if let Some(name) = group.labels.keys().find(|name| !is_label_name(name)) {
        problems.push(format!("invalid label name: {name}"));
    }
    problems.extend(group.rules.iter().filter_map(|rule| problem(group, rule)));
    if !problems.is_empty() {
        return Some(problems.join(", "));
    }
    let rules = group.rules.len();
    if allowed.rules_max > 0 && rules > allowed.rules_max {
        let max = allowed.rules_max;
        return Some(format!(
            "per-user rules per rule group limit (limit: {max} actual: {rules}) exceeded"
        ));
    }
    let recording = group.rules.iter().find(|rule| !rule.is_alert());
    match recording {
        Some(rule) if !allowed.records => Some(format!(
            "recording rule '{}' has nowhere to write to: this server stores no metrics; set rules_remote_write_url \
             to a Prometheus remote write endpoint",
            rule.record
        )),
        _ => None,
    }
}

/// The first thing that is wrong with a rule.
fn problem(group: &Group, rule: &Rule) -> Option<String> {
    if rule.is_alert() != rule.record.is_empty() {
        let text = match rule.is_alert() {
            true => "only one of 'record' and 'alert' must be set",
            false => "one of 'record' or 'alert' must be set",
        };
        return Some(text.to_owned());
    }
    if rule.expr.is_empty() {
        return Some("field 'expr' must be set in rule".to_owned());
    }
    if let Err(error) = parse(&rule.expr) {
        let kind = if rule.is_alert() { "alert" } else { "record" };
        return Some(format!(
            "could not parse expression for {kind} '{}' in group '{}': {error}",
            rule.name(),
            group.name
        ));
    }
    problem_of_record(rule).or_else(|| problem_of_texts(rule))
}

fn problem_of_record(rule: &Rule) -> Option<String> {
    if rule.is_alert() {
        return None;
    }
    let field = |name: &str| Some(format!("invalid field '{name}' in recording rule"));
    if !rule.annotations.is_empty() {
        return field("annotations");
    }
    if rule.hold.0 != 0 {
        return field("for");
    }
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    match is_name(&rule.record, is_start) {
        true => None,
        false => Some(format!("invalid recording rule name: {}", rule.record)),
    }
}

fn problem_of_texts(rule: &Rule) -> Option<String> {
    if let Some(name) = rule.labels.keys().find(|name| !is_label_name(name)) {
        return Some(format!("invalid label name: {name}"));
    }
    let is_annotation = |name: &str| is_name(name, is_letter);
    if let Some(name) = rule.annotations.keys().find(|name| !is_annotation(name)) {
        return Some(format!("invalid annotation name: {name}"));
    }
    if !rule.is_alert() {
        return None;
    }
    let labels = rule.labels.iter().map(|pair| ("label", pair));
    let annotations = rule.annotations.iter().map(|pair| ("annotation", pair));
    labels.chain(annotations).find_map(|(kind, (name, text))| {
        let read = AlertTemplate::parse(&template_name(rule), text);
        read.err().map(|error| format!("{kind} {name:?}: {error}"))
    })
}

/// What errors call the templates of a rule.
pub(crate) fn template_name(rule: &Rule) -> String {
    format!("__alert_{}", rule.alert)
}

fn is_label_name(name: &str) -> bool {
    is_name(name, is_letter) && name != "__name__"
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_name(name: &str, is_start: impl Fn(char) -> bool) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(&is_start) && chars.all(|c| is_start(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed {
        rules_max: 3,
        records: true,
    };

    fn refused(yaml: &str) -> Option<String> {
        refusal(&Group::from_yaml(yaml).unwrap(), &ALLOWED)
    }

    #[test]
    fn what_is_wrong_is_told_as_loki_tells_it() {
        let expr = "expr: 'sum(rate({a=\"b\"}[1m]))'";
        for (rule, want) in [
            (
                format!("alert: A, record: b, {expr}"),
                "only one of 'record' and 'alert' must be set",
            ),
            (expr.to_owned(), "one of 'record' or 'alert' must be set"),
            ("alert: A".to_owned(), "field 'expr' must be set in rule"),
            (
                "alert: A, expr: 'sum(rate({a=\"b\"}[1m])'".to_owned(),
                "could not parse expression for alert 'A' in group 'g': parse error at line 1, col 22: syntax error: unexpected $end",
            ),
            (
                "record: A, expr: 'foo bar'".to_owned(),
                "could not parse expression for record 'A' in group 'g': parse error at line 1, col 1: syntax error: unexpected IDENTIFIER",
            ),
            (
                format!("record: A, for: 1m, {expr}"),
                "invalid field 'for' in recording rule",
            ),
            (
                format!("record: A, annotations: {{a: b}}, {expr}"),
                "invalid field 'annotations' in recording rule",
            ),
            (
                format!("record: 'a b', {expr}"),
                "invalid recording rule name: a b",
            ),
            (
                format!("record: 'ü', {expr}"),
                "invalid recording rule name: ü",
            ),
            (
                format!("alert: A, labels: {{'1 x': b}}, {expr}"),
                "invalid label name: 1 x",
            ),
            (
                format!("alert: A, labels: {{__name__: b}}, {expr}"),
                "invalid label name: __name__",
            ),
            (
                format!("alert: A, annotations: {{'1 x': b}}, {expr}"),
                "invalid annotation name: 1 x",
            ),
            (
                format!(
                    "alert: A, labels: {{x: '{{{{ $labels.x '}}, annotations: {{y: '{{{{ foo }}}}'}}, {expr}"
                ),
                "label \"x\": template: __alert_A:1: unclosed action",
            ),
            (
                format!("alert: A, annotations: {{y: '{{{{ foo }}}}'}}, {expr}"),
                "annotation \"y\": template: __alert_A:1: function \"foo\" not defined",
            ),
        ] {
            let yaml = format!("name: g\nrules:\n- {{{rule}}}\n");
            assert_eq!(refused(&yaml).as_deref(), Some(want), "{yaml}");
        }
        assert_eq!(
            refused("rules:\n- expr: a\n").as_deref(),
            Some("group 0: Groupname must not be empty, one of 'record' or 'alert' must be set")
        );
    }

    #[test]
    fn good_groups_pass_also_with_equal_rules_and_without_any() {
        let rule = "- {alert: A, expr: vector(1)}\n";
        for rules in [
            "".to_owned(),
            rule.repeat(2),
            "- {alert: 'A{}', expr: '{a=\"b\"}'}\n".to_owned(),
        ] {
            assert_eq!(refused(&format!("name: g\nrules:\n{rules}")), None);
        }
        assert_eq!(
            refused(&format!("name: g\nrules:\n{}", rule.repeat(4))).as_deref(),
            Some("per-user rules per rule group limit (limit: 3 actual: 4) exceeded")
        );
    }

    #[test]
    fn groups_are_evaluated_each_second_at_most() {
        for (interval, is_refused) in [("0s", false), ("1ms", true), ("999ms", true), ("1s", false)]
        {
            let refused = refused(&format!("name: g\ninterval: {interval}\nrules: []\n"));
            assert_eq!(refused.is_some(), is_refused, "{interval}: {refused:?}");
        }
    }

    #[test]
    fn recording_needs_a_place_to_write_to() {
        let group = Group::from_yaml("name: g\nrules:\n- {record: a, expr: vector(1)}\n").unwrap();
        let nowhere = Allowed {
            records: false,
            ..ALLOWED
        };
        let refused = refusal(&group, &nowhere).unwrap();
        assert!(refused.contains("rules_remote_write_url"), "{refused}");
        assert_eq!(refusal(&group, &ALLOWED), None);
    }
}
