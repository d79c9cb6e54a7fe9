//! Reading the log at start, in two passes: [`plan`] checks every byte and counts, [`read`] hands
//! out the batches. Two passes, so that damage is found before anything is done, and so that a head
//! is known to be complete when its last record is handed out: only then may it be flushed, because
//! a commit covers the whole head.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use model::LogBatch;
use segment::wal::{
    Error as WalError, FILE_HEADER_BYTES, Filing, Reader, StreamCache, synced_after,
};

use super::{LogFiles, WriterStart, file_name, file_number};
use crate::Error;

/// What the first pass found.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every file's number with the end of its acknowledged bytes.
    pub(crate) files: BTreeMap<u64, u64>,
    /// How many records each head has, by its sequence.
    pub(crate) records: HashMap<u64, u64>,
    /// Where writing goes on.
    pub(crate) start: WriterStart,
}

/// One record, handed out by the second pass.
#[derive(Debug)]
pub(crate) enum Replayed {
    /// Its head is in the catalog; only where it was filed is of use.
    Covered(Filing),
    /// It feeds a head.
    Batch {
        file: u64,
        filing: Filing,
        batch: Arc<LogBatch>,
        /// No later record feeds the same head.
        last_of_head: bool,
    },
}

/// Checks the whole log of this ingester. Makes the end of the newest file durable: its last
/// records may have been written by a process that was killed before it synced them.
///
/// # Errors
/// `Wal` and `Log` when acknowledged bytes are missing or damaged, `File`.
pub(crate) fn plan(files: &dyn LogFiles, ingester: u64) -> Result<Plan, Error> {
    let mut plan = Plan {
        files: BTreeMap::new(),
        records: HashMap::new(),
        start: WriterStart {
            oldest_file: 1,
            next_file: 1,
            previous: None,
        },
    };
    let numbers = numbers(files)?;
    // Newest first, since each file's header says where the one before it ends.
    let mut end_of_this: Option<(u64, u64)> = None;
    for number in numbers.iter().rev() {
        let newest = plan.files.is_empty();
        if newest && is_unborn(files, *number)? {
            plan.start.next_file = *number;
            plan.start.oldest_file = *number;
            continue;
        }
        let end = match end_of_this {
            Some((before, end)) if before == *number => Some(end),
            None if newest => None,
            _ => return Err(gap(*number, end_of_this)),
        };
        let (end, previous) = check_file(files, *number, ingester, end, &mut plan.records)?;
        if newest {
            let name = file_name(*number);
            files
                .sync_file(&name)
                .map_err(|source| Error::of_file("sync", name.as_str(), source))?;
            plan.start = WriterStart {
                oldest_file: *number,
                next_file: *number + 1,
                previous: Some((*number, end)),
            };
        }
        plan.files.insert(*number, end);
        plan.start.oldest_file = *number;
        end_of_this = previous;
    }
    Ok(plan)
}

/// Hands out every record in the order in which it was written.
///
/// # Errors
/// As [`plan`], and what `take` returns.
pub(crate) fn read(
    files: &dyn LogFiles,
    plan: &Plan,
    covered: impl Fn(u64) -> bool,
    mut take: impl FnMut(Replayed) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = plan.records.clone();
    let mut cache = StreamCache::default();
    for (file, end) in &plan.files {
        let wrong = |source| wal_error(*file, source);
        let (bytes, _) = open(files, *file)?;
        let mut reader = Reader::new(bytes, *end).map_err(wrong)?;
        while let Some(entry) = reader.next_entry().map_err(wrong)? {
            let filing = entry.filing;
            let left = left.entry(filing.head.sequence).or_default();
            *left = left.saturating_sub(1);
            if covered(filing.head.sequence) {
                take(Replayed::Covered(filing))?;
                continue;
            }
            take(Replayed::Batch {
                file: *file,
                filing,
                batch: Arc::new(entry.batch(&mut cache).map_err(wrong)?),
                last_of_head: *left == 0,
            })?;
        }
    }
    Ok(())
}

/// Marks a folder in which an ingester has begun to work. It tells an empty log from a lost one.
const CLAIM: &str = "in-use";

/// Whether an ingester has worked with this folder before.
///
/// # Errors
/// The disk's.
pub(crate) fn is_claimed(files: &dyn LogFiles) -> Result<bool, Error> {
    let names = files.list();
    let names = names.map_err(|source| Error::of_file("list", "the log folder", source))?;
    Ok(names.iter().any(|name| name == CLAIM))
}

/// Remembers, durably, that an ingester works with this folder, which nobody has claimed yet.
///
/// # Errors
/// The disk's.
pub(crate) fn claim(files: &dyn LogFiles) -> Result<(), Error> {
    let made = files.create(CLAIM).and_then(|_| files.sync_folder());
    made.map_err(|source| Error::of_file("write", CLAIM, source))
}

fn numbers(files: &dyn LogFiles) -> Result<Vec<u64>, Error> {
    let names = files
        .list()
        .map_err(|source| Error::of_file("list", "the log folder", source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file whose making was cut short: no record is written before the header is durable.
fn is_unborn(files: &dyn LogFiles, number: u64) -> Result<bool, Error> {
    let (bytes, len) = open(files, number)?;
    let header = FILE_HEADER_BYTES as u64;
    let unborn = len < header
        || (len == header && matches!(Reader::new(bytes, len), Err(WalError::Damaged { .. })));
    if unborn {
        let name = file_name(number);
        let removed = files.remove(&name).and_then(|()| files.sync_folder());
        removed.map_err(|source| Error::of_file("remove", name.as_str(), source))?;
    }
    Ok(unborn)
}

/// Reads one file through; `end` where its successor says it ends, `None` for the newest. Returns
/// its end and what its header says of the file before.
fn check_file(
    files: &dyn LogFiles,
    number: u64,
    ingester: u64,
    end: Option<u64>,
    records: &mut HashMap<u64, u64>,
) -> Result<(u64, Option<(u64, u64)>), Error> {
    let wrong = |source| wal_error(number, source);
    let (bytes, len) = open(files, number)?;
    if let Some(end) = end
        && len < end
    {
        return Err(wrong(WalError::Damaged {
            offset: len,
            expected: format!("a file of {end} bytes, as the next file's header says"),
            found: format!("{len} bytes"),
        }));
    }
    let mut reader = Reader::new(bytes, end.unwrap_or(len)).map_err(wrong)?;
    let header = *reader.header();
    if (header.ingester, header.file) != (ingester, number) {
        return Err(Error::Log(format!(
            "log file {} says that it is file {} of ingester {}, but this is ingester {ingester}; put the data folder's own files back",
            file_name(number),
            header.file,
            header.ingester
        )));
    }
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                *records.entry(entry.filing.head.sequence).or_default() += 1;
            }
            Ok(None) => return Ok((reader.offset(), header.previous)),
            Err(WalError::Damaged { offset, .. })
                if end.is_none() && is_torn(files, number, offset, len)? =>
            {
                tracing::warn!(
                    file = file_name(number),
                    offset,
                    bytes = len - offset,
                    "the log ends in a group that was never acknowledged; it is left out"
                );
                return Ok((offset, header.previous));
            }
            Err(error) => return Err(wrong(error)),
        }
    }
}

/// Whether what stands at `offset` of the newest file is what a crash leaves: nothing after it
/// proves that it had been synced. Holds the rest of the file in memory: one file's length, and only
/// after a crash.
fn is_torn(files: &dyn LogFiles, number: u64, offset: u64, len: u64) -> Result<bool, Error> {
    let name = file_name(number);
    let (mut bytes, _) = open(files, number)?;
    let skipped = std::io::copy(&mut bytes.by_ref().take(offset), &mut std::io::sink());
    skipped.map_err(|source| Error::of_file("read", name.as_str(), source))?;
    let mut rest = Vec::new();
    let read = bytes
        .take(len.saturating_sub(offset))
        .read_to_end(&mut rest);
    read.map_err(|source| Error::of_file("read", name.as_str(), source))?;
    Ok(synced_after(&rest, number, offset).is_none())
}

fn open(files: &dyn LogFiles, number: u64) -> Result<(Box<dyn Read + Send>, u64), Error> {
    let name = file_name(number);
    files
        .open(&name)
        .map_err(|source| Error::of_file("open", name.as_str(), source))
}

fn gap(found: u64, wanted: Option<(u64, u64)>) -> Error {
    let wanted = wanted.map_or("no file before it".to_owned(), |(file, _)| file_name(file));
    Error::Log(format!(
        "the log has {} where the file after it expects {wanted}; acknowledged records may be missing: restore the file, or move {} and all older ones away to start without their records",
        file_name(found),
        file_name(found)
    ))
}

fn wal_error(file: u64, source: WalError) -> Error {
    Error::Wal {
        file: file_name(file),
        source,
    }
}
