use std::fmt;
use std::sync::Arc;

use super::super::ast::Grouping;
use super::super::parse::quote;
use super::super::pipeline::LabelPairs;

/// The labels of a result: sorted by name, names unique. Unlike [`model::Labels`] a value may be
/// empty, because a parser may extract an empty value and that differs from extracting none. Cheap
/// to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LabelSet {
    pairs: LabelPairs,
}

impl LabelSet {
    /// Sorts the pairs by name; of equal names the last one wins.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut pairs: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
        LabelSet {
            pairs: pairs.into(),
        }
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|at| &*self.pairs[at].1)
    }

    /// All pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Sets or replaces one label; an empty value is kept.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let mut pairs = self.pairs.to_vec();
        match self.find(name) {
            Ok(at) => pairs[at].1 = value.into(),
            Err(at) => pairs.insert(at, (name.into(), value.into())),
        }
        self.pairs = pairs.into();
    }

    /// Takes one label away.
    pub(super) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            let mut pairs = self.pairs.to_vec();
            pairs.remove(at);
            self.pairs = pairs.into();
        }
    }

    /// The labels whose name is (or is not) in `names`.
    pub(super) fn project(&self, names: &[String], keep: bool) -> LabelSet {
        let pairs = self.pairs.iter();
        LabelSet {
            pairs: pairs
                .filter(|(name, _)| names.iter().any(|n| **n == **name) == keep)
                .cloned()
                .collect(),
        }
    }

    /// What makes two series belong to one group: unlike [`group`](Self::group) with labels whose
    /// value is empty.
    pub(super) fn group_key(&self, grouping: Option<&Grouping>) -> LabelSet {
        match grouping {
            Some(grouping) if grouping.without => self.project(&grouping.labels, false),
            other => self.group(other),
        }
    }

    /// What is left after `by` or `without`; no grouping is `by ()`.
    pub(super) fn group(&self, grouping: Option<&Grouping>) -> LabelSet {
        match grouping {
            None => LabelSet::default(),
            Some(grouping) if grouping.without => {
                self.project(&grouping.labels, false).without_empty()
            }
            Some(grouping) => self.project(&grouping.labels, true),
        }
    }

    /// The set without labels whose value is empty. As in Loki, only selections (`by`, filters,
    /// comparisons with a number) keep such labels; what builds a new set does not.
    pub(super) fn without_empty(self) -> LabelSet {
        if self.pairs.iter().all(|(_, value)| !value.is_empty()) {
            return self;
        }
        let pairs = self.pairs.iter().filter(|(_, value)| !value.is_empty());
        LabelSet {
            pairs: pairs.cloned().collect(),
        }
    }

    /// About how much memory the set holds.
    pub(super) fn memory_bytes(&self) -> usize {
        let pairs = self.pairs.iter();
        pairs
            .map(|(name, value)| 48 + name.len() + value.len())
            .sum()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(n, _)| (**n).cmp(name))
    }
}

impl From<&model::Labels> for LabelSet {
    fn from(labels: &model::Labels) -> Self {
        LabelSet {
            pairs: labels.iter().map(|(n, v)| (n.into(), v.into())).collect(),
        }
    }
}

impl From<&LabelPairs> for LabelSet {
    fn from(pairs: &LabelPairs) -> Self {
        LabelSet {
            pairs: Arc::clone(pairs),
        }
    }
}

/// `{a="x", b="y"}`, values quoted as in Go.
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={}", quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_names_wins_and_empty_values_stay() {
        let set = LabelSet::new([("b", "1"), ("a", ""), ("b", "2")]);
        assert_eq!(set.to_string(), r#"{a="", b="2"}"#);
        assert_eq!(set.get("a"), Some(""));
        assert_eq!(set.get("c"), None);
    }

    #[test]
    fn values_are_printed_with_gos_escapes() {
        let set = LabelSet::new([("a", "é\u{7f}\u{1}\n\"")]);
        assert_eq!(set.to_string(), r#"{a="é\x7f\x01\n\""}"#);
    }

    #[test]
    fn grouping_keeps_or_drops_the_named_labels() {
        let set = LabelSet::new([("a", "1"), ("b", "2")]);
        let group = |without| Grouping {
            without,
            labels: vec!["a".into(), "z".into()],
        };
        assert_eq!(set.group(Some(&group(false))).to_string(), r#"{a="1"}"#);
        assert_eq!(set.group(Some(&group(true))).to_string(), r#"{b="2"}"#);
        assert!(set.group(None).is_empty());
    }
}
