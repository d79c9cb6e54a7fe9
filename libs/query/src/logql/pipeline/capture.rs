//! `regexp` and `pattern`: parts of the line as labels. A line that does not match gets no labels
//! and no error.

use super::convert::push_clean;
use super::label_filter::Place;
use super::names::{NameId, Names};
use super::row::{Category, Row};
use super::{CompileError, pattern};
use crate::logql::regex::{CaptureMemory, CaptureRegex};

/// A compiled `regexp`.
#[derive(Clone, Debug)]
pub(super) struct RegexpParser {
    regex: CaptureRegex,
    /// Group and label.
    groups: Vec<(usize, NameId)>,
}

/// A compiled `pattern`.
#[derive(Clone, Debug)]
pub(super) struct PatternParser {
    pattern: pattern::Pattern,
    labels: Vec<NameId>,
}

impl RegexpParser {
    pub(super) fn compile(text: &str, names: &mut Names) -> Result<Self, CompileError> {
        let regex = CaptureRegex::new(text).map_err(|error| CompileError::Regex {
            text: text.to_owned(),
            error: error.to_string(),
        })?;
        let mut groups: Vec<(usize, NameId)> = Vec::new();
        for (at, name) in regex.names().enumerate() {
            let Some(name) = name else { continue };
            if !model::is_valid_label_name(name) {
                return Err(CompileError::CaptureName(name.to_owned()));
            }
            let id = names.id(name);
            if groups.iter().any(|(_, other)| *other == id) {
                return Err(CompileError::DuplicateCapture(name.to_owned()));
            }
            groups.push((at, id));
        }
        match groups.is_empty() {
            true => Err(CompileError::NoCapture),
            false => Ok(RegexpParser { regex, groups }),
        }
    }

    pub(super) fn memory(&self) -> CaptureMemory {
        self.regex.memory()
    }

    pub(super) fn parse(&self, row: &mut Row, line: &[u8], memory: &mut CaptureMemory) {
        if row.wants_no_more() || !self.regex.find(line, memory) {
            return;
        }
        for (group, label) in &self.groups {
            let place = memory.group(*group).unwrap_or_default();
            if !set(row, *label, &line[place]) {
                return;
            }
        }
    }
}

impl PatternParser {
    pub(super) fn compile(text: &str, names: &mut Names) -> Result<Self, CompileError> {
        let pattern = pattern::Pattern::parse(text);
        pattern.check_captures(text)?;
        let labels = pattern.names().map(|name| names.id(name)).collect();
        Ok(PatternParser { pattern, labels })
    }

    pub(super) fn parse(&self, row: &mut Row, line: &[u8]) {
        if row.wants_no_more() {
            return;
        }
        let mut labels = self.labels.iter();
        let mut goes_on = true;
        self.pattern.captures(line, |part| {
            if let Some(label) = labels.next() {
                goes_on = goes_on && set(row, *label, part);
            }
        });
    }
}

/// False if the row is left out for this value.
fn set(row: &mut Row, label: NameId, value: &[u8]) -> bool {
    let Some(id) = row.parsed_name(label) else {
        return true;
    };
    let start = row.text_mut().len();
    push_clean(row.text_mut(), value);
    row.set_from(Category::Parsed, id, start);
    row.passes_early(Place::Label(id))
}
