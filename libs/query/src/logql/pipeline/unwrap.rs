//! `unwrap`: a label's value as the row's number.

use super::CompileError;
use super::convert::{parse_bytes, parse_duration, parse_float};
use super::label_filter::Condition;
use super::names::{NameId, Names};
use super::row::{Row, StageError};
use crate::logql::ast::{Conversion, Unwrap};

/// A compiled `unwrap` with the conditions behind it.
#[derive(Clone, Debug)]
pub(super) struct UnwrapStep {
    pub(super) label: NameId,
    conversion: Conversion,
    pub(super) filters: Vec<Condition>,
}

impl UnwrapStep {
    pub(super) fn compile(unwrap: &Unwrap, names: &mut Names) -> Result<Self, CompileError> {
        Ok(UnwrapStep {
            label: names.id(&unwrap.label),
            conversion: unwrap.conversion,
            filters: unwrap
                .filters
                .iter()
                .map(|filter| Condition::compile(filter, names))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The row's number. A row without the label, or with an empty one, is left out; one that does not
/// convert counts as 0 with `SampleExtractionErr`.
pub(super) fn apply(unwrap: &UnwrapStep, row: &mut Row) -> Option<f64> {
    let text = row.get(unwrap.label).filter(|text| !text.is_empty())?;
    let converted = match unwrap.conversion {
        Conversion::Number => parse_float(text),
        Conversion::Bytes => parse_bytes(text).map(|bytes| bytes as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            parse_duration(text).map(super::template::seconds)
        }
    };
    let value = match converted {
        Ok(value) => value,
        Err(details) => {
            row.set_error(StageError::SampleExtraction, &details);
            0.0
        }
    };
    unwrap
        .filters
        .iter()
        .all(|filter| filter.passes(row))
        .then_some(value)
}
