//! What classes the values of a template have in a chunk.

use model::LineProperty;

use crate::decode::lines::Column;
use crate::decode::rebuild::Lines;
use crate::format::TEXTS;
use crate::outcomes::bounds;
use crate::template::RAW;

/// In place of a class: the value itself matters.
const ITSELF: u8 = u8::MAX;
/// In place of a combination: the row is looked at by itself.
pub(super) const ALONE: u32 = u32::MAX;
/// Combinations of classes that are told apart; rows with others are looked at one by one.
const COMBINATIONS_MAX: usize = 4096;

/// What is known of the values of one template.
#[derive(Debug, Default)]
pub(super) struct Look {
    places: Vec<u8>,
    slots: Vec<SlotClass>,
    /// The class of each value of columns that have several, as its place among `kinds`.
    classes: Vec<u8>,
    /// The classes of such columns.
    kinds: Vec<u8>,
    /// Of each row the combination of its classes, numbered from 0; the first row of each, and its
    /// outcome.
    pub(super) combinations: Vec<u32>,
    firsts: Vec<u32>,
    pub(super) outcomes: Vec<u8>,
    next: Vec<u32>,
    line: Vec<u8>,
}

/// The class of the values at one place of a template.
#[derive(Clone, Copy, Debug)]
enum SlotClass {
    All(u8),
    /// Where its classes stand among those of all values, its kinds among all kinds, and how many.
    Several {
        classes: usize,
        kinds: usize,
        count: usize,
    },
    /// Values are taken as they are.
    Values,
}

/// A value of a column.
pub(super) fn text<'a>(lines: &Lines<'a>, column: &Column, value: usize) -> &'a [u8] {
    let (start, end) = lines.index.place(column, value);
    &lines.text[start..end]
}

impl Look {
    /// Finds the classes of a template's values: where they are not all the same, only if `by_value`.
    pub(super) fn prepare(
        &mut self,
        lines: &Lines<'_>,
        property: &dyn LineProperty,
        local: usize,
        by_value: bool,
    ) {
        self.places.clear();
        self.slots.clear();
        self.classes.clear();
        self.kinds.clear();
        let template = lines.chunk.templates[local];
        if template == RAW {
            self.slots.push(SlotClass::Values);
            return;
        }
        let (fixed, slots) = (
            lines.templates.text(template),
            lines.templates.slots(template),
        );
        property.places(fixed, slots, &mut self.places);
        let starts = lines.chunk.text_starts();
        let stamps = lines.templates.stamps(template);
        let columns = lines.index.columns(local);
        for (at, (column, stamp)) in columns.iter().zip(stamps).enumerate() {
            let place = self.places[at];
            let start = lines.index.extent(column).start;
            let class = (1..TEXTS.len()).rfind(|class| starts[*class] <= start);
            let mut within = bounds(stamp, class.unwrap_or(0));
            let mut all = property.class_of_all(place, &within);
            if let Some(length) = lines.index.fixed_length(column).filter(|_| all.is_none()) {
                (within.shortest, within.longest) = (length, length);
                all = property.class_of_all(place, &within);
            }
            let slot = match all {
                Some(class) => SlotClass::All(class),
                None if by_value => self.classes_of(lines, property, column, place),
                None => SlotClass::Values,
            };
            self.slots.push(slot);
        }
    }

    /// Finds the class of each value of a column.
    fn classes_of(
        &mut self,
        lines: &Lines<'_>,
        property: &dyn LineProperty,
        column: &Column,
        place: u8,
    ) -> SlotClass {
        let (classes, kinds) = (self.classes.len(), self.kinds.len());
        for value in 0..column.values as usize {
            let class = property.class(place, text(lines, column, value));
            let class = class.unwrap_or(ITSELF);
            let known = self.kinds[kinds..].iter().position(|kind| *kind == class);
            let kind = known.unwrap_or_else(|| {
                self.kinds.push(class);
                self.kinds.len() - 1 - kinds
            });
            self.classes.push(kind as u8);
        }
        match self.kinds[kinds..] {
            [only] if only != ITSELF => {
                self.classes.truncate(classes);
                self.kinds.truncate(kinds);
                SlotClass::All(only)
            }
            _ => SlotClass::Several {
                classes,
                kinds,
                count: self.kinds.len() - kinds,
            },
        }
    }

    /// Whether all values at each place have one class, so that all rows have the same outcome.
    pub(super) fn is_same(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.all(|slot| matches!(slot, SlotClass::All(_)))
    }

    /// Finds the outcome of each combination.
    pub(super) fn look_at_firsts(
        &mut self,
        lines: &Lines<'_>,
        property: &dyn LineProperty,
        local: usize,
    ) {
        self.outcomes.clear();
        for at in 0..self.firsts.len() {
            let outcome = self.outcome_of(lines, property, local, self.firsts[at] as usize);
            self.outcomes.push(outcome);
        }
    }

    /// Numbers the combinations of classes that the rows of a template have.
    pub(super) fn combine(&mut self, lines: &Lines<'_>, local: usize, rows: usize) {
        self.combinations.clear();
        self.combinations.resize(rows, 0);
        let mut count = 1;
        for (slot, column) in self.slots.iter().zip(lines.index.columns(local)) {
            let SlotClass::Several {
                classes,
                kinds,
                count: several,
            } = *slot
            else {
                continue;
            };
            self.next.clear();
            self.next.resize(count * several, ALONE);
            count = 0;
            for (row, combination) in self.combinations.iter_mut().enumerate() {
                if *combination == ALONE {
                    continue;
                }
                let value = column.choice.value(row, lines.indices);
                let kind = usize::from(self.classes[classes + value]);
                let next = &mut self.next[*combination as usize * several + kind];
                let is_known = *next != ALONE;
                if !is_known && self.kinds[kinds + kind] != ITSELF && count < COMBINATIONS_MAX {
                    *next = count as u32;
                    count += 1;
                }
                *combination = *next;
            }
        }
        self.firsts.clear();
        self.firsts.resize(count, ALONE);
        for (row, combination) in self.combinations.iter().enumerate() {
            if let Some(first) = self.firsts.get_mut(*combination as usize) {
                *first = (*first).min(row as u32);
            }
        }
    }

    /// The outcome of a template's `row`th row: of its line with stand-ins where that does not matter.
    pub(super) fn outcome_of(
        &mut self,
        lines: &Lines<'_>,
        property: &dyn LineProperty,
        local: usize,
        row: usize,
    ) -> u8 {
        let fixed = lines.templates.text.as_slice();
        let range = lines.templates.text_range(lines.chunk.templates[local]);
        self.line.clear();
        let mut at = range.start;
        for (slot, column) in self.slots.iter().zip(lines.index.columns(local)) {
            let before = column.before.0 as usize..column.before.1 as usize;
            at = before.end;
            self.line.extend_from_slice(&fixed[before]);
            let value = column.choice.value(row, lines.indices);
            let class = match *slot {
                SlotClass::All(class) => class,
                SlotClass::Several { classes, kinds, .. } => {
                    self.kinds[kinds + usize::from(self.classes[classes + value])]
                }
                SlotClass::Values => ITSELF,
            };
            self.line.extend_from_slice(match class {
                ITSELF => text(lines, column, value),
                class => property.stand_in(class),
            });
        }
        self.line.extend_from_slice(&fixed[at..range.end]);
        property.of_line(&self.line)
    }
}
