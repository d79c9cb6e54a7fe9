//! `drop` and `keep`.

use super::CompileError;
use super::label_filter::{Place, TextCondition};
use super::names::{NameId, Names};
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, PRESERVE_ERROR_LABEL, Row};
use crate::logql::ast::LabelChoice;

/// One label that is named, with or without a condition on its value.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    Name(Place),
    Matcher(TextCondition),
}

impl Choice {
    pub(super) fn compile(choice: &LabelChoice, names: &mut Names) -> Result<Self, CompileError> {
        Ok(match choice {
            LabelChoice::Name(name) => Choice::Name(Place::of(name, names)),
            LabelChoice::Matcher(matcher) => {
                Choice::Matcher(TextCondition::compile(matcher, names)?)
            }
        })
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Choice::Name(place) => *place,
            Choice::Matcher(text) => text.place,
        }
    }

    fn applies(&self, row: &Row) -> bool {
        match self {
            Choice::Name(_) => true,
            Choice::Matcher(text) => text.passes(row),
        }
    }
}

/// Takes away what is named.
pub(super) fn drop_labels(row: &mut Row, choices: &[Choice]) {
    for choice in choices {
        if !choice.applies(row) {
            continue;
        }
        match choice.place() {
            Place::Error => row.reset_error(),
            Place::ErrorDetails => row.reset_error_details(),
            Place::Label(id) => {
                if matches!(choice, Choice::Matcher(_)) || row.get(id).is_some() {
                    row.delete(id);
                }
            }
        }
    }
}

/// Takes away what is not named; errors stay.
pub(super) fn keep_labels(row: &mut Row, choices: &[Choice], gone: &mut Vec<NameId>) {
    gone.clear();
    let kept = |id: NameId| {
        matches!(
            row.names.text(id),
            PRESERVE_ERROR_LABEL | ERROR_LABEL | ERROR_DETAILS_LABEL
        ) || choices
            .iter()
            .any(|c| c.place() == Place::Label(id) && c.applies(row))
    };
    let base = row.visible_base().map(|(_, id, _)| id);
    let entries = row.entries().map(|e| e.name);
    gone.extend(base.chain(entries).filter(|id| !kept(*id)));
    for id in gone.iter() {
        row.delete(*id);
    }
}
