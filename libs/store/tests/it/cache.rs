//! The range cache: what it saves, what it holds, and who waits for whom.

use std::sync::Arc;

use bytes::Bytes;
use store::RangeCache;
use testkit::{FaultyBackend, Operation};
use tokio::task::JoinHandle;

struct Setting {
    backend: FaultyBackend,
    cache: RangeCache,
    path: Arc<str>,
}

async fn setting(bytes_max: u64) -> Setting {
    let backend = FaultyBackend::in_memory();
    let storage = backend.storage();
    let object: Vec<u8> = (0..1_000_000).map(|at| at as u8).collect();
    storage.put("a", vec![Bytes::from(object)]).await.unwrap();
    Setting {
        backend,
        cache: RangeCache::new(storage, bytes_max),
        path: Arc::from("a"),
    }
}

impl Setting {
    fn gets(&self) -> u64 {
        self.backend.counts().gets
    }

    fn read(&self, range: std::ops::Range<u64>) -> JoinHandle<Result<Bytes, store::Error>> {
        let (cache, path) = (self.cache.clone(), Arc::clone(&self.path));
        tokio::spawn(async move { cache.range(&path, range).await })
    }

    /// Runs other tasks until so many requests have reached the backend.
    async fn requests_arrived(&self, gets: u64) {
        while self.gets() < gets {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_range_is_read_once() {
    let setting = setting(1_000_000).await;
    let (cache, path) = (&setting.cache, &setting.path);
    let ranges = [0..10, 20..30, 7..7, 0..10];
    for _ in 0..3 {
        let read = cache.ranges(path, &ranges).await.unwrap();
        assert_eq!(read[1][0], 20);
        assert_eq!(
            read.iter().map(Bytes::len).collect::<Vec<_>>(),
            [10, 10, 0, 10]
        );
    }
    assert_eq!(setting.gets(), 1);
    let counts = cache.counts();
    assert_eq!((counts.misses, counts.hits, counts.entries), (2, 7, 2));
    assert_eq!(cache.storage().counts().bytes_read, 20);
}

#[tokio::test]
async fn what_was_used_least_recently_goes_first_and_the_bound_holds() {
    // An entry costs its bytes and about 200 more: three of these fit.
    let setting = setting(4000).await;
    let (cache, path) = (&setting.cache, &setting.path);
    for start in [0, 100_000, 200_000, 0, 300_000] {
        cache.range(path, start..start + 1000).await.unwrap();
        assert!(cache.counts().bytes <= 4000);
    }
    assert_eq!(setting.gets(), 4);
    cache.range(path, 0..1000).await.unwrap();
    assert_eq!(setting.gets(), 4, "used again, so still there");
    cache.range(path, 100_000..101_000).await.unwrap();
    assert_eq!(setting.gets(), 5, "used least recently, so gone");
}

#[tokio::test]
async fn what_is_larger_than_the_cache_is_not_kept() {
    let setting = setting(1000).await;
    for gets in 1..=2 {
        setting.cache.range(&setting.path, 0..1000).await.unwrap();
        assert_eq!(setting.gets(), gets);
    }
    assert_eq!(setting.cache.counts().bytes, 0);
}

#[tokio::test]
async fn equal_reads_at_once_share_one_request() {
    let setting = setting(1_000_000).await;
    setting.backend.hold();
    let reads: Vec<_> = (0..10).map(|_| setting.read(5..15)).collect();
    setting.requests_arrived(1).await;
    setting.backend.release();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap()[0], 5);
    }
    assert_eq!(setting.gets(), 1);
}

#[tokio::test]
async fn when_the_reader_goes_away_a_waiter_reads_instead() {
    let setting = setting(1_000_000).await;
    setting.backend.hold();
    let first = setting.read(5..15);
    setting.requests_arrived(1).await;
    let second = setting.read(5..15);
    while setting.cache.counts().hits == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    setting.requests_arrived(2).await;
    setting.backend.release();
    assert_eq!(second.await.unwrap().unwrap()[0], 5);
}

#[tokio::test]
async fn an_error_reaches_all_who_wait_and_is_not_kept() {
    let setting = setting(1_000_000).await;
    // One failure for the range, one for the size that is asked for after it.
    setting.backend.fail(Operation::Get, 2);
    setting.backend.hold();
    let reads: Vec<_> = (0..3).map(|_| setting.read(5..15)).collect();
    while setting.cache.counts().hits < 2 {
        tokio::task::yield_now().await;
    }
    setting.backend.release();
    for read in reads {
        assert!(read.await.unwrap().is_err());
    }
    assert_eq!(setting.gets(), 2);
    assert_eq!(setting.read(5..15).await.unwrap().unwrap()[0], 5);
}
