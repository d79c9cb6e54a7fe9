//! A chunk as far as it was read, and its rows on their way to a sink: what is not needed to find rows
//! is read when the first is found.

use std::ops::Range;

use model::{Flow, LineColumn, LineRows, MetadataRows, RowBlock, TimeRange};

use crate::Error;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::line_buffer::LineBuffer;
use crate::decode::lines::LineIndex;
use crate::decode::rebuild::Lines;
use crate::decode::recipes::Recipes;
use crate::decode::select::Filter;
use crate::decode::undecided::{Known, Needed};
use crate::decode::{Buffers, ChunkStats, Output, Selected};
use crate::format::Block;
use crate::metadata::MetadataColumns;
use crate::outcomes::LineOutcomes;
use crate::patterns::{PatternFinder, Patterns};
use crate::plan::{Pieces, PlannedChunk, PlannedStream, Wanted};

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

/// A chunk of which no more is read than was needed so far.
pub(crate) struct OpenChunk<'a> {
    pub(super) parts: Parts<'a>,
    pub(super) blocks: &'a mut Blocks,
    pub(super) index: &'a mut LineIndex,
    pub(super) recipes: &'a mut Recipes,
    pub(super) known: Known,
    /// What is needed once a row is to be given.
    pub(super) given: Needed,
    pub(super) wanted: &'a Wanted,
    /// What the plan was asked about lines.
    pub(super) outcomes: Option<&'a LineOutcomes>,
}

/// The columns of a chunk that rows are given of.
#[derive(Debug)]
pub(crate) struct Decoded<'a> {
    pub(super) lines: Lines<'a>,
    pub(super) timestamps: &'a [i64],
    pub(super) metadata: Option<&'a MetadataColumns>,
    wanted: &'a Wanted,
}

impl OpenChunk<'_> {
    pub(super) fn load(&mut self, needed: Needed) -> Result<(), Error> {
        let known = &mut self.known;
        known.load(needed, &self.parts, self.blocks, self.index)?;
        if known.has_values() && !known.recipes {
            let templates = &self.parts.segment.footer().templates;
            let (index, text) = (&*self.index, &self.blocks.text);
            self.recipes.fill(index, self.parts.chunk, templates, text);
            known.recipes = true;
        }
        Ok(())
    }

    /// The stream's rows within the range; rows ascend by time.
    pub(super) fn rows(
        &mut self,
        stream: &PlannedStream,
        range: TimeRange,
    ) -> Result<Range<usize>, Error> {
        let rows = stream.start..stream.start + stream.rows as usize;
        if range.covers(stream.first, stream.last) {
            return Ok(rows);
        }
        self.blocks.load(&self.parts, &[Block::Timestamps])?;
        let times = &self.blocks.timestamps[rows.clone()];
        let start = times.partition_point(|time| *time < range.start);
        let end = times.partition_point(|time| *time < range.end);
        Ok(rows.start + start..rows.start + end.max(start))
    }

    /// How many rows of all selected streams are within the range.
    pub(super) fn count(&mut self, chunk: &PlannedChunk, range: TimeRange) -> Result<u64, Error> {
        let streams = chunk.streams.iter();
        let mut counts = streams.map(|stream| Ok(self.rows(stream, range)?.len() as u64));
        counts.try_fold(0, |sum, count: Result<u64, Error>| Ok(sum + count?))
    }

    pub(super) fn lines(&self) -> Lines<'_> {
        Lines {
            index: self.index,
            recipes: self.recipes,
            chunk: self.parts.chunk,
            templates: &self.parts.segment.footer().templates,
            text: &self.blocks.text,
            indices: self.blocks.raw(Block::Indices),
        }
    }

    /// The columns, read now if they were not yet.
    pub(super) fn decoded(&mut self) -> Result<Decoded<'_>, Error> {
        self.load(self.given)?;
        Ok(Decoded {
            lines: self.lines(),
            timestamps: &self.blocks.timestamps,
            metadata: self.known.metadata(),
            wanted: self.wanted,
        })
    }

    /// Whether blocks only say how many rows there are.
    fn gives_counts(&self) -> bool {
        let columns = self.wanted.columns;
        !columns.timestamps
            && self.outcomes.is_none()
            && columns.lines == LineColumn::None
            && (!columns.metadata || self.parts.chunk.range(Block::Metadata).is_empty())
    }

    /// Gives the selected rows of each stream to the sink.
    pub(super) fn give(
        &mut self,
        chunk: &PlannedChunk,
        range: &dyn Fn() -> TimeRange,
        filter: Option<Filter<'_>>,
        buffers: &mut Buffers,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Result<ChunkStats, Error> {
        let Buffers {
            line,
            selection,
            out,
            patterns,
            finder,
            outcomes,
        } = buffers;
        outcomes.begin();
        if self.wanted.patterns {
            let templates = &self.parts.segment.footer().templates;
            patterns.fill(&self.parts.chunk.templates, templates);
        }
        let columns = self.wanted.columns;
        let counts = self.gives_counts();
        out.has_lengths = false;
        let mut stats = ChunkStats::default();
        for stream in &chunk.streams {
            let mut rest = self.rows(stream, range())?;
            while !rest.is_empty() {
                let piece = take_piece(&mut rest, self.wanted.pieces);
                stats.rows_processed += piece.len() as u64;
                let mut selected = match &filter {
                    None => Selected::Range(piece),
                    Some(filter) if counts => {
                        Selected::Count(selection.count(&self.lines(), piece, filter))
                    }
                    Some(filter) => {
                        selection.select(&self.lines(), piece, filter);
                        Selected::List(selection.rows())
                    }
                };
                if let Some(asked) = self.outcomes
                    && selected.len() > 0
                    && self.sort_out(asked, stream, &selected, outcomes)?
                {
                    selected = Selected::List(outcomes.useful());
                }
                if selected.len() == 0 {
                    continue;
                }
                stats.rows_matched += selected.len() as u64;
                let decoded = self.decoded()?;
                if columns.lines == LineColumn::Lengths && filter.is_none() && !out.has_lengths {
                    out.lengths.fill(&decoded.lines);
                    out.has_lengths = true;
                }
                if decoded.wanted.patterns {
                    decoded.append_patterns(&selected, patterns, finder, line, out);
                }
                if decoded.emit(stream, &selected, outcomes.outcomes(), out, sink) == Flow::Stop {
                    stats.stopped = true;
                    return Ok(stats);
                }
                if !rest.is_empty() {
                    let useful = self.rows(stream, range())?;
                    rest = rest.start.max(useful.start)..rest.end.min(useful.end);
                }
            }
        }
        Ok(stats)
    }
}

impl Decoded<'_> {
    fn append_patterns(
        &self,
        selected: &Selected<'_>,
        patterns: &Patterns,
        finder: &mut PatternFinder,
        line: &mut LineBuffer,
        out: &mut Output,
    ) {
        out.patterns.clear();
        out.ends.clear();
        selected.for_each(|row| {
            let local = usize::from(self.lines.index.locals[row]);
            match patterns.get(
                local,
                self.lines.templates,
                self.lines.chunk.templates[local],
            ) {
                Some(pattern) => out.patterns.extend_from_slice(pattern),
                None => {
                    line.clear();
                    self.lines.append(row, line);
                    finder.append(line.as_slice(), &mut out.patterns);
                }
            }
            out.ends.push(out.patterns.len() as u32);
        });
    }

    fn emit(
        &self,
        stream: &PlannedStream,
        selected: &Selected<'_>,
        outcomes: &[u8],
        out: &mut Output,
        sink: &mut dyn FnMut(&RowBlock<'_>) -> Flow,
    ) -> Flow {
        let columns = self.wanted.columns;
        out.timestamps.clear();
        out.row_ends.clear();
        if !self.wanted.patterns {
            out.lines.clear();
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
                self.lines.append(row, &mut out.lines);
                out.ends.push(out.lines.len() as u32);
            }),
        }
        let mut pairs = Vec::new();
        if let Some(metadata) = self.metadata {
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
                    bytes: match self.wanted.patterns {
                        true => &out.patterns,
                        false => out.lines.as_slice(),
                    },
                    ends: &out.ends,
                },
            },
            outcomes: match self.wanted.outcomes {
                true => outcomes,
                false => &[],
            },
            metadata: (!pairs.is_empty()).then_some(MetadataRows {
                row_ends: &out.row_ends,
                pairs: &pairs,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use model::{
        Columns, Labels, LineFilter, LogBatchBuilder, Selector, Signal, StreamId, TenantId,
    };

    use super::*;
    use crate::decode::select::Filter;
    use crate::{EncodeOptions, Opened, ScanSpec, Scratch, Segment, encode};

    /// A segment of several chunks with these lines, a second after the other.
    fn segment(lines: &[String]) -> (Segment, Bytes) {
        let tenant = TenantId::default();
        let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
        let mut builder = LogBatchBuilder::new(tenant.clone());
        builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
        for (at, line) in lines.iter().enumerate() {
            builder.push(at as i64 * 1_000_000_000, line.as_bytes(), &mut []);
        }
        let options = EncodeOptions {
            chunk_bytes: 100,
            ..EncodeOptions::default()
        };
        let mut object = Vec::new();
        encode(&[Arc::new(builder.finish())], &options, &mut object).unwrap();
        let object = Bytes::from(object);
        let opened = Segment::open("test.seg", object.clone(), object.len() as u64).unwrap();
        let Opened::Segment(segment) = opened else {
            panic!("the whole object is there");
        };
        (segment, object)
    }

    #[test]
    fn lines_are_put_together_from_their_own_chunk_whatever_of_it_is_read_first() {
        let line = |at: usize| format!("{} of {} is done", at / 100 * 7919, at * at);
        let lines: Vec<String> = (0..400).map(line).collect();
        let (segment, object) = segment(&lines);
        let plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &LineFilter::default(),
        });
        assert!(plan.chunks().len() > 5, "{}", plan.chunks().len());
        let values = Needed {
            templates: true,
            variables: true,
            ..Needed::default()
        };
        let text = Needed {
            text: true,
            ..Needed::default()
        };
        let wanted = plan.all(Columns {
            timestamps: false,
            lines: LineColumn::Bytes,
            metadata: false,
        });
        for order in [[values, text], [text, values]] {
            let mut found = LineBuffer::default();
            let mut scratch = Scratch::default();
            for chunk in plan.chunks() {
                let mut finish =
                    |mut open: OpenChunk<'_>, _: Option<Filter<'_>>, _: &mut Buffers| {
                        order.iter().try_for_each(|needed| open.load(*needed))?;
                        let rows = open.index.locals.len();
                        (0..rows).for_each(|row| open.lines().append(row, &mut found));
                        Ok(ChunkStats::default())
                    };
                let reads = plan.reads_of(chunk, &wanted).into_iter();
                let part = |part: Range<u64>| object.slice(part.start as usize..part.end as usize);
                let bytes: Vec<Bytes> = reads.map(part).collect();
                let all = || TimeRange::ALL;
                plan.decode_with(chunk, &wanted, &all, &bytes, &mut scratch, &mut finish)
                    .unwrap();
            }
            let found = String::from_utf8(found.into_text()).unwrap();
            assert_eq!(found, lines.concat());
        }
    }
}
