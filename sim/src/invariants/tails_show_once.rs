use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Invariant, RecordNumber};
use crate::records::tenant_of;

/// A live view shows a record at most once, and only records of its tenant that somebody sent.
#[derive(Debug, Default)]
pub(crate) struct TailsShowOnce {
    sent: BTreeSet<RecordNumber>,
    /// Of each view: its tenant, and what it has shown.
    views: BTreeMap<u64, (u64, BTreeSet<RecordNumber>)>,
}

impl Invariant for TailsShowOnce {
    fn name(&self) -> &'static str {
        "tails_show_once"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent(records) => self.sent.extend(records.iter().map(|(record, _)| *record)),
            Event::TailBegins { tail, tenant } => {
                self.views.insert(*tail, (*tenant, BTreeSet::new()));
            }
            Event::TailShows { tail, records } => {
                let Some((tenant, shown)) = self.views.get_mut(tail) else {
                    return Ok(());
                };
                for record in records {
                    if !shown.insert(*record) {
                        return Err(format!("view {tail} shows record {record} twice"));
                    }
                    if tenant_of(*record) != *tenant || !self.sent.contains(record) {
                        return Err(format!(
                            "view {tail} of tenant {tenant} shows record {record}, which is not its own"
                        ));
                    }
                }
            }
            Event::TailEnds { tail } => drop(self.views.remove(tail)),
            _ => {}
        }
        Ok(())
    }
}
