//! Conditions on labels.

use std::sync::Arc;

use model::{LabelMatcher, MatchOp};

use super::CompileError;
use super::convert::{parse_bytes, parse_duration, parse_float};
use super::ip::IpPattern;
use super::names::{NameId, Names};
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, Row, StageError};
use crate::logql::ast::{CompareOp, LabelFilter, Matcher};
use crate::logql::deep;
use crate::logql::regex::{FilterRegex, ValueRegex};

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Every row passes.
    Always,
    Text(TextCondition),
    Number(NameId, CompareOp, f64),
    Duration(NameId, CompareOp, i64),
    Bytes(NameId, CompareOp, u64),
    /// Without a pattern no value passes.
    Ip(NameId, bool, Option<IpPattern>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

/// A matcher of one label's text.
#[derive(Clone, Debug)]
pub(super) struct TextCondition {
    pub(super) place: Place,
    pub(super) matcher: LabelMatcher,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Label(NameId),
    Error,
    ErrorDetails,
}

impl Place {
    pub(super) fn of(name: &str, names: &mut Names) -> Self {
        match name {
            ERROR_LABEL => Place::Error,
            ERROR_DETAILS_LABEL => Place::ErrorDetails,
            name => Place::Label(names.id(name)),
        }
    }
}

impl TextCondition {
    /// For `drop` and `keep`, where expressions are what they say.
    pub(super) fn compile(matcher: &Matcher, names: &mut Names) -> Result<Self, CompileError> {
        let negated = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
        let compiled = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => {
                LabelMatcher::text(&matcher.name, negated, &matcher.value)
            }
            MatchOp::Regex | MatchOp::NotRegex => {
                let regex =
                    ValueRegex::new(&matcher.value).map_err(|error| CompileError::Regex {
                        text: matcher.value.clone(),
                        error: error.to_string(),
                    })?;
                LabelMatcher::regex(&matcher.name, negated, &matcher.value, Arc::new(regex))
            }
        };
        Ok(TextCondition {
            place: Place::of(&matcher.name, names),
            matcher: compiled,
        })
    }

    /// For label filters; `None` if every value passes.
    fn compile_filter(matcher: &Matcher, names: &mut Names) -> Result<Option<Self>, CompileError> {
        let negated = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => return Self::compile(matcher, names).map(Some),
            MatchOp::Regex => false,
            MatchOp::NotRegex => true,
        };
        let regex = FilterRegex::new(&matcher.value).map_err(|error| CompileError::Regex {
            text: matcher.value.clone(),
            error: error.to_string(),
        })?;
        if regex.is_always() && !negated {
            return Ok(None);
        }
        Ok(Some(TextCondition {
            place: Place::of(&matcher.name, names),
            matcher: LabelMatcher::regex(&matcher.name, negated, &matcher.value, Arc::new(regex)),
        }))
    }

    /// Whether the label's value passes; an absent label is the empty text.
    pub(super) fn passes(&self, row: &Row) -> bool {
        let value = match self.place {
            Place::Label(id) => row.get(id).unwrap_or(""),
            Place::Error => row.error(),
            Place::ErrorDetails => row.error_details(),
        };
        self.matcher.is_match(value)
    }
}

impl Condition {
    /// As in Loki, an `ip` that is none is an error only where it stands alone.
    pub(super) fn compile(filter: &LabelFilter, names: &mut Names) -> Result<Self, CompileError> {
        if let LabelFilter::Ip { pattern, .. } = filter {
            IpPattern::parse(pattern)?;
        }
        Self::part(filter, names)
    }

    fn part(filter: &LabelFilter, names: &mut Names) -> Result<Self, CompileError> {
        Ok(match filter {
            LabelFilter::Text(matcher) => TextCondition::compile_filter(matcher, names)?
                .map_or(Condition::Always, Condition::Text),
            LabelFilter::Number { name, op, value } => {
                Condition::Number(names.id(name), *op, *value)
            }
            LabelFilter::Duration { name, op, nanos } => {
                Condition::Duration(names.id(name), *op, *nanos)
            }
            LabelFilter::Bytes { name, op, bytes } => Condition::Bytes(names.id(name), *op, *bytes),
            LabelFilter::Ip {
                name,
                negated,
                pattern,
            } => Condition::Ip(names.id(name), *negated, IpPattern::parse(pattern).ok()),
            LabelFilter::And(a, b) => {
                let (a, b) = Self::parts(a, b, names)?;
                Condition::And(a, b)
            }
            LabelFilter::Or(a, b) => {
                let (a, b) = Self::parts(a, b, names)?;
                Condition::Or(a, b)
            }
        })
    }

    fn parts(
        a: &LabelFilter,
        b: &LabelFilter,
        names: &mut Names,
    ) -> Result<(Box<Self>, Box<Self>), CompileError> {
        deep(|| {
            let a = Box::new(Condition::part(a, names)?);
            let b = Box::new(Condition::part(b, names)?);
            Ok((a, b))
        })
    }

    /// Whether the row stays. A row without the label does not, unless the condition is on texts;
    /// one whose value does not convert stays with `LabelFilterErr`.
    pub(super) fn passes(&self, row: &mut Row) -> bool {
        match self {
            Condition::Always => true,
            // The details of an error are no label.
            Condition::Text(text) if text.place == Place::ErrorDetails => text.matcher.is_match(""),
            Condition::Text(text) => text.passes(row),
            Condition::Number(id, op, want) => compare(row, *id, *op, want, parse_float),
            Condition::Duration(id, op, want) => compare(row, *id, *op, want, parse_duration),
            Condition::Bytes(id, op, want) => compare(row, *id, *op, want, parse_bytes),
            Condition::Ip(id, negated, pattern) => {
                if row.has_error() {
                    return true;
                }
                let Some(pattern) = pattern else {
                    return false;
                };
                row.get(*id)
                    .is_some_and(|value| pattern.is_in(value.as_bytes()) != *negated)
            }
            Condition::And(a, b) => deep(|| {
                let left = a.passes(row);
                b.passes(row) && left
            }),
            Condition::Or(a, b) => deep(|| a.passes(row) || b.passes(row)),
        }
    }

    /// Whether it is known that no row passes of which this label has this value.
    pub(super) fn refutes(&self, label: NameId, value: &str) -> bool {
        match self {
            Condition::Text(text) => {
                text.place == Place::Label(label) && !text.matcher.is_match(value)
            }
            Condition::And(a, b) => deep(|| a.refutes(label, value) || b.refutes(label, value)),
            Condition::Or(a, b) => deep(|| a.refutes(label, value) && b.refutes(label, value)),
            Condition::Always
            | Condition::Number(..)
            | Condition::Duration(..)
            | Condition::Bytes(..)
            | Condition::Ip(..) => false,
        }
    }

    /// The one label that it looks at; `None` if there are two conditions or it passes always.
    pub(super) fn only_place(&self) -> Option<Place> {
        match self {
            Condition::Text(text) => Some(text.place),
            Condition::Number(id, ..)
            | Condition::Duration(id, ..)
            | Condition::Bytes(id, ..)
            | Condition::Ip(id, ..) => Some(Place::Label(*id)),
            Condition::Always | Condition::And(..) | Condition::Or(..) => None,
        }
    }

    /// Calls `visit` with every label that is looked at.
    pub(super) fn visit_places(&self, visit: &mut impl FnMut(Place)) {
        match self {
            Condition::Always => {}
            Condition::Text(text) => visit(text.place),
            Condition::Number(id, ..)
            | Condition::Duration(id, ..)
            | Condition::Bytes(id, ..)
            | Condition::Ip(id, ..) => visit(Place::Label(*id)),
            Condition::And(a, b) | Condition::Or(a, b) => deep(|| {
                a.visit_places(visit);
                b.visit_places(visit);
            }),
        }
    }
}

fn compare<T: PartialOrd>(
    row: &mut Row,
    id: NameId,
    op: CompareOp,
    want: &T,
    read: impl Fn(&str) -> Result<T, String>,
) -> bool {
    let Some(value) = row.get(id) else {
        return false;
    };
    match read(value) {
        Ok(value) => match op {
            CompareOp::Equal => value == *want,
            CompareOp::NotEqual => value != *want,
            CompareOp::Greater => value > *want,
            CompareOp::GreaterOrEqual => value >= *want,
            CompareOp::Less => value < *want,
            CompareOp::LessOrEqual => value <= *want,
        },
        Err(details) => {
            // An error that is there already says more.
            if !row.has_error() {
                row.set_error(StageError::LabelFilter, &details);
            }
            true
        }
    }
}
