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
        if pairs.is_empty() {
            return LabelSet::default();
        }
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

    /// Whether these are the pairs, in order.
    pub(super) fn is<'a>(&self, mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut own = self.iter();
        pairs.all(|pair| own.next() == Some(pair)) && own.next().is_none()
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
        let stays = |name: &str| names.iter().any(|n| **n == *name) == keep;
        let mut pairs = self.pairs.iter();
        if pairs.all(|(name, _)| stays(name)) {
            return self.clone();
        }
        let pairs = self.pairs.iter();
        LabelSet {
            pairs: pairs.filter(|(name, _)| stays(name)).cloned().collect(),
        }
    }

    /// What makes two series belong to one group: unlike [`group`](Self::group) with labels whose
    /// value is empty.
    pub(super) fn group_key(&self, grouping: Option<&Grouping>) -> LabelSet {
        match grouping {
            None => LabelSet::default(),
            Some(grouping) => self.project(&grouping.labels, !grouping.without),
        }
    }

    /// What is left after `by` or `without`; no grouping is `by ()`.
    pub(super) fn group(&self, grouping: Option<&Grouping>) -> LabelSet {
        self.group_key(grouping).of_group(grouping)
    }

    /// The labels of the group that has this key.
    pub(super) fn of_group(self, grouping: Option<&Grouping>) -> LabelSet {
        match grouping {
            Some(grouping) if grouping.without => self.without_empty(),
            _ => self,
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

/// Items in order of their label sets.
///
/// Comparing two sets follows pointers to each of their texts, so what most likely tells sets apart is
/// compared first: 16 bytes of the first value that not all have in common.
pub(super) fn by_labels<T>(
    items: Vec<T>,
    labels: impl Fn(&T) -> &LabelSet,
) -> impl ExactSizeIterator<Item = T> {
    let place = first_difference(items.iter().map(&labels));
    let keyed = items.into_iter().map(|item| {
        let pair = place.and_then(|place| labels(&item).pairs.get(place));
        (pair.map_or(0, |(_, value)| head(value)), item)
    });
    let mut keyed: Vec<(u128, T)> = keyed.collect();
    keyed.sort_unstable_by(|(a, left), (b, right)| {
        a.cmp(b).then_with(|| labels(left).cmp(labels(right)))
    });
    keyed.into_iter().map(|(_, item)| item)
}

/// Up to which pair all sets are equal, if the next one has the same name in all that have one.
fn first_difference<'a>(sets: impl Iterator<Item = &'a LabelSet> + Clone) -> Option<usize> {
    let first = sets.clone().next()?;
    let mut place = first.len();
    for set in sets.clone() {
        let pairs = first.pairs.iter().zip(set.pairs.iter());
        place = pairs.take(place).take_while(|(a, b)| a == b).count();
    }
    let mut names = sets.filter_map(|set| Some(&*set.pairs.get(place)?.0));
    let name = names.next()?;
    names.all(|other| other == name).then_some(place)
}

/// The first bytes of a text as a number: never larger than that of a text that comes later.
fn head(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_equal_names_wins_and_empty_values_stay() {
        let set = LabelSet::new([("b", "1"), ("a", ""), ("b", "2")]);
        assert_eq!(set.to_string(), r#"{a="", b="2"}"#);
        assert_eq!(set.get("a"), Some(""));
        assert_eq!(set.get("c"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn items_are_in_order_of_their_labels_whatever_those_have_in_common(
            common in prop::collection::vec(("[ab]", "a{0,20}"), 0..3),
            own in prop::collection::vec(
                prop::collection::vec(("[xy]", "(a{16})?[a\u{0}é]{0,2}"), 0..3), 0..20),
        ) {
            let sets = own.iter().map(|own| common.iter().chain(own));
            let pairs = sets.map(|set| set.map(|(name, value)| (name.as_str(), value.as_str())));
            let items: Vec<LabelSet> = pairs.map(LabelSet::new).collect();
            let mut want = items.clone();
            want.sort();
            prop_assert_eq!(by_labels(items, |set| set).collect::<Vec<_>>(), want);
        }
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
