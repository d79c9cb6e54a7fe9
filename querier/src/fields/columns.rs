//! Fields of rows that come template by template: each template is parsed once, and then only the
//! values of its variables are looked at, those of a dictionary once.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Timestamp};
use query::logql::pipeline::level::{self, DETECTED_LEVEL};
use query::{Budget, BudgetError};
use segment::{ClassRows, SlotValues, TemplateRows};
use xxhash_rust::xxh3::Xxh3;

use super::FieldSink;
use super::field::Parser;
use super::found::{EXTRACTED, Paths, is_error};
use super::level::LevelRule;
use super::shape::{Deciding, Fixed, Made, Part, Shape, Template};
use super::split::Split;
use crate::source::TemplateSink;

/// Fewer rows are parsed one by one, unless their template is known.
const ROWS_MIN: usize = 4;
/// Combinations of values that are marked off in a table.
const COMBINATIONS_MAX: usize = 1 << 20;
/// Templates, and shapes of their lines, that are remembered.
const KNOWN_MAX: usize = 20_000;
/// What a template or a shape takes beside its texts, bytes.
const KNOWN_BYTES: u64 = 256;

/// What a worker knows of streams and templates.
#[derive(Default)]
pub(super) struct Templates {
    classes: Vec<Class>,
    by_key: HashMap<u128, usize>,
    /// By segment, template and class.
    known: HashMap<(usize, u32, usize), Known>,
    /// Of all that is known.
    shapes: usize,
    /// Taken from the budget for it.
    known_bytes: u64,
    line: Vec<u8>,
    text: String,
    marks: Vec<u64>,
}

impl Templates {
    /// Makes room for one template or shape more.
    fn remember(&mut self, budget: &Budget, bytes: u64) -> Result<(), BudgetError> {
        if self.known.len() + self.shapes >= KNOWN_MAX {
            self.known.clear();
            self.shapes = 0;
            budget.give_memory(std::mem::take(&mut self.known_bytes));
        }
        budget.take_memory(bytes)?;
        self.known_bytes += bytes;
        Ok(())
    }
}

/// Streams of which equal lines have equal fields.
struct Class {
    /// Of one of them.
    labels: Arc<Labels>,
    level: Level,
}

/// Where the level of a stream's records comes from, if not from metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// None is added.
    Off,
    /// The stream's labels tell.
    Labels,
    Lines,
}

/// A template in a class.
struct Known {
    deciding: Option<Arc<Deciding>>,
    /// By the values of what decides; `None` for lines that have to be looked at.
    shapes: HashMap<Vec<u8>, Option<Arc<Planned>>>,
}

struct Planned {
    shape: Shape,
    level: LevelRule,
}

/// The rows at hand.
pub(super) struct Rows<'a, 'r> {
    class: &'a ClassRows<'a>,
    pub(super) of: &'a TemplateRows<'r>,
    pub(super) template: Template<'a>,
    level: Level,
    /// A bit for each row of the chunk whose level metadata tells.
    told: &'a [u64],
}

impl Rows<'_, '_> {
    /// Whether the level of a row is that of its line.
    pub(super) fn wants_level(&self, row: u32) -> bool {
        self.level == Level::Lines && !is_marked(self.told, row as usize)
    }
}

fn is_marked(marks: &[u64], at: usize) -> bool {
    marks
        .get(at / 64)
        .is_some_and(|word| word >> (at % 64) & 1 == 1)
}

/// Marks a place; false if it was.
pub(super) fn mark(marks: &mut [u64], at: usize) -> bool {
    let (word, bit) = (&mut marks[at / 64], 1 << (at % 64));
    let new = *word & bit == 0;
    *word |= bit;
    new
}

impl TemplateSink for FieldSink<'_> {
    fn class_of(&mut self, labels: &Arc<Labels>) -> usize {
        let mut key = Xxh3::new();
        let mut add = |text: &str| {
            key.update(&(text.len() as u64).to_le_bytes());
            key.update(text.as_bytes());
        };
        for (name, value) in labels.iter() {
            add(name);
            if level::label_names_level(name) {
                add(value);
            }
        }
        let templates = &mut self.templates;
        let key = key.digest128();
        if let Some(class) = templates.by_key.get(&key) {
            return *class;
        }
        let told = level::of_labels(labels).is_some();
        let off = !self.detector.detect_level
            || labels.get(DETECTED_LEVEL).is_some()
            || !self.found.wants(DETECTED_LEVEL);
        let level = match (off, told) {
            (true, _) => Level::Off,
            (false, true) => Level::Labels,
            (false, false) => Level::Lines,
        };
        templates.classes.push(Class {
            labels: Arc::clone(labels),
            level,
        });
        let class = templates.classes.len() - 1;
        templates.by_key.insert(key, class);
        class
    }

    fn take(
        &mut self,
        segment: usize,
        class: usize,
        rows: &ClassRows<'_>,
    ) -> Result<(), BudgetError> {
        self.found.budget.check()?;
        let (labels, level) = {
            let class = &self.templates.classes[class];
            (Arc::clone(&class.labels), class.level)
        };
        self.parsers.stream(&labels);
        self.stages.stream(&labels);
        self.stream = Arc::clone(&labels);
        if has_equal_names(&labels, rows) {
            return self.take_rows(rows);
        }
        self.add_metadata(&labels, rows)?;
        let mut told = Vec::new();
        if level != Level::Off {
            self.add_told_levels(&labels, level, rows, &mut told)?;
        }
        let mut done = Ok(());
        rows.each_template(|of| {
            if done.is_ok() {
                let rows = Rows {
                    class: rows,
                    of,
                    template: Template {
                        text: of.text(),
                        slots: of.slots(),
                    },
                    level,
                    told: &told,
                };
                done = self.take_template((segment, of.template(), class), &rows);
            }
        });
        done
    }
}

/// The name under which the records of a stream have a metadata key.
fn shown(labels: &Labels, key: &str) -> String {
    match labels.get(key) {
        Some(_) => format!("{key}{EXTRACTED}"),
        None => key.to_owned(),
    }
}

/// Whether two metadata keys may come to one name: then it depends on the record what it is.
fn has_equal_names(labels: &Labels, rows: &ClassRows<'_>) -> bool {
    let mut names: Vec<String> = rows.metadata_keys().map(|key| shown(labels, key)).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

impl FieldSink<'_> {
    /// Takes rows as they come.
    fn take_rows(&mut self, rows: &ClassRows<'_>) -> Result<(), BudgetError> {
        let mut done = Ok(());
        let mut line = Vec::new();
        rows.each_template(|of| {
            for row in of.rows() {
                line.clear();
                of.append_line(*row, &mut line);
                let pairs: Vec<(&str, &str)> = rows.metadata(*row).collect();
                if done.is_ok() {
                    done = self.row(rows.timestamp(*row), &line, &pairs);
                }
            }
        });
        done
    }

    fn add_metadata(&mut self, labels: &Labels, rows: &ClassRows<'_>) -> Result<(), BudgetError> {
        let found = &mut self.found;
        let names = rows.metadata_keys().filter(|key| !is_error(key));
        let names = names.map(|key| (key, shown(labels, key)));
        // With no row of the class, a key makes no field.
        let mut numbers: HashMap<&str, (String, Option<usize>)> = names
            .filter(|(_, name)| found.wants(name))
            .map(|(key, name)| (key, (name, None)))
            .collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let normal = self.detector.detect_level && labels.get(DETECTED_LEVEL).is_none();
        let mut done = Ok(());
        rows.each_metadata(|key, value| {
            let Some((name, number)) = numbers.get_mut(key) else {
                return;
            };
            let mut add = || {
                let number = match *number {
                    Some(number) => number,
                    None => *number.insert(found.number(name)?),
                };
                found.fields[number].1.set_stored();
                match normal && key == DETECTED_LEVEL {
                    true => found.add_value(number, level::normalise(value)),
                    false => found.add_value(number, value),
                }
            };
            if done.is_ok() {
                done = add();
            }
        });
        done
    }

    fn take_template(
        &mut self,
        key: (usize, u32, usize),
        rows: &Rows<'_, '_>,
    ) -> Result<(), BudgetError> {
        self.found.budget.check()?;
        let few = rows.of.rows().len() < ROWS_MIN && !self.templates.known.contains_key(&key);
        if few || rows.of.is_whole() || !is_clean(rows) {
            return self.take_lines(rows, rows.of.rows());
        }
        let Some(deciding) = self.deciding(key, rows)? else {
            return self.take_lines(rows, rows.of.rows());
        };
        let Some(split) = Split::of(&deciding, rows) else {
            return self.take_lines(rows, rows.of.rows());
        };
        split.each_part(rows, |fixed, part| match fixed {
            None => self.take_lines(rows, part),
            Some(fixed) => match self.planned(key, &deciding, rows, fixed)? {
                None => self.take_lines(rows, part),
                Some(planned) => self.take_part(rows, part, fixed, (&planned, &deciding.bare)),
            },
        })
    }

    /// On what it depends which fields the lines of a template have.
    fn deciding(
        &mut self,
        template: (usize, u32, usize),
        rows: &Rows<'_, '_>,
    ) -> Result<Option<Arc<Deciding>>, BudgetError> {
        if let Some(known) = self.templates.known.get(&template) {
            return Ok(known.deciding.clone());
        }
        self.templates.remember(self.found.budget, KNOWN_BYTES)?;
        let deciding = rows.template.deciding(&mut self.parsers).map(Arc::new);
        let known = Known {
            deciding: deciding.clone(),
            shapes: HashMap::new(),
        };
        self.templates.known.insert(template, known);
        Ok(deciding)
    }

    /// What is known of the lines of a template in which the deciding variables are fixed so.
    fn planned(
        &mut self,
        template: (usize, u32, usize),
        deciding: &Deciding,
        rows: &Rows<'_, '_>,
        fixed: &Fixed<'_>,
    ) -> Result<Option<Arc<Planned>>, BudgetError> {
        let mut key = Vec::new();
        for (slot, value) in fixed.iter().enumerate() {
            if let Some(value) = value {
                // No value has a zero byte.
                key.push(slot as u8);
                key.extend_from_slice(value);
                key.push(0);
            }
        }
        let known = self.templates.known.get(&template);
        if let Some(planned) = known.and_then(|known| known.shapes.get(&key)) {
            return Ok(planned.clone());
        }
        let shape = rows.template.shape(&mut self.parsers, fixed);
        let level = rows.template.level_rule(fixed, &deciding.bare);
        let planned = shape.zip(level);
        let planned = planned.map(|(shape, level)| Arc::new(Planned { shape, level }));
        let bytes = planned.as_ref().map_or(0, |planned| planned.shape.bytes());
        let bytes = KNOWN_BYTES + key.len() as u64 + bytes;
        self.templates.remember(self.found.budget, bytes)?;
        // Without the template, where all was forgotten to make room.
        if let Some(known) = self.templates.known.get_mut(&template) {
            known.shapes.insert(key, planned.clone());
            self.templates.shapes += 1;
        }
        Ok(planned)
    }

    /// Takes rows line by line.
    fn take_lines(&mut self, rows: &Rows<'_, '_>, part: &[u32]) -> Result<(), BudgetError> {
        let mut line = std::mem::take(&mut self.templates.line);
        for row in part {
            line.clear();
            rows.of.append_line(*row, &mut line);
            let parsed = self.parsers.parse(0, &line);
            self.found.place = 0;
            let at = rows.class.timestamp(*row);
            self.found.add_parsed(at, &line, parsed)?;
            if rows.wants_level(*row) {
                self.add_level(level::of_line(&line))?;
            }
        }
        self.templates.line = line;
        Ok(())
    }

    /// Takes rows of which the fields are known.
    fn take_part(
        &mut self,
        rows: &Rows<'_, '_>,
        part: &[u32],
        fixed: &Fixed<'_>,
        (planned, bare): (&Planned, &[(usize, bool)]),
    ) -> Result<(), BudgetError> {
        let shape = &planned.shape;
        for made in &shape.fields {
            if !self.found.wants(&made.name) {
                continue;
            }
            let number = self.found.number(&made.name)?;
            self.found.fields[number].1.add_parser(shape.parser);
            self.add_values(number, made, rows, part)?;
        }
        if shape.parser == Parser::Json {
            self.add_paths(rows, part, shape)?;
        }
        if rows.level != Level::Lines {
            return Ok(());
        }
        self.add_levels(rows, part, fixed, bare, planned.level)
    }

    /// The earliest of the lines says where its fields are.
    fn add_paths(
        &mut self,
        rows: &Rows<'_, '_>,
        part: &[u32],
        shape: &Shape,
    ) -> Result<(), BudgetError> {
        let time = |row: &u32| -> Timestamp { rows.class.timestamp(*row) };
        let Some(row) = part.iter().min_by_key(|row| time(row)) else {
            return Ok(());
        };
        let at = time(row);
        let mut paths = None;
        for made in &shape.fields {
            if !self.found.wants(&made.name) {
                continue;
            }
            let number = self.found.number(&made.name)?;
            let field = &mut self.found.fields[number].1;
            if field.wants_path(at) {
                let paths = paths.get_or_insert_with(|| {
                    let mut line = Vec::new();
                    rows.of.append_line(*row, &mut line);
                    Paths::of(&line)
                });
                field.set_path(at, paths.get(&made.name));
            }
        }
        Ok(())
    }

    fn add_values(
        &mut self,
        number: usize,
        made: &Made,
        rows: &Rows<'_, '_>,
        part: &[u32],
    ) -> Result<(), BudgetError> {
        let mut text = std::mem::take(&mut self.templates.text);
        let mut marks = std::mem::take(&mut self.templates.marks);
        let found = &mut self.found;
        let mut slots = made.parts.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(rows.of.slot(*slot)),
            Part::Text(_) => None,
        });
        let (first, second) = (slots.next(), slots.next());
        match (first, second) {
            (None, _) => {
                text.clear();
                put(&mut text, &made.parts, |_| &[]);
                found.add_value(number, &text)?;
            }
            (Some(values), None) => each_used(&values, rows, part, &mut marks, |value| {
                let value = values.get(value);
                match &made.parts[..] {
                    [_] => found.add_value(number, as_text(value)),
                    parts => {
                        text.clear();
                        put(&mut text, parts, |_| value);
                        found.add_value(number, &text)
                    }
                }
            })?,
            (Some(first), Some(second)) => {
                let columns: Vec<SlotValues<'_>> =
                    [first, second].into_iter().chain(slots).collect();
                let sizes = columns.iter().map(SlotValues::len);
                let combinations = sizes.fold(1usize, usize::saturating_mul);
                let marked = combinations <= COMBINATIONS_MAX.min(8 * part.len());
                if marked {
                    marks.clear();
                    marks.resize(combinations / 64 + 1, 0);
                }
                for row in part {
                    if marked {
                        let place = columns
                            .iter()
                            .fold(0, |at, values| at * values.len() + values.of_row(*row));
                        if !mark(&mut marks, place) {
                            continue;
                        }
                    }
                    text.clear();
                    put(&mut text, &made.parts, |slot| {
                        let values = &columns[slot];
                        values.get(values.of_row(*row))
                    });
                    found.add_value(number, &text)?;
                }
            }
        }
        self.templates.text = text;
        self.templates.marks = marks;
        Ok(())
    }
}

/// The text of a value; it was checked to be text.
fn as_text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// Puts a value together; variables are asked for by their place among those of the value.
fn put<'v>(text: &mut String, parts: &[Part], mut value: impl FnMut(usize) -> &'v [u8]) {
    let mut slots = 0;
    for part in parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Slot(_) => {
                text.push_str(as_text(value(slots)));
                slots += 1;
            }
        }
    }
}

/// Calls `take` with the values that rows have: those of a dictionary once.
fn each_used(
    values: &SlotValues<'_>,
    rows: &Rows<'_, '_>,
    part: &[u32],
    marks: &mut Vec<u64>,
    mut take: impl FnMut(usize) -> Result<(), BudgetError>,
) -> Result<(), BudgetError> {
    let all = rows.of.is_all() && part.len() == rows.of.rows().len();
    if all {
        return (0..values.len()).try_for_each(take);
    }
    marks.clear();
    marks.resize(values.len() / 64 + 1, 0);
    for row in part {
        let value = values.of_row(*row);
        if mark(marks, value) {
            take(value)?;
        }
    }
    Ok(())
}

/// Whether all values are text that parsers leave as it is.
fn is_clean(rows: &Rows<'_, '_>) -> bool {
    let slots = 0..rows.template.slots.len();
    slots.map(|slot| rows.of.slot(slot)).all(|values| {
        let is_text =
            |value: &[u8]| std::str::from_utf8(value).is_ok_and(|text| !text.contains('\u{fffd}'));
        let words = values.may_have_words() && !values.text().is_ascii();
        !words || (0..values.len()).all(|value| is_text(values.get(value)))
    })
}
