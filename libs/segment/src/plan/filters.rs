//! Which parts of the token filters are read, and what they leave of a plan.
//!
//! In two rounds at most, and mostly in one, as a round of a remote store takes long however little it
//! reads. The first asks for as many rows as one request brings, which is enough of a segment of a few
//! chunks: it leaves none that does not hold the needle. Of one of hundreds it would leave some, so two
//! places are asked at once. Only where chunks are left all the same, the second round asks for more.

use std::ops::Range;

use bytes::Bytes;

use super::Plan;
use crate::Error;
use crate::filter::{FilterSpec, Filters};
use crate::search::{Search, Test};

/// Chunks of a segment that are read in vain on average, at most.
const VAIN_MAX: f64 = 1.0 / 16.0;
/// Chunks that the first round leaves in vain on average, at most: with more of them most rounds would
/// be followed by another.
const FIRST_VAIN_MAX: f64 = 1.0 / 4.0;
/// So many bytes of rows that one request does not bring are read in the first round, at most.
const FIRST_BYTES_MAX: u64 = 256 << 10;
/// So many rows are read for one test, at most.
const ROWS_MAX: usize = 8;
/// Rows no further apart than this are one request, or as cheap as one.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// What was asked of the filters so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    rounds: usize,
    /// Rows that one test should be asked for, as it seemed at first.
    wanted: usize,
    /// By test.
    rows: Vec<Vec<usize>>,
    /// Chunks that the last round leaves although they hold nothing, on average.
    vain: f64,
}

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
    /// [`apply_filters`](Self::apply_filters); empty when no filter can help. Mostly these are one
    /// part, or a few that stand close together.
    ///
    /// After they were applied, this may name more: a reader goes on until nothing is named, which is
    /// after two rounds at most. To stop before that only means to read more chunks.
    pub fn filter_reads(&self) -> Vec<Range<u64>> {
        let reads = self.reads_of_tests().into_iter();
        reads.map(|read| read.range).collect()
    }

    /// All rounds of [`filter_reads`](Self::filter_reads) and [`apply_filters`](Self::apply_filters),
    /// for those who read with one function.
    ///
    /// # Errors
    /// Those of `read` and of `apply_filters`.
    pub fn filter_with<E: From<Error>>(
        &mut self,
        mut read: impl FnMut(Vec<Range<u64>>) -> Result<Vec<Bytes>, E>,
    ) -> Result<(), E> {
        loop {
            let reads = self.filter_reads();
            if reads.is_empty() {
                return Ok(());
            }
            let bytes = read(reads)?;
            self.apply_filters(&bytes)?;
        }
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
        if self.asked.rounds == 0 {
            self.asked.wanted = self.rows_wanted(VAIN_MAX);
        }
        self.asked.rounds += 1;
        let rows = reads.chunk_by(|a, b| a.test == b.test).map(<[Read]>::len);
        self.asked.vain = rows.max().map_or(0.0, |rows| self.vain(rows));
        let Some(search) = &self.search else {
            return Ok(());
        };
        self.asked.rows.resize(search.tests.len(), Vec::new());
        for read in &reads {
            self.asked.rows[read.test].push(read.row);
        }
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

    /// How many of the chunks are left only because filters are wrong sometimes: about, on average, and 0
    /// before they were applied. If that is most of them, then hardly any holds a matching line.
    pub fn chunks_in_vain(&self) -> f64 {
        self.asked.vain.min(self.chunks.len() as f64)
    }

    fn reads_of_tests(&self) -> Vec<Read> {
        let Some(search) = &self.search else {
            return Vec::new();
        };
        if self.specs().next().is_none() {
            return Vec::new();
        }
        match self.asked.rounds {
            0 => self.first_reads(search),
            1 => self.more_reads(search),
            _ => Vec::new(),
        }
    }

    /// Of the tests of one clause each, what one request brings, and where that would mostly not be
    /// enough, others.
    fn first_reads(&self, search: &Search) -> Vec<Read> {
        let wanted = self.rows_wanted(VAIN_MAX);
        let least = self.rows_wanted(FIRST_VAIN_MAX);
        let tests = search.asked().into_iter().next().unwrap_or_default();
        let mut left = FIRST_BYTES_MAX;
        let first = |test: usize| {
            let mut groups = self.neighbours(search, test).into_iter();
            let near = groups.next().into_iter().flatten().take(wanted);
            let mut reads = Vec::from_iter(near);
            for far in groups.flatten() {
                let bytes = far.range.end - far.range.start;
                if reads.len() >= least || bytes > left {
                    break;
                }
                left -= bytes;
                reads.push(far);
            }
            reads
        };
        tests.flat_map(first).collect()
    }

    /// What is missing of all tests.
    fn more_reads(&self, search: &Search) -> Vec<Read> {
        let wanted = self.rows_wanted(VAIN_MAX);
        let more = |test: usize| {
            let more = match self.asked.rows[test].len() {
                0 => wanted,
                asked if asked < self.asked.wanted => wanted.min(ROWS_MAX - asked),
                _ => 0,
            };
            let rows = self.neighbours(search, test).into_iter().flatten();
            rows.take(more)
        };
        search
            .asked()
            .into_iter()
            .flatten()
            .flat_map(more)
            .collect()
    }

    /// The filters of the chunks.
    fn specs(&self) -> impl Iterator<Item = &FilterSpec> {
        let specs = &self.segment.footer().filters.specs;
        let specs = self.chunks.iter().map(|chunk| &specs[chunk.index as usize]);
        specs.filter(|spec| !spec.is_none())
    }

    /// How many rows of a test are enough to leave so many chunks in vain.
    fn rows_wanted(&self, vain_max: f64) -> usize {
        let enough = (1..ROWS_MAX).find(|rows| self.vain(*rows) <= vain_max);
        enough.unwrap_or(ROWS_MAX)
    }

    /// How many chunks so many rows leave although they hold nothing, on average.
    fn vain(&self, rows: usize) -> f64 {
        let wrong = self.specs().map(FilterSpec::wrong);
        wrong.map(|wrong| wrong.powi(rows as i32)).sum()
    }

    /// The rows in which a test could still look: those side by side together, and first those that
    /// tell most, or that are more.
    fn neighbours(&self, search: &Search, test: usize) -> Vec<Vec<Read>> {
        let filters = &self.segment.footer().filters;
        let of = &search.tests[test];
        let mut reads = rows_of(filters, test, of);
        if let Some(asked) = self.asked.rows.get(test) {
            reads.retain(|read| !asked.contains(&read.row));
        }
        let rank = |read: &Read| of.probes[read.probes[0]].rank();
        reads.sort_by_key(|read| (rank(read), read.row));
        let mut groups: Vec<Vec<Read>> = Vec::new();
        for read in reads {
            let is_near = |last: &Read| {
                rank(last) == rank(&read) && read.range.start <= last.range.end + GAP_BYTES_MAX
            };
            match groups.last_mut() {
                Some(group) if group.last().is_some_and(is_near) => group.push(read),
                _ => groups.push(vec![read]),
            }
        }
        // Of groups that tell as much, first those of the first probes.
        groups.sort_by_key(|group| {
            let first = group.iter().map(|read| read.probes[0]).min();
            (rank(&group[0]), usize::MAX - group.len(), first)
        });
        groups
    }
}

/// The rows in which a test may look.
fn rows_of(filters: &Filters, test: usize, of: &Test) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for (at, probe) in of.probes.iter().enumerate() {
        let row = filters.row(probe.token);
        match reads.iter().position(|read| read.row == row) {
            Some(known) => reads[known].probes.push(at),
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
