//! Evaluates one group: queries, and the templates of what they find.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{TenantId, Timestamp};
use query::Budget;
use query::logql::ast::Expr;
use query::logql::engine::{self, LabelSet, Value};
use query::logql::parse;
use query::logql::pipeline::{AlertData, AlertSample, AlertTemplate};

use super::alerts::Found;
use super::check::template_name;
use super::decide::{Evaluated, Results};
use super::group::{Group, Rule, Texts};
use crate::Error;
use crate::http::{longest_window, refuse_longer};
use crate::run::Shared;
use crate::tenants::{Tenants, TenantsSource};

const NOT_NUMBERS: &str = "rule result is not a vector or scalar";

/// Bytes of one text of an alert.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all names and texts that one rule gives.
const RESULT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What each text takes beside its bytes, about.
const TEXT_OVERHEAD: usize = 64;

/// What a rule of a group gives at a time.
pub(crate) async fn evaluate(
    shared: &Shared,
    tenant: &TenantId,
    group: &Arc<Group>,
    number: usize,
    at: Timestamp,
) -> Evaluated {
    let began = shared.now();
    let work = Work {
        group: Arc::clone(group),
        number,
        time: at.saturating_sub(group.query_offset.0),
        limits: engine::Limits {
            series_max: shared.config.series_max,
            detect_level: shared.config.discover_log_levels,
            series_partial: false,
        },
        external_url: external_url(&shared.config.rules_external_url).into(),
        length_max: i64::try_from(shared.config.query_length_max.as_nanos()).unwrap_or(i64::MAX),
    };
    let tenants = Tenants::of(tenant.clone());
    let patience = shared.config.query_timeout;
    let done = shared.run(&tenants, patience, move |source, budget| {
        work.results(source, budget)
    });
    let results = done.await.map(|(results, _)| results);
    Evaluated {
        results: results.map_err(|error| error.to_string()),
        at: began,
        nanos: shared.now().saturating_sub(began).max(0),
    }
}

/// Where people reach this server, without a slash at the end.
pub(crate) fn external_url(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// One rule.
struct Work {
    group: Arc<Group>,
    number: usize,
    time: Timestamp,
    limits: engine::Limits,
    external_url: Arc<str>,
    /// Longest time that a query may look at, nanoseconds; 0 means no limit.
    length_max: i64,
}

impl Work {
    fn results(&self, source: &TenantsSource, budget: &Budget) -> Result<Results, Error> {
        let Some(rule) = self.group.rules.get(self.number) else {
            return Err(Error::Internal("there is no such rule".to_owned()));
        };
        let samples = self.vector(&rule.expr, source, budget)?;
        if !rule.is_alert() {
            return recorded(samples, budget);
        }
        let queries = |query: &str| {
            let samples = self.vector(query, source, budget);
            let samples = samples.map_err(|error| error.to_string())?;
            let sample =
                |(labels, value): (LabelSet, f64)| -> AlertSample { (pairs(&labels), value) };
            Ok(samples.into_iter().map(sample).collect())
        };
        let templates = Templates::of(&self.group, rule);
        let found = found(&templates, samples, &self.external_url, budget, &queries)?;
        Ok(Results::Found(found))
    }

    /// The samples of a query at the rule's time; a number is one without labels.
    fn vector(
        &self,
        query: &str,
        source: &TenantsSource,
        budget: &Budget,
    ) -> Result<Vec<(LabelSet, f64)>, Error> {
        let expr = parse(query)?;
        match &expr {
            Expr::Log(_) => return Err(Error::Invalid(NOT_NUMBERS.into())),
            Expr::Metric(metric) => refuse_longer(longest_window(metric), self.length_max)?,
        }
        let params = engine::Params {
            start: self.time,
            end: self.time,
            step: 0,
            interval: 0,
            limit: 0,
            direction: engine::Direction::Forward,
            now: Some(self.time),
        };
        let answer = engine::execute(&expr, &params, &self.limits, source, budget)?;
        match answer.value {
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|sample| (sample.labels, sample.value))
                .collect()),
            Value::Scalar { value, .. } => Ok(vec![(LabelSet::default(), value)]),
            Value::Streams(_) | Value::Matrix(_) => Err(Error::Invalid(NOT_NUMBERS.into())),
        }
    }
}

fn recorded(samples: Vec<(LabelSet, f64)>, budget: &Budget) -> Result<Results, Error> {
    let mut size = Size::default();
    let mut recorded = Vec::with_capacity(samples.len());
    for (labels, value) in samples {
        let labels = texts(&labels);
        size.add(&labels, budget)?;
        recorded.push((labels, value));
    }
    Ok(Results::Samples(recorded))
}

/// The alerts that the samples are, with their texts.
fn found(
    templates: &Templates,
    samples: Vec<(LabelSet, f64)>,
    external_url: &Arc<str>,
    budget: &Budget,
    queries: &dyn Fn(&str) -> Result<Vec<AlertSample>, String>,
) -> Result<Vec<Found>, Error> {
    let mut size = Size::default();
    let mut found = Vec::with_capacity(samples.len());
    for (labels, value) in samples {
        let data = AlertData {
            labels: pairs(&labels),
            value,
            external_url: Arc::clone(external_url),
        };
        let mut own = texts(&labels);
        own.remove("__name__");
        for (name, template) in &templates.labels {
            own.insert(name.clone(), template.expand(&data, budget, queries)?);
        }
        own.insert("alertname".to_owned(), templates.alert.clone());
        own.retain(|_, text| !text.is_empty());
        size.add(&own, budget)?;
        let mut annotations = Texts::new();
        for (name, template) in &templates.annotations {
            let text = template.expand(&data, budget, queries)?;
            size.add_one(name, &text, budget)?;
            annotations.insert(name.clone(), text);
        }
        found.push(Found {
            labels: own,
            annotations,
            value,
        });
    }
    Ok(found)
}

/// Bytes that a rule gives; they count against the query's memory.
#[derive(Debug, Default)]
struct Size(usize);

impl Size {
    fn add(&mut self, texts: &Texts, budget: &Budget) -> Result<(), Error> {
        let mut texts = texts.iter();
        texts.try_for_each(|(name, text)| self.add_one(name, text, budget))
    }

    fn add_one(&mut self, name: &str, text: &str, budget: &Budget) -> Result<(), Error> {
        let bytes = name.len() + text.len() + TEXT_OVERHEAD;
        budget.take_memory(bytes as u64)?;
        self.0 = self.0.saturating_add(bytes);
        match self.0 > RESULT_BYTES_MAX {
            false => Ok(()),
            true => Err(Error::TooLarge(format!(
                "labels and annotations of what the rule finds are more than {RESULT_BYTES_MAX} bytes; make them \
                 shorter, or let the query find fewer series"
            ))),
        }
    }
}

/// The compiled texts of a rule.
struct Templates {
    /// Its name.
    alert: String,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
}

enum Text {
    Plain(String),
    Template(String, Result<AlertTemplate, String>),
}

impl Templates {
    fn of(group: &Group, rule: &Rule) -> Templates {
        let name = template_name(rule);
        let compile = |texts: &Texts| {
            let texts = texts.iter();
            texts
                .map(|(label, text)| (label.clone(), Text::of(&name, text)))
                .collect()
        };
        Templates {
            alert: rule.alert.clone(),
            labels: compile(&group.labels_of(rule)),
            annotations: compile(&rule.annotations),
        }
    }
}

impl Text {
    fn of(name: &str, text: &str) -> Text {
        match text.contains("{{") {
            true => Text::Template(name.to_owned(), AlertTemplate::parse(name, text)),
            false => Text::Plain(text.to_owned()),
        }
    }

    /// What is wrong stands in the text, as in Prometheus: an alert must not be lost for its words.
    ///
    /// # Errors
    /// When the time of the query is over.
    fn expand(
        &self,
        data: &AlertData,
        budget: &Budget,
        queries: &dyn Fn(&str) -> Result<Vec<AlertSample>, String>,
    ) -> Result<String, Error> {
        budget.check()?;
        let (name, doing, error) = match self {
            Text::Plain(text) => return Ok(not_too_long(text.clone())),
            Text::Template(name, Err(error)) => (name, "parsing", error.clone()),
            Text::Template(name, Ok(template)) => {
                match template.expand_until(data, queries, budget.halt()) {
                    Ok(text) => return Ok(not_too_long(text)),
                    Err(error) => (name, "executing", error),
                }
            }
        };
        // A query within that was broken off is no fault of the words.
        budget.check()?;
        Ok(not_too_long(format!(
            "<error expanding template: error {doing} template {name}: {error}>"
        )))
    }
}

fn not_too_long(text: String) -> String {
    match text.len() > TEXT_BYTES_MAX {
        false => text,
        true => format!(
            "<error expanding template: the text has {} bytes, {TEXT_BYTES_MAX} are allowed>",
            text.len()
        ),
    }
}

fn texts(labels: &LabelSet) -> Texts {
    let labels = labels.iter();
    labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn pairs(labels: &LabelSet) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(n, v)| (n.into(), v.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(annotation: &str) -> Templates {
        let mut group = Group::default();
        group.rules.push(Rule {
            alert: "A".to_owned(),
            annotations: Texts::from([("a".to_owned(), annotation.to_owned())]),
            ..Rule::default()
        });
        Templates::of(&group, &group.rules[0])
    }

    fn expanded(
        annotation: &str,
        samples: usize,
        budget: &Budget,
        query: impl Fn(),
    ) -> Result<Vec<Found>, Error> {
        let samples = vec![(LabelSet::default(), 1.0); samples];
        let queries = |_: &str| {
            query();
            Ok(Vec::new())
        };
        found(
            &templates(annotation),
            samples,
            &"".into(),
            budget,
            &queries,
        )
    }

    #[test]
    fn an_alert_with_too_long_a_text_says_so_instead() {
        for annotation in [
            "x".repeat(16 * 1024 + 1),
            "{{ printf \"%20000d\" 1 }}".to_owned(),
        ] {
            let found = expanded(&annotation, 1, &Budget::unlimited(), || ()).unwrap();
            let text = &found[0].annotations["a"];
            assert!(text.contains("16384 are allowed"), "{text}");
        }
        let whole = "x".repeat(16 * 1024);
        let found = expanded(&whole, 1, &Budget::unlimited(), || ()).unwrap();
        assert_eq!(found[0].annotations["a"], whole);
    }

    #[test]
    fn a_rule_that_says_too_much_fails() {
        let text = "x".repeat(10_000);
        let budget = Budget::unlimited();
        assert_eq!(expanded(&text, 400, &budget, || ()).unwrap().len(), 400);
        let refused = expanded(&text, 450, &budget, || ()).unwrap_err();
        assert!(
            matches!(&refused, Error::TooLarge(text) if text.contains("4194304")),
            "{refused}"
        );
    }

    #[test]
    fn what_alerts_say_counts_as_memory_of_the_query() {
        let text = "x".repeat(10_000);
        let refused = expanded(&text, 20, &Budget::new(100_000, 0), || ()).unwrap_err();
        assert!(refused.to_string().contains("bytes of memory"), "{refused}");
        assert!(expanded(&text, 5, &Budget::new(100_000, 0), || ()).is_ok());
    }

    #[test]
    fn texts_are_not_written_when_the_time_is_over() {
        let budget = Budget::unlimited();
        let count = std::cell::Cell::new(0);
        let query = || {
            count.set(count.get() + 1);
            budget.time_out();
        };
        let refused = expanded("{{ query \"vector(1)\" }}", 100, &budget, query).unwrap_err();
        assert!(matches!(refused, Error::Timeout), "{refused}");
        assert_eq!(count.get(), 1);
    }
}
