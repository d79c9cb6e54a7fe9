use std::collections::BTreeMap;

use model::Timestamp;

use super::{Event, Invariant, RecordNumber};

/// What is past its retention by the clock of the querier is not in its answer.
#[derive(Debug, Default)]
pub(crate) struct ExpiredIsNotShown {
    times: BTreeMap<RecordNumber, Timestamp>,
}

impl Invariant for ExpiredIsNotShown {
    fn name(&self) -> &'static str {
        "expired_is_not_shown"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent(records) => {
                let times = records.iter().map(|(record, sent)| (*record, sent.at));
                self.times.extend(times);
            }
            Event::Found { records, kept } => {
                for record in records {
                    let at = self.times.get(record);
                    if let Some(at) = at.filter(|at| **at < kept.may_from) {
                        let late = kept.may_from - at;
                        return Err(format!(
                            "record {record} is shown {late} ns after it has expired"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
