//! Line filters as clauses of [`model::LineFilter`].

use std::sync::Arc;

use model::{LineClause, LineTest};

use super::CompileError;
use super::ip::IpPattern;
use super::pattern::LinePattern;
use crate::logql::ast::{LineFilter, LineFilterOp, LineFilterValue};
use crate::logql::regex::line_tests;

/// Compiles one filter stage. `None` if it passes every line.
pub(super) fn compile(filter: &LineFilter) -> Result<Option<LineClause>, CompileError> {
    let negated = matches!(
        filter.op,
        LineFilterOp::NotContains | LineFilterOp::NotMatches | LineFilterOp::NotPattern
    );
    let mut any = Vec::new();
    for value in &filter.any {
        any.extend(tests(filter.op, value)?);
    }
    // As in Loki, a text that every line has counts for nothing beside others (`|= "" or "a"`,
    // `|~ ".*" or "a"`), unlike other expressions that pass every line.
    if !negated {
        if any.iter().all(is_true) {
            return Ok(None);
        }
        any.retain(|test| !is_empty(test));
    }
    Ok(Some(LineClause { negated, any }))
}

fn is_true(test: &LineTest) -> bool {
    match test {
        LineTest::Matches(matcher) => matcher.always() == Some(true),
        LineTest::Contains(_) => is_empty(test),
    }
}

fn is_empty(test: &LineTest) -> bool {
    matches!(test, LineTest::Contains(needle) if needle.is_empty())
}

fn tests(op: LineFilterOp, value: &LineFilterValue) -> Result<Vec<LineTest>, CompileError> {
    let text = match value {
        LineFilterValue::Ip(pattern) => {
            if !matches!(op, LineFilterOp::Contains | LineFilterOp::NotContains) {
                return Err(CompileError::IpOperation);
            }
            return Ok(vec![LineTest::Matches(Arc::new(IpPattern::parse(
                pattern,
            )?))]);
        }
        LineFilterValue::Text(text) => text,
    };
    match op {
        LineFilterOp::Contains | LineFilterOp::NotContains => {
            Ok(vec![LineTest::Contains(text.as_bytes().into())])
        }
        LineFilterOp::Matches | LineFilterOp::NotMatches => {
            line_tests(text).map_err(|error| CompileError::Regex {
                text: text.clone(),
                error: error.to_string(),
            })
        }
        LineFilterOp::Pattern | LineFilterOp::NotPattern => Ok(vec![LineTest::Matches(Arc::new(
            LinePattern::compile(text)?,
        ))]),
    }
}
