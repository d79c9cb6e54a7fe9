use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::{NodeId, Timestamp};
use store::ObjectStorage;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::nanos;
use crate::start::Clock;
use crate::{Error, objects};

/// How long the storage's time is reckoned on from its last answer: clocks differ by some ms after
/// an hour, and each question is three requests.
const ASK_EVERY: Duration = Duration::from_secs(3600);

/// The time at the storage, by which everything goes that destroys: an ingester whose clock is a day
/// ahead must not take what others have just stored for expired or left over.
///
/// Asked for by an object that is written, listed and deleted. Never ahead of the storage by more
/// than the two clocks drift apart; behind by as much as a request takes.
#[derive(Clone)]
pub struct StorageClock {
    storage: ObjectStorage,
    folder: String,
    path: String,
    /// Locked while the storage is asked, so that one at a time writes the object.
    known: Arc<Mutex<Option<(Timestamp, Instant)>>>,
    /// It was said that the object cannot be deleted.
    warned: Arc<AtomicBool>,
    /// Instead of asking.
    given: Option<Clock>,
}

impl StorageClock {
    /// A clock that asks by an object in the cluster's folder. `user`, letters and digits, tells it
    /// from the process' other clocks; its clones share what they know.
    pub fn new(storage: ObjectStorage, cluster: &str, node: NodeId, user: &str) -> Self {
        StorageClock {
            storage,
            folder: objects::probes(cluster),
            path: objects::probe(cluster, node, user),
            known: Arc::default(),
            warned: Arc::default(),
            given: None,
        }
    }

    /// A clock that asks nobody.
    pub(crate) fn given(clock: &Clock) -> Self {
        let nowhere = ObjectStorage::in_memory();
        StorageClock {
            given: Some(Arc::clone(clock)),
            ..StorageClock::new(nowhere, "", NodeId(0), "")
        }
    }

    /// The time at the storage, nanoseconds since 1970.
    ///
    /// # Errors
    /// The storage's.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        if let Some(clock) = &self.given {
            return Ok(clock());
        }
        let mut known = self.known.lock().await;
        if let Some(now) = known.and_then(|known| reckoned(known, Instant::now())) {
            return Ok(now);
        }
        let then = self.ask().await?;
        *known = Some((then, Instant::now()));
        Ok(then)
    }

    async fn ask(&self) -> Result<Timestamp, Error> {
        let probe = Bytes::from_static(b"what time is it");
        self.storage.put(&self.path, vec![probe]).await?;
        let listed = self.storage.list(&self.folder).await?;
        let deleted = self.storage.delete(&self.path).await;
        self.note(deleted);
        let found = listed.iter().find(|object| object.path == self.path);
        let found = found.ok_or_else(|| {
            let path = &self.path;
            Error::Stopped(format!(
                "the storage does not list {path:?}, which was just written: its time is not known"
            ))
        })?;
        Ok(found.modified)
    }

    /// What was told holds though the object stays: the next one replaces it.
    fn note(&self, deleted: Result<(), store::Error>) {
        if let Err(error) = deleted
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let path = &self.path;
            tracing::warn!(path, %error, "cannot delete the object that tells the storage's time; it stays, and this is not said again");
        }
    }
}

impl fmt::Debug for StorageClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        f.debug_struct("StorageClock").field("path", path).finish()
    }
}

/// The time now, when an answer is not too old.
fn reckoned((then, at): (Timestamp, Instant), now: Instant) -> Option<Timestamp> {
    let passed = now.duration_since(at);
    (passed < ASK_EVERY).then(|| then.saturating_add(nanos(passed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_storage_tells_its_time_once_and_keeps_nothing() {
        let storage = ObjectStorage::in_memory();
        let clock = StorageClock::new(storage.clone(), "c1", NodeId(3), "jobs");
        let first = clock.now().await.unwrap();
        assert!(clock.now().await.unwrap() >= first);
        assert_eq!(storage.counts().writes, 1);
        assert_eq!(storage.list("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn an_object_that_stayed_is_replaced_and_tells_the_time_anew() {
        let storage = ObjectStorage::in_memory();
        let clock = StorageClock::new(storage.clone(), "c1", NodeId(3), "jobs");
        let stayed = vec![Bytes::from_static(b"of an earlier run")];
        storage.put(&clock.path, stayed).await.unwrap();
        let before = storage.list(&clock.folder).await.unwrap()[0].modified;
        assert!(clock.now().await.unwrap() >= before);
        for _ in 0..2 {
            let error = store::Error::NotFound {
                object: clock.path.clone(),
            };
            clock.note(Err(error));
            assert!(clock.warned.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn time_goes_on_between_two_answers() {
        let at = Instant::now();
        let after = |passed| reckoned((7, at), at + passed);
        assert_eq!(after(Duration::from_nanos(5)), Some(12));
        assert_eq!(after(ASK_EVERY), None);
    }
}
