//! Selectors outside of queries: `match[]`, and the `query` of label requests.

use std::sync::Arc;

use model::{LabelMatcher, MatchOp, Selector};
use query::logql::ParseError;
use query::logql::ast::Matcher;
use query::logql::regex::ValueRegex;

use super::call::Call;
use crate::Error;

/// What Loki says of anything but a selector.
pub(super) const MATCHERS_ONLY: &str = "only label matchers are supported";

/// A selector such as `{app="a"}` or `{}`.
pub(super) fn selector(call: &Call, text: &str) -> Result<Selector, Error> {
    // As Loki, which does not look at what stages mean where none may be.
    let matchers =
        query::logql::parse_selector(text).map_err(|error| match is_of_stage(&error) {
            true => Error::Invalid(MATCHERS_ONLY.into()),
            false => error.into(),
        })?;
    call.limits.check_matchers(&matchers)?;
    of_matchers(&matchers)
}

/// Whether a text is well formed but for what a stage of it means.
pub(super) fn is_of_stage(error: &ParseError) -> bool {
    error.message.starts_with("stage '")
}

/// As [`selector`], for `match[]`, where Loki does not look at what functions mean either.
pub(super) fn match_selector(call: &Call, text: &str) -> Result<Selector, Error> {
    let is_of_lines = text.trim_start().starts_with('{');
    match query::logql::parse_selector(text) {
        Err(error) if !is_of_lines && is_of_meaning(&error) => {
            Err(Error::Invalid(MATCHERS_ONLY.into()))
        }
        _ => selector(call, text),
    }
}

fn is_of_meaning(error: &ParseError) -> bool {
    (error.line, error.column) == (0, 0) && !error.message.starts_with("syntax error")
}

/// As [`selector`], but `{}` is refused.
pub(super) fn narrow_selector(call: &Call, text: &str) -> Result<Selector, Error> {
    let selector = selector(call, text)?;
    if selector.matchers.is_empty() {
        // Says why.
        query::logql::parse(text)?;
    }
    Ok(selector)
}

/// The `query` of requests that may go without one; then it is every stream.
pub(super) fn optional_selector(call: &Call) -> Result<Selector, Error> {
    match call.params.get("query") {
        None => selector(call, "{}"),
        Some(text) => narrow_selector(call, text),
    }
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
