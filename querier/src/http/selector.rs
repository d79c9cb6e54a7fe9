//! Selectors outside of queries: `match[]`, and the `query` of label requests.

use std::sync::Arc;

use model::{LabelMatcher, MatchOp, Selector};
use query::logql::ast::Matcher;
use query::logql::regex::ValueRegex;

use crate::Error;

/// A selector such as `{app="a"}`; the empty text is the empty selector.
pub(super) fn selector(text: &str) -> Result<Selector, Error> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    of_matchers(&query::logql::parse_selector(text)?)
}

/// The model's form of parsed matchers.
pub(super) fn of_matchers(matchers: &[Matcher]) -> Result<Selector, Error> {
    let matchers: Result<Vec<LabelMatcher>, Error> = matchers.iter().map(matcher).collect();
    Ok(Selector {
        matchers: matchers?,
    })
}

fn matcher(matcher: &Matcher) -> Result<LabelMatcher, Error> {
    let Matcher { name, op, value } = matcher;
    let negated = matches!(op, MatchOp::NotEqual | MatchOp::NotRegex);
    match op {
        MatchOp::Equal | MatchOp::NotEqual => Ok(LabelMatcher::text(name, negated, value)),
        MatchOp::Regex | MatchOp::NotRegex => {
            let pattern =
                ValueRegex::new(value).map_err(|error| Error::Invalid(error.to_string()))?;
            Ok(LabelMatcher::regex(name, negated, value, Arc::new(pattern)))
        }
    }
}
