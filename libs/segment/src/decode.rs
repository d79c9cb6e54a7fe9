//! From the bytes of a chunk to blocks of rows.

pub(crate) mod blocks;
pub(crate) mod lines;

use std::ops::Range;

use bytes::Bytes;
use model::{Columns, Flow, LineColumn, LineRows, MetadataRows, RowBlock};

use crate::Error;
use crate::decode::blocks::Blocks;
use crate::decode::lines::LineIndex;
use crate::footer::{ChunkEntry, Templates};
use crate::format::Block;
use crate::metadata::MetadataColumns;
use crate::plan::{Plan, PlannedChunk, PlannedStream};
use crate::search::{Search, Verdict};

/// Buffers of [`Plan::decode`], to be kept from chunk to chunk (one per thread).
#[derive(Debug, Default)]
pub struct Scratch {
    blocks: Blocks,
    index: LineIndex,
    line: Vec<u8>,
    rows: Vec<u32>,
    out: Output,
}

/// Columns of one block that is given to the sink.
#[derive(Debug, Default)]
struct Output {
    timestamps: Vec<i64>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    row_ends: Vec<u32>,
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

/// Which rows of a stream go on.
enum Selected<'a> {
    Range(Range<usize>),
    List(&'a [u32]),
}

impl Selected<'_> {
    fn len(&self) -> usize {
        match self {
            Selected::Range(range) => range.len(),
            Selected::List(rows) => rows.len(),
        }
    }

    fn for_each(&self, mut take: impl FnMut(usize)) {
        match self {
            Selected::Range(range) => range.clone().for_each(take),
            Selected::List(rows) => rows.iter().for_each(|row| take(*row as usize)),
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
        let entry = self.entry(chunk);
        let templates = &self.segment.footer().templates;
        let mut verdicts = self.verdicts(chunk);
        let needs = self.needs(chunk, columns, verdicts.as_deref());
        let ranges = self.reads(chunk, columns);
        self.segment.check_reads(ranges.iter(), bytes)?;
        let Scratch {
            blocks,
            index,
            line,
            rows,
            out,
        } = scratch;
        blocks.load(&self.segment, entry, needs, &ranges, bytes)?;
        let damaged = |block: Block| {
            move |damage: crate::error::Damage| {
                damage.at(self.segment.name(), entry.range(block).start)
            }
        };
        let open = verdicts.iter().flatten().any(|v| *v == Verdict::Maybe);
        let filtered = verdicts.iter().flatten().any(|v| *v != Verdict::All);
        if filtered || columns.lines != LineColumn::None {
            let block = blocks.raw(Block::Templates);
            let read = index.read_templates(block, entry);
            read.map_err(damaged(Block::Templates))?;
        }
        let text = blocks.raw(Block::Text);
        if open || columns.lines != LineColumn::None {
            let block = blocks.raw(Block::Lengths);
            let text_bytes = entry.blocks[Block::Text as usize].raw_bytes as usize;
            let read = index.read_lengths(block, text_bytes, entry, templates);
            read.map_err(damaged(Block::Lengths))?;
        }
        if let (Some(verdicts), Some(search)) = (&mut verdicts, &self.search) {
            look_through_variables(verdicts, search, index, entry, text);
        }
        let metadata = match columns.metadata {
            true => {
                let block = blocks.raw(Block::Metadata);
                let read = MetadataColumns::read(block, entry.rows as usize, true);
                Some(read.map_err(damaged(Block::Metadata))?)
            }
            false => None,
        };
        let decoded = Decoded {
            entry,
            templates,
            index,
            text,
            timestamps: &blocks.timestamps,
            metadata: metadata.filter(|columns| !columns.is_empty()),
        };
        let filter = match filtered {
            true => self.search.as_ref().zip(verdicts.as_deref()),
            false => None,
        };
        let mut stats = ChunkStats::default();
        for stream in &chunk.streams {
            let range = self.rows_in_range(stream, &blocks.timestamps);
            stats.rows_processed += range.len() as u64;
            let selected = match filter {
                None => Selected::Range(range),
                Some((search, verdicts)) => {
                    decoded.filter(range, search, verdicts, line, rows);
                    Selected::List(rows)
                }
            };
            if selected.len() == 0 {
                continue;
            }
            stats.rows_matched += selected.len() as u64;
            if decoded.emit(stream, columns, &selected, out, sink) == Flow::Stop {
                stats.stopped = true;
                break;
            }
        }
        Ok(stats)
    }

    /// The stream's rows within the range; rows ascend by time.
    fn rows_in_range(&self, stream: &PlannedStream, timestamps: &[i64]) -> Range<usize> {
        let rows = stream.start..stream.start + stream.rows as usize;
        if self.range.covers(stream.first, stream.last) {
            return rows;
        }
        let times = &timestamps[rows.clone()];
        let start = times.partition_point(|time| *time < self.range.start);
        let end = times.partition_point(|time| *time < self.range.end);
        rows.start + start..rows.start + end.max(start)
    }
}

/// Decides open templates whose variables in this chunk lack a text that they need.
fn look_through_variables(
    verdicts: &mut [Verdict],
    search: &Search,
    index: &LineIndex,
    entry: &ChunkEntry,
    text: &[u8],
) {
    for (local, verdict) in verdicts.iter_mut().enumerate() {
        if *verdict == Verdict::Maybe
            && let Some(finder) = search.required(entry.templates[local])
            && finder.find(&text[index.region(local)]).is_none()
        {
            *verdict = Verdict::No;
        }
    }
}

/// The columns of a chunk, as far as they were read.
struct Decoded<'a> {
    entry: &'a ChunkEntry,
    templates: &'a Templates,
    index: &'a LineIndex,
    text: &'a [u8],
    timestamps: &'a [i64],
    metadata: Option<MetadataColumns>,
}

impl Decoded<'_> {
    /// Puts the rows of the range that pass the line filter into `rows`.
    fn filter(
        &self,
        range: Range<usize>,
        search: &Search,
        verdicts: &[Verdict],
        line: &mut Vec<u8>,
        rows: &mut Vec<u32>,
    ) {
        rows.clear();
        for row in range {
            let passes = match verdicts[usize::from(self.index.locals[row])] {
                Verdict::No => false,
                Verdict::All => true,
                Verdict::Maybe => {
                    line.clear();
                    self.append(row, line);
                    search.is_match(line)
                }
            };
            if passes {
                rows.push(row as u32);
            }
        }
    }

    fn append(&self, row: usize, out: &mut Vec<u8>) {
        self.index
            .append(row, self.entry, self.templates, self.text, out);
    }

    fn emit(
        &self,
        stream: &PlannedStream,
        columns: Columns,
        selected: &Selected<'_>,
        out: &mut Output,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Flow {
        out.timestamps.clear();
        out.bytes.clear();
        out.ends.clear();
        out.row_ends.clear();
        let timestamps = match selected {
            _ if !columns.timestamps => &[],
            Selected::Range(range) => &self.timestamps[range.clone()],
            Selected::List(_) => {
                selected.for_each(|row| out.timestamps.push(self.timestamps[row]));
                out.timestamps.as_slice()
            }
        };
        match columns.lines {
            LineColumn::None => {}
            LineColumn::Lengths => selected.for_each(|row| {
                let length = self.index.length(row, self.entry, self.templates);
                out.ends.push(length);
            }),
            LineColumn::Bytes => selected.for_each(|row| {
                self.append(row, &mut out.bytes);
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
