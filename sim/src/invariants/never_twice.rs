use std::collections::BTreeSet;

use super::{Event, Invariant, RecordNumber};
use crate::records::tenant_of;

/// No answer has a record twice, and none has what was never sent.
#[derive(Debug, Default)]
pub(crate) struct NeverTwice {
    sent: BTreeSet<RecordNumber>,
    /// Those who are asked about.
    tenants: BTreeSet<u64>,
}

impl Invariant for NeverTwice {
    fn name(&self) -> &'static str {
        "never_twice"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent(records) => self.sent.extend(records.iter().map(|(record, _)| *record)),
            Event::QueryBegins { tenants, .. } => self.tenants.clone_from(tenants),
            Event::Found { records, .. } => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = records.iter().find(|record| !seen.insert(**record)) {
                    return Err(format!("record {twice} is in an answer twice"));
                }
                if let Some(stray) = seen.difference(&self.sent).next() {
                    return Err(format!("record {stray} was never sent"));
                }
            }
            Event::Counted { once, .. } => {
                let tenants = &self.tenants;
                let sent = self.sent.iter();
                let sent = sent.filter(|record| tenants.contains(&tenant_of(**record)));
                let sent = sent.count() as u64;
                if *once > sent {
                    return Err(format!("{once} records are counted, {sent} were sent"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
