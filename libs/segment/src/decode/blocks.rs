//! Blocks of a chunk: checked and decompressed when they are first needed.

use std::ops::Range;

use bytes::Bytes;
use model::Timestamp;
use pco::standalone::simple_decompress_into;
use zstd::bulk::Decompressor;

use crate::error::Damage;
use crate::footer::ChunkEntry;
use crate::format::{BLOCKS, Block, TEXTS};
use crate::{Error, Segment};

/// Parts of an object that were read for one chunk.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) chunk: &'a ChunkEntry,
    pub(crate) ranges: &'a [Range<u64>],
    pub(crate) bytes: &'a [Bytes],
}

/// Decompressed blocks of one chunk, and the buffers for them.
#[derive(Default)]
pub(crate) struct Blocks {
    loaded: [bool; BLOCKS.len()],
    raw: [Vec<u8>; BLOCKS.len()],
    /// The blocks of [`TEXTS`] side by side; anything where one is not loaded, and behind them.
    pub(crate) text: Vec<u8>,
    pub(crate) timestamps: Vec<Timestamp>,
    decompressor: Option<Decompressor<'static>>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").finish_non_exhaustive()
    }
}

impl Parts<'_> {
    /// The stored bytes of a block, checked.
    fn body(&self, block: Block) -> Result<&[u8], Error> {
        let place = self.chunk.range(block);
        let part = self
            .ranges
            .iter()
            .zip(self.bytes)
            .find_map(|(range, part)| {
                let from = place.start.checked_sub(range.start)? as usize;
                part.get(from..from + (place.end - place.start) as usize)
            });
        let part = part.ok_or_else(|| Error::Request {
            object: self.segment.name().to_owned(),
            what: format!("bytes {place:?} are not among those given"),
        })?;
        self.segment.verified(part, place.start)
    }

    pub(crate) fn damaged(&self, block: Block) -> impl Fn(Damage) -> Error {
        let (segment, at) = (self.segment, self.chunk.range(block).start);
        move |damage| damage.at(segment.name(), at)
    }
}

impl Blocks {
    pub(crate) fn raw(&self, block: Block) -> &[u8] {
        &self.raw[block as usize]
    }

    /// Forgets the chunk before.
    pub(crate) fn begin(&mut self) {
        self.loaded = [false; BLOCKS.len()];
        self.raw.iter_mut().for_each(Vec::clear);
    }

    /// Makes these blocks ready, as far as they are not yet.
    pub(crate) fn load(&mut self, parts: &Parts<'_>, blocks: &[Block]) -> Result<(), Error> {
        for block in blocks {
            if std::mem::replace(&mut self.loaded[*block as usize], true)
                || parts.chunk.range(*block).is_empty()
            {
                continue;
            }
            let body = parts.body(*block)?;
            let loaded = match block {
                Block::Timestamps => self.load_timestamps(body, parts.chunk.rows as usize),
                _ => self.decompress(*block, body, parts.chunk),
            };
            loaded.map_err(parts.damaged(*block))?;
        }
        Ok(())
    }

    fn load_timestamps(&mut self, body: &[u8], rows: usize) -> Result<(), Damage> {
        self.timestamps.resize(rows, 0);
        let progress = simple_decompress_into(body, &mut self.timestamps)
            .map_err(|error| Damage::new("packed timestamps", error))?;
        if progress.n_processed != rows || !progress.finished {
            let expected = format!("{rows} timestamps");
            return Err(Damage::new(expected, progress.n_processed));
        }
        Ok(())
    }

    fn decompress(&mut self, block: Block, body: &[u8], chunk: &ChunkEntry) -> Result<(), Damage> {
        let wanted = chunk.blocks[block as usize].raw_bytes as usize;
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none
                .insert(Decompressor::new().map_err(|error| Damage::new("a decompressor", error))?),
        };
        let written = match TEXTS.iter().position(|text| *text == block) {
            Some(class) => {
                let starts = chunk.text_starts();
                if self.text.len() < starts[TEXTS.len()] {
                    self.text.resize(starts[TEXTS.len()], 0);
                }
                let out = &mut self.text[starts[class]..starts[class + 1]];
                decompressor.decompress_to_buffer(body, out)
            }
            None => {
                let out = &mut self.raw[block as usize];
                out.reserve(wanted);
                decompressor.decompress_to_buffer(body, out)
            }
        };
        let written = written.map_err(|error| Damage::new("a zstd frame", error))?;
        match written == wanted {
            true => Ok(()),
            false => Err(Damage::new(format!("{wanted} bytes"), written)),
        }
    }
}
