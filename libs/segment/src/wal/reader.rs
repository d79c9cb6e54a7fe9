use std::io::Read;

use model::LogBatch;
use xxhash_rust::xxh3::xxh3_64;

use super::decode::{self, BadPayload, Known, StreamCache};
use super::header::RECORD_MAGIC;
use super::{Error, FILE_HEADER_BYTES, FileHeader, Filing, RECORD_HEADER_BYTES, RecordHeader};

/// One sound record, borrowed from the reader.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where the record begins, from the start of the file.
    pub offset: u64,
    /// Its number in the log.
    pub sequence: u64,
    /// Where its batch belongs.
    pub filing: Filing,
    payload: &'a [u8],
    known: &'a [Known],
}

/// Reads one file from the front, a record at a time; memory is that of the largest record and of the
/// labels that the file names.
#[derive(Debug)]
pub struct Reader<R> {
    bytes: R,
    end: u64,
    header: FileHeader,
    at: u64,
    sequence: Option<u64>,
    payload: Vec<u8>,
    known: Vec<Known>,
}

impl<R: Read> Reader<R> {
    /// Reads the file header. Records are read up to `end`, an offset in the file, not included.
    ///
    /// # Errors
    /// `Damaged` when `end` leaves no room for the header or it is not one, `Version`, `Io`.
    pub fn new(mut bytes: R, end: u64) -> Result<Self, Error> {
        if end < FILE_HEADER_BYTES as u64 {
            return Err(Error::Damaged {
                offset: 0,
                expected: format!("a file header of {FILE_HEADER_BYTES} bytes"),
                found: format!("{end} bytes"),
            });
        }
        let mut header = [0; FILE_HEADER_BYTES];
        bytes
            .read_exact(&mut header)
            .map_err(|source| Error::Io { offset: 0, source })?;
        Ok(Reader {
            bytes,
            end,
            header: FileHeader::decode(&header)?,
            at: FILE_HEADER_BYTES as u64,
            sequence: None,
            payload: Vec::new(),
            known: Vec::new(),
        })
    }

    /// The file's header.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Offset of the record that comes next: all before it are sound.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next record; `None` exactly at the end. After an error the reader is of no more use.
    ///
    /// # Errors
    /// `Damaged` when what stands there is not a whole, sound record; `Io`.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let offset = self.at;
        let left = self.end.saturating_sub(offset);
        if left == 0 {
            return Ok(None);
        }
        let damaged = |expected: String, found: String| Error::Damaged {
            offset,
            expected,
            found,
        };
        let mut header = [0; RECORD_HEADER_BYTES];
        if left < header.len() as u64 {
            let expected = format!("a record header of {RECORD_HEADER_BYTES} bytes");
            return Err(damaged(expected, format!("{left} bytes")));
        }
        let io = |source| Error::Io { offset, source };
        self.bytes.read_exact(&mut header).map_err(io)?;
        let header = RecordHeader::decode(&header, self.header.file, offset)?;
        let left = left - RECORD_HEADER_BYTES as u64;
        if left < u64::from(header.payload_bytes) {
            let expected = format!("a payload of {} bytes", header.payload_bytes);
            return Err(damaged(expected, format!("{left} bytes")));
        }
        if let Some(before) = self.sequence
            && header.sequence != before.wrapping_add(1)
        {
            let expected = format!("record number {}", before.wrapping_add(1));
            return Err(damaged(expected, header.sequence.to_string()));
        }
        self.payload.resize(header.payload_bytes as usize, 0);
        self.bytes.read_exact(&mut self.payload).map_err(io)?;
        let hash = xxh3_64(&self.payload);
        if hash != header.payload_hash {
            let expected = format!("payload checksum {:016x}", header.payload_hash);
            return Err(damaged(expected, format!("{hash:016x}")));
        }
        let filing = decode::learn(&self.payload, &mut self.known).map_err(|bad| bad.at(offset))?;
        self.sequence = Some(header.sequence);
        self.at += RECORD_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
        Ok(Some(Entry {
            offset,
            sequence: header.sequence,
            filing,
            payload: &self.payload,
            known: &self.known,
        }))
    }
}

impl Entry<'_> {
    /// Decodes the batch.
    ///
    /// # Errors
    /// `Damaged` when the payload breaks an invariant of [`LogBatch`].
    pub fn batch(&self, cache: &mut StreamCache) -> Result<LogBatch, Error> {
        decode::batch(self.payload, self.known, cache)
            .map(|(_, batch)| batch)
            .map_err(|bad| bad.at(self.offset))
    }
}

/// Given the bytes of file number `file` from `offset` on, where something damaged stands: the
/// offset of a record whose group was begun after `offset` had been synced, if there is one. Then
/// the damage hit acknowledged records; otherwise it is what a crash leaves of the last group.
pub fn synced_after(rest: &[u8], file: u64, offset: u64) -> Option<u64> {
    memchr::memmem::find_iter(rest, &RECORD_MAGIC).find_map(|at| {
        let bytes = rest.get(at..at + RECORD_HEADER_BYTES)?.try_into().ok()?;
        let place = offset + at as u64;
        let header = RecordHeader::decode(bytes, file, place).ok()?;
        (header.group_start > offset).then_some(place)
    })
}

impl BadPayload {
    pub(super) fn at(self, offset: u64) -> Error {
        Error::Damaged {
            offset,
            expected: self.0,
            found: "a record with a right checksum that lacks it".to_owned(),
        }
    }
}
