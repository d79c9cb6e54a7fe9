//! Rule groups: as people write them (YAML), as they are kept (JSON), as they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::http::{parse_duration, print_duration};

/// Labels, annotations: texts by name.
pub(crate) type Texts = BTreeMap<String, String>;

/// Rules that are evaluated together, at the same times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    #[serde(deserialize_with = "text")]
    pub(crate) name: String,
    /// How often it is evaluated; zero: as often as the server says.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub(crate) interval: Span,
    /// How far before its time it is evaluated, so that late records are seen.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub(crate) query_offset: Span,
    /// Most alerts or series of one rule; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) limit: i64,
    /// Labels of all its rules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "texts")]
    pub(crate) labels: Texts,
    #[serde(deserialize_with = "rules")]
    pub(crate) rules: Vec<Rule>,
}

/// One rule: it alerts, or it records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text")]
    pub(crate) record: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text")]
    pub(crate) alert: String,
    #[serde(deserialize_with = "text")]
    pub(crate) expr: String,
    /// How long the condition must hold before the alert fires.
    #[serde(rename = "for", skip_serializing_if = "Span::is_zero")]
    pub(crate) hold: Span,
    /// How long the alert goes on when the condition does not hold any more.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub(crate) keep_firing_for: Span,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "texts")]
    pub(crate) labels: Texts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "texts")]
    pub(crate) annotations: Texts,
}

/// A length of time, nanoseconds; written as Prometheus does: `1m30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) i64);

impl Span {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(Span(0)),
            Some(text) => parse_duration(&text)
                .map(Span)
                .map_err(serde::de::Error::custom),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde gives fields by reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A text that may be left empty: YAML then says null.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
    let texts: Option<BTreeMap<String, Option<String>>> = Option::deserialize(deserializer)?;
    let texts = texts.unwrap_or_default().into_iter();
    Ok(texts.map(|(n, v)| (n, v.unwrap_or_default())).collect())
}

fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    /// The name of the alert or of what is recorded.
    pub(crate) fn name(&self) -> &str {
        match self.is_alert() {
            true => &self.alert,
            false => &self.record,
        }
    }

    pub(crate) fn is_alert(&self) -> bool {
        !self.alert.is_empty()
    }
}

impl Group {
    /// Reads a group that somebody posts. Fields that are not known are looked over, as Loki does.
    pub(crate) fn from_yaml(text: &str) -> Result<Group, String> {
        if text.trim().is_empty() {
            return Ok(Group::default());
        }
        let group: Result<Option<Group>, _> = serde_saphyr::from_str(text);
        match group {
            Ok(group) => Ok(group.unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads a group as the catalog keeps it.
    pub(crate) fn from_kept(text: &str) -> Result<Group, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// As the catalog keeps it.
    pub(crate) fn kept(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    /// How often it is evaluated, nanoseconds.
    pub(crate) fn interval_or(&self, default: i64) -> i64 {
        match self.interval.0 {
            ..=0 => default.max(1),
            interval => interval,
        }
    }

    /// The rule's labels over those of the group.
    pub(crate) fn labels_of(&self, rule: &Rule) -> Texts {
        let mut labels = self.labels.clone();
        labels.extend(rule.labels.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use model::NANOS_PER_SECOND;

    use super::*;

    const WHOLE: &str = "\
name: t
interval: 90s
query_offset: 10s
limit: 3
labels: {team: x}
rules:
- alert: A
  expr: |
    sum by (x) (
      rate({a=\"b\"}[1m])
    ) > 0
  for: 1w2d
  keep_firing_for: 1d
  labels: {sev: page, num: 5, no: null, 'yes': 'true', colon: 'a: b', star: '*x', empty: ''}
  annotations: {s: 'x {{ $value }}', lines: \"a\\nb\", quoted: \"a'b\\\"c\"}
- record: r:x
  expr: sum(rate({a=\"b\"}[1m]))
";

    #[test]
    fn a_group_is_read_and_shown_without_loss() {
        let group = Group::from_yaml(WHOLE).unwrap();
        assert_eq!(group.interval, Span(90 * NANOS_PER_SECOND));
        assert_eq!((group.limit, group.rules.len()), (3, 2));
        let rule = &group.rules[0];
        assert_eq!(rule.hold, Span(9 * 86_400 * NANOS_PER_SECOND));
        assert_eq!(rule.labels["num"], "5");
        assert_eq!(rule.labels["no"], "");
        assert_eq!(rule.labels["yes"], "true");
        assert_eq!(rule.annotations["lines"], "a\nb");
        let shown = super::super::yaml::of_group(&group);
        assert!(shown.contains("interval: 1m30s\n"), "{shown}");
        assert!(shown.contains("for: 9d\n"), "{shown}");
        assert_eq!(Group::from_yaml(&shown), Ok(group.clone()), "{shown}");
        assert_eq!(Group::from_kept(&group.kept().unwrap()), Ok(group));
    }

    #[test]
    fn what_is_no_group_is_refused_and_unknown_fields_are_looked_over() {
        for text in [
            "hello",
            "- a",
            ": : :",
            "name: g\nrules: 5",
            "name: g\ninterval: 60",
            "name: g\ninterval: 1x",
            "name: g\ninterval: -1m",
            "name: g\nname: h",
            "name: [g]",
            "name: g\nrules:\n- alert: A\n  for: ''",
            "name: g\nrules:\n- labels: [a]",
        ] {
            assert!(Group::from_yaml(text).is_err(), "{text}");
        }
        for text in ["", "null", "\n", "other: 1", "rules:", "name:"] {
            assert_eq!(Group::from_yaml(text), Ok(Group::default()), "{text}");
        }
        let numbers = Group::from_yaml("name: 5\nrules:\n- alert: 0x1f\n  expr: 1\n").unwrap();
        assert_eq!((&*numbers.name, &*numbers.rules[0].alert), ("5", "0x1f"));
    }
}
