use std::fmt;

/// A set of names with values: sorted by name, names unique, no value empty (an empty value means
/// the label is absent, as in Prometheus and Loki).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels {
    pairs: Box<[(Box<str>, Box<str>)]>,
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
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut pairs: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(n, v)| (n.into(), v.into()))
            .filter(|(_, v): &(Box<str>, Box<str>)| !v.is_empty())
            .collect();
        pairs.sort_unstable();
        for pair in pairs.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(LabelsError::Duplicate(pair[0].0.to_string()));
            }
        }
        if let Some((name, _)) = pairs.iter().find(|(n, _)| !is_valid_label_name(n)) {
            return Err(LabelsError::Name(name.to_string()));
        }
        Ok(Labels {
            pairs: pairs.into(),
        })
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .binary_search_by(|(n, _)| (**n).cmp(name))
            .ok()
            .map(|at| &*self.pairs[at].1)
    }

    /// All pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
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
