//! Which records conditions on their level let pass, for a source that knows the level of a line
//! without the line.

use std::sync::Arc;

use model::{Labels, OutcomeSet, OutcomeTest};

use super::super::label_filter::Condition;
use super::super::names::{NameId, Names};
use super::super::stage::Step;
use super::{DETECTED_LEVEL, LEVELS, names_level, normalise, of_labels, of_metadata};

/// Conditions of which some look at nothing but the level.
#[derive(Debug)]
struct LevelTest {
    conditions: Vec<Condition>,
    id: NameId,
    /// The levels of lines that pass.
    of_line: OutcomeSet,
}

/// The conditions that stand before anything that could give a record another level; `None` if they
/// leave out no level of a line.
pub(in super::super) fn test(steps: &[Step], names: &Names) -> Option<Arc<dyn OutcomeTest>> {
    let id = names.find(DETECTED_LEVEL)?;
    let before = steps
        .iter()
        .take_while(|step| matches!(step, Step::Condition(_) | Step::LineFilter(_)));
    let conditions = before.filter_map(|step| match step {
        Step::Condition(condition) => Some(condition.clone()),
        _ => None,
    });
    let mut test = LevelTest {
        conditions: conditions.collect(),
        id,
        of_line: OutcomeSet::NONE,
    };
    let levels = (0u8..).zip(LEVELS);
    test.of_line = OutcomeSet::of(
        levels
            .filter(|(_, level)| test.passes(level))
            .map(|(at, _)| at),
    );
    let leaves_out = (0..LEVELS.len() as u8).any(|level| !test.of_line.has(level));
    leaves_out.then(|| Arc::new(test) as Arc<dyn OutcomeTest>)
}

impl LevelTest {
    /// Whether a record of this level may pass.
    fn passes(&self, level: &str) -> bool {
        let mut conditions = self.conditions.iter();
        !conditions.any(|condition| condition.refutes(self.id, level))
    }

    fn told(&self, level: &str) -> OutcomeSet {
        match self.passes(level) {
            true => OutcomeSet::ALL,
            false => OutcomeSet::NONE,
        }
    }
}

impl OutcomeTest for LevelTest {
    fn useful(&self, labels: &Labels, metadata: &[(&str, &str)]) -> OutcomeSet {
        if let Some(level) = labels.get(DETECTED_LEVEL) {
            return self.told(level);
        }
        let mut told = metadata.iter().filter(|(key, _)| *key == DETECTED_LEVEL);
        match (told.next(), told.next()) {
            (None, _) => {}
            (Some((_, level)), None) => return self.told(normalise(level)),
            // The pipeline decides which of them counts.
            (Some(_), Some(_)) => return OutcomeSet::ALL,
        }
        match of_labels(labels).or_else(|| of_metadata(metadata)) {
            Some(level) => self.told(level),
            None => self.of_line,
        }
    }

    fn reads(&self, key: &str) -> bool {
        key == DETECTED_LEVEL || names_level(key)
    }
}
