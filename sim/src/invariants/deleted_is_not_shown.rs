use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Invariant, RecordNumber};

/// What was acknowledged and then deleted is in no answer of a run that knows of the request, never
/// again.
#[derive(Debug, Default)]
pub(crate) struct DeletedIsNotShown {
    acknowledged: BTreeSet<RecordNumber>,
    /// Of those that somebody last asked to be deleted; the others may be sent again, after the
    /// request was carried out.
    going: BTreeSet<RecordNumber>,
    /// By record: the version of the catalog since which it is deleted.
    deleted: BTreeMap<RecordNumber, u64>,
    /// What the run knows that is asked.
    version: u64,
}

impl Invariant for DeletedIsNotShown {
    fn name(&self) -> &'static str {
        "deleted_is_not_shown"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Acknowledged(records) => self.acknowledged.extend(records),
            Event::DeleteAsked(records) => {
                self.going = records & &self.acknowledged;
            }
            Event::Deleted { records, version } => {
                for record in records & &self.going {
                    self.deleted.entry(record).or_insert(*version);
                }
            }
            Event::QueryBegins { version, .. } => self.version = *version,
            Event::Found { records, .. } => {
                let shown = records.iter().find(|record| {
                    let since = self.deleted.get(record);
                    since.is_some_and(|since| *since <= self.version)
                });
                if let Some(shown) = shown {
                    let since = self.deleted[shown];
                    return Err(format!(
                        "record {shown} is shown at version {}, and was deleted at {since}",
                        self.version
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
