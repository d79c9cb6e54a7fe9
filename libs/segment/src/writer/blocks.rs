//! The object, front to back: compressed blocks, each with a checksum behind it.

use std::io::Write;

use model::Timestamp;
use pco::standalone::simple_compress_into;
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zstd::bulk::Compressor;

use crate::footer::BlockPlace;
use crate::format::BLOCK_RAW_MAX;
use crate::{Compression, Error};

pub(crate) struct BlockWriter<'a> {
    out: &'a mut dyn Write,
    position: u64,
    compressor: Compressor<'static>,
    /// For lines stored whole, which have no columns to help the compressor.
    whole_compressor: Compressor<'static>,
    timestamps: ChunkConfig,
    buffer: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, compression: Compression) -> Result<Self, Error> {
        let compressor = Compressor::new(compression.level()).map_err(compress)?;
        let whole_compressor = Compressor::new(compression.level().max(3)).map_err(compress)?;
        let timestamps = ChunkConfig::default()
            .with_compression_level(compression.timestamp_level())
            .with_mode_spec(ModeSpec::Auto)
            .with_delta_spec(DeltaSpec::TryConsecutive(1));
        Ok(BlockWriter {
            out,
            position: 0,
            compressor,
            whole_compressor,
            timestamps,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn write_plain(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::Write)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes `raw` compressed; nothing at all when it is empty.
    pub(crate) fn write(&mut self, raw: &[u8]) -> Result<BlockPlace, Error> {
        self.write_text(raw, false)
    }

    /// As [`write`](Self::write); `whole` says that much of it is lines stored whole.
    pub(crate) fn write_text(&mut self, raw: &[u8], whole: bool) -> Result<BlockPlace, Error> {
        if raw.is_empty() {
            return Ok(BlockPlace::default());
        }
        if raw.len() as u64 > BLOCK_RAW_MAX {
            return Err(Error::RecordTooLarge {
                bytes: raw.len() as u64,
                limit: BLOCK_RAW_MAX,
            });
        }
        self.buffer.clear();
        self.buffer
            .reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let compressor = match whole {
            true => &mut self.whole_compressor,
            false => &mut self.compressor,
        };
        compressor
            .compress_to_buffer(raw, &mut self.buffer)
            .map_err(compress)?;
        self.write_buffer(raw.len())
    }

    pub(crate) fn write_timestamps(&mut self, times: &[Timestamp]) -> Result<BlockPlace, Error> {
        self.buffer.clear();
        simple_compress_into(times, &self.timestamps, &mut self.buffer).map_err(compress)?;
        self.write_buffer(size_of_val(times))
    }

    /// Writes the buffer and its checksum, which also depends on where it stands.
    fn write_buffer(&mut self, raw_bytes: usize) -> Result<BlockPlace, Error> {
        let sum = xxh3_64_with_seed(&self.buffer, self.position);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write_plain(&buffer);
        self.buffer = buffer;
        written?;
        Ok(BlockPlace {
            stored_bytes: self.buffer.len() as u32,
            raw_bytes: raw_bytes as u32,
        })
    }
}

pub(crate) fn compress(error: impl std::fmt::Display) -> Error {
    Error::Compress(error.to_string())
}
