//! From the bytes of a chunk to blocks of rows.

pub(crate) mod blocks;
pub(crate) mod by_template;
pub(crate) mod lines;
pub(crate) mod rebuild;
mod select;
mod undecided;
mod values;

use std::ops::Range;

use bytes::Bytes;
use model::{Columns, Flow, LineColumn, LineRows, MetadataRows, RowBlock, TimeRange};

use crate::Error;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::lines::LineIndex;
use crate::decode::rebuild::{Lengths, Lines};
use crate::decode::select::{Filter, Selection};
use crate::decode::undecided::{Known, Needed, look_into_values, look_into_variables};
use crate::decode::values::ValueHits;
use crate::format::Block;
use crate::metadata::MetadataColumns;
use crate::patterns::{PatternFinder, Patterns};
use crate::plan::{Pieces, Plan, PlannedChunk, PlannedStream, Wanted};
use crate::search::Verdict;

/// Buffers of [`Plan::decode`], to be kept from chunk to chunk (one per thread).
#[derive(Debug, Default)]
pub struct Scratch {
    blocks: Blocks,
    index: LineIndex,
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
    line: Vec<u8>,
    selection: Selection,
    out: Output,
    patterns: Patterns,
    finder: PatternFinder,
}

/// Columns of one block that is given to the sink.
#[derive(Debug, Default)]
struct Output {
    timestamps: Vec<i64>,
    bytes: Vec<u8>,
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

/// Takes the columns of a chunk, and what is to be asked of its rows.
type Finish<'a> = dyn FnMut(&Decoded<'_>, Option<Filter<'_>>, &mut Buffers) -> ChunkStats + 'a;

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
            |decoded: &Decoded<'_>, filter: Option<Filter<'_>>, buffers: &mut Buffers| {
                let range = || self.wanted_times(wanted.columns, useful);
                decoded.give(chunk, &range, filter, buffers, sink)
            };
        self.decode_with(chunk, wanted, useful, bytes, scratch, &mut give)
    }

    /// Reads the columns, as far as the line filter leaves rows, and hands them to `finish`.
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
            hits,
            buffers,
        } = scratch;
        let parts = Parts {
            segment: &self.segment,
            chunk: entry,
            ranges: &ranges,
            bytes,
        };
        blocks.begin(entry);
        if needs[Block::Timestamps as usize] {
            blocks.load(&parts, &[Block::Timestamps])?;
        }
        let range = self.wanted_times(wanted.columns, useful);
        let rows_processed = rows_to_process(chunk, range, &blocks.timestamps);
        if rows_processed == 0 {
            return Ok(ChunkStats::default());
        }
        let mut known = Known::default();
        if let (Some(verdicts), Some(search)) = (&mut verdicts, &self.search) {
            look_into_variables(verdicts, search, &parts, blocks, index, &mut known)?;
            let search = (search, chunk.refuted.as_slice());
            look_into_values(verdicts, search, &parts, blocks, index, &mut known, hits)?;
        }
        let Some(filtered) = tells_apart(verdicts.as_deref()) else {
            return Ok(ChunkStats::none_of(rows_processed));
        };
        let search = self.search.as_ref().filter(|_| filtered);
        let filter = search
            .zip(verdicts.as_deref())
            .map(|(search, verdicts)| Filter {
                search,
                verdicts,
                refuted: &chunk.refuted,
                hits,
            });
        let needed = self.needed(chunk, wanted, filter.as_ref());
        let metadata = known.load(&needed, &parts, blocks, index)?;
        let decoded = Decoded {
            lines: Lines {
                index,
                chunk: entry,
                templates: &self.segment.footer().templates,
                text: &blocks.text,
                indices: blocks.raw(Block::Indices),
            },
            timestamps: &blocks.timestamps,
            metadata,
            wanted,
        };
        Ok(finish(&decoded, filter, buffers))
    }

    /// Rows of other times may be left out.
    fn wanted_times(&self, columns: Columns, useful: &dyn Fn() -> TimeRange) -> TimeRange {
        match columns.timestamps {
            true => self.range.intersection(&useful()),
            false => self.range,
        }
    }

    /// What has to be known of the rows, besides the times, to filter and give them.
    fn needed(&self, chunk: &PlannedChunk, wanted: &Wanted, filter: Option<&Filter<'_>>) -> Needed {
        let columns = wanted.columns;
        let by_line = filter.is_some_and(|filter| filter.needs_lines(self.entry(chunk)));
        let variables = by_line || self.needs_variables(chunk, wanted);
        Needed {
            templates: filter.is_some() || columns.lines != LineColumn::None,
            variables,
            text: by_line || variables && columns.lines == LineColumn::Bytes,
            metadata: columns.metadata,
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

/// Rows of a piece: as many as a short answer has.
const PIECE_ROWS: usize = 1024;

fn take_piece(rest: &mut Range<usize>, pieces: Pieces) -> Range<usize> {
    let piece = match pieces {
        Pieces::Whole => rest.clone(),
        Pieces::FromEnd => rest.end.saturating_sub(PIECE_ROWS).max(rest.start)..rest.end,
        Pieces::FromStart => rest.start..(rest.start + PIECE_ROWS).min(rest.end),
    };
    match pieces {
        Pieces::FromEnd => rest.end = piece.start,
        Pieces::Whole | Pieces::FromStart => rest.start = piece.end,
    }
    piece
}

fn rows_to_process(chunk: &PlannedChunk, range: TimeRange, timestamps: &[i64]) -> u64 {
    let streams = chunk.streams.iter();
    streams
        .map(|stream| rows_in_range(stream, range, timestamps).len() as u64)
        .sum()
}

/// The stream's rows within the range; rows ascend by time.
fn rows_in_range(stream: &PlannedStream, range: TimeRange, timestamps: &[i64]) -> Range<usize> {
    let rows = stream.start..stream.start + stream.rows as usize;
    if range.covers(stream.first, stream.last) {
        return rows;
    }
    let times = &timestamps[rows.clone()];
    let start = times.partition_point(|time| *time < range.start);
    let end = times.partition_point(|time| *time < range.end);
    rows.start + start..rows.start + end.max(start)
}

/// The columns of a chunk, as far as they were read.
#[derive(Debug)]
struct Decoded<'a> {
    lines: Lines<'a>,
    timestamps: &'a [i64],
    metadata: Option<MetadataColumns>,
    wanted: &'a Wanted,
}

impl Decoded<'_> {
    /// Gives the selected rows of each stream to the sink.
    fn give(
        &self,
        chunk: &PlannedChunk,
        range: &dyn Fn() -> TimeRange,
        filter: Option<Filter<'_>>,
        buffers: &mut Buffers,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> ChunkStats {
        let Buffers {
            line,
            selection,
            out,
            patterns,
            finder,
        } = buffers;
        if self.wanted.patterns {
            patterns.fill(&self.lines.chunk.templates, self.lines.templates);
        }
        let columns = self.wanted.columns;
        let counts = !columns.timestamps && columns.lines == LineColumn::None && !columns.metadata;
        out.has_lengths = columns.lines == LineColumn::Lengths && filter.is_none();
        if out.has_lengths {
            out.lengths.fill(&self.lines);
        }
        let mut stats = ChunkStats::default();
        for stream in &chunk.streams {
            let mut rest = rows_in_range(stream, range(), self.timestamps);
            while !rest.is_empty() {
                let piece = take_piece(&mut rest, self.wanted.pieces);
                stats.rows_processed += piece.len() as u64;
                let selected = match &filter {
                    None => Selected::Range(piece),
                    Some(filter) if counts => {
                        Selected::Count(selection.count(&self.lines, piece, filter))
                    }
                    Some(filter) => {
                        selection.select(&self.lines, piece, filter);
                        Selected::List(&selection.rows)
                    }
                };
                if selected.len() == 0 {
                    continue;
                }
                stats.rows_matched += selected.len() as u64;
                if self.wanted.patterns {
                    self.append_patterns(&selected, patterns, finder, line, out);
                }
                if self.emit(stream, &selected, out, sink) == Flow::Stop {
                    stats.stopped = true;
                    return stats;
                }
                if !rest.is_empty() {
                    let useful = rows_in_range(stream, range(), self.timestamps);
                    rest = rest.start.max(useful.start)..rest.end.min(useful.end);
                }
            }
        }
        stats
    }

    fn append_patterns(
        &self,
        selected: &Selected<'_>,
        patterns: &Patterns,
        finder: &mut PatternFinder,
        line: &mut Vec<u8>,
        out: &mut Output,
    ) {
        out.bytes.clear();
        out.ends.clear();
        selected.for_each(|row| {
            let local = usize::from(self.lines.index.locals[row]);
            match patterns.get(
                local,
                self.lines.templates,
                self.lines.chunk.templates[local],
            ) {
                Some(pattern) => out.bytes.extend_from_slice(pattern),
                None => {
                    line.clear();
                    self.lines.append(row, line);
                    finder.append(line, &mut out.bytes);
                }
            }
            out.ends.push(out.bytes.len() as u32);
        });
    }

    fn emit(
        &self,
        stream: &PlannedStream,
        selected: &Selected<'_>,
        out: &mut Output,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Flow {
        let columns = self.wanted.columns;
        out.timestamps.clear();
        out.row_ends.clear();
        if !self.wanted.patterns {
            out.bytes.clear();
            out.ends.clear();
        }
        let timestamps = match selected {
            _ if !columns.timestamps => &[],
            Selected::Range(range) => &self.timestamps[range.clone()],
            Selected::List(_) | Selected::Count(_) => {
                selected.for_each(|row| out.timestamps.push(self.timestamps[row]));
                out.timestamps.as_slice()
            }
        };
        match columns.lines {
            LineColumn::None => {}
            LineColumn::Lengths => selected.for_each(|row| {
                out.ends.push(match out.has_lengths {
                    true => out.lengths.get(row, self.lines.index),
                    false => self.lines.length(row),
                });
            }),
            LineColumn::Bytes if self.wanted.patterns => {}
            LineColumn::Bytes => selected.for_each(|row| {
                self.lines.append(row, &mut out.bytes);
                out.ends.push(out.bytes.len() as u32);
            }),
        }
        let mut pairs = Vec::new();
        if let Some(metadata) = &self.metadata {
            selected.for_each(|row| {
                pairs.extend(metadata.row_text(row));
                out.row_ends.push(pairs.len() as u32);
            });
        }
        sink(&RowBlock {
            labels: &stream.labels,
            rows: selected.len(),
            timestamps,
            lines: match columns.lines {
                LineColumn::None => LineRows::None,
                LineColumn::Lengths => LineRows::Lengths(&out.ends),
                LineColumn::Bytes => LineRows::Bytes {
                    bytes: &out.bytes,
                    ends: &out.ends,
                },
            },
            metadata: (!pairs.is_empty()).then_some(MetadataRows {
                row_ends: &out.row_ends,
                pairs: &pairs,
            }),
        })
    }
}
