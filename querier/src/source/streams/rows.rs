//! What is counted of chunks of which their tables do not tell enough.

use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use query::{ScanOrder, ScanStats, SourceError};
use segment::{PlannedChunk, PlannedStream, ScanSpec};

use super::super::contest::Contest;
use super::super::heads::Heads;
use super::super::hidden::Delete;
use super::super::scan::Scan;
use super::super::{Planned, SnapshotSource};
use super::{Counter, Search, StreamTotal, Streams};

/// Of a stream that is not known to have records, so many times as many chunks are looked at as in the
/// round before.
const CHUNKS_FACTOR: usize = 4;

impl SnapshotSource {
    /// Finds out which streams have records in the chunks: one chunk of each stream mostly tells, so that
    /// not all of them are read.
    pub(super) fn find_rows(
        &self,
        streams: &mut Streams,
        mut planned: Vec<Planned>,
        search: &Search<'_>,
    ) -> Result<(), SourceError> {
        let mut most = 1;
        loop {
            for Planned { plan, .. } in &mut planned {
                let known = |stream: &PlannedStream| search.knows(streams, &stream.labels);
                plan.retain(|chunk| !chunk.streams.iter().all(known));
            }
            planned.retain(|planned| !planned.plan.chunks().is_empty());
            if planned.is_empty() {
                return Ok(());
            }
            let some = some_of_each(streams, &mut planned, most);
            self.count_rows(streams, some, Contest::default(), search)?;
            most *= CHUNKS_FACTOR;
        }
    }

    /// Adds the rows of the chunks, and those of heads.
    pub(super) fn count_rows(
        &self,
        streams: &mut Streams,
        mut planned: Vec<Planned>,
        contest: Contest,
        search: &Search<'_>,
    ) -> Result<(), SourceError> {
        for delete in search.hidden.deletes() {
            self.count_less(streams, &mut planned, &contest, delete, search)?;
        }
        planned.retain(|planned| !planned.plan.chunks().is_empty());
        let (request, budget) = (search.request, search.budget);
        let mut scan = Scan::counting(self, request, budget, &planned, search.heads);
        scan.contest = contest;
        let (counters, _) = scan.without(search.hidden).run(&Counter::default)?;
        for (labels, total) in counters.into_iter().flat_map(|counter| counter.totals) {
            let sum = streams.totals.entry(labels).or_default();
            sum.records += total.records;
            sum.bytes += total.bytes;
        }
        Ok(())
    }

    /// Takes the chunks that one delete hides rows of by their lines alone, and adds what their tables say
    /// less those rows: of the others nothing is read.
    fn count_less(
        &self,
        streams: &mut Streams,
        planned: &mut [Planned],
        contest: &Contest,
        delete: &Delete,
        search: &Search<'_>,
    ) -> Result<(), SourceError> {
        let (range, filter) = delete;
        if !filter.is_by_line() {
            return Ok(());
        }
        let (request, budget) = (search.request, search.budget);
        let spec = ScanSpec {
            tenant: &self.tenant,
            selector: filter.selector(),
            range: range.intersection(&request.range),
            line_filter: filter.line_filter(),
        };
        let mut left: HashMap<Arc<Labels>, StreamTotal> = HashMap::new();
        let mut deleted = Vec::new();
        for Planned {
            meta,
            segment,
            plan,
        } in planned
        {
            budget.check()?;
            let taken = plan.split_off(|chunk| search.hides_by_line(chunk, delete, contest));
            if taken.chunks().is_empty() {
                continue;
            }
            for stream in taken.chunks().iter().flat_map(|chunk| &chunk.streams) {
                let total = left.entry_ref(&stream.labels).or_default();
                total.records += stream.rows;
                total.bytes += stream.content_bytes;
            }
            let chunks = taken.chunks().iter().map(|chunk| chunk.index);
            let chunks: HashSet<u32> = chunks.collect();
            let mut plan = segment.plan(&spec);
            plan.retain(|chunk| chunks.contains(&chunk.index));
            deleted.push(Planned {
                meta: Arc::clone(meta),
                segment: segment.clone(),
                plan,
            });
        }
        let mut stats = ScanStats::default();
        self.filter(&mut deleted, ScanOrder::Any, budget, &mut stats)?;
        let none = Heads::default();
        let scan = Scan::counting(self, request, budget, &deleted, &none);
        let (counters, _) = scan.run(&Counter::default)?;
        for (labels, total) in counters.into_iter().flat_map(|counter| counter.totals) {
            if let Some(left) = left.get_mut(&labels) {
                left.records = left.records.saturating_sub(total.records);
                left.bytes = left.bytes.saturating_sub(total.bytes);
            }
        }
        let mut grown = 0;
        for (labels, total) in left.iter().filter(|(_, total)| total.records > 0) {
            grown += streams.add(labels, total.records, total.bytes);
        }
        budget.take_memory(grown)?;
        Ok(())
    }
}

/// Takes so many chunks of each stream that is not known, the last ones.
fn some_of_each(streams: &Streams, planned: &mut [Planned], most: usize) -> Vec<Planned> {
    let mut taken: HashMap<Arc<Labels>, usize> = HashMap::new();
    let mut some = Vec::new();
    for planned in planned {
        let mut numbers = HashSet::new();
        for chunk in planned.plan.chunks().iter().rev() {
            let labels = chunk.streams.iter().map(|stream| &stream.labels);
            let unknown = labels.filter(|labels| !streams.totals.contains_key(*labels));
            let short = |labels: &&Arc<Labels>| taken.get(*labels).is_none_or(|n| *n < most);
            let short: Vec<&Arc<Labels>> = unknown.filter(short).collect();
            if !short.is_empty() {
                numbers.insert(chunk.index);
            }
            for labels in short {
                *taken.entry_ref(labels).or_default() += 1;
            }
        }
        some.push(Planned {
            meta: Arc::clone(&planned.meta),
            segment: planned.segment.clone(),
            plan: planned
                .plan
                .split_off(|chunk| numbers.contains(&chunk.index)),
        });
    }
    some.retain(|planned| !planned.plan.chunks().is_empty());
    some
}

impl Search<'_> {
    /// Whether a chunk has rows of the range only, and this delete alone may hide some of them, by their
    /// lines.
    fn hides_by_line(&self, chunk: &PlannedChunk, delete: &Delete, contest: &Contest) -> bool {
        let mut is_touched = false;
        chunk.streams.iter().all(|stream| {
            let (first, last) = (stream.first, stream.last);
            let mut deletes = self.hidden.of_stream(&stream.labels, first, last);
            self.request.range.covers(first, last)
                && contest.of(stream.id, first, last).is_none()
                && deletes.all(|other| {
                    is_touched = true;
                    std::ptr::eq(other, delete)
                })
        }) && is_touched
    }
}
