//! Object storage: one [`ObjectStorage`] over a local folder, an S3 bucket, or memory.
//!
//! What it is: immutable objects by path, written whole, read by ranges; and [`RangeCache`], which
//! keeps the small ranges that every query reads (footers, filters) in bounded memory. What it is
//! *not*: it knows nothing of segments, tenants or the catalog, and has no clock of its own.
//! Called by the ingester (flush, merge, delete) and the querier (ranges).
//!
//! ```text
//! querier ──▶ RangeCache ──▶ ObjectStorage ──▶ local folder   own code: pread, write + fsync + rename
//! ingester ────────────────▶               ──▶ object_store   S3, memory, or any other backend
//! ```
//!
//! Invariants:
//! - When [`ObjectStorage::put`] or [`ObjectStorage::put_file`] returns `Ok`, the object survives a
//!   power cut; until then readers see the object that was there before, or none. Nobody ever sees
//!   half an object.
//! - A range comes back whole or as an error: an object that is shorter than it should be is
//!   [`Error::Corrupt`], never a short answer.
//! - Deleting an object that is not there is no error, so a deletion can be repeated.
//! - Paths are relative, `/`-separated, and cannot leave the root: see [`ObjectStorage`].
//!
//! Local layout: object `a/b` is the file `<root>/a/b`. Writes in progress are files in
//! `<root>/.tmp`, each locked by its writer; what a killed process left there is removed when the
//! folder is opened next.
#![warn(missing_docs)]

mod cache;
mod config;
mod error;
mod local;
mod plan;
mod remote;
mod storage;

pub use cache::{CacheCounts, RangeCache};
pub use config::Config;
pub use error::Error;
pub use storage::{ObjectInfo, ObjectStorage, StorageCounts};
