//! What was found so far, field by field.

use hashbrown::HashMap;
use model::Timestamp;
use query::logql::pipeline::{ERROR_DETAILS_LABEL, ERROR_LABEL, RowLabels};
use query::{Budget, BudgetError};

use super::Only;
use super::field::{Field, Parser};

/// What the parsers add to a name that a stream label has already.
pub(super) const EXTRACTED: &str = "_extracted";
/// What a field takes beside its name and values, bytes.
const FIELD_BYTES: u64 = 256;

/// The fields of one worker.
pub(super) struct Found<'a> {
    pub(super) budget: &'a Budget,
    pub(super) only: Option<&'a Only>,
    numbers: HashMap<Box<str>, usize>,
    pub(super) fields: Vec<(Box<str>, Field)>,
    /// Numbers of the fields of the line before, in order: most lines are like it.
    order: Vec<usize>,
    pub(super) place: usize,
}

impl<'a> Found<'a> {
    pub(super) fn new(budget: &'a Budget, only: Option<&'a Only>) -> Self {
        Found {
            budget,
            only,
            numbers: HashMap::new(),
            fields: Vec::new(),
            order: Vec::new(),
            place: 0,
        }
    }

    /// Whether anybody asked for the field.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only.name == name)
    }

    /// One value of a field; gives the field, unless nobody asked for it.
    pub(super) fn add(
        &mut self,
        name: &str,
        value: &str,
        parser: Option<Parser>,
    ) -> Result<Option<&mut Field>, BudgetError> {
        if !self.wants(name) {
            return Ok(None);
        }
        let expected = self.order.get(self.place).copied();
        let number = match expected.filter(|number| &*self.fields[*number].0 == name) {
            Some(number) => number,
            None => {
                let number = self.number(name)?;
                self.order.truncate(self.place);
                self.order.push(number);
                number
            }
        };
        self.place += 1;
        match parser {
            Some(parser) => self.fields[number].1.add_parser(parser),
            None => self.fields[number].1.set_stored(),
        }
        self.add_value(number, value)?;
        Ok(Some(&mut self.fields[number].1))
    }

    /// One value of a field that has a number.
    pub(super) fn add_value(&mut self, number: usize, value: &str) -> Result<(), BudgetError> {
        let kept_max = self.only.map(|only| only.values_max);
        let grown = self.fields[number].1.add(value, kept_max);
        match grown > 0 {
            true => self.budget.take_memory(grown),
            false => Ok(()),
        }
    }

    /// What a parser made of a line.
    pub(super) fn add_parsed(
        &mut self,
        at: Timestamp,
        line: &[u8],
        parsed: Option<(Parser, RowLabels<'_>)>,
    ) -> Result<(), BudgetError> {
        let Some((parser, labels)) = parsed else {
            return Ok(());
        };
        let mut paths = None;
        for (name, value) in labels.parsed().filter(|(name, _)| !is_error(name)) {
            let Some(field) = self.add(name, value, Some(parser))? else {
                continue;
            };
            if parser == Parser::Json && field.wants_path(at) {
                let paths = paths.get_or_insert_with(|| Paths::of(line));
                field.set_path(at, paths.get(name));
            }
        }
        Ok(())
    }

    /// The number of a field.
    pub(super) fn number(&mut self, name: &str) -> Result<usize, BudgetError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        self.budget
            .take_memory(FIELD_BYTES + 2 * name.len() as u64)?;
        let number = self.fields.len();
        self.numbers.insert(name.into(), number);
        self.fields.push((name.into(), Field::default()));
        Ok(number)
    }
}

pub(super) fn is_error(name: &str) -> bool {
    name == ERROR_LABEL || name == ERROR_DETAILS_LABEL
}

/// Where each label of the JSON parser comes from: keys joined by `_`, with `_` for what a label
/// name cannot have. Of paths that give one name, the first in order counts.
pub(super) struct Paths(HashMap<String, Vec<String>>);

impl Paths {
    pub(super) fn of(line: &[u8]) -> Self {
        let mut paths = HashMap::new();
        let Ok(tree) = serde_json::from_slice::<serde_json::Value>(line) else {
            return Paths(paths);
        };
        let mut open = vec![(Vec::new(), &tree)];
        while let Some((path, value)) = open.pop() {
            let serde_json::Value::Object(members) = value else {
                let names: Vec<String> = path.iter().map(|key: &String| sanitized(key)).collect();
                paths.entry(names.join("_")).or_insert(path);
                continue;
            };
            for (key, value) in members.iter().rev() {
                let mut path = path.clone();
                path.push(key.clone());
                open.push((path, value));
            }
        }
        Paths(paths)
    }

    /// The keys that lead to what a label shows.
    pub(super) fn get(&self, name: &str) -> Vec<String> {
        let key = name.strip_suffix(EXTRACTED).unwrap_or(name);
        let path = self.0.get(name).or_else(|| self.0.get(key));
        path.cloned().unwrap_or_default()
    }
}

fn sanitized(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.trim()
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}
