//! Which parts of the token filters are read, and what they leave of a plan.

use std::ops::Range;

use bytes::Bytes;

use super::Plan;
use crate::Error;
use crate::filter::Filters;
use crate::search::Test;

/// Where requests cost little, so many rows are read for one test that together they are wrong about
/// one chunk in 4,096 or fewer, ...
const BITS_TOLD: u32 = 12;
/// ... but no more than this.
const ROWS_MAX: usize = 8;
/// Where requests cost much, rows this near to each other are read at one go.
const SPAN_BYTES: u64 = 64 << 10;

/// A part of the filters, in which one test looks.
struct Read {
    test: usize,
    range: Range<u64>,
    /// The rows in it that are looked at, and for which probes.
    rows: Vec<(usize, Vec<usize>)>,
}

impl Plan {
    /// From now on a request is taken to cost much: one for each text that is looked for, where
    /// there would be several otherwise that together are less often wrong.
    pub fn prefer_few_requests(&mut self) {
        self.few_requests = true;
    }

    /// Parts of the token filters that are worth reading, for
    /// [`apply_filters`](Self::apply_filters); empty when no filter can help.
    pub fn filter_reads(&self) -> Vec<Range<u64>> {
        self.reads_of_tests()
            .into_iter()
            .map(|read| read.range)
            .collect()
    }

    /// Leaves out the chunks that hold no matching line; `bytes` are the parts named by
    /// [`filter_reads`](Self::filter_reads), in that order.
    ///
    /// # Errors
    /// `Corrupt` when a part is not what was written, `Request` when other parts were given.
    pub fn apply_filters(&mut self, bytes: &[Bytes]) -> Result<(), Error> {
        let reads = self.reads_of_tests();
        self.segment
            .check_reads(reads.iter().map(|read| &read.range), bytes)?;
        let Some(search) = &self.search else {
            return Ok(());
        };
        let filters = &self.segment.footer().filters;
        for (read, bytes) in reads.iter().zip(bytes) {
            for (row, probes) in &read.rows {
                let range = filters.range(*row);
                let start = (range.start - read.range.start) as usize;
                let end = (range.end - read.range.start) as usize;
                let body = self.segment.verified(&bytes[start..end], range.start)?;
                for probe in probes {
                    let hash = search.tests[read.test].probes[*probe].token;
                    let mut planned = self.chunks.iter_mut().peekable();
                    let absent = |absent: u32| {
                        while planned.next_if(|chunk| chunk.index < absent).is_some() {}
                        if let Some(chunk) = planned.next_if(|chunk| chunk.index == absent) {
                            chunk.refuted.resize(search.tests.len(), 0);
                            chunk.refuted[read.test] |= 1 << probe;
                        }
                    };
                    filters
                        .scan(body, hash, absent)
                        .map_err(|damage| damage.at(self.segment.name(), range.start))?;
                }
            }
        }
        self.drop_decided();
        Ok(())
    }

    fn reads_of_tests(&self) -> Vec<Read> {
        let Some(search) = &self.search else {
            return Vec::new();
        };
        let filters = &self.segment.footer().filters;
        let specs = self
            .chunks
            .iter()
            .map(|chunk| filters.specs[chunk.index as usize]);
        let told = specs
            .filter(|spec| !spec.is_none())
            .map(|spec| spec.bits_told());
        let Some(told) = told.min() else {
            return Vec::new();
        };
        let rows_max = (BITS_TOLD.div_ceil(told) as usize).min(ROWS_MAX);
        let tests = search.tests.iter().enumerate();
        let tests = tests.filter(|(_, test)| !test.probes.is_empty());
        let reads = tests.flat_map(|(at, test)| match self.few_requests {
            true => vec![near(filters, at, test)],
            false => best(filters, at, test, rows_max),
        });
        reads.collect()
    }
}

/// The rows of the first probes, each by itself.
fn best(filters: &Filters, test: usize, of: &Test, rows_max: usize) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for (at, probe) in of.probes.iter().enumerate() {
        let row = filters.row(probe.token);
        match reads.iter().position(|read| read.rows[0].0 == row) {
            Some(known) => reads[known].rows[0].1.push(at),
            None if reads.len() == rows_max => break,
            None => reads.push(Read {
                test,
                range: filters.range(row),
                rows: vec![(row, vec![at])],
            }),
        }
    }
    reads
}

/// The row of one of the best probes, with the rows of others that are near: of the best probes the
/// one with the most such neighbours. There is a probe.
fn near(filters: &Filters, test: usize, of: &Test) -> Read {
    let best = of.probes[0].rank();
    let anchors = of.probes.iter().take_while(|probe| probe.rank() == best);
    let mut chosen = within(
        filters,
        test,
        of,
        &filters.range(filters.row(of.probes[0].token)),
    );
    for anchor in anchors {
        let row = filters.range(filters.row(anchor.token));
        let above = row.start..row.end.max(row.start + SPAN_BYTES);
        let below = row.start.min(row.end.saturating_sub(SPAN_BYTES))..row.end;
        for window in [above, below] {
            let read = within(filters, test, of, &window);
            if read.rows.len() > chosen.rows.len() {
                chosen = read;
            }
        }
    }
    chosen
}

/// What is looked at in the rows that are wholly in the window.
fn within(filters: &Filters, test: usize, of: &Test, window: &Range<u64>) -> Read {
    let mut read = Read {
        test,
        range: window.end..window.start,
        rows: Vec::new(),
    };
    for (at, probe) in of.probes.iter().enumerate() {
        let row = filters.row(probe.token);
        let range = filters.range(row);
        if range.start < window.start || range.end > window.end {
            continue;
        }
        read.range.start = read.range.start.min(range.start);
        read.range.end = read.range.end.max(range.end);
        match read.rows.iter_mut().find(|(other, _)| *other == row) {
            Some((_, probes)) => probes.push(at),
            None => read.rows.push((row, vec![at])),
        }
    }
    read
}
