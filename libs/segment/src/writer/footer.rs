//! The footer and the trailer, written behind everything else.

use xxhash_rust::xxh3::Xxh3;

use crate::filter::Filters;
use crate::footer::ChunkEntry;
use crate::format::{TAIL_MAGIC, VERSION};
use crate::template::RAW;
use crate::wire::{put_bytes, put_signed, put_varint};
use crate::writer::blocks::{BlockWriter, compress};
use crate::writer::dictionary::Dictionary;
use crate::writer::streams::StreamTable;
use crate::{Compression, Error, TenantSummary};

pub(crate) struct Footer<'a> {
    pub(crate) tenants: &'a [TenantSummary],
    pub(crate) streams: &'a StreamTable,
    pub(crate) chunks: &'a [ChunkEntry],
    pub(crate) filters: &'a Filters,
    pub(crate) dictionary: &'a Dictionary,
    pub(crate) compression: Compression,
}

impl Footer<'_> {
    pub(crate) fn write(&self, out: &mut BlockWriter<'_>) -> Result<(), Error> {
        let mut raw = Vec::new();
        self.put_streams(&mut raw);
        self.put_chunks(&mut raw);
        self.put_filters(&mut raw);
        self.put_templates(&mut raw);
        let stored =
            zstd::bulk::compress(&raw, self.compression.footer_level()).map_err(compress)?;
        out.write_plain(&stored)?;
        let object_bytes = out.position() + crate::format::TRAILER_BYTES as u64;
        let mut trailer = Vec::with_capacity(crate::format::TRAILER_BYTES);
        trailer.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&object_bytes.to_le_bytes());
        let sum = checksum(&stored, &trailer);
        trailer.extend_from_slice(&sum.to_le_bytes());
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        trailer.extend_from_slice(&0u32.to_le_bytes());
        trailer.extend_from_slice(&TAIL_MAGIC);
        out.write_plain(&trailer)
    }

    fn put_streams(&self, out: &mut Vec<u8>) {
        put_varint(out, self.tenants.len() as u64);
        for tenant in self.tenants {
            put_bytes(out, tenant.tenant.as_str().as_bytes());
        }
        self.streams.put(out);
    }

    fn put_chunks(&self, out: &mut Vec<u8>) {
        let spans = self.chunks.iter().flat_map(|chunk| chunk.spans.iter());
        let base = spans.map(|span| span.first).min().unwrap_or(0);
        put_signed(out, base);
        put_varint(out, self.chunks.len() as u64);
        let mut stream = 0;
        for chunk in self.chunks {
            for block in &chunk.blocks {
                put_varint(out, u64::from(block.stored_bytes));
                if block.stored_bytes > 0 {
                    put_varint(out, u64::from(block.raw_bytes));
                }
            }
            put_varint(out, chunk.spans.len() as u64);
            for span in &chunk.spans {
                put_varint(out, u64::from(span.stream - stream));
                stream = span.stream;
                put_varint(out, u64::from(span.rows));
                put_varint(out, span.content_bytes);
                put_varint(out, span.first.wrapping_sub(base) as u64);
                put_varint(out, span.last.wrapping_sub(span.first) as u64);
            }
            put_varint(out, chunk.templates.len() as u64);
            let mut next = 0;
            for template in &chunk.templates {
                put_varint(out, u64::from(template - next));
                next = template + 1;
            }
        }
    }

    fn put_filters(&self, out: &mut Vec<u8>) {
        put_varint(out, self.filters.rows() as u64);
        for row in 0..self.filters.rows() {
            let range = self.filters.range(row);
            put_varint(out, range.end - range.start);
        }
        for spec in &self.filters.specs {
            put_varint(out, u64::from(spec.units));
            if !spec.is_none() {
                put_varint(out, u64::from(spec.hashes));
            }
        }
    }

    fn put_templates(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.dictionary.raw_token_longest));
        let numbers = RAW + 1..self.dictionary.len() as u32;
        put_varint(out, numbers.len() as u64);
        for number in numbers.clone() {
            put_bytes(out, self.dictionary.text(number));
        }
        for number in numbers {
            let slots = self.dictionary.slots(number);
            put_varint(out, slots.len() as u64);
            let mut before = 0;
            for (slot, stamp) in slots.iter().zip(self.dictionary.stamps(number)) {
                put_varint(out, u64::from(slot - before));
                before = *slot;
                out.extend_from_slice(&stamp.mask.to_le_bytes());
                put_varint(out, u64::from(stamp.longest));
                put_varint(out, u64::from(stamp.hex));
            }
        }
    }
}

/// Covers the footer and the trailer's sizes.
pub(crate) fn checksum(footer: &[u8], sizes: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(footer);
    hash.update(sizes);
    hash.digest()
}
