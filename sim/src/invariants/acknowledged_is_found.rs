use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;

use super::{Event, Invariant, Kept, RecordNumber};
use crate::records::tenant_of;

/// Whatever was acknowledged before a query began is in its answer, unless somebody asked for it to
/// be deleted, it has expired, or its loss was accepted.
#[derive(Debug, Default)]
pub(crate) struct AcknowledgedIsFound {
    times: BTreeMap<RecordNumber, Timestamp>,
    acknowledged: BTreeSet<RecordNumber>,
    may_be_gone: BTreeSet<RecordNumber>,
    /// What was acknowledged, of those who are asked about, when the query began.
    before: BTreeSet<RecordNumber>,
}

impl AcknowledgedIsFound {
    /// What a query must find.
    fn wanted(&self, kept: Kept) -> BTreeSet<RecordNumber> {
        let wanted = self.before.difference(&self.may_be_gone);
        let wanted = wanted.filter(|record| {
            let at = self.times.get(*record);
            at.is_some_and(|at| *at >= kept.must_from)
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
                let times = records.iter().map(|(record, sent)| (*record, sent.at));
                self.times.extend(times);
            }
            Event::Acknowledged(records) => self.acknowledged.extend(records),
            Event::DeleteAsked(records) | Event::LossAccepted(records) => {
                self.may_be_gone.extend(records);
            }
            Event::QueryBegins { tenants, .. } => {
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
