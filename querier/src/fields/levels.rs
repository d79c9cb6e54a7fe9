//! The levels of rows that come template by template.

use model::Labels;
use query::BudgetError;
use query::logql::pipeline::level::{self, DETECTED_LEVEL};
use segment::{ClassRows, SlotValues};

use super::FieldSink;
use super::columns::{Level, Rows, mark};
use super::level::{LevelRule, has_level_word, is_level_key, is_no_number, names_level};
use super::shape::Fixed;

impl FieldSink<'_> {
    /// Adds the levels that labels and metadata tell, and marks their rows.
    pub(super) fn add_told_levels(
        &mut self,
        labels: &Labels,
        level: Level,
        rows: &ClassRows<'_>,
        told: &mut Vec<u64>,
    ) -> Result<(), BudgetError> {
        let tells = |key: &str| key == DETECTED_LEVEL || level::names_level(key);
        if !rows.metadata_keys().any(tells) {
            return match level {
                Level::Labels => self.add_level(level::of_labels(labels).unwrap_or_default()),
                _ => Ok(()),
            };
        }
        let last = rows.rows().iter().max().copied().unwrap_or(0) as usize;
        told.resize(last / 64 + 1, 0);
        for row in rows.rows() {
            let pairs = rows.metadata(*row).filter(|(key, _)| tells(key));
            let pairs: Vec<(&str, &str)> = pairs.collect();
            if pairs.iter().any(|(key, _)| *key == DETECTED_LEVEL) {
                mark(told, *row as usize);
            } else if level == Level::Labels {
                self.add_level(level::of_labels(labels).unwrap_or_default())?;
            } else if !pairs.is_empty() {
                mark(told, *row as usize);
                self.add_level(level::of_record(b"", &pairs))?;
            }
        }
        Ok(())
    }

    pub(super) fn add_level(&mut self, level: &str) -> Result<(), BudgetError> {
        let number = self.found.number(DETECTED_LEVEL)?;
        self.found.add_value(number, level)
    }

    /// Adds the levels that lines tell.
    pub(super) fn add_levels(
        &mut self,
        rows: &Rows<'_, '_>,
        part: &[u32],
        fixed: &Fixed<'_>,
        bare: &[(usize, bool)],
        rule: LevelRule,
    ) -> Result<(), BudgetError> {
        let template = &rows.template;
        let is_free = |slot: &usize| fixed.get(*slot).copied().flatten().is_none();
        let own = match rule {
            LevelRule::Slot(slot) => Some((slot, rows.of.slot(slot))),
            LevelRule::Always(_) | LevelRule::Numbers(_) | LevelRule::Words(_) => None,
        };
        let keys = template.level_keys().filter(is_free);
        let mut keys = telling(rows, keys, is_level_key);
        let numbers = bare.iter().map(|(slot, _)| *slot).filter(|slot| {
            let asked = is_free(slot) && !matches!(rule, LevelRule::Always(_));
            asked && rows.of.slot(*slot).may_have_words()
        });
        keys.extend(telling(rows, numbers, is_no_number));
        let asks_words = asks_words(rule, own.map(|(_, values)| values));
        let words = (0..template.slots.len()).filter(|slot| {
            let is_own = own.is_some_and(|(own, _)| own == *slot);
            let asked = asks_words && is_free(slot) && !is_own;
            let values = rows.of.slot(*slot);
            asked && values.may_have_words() && has_level_word(values.text())
        });
        let words = telling(rows, words, has_level_word);
        let tells = |telling: &[(SlotValues<'_>, Vec<bool>)], row: u32| {
            telling
                .iter()
                .any(|(values, tells)| tells[values.of_row(row)])
        };
        // Of rows that tell nothing of their own: by value of the variable, if one is asked.
        let mut done = vec![false; own.map_or(1, |(_, values)| values.len())];
        let mut line = Vec::new();
        for row in part.iter().filter(|row| rows.wants_level(**row)) {
            let value = own.map_or(0, |(_, values)| values.of_row(*row));
            let names = own.is_some_and(|(_, values)| names_level(values.get(value)));
            if tells(&keys, *row) || !names && tells(&words, *row) {
                line.clear();
                rows.of.append_line(*row, &mut line);
                self.add_level(level::of_line(&line))?;
                continue;
            }
            if std::mem::replace(&mut done[value], true) {
                continue;
            }
            self.add_level(match (rule, own) {
                (
                    LevelRule::Always(level) | LevelRule::Numbers(level) | LevelRule::Words(level),
                    _,
                ) => level,
                (LevelRule::Slot(slot), own) => {
                    let text = own.map_or(&b""[..], |(_, values)| values.get(value));
                    template.level_of(fixed, slot, text)
                }
            })?;
            if own.is_none() && keys.is_empty() && words.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether words of lines may count: not where each line has a field that names its level.
fn asks_words(rule: LevelRule, own: Option<SlotValues<'_>>) -> bool {
    match (rule, own) {
        (LevelRule::Always(_) | LevelRule::Numbers(_), _) => false,
        (_, Some(values)) => (0..values.len()).any(|value| !names_level(values.get(value))),
        (_, None) => true,
    }
}

/// Of these variables those that have values which pass a test, and which these are.
fn telling<'a>(
    rows: &Rows<'_, 'a>,
    slots: impl Iterator<Item = usize>,
    test: impl Fn(&[u8]) -> bool,
) -> Vec<(SlotValues<'a>, Vec<bool>)> {
    let tells = |slot| {
        let values = rows.of.slot(slot);
        let tells = (0..values.len()).map(|value| test(values.get(value)));
        (values, tells.collect::<Vec<bool>>())
    };
    slots
        .map(tells)
        .filter(|(_, tells)| tells.contains(&true))
        .collect()
}
