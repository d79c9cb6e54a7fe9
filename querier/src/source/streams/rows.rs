//! What is counted of chunks of which their tables do not tell enough.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use query::{ScanOrder, ScanStats, SourceError};
use rpc::SegmentId;
use segment::{PlannedChunk, PlannedStream, ScanSpec};

use super::super::contest::Contest;
use super::super::heads::Heads;
use super::super::scan::Scan;
use super::super::{Planned, SnapshotSource};
use super::{Counter, Search, Streams, Wanted};

/// Of a stream that is not known to have records, so many times as many chunks are looked at as in the
/// round before.
const CHUNKS_FACTOR: usize = 4;
/// Filters are asked which of so many deletes a chunk has lines of: each takes a plan of its own.
const DELETES_MAX: usize = 8;

/// By segment and chunk: how many deletes may hide rows of it.
type Hiding = HashMap<(SegmentId, u32), usize>;

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
        self.count_less(streams, &mut planned, &contest, search)?;
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

    /// Takes the chunks of which one delete at most hides rows, by their lines alone, and adds what their
    /// tables say less those rows: of the others nothing is read. However many deletes there are, what
    /// they hide is read at one go.
    fn count_less(
        &self,
        streams: &mut Streams,
        planned: &mut [Planned],
        contest: &Contest,
        search: &Search<'_>,
    ) -> Result<(), SourceError> {
        let (request, budget) = (search.request, search.budget);
        let (mut deleted, hiding) = self.hidden_by_line(planned, contest, search)?;
        let mut left = Streams::default();
        let mut held = 0;
        for planned in planned {
            budget.check()?;
            let id = planned.meta.id;
            let few = |chunk: &PlannedChunk| hiding.get(&(id, chunk.index)).is_some_and(|n| *n < 2);
            let taken = planned.plan.split_off(few);
            let of_chunks = taken.chunks().iter().flat_map(|chunk| &chunk.streams);
            let grown = of_chunks.map(|of| left.add(&of.labels, of.rows, of.content_bytes));
            let grown = grown.sum();
            budget.take_memory(grown)?;
            held += grown;
        }
        for Planned { meta, plan, .. } in &mut deleted {
            plan.retain(|chunk| hiding.get(&(meta.id, chunk.index)) == Some(&1));
        }
        let none = Heads::default();
        let scan = Scan::counting(self, request, budget, &deleted, &none);
        let (counters, _) = scan.run(&Counter::default)?;
        for (labels, total) in counters.into_iter().flat_map(|counter| counter.totals) {
            if let Some(left) = left.totals.get_mut(&labels) {
                left.records = left.records.saturating_sub(total.records);
                left.bytes = left.bytes.saturating_sub(total.bytes);
            }
        }
        let left = left.totals.iter().filter(|(_, total)| total.records > 0);
        let grown = left.map(|(labels, total)| streams.add(labels, total.records, total.bytes));
        budget.take_memory(grown.sum())?;
        budget.give_memory(held);
        Ok(())
    }

    /// What deletes hide by lines of chunks that nothing else makes uncertain, one plan for each delete
    /// and segment; and of how many deletes each of these chunks may have lines, as filters tell.
    fn hidden_by_line(
        &self,
        planned: &[Planned],
        contest: &Contest,
        search: &Search<'_>,
    ) -> Result<(Vec<Planned>, Hiding), SourceError> {
        let mut hiding = Hiding::new();
        let mut deleted = Vec::new();
        for planned in planned {
            search.budget.check()?;
            let mut by_delete: BTreeMap<usize, HashSet<u32>> = BTreeMap::new();
            for chunk in planned.plan.chunks() {
                let deletes = search.hide_by_line(chunk, contest);
                if !deletes.is_empty() {
                    hiding.insert((planned.meta.id, chunk.index), 0);
                }
                for delete in deletes {
                    by_delete.entry(delete).or_default().insert(chunk.index);
                }
            }
            for (delete, chunks) in by_delete {
                deleted.push(self.hidden_of(planned, &chunks, delete, search));
            }
        }
        let mut stats = ScanStats::default();
        self.filter(&mut deleted, ScanOrder::Any, search.budget, &mut stats)?;
        for Planned { meta, plan, .. } in &deleted {
            for chunk in plan.chunks() {
                *hiding.entry((meta.id, chunk.index)).or_default() += 1;
            }
        }
        Ok((deleted, hiding))
    }

    /// What a delete, by its place, hides of some chunks of a segment.
    fn hidden_of(
        &self,
        planned: &Planned,
        chunks: &HashSet<u32>,
        delete: usize,
        search: &Search<'_>,
    ) -> Planned {
        let (range, filter) = &search.hidden.deletes()[delete];
        let mut plan = planned.segment.plan(&ScanSpec {
            tenant: &self.tenant,
            selector: filter.selector(),
            range: range.intersection(&search.request.range),
            line_filter: filter.line_filter(),
        });
        plan.retain(|chunk| chunks.contains(&chunk.index));
        Planned {
            meta: Arc::clone(&planned.meta),
            segment: planned.segment.clone(),
            plan,
        }
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
    /// The deletes, by their places, that may hide rows of a chunk, all by their lines; none of a chunk
    /// that has rows outside of the range, or rows that may have copies, or that many deletes touch.
    fn hide_by_line(&self, chunk: &PlannedChunk, contest: &Contest) -> Vec<usize> {
        let deletes_max = match self.wanted {
            // One chunk of a stream is mostly enough, and as soon read as filters are.
            Wanted::Labels => 1,
            Wanted::Totals | Wanted::Chunks => DELETES_MAX,
        };
        let mut found = Vec::new();
        for stream in &chunk.streams {
            let (first, last) = (stream.first, stream.last);
            if !self.request.range.covers(first, last)
                || contest.of(stream.id, first, last).is_some()
            {
                return Vec::new();
            }
            for delete in self.hidden.of_stream(&stream.labels, first, last) {
                if found.contains(&delete) {
                    continue;
                }
                let by_line = self.hidden.deletes()[delete].1.is_by_line();
                if !by_line || found.len() == deletes_max {
                    return Vec::new();
                }
                found.push(delete);
            }
        }
        found
    }
}
