//! One segment being merged: a cursor over its rows in stored order.

use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, StreamId, TenantId, TimeRange, Timestamp};

use super::ReadAt;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::line_buffer::LineBuffer;
use crate::decode::lines::LineIndex;
use crate::decode::rebuild::Lines;
use crate::decode::recipes::Recipes;
use crate::footer::SpanEntry;
use crate::format::{BLOCKS, Block};
use crate::metadata::MetadataColumns;
use crate::{Error, Opened, Segment, TAIL_BYTES};

pub(crate) struct Input<'a> {
    source: &'a dyn ReadAt,
    segment: Segment,
    /// How many streams have been entered.
    entered: usize,
    /// The stream being merged.
    stream: usize,
    chunk: usize,
    /// Span of the chunk, and the chunk's row at which it starts.
    span: usize,
    start: usize,
    /// Row of the span.
    row: usize,
    loaded: Option<usize>,
    blocks: Blocks,
    index: LineIndex,
    metadata: MetadataColumns,
    recipes: Recipes,
    line: LineBuffer,
}

impl<'a> Input<'a> {
    pub(crate) fn open(source: &'a dyn ReadAt) -> Result<Self, Error> {
        let bytes = source.len();
        let read = |tail: u64| read(source, bytes.saturating_sub(tail)..bytes);
        let segment = match Segment::open(source.name(), read(TAIL_BYTES)?, bytes)? {
            Opened::Segment(segment) => segment,
            Opened::NeedTail(tail) => match Segment::open(source.name(), read(tail)?, bytes)? {
                Opened::Segment(segment) => segment,
                Opened::NeedTail(_) => {
                    return Err(Error::Request {
                        object: source.name().to_owned(),
                        what: format!("want the last {tail} bytes, got fewer"),
                    });
                }
            },
        };
        Ok(Input {
            source,
            segment,
            entered: 0,
            stream: 0,
            chunk: 0,
            span: 0,
            start: 0,
            row: 0,
            loaded: None,
            blocks: Blocks::default(),
            index: LineIndex::default(),
            metadata: MetadataColumns::default(),
            recipes: Recipes::default(),
            line: LineBuffer::default(),
        })
    }

    /// The next stream that has not been entered.
    pub(crate) fn next_stream(&self) -> Option<(&TenantId, StreamId, &Arc<Labels>)> {
        let footer = self.segment.footer();
        let stream = footer.streams.get(self.entered)?;
        let tenant = &footer.tenants[stream.tenant as usize];
        Some((tenant, stream.id, &stream.labels))
    }

    /// Goes to this stream if it is the next one.
    pub(crate) fn enter(&mut self, tenant: &TenantId, id: StreamId, labels: &Labels) -> bool {
        let next = self.next_stream();
        let is_next = next.is_some_and(|next| (next.0, next.1, &**next.2) == (tenant, id, labels));
        if is_next {
            self.stream = self.entered;
            self.entered += 1;
        }
        is_next
    }

    /// The span at the cursor, and whether it is the last of its chunk.
    fn span(&self) -> Option<(SpanEntry, bool)> {
        let spans = &self.segment.footer().chunks.get(self.chunk)?.spans;
        Some((*spans.get(self.span)?, self.span + 1 == spans.len()))
    }

    /// The time of the stream's next row within the range; `None` behind the last.
    pub(crate) fn time(&mut self, range: TimeRange) -> Result<Option<Timestamp>, Error> {
        while let Some((span, last)) = self.span() {
            if span.stream as usize > self.stream {
                break;
            }
            let wanted =
                span.stream as usize == self.stream && range.touches(span.first, span.last);
            if wanted && self.row < span.rows as usize {
                if self.loaded != Some(self.chunk) {
                    self.load()?;
                }
                let times = &self.blocks.timestamps[self.start..];
                let times = &times[..span.rows as usize];
                let next = times[self.row..].iter().position(|t| range.contains(*t));
                if let Some(next) = next {
                    self.row += next;
                    return Ok(Some(times[self.row]));
                }
            }
            self.row = 0;
            self.start += span.rows as usize;
            self.span += 1;
            if last {
                self.chunk += 1;
                self.span = 0;
                self.start = 0;
            }
        }
        Ok(None)
    }

    /// Gives the row whose time was told last, and goes behind it.
    pub(crate) fn row(
        &mut self,
        take: impl FnOnce(&[u8], &[(&str, &[u8])]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let footer = self.segment.footer();
        let row = self.start + self.row;
        self.line.clear();
        let lines = Lines {
            index: &self.index,
            recipes: &self.recipes,
            chunk: &footer.chunks[self.chunk],
            templates: &footer.templates,
            text: &self.blocks.text,
            indices: self.blocks.raw(Block::Indices),
        };
        lines.append(row, &mut self.line);
        self.row += 1;
        if self.metadata.is_empty() {
            return take(self.line.as_slice(), &[]);
        }
        let pairs: Vec<(&str, &[u8])> = self.metadata.row(row).collect();
        take(self.line.as_slice(), &pairs)
    }

    fn load(&mut self) -> Result<(), Error> {
        let footer = self.segment.footer();
        let chunk = &footer.chunks[self.chunk];
        let range = chunk.offset..chunk.offset + chunk.stored_bytes();
        let bytes = read(self.source, range.clone())?;
        self.loaded = None;
        self.blocks.begin();
        let parts = Parts {
            segment: &self.segment,
            chunk,
            ranges: &[range],
            bytes: &[bytes],
        };
        self.blocks.load(&parts, &BLOCKS)?;
        self.index
            .read_templates(self.blocks.raw(Block::Templates), chunk)
            .map_err(parts.damaged(Block::Templates))?;
        self.index
            .read_variables(
                self.blocks.raw(Block::Lengths),
                self.blocks.raw(Block::Indices),
                chunk,
                &footer.templates,
            )
            .map_err(parts.damaged(Block::Lengths))?;
        let (index, text) = (&self.index, &self.blocks.text);
        self.recipes.fill(index, chunk, &footer.templates, text);
        let block = self.blocks.raw(Block::Metadata);
        self.metadata = MetadataColumns::read(block, chunk.rows as usize, false)
            .map_err(parts.damaged(Block::Metadata))?;
        self.loaded = Some(self.chunk);
        Ok(())
    }
}

fn read(source: &dyn ReadAt, range: std::ops::Range<u64>) -> Result<Bytes, Error> {
    let bytes = source.read(range.clone()).map_err(|error| Error::Read {
        object: source.name().to_owned(),
        source: error,
    })?;
    match bytes.len() as u64 == range.end - range.start {
        true => Ok(bytes),
        false => Err(Error::Read {
            object: source.name().to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("want bytes {range:?}, got {} bytes", bytes.len()),
            ),
        }),
    }
}
