use parking_lot::Mutex;
use segment::wal::StreamCache;

/// Label sets that one cache remembers so that batches can share them; then it starts anew.
const STREAMS_REMEMBERED: usize = 100_000;

/// What a connection remembers of streams. As many caches as messages were ever decoded at the same
/// time: one alone would let only one core decode.
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
        self.idle.lock().push(cache);
        decoded
    }
}
