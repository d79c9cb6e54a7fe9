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

/// What the rules of a group give at a time, one rule after the other.
pub(crate) async fn evaluate(
    shared: &Shared,
    tenant: &TenantId,
    group: &Arc<Group>,
    at: Timestamp,
) -> Vec<Evaluated> {
    let mut evaluated = Vec::with_capacity(group.rules.len());
    let time = at.saturating_sub(group.query_offset.0);
    for number in 0..group.rules.len() {
        let began = shared.now();
        let work = Work {
            group: Arc::clone(group),
            number,
            time,
            limits: engine::Limits {
                series_max: shared.config.series_max,
                detect_level: shared.config.discover_log_levels,
                series_partial: false,
            },
            external_url: external_url(&shared.config.rules_external_url).into(),
            length_max: i64::try_from(shared.config.query_length_max.as_nanos())
                .unwrap_or(i64::MAX),
        };
        let tenants = Tenants::of(tenant.clone());
        let patience = shared.config.query_timeout;
        let done = shared.run(&tenants, patience, move |source, budget| {
            work.results(source, budget)
        });
        let results = done.await.map(|(results, _)| results);
        evaluated.push(Evaluated {
            results: results.map_err(|error| error.to_string()),
            at: began,
            nanos: shared.now().saturating_sub(began).max(0),
        });
    }
    evaluated
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
        let rule = &self.group.rules[self.number];
        let samples = self.vector(&rule.expr, source, budget)?;
        if !rule.is_alert() {
            let samples = samples.into_iter();
            let samples = samples.map(|(labels, value)| (texts(&labels), value));
            return Ok(Results::Samples(samples.collect()));
        }
        let queries = |query: &str| {
            let samples = self.vector(query, source, budget);
            let samples = samples.map_err(|error| error.to_string())?;
            let sample =
                |(labels, value): (LabelSet, f64)| -> AlertSample { (pairs(&labels), value) };
            Ok(samples.into_iter().map(sample).collect())
        };
        let templates = Templates::of(&self.group, rule);
        let found = samples.into_iter().map(|(labels, value)| {
            let data = AlertData {
                labels: pairs(&labels),
                value,
                external_url: Arc::clone(&self.external_url),
            };
            let expand = |template: &Text| template.expand(&data, &queries);
            let mut own = texts(&labels);
            own.remove("__name__");
            for (name, template) in &templates.labels {
                own.insert(name.clone(), expand(template));
            }
            own.insert("alertname".to_owned(), rule.alert.clone());
            own.retain(|_, text| !text.is_empty());
            let annotations = templates.annotations.iter();
            Found {
                labels: own,
                annotations: annotations
                    .map(|(name, template)| (name.clone(), expand(template)))
                    .collect(),
                value,
            }
        });
        Ok(Results::Found(found.collect()))
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

/// The compiled texts of a rule.
struct Templates {
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
    fn expand(
        &self,
        data: &AlertData,
        queries: &dyn Fn(&str) -> Result<Vec<AlertSample>, String>,
    ) -> String {
        let (name, doing, error) = match self {
            Text::Plain(text) => return text.clone(),
            Text::Template(name, Err(error)) => (name, "parsing", error.clone()),
            Text::Template(name, Ok(template)) => match template.expand(data, queries) {
                Ok(text) => return text,
                Err(error) => (name, "executing", error),
            },
        };
        format!("<error expanding template: error {doing} template {name}: {error}>")
    }
}

fn texts(labels: &LabelSet) -> Texts {
    let labels = labels.iter();
    labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn pairs(labels: &LabelSet) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(n, v)| (n.into(), v.into())).collect()
}
