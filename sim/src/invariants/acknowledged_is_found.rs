use std::collections::BTreeSet;

use super::{Event, Invariant, RecordNumber};

/// Whatever was acknowledged before a query began is in its answer.
#[derive(Debug, Default)]
pub(crate) struct AcknowledgedIsFound {
    acknowledged: BTreeSet<RecordNumber>,
    /// As it was when the query began.
    before: BTreeSet<RecordNumber>,
}

impl Invariant for AcknowledgedIsFound {
    fn name(&self) -> &'static str {
        "acknowledged_is_found"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Acknowledged(records) => self.acknowledged.extend(records),
            Event::QueryBegins => self.before.clone_from(&self.acknowledged),
            Event::Found(records) => {
                let found: BTreeSet<RecordNumber> = records.iter().copied().collect();
                let lost: Vec<_> = self.before.difference(&found).collect();
                if !lost.is_empty() {
                    return Err(format!(
                        "{} of {} acknowledged records are not found: {:?}",
                        lost.len(),
                        self.before.len(),
                        &lost[..lost.len().min(20)]
                    ));
                }
            }
            Event::Counted { once, .. } if *once < self.before.len() as u64 => {
                let acknowledged = self.before.len();
                return Err(format!(
                    "{once} records are counted, {acknowledged} are acknowledged"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
