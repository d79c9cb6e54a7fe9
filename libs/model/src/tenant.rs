use std::fmt;
use std::sync::Arc;

/// The isolation unit: whose data it is. 1 to 150 bytes of `[A-Za-z0-9!_.*'()-]`, and neither `.`
/// nor `..`, the same rule as Loki's, so that an id can be part of an object's path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Why a text is not a tenant id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// No characters at all.
    #[error("tenant ID is empty")]
    Empty,
    /// More than 150 bytes.
    #[error("tenant ID is too long: max 150 characters")]
    TooLong,
    /// A character outside the set; `at` counts characters from 0.
    #[error("tenant ID '{tenant}' contains unsupported character '{character}' at position {at}")]
    Character {
        /// The whole text.
        tenant: String,
        /// The first bad character.
        character: char,
        /// Its place, in characters from 0.
        at: usize,
    },
    /// `.` or `..`, which would leave the tenant's folder.
    #[error("tenant ID is '.' or '..'")]
    PathTraversal,
}

impl TenantId {
    /// The tenant of requests that name none.
    pub const DEFAULT: &'static str = "default";
    /// Longest tenant id, bytes.
    pub const BYTES_MAX: usize = 150;

    /// Checks the text and takes it as a tenant id.
    ///
    /// # Errors
    /// [`TenantError`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, TenantError> {
        if text.is_empty() {
            return Err(TenantError::Empty);
        }
        if let Some((at, character)) = text.chars().enumerate().find(|(_, c)| !is_allowed(*c)) {
            return Err(TenantError::Character {
                tenant: text.to_owned(),
                character,
                at,
            });
        }
        if text.len() > Self::BYTES_MAX {
            return Err(TenantError::TooLong);
        }
        if text == "." || text == ".." {
            return Err(TenantError::PathTraversal);
        }
        Ok(TenantId(Arc::from(text)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        TenantId(Arc::from(Self::DEFAULT))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '!' | '-' | '_' | '.' | '*' | '\'' | '(' | ')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ids_are_taken() {
        for id in ["default", "team-a", "a.b_c", "x*('!)"] {
            assert_eq!(TenantId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn each_rule_names_what_is_wrong() {
        assert_eq!(TenantId::new(""), Err(TenantError::Empty));
        assert_eq!(TenantId::new(".."), Err(TenantError::PathTraversal));
        assert_eq!(TenantId::new(&"a".repeat(151)), Err(TenantError::TooLong));
        let message = TenantId::new("a/b").unwrap_err().to_string();
        assert_eq!(
            message,
            "tenant ID 'a/b' contains unsupported character '/' at position 1"
        );
    }
}
