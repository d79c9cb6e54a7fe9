//! A scan whose sink takes the rows of chunks apart template by template, where that can be.

use std::sync::Arc;

use bytes::Bytes;
use model::{Flow, Labels};
use query::{Budget, BudgetError, ScanRequest, ScanStats, Sink, SourceError};
use segment::ClassRows;

use super::super::SnapshotSource;
use super::{Scan, Worker};
use crate::segments::segment_error;

/// A sink that takes rows template by template as well as in blocks. It must not matter to it
/// whether a record comes once or several times.
pub(crate) trait TemplateSink: Sink {
    /// The class of a stream: a number from 0. Rows of one class come together.
    fn class_of(&mut self, labels: &Arc<Labels>) -> usize;

    /// Takes rows of a class. Numbers of templates are those of the segment, which is named by a
    /// number.
    fn take(
        &mut self,
        segment: usize,
        class: usize,
        rows: &ClassRows<'_>,
    ) -> Result<(), BudgetError>;
}

impl SnapshotSource {
    /// As a scan of all columns, to a sink that takes the rows of most chunks template by template.
    /// Copies are delivered, too.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn scan_by_template<K: TemplateSink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.scan_by(
            request,
            budget,
            new_sink,
            |request, planned, heads, hidden| {
                let scan = Scan::counting(self, request, budget, planned, heads).without(hidden);
                scan.run_with(new_sink, &Scan::chunk_by_template)
            },
        )
    }
}

impl Scan<'_> {
    fn chunk_by_template<K: TemplateSink>(
        &self,
        worker: &mut Worker<K>,
        segment: usize,
        chunk: usize,
        bytes: &[Bytes],
    ) -> Result<Flow, SourceError> {
        let plan = &self.planned[segment].plan;
        let planned = &plan.chunks()[chunk];
        if self.sifts(segment, planned) {
            return self.chunk(worker, segment, chunk, bytes);
        }
        let read_bytes: u64 = bytes.iter().map(|bytes| bytes.len() as u64).sum();
        self.budget.take_rows(planned.rows)?;
        self.budget.take_memory(read_bytes)?;
        let sink = std::cell::RefCell::new(&mut worker.sink);
        let mut failed: Option<BudgetError> = None;
        let decoded = plan.decode_by_template(
            planned,
            &self.wanted(segment, planned),
            bytes,
            &mut worker.scratch,
            &mut |labels| sink.borrow_mut().class_of(labels),
            &mut |class, rows| {
                if failed.is_none() {
                    failed = sink.borrow_mut().take(segment, class, rows).err();
                }
            },
        );
        self.budget.give_memory(read_bytes);
        let decoded = decoded.map_err(|error| segment_error(&error))?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let stats = &mut worker.stats;
        self.count(stats, planned, read_bytes, decoded.rows_processed);
        stats.rows_matched += decoded.rows_matched;
        Ok(Flow::Continue)
    }
}
