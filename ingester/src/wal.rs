//! The write-ahead log on disk: files, group commit, replay.
//!
//! ```text
//! task --AppendJob--> thread: gather, write, ONE fdatasync --Event::Appended--> task
//! ```
//!
//! Invariants:
//! - A record is acknowledged only after the fdatasync of its group returned.
//! - A file is closed for ever, at the end of its last synced group, when a sync or a truncation of
//!   it failed, or when its successor is begun; the successor's header says where it ends. After a
//!   failed fsync the page cache may claim what the disk does not have, so that file is never
//!   written again and nothing after its recorded end is ever read.
//! - Files are removed oldest first, so that those that are left are numbered without a gap.

mod files;
mod replay;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
mod writer;

pub use files::{LogFile, LogFiles, LogFolder};
pub(crate) use replay::{Plan, Replayed, claim, is_claimed, plan, read};
pub(crate) use thread::{AppendJob, WalCommand, WalThread};
pub(crate) use writer::{LogWriter, WriterStart};

/// `wal-<number>.log`, the number with leading zeros so that names sort like numbers.
pub(crate) fn file_name(number: u64) -> String {
    format!("wal-{number:016}.log")
}

/// The number in a file's name; `None` for files that are not the log's.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
