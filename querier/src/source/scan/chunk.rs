//! One chunk: decoded, and handed on without copies and what is hidden.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::{Flow, RecordIdentity, RowBlock, Signal, StreamId};
use query::{BudgetError, ScanStats, Sink, SourceError};
use segment::PlannedChunk;

use super::super::contest::Contested;
use super::super::patterns::Patterned;
use super::super::rows::{PickedMetadata, Sifter, project};
use super::{Form, Scan, Worker};
use crate::segments::segment_error;

impl Scan<'_> {
    pub(super) fn chunk<K: Sink>(
        &self,
        worker: &mut Worker<K>,
        segment: usize,
        chunk: usize,
        bytes: &[Bytes],
    ) -> Result<Flow, SourceError> {
        let plan = &self.planned[segment].plan;
        let chunk = &plan.chunks()[chunk];
        let read_bytes: u64 = bytes.iter().map(|bytes| bytes.len() as u64).sum();
        self.budget.take_rows(chunk.rows)?;
        self.budget.take_memory(read_bytes)?;
        let sifts = self.sifts(segment, chunk);
        let wanted = self.wanted(segment, chunk);
        let Worker {
            sink,
            stats,
            scratch,
            picked,
            lengths,
            hiding,
        } = worker;
        let mut failed: Option<BudgetError> = None;
        let mut sifter = Sifter::new(picked, lengths, hiding);
        let useful = || self.useful_range();
        let mut deliver = |block: &RowBlock<'_>| {
            let pushed = match (sifts, self.form) {
                (false, _) => sink.push(block),
                (true, Form::Lines) => self.deliver(block, sink, &mut sifter),
                (true, Form::Patterns) => {
                    let mut sink = Patterned::new(sink);
                    self.deliver(block, &mut sink, &mut sifter)
                }
            };
            self.tighten(sink.bound());
            pushed.unwrap_or_else(|error| {
                failed = Some(error);
                Flow::Stop
            })
        };
        let decoded = plan.decode_wanted(chunk, &wanted, &useful, bytes, scratch, &mut deliver);
        self.budget.give_memory(read_bytes);
        let decoded = decoded.map_err(|error| segment_error(&error))?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.count(stats, chunk, read_bytes, decoded.rows_processed);
        stats.rows_matched += decoded.rows_matched - sifter.copies - sifter.hidden;
        stats.duplicates += sifter.copies;
        Ok(if decoded.stopped {
            Flow::Stop
        } else {
            Flow::Continue
        })
    }

    /// Counts a chunk that was decoded.
    pub(super) fn count(
        &self,
        stats: &mut ScanStats,
        chunk: &PlannedChunk,
        read_bytes: u64,
        rows_processed: u64,
    ) {
        let tally = &self.source.tally;
        for (total, more) in [
            (&tally.chunks, 1),
            (&tally.chunk_rows, rows_processed),
            (&tally.chunk_bytes, chunk.content_bytes),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
        stats.chunks += 1;
        stats.bytes_read += read_bytes;
        stats.bytes_processed += chunk.content_bytes;
        stats.rows_processed += rows_processed;
    }

    /// Hands a block on without the rows that are hidden or were delivered already.
    fn deliver<K: Sink>(
        &self,
        block: &RowBlock<'_>,
        sink: &mut K,
        sifter: &mut Sifter<'_>,
    ) -> Result<Flow, BudgetError> {
        let columns = self.request.columns;
        let id = StreamId::of(&self.source.tenant, Signal::Logs, block.labels);
        let times = block.timestamps;
        let contested = match times {
            [first, .., last] => self.contest.of(id, *first, *last),
            [only] => self.contest.of(id, *only, *only),
            [] => None,
        };
        let hides = sifter.hiding.stream(block.labels);
        if contested.is_none() && !hides {
            return sink.push(&project(block, columns, sifter.lengths));
        }
        let mut kept = Vec::with_capacity(block.rows);
        for row in 0..block.rows {
            if hides && sifter.hiding.hides_row(block, row) {
                sifter.hidden += 1;
                continue;
            }
            match contested {
                Some(contested) if !self.admit(contested, block, row)? => sifter.copies += 1,
                _ => kept.push(row),
            }
        }
        if kept.len() == block.rows {
            return sink.push(&project(block, columns, sifter.lengths));
        }
        if kept.is_empty() {
            return Ok(Flow::Continue);
        }
        let picked = &mut *sifter.picked;
        picked.clear();
        let mut metadata = PickedMetadata::default();
        for row in kept {
            picked.push(columns, times[row], block.lines.line(row));
            if let Some(outcome) = block.outcomes.get(row) {
                picked.push_outcome(*outcome);
            }
            if let Some(rows) = block.metadata.filter(|_| columns.metadata) {
                metadata.push(rows.row(row).iter().copied());
            }
        }
        sink.push(&picked.block(block.labels, columns, &metadata))
    }

    fn admit(
        &self,
        contested: &Contested,
        block: &RowBlock<'_>,
        row: usize,
    ) -> Result<bool, BudgetError> {
        let timestamp = block.timestamps[row];
        if !contested.contains(timestamp) {
            return Ok(true);
        }
        let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
        let pairs = pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
        let identity = RecordIdentity::of(timestamp, block.lines.line(row), pairs);
        contested.admit(identity, self.budget)
    }
}
