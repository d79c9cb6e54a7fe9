use std::cmp::Ordering;
use std::fmt;

/// A set of names with values: sorted by name, names unique, no value empty (an empty value means
/// the label is absent, as in Prometheus and Loki).
///
/// Two allocations however many labels there are: a process may hold a million sets.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    /// Name, value, name, value, ... without anything between them.
    text: Box<str>,
    /// End of each name and of each value in `text`.
    ends: Box<[u32]>,
}

/// Why a list of pairs is not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The same name twice.
    #[error("duplicate label name \"{0}\"")]
    Duplicate(String),
    /// A name outside `[a-zA-Z_][a-zA-Z0-9_]*`.
    #[error("invalid label name \"{0}\": want [a-zA-Z_][a-zA-Z0-9_]*")]
    Name(String),
}

impl Labels {
    /// Sorts the pairs and drops those with an empty value.
    ///
    /// # Errors
    /// [`LabelsError::Duplicate`] when a name stands twice, [`LabelsError::Name`] when one is not
    /// a label name.
    ///
    /// # Panics
    /// When all texts together are longer than 4 GiB; receivers bound their bodies far below.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let given: Vec<(N, V)> = pairs.into_iter().collect();
        let pairs = given.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        let mut pairs: Vec<(&str, &str)> = pairs.filter(|(_, v)| !v.is_empty()).collect();
        pairs.sort_unstable();
        for pair in pairs.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(LabelsError::Duplicate(pair[0].0.to_owned()));
            }
        }
        if let Some((name, _)) = pairs.iter().find(|(n, _)| !is_valid_label_name(n)) {
            return Err(LabelsError::Name((*name).to_owned()));
        }
        let bytes = pairs.iter().map(|(n, v)| n.len() + v.len()).sum();
        assert!(u32::try_from(bytes).is_ok(), "labels over 4 GiB");
        let mut text = String::with_capacity(bytes);
        let mut ends = Vec::with_capacity(pairs.len() * 2);
        for part in pairs.into_iter().flat_map(|(n, v)| [n, v]) {
            text.push_str(part);
            ends.push(text.len() as u32);
        }
        Ok(Labels {
            text: text.into(),
            ends: ends.into(),
        })
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, value) = self.pair(middle);
            match found.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(value),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|at| self.pair(at))
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Name, value, name, value, ... without anything between them. Sets that differ may have the
    /// same text; but similar sets have similar texts, and those are compared at one go.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// About how many bytes the set holds in memory, itself and what the allocator adds included.
    pub fn memory_bytes(&self) -> usize {
        const ALLOCATIONS_BYTES: usize = 48;
        size_of::<Self>() + self.text.len() + self.ends.len() * 4 + ALLOCATIONS_BYTES
    }

    fn pair(&self, at: usize) -> (&str, &str) {
        let start = (2 * at)
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]) as usize;
        let (middle, end) = (self.ends[2 * at] as usize, self.ends[2 * at + 1] as usize);
        (&self.text[start..middle], &self.text[middle..end])
    }
}

/// As lists of pairs compare.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `{a="x", b="y"}`, values quoted as in Go, the form in which Loki prints a stream.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the text is a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_valid_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_empty_values_dropped() {
        let labels = Labels::new([("b", "2"), ("a", "1"), ("c", "")]).unwrap();
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.get("b"), Some("2"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn every_label_is_found_and_no_other() {
        let names = ["b", "d", "f", "h", "k"];
        for count in 0..=names.len() {
            let pairs = names[..count]
                .iter()
                .map(|name| (*name, format!("of {name}")));
            let labels = Labels::new(pairs).unwrap();
            for (at, name) in names.iter().enumerate() {
                let value = (at < count).then(|| format!("of {name}"));
                assert_eq!(labels.get(name), value.as_deref());
            }
            for name in ["", "a", "c", "e", "g", "i", "l", "bb"] {
                assert_eq!(labels.get(name), None);
            }
            assert_eq!(labels.len(), labels.iter().count());
        }
    }

    #[test]
    fn sets_are_ordered_as_their_pairs_and_never_as_their_text() {
        let set = |pairs: &[(&'static str, &'static str)]| Labels::new(pairs.to_vec()).unwrap();
        let (short, long) = (set(&[("a", "bc")]), set(&[("ab", "c")]));
        assert!(short < long && short != long);
        assert_eq!((short.text(), long.text()), ("abc", "abc"));
        assert!(set(&[("a", "z")]) < set(&[("a", "z"), ("b", "a")]));
        assert!(set(&[]) < short);
        assert!(set(&[("a", "xy"), ("b", "1")]) < set(&[("a", "xz"), ("b", "0")]));
        assert!(set(&[("a", "x"), ("b", "2")]) < set(&[("a", "xa"), ("b", "1")]));
    }

    #[test]
    fn bad_sets_name_the_label() {
        assert_eq!(
            Labels::new([("a", "1"), ("a", "2")]),
            Err(LabelsError::Duplicate("a".into()))
        );
        assert_eq!(
            Labels::new([("a-b", "1")]),
            Err(LabelsError::Name("a-b".into()))
        );
    }
}
