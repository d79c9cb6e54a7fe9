//! A segment that has been opened: its footer, and nothing else of it in memory.

use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, StreamId, TenantId, Timestamp};

use crate::footer::{Footer, Tail, read_tail};
use crate::format::{Block, TEXTS};
use crate::plan::{Plan, ScanSpec};
use crate::{Error, TenantSummary};

/// How many bytes from the end of an object to read first (or the whole object, if it is
/// shorter): enough for the footer of most segments, and one request in any case.
pub const TAIL_BYTES: u64 = 256 << 10;

/// A cheap handle of an opened segment.
#[derive(Clone, Debug)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    footer: Footer,
}

/// What [`Segment::open`] came to.
#[derive(Debug)]
pub enum Opened {
    /// Ready.
    Segment(Segment),
    /// The footer is longer than the bytes given: read this many bytes from the end of the object
    /// and open again.
    NeedTail(u64),
}

/// Bytes of an object by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartBytes {
    /// Which template each row has.
    pub templates: u64,
    /// Times.
    pub timestamps: u64,
    /// Lengths of variables.
    pub lengths: u64,
    /// Text of variables and of lines stored whole: words, hexadecimal numbers, numbers.
    pub text: [u64; 3],
    /// Structured metadata.
    pub metadata: u64,
    /// Token filters.
    pub filters: u64,
    /// Before compression: lengths of variables.
    pub lengths_raw: u64,
    /// Which value of its column's dictionary each variable is.
    pub indices: u64,
    /// Before compression: the same.
    pub indices_raw: u64,
    /// Before compression: text of variables and of lines stored whole.
    pub text_raw: [u64; 3],
}

/// One stream of a segment.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Its labels.
    pub labels: &'a Arc<Labels>,
    /// Records in this segment.
    pub records: u64,
    /// Bytes of lines and metadata values.
    pub content_bytes: u64,
    /// Time of the earliest record, included.
    pub first: Timestamp,
    /// Time of the latest record, included.
    pub last: Timestamp,
}

impl Segment {
    /// Opens the object of `object_bytes` bytes of which `tail` are the last ones.
    ///
    /// # Errors
    /// `Corrupt` when trailer or footer are not what was written, `Version` when another release
    /// wrote them.
    pub fn open(name: &str, tail: Bytes, object_bytes: u64) -> Result<Opened, Error> {
        Ok(match read_tail(name, &tail, object_bytes)? {
            Tail::Longer(bytes) => Opened::NeedTail(bytes),
            Tail::Footer(footer) => Opened::Segment(Segment {
                inner: Arc::new(Inner {
                    name: name.to_owned(),
                    footer: *footer,
                }),
            }),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.inner.footer
    }

    /// About how many bytes of memory the segment holds.
    pub fn memory_bytes(&self) -> usize {
        self.inner.name.len() + self.inner.footer.memory_bytes()
    }

    /// Where the object's bytes go, footer not counted.
    pub fn part_bytes(&self) -> PartBytes {
        let mut parts = PartBytes::default();
        for chunk in &self.footer().chunks {
            let stored = |block: Block| u64::from(chunk.blocks[block as usize].stored_bytes);
            let raw = |block: Block| u64::from(chunk.blocks[block as usize].raw_bytes);
            parts.templates += stored(Block::Templates);
            parts.timestamps += stored(Block::Timestamps);
            parts.lengths += stored(Block::Lengths);
            for (class, block) in TEXTS.into_iter().enumerate() {
                parts.text[class] += stored(block);
                parts.text_raw[class] += raw(block);
            }
            parts.indices += stored(Block::Indices);
            parts.metadata += stored(Block::Metadata);
            parts.lengths_raw += raw(Block::Lengths);
            parts.indices_raw += raw(Block::Indices);
        }
        parts.filters = self.footer().filters.stored_bytes();
        parts
    }

    /// The streams of a tenant, in the order in which they are stored.
    pub fn streams(&self, tenant: &TenantId) -> impl Iterator<Item = StreamEntry<'_>> {
        let footer = self.footer();
        footer.streams[footer.streams_of(tenant)]
            .iter()
            .map(|stream| StreamEntry {
                id: stream.id,
                labels: &stream.labels,
                records: stream.rows,
                content_bytes: stream.content_bytes,
                first: stream.first,
                last: stream.last,
            })
    }

    /// What each tenant has in the segment, in order of tenant: what [`crate::Encoded`] said when it
    /// was written.
    pub fn tenants(&self) -> Vec<TenantSummary> {
        let mut tenants = self.footer().tenants.clone();
        tenants.sort();
        let summaries = tenants.into_iter().filter_map(|tenant| {
            let first = self.streams(&tenant).map(|stream| stream.first).min()?;
            let last = self.streams(&tenant).map(|stream| stream.last).max()?;
            Some(TenantSummary {
                records: self.streams(&tenant).map(|stream| stream.records).sum(),
                content_bytes: self.streams(&tenant).map(|s| s.content_bytes).sum(),
                tenant,
                first,
                last,
            })
        });
        summaries.collect()
    }

    /// What a scan needs of this segment.
    pub fn plan(&self, spec: &ScanSpec<'_>) -> Plan {
        Plan::new(self.clone(), spec)
    }
}
