use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::Timestamp;
use parking_lot::Mutex;
use store::ObjectStorage;
use tokio::time::Instant;

use crate::config::nanos;
use crate::start::{Clock, Deps};
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
pub(crate) struct StorageClock {
    storage: ObjectStorage,
    path: String,
    known: Arc<Mutex<Option<(Timestamp, Instant)>>>,
    /// Instead of asking.
    given: Option<Clock>,
}

impl StorageClock {
    pub(crate) fn new(deps: &Deps) -> Self {
        StorageClock {
            storage: deps.storage.clone(),
            path: objects::probe(&deps.cluster, deps.node),
            known: Arc::default(),
            given: deps.storage_clock.clone(),
        }
    }

    /// # Errors
    /// The storage's.
    pub(crate) async fn now(&self) -> Result<Timestamp, Error> {
        if let Some(clock) = &self.given {
            return Ok(clock());
        }
        let known = *self.known.lock();
        if let Some(now) = known.and_then(|known| reckoned(known, Instant::now())) {
            return Ok(now);
        }
        let then = self.ask().await?;
        *self.known.lock() = Some((then, Instant::now()));
        Ok(then)
    }

    async fn ask(&self) -> Result<Timestamp, Error> {
        let probe = Bytes::from_static(b"what time is it");
        self.storage.put(&self.path, vec![probe]).await?;
        let listed = self.storage.list(objects::PROBES).await?;
        self.storage.delete(&self.path).await?;
        let found = listed.iter().find(|object| object.path == self.path);
        let found = found.ok_or_else(|| {
            let path = &self.path;
            Error::Stopped(format!(
                "the storage does not list {path:?}, which was just written: its time is not known"
            ))
        })?;
        Ok(found.modified)
    }
}

/// The time now, when an answer is not too old.
fn reckoned((then, at): (Timestamp, Instant), now: Instant) -> Option<Timestamp> {
    let passed = now.duration_since(at);
    (passed < ASK_EVERY).then(|| then.saturating_add(nanos(passed)))
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    #[tokio::test]
    async fn the_storage_tells_its_time_once_and_keeps_nothing() {
        let storage = ObjectStorage::in_memory();
        let clock = StorageClock {
            storage: storage.clone(),
            path: objects::probe("c1", NodeId(3)),
            known: Arc::default(),
            given: None,
        };
        let first = clock.now().await.unwrap();
        assert!(clock.now().await.unwrap() >= first);
        assert_eq!(storage.counts().writes, 1);
        assert_eq!(storage.list("").await.unwrap(), []);
    }

    #[test]
    fn time_goes_on_between_two_answers() {
        let at = Instant::now();
        let after = |passed| reckoned((7, at), at + passed);
        assert_eq!(after(Duration::from_nanos(5)), Some(12));
        assert_eq!(after(ASK_EVERY), None);
    }
}
