//! The place of the segments, looked at when the process starts.

use std::path::Path;
use std::time::Duration;

use store::{Error, ObjectStorage};
use tracing::{debug, warn};

use crate::options::StorageConfig;

/// How long a service may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(10);
/// An object that nobody writes: whoever says that it is not there has answered.
const NOTHING: &str = "is-anybody-there";

/// # Errors
/// What is wrong with the options, or that a folder cannot be made.
pub(crate) fn open(config: &StorageConfig, data_dir: &Path) -> anyhow::Result<ObjectStorage> {
    Ok(ObjectStorage::open(&config.store(data_dir))?)
}

/// Warns of a service that does not answer. The process works without it for a while.
pub(crate) fn look_at(storage: ObjectStorage, url: String) {
    if !storage.is_remote() {
        return;
    }
    tokio::spawn(async move {
        let error = match tokio::time::timeout(PATIENCE, storage.size(NOTHING)).await {
            Ok(Ok(_) | Err(Error::NotFound { .. })) => {
                debug!(url, "the object storage answers");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        warn!(
            url,
            error,
            "the object storage cannot be used: records stay in the write-ahead log, and what is stored cannot be \
             read, until it answers"
        );
    });
}
