use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Error, PAYLOAD_BYTES_MAX};

/// Bytes before the first record of a file.
pub const FILE_HEADER_BYTES: usize = 64;
/// Bytes before a record's payload.
pub const RECORD_HEADER_BYTES: usize = 40;

const FILE_MAGIC: [u8; 8] = *b"PHAROWAL";
const VERSION: u32 = 3;
pub(super) const RECORD_MAGIC: [u8; 4] = *b"PWR1";

/// The first bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose log it is.
    pub ingester: u64,
    /// The file's number, from 1.
    pub file: u64,
    /// The file before, and where its acknowledged bytes end; `None` for the first of all.
    pub previous: Option<(u64, u64)>,
}

/// What stands before a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the payload.
    pub payload_bytes: u32,
    /// Number of the record in its log.
    pub sequence: u64,
    /// File offset of the first record that was written in the same group.
    pub group_start: u64,
    /// xxh3-64 of the payload.
    pub payload_hash: u64,
}

impl FileHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let (previous, previous_end) = self.previous.unwrap_or((0, 0));
        let mut out = [0; FILE_HEADER_BYTES];
        out[..8].copy_from_slice(&FILE_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.ingester.to_le_bytes());
        out[24..32].copy_from_slice(&self.file.to_le_bytes());
        out[32..40].copy_from_slice(&previous.to_le_bytes());
        out[40..48].copy_from_slice(&previous_end.to_le_bytes());
        let hash = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not a header, `Version` when a program with another format wrote them.
    pub fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<Self, Error> {
        let damaged = |expected: String, found: String| Error::Damaged {
            offset: 0,
            expected,
            found,
        };
        if bytes[..8] != FILE_MAGIC {
            return Err(damaged(
                format!("magic {:02x?}", FILE_MAGIC),
                format!("{:02x?}", &bytes[..8]),
            ));
        }
        let (hash, found) = (xxh3_64(&bytes[..56]), u64_at(bytes, 56));
        if hash != found {
            return Err(damaged(
                format!("header checksum {hash:016x}"),
                format!("{found:016x}"),
            ));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(Error::Version {
                found: version,
                supported: VERSION,
            });
        }
        let previous = (u64_at(bytes, 32), u64_at(bytes, 40));
        Ok(FileHeader {
            ingester: u64_at(bytes, 16),
            file: u64_at(bytes, 24),
            previous: (previous.0 != 0).then_some(previous),
        })
    }
}

impl RecordHeader {
    /// The header's bytes in file number `file`.
    pub fn encode(&self, file: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[..4].copy_from_slice(&RECORD_MAGIC);
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.group_start.to_le_bytes());
        out[24..32].copy_from_slice(&self.payload_hash.to_le_bytes());
        let hash = xxh3_64_with_seed(&out[..32], file);
        out[32..].copy_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads a header that stands at `offset` of file number `file`.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not a record's header of that file.
    pub fn decode(
        bytes: &[u8; RECORD_HEADER_BYTES],
        file: u64,
        offset: u64,
    ) -> Result<Self, Error> {
        let damaged = |expected: String, found: String| Error::Damaged {
            offset,
            expected,
            found,
        };
        if bytes[..4] != RECORD_MAGIC {
            return Err(damaged(
                format!("record magic {:02x?}", RECORD_MAGIC),
                format!("{:02x?}", &bytes[..4]),
            ));
        }
        let (hash, found) = (xxh3_64_with_seed(&bytes[..32], file), u64_at(bytes, 32));
        if hash != found {
            return Err(damaged(
                format!("record header checksum {hash:016x}"),
                format!("{found:016x}"),
            ));
        }
        let header = RecordHeader {
            payload_bytes: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            group_start: u64_at(bytes, 16),
            payload_hash: u64_at(bytes, 24),
        };
        if header.payload_bytes as usize > PAYLOAD_BYTES_MAX || header.group_start > offset {
            return Err(damaged(
                format!(
                    "a payload of at most {PAYLOAD_BYTES_MAX} bytes, a group start of at most {offset}"
                ),
                format!("{} and {}", header.payload_bytes, header.group_start),
            ));
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
