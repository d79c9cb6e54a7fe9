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
    /// The cheapest, if `compressor` is another: on digits it is better as often as not.
    cheap_compressor: Option<Compressor<'static>>,
    /// For lines stored whole, which have no columns to help the compressor.
    whole_compressor: Compressor<'static>,
    /// Blocks of lines stored whole so far, and whether the latter compressor serves them better.
    whole_blocks: usize,
    whole_pays: bool,
    timestamps: ChunkConfig,
    buffer: Vec<u8>,
    cheap_buffer: Vec<u8>,
}

/// One of so many blocks of lines stored whole is sampled, in pieces of this length.
const BLOCKS_PER_SAMPLE: usize = 4;
const PIECE_BYTES: usize = 32 << 10;

/// How many bytes the text takes if each byte is coded by how frequent it is, and by nothing else.
fn entropy_bytes(text: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let total = text.len() as f64;
    let counts = counts.iter().filter(|count| **count > 0);
    let bits = counts.map(|count| f64::from(*count) * (total / f64::from(*count)).log2());
    bits.sum::<f64>() / 8.0
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, compression: Compression) -> Result<Self, Error> {
        let compressor = Compressor::new(compression.level()).map_err(compress)?;
        let cheap = (compression != Compression::Fast).then(|| Compression::Fast.level());
        let cheap_compressor = cheap.map(Compressor::new).transpose().map_err(compress)?;
        let whole_compressor = Compressor::new(compression.level().max(3)).map_err(compress)?;
        let timestamps = ChunkConfig::default()
            .with_compression_level(compression.timestamp_level())
            .with_mode_spec(ModeSpec::Auto)
            .with_delta_spec(DeltaSpec::TryConsecutive(1));
        Ok(BlockWriter {
            out,
            position: 0,
            compressor,
            cheap_compressor,
            cheap_buffer: Vec::new(),
            whole_compressor,
            whole_blocks: 0,
            whole_pays: true,
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
        let whole = whole && self.pays(raw)?;
        self.compress(raw, whole)?;
        self.write_buffer(raw.len())
    }

    /// As [`write`](Self::write), for text of which there is little to find but how frequent each byte
    /// is: the smaller of two ways.
    pub(crate) fn write_digits(&mut self, raw: &[u8]) -> Result<BlockPlace, Error> {
        let Some(cheap) = &mut self.cheap_compressor else {
            return self.write(raw);
        };
        if raw.is_empty() || raw.len() as u64 > BLOCK_RAW_MAX {
            return self.write(raw);
        }
        self.cheap_buffer.clear();
        self.cheap_buffer
            .reserve(zstd::zstd_safe::compress_bound(raw.len()));
        cheap
            .compress_to_buffer(raw, &mut self.cheap_buffer)
            .map_err(compress)?;
        self.compress(raw, false)?;
        if self.cheap_buffer.len() < self.buffer.len() {
            std::mem::swap(&mut self.buffer, &mut self.cheap_buffer);
        }
        self.write_buffer(raw.len())
    }

    /// Whether there is something in the text that the compressor for lines stored whole can find: in
    /// random text it cannot, but takes its time. Seen from four pieces of one block of some.
    fn pays(&mut self, raw: &[u8]) -> Result<bool, Error> {
        self.whole_blocks += 1;
        if self.whole_blocks % BLOCKS_PER_SAMPLE == 1 && raw.len() >= 4 * PIECE_BYTES {
            let pieces = raw.chunks(raw.len() / 4).take(4);
            let sample: Vec<u8> = pieces
                .flat_map(|piece| &piece[..PIECE_BYTES])
                .copied()
                .collect();
            self.compress(&sample, true)?;
            self.whole_pays = (self.buffer.len() as f64) < 0.97 * entropy_bytes(&sample);
        }
        Ok(self.whole_pays)
    }

    /// Compresses into the buffer.
    fn compress(&mut self, raw: &[u8], whole: bool) -> Result<(), Error> {
        self.buffer.clear();
        self.buffer
            .reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let compressor = match whole {
            true => &mut self.whole_compressor,
            false => &mut self.compressor,
        };
        let written = compressor.compress_to_buffer(raw, &mut self.buffer);
        written.map(|_| ()).map_err(compress)
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
