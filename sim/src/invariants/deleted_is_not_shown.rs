use std::collections::{BTreeMap, BTreeSet};

use super::requests::Requests;
use super::{Event, Invariant, RecordNumber};
use crate::records::Sent;

/// What a request names is in no answer of a run that knows of the request, never again: what was
/// acknowledged before it was made, and what is acknowledged before anybody knows that it is over.
#[derive(Debug, Default)]
pub(crate) struct DeletedIsNotShown {
    sent: BTreeMap<RecordNumber, Sent>,
    acknowledged: BTreeSet<RecordNumber>,
    requests: Requests,
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
            Event::Sent(records) => self.sent.extend(records.iter().copied()),
            Event::Acknowledged(records) => {
                for record in records {
                    let sent = self.sent.get(record);
                    let since = sent.and_then(|sent| self.requests.takes(*record, sent));
                    if let Some(since) = since {
                        self.deleted.entry(*record).or_insert(since);
                    }
                }
                self.acknowledged.extend(records);
            }
            Event::DeleteAsked { asked, records } => {
                self.requests.ask(asked);
                self.going = records & &self.acknowledged;
            }
            Event::Deleted { records, version } => {
                for record in records & &self.going {
                    self.deleted.entry(record).or_insert(*version);
                }
            }
            Event::Shows { catalog, .. } => {
                for (asked, since) in self.requests.shows(catalog) {
                    for record in &self.acknowledged {
                        let sent = self.sent.get(record);
                        if sent.is_some_and(|sent| asked.names(*record, sent)) {
                            self.deleted.entry(*record).or_insert(since);
                        }
                    }
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
