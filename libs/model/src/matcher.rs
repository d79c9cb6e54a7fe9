use std::fmt;
use std::sync::Arc;

use crate::Labels;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A compiled, anchored regular expression over label values. The query crate has the engine; this
/// crate only needs its answer.
pub trait ValuePattern: fmt::Debug + Send + Sync {
    /// Whether the whole value matches.
    fn is_match(&self, value: &str) -> bool;
}

/// One condition on one label; an absent label counts as the empty value.
#[derive(Clone)]
pub struct LabelMatcher {
    /// The label.
    pub name: Box<str>,
    /// The comparison.
    pub op: MatchOp,
    /// The text on the right, as written, without anchors.
    pub value: Box<str>,
    pattern: Option<Arc<dyn ValuePattern>>,
}

impl LabelMatcher {
    /// `name = value`, or `name != value`.
    pub fn text(name: &str, negated: bool, value: &str) -> Self {
        LabelMatcher {
            name: name.into(),
            op: if negated {
                MatchOp::NotEqual
            } else {
                MatchOp::Equal
            },
            value: value.into(),
            pattern: None,
        }
    }

    /// `name =~ value`, or `name !~ value`; `pattern` is `value` compiled and anchored.
    pub fn regex(name: &str, negated: bool, value: &str, pattern: Arc<dyn ValuePattern>) -> Self {
        LabelMatcher {
            name: name.into(),
            op: if negated {
                MatchOp::NotRegex
            } else {
                MatchOp::Regex
            },
            value: value.into(),
            pattern: Some(pattern),
        }
    }

    /// Whether a label value passes; "" for an absent label.
    pub fn is_match(&self, value: &str) -> bool {
        let negated = matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex);
        let same = match &self.pattern {
            Some(pattern) => pattern.is_match(value),
            None => *self.value == *value,
        };
        same != negated
    }
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for LabelMatcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for LabelMatcher {}

/// All matchers must pass; the empty selector passes every stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The conditions.
    pub matchers: Vec<LabelMatcher>,
}

impl Selector {
    /// Whether the label set passes every matcher.
    pub fn is_match(&self, labels: &Labels) -> bool {
        self.matchers
            .iter()
            .all(|m| m.is_match(labels.get(&m.name).unwrap_or("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct StartsWith(&'static str);
    impl ValuePattern for StartsWith {
        fn is_match(&self, value: &str) -> bool {
            value.starts_with(self.0)
        }
    }

    #[test]
    fn an_absent_label_is_the_empty_value() {
        let labels = Labels::new([("app", "web")]).unwrap();
        let select = |m: LabelMatcher| Selector { matchers: vec![m] }.is_match(&labels);
        assert!(select(LabelMatcher::text("app", false, "web")));
        assert!(select(LabelMatcher::text("pod", false, "")));
        assert!(select(LabelMatcher::text("pod", true, "x")));
        assert!(!select(LabelMatcher::text("pod", true, "")));
        let pattern = Arc::new(StartsWith("w"));
        assert!(select(LabelMatcher::regex(
            "app",
            false,
            "w.*",
            Arc::<StartsWith>::clone(&pattern)
        )));
        assert!(!select(LabelMatcher::regex("app", true, "w.*", pattern)));
    }
}
