//! From bytes to footer; everything is checked, nothing is trusted.

use std::sync::Arc;

use model::{Labels, Signal, StreamId, TenantId};

use super::{BlockPlace, ChunkEntry, Footer, SpanEntry, StreamInfo, Templates, place};
use crate::Error;
use crate::error::Damage;
use crate::filter::{FilterSpec, Filters};
use crate::format::{
    BLOCK_RAW_MAX, BLOCKS, Block, CHECKSUM_BYTES, CHUNK_ROWS_MAX, EXPANSION_MAX, FILTER_ROWS_MAX,
    FILTER_UNITS_MAX, HEAD_MAGIC, SLOTS_MAX, TAIL_MAGIC, TEMPLATE_TEXT_MAX, TEMPLATES_MAX,
    TRAILER_BYTES, VERSION,
};
use crate::template::Stamp;
use crate::wire::Cursor;
use crate::writer::footer::checksum;

/// What the tail of an object says.
pub(crate) enum Tail {
    Footer(Box<Footer>),
    /// The footer and trailer are this long.
    Longer(u64),
}

/// Reads trailer and footer out of the last bytes of an object.
pub(crate) fn read_tail(object: &str, tail: &[u8], object_bytes: u64) -> Result<Tail, Error> {
    let trailer_at = object_bytes.saturating_sub(TRAILER_BYTES as u64);
    let short = || Damage::new(format!("a trailer of {TRAILER_BYTES} bytes"), tail.len());
    let Some((body, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(short().at(object, trailer_at));
    };
    let (sizes, rest) = trailer.split_at(16);
    let at_trailer = |damage: Damage| damage.at(object, trailer_at);
    if rest[16..24] != TAIL_MAGIC {
        let found = format!("{:02x?}", &rest[16..24]);
        return Err(at_trailer(Damage::new("\"PHSEGEND\" at the end", found)));
    }
    let mut cursor = Cursor::new(sizes);
    let stored_bytes = u64::from(cursor.u32().map_err(at_trailer)?);
    let raw_bytes = u64::from(cursor.u32().map_err(at_trailer)?);
    let written_bytes = cursor.u64().map_err(at_trailer)?;
    let mut cursor = Cursor::new(rest);
    let sum = cursor.u64().map_err(at_trailer)?;
    let version = cursor.u32().map_err(at_trailer)?;
    if version != VERSION {
        return Err(Error::Version {
            object: object.to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    if written_bytes != object_bytes {
        let expected = format!("an object of {written_bytes} bytes");
        return Err(at_trailer(Damage::new(expected, object_bytes)));
    }
    let whole = stored_bytes + TRAILER_BYTES as u64;
    if whole + HEAD_MAGIC.len() as u64 > object_bytes {
        let expected = format!("a footer below {object_bytes} bytes");
        return Err(at_trailer(Damage::new(expected, stored_bytes)));
    }
    if stored_bytes > body.len() as u64 {
        return Ok(Tail::Longer(whole));
    }
    let stored = &body[body.len() - stored_bytes as usize..];
    let footer_at = object_bytes - whole;
    let found = checksum(stored, sizes);
    if found != sum {
        let damage = Damage::new(format!("checksum {sum:016x}"), format!("{found:016x}"));
        return Err(damage.at(object, footer_at));
    }
    read_footer(stored, raw_bytes, footer_at)
        .map(|footer| Tail::Footer(Box::new(footer)))
        .map_err(|damage| damage.at(object, footer_at))
}

fn read_footer(stored: &[u8], raw_bytes: u64, footer_at: u64) -> Result<Footer, Damage> {
    let limit = (stored.len() as u64 * EXPANSION_MAX).min(BLOCK_RAW_MAX);
    if raw_bytes > limit {
        return Err(Damage::new(format!("at most {limit} bytes"), raw_bytes));
    }
    let raw = zstd::bulk::decompress(stored, raw_bytes as usize)
        .map_err(|error| Damage::new("a zstd frame", error))?;
    if raw.len() as u64 != raw_bytes {
        return Err(Damage::new(format!("{raw_bytes} bytes"), raw.len()));
    }
    let mut cursor = Cursor::new(&raw);
    let mut footer = Footer::default();
    read_streams(&mut cursor, &mut footer)?;
    let end = read_chunks(&mut cursor, &mut footer)?;
    footer.filters = read_filters(&mut cursor, footer.chunks.len(), end, footer_at)?;
    footer.templates = read_templates(&mut cursor)?;
    cursor.finish()?;
    check_templates(&footer)?;
    Ok(footer)
}

fn read_streams(cursor: &mut Cursor<'_>, footer: &mut Footer) -> Result<(), Damage> {
    for _ in 0..cursor.count()? {
        let tenant = TenantId::new(cursor.text()?);
        let tenant = tenant.map_err(|error| Damage::new("a tenant id", error))?;
        if footer.tenants.last().is_some_and(|last| *last >= tenant) {
            return Err(Damage::new("tenants in order", tenant));
        }
        footer.tenants.push(tenant);
    }
    let words = cursor.count()?;
    let words: Vec<&str> = (0..words)
        .map(|_| cursor.text())
        .collect::<Result<_, Damage>>()?;
    let word = |number: u64| {
        let word = usize::try_from(number).ok().and_then(|n| words.get(n));
        word.ok_or_else(|| Damage::new(format!("a word below {}", words.len()), number))
    };
    let count = cursor.count()?;
    footer.streams.reserve_exact(count);
    let mut tenant = 0u64;
    for _ in 0..count {
        tenant = tenant.saturating_add(cursor.varint()?);
        let name = footer.tenants.get(tenant as usize);
        let name = name.ok_or_else(|| Damage::new("a tenant of the list", tenant))?;
        let head = cursor.varint()?;
        let mut pairs = Vec::new();
        for _ in 0..head >> 1 {
            pairs.push((*word(cursor.varint()?)?, *word(cursor.varint()?)?));
        }
        let labels = Labels::new(pairs).map_err(|error| Damage::new("labels", error))?;
        let id = match head & 1 {
            0 => StreamId::of(name, Signal::Logs, &labels),
            _ => {
                let (low, high) = (cursor.u64()?, cursor.u64()?);
                StreamId(u128::from(high) << 64 | u128::from(low))
            }
        };
        if let Some(last) = footer.streams.last() {
            let before = place(last.tenant, &last.labels, last.id);
            if before >= place(tenant as u32, &labels, id) {
                return Err(Damage::new("streams in order", format!("{id:?}")));
            }
        }
        footer.streams.push(StreamInfo {
            tenant: tenant as u32,
            id,
            labels: Arc::new(labels),
            rows: 0,
            content_bytes: 0,
            first: i64::MAX,
            last: i64::MIN,
        });
    }
    Ok(())
}

/// Reads the directory; returns where the last chunk ends in the object.
fn read_chunks(cursor: &mut Cursor<'_>, footer: &mut Footer) -> Result<u64, Damage> {
    let base = cursor.signed()?;
    let count = cursor.count()?;
    footer.chunks.reserve_exact(count);
    let mut offset = HEAD_MAGIC.len() as u64;
    let mut stream = 0u64;
    for _ in 0..count {
        let mut blocks = [BlockPlace::default(); BLOCKS.len()];
        for block in &mut blocks {
            *block = read_block(cursor)?;
        }
        let mut spans = Vec::new();
        let mut rows = 0u64;
        for _ in 0..cursor.count()? {
            stream = stream.saturating_add(cursor.varint()?);
            let span = read_span(cursor, stream, base)?;
            let before = spans.last().map(|before: &SpanEntry| before.stream);
            let info = match footer.streams.get_mut(span.stream as usize) {
                Some(info) if before != Some(span.stream) => info,
                _ => return Err(Damage::new("the next stream of the list", stream)),
            };
            info.rows += u64::from(span.rows);
            info.content_bytes = info.content_bytes.saturating_add(span.content_bytes);
            info.first = info.first.min(span.first);
            info.last = info.last.max(span.last);
            rows += u64::from(span.rows);
            spans.push(span);
        }
        if rows == 0 || rows > CHUNK_ROWS_MAX as u64 {
            let expected = format!("a chunk of 1 to {CHUNK_ROWS_MAX} rows");
            return Err(Damage::new(expected, rows));
        }
        let times = u64::from(blocks[Block::Timestamps as usize].raw_bytes);
        if times != rows * 8 {
            return Err(Damage::new(format!("times of {rows} rows"), times / 8));
        }
        let of = |span: Option<&SpanEntry>| span.map(|s| footer.streams[s.stream as usize].tenant);
        if of(spans.first()) != of(spans.last()) {
            return Err(Damage::new("one tenant per chunk", "two"));
        }
        let chunk = ChunkEntry {
            offset,
            blocks,
            rows: rows as u32,
            spans: spans.into(),
            templates: read_ascending(cursor, TEMPLATES_MAX as u64)?.into(),
        };
        offset = offset.saturating_add(chunk.stored_bytes());
        footer.chunks.push(chunk);
    }
    Ok(offset)
}

fn read_block(cursor: &mut Cursor<'_>) -> Result<BlockPlace, Damage> {
    let stored_bytes = cursor.small()?;
    if stored_bytes == 0 {
        return Ok(BlockPlace::default());
    }
    let raw_bytes = cursor.small()?;
    let limit = (u64::from(stored_bytes) * EXPANSION_MAX).min(BLOCK_RAW_MAX);
    if stored_bytes <= CHECKSUM_BYTES as u32 || u64::from(raw_bytes) > limit {
        let expected = format!("a block of at most {limit} bytes");
        return Err(Damage::new(expected, raw_bytes));
    }
    Ok(BlockPlace {
        stored_bytes,
        raw_bytes,
    })
}

fn read_span(cursor: &mut Cursor<'_>, stream: u64, base: i64) -> Result<SpanEntry, Damage> {
    let rows = cursor.small()?;
    let content_bytes = cursor.varint()?;
    let first = base.wrapping_add(cursor.varint()? as i64);
    let last = first.wrapping_add(cursor.varint()? as i64);
    if rows == 0 || first < base || last < first {
        let expected = "a row and ascending times";
        return Err(Damage::new(
            expected,
            format!("{rows} rows, {first} to {last}"),
        ));
    }
    Ok(SpanEntry {
        stream: u32::try_from(stream).unwrap_or(u32::MAX),
        rows,
        content_bytes,
        first,
        last,
    })
}

fn read_ascending(cursor: &mut Cursor<'_>, limit: u64) -> Result<Vec<u32>, Damage> {
    let count = cursor.count()?;
    let mut numbers = Vec::with_capacity(count);
    let mut next = 0u64;
    for _ in 0..count {
        let number = next.saturating_add(cursor.varint()?);
        if number >= limit {
            return Err(Damage::new(format!("a number below {limit}"), number));
        }
        numbers.push(number as u32);
        next = number + 1;
    }
    Ok(numbers)
}

fn read_filters(
    cursor: &mut Cursor<'_>,
    chunks: usize,
    mut offset: u64,
    footer_at: u64,
) -> Result<Filters, Damage> {
    let rows = cursor.count()?;
    if !rows.is_power_of_two() || rows > FILTER_ROWS_MAX {
        let expected = format!("a power of two of filter rows, {FILTER_ROWS_MAX} at most");
        return Err(Damage::new(expected, rows));
    }
    let mut filters = Filters {
        starts: vec![offset],
        specs: Vec::with_capacity(chunks),
    };
    for _ in 0..rows {
        let bytes = cursor.varint()?;
        if bytes < CHECKSUM_BYTES as u64 {
            return Err(Damage::new("a row of filters and its checksum", bytes));
        }
        offset = offset.saturating_add(bytes);
        filters.starts.push(offset);
    }
    if offset != footer_at {
        let expected = format!("chunks and filters up to byte {footer_at}");
        return Err(Damage::new(expected, offset));
    }
    for _ in 0..chunks {
        let units = cursor.varint()?;
        if units > FILTER_UNITS_MAX {
            let expected = format!("at most {FILTER_UNITS_MAX} units of a filter");
            return Err(Damage::new(expected, units));
        }
        let hashes = match units {
            0 => 0,
            _ => cursor.small()?,
        };
        let units = units as u32;
        filters.specs.push(FilterSpec { hashes, units });
    }
    Ok(filters)
}

fn read_templates(cursor: &mut Cursor<'_>) -> Result<Templates, Damage> {
    // Template 0 is the line stored whole: no text, one slot that may hold anything.
    let mut templates = Templates {
        text: Vec::new(),
        text_ends: vec![0],
        slots: vec![0],
        slot_ends: vec![1],
        stamps: vec![Stamp {
            mask: u64::MAX,
            longest: u32::MAX,
            hex: u32::MAX,
        }],
        raw_token_longest: cursor.small()?,
    };
    let count = cursor.count()?;
    if count >= TEMPLATES_MAX {
        let expected = format!("fewer than {TEMPLATES_MAX} templates");
        return Err(Damage::new(expected, count));
    }
    for _ in 0..count {
        templates.text.extend_from_slice(cursor.bytes()?);
        templates.text_ends.push(templates.text.len() as u32);
    }
    for number in 1..=count as u32 {
        let text_bytes = templates.text(number).len() as u64;
        let slots = cursor.count()?;
        if slots > SLOTS_MAX || text_bytes > TEMPLATE_TEXT_MAX as u64 {
            let found = format!("{slots} slots, {text_bytes} bytes");
            return Err(Damage::new("a template within its limits", found));
        }
        let mut at = 0u64;
        for slot in 0..slots {
            let step = cursor.varint()?;
            at = at.saturating_add(step);
            if at > text_bytes || (slot > 0 && step == 0) {
                return Err(Damage::new(format!("slots up to {text_bytes}"), at));
            }
            templates.slots.push(at as u32);
            let mask = cursor.u64()?;
            let (longest, hex) = (cursor.small()?, cursor.small()?);
            templates.stamps.push(Stamp { mask, longest, hex });
        }
        templates.slot_ends.push(templates.slots.len() as u32);
    }
    templates.text.shrink_to_fit();
    templates.slots.shrink_to_fit();
    templates.stamps.shrink_to_fit();
    Ok(templates)
}

fn check_templates(footer: &Footer) -> Result<(), Damage> {
    let known = footer.templates.len() as u32;
    for chunk in &footer.chunks {
        match chunk.templates.last() {
            None => return Err(Damage::new("a template in each chunk", "none")),
            Some(last) if *last >= known => {
                return Err(Damage::new(format!("a template below {known}"), last));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
