//! Blocks of a chunk: checked and decompressed.

use std::ops::Range;

use bytes::Bytes;
use model::Timestamp;
use pco::standalone::simple_decompress_into;
use zstd::bulk::Decompressor;

use crate::error::Damage;
use crate::footer::ChunkEntry;
use crate::format::{BLOCKS, Block};
use crate::{Error, Segment};

/// Decompressed blocks of one chunk, and the buffers for them.
#[derive(Default)]
pub(crate) struct Blocks {
    raw: [Vec<u8>; BLOCKS.len()],
    pub(crate) timestamps: Vec<Timestamp>,
    decompressor: Option<Decompressor<'static>>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").finish_non_exhaustive()
    }
}

impl Blocks {
    pub(crate) fn raw(&self, block: Block) -> &[u8] {
        &self.raw[block as usize]
    }

    /// Reads the blocks that are needed out of the parts `bytes` of the object at `ranges`.
    pub(crate) fn load(
        &mut self,
        segment: &Segment,
        chunk: &ChunkEntry,
        needs: [bool; BLOCKS.len()],
        ranges: &[Range<u64>],
        bytes: &[Bytes],
    ) -> Result<(), Error> {
        self.timestamps.clear();
        for block in BLOCKS {
            self.raw[block as usize].clear();
            if !needs[block as usize] {
                continue;
            }
            let place = chunk.range(block);
            let part = ranges.iter().zip(bytes).find_map(|(range, part)| {
                let from = place.start.checked_sub(range.start)? as usize;
                part.get(from..from + (place.end - place.start) as usize)
            });
            let part = part.ok_or_else(|| Error::Request {
                object: segment.name().to_owned(),
                what: format!("bytes {place:?} are not among those given"),
            })?;
            let body = segment.verified(part, place.start)?;
            let loaded = match block {
                Block::Timestamps => self.load_timestamps(body, chunk.rows as usize),
                _ => self.decompress(block, body, chunk),
            };
            loaded.map_err(|damage| damage.at(segment.name(), place.start))?;
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
        let out = &mut self.raw[block as usize];
        out.reserve(wanted);
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none
                .insert(Decompressor::new().map_err(|error| Damage::new("a decompressor", error))?),
        };
        decompressor
            .decompress_to_buffer(body, out)
            .map_err(|error| Damage::new("a zstd frame", error))?;
        match out.len() == wanted {
            true => Ok(()),
            false => Err(Damage::new(format!("{wanted} bytes"), out.len())),
        }
    }
}
