use std::io::{self, IoSlice};
use std::sync::Arc;

use model::LogBatch;
use segment::wal::{
    Error as WalError, FILE_HEADER_BYTES, FileHeader, Filing, NamedStreams, Record,
};

use super::{LogFile, LogFiles, file_name};
use crate::Error;

/// Appends groups of records; knows nothing of threads and channels.
#[derive(Debug)]
pub(crate) struct LogWriter {
    files: Arc<dyn LogFiles>,
    ingester: u64,
    file_bytes_max: u64,
    current: Option<Current>,
    /// The file before the next one, and where it ends for ever.
    previous: Option<(u64, u64)>,
    next_file: u64,
    /// Files below are removed.
    oldest_file: u64,
    sequence: u64,
    /// Of the file to which the next group goes.
    streams: NamedStreams,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriterStart {
    pub(crate) oldest_file: u64,
    pub(crate) next_file: u64,
    pub(crate) previous: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: Box<dyn LogFile>,
    /// End of the last synced group.
    end: u64,
}

impl LogWriter {
    pub(crate) fn new(
        files: Arc<dyn LogFiles>,
        ingester: u64,
        file_bytes_max: u64,
        start: WriterStart,
    ) -> Self {
        LogWriter {
            files,
            ingester,
            file_bytes_max,
            current: None,
            previous: start.previous,
            next_file: start.next_file,
            oldest_file: start.oldest_file,
            sequence: 0,
            streams: NamedStreams::default(),
        }
    }

    /// Makes a record of the next group. The group is to be written whole and in the order in which its
    /// records were made.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(crate) fn record(
        &mut self,
        filing: &Filing,
        batch: Arc<LogBatch>,
    ) -> Result<Record, WalError> {
        let made = Record::new(filing, batch, &mut self.streams);
        if made.is_err() {
            self.streams.clear();
        }
        made
    }

    /// Writes and syncs the records as one group; returns the number of their file. On an error
    /// none of them counts as written, and later groups are readable all the same.
    ///
    /// # Errors
    /// `File`; its kind is `OutOfSpace` when the disk is full.
    pub(crate) fn append(&mut self, group: &mut [Record]) -> Result<u64, Error> {
        let written = self.write(group);
        // What a file that is full or a write that failed has named is not in the file that comes next.
        if self.is_full() || written.is_err() {
            self.streams.clear();
        }
        written
    }

    /// Whether the next group goes to a new file.
    fn is_full(&self) -> bool {
        let max = self.file_bytes_max;
        self.current
            .as_ref()
            .is_none_or(|current| current.end >= max)
    }

    fn write(&mut self, group: &mut [Record]) -> Result<u64, Error> {
        let is_full = self.is_full();
        let mut current = match self.current.take() {
            Some(current) if !is_full => current,
            full => self.rotate(full)?,
        };
        let mut sequence = self.sequence;
        for record in &mut *group {
            record.place(current.number, sequence, current.end);
            sequence += 1;
        }
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(group.len() * 7);
        for part in group.iter().flat_map(Record::parts) {
            if !part.is_empty() {
                parts.push(IoSlice::new(part));
            }
        }
        let bytes: u64 = group.iter().map(Record::len).sum();
        let name = file_name(current.number);
        if let Err(source) = current.file.append(&mut parts) {
            match current.file.truncate(current.end) {
                Ok(()) => self.current = Some(current),
                Err(error) => self.close(&current, "truncate", &error),
            }
            return Err(Error::of_file("write", name, source));
        }
        if let Err(source) = current.file.sync() {
            self.close(&current, "sync", &source);
            return Err(Error::of_file("sync", name, source));
        }
        let number = current.number;
        current.end += bytes;
        self.sequence = sequence;
        self.current = Some(current);
        Ok(number)
    }

    /// Removes this file and all older ones, oldest first, each durably before the next, so that
    /// a crash leaves no gap. Files to which nothing was acknowledged go with the others.
    pub(crate) fn remove_through(&mut self, number: u64) -> Result<(), Error> {
        while self.oldest_file <= number {
            let name = file_name(self.oldest_file);
            let removed = self.files.remove(&name);
            removed
                .and_then(|()| self.files.sync_folder())
                .map_err(|source| Error::of_file("remove", name, source))?;
            self.oldest_file += 1;
        }
        Ok(())
    }

    fn close(&mut self, current: &Current, doing: &'static str, error: &io::Error) {
        tracing::error!(
            file = file_name(current.number),
            end = current.end,
            %error,
            "cannot {doing} the log file; it is closed and a new one will be begun"
        );
        self.previous = Some((current.number, current.end));
    }

    /// Begins the next file. The file before ends where it ends now, whatever happens: once a
    /// header that says so may be on disk, nothing may be appended to it.
    fn rotate(&mut self, full: Option<Current>) -> Result<Current, Error> {
        if let Some(full) = full {
            self.previous = Some((full.number, full.end));
        }
        let number = self.next_file;
        let name = file_name(number);
        let header = FileHeader {
            ingester: self.ingester,
            file: number,
            previous: self.previous,
        };
        let made = self.make(&name, &header);
        let file = made.map_err(|source| Error::of_file("create", name, source))?;
        self.next_file = number + 1;
        self.sequence = 0;
        Ok(Current {
            number,
            file,
            end: FILE_HEADER_BYTES as u64,
        })
    }

    fn make(&self, name: &str, header: &FileHeader) -> io::Result<Box<dyn LogFile>> {
        // What an earlier attempt left.
        self.files.remove(name)?;
        let mut file = self.files.create(name)?;
        file.append(&mut [IoSlice::new(&header.encode())])?;
        file.sync()?;
        self.files.sync_folder()?;
        Ok(file)
    }
}
