//! How the variables that decide which fields a line has part the rows of a template.

use hashbrown::HashMap;
use query::BudgetError;
use segment::SlotValues;

use super::columns::Rows;
use super::shape::{Deciding, Fixed};

/// Values of a variable that decides, and combinations of them, that are told apart in a chunk.
const DECIDING_MAX: usize = 64;

/// A variable that decides: what it decides by its value, 0 where it leaves everything as it is, and
/// the values that others stand for.
struct Decider<'a> {
    slot: usize,
    values: SlotValues<'a>,
    choices: Vec<u16>,
    literals: Vec<&'a [u8]>,
}

/// The line has to be looked at.
const ODD: u16 = u16::MAX;

/// How the deciding variables part the rows of a template.
pub(super) struct Split<'a> {
    /// Variables that are the same in all rows.
    fixed: Vec<Option<&'a [u8]>>,
    deciders: Vec<Decider<'a>>,
}

impl<'a> Split<'a> {
    /// `None` when there are too many ways.
    pub(super) fn of(deciding: &Deciding, rows: &Rows<'_, 'a>) -> Option<Split<'a>> {
        let mut split = Split {
            fixed: vec![None; rows.template.slots.len()],
            deciders: Vec::new(),
        };
        for slot in &deciding.keys {
            let values = rows.of.slot(*slot);
            match values.len() {
                1 => split.fixed[*slot] = Some(values.get(0)),
                2..=DECIDING_MAX => split.deciders.push(Decider {
                    slot: *slot,
                    values,
                    choices: (1..=values.len() as u16).collect(),
                    literals: (0..values.len()).map(|value| values.get(value)).collect(),
                }),
                _ => return None,
            }
        }
        for (slot, whole) in &deciding.bare {
            let values = rows.of.slot(*slot);
            let choice = |value: usize| match values.get(value) {
                [b'0'..=b'9', ..] => 0,
                b"true" | b"false" if *whole => 0,
                b"null" if *whole => 1,
                _ => ODD,
            };
            let choices: Vec<u16> = (0..values.len()).map(choice).collect();
            if deciding.keys.contains(slot) || choices.iter().all(|choice| *choice == 0) {
                continue;
            }
            split.deciders.push(Decider {
                slot: *slot,
                values,
                choices,
                literals: vec![b"null"],
            });
        }
        Some(split)
    }

    /// Calls `take` with the rows of each part and what is fixed in it; `None` for those whose lines
    /// have to be looked at.
    pub(super) fn each_part(
        &self,
        rows: &Rows<'_, 'a>,
        mut take: impl FnMut(Option<&Fixed<'a>>, &[u32]) -> Result<(), BudgetError>,
    ) -> Result<(), BudgetError> {
        if self.deciders.is_empty() {
            return take(Some(&self.fixed), rows.of.rows());
        }
        let mut parts: HashMap<Vec<u16>, Vec<u32>> = HashMap::new();
        let mut odd = Vec::new();
        let mut choice = Vec::new();
        for row in rows.of.rows() {
            choice.clear();
            let choices = self.deciders.iter();
            choice.extend(choices.map(|decider| decider.choices[decider.values.of_row(*row)]));
            if choice.contains(&ODD) {
                odd.push(*row);
                continue;
            }
            let full = parts.len() == DECIDING_MAX;
            match parts.get_mut(&choice) {
                Some(part) => part.push(*row),
                None if full => odd.push(*row),
                None => {
                    parts.insert(choice.clone(), vec![*row]);
                }
            }
        }
        for (choice, part) in &parts {
            let mut fixed = self.fixed.clone();
            for (decider, choice) in self.deciders.iter().zip(choice) {
                let literal = usize::from(*choice).checked_sub(1);
                fixed[decider.slot] = literal.map(|literal| decider.literals[literal]);
            }
            take(Some(&fixed), part)?;
        }
        take(None, &odd)
    }
}
