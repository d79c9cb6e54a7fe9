//! Which parts of the token filters are read, and what they leave of a plan.

use std::ops::Range;

use bytes::Bytes;

use super::Plan;
use crate::Error;
use crate::filter::Filters;
use crate::search::Test;

/// So many rows are read for one test that together they are wrong about one chunk in 4,096 or
/// fewer, ...
const BITS_TOLD: u32 = 12;
/// ... but no more than this.
const ROWS_MAX: usize = 8;

/// A row of the filters, in which one test looks.
struct Read {
    test: usize,
    row: usize,
    range: Range<u64>,
    /// What of the test is looked for in it.
    probes: Vec<usize>,
}

impl Plan {
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
            let body = self.segment.verified(bytes, read.range.start)?;
            for probe in &read.probes {
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
                    .map_err(|damage| damage.at(self.segment.name(), read.range.start))?;
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
        let reads = tests.flat_map(|(at, test)| best(filters, at, test, rows_max));
        reads.collect()
    }
}

/// The rows of the first probes, each by itself.
fn best(filters: &Filters, test: usize, of: &Test, rows_max: usize) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for (at, probe) in of.probes.iter().enumerate() {
        let row = filters.row(probe.token);
        match reads.iter().position(|read| read.row == row) {
            Some(known) => reads[known].probes.push(at),
            None if reads.len() == rows_max => break,
            None => reads.push(Read {
                test,
                row,
                range: filters.range(row),
                probes: vec![at],
            }),
        }
    }
    reads
}
