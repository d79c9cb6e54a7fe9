use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;

use super::requests::Requests;
use super::{Event, Invariant, Kept, RecordNumber};
use crate::records::tenant_of;

/// Whatever was acknowledged before a query began is in its answer, unless somebody asked for it to
/// be deleted, it has expired, or its loss was accepted. What is sent after a request is over is kept.
#[derive(Debug, Default)]
pub(crate) struct AcknowledgedIsFound {
    times: BTreeMap<RecordNumber, Timestamp>,
    acknowledged: BTreeSet<RecordNumber>,
    requests: Requests,
    may_be_gone: BTreeSet<RecordNumber>,
    /// Who knows no such version may hide these, for requests that were over when they were sent.
    hidden_before: BTreeMap<RecordNumber, u64>,
    /// What the run knows that is asked.
    version: u64,
    /// What was acknowledged, of those who are asked about, when the query began.
    before: BTreeSet<RecordNumber>,
}

impl AcknowledgedIsFound {
    /// What a query must find.
    fn wanted(&self, kept: Kept) -> BTreeSet<RecordNumber> {
        let wanted = self.before.difference(&self.may_be_gone);
        let wanted = wanted.filter(|record| {
            let at = self.times.get(*record);
            let known = self.hidden_before.get(*record);
            at.is_some_and(|at| *at >= kept.must_from)
                && known.is_none_or(|known| *known <= self.version)
        });
        wanted.copied().collect()
    }
}

impl Invariant for AcknowledgedIsFound {
    fn name(&self) -> &'static str {
        "acknowledged_is_found"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent(records) => {
                for (record, sent) in records {
                    self.times.insert(*record, sent.at);
                    if self.requests.may_take(*record, sent) {
                        self.may_be_gone.insert(*record);
                    }
                    if let Some(over) = self.requests.over(*record, sent) {
                        self.hidden_before.insert(*record, over);
                    }
                }
            }
            Event::Acknowledged(records) => self.acknowledged.extend(records),
            Event::DeleteAsked { asked, records } => {
                self.requests.ask(asked);
                self.may_be_gone.extend(records);
            }
            Event::LossAccepted(records) => self.may_be_gone.extend(records),
            Event::Shows { catalog, .. } => drop(self.requests.shows(catalog)),
            Event::QueryBegins {
                tenants, version, ..
            } => {
                self.version = *version;
                let acknowledged = self.acknowledged.iter();
                let before = acknowledged.filter(|record| tenants.contains(&tenant_of(**record)));
                self.before = before.copied().collect();
            }
            Event::Found { records, kept } => {
                let found: BTreeSet<RecordNumber> = records.iter().copied().collect();
                let wanted = self.wanted(*kept);
                let lost: Vec<_> = wanted.difference(&found).collect();
                if !lost.is_empty() {
                    return Err(format!(
                        "{} of {} acknowledged records are not found: {:?}",
                        lost.len(),
                        wanted.len(),
                        &lost[..lost.len().min(20)]
                    ));
                }
            }
            Event::Counted { once, kept, .. } => {
                let wanted = self.wanted(*kept).len();
                if *once < wanted as u64 {
                    return Err(format!(
                        "{once} records are counted, {wanted} are acknowledged"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
