use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Invariant, RecordNumber};
use crate::records::tenant_of;

/// What is first sent while a live view is open, and acknowledged long before its client leaves, is
/// shown, unless the view says that something was dropped. A request to delete may hide what comes late.
#[derive(Debug, Default)]
pub(crate) struct TailsTellGaps {
    views: BTreeMap<u64, View>,
}

#[derive(Debug, Default)]
struct View {
    tenant: u64,
    sent: BTreeSet<RecordNumber>,
    /// Of these, with how many frames the view has shown since.
    acknowledged: BTreeMap<RecordNumber, u64>,
    excused: BTreeSet<RecordNumber>,
    shown: BTreeSet<RecordNumber>,
    dropped: bool,
}

/// The view gives a sign of life each second: after so many a record cannot be on its way any more.
const FRAMES: u64 = 12;

impl Invariant for TailsTellGaps {
    fn name(&self) -> &'static str {
        "tails_tell_gaps"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::TailBegins { tail, tenant } => {
                let view = View {
                    tenant: *tenant,
                    ..View::default()
                };
                self.views.insert(*tail, view);
            }
            Event::Sent(records) => {
                for view in self.views.values_mut() {
                    let of = records.iter().filter(|(_, sent)| !sent.late);
                    let of = of.map(|(record, _)| *record);
                    view.sent
                        .extend(of.filter(|record| tenant_of(*record) == view.tenant));
                }
            }
            Event::Acknowledged(records) => {
                for view in self.views.values_mut() {
                    for record in records.iter().filter(|record| view.sent.contains(record)) {
                        view.acknowledged.insert(*record, 0);
                    }
                }
            }
            Event::DeleteAsked { records, .. } => {
                for view in self.views.values_mut() {
                    view.excused.extend(records);
                }
            }
            Event::TailShows { tail, records } => {
                let Some(view) = self.views.get_mut(tail) else {
                    return Ok(());
                };
                view.shown.extend(records);
                view.acknowledged
                    .values_mut()
                    .for_each(|frames| *frames += 1);
            }
            Event::TailDropped { tail } => {
                if let Some(view) = self.views.get_mut(tail) {
                    view.dropped = true;
                }
            }
            Event::TailEnds { tail } => {
                let Some(view) = self.views.remove(tail).filter(|view| !view.dropped) else {
                    return Ok(());
                };
                let old = view.acknowledged.iter();
                let old = old.filter(|(_, frames)| **frames >= FRAMES);
                let mut missed = old.map(|(record, _)| record).filter(|record| {
                    !view.shown.contains(record) && !view.excused.contains(record)
                });
                if let Some(record) = missed.next() {
                    return Err(format!(
                        "view {tail} has not shown record {record} and {} others, and says nothing of it",
                        missed.count()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
