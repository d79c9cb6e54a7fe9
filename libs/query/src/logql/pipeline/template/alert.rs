//! Templates of alerts, in labels and annotations of rules: Go's language with the functions that
//! Prometheus has for them, under the limits that all templates have.

mod functions;

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::parse::ListNode;

use super::functions::{Failure, Outcome, fail, text};
use super::run::{self, Dialect, Program, Queries};
use super::syntax;
use super::value::Value;
use crate::Halt;

pub(super) use self::functions::{call, signature};

/// What stands before each template, so that it may say `$labels` for `.Labels`.
const VARIABLES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
     {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// A sample of a query's answer: labels by name, and the value.
pub type AlertSample = (BTreeMap<Arc<str>, Arc<str>>, f64);

/// Answers the queries of a template.
pub type AlertQueries<'a> = dyn Fn(&str) -> Result<Vec<AlertSample>, String> + 'a;

/// What a template may look at.
#[derive(Clone, Debug)]
pub struct AlertData {
    /// `.Labels`: those of the sample.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// `.Value`.
    pub value: f64,
    /// `.ExternalURL`: where people reach this server.
    pub external_url: Arc<str>,
}

/// A template of an alert.
pub struct AlertTemplate(Program);

impl AlertTemplate {
    /// Reads a template. `name` is what errors call it.
    ///
    /// # Errors
    /// What is wrong with it, in Go's words.
    pub fn parse(name: &str, source: &str) -> Result<AlertTemplate, String> {
        let source = format!("{VARIABLES}{source}");
        let knows = |name: &str| signature(name).is_some();
        if let Some((line, problem)) = syntax::refusal(name, &source, &knows) {
            return Err(format!("template: {name}:{line}: {problem}"));
        }
        let wrong = |error: gotmpl::TemplateError| without_column(name, &error.to_string());
        let template = gotmpl::Template::new(name).parse(&source).map_err(wrong)?;
        let trees: BTreeMap<String, ListNode> = template
            .templates()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), template.lookup(name)?.clone())))
            .collect();
        Ok(AlertTemplate(Program {
            kind: name.into(),
            dialect: Dialect::Alerts,
            source,
            trees,
        }))
    }

    /// The text that it makes of the data. Runs the queries that it contains, if any.
    ///
    /// # Errors
    /// What failed and where, in Go's words, or that it exceeds a limit.
    pub fn expand(&self, data: &AlertData, queries: &AlertQueries<'_>) -> Result<String, String> {
        self.expand_until(data, queries, &Halt::default())
    }

    /// As [`expand`](Self::expand); ends, with an error, when `halt` is set.
    ///
    /// # Errors
    /// As `expand`, or that it has to end.
    pub fn expand_until(
        &self,
        data: &AlertData,
        queries: &AlertQueries<'_>,
        halt: &Halt,
    ) -> Result<String, String> {
        let members: BTreeMap<Arc<str>, Value> = [
            ("Labels", Value::Labels(Arc::new(data.labels.clone()))),
            ("ExternalLabels", Value::Labels(Arc::default())),
            ("ExternalURL", Value::String(Arc::clone(&data.external_url))),
            ("Value", Value::Float(data.value)),
        ]
        .into_iter()
        .map(|(name, value)| (Arc::from(name), value))
        .collect();
        let mut out = String::new();
        let answer = |args: &[Value]| answer(args, queries);
        let queries: &Queries<'_> = &answer;
        run::run_with(
            &self.0,
            &Value::Map(Arc::new(members)),
            queries,
            halt,
            &mut out,
        )?;
        Ok(out)
    }
}

impl std::fmt::Debug for AlertTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertTemplate")
            .field("name", &self.0.kind)
            .finish_non_exhaustive()
    }
}

/// Go tells only the line of what cannot be read.
fn without_column(name: &str, message: &str) -> String {
    let start = format!("template: {name}:");
    let parts = message.strip_prefix(&start).and_then(|place| {
        let (line, rest) = place.split_once(':')?;
        let (column, rest) = rest.split_once(':')?;
        column.parse::<usize>().ok()?;
        Some(format!("{start}{line}:{rest}"))
    });
    parts.unwrap_or_else(|| message.to_owned())
}

fn answer(args: &[Value], queries: &AlertQueries<'_>) -> Outcome {
    let samples = queries(text(args, 0)?).map_err(Failure)?;
    let sample = |(labels, value): AlertSample| {
        let members = [
            (Arc::from("Labels"), Value::Labels(Arc::new(labels))),
            (Arc::from("Value"), Value::Float(value)),
        ];
        Value::Map(Arc::new(members.into_iter().collect()))
    };
    Ok(Value::List(samples.into_iter().map(sample).collect()))
}

/// No query is answered: templates of lines have none.
pub(super) fn no_queries(_: &[Value]) -> Outcome {
    Err(fail("queries are not answered here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: f64) -> AlertData {
        let labels = [("app", "shop"), ("instance", "host.example:3100")];
        AlertData {
            labels: labels.map(|(n, v)| (n.into(), v.into())).into(),
            value,
            external_url: "http://pharos:3100/x".into(),
        }
    }

    fn expand(source: &str, value: f64) -> Result<String, String> {
        let template = AlertTemplate::parse("__alert_A", source)?;
        let queries = |query: &str| match query {
            "bad" => Err("cannot run".to_owned()),
            query => {
                let sample = |app: &str, value| {
                    let labels = [("app", app), ("query", query)];
                    (labels.map(|(n, v)| (n.into(), v.into())).into(), value)
                };
                Ok(vec![sample("b", 2.0), sample("a", 1.0)])
            }
        };
        template.expand(&data(value), &queries)
    }

    #[test]
    fn labels_and_values_are_at_hand_under_both_names() {
        for (source, want) in [
            ("{{ $labels.app }} {{ .Labels.app }}", "shop shop"),
            ("[{{ $labels.nope }}]", "[]"),
            ("{{ $value }} {{ .Value }}", "1234.5 1234.5"),
            ("{{ printf \"%.1f\" $value }}", "1234.5"),
            ("{{ $externalURL }}", "http://pharos:3100/x"),
            (
                "{{ if gt $value 1000.0 }}many{{ else }}few{{ end }}",
                "many",
            ),
            (
                "{{ range $name, $text := $labels }}{{ $name }}={{ $text }};{{ end }}",
                "app=shop;instance=host.example:3100;",
            ),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(source, 1234.5).as_deref(), Ok(want), "{source}");
        }
    }

    #[test]
    fn numbers_are_told_to_people_as_prometheus_does() {
        for (function, value, want) in [
            ("humanize", 0.0, "0"),
            ("humanize", 1.0, "1"),
            ("humanize", 1_234_567.0, "1.235M"),
            ("humanize", 0.001_234, "1.234m"),
            ("humanize", -1500.0, "-1.5k"),
            ("humanize", f64::INFINITY, "+Inf"),
            ("humanize1024", 1_048_576.0, "1Mi"),
            ("humanize1024", 1000.0, "1000"),
            ("humanize1024", 0.5, "0.5"),
            ("humanizeDuration", 0.0, "0s"),
            ("humanizeDuration", 0.0012, "1.2ms"),
            ("humanizeDuration", 59.5, "59.5s"),
            ("humanizeDuration", 90.0, "1m 30s"),
            ("humanizeDuration", 3600.0, "1h 0m 0s"),
            ("humanizeDuration", -90_061.0, "-1d 1h 1m 1s"),
            ("humanizePercentage", 0.1234, "12.34%"),
            (
                "humanizeTimestamp",
                1_435_065_584.128,
                "2015-06-23 13:19:44.128 +0000 UTC",
            ),
        ] {
            let source = format!("{{{{ $value | {function} }}}}");
            assert_eq!(
                expand(&source, value).as_deref(),
                Ok(want),
                "{function} {value}"
            );
        }
        let text = expand("{{ humanize \"2000\" }}", 0.0);
        assert_eq!(text.as_deref(), Ok("2k"));
    }

    #[test]
    fn texts_are_changed_by_functions_of_prometheus() {
        for (source, want) in [
            (
                "{{ \"a b\" | title }} {{ toUpper \"x\" }} {{ toLower \"Y\" }}",
                "A B X y",
            ),
            (
                "{{ reReplaceAll \"(.*):.*\" \"$1\" $labels.instance }}",
                "host.example",
            ),
            ("{{ match \"h.st\" $labels.instance }}", "true"),
            (
                "{{ stripPort $labels.instance }} {{ stripPort \"x\" }}",
                "host.example x",
            ),
            (
                "{{ stripDomain \"host.example:3100\" }} {{ stripDomain \"10.0.0.1:1\" }}",
                "host:3100 10.0.0.1:1",
            ),
            ("{{ parseDuration \"1h30m\" }}", "5400"),
            (
                "{{ pathPrefix }} {{ externalURL }}",
                "/x http://pharos:3100/x",
            ),
            ("{{ graphLink \"a b\" }}", "/graph?g0.expr=a+b&g0.tab=0"),
            ("{{ (toTime 0).Year }}", "1970"),
        ] {
            assert_eq!(expand(source, 0.0).as_deref(), Ok(want), "{source}");
        }
    }

    #[test]
    fn queries_are_answered_and_looked_at() {
        for (source, want) in [
            ("{{ query \"q\" | first | value }}", "2"),
            ("{{ query \"q\" | first | label \"query\" }}", "q"),
            (
                "{{ range query \"q\" | sortByLabel \"app\" }}{{ .Labels.app }}={{ .Value }} {{ end }}",
                "a=1 b=2 ",
            ),
            (
                "{{ with query \"q\" }}{{ . | first | value | humanize }}{{ end }}",
                "2",
            ),
        ] {
            assert_eq!(expand(source, 0.0).as_deref(), Ok(want), "{source}");
        }
        let failed = expand("{{ query \"bad\" }}", 0.0).unwrap_err();
        assert!(
            failed.ends_with("error calling query: cannot run"),
            "{failed}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_go() {
        for (source, want) in [
            ("{{ $labels.x ", "template: __alert_A:1: unclosed action"),
            (
                "{{ foo }}",
                "template: __alert_A:1: function \"foo\" not defined",
            ),
            (
                "{{ $x }}",
                "template: __alert_A:1: undefined variable \"$x\"",
            ),
            // A function of line templates that those of alerts do not have.
            (
                "{{ ToLower \"a\" }}",
                "template: __alert_A:1: function \"ToLower\" not defined",
            ),
        ] {
            let error = AlertTemplate::parse("__alert_A", source).map(|_| ());
            assert_eq!(error, Err(want.to_owned()), "{source}");
        }
        let error = expand("{{ humanize \"x\" }}", 0.0).unwrap_err();
        assert!(error.contains("error calling humanize"), "{error}");
        let error = expand(
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
            0.0,
        );
        assert!(error.unwrap_err().contains("maximum template depth"));
    }
}
