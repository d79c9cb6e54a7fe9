use std::io::Read;

use crate::Error;

/// A zstd frame may want a window, which is memory, of up to 8 MiB: what its RFC asks every decoder
/// to support, and the most that compressors use unless told otherwise.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The chunk with which a framed Snappy stream begins. No protobuf or JSON has a block that begins so.
const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// With what a frame of LZ4 begins. Not that of the format before frames, which does not say where it
/// ends.
const LZ4_MAGIC: &[u8] = b"\x04\x22\x4d\x18";

/// How a body is compressed, as `Content-Encoding` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// Snappy: its raw block format, as Prometheus and Loki use it, or the framed one, as some
    /// collectors do under the same name: the first bytes decide.
    Snappy,
    /// Snappy's framed format.
    SnappyFramed,
    /// gzip, also of several members.
    Gzip,
    /// zlib, or raw deflate: senders disagree on what the name means, so the first bytes decide.
    Deflate,
    /// Zstandard, also of several frames.
    Zstd,
    /// LZ4's frame format, also of several frames.
    Lz4,
}

impl Encoding {
    /// The encodings that [`parse`](Self::parse) knows, for error messages.
    pub const NAMES: &'static str =
        "identity, gzip, zstd, snappy, x-snappy-framed, deflate, zlib, lz4";

    /// Reads a `Content-Encoding`; "" is [`Identity`](Self::Identity). `None` for an unknown one.
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Encoding::Identity),
            "snappy" => Some(Encoding::Snappy),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            "x-snappy-framed" => Some(Encoding::SnappyFramed),
            "deflate" | "zlib" => Some(Encoding::Deflate),
            "zstd" => Some(Encoding::Zstd),
            "lz4" => Some(Encoding::Lz4),
            _ => None,
        }
    }

    /// The name that [`parse`](Self::parse) reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Snappy => "snappy",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::SnappyFramed => "x-snappy-framed",
            Encoding::Zstd => "zstd",
            Encoding::Lz4 => "lz4",
        }
    }
}

/// Decompresses `body` into `buffer`, which is only scratch space to be used again, and returns the
/// bytes: a part of `buffer`, or `body` itself if it is not compressed. At most `limit` bytes come
/// out (`limit` included). Whatever the body claims, `buffer` is not filled beyond one byte more,
/// though as it doubles its room may be up to twice that. The decoder holds beside it, until the
/// call ends, a window of up to 8 MiB for zstd, blocks of up to 13 MiB together for LZ4, and less
/// than 200 KiB for the others.
///
/// # Errors
/// [`Error::TooLarge`] beyond the limit, [`Error::Compression`] for damaged input, which a body is
/// too that ends before its format says so.
pub fn decompress<'a>(
    encoding: Encoding,
    body: &'a [u8],
    limit: usize,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    let reader: Box<dyn Read + '_> = match encoding {
        Encoding::Identity if body.len() > limit => return Err(Error::TooLarge { limit }),
        Encoding::Identity => return Ok(body),
        Encoding::Snappy if !body.starts_with(SNAPPY_FRAMED) => {
            return unsnap(body, limit, buffer);
        }
        Encoding::Snappy | Encoding::SnappyFramed => Box::new(snap::read::FrameDecoder::new(body)),
        Encoding::Lz4 => Box::new(Lz4Frames::new(body)?),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Encoding::Deflate if is_zlib(body) => Box::new(flate2::read::ZlibDecoder::new(body)),
        Encoding::Deflate => Box::new(flate2::read::DeflateDecoder::new(body)),
        Encoding::Zstd => {
            let mut decoder =
                zstd::Decoder::with_buffer(body).map_err(|error| damaged(encoding, error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| damaged(encoding, error))?;
            Box::new(decoder)
        }
    };
    buffer.clear();
    reader
        .take(limit as u64 + 1)
        .read_to_end(buffer)
        .map_err(|error| damaged(encoding, error))?;
    if buffer.len() > limit {
        return Err(Error::TooLarge { limit });
    }
    Ok(buffer)
}

/// All frames of a body: the decoder ends after each.
struct Lz4Frames<'a> {
    decoder: lz4_flex::frame::FrameDecoder<&'a [u8]>,
}

impl<'a> Lz4Frames<'a> {
    /// # Errors
    /// When the body does not end with the end of a frame: the decoder takes an end of input where a
    /// block could begin for the end of the frame.
    fn new(body: &'a [u8]) -> Result<Self, Error> {
        let mut rest = body;
        while !rest.is_empty() {
            rest = after_lz4_frame(rest).ok_or_else(|| {
                let at = body.len() - rest.len();
                let reason = format!("no whole frame is at byte {at} of {}", body.len());
                damaged_because(Encoding::Lz4, reason)
            })?;
        }
        Ok(Lz4Frames {
            decoder: lz4_flex::frame::FrameDecoder::new(body),
        })
    }
}

/// What follows the first frame; `None` if that is not whole. Only lengths are looked at.
fn after_lz4_frame(frame: &[u8]) -> Option<&[u8]> {
    const SIZE: u8 = 1 << 3;
    const DICTIONARY: u8 = 1 << 0;
    const BLOCK_CHECKSUMS: u8 = 1 << 4;
    const CHECKSUM: u8 = 1 << 2;
    const STORED: u32 = 1 << 31;
    let [flags, _block_size, rest @ ..] = frame.strip_prefix(LZ4_MAGIC)? else {
        return None;
    };
    let bytes_if = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    // The checksum of the header is one byte.
    let mut rest = rest.get(bytes_if(SIZE, 8) + bytes_if(DICTIONARY, 4) + 1..)?;
    loop {
        let (length, blocks) = rest.split_first_chunk()?;
        match u32::from_le_bytes(*length) & !STORED {
            0 if length[3] == 0 => return blocks.get(bytes_if(CHECKSUM, 4)..),
            length => rest = blocks.get(length as usize + bytes_if(BLOCK_CHECKSUMS, 4)..)?,
        }
    }
}

impl Read for Lz4Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.decoder.read(buffer)? {
                // Each round takes a frame, so that it ends.
                0 if !buffer.is_empty() && !self.decoder.get_ref().is_empty() => {}
                read => return Ok(read),
            }
        }
    }
}

fn unsnap<'a>(body: &[u8], limit: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
    let damaged = |error| damaged(Encoding::Snappy, error);
    let length = snap::raw::decompress_len(body).map_err(damaged)?;
    if length > limit {
        return Err(Error::TooLarge { limit });
    }
    // The format cannot expand more than about 22 times (64 bytes from a 3-byte copy), so a small
    // body that claims to be huge is damaged; refusing it here keeps the buffer small.
    if length > body.len().saturating_mul(32) {
        return Err(damaged_because(
            Encoding::Snappy,
            format!(
                "it claims {length} bytes, which cannot be in {}",
                body.len()
            ),
        ));
    }
    // Grown, never shrunk or cleared: zeroing it for every body would cost as much as a copy.
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let length = snap::raw::Decoder::new()
        .decompress(body, buffer)
        .map_err(damaged)?;
    Ok(&buffer[..length])
}

/// zlib's two header bytes: method 8, and a multiple of 31 together.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        }
        _ => false,
    }
}

fn damaged(encoding: Encoding, error: impl std::fmt::Display) -> Error {
    damaged_because(encoding, error.to_string())
}

fn damaged_because(encoding: Encoding, reason: String) -> Error {
    Error::Compression {
        encoding: encoding.as_str(),
        reason,
    }
}

#[cfg(test)]
mod tests;
