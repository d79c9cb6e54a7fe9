use std::collections::BTreeSet;

use super::{Event, Invariant, RecordNumber};

/// No answer has a record twice, and none has what was never sent.
#[derive(Debug, Default)]
pub(crate) struct NeverTwice {
    sent: BTreeSet<RecordNumber>,
}

impl Invariant for NeverTwice {
    fn name(&self) -> &'static str {
        "never_twice"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent(records) => self.sent.extend(records),
            Event::Found(records) => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = records.iter().find(|record| !seen.insert(**record)) {
                    return Err(format!("record {twice} is in an answer twice"));
                }
                if let Some(stray) = seen.difference(&self.sent).next() {
                    return Err(format!("record {stray} was never sent"));
                }
            }
            Event::Counted { once, .. } if *once > self.sent.len() as u64 => {
                let sent = self.sent.len();
                return Err(format!("{once} records are counted, {sent} were sent"));
            }
            _ => {}
        }
        Ok(())
    }
}
