//! The footer as read: everything that is known of a segment before a chunk is touched.

mod read;

use std::ops::Range;
use std::sync::Arc;

use model::{Labels, StreamId, TenantId, Timestamp};

use crate::filter::Filters;
use crate::format::{BLOCKS, Block, TEXTS};
use crate::template::Stamp;

pub(crate) use read::{Tail, read_tail};

/// Sizes of one block; it stands behind the chunk's blocks before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    /// In the object, checksum included; 0 when the block is empty.
    pub(crate) stored_bytes: u32,
    /// Before compression.
    pub(crate) raw_bytes: u32,
}

/// The rows of one stream in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanEntry {
    pub(crate) stream: u32,
    pub(crate) rows: u32,
    pub(crate) content_bytes: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// One chunk of the directory.
#[derive(Clone, Debug)]
pub(crate) struct ChunkEntry {
    pub(crate) offset: u64,
    pub(crate) blocks: [BlockPlace; BLOCKS.len()],
    pub(crate) rows: u32,
    /// In order of stream; they tile the rows.
    pub(crate) spans: Box<[SpanEntry]>,
    /// Templates that occur, ascending; rows name them by their place in this list.
    pub(crate) templates: Box<[u32]>,
}

impl ChunkEntry {
    /// Where a block stands in the object.
    pub(crate) fn range(&self, block: Block) -> Range<u64> {
        let before = &self.blocks[..block as usize];
        let start = self.offset
            + before
                .iter()
                .map(|b| u64::from(b.stored_bytes))
                .sum::<u64>();
        start..start + u64::from(self.blocks[block as usize].stored_bytes)
    }

    /// Where the text of each class begins when all are laid side by side, and where it ends.
    pub(crate) fn text_starts(&self) -> [usize; TEXTS.len() + 1] {
        let mut starts = [0; TEXTS.len() + 1];
        for (class, block) in TEXTS.iter().enumerate() {
            starts[class + 1] = starts[class] + self.blocks[*block as usize].raw_bytes as usize;
        }
        starts
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.stored_bytes)).sum()
    }
}

/// One stream, over all chunks.
#[derive(Clone, Debug)]
pub(crate) struct StreamInfo {
    pub(crate) tenant: u32,
    pub(crate) id: StreamId,
    pub(crate) labels: Arc<Labels>,
    pub(crate) rows: u64,
    pub(crate) content_bytes: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// Where a stream stands in a segment: the number of its tenant; its labels, first as one text,
/// which is compared faster and nearly always decides; its id.
pub(crate) type Place<'a> = (u32, &'a str, &'a Labels, StreamId);

pub(crate) fn place(tenant: u32, labels: &Labels, id: StreamId) -> Place<'_> {
    (tenant, labels.text(), labels, id)
}

/// The template dictionary as read.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    pub(crate) text: Vec<u8>,
    pub(crate) text_ends: Vec<u32>,
    pub(crate) slots: Vec<u32>,
    pub(crate) slot_ends: Vec<u32>,
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) raw_token_longest: u32,
}

fn range_of(ends: &[u32], at: usize) -> Range<usize> {
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[at] as usize
}

impl Templates {
    pub(crate) fn len(&self) -> usize {
        self.text_ends.len()
    }

    pub(crate) fn text(&self, template: u32) -> &[u8] {
        &self.text[self.text_range(template)]
    }

    /// Where a template's text stands in the text of all.
    pub(crate) fn text_range(&self, template: u32) -> Range<usize> {
        range_of(&self.text_ends, template as usize)
    }

    pub(crate) fn slots(&self, template: u32) -> &[u32] {
        &self.slots[range_of(&self.slot_ends, template as usize)]
    }

    pub(crate) fn stamps(&self, template: u32) -> &[Stamp] {
        &self.stamps[range_of(&self.slot_ends, template as usize)]
    }
}

/// The whole footer.
#[derive(Debug, Default)]
pub(crate) struct Footer {
    pub(crate) tenants: Vec<TenantId>,
    /// In order of [`Place`].
    pub(crate) streams: Vec<StreamInfo>,
    pub(crate) chunks: Vec<ChunkEntry>,
    pub(crate) filters: Filters,
    pub(crate) templates: Templates,
}

impl Footer {
    /// The streams of a tenant, by number; empty when the segment has none.
    pub(crate) fn streams_of(&self, tenant: &TenantId) -> Range<usize> {
        let Some(number) = self.tenants.iter().position(|t| t == tenant) else {
            return 0..0;
        };
        let number = number as u32;
        let start = self.streams.partition_point(|s| s.tenant < number);
        let end = self.streams.partition_point(|s| s.tenant <= number);
        start..end
    }

    /// The chunks that hold rows of these streams, by number.
    pub(crate) fn chunks_of(&self, streams: &Range<usize>) -> Range<usize> {
        let last = |chunk: &ChunkEntry| chunk.spans.last().map_or(0, |span| span.stream as usize);
        let first = |chunk: &ChunkEntry| chunk.spans.first().map_or(0, |span| span.stream as usize);
        let start = self.chunks.partition_point(|c| last(c) < streams.start);
        let end = self.chunks.partition_point(|c| first(c) < streams.end);
        start..end.max(start)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let labels = |stream: &StreamInfo| -> usize {
            let pairs = stream.labels.iter();
            pairs.map(|(n, v)| n.len() + v.len() + 32).sum::<usize>() + 48
        };
        let chunk = |chunk: &ChunkEntry| {
            size_of::<ChunkEntry>()
                + chunk.spans.len() * size_of::<SpanEntry>()
                + chunk.templates.len() * 4
        };
        let templates = &self.templates;
        size_of::<Self>()
            + self.streams.capacity() * size_of::<StreamInfo>()
            + self.streams.iter().map(labels).sum::<usize>()
            + self.chunks.iter().map(chunk).sum::<usize>()
            + self.filters.starts.len() * 8
            + self.filters.specs.len() * 8
            + templates.text.capacity()
            + (templates.text_ends.capacity() + templates.slot_ends.capacity()) * 4
            + templates.slots.capacity() * 4
            + templates.stamps.capacity() * size_of::<Stamp>()
    }
}
