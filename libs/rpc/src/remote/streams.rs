use parking_lot::Mutex;
use segment::wal::StreamCache;

/// Label sets that one cache remembers so that batches can share them; then it starts anew.
const STREAMS_REMEMBERED: usize = 50_000;
/// Caches that are kept while nobody decodes.
const IDLE_MAX: usize = 2;

/// What a connection remembers of streams. More than one cache, because one alone would let only one
/// core decode; few, because each holds the labels of its own.
#[derive(Debug, Default)]
pub(super) struct Streams {
    idle: Mutex<Vec<StreamCache>>,
}

impl Streams {
    /// Decodes with the cache that was in use last.
    pub(super) fn decode<T>(&self, decode: impl FnOnce(&mut StreamCache) -> T) -> T {
        let mut cache = self.idle.lock().pop().unwrap_or_default();
        if cache.len() > STREAMS_REMEMBERED {
            cache.clear();
        }
        let decoded = decode(&mut cache);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(cache);
        }
        decoded
    }
}
