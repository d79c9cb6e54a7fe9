//! Writing a segment: streams and rows come in order, the object goes out front to back.
//!
//! Memory: one chunk and its columns, the template dictionary, the directory, and the filters
//! (about 2 % of the raw text) until they are written behind the last chunk.

pub(crate) mod blocks;
pub(crate) mod chunk;
mod columns;
pub(crate) mod dictionary;
mod distinct;
pub(crate) mod footer;
mod short;
pub(crate) mod split;
mod streams;

use std::io::Write;
use std::sync::Arc;

use model::{Labels, StreamId, TenantId, Timestamp};

use crate::filter::{Filter, write_filters};
use crate::footer::ChunkEntry;
use crate::format::{HEAD_MAGIC, RECORD_BYTES_MAX};
use crate::writer::blocks::BlockWriter;
use crate::writer::chunk::ChunkBuilder;
use crate::writer::dictionary::Dictionary;
use crate::writer::streams::StreamTable;
use crate::{Compression, EncodeOptions, Encoded, Error, TenantSummary};

pub(crate) struct SegmentWriter<'a> {
    blocks: BlockWriter<'a>,
    chunk: ChunkBuilder,
    dictionary: Dictionary,
    tenants: Vec<TenantSummary>,
    streams: StreamTable,
    /// The stream named last, listed once it has a row.
    next: Option<(TenantId, StreamId, Arc<Labels>)>,
    chunks: Vec<ChunkEntry>,
    filters: Vec<Filter>,
    compression: Compression,
}

impl<'a> SegmentWriter<'a> {
    pub(crate) fn new(options: &EncodeOptions, out: &'a mut dyn Write) -> Result<Self, Error> {
        let mut blocks = BlockWriter::new(out, options.compression)?;
        blocks.write_plain(&HEAD_MAGIC)?;
        Ok(SegmentWriter {
            blocks,
            chunk: ChunkBuilder::new(options),
            dictionary: Dictionary::new(),
            tenants: Vec::new(),
            streams: StreamTable::default(),
            next: None,
            chunks: Vec::new(),
            filters: Vec::new(),
            compression: options.compression,
        })
    }

    /// The rows pushed next belong to this stream; streams come in order of
    /// (tenant, labels, id).
    pub(crate) fn stream(&mut self, tenant: &TenantId, id: StreamId, labels: &Arc<Labels>) {
        self.next = Some((tenant.clone(), id, Arc::clone(labels)));
    }

    /// Adds one row; rows of a stream come in order of time.
    pub(crate) fn push(
        &mut self,
        timestamp: Timestamp,
        line: &[u8],
        metadata: &[(&str, &[u8])],
    ) -> Result<(), Error> {
        let values: usize = metadata.iter().map(|(_, value)| value.len()).sum();
        let bytes = (line.len() + values) as u64;
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::RecordTooLarge {
                bytes,
                limit: RECORD_BYTES_MAX,
            });
        }
        if self.chunk.is_full() {
            self.seal_chunk()?;
        }
        if let Some((tenant, id, labels)) = self.next.take() {
            self.list(tenant, id, labels, timestamp)?;
        }
        let stream = self.streams.len() - 1;
        self.chunk
            .push(&mut self.dictionary, stream, timestamp, line, metadata);
        Ok(())
    }

    fn list(
        &mut self,
        tenant: TenantId,
        id: StreamId,
        labels: Arc<Labels>,
        timestamp: Timestamp,
    ) -> Result<(), Error> {
        if self.tenants.last().is_none_or(|last| last.tenant != tenant) {
            // A chunk never holds rows of two tenants.
            self.seal_chunk()?;
            self.tenants.push(TenantSummary {
                tenant: tenant.clone(),
                records: 0,
                content_bytes: 0,
                first: timestamp,
                last: timestamp,
            });
        }
        let number = self.tenants.len() as u32 - 1;
        self.streams.push(&tenant, number, id, labels);
        Ok(())
    }

    fn seal_chunk(&mut self) -> Result<(), Error> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let (entry, filter) = self.chunk.seal(&mut self.dictionary, &mut self.blocks)?;
        // A chunk never holds rows of two tenants, and rows of a span come in order of time.
        if let Some(tenant) = self.tenants.last_mut() {
            for span in &entry.spans {
                tenant.records += u64::from(span.rows);
                tenant.content_bytes += span.content_bytes;
                tenant.first = tenant.first.min(span.first);
                tenant.last = tenant.last.max(span.last);
            }
        }
        self.chunks.push(entry);
        self.filters.push(filter);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Encoded, Error> {
        self.seal_chunk()?;
        let filters = write_filters(&self.filters, &mut self.blocks)?;
        let footer = footer::Footer {
            tenants: &self.tenants,
            streams: &self.streams,
            chunks: &self.chunks,
            filters: &filters,
            dictionary: &self.dictionary,
            compression: self.compression,
        };
        footer.write(&mut self.blocks)?;
        Ok(Encoded {
            tenants: self.tenants,
            object_bytes: self.blocks.position(),
        })
    }
}
