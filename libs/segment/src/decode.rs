//! From the bytes of a chunk to blocks of rows.

pub(crate) mod blocks;
pub(crate) mod by_template;
pub(crate) mod line_buffer;
pub(crate) mod lines;
mod open_chunk;
mod outcomes;
pub(crate) mod rebuild;
pub(crate) mod recipes;
mod select;
mod undecided;
mod values;

use std::ops::Range;

use bytes::Bytes;
use model::{Columns, Flow, LineColumn, RowBlock, TimeRange};

use crate::Error;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::line_buffer::LineBuffer;
use crate::decode::lines::LineIndex;
use crate::decode::open_chunk::OpenChunk;
use crate::decode::outcomes::OutcomeTable;
use crate::decode::rebuild::Lengths;
use crate::decode::recipes::Recipes;
use crate::decode::select::{Filter, Selection};
use crate::decode::undecided::{Known, Needed, Reach, look_into_values, look_into_variables};
use crate::decode::values::ValueHits;
use crate::format::{Block, TEXTS};
use crate::patterns::{PatternFinder, Patterns};
use crate::plan::{Plan, PlannedChunk, Wanted};
use crate::search::Verdict;

/// Buffers of [`Plan::decode`], to be kept from chunk to chunk (one per thread).
#[derive(Debug, Default)]
pub struct Scratch {
    blocks: Blocks,
    index: LineIndex,
    recipes: Recipes,
    hits: ValueHits,
    buffers: Buffers,
}

impl Scratch {
    /// Room for the blocks of one chunk.
    pub(crate) fn blocks(&mut self) -> &mut Blocks {
        &mut self.blocks
    }
}

#[derive(Debug, Default)]
struct Buffers {
    line: LineBuffer,
    selection: Selection,
    out: Output,
    patterns: Patterns,
    finder: PatternFinder,
    outcomes: OutcomeTable,
}

/// Columns of one block that is given to the sink.
#[derive(Debug, Default)]
struct Output {
    timestamps: Vec<i64>,
    lines: LineBuffer,
    /// Of patterns, in place of lines.
    patterns: Vec<u8>,
    ends: Vec<u32>,
    row_ends: Vec<u32>,
    lengths: Lengths,
    /// Whether those are of the chunk at hand.
    has_lengths: bool,
}

/// What decoding one chunk came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkStats {
    /// Rows looked at.
    pub rows_processed: u64,
    /// Rows given to the sink.
    pub rows_matched: u64,
    /// Whether the sink said stop.
    pub stopped: bool,
}

impl ChunkStats {
    fn none_of(rows_processed: u64) -> Self {
        ChunkStats {
            rows_processed,
            ..ChunkStats::default()
        }
    }
}

/// Takes a chunk of which the filter's part was read, and what is to be asked of its rows.
type Finish<'a> =
    dyn FnMut(OpenChunk<'_>, Option<Filter<'_>>, &mut Buffers) -> Result<ChunkStats, Error> + 'a;

/// Which rows of a stream go on.
enum Selected<'a> {
    Range(Range<usize>),
    List(&'a [u32]),
    /// So many: no column is wanted.
    Count(usize),
}

impl Selected<'_> {
    fn len(&self) -> usize {
        match self {
            Selected::Range(range) => range.len(),
            Selected::List(rows) => rows.len(),
            Selected::Count(rows) => *rows,
        }
    }

    fn for_each(&self, mut take: impl FnMut(usize)) {
        match self {
            Selected::Range(range) => range.clone().for_each(take),
            Selected::List(rows) => rows.iter().for_each(|row| take(*row as usize)),
            Selected::Count(_) => {}
        }
    }
}

impl Plan {
    /// Gives the matching rows of a chunk to the sink, one block per stream that has any; `bytes`
    /// are the parts named by [`reads`](Self::reads) for the same columns, in that order.
    ///
    /// # Errors
    /// `Corrupt` when a part is not what was written, `Request` when other parts were given.
    pub fn decode(
        &self,
        chunk: &PlannedChunk,
        columns: Columns,
        bytes: &[Bytes],
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Result<ChunkStats, Error> {
        let all = || self.range;
        self.decode_wanted(chunk, &self.all(columns), &all, bytes, scratch, sink)
    }

    /// As [`decode`](Self::decode), in pieces or with the patterns of lines; `bytes` are the parts
    /// named by [`reads_of`](Self::reads_of) for the same columns and form. If timestamps are among the columns,
    /// rows outside of `useful` may be left out; it is asked again between pieces.
    ///
    /// # Errors
    /// As `decode`.
    pub fn decode_wanted(
        &self,
        chunk: &PlannedChunk,
        wanted: &Wanted,
        useful: &dyn Fn() -> TimeRange,
        bytes: &[Bytes],
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Result<ChunkStats, Error> {
        let mut give =
            |mut open: OpenChunk<'_>, filter: Option<Filter<'_>>, buffers: &mut Buffers| {
                let range = || self.wanted_times(wanted.columns, useful);
                open.give(chunk, &range, filter, buffers, sink)
            };
        self.decode_with(chunk, wanted, useful, bytes, scratch, &mut give)
    }

    /// Reads what the line filter needs, and hands the chunk to `finish` if it leaves rows.
    fn decode_with(
        &self,
        chunk: &PlannedChunk,
        wanted: &Wanted,
        useful: &dyn Fn() -> TimeRange,
        bytes: &[Bytes],
        scratch: &mut Scratch,
        finish: &mut Finish<'_>,
    ) -> Result<ChunkStats, Error> {
        let (entry, mut verdicts) = (self.entry(chunk), self.verdicts(chunk));
        let needs = self.needs(chunk, wanted, verdicts.as_deref());
        let ranges = self.reads_of(chunk, wanted);
        self.segment.check_reads(ranges.iter(), bytes)?;
        let Scratch {
            blocks,
            index,
            recipes,
            hits,
            buffers,
        } = scratch;
        blocks.begin();
        recipes.clear();
        let mut open = OpenChunk {
            parts: Parts {
                segment: &self.segment,
                chunk: entry,
                ranges: &ranges,
                bytes,
            },
            blocks,
            index,
            recipes,
            known: Known::default(),
            given: self.given(chunk, wanted),
            wanted,
            outcomes: self.outcomes.as_deref(),
        };
        let range = self.wanted_times(wanted.columns, useful);
        let rows_processed = open.count(chunk, range)?;
        if rows_processed == 0 {
            return Ok(ChunkStats::default());
        }
        hits.begin(entry.templates.len());
        if let Some(verdicts) = &mut verdicts {
            let is_read = |text: &Block| needs[*text as usize] || entry.range(*text).is_empty();
            let has_text = TEXTS.iter().all(is_read);
            self.look(chunk, verdicts, has_text, &mut open, hits)?;
        }
        let Some(filtered) = tells_apart(verdicts.as_deref()) else {
            return Ok(ChunkStats::none_of(rows_processed));
        };
        let search = self.search.as_ref().filter(|_| filtered);
        let decided = search.zip(verdicts.as_deref());
        let filter = decided.map(|(search, verdicts)| Filter {
            search,
            verdicts,
            refuted: &chunk.refuted,
            hits,
        });
        if let Some(filter) = &filter {
            let by_line = filter.needs_lines(entry);
            open.load(Needed {
                templates: true,
                variables: by_line,
                text: by_line,
                ..Needed::default()
            })?;
        }
        finish(open, filter, buffers)
    }

    /// Finds out what values say about the templates and rows that the footer leaves open.
    fn look(
        &self,
        chunk: &PlannedChunk,
        verdicts: &mut [Verdict],
        has_text: bool,
        open: &mut OpenChunk<'_>,
        hits: &mut ValueHits,
    ) -> Result<(), Error> {
        let Some(search) = &self.search else {
            return Ok(());
        };
        let reach = Reach {
            search,
            refuted: &chunk.refuted,
            has_text,
        };
        look_into_variables(verdicts, &reach, open, hits)?;
        look_into_values(verdicts, &reach, open, hits)
    }

    /// Rows of other times may be left out.
    fn wanted_times(&self, columns: Columns, useful: &dyn Fn() -> TimeRange) -> TimeRange {
        match columns.timestamps {
            true => self.range.intersection(&useful()),
            false => self.range,
        }
    }

    /// What has to be known of rows to give them.
    fn given(&self, chunk: &PlannedChunk, wanted: &Wanted) -> Needed {
        let columns = wanted.columns;
        let variables = self.needs_variables(chunk, wanted);
        Needed {
            templates: columns.lines != LineColumn::None,
            variables,
            text: variables && columns.lines == LineColumn::Bytes,
            metadata: columns.metadata,
            timestamps: columns.timestamps,
        }
    }
}

/// Whether some rows pass and others may not; `None` when none of them passes.
fn tells_apart(verdicts: Option<&[Verdict]>) -> Option<bool> {
    let has = |verdict| verdicts.iter().copied().flatten().any(|v| *v == verdict);
    let open = has(Verdict::Maybe);
    let filtered = open || has(Verdict::No);
    (!filtered || open || has(Verdict::All)).then_some(filtered)
}
