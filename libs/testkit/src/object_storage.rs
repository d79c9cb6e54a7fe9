//! What every object storage must do.

use std::ops::Range;

use bytes::Bytes;
use store::ObjectStorage;

/// Runs the conformance suite on an empty storage, and leaves it empty.
///
/// # Panics
/// When the storage does not do what [`ObjectStorage`] promises.
pub async fn object_storage_suite(storage: &ObjectStorage) {
    what_was_put_is_read_back(storage).await;
    ranges_come_back_in_the_order_asked_for(storage).await;
    a_range_beyond_the_end_is_corrupt(storage).await;
    a_missing_object_is_not_found(storage).await;
    a_put_replaces_the_object(storage).await;
    list_finds_what_is_below_a_folder(storage).await;
    delete_can_be_repeated(storage).await;
    large_objects_come_back_whole(storage).await;
    odd_names_are_kept_and_bad_ones_refused(storage).await;
    let left = storage.list("").await.map(|left| left.len());
    assert_eq!(left, Ok(0), "objects left");
}

async fn put(storage: &ObjectStorage, path: &str, bytes: &[u8]) {
    let parts = vec![Bytes::copy_from_slice(bytes)];
    assert_eq!(storage.put(path, parts).await, Ok(()), "{path}");
}

async fn delete(storage: &ObjectStorage, path: &str) {
    assert_eq!(storage.delete(path).await, Ok(()), "{path}");
}

async fn what_was_put_is_read_back(storage: &ObjectStorage) {
    let parts = ["one", "", "two"].map(|part| Bytes::from_static(part.as_bytes()));
    assert_eq!(storage.put("a/b/c", parts.to_vec()).await, Ok(()));
    assert_eq!(storage.get("a/b/c").await, Ok(Bytes::from("onetwo")));
    assert_eq!(storage.size("a/b/c").await, Ok(6));
    assert_eq!(storage.put("a/empty", Vec::new()).await, Ok(()));
    assert_eq!(storage.get("a/empty").await, Ok(Bytes::new()));
    delete(storage, "a/b/c").await;
    delete(storage, "a/empty").await;
}

async fn ranges_come_back_in_the_order_asked_for(storage: &ObjectStorage) {
    let object = pattern(1_000_000);
    put(storage, "ranges", &object).await;
    let reversed = Range { start: 7, end: 3 };
    let ranges = [
        999_990..1_000_000,
        0..1,
        500_000..600_000,
        500_010..500_020,
        5..5,
        2..3,
        300_000..300_001,
        reversed,
        0..1,
    ];
    let read = storage.ranges("ranges", &ranges).await;
    let expected = ranges.iter().map(|range| {
        let range = range.start as usize..range.end.max(range.start) as usize;
        Bytes::copy_from_slice(&object[range])
    });
    assert_eq!(read, Ok(expected.collect()));
    assert_eq!(storage.ranges("ranges", &[]).await, Ok(Vec::new()));
    delete(storage, "ranges").await;
}

async fn a_range_beyond_the_end_is_corrupt(storage: &ObjectStorage) {
    put(storage, "short", &pattern(100)).await;
    for (range, found) in [
        (90..110, 10),
        (100..101, 0),
        (500..600, 0),
        (0..u64::MAX / 4, 100),
    ] {
        let expected = store::Error::Corrupt {
            object: "short".to_owned(),
            offset: range.start,
            expected: range.end - range.start,
            found,
        };
        let read = storage.ranges("short", &[0..4, range]).await;
        assert_eq!(read, Err(expected));
    }
    delete(storage, "short").await;
}

async fn a_missing_object_is_not_found(storage: &ObjectStorage) {
    let object = "missing/object".to_owned();
    let missing = store::Error::NotFound { object };
    let range = 0..10;
    let read = storage.range("missing/object", range).await;
    assert_eq!(read, Err(missing.clone()));
    assert_eq!(storage.size("missing/object").await, Err(missing.clone()));
    assert_eq!(storage.get("missing/object").await, Err(missing));
    assert_eq!(storage.list("missing").await, Ok(Vec::new()));
}

async fn a_put_replaces_the_object(storage: &ObjectStorage) {
    put(storage, "replaced", b"long before").await;
    put(storage, "replaced", b"after").await;
    assert_eq!(storage.get("replaced").await, Ok(Bytes::from("after")));
    delete(storage, "replaced").await;
}

async fn list_finds_what_is_below_a_folder(storage: &ObjectStorage) {
    let paths = ["l/a/1", "l/a/2", "l/ab", "l/b/c/3", "m"];
    for path in paths {
        put(storage, path, path.as_bytes()).await;
    }
    for (folder, expected) in [
        ("", &paths[..]),
        ("l", &paths[..4]),
        ("l/", &paths[..4]),
        ("l/a", &paths[..2]),
        ("l/b", &paths[3..4]),
        ("l/a/1", &[]),
    ] {
        let listed = match storage.list(folder).await {
            Ok(listed) => listed,
            Err(error) => panic!("list of {folder:?} fails: {error}"),
        };
        let found: Vec<_> = listed.iter().map(|info| info.path.as_str()).collect();
        assert_eq!(found, expected, "below {folder:?}");
        for info in &listed {
            assert_eq!(info.bytes, info.path.len() as u64, "{}", info.path);
            // 2020: any clock is later.
            assert!(info.modified > 1_577_836_800_000_000_000, "{info:?}");
        }
    }
    for path in paths {
        delete(storage, path).await;
    }
}

async fn delete_can_be_repeated(storage: &ObjectStorage) {
    put(storage, "d/once", b"x").await;
    delete(storage, "d/once").await;
    delete(storage, "d/once").await;
    delete(storage, "never/was").await;
    assert!(storage.size("d/once").await.is_err());
}

/// Sizes around that of a part, in parts and from a file.
async fn large_objects_come_back_whole(storage: &ObjectStorage) {
    let part = 8 * 1024 * 1024;
    let file = std::env::temp_dir().join(format!("object-storage-suite-{}", unique()));
    for bytes in [0, part - 1, part, part + 1, 3 * part + 12_345] {
        let object = pattern(bytes);
        let (head, tail) = object.split_at(bytes / 3);
        let parts = [head, tail].map(Bytes::copy_from_slice).to_vec();
        assert_eq!(storage.put("large", parts).await, Ok(()), "{bytes}");
        assert!(
            storage.get("large").await.as_deref() == Ok(&object[..]),
            "{bytes}"
        );
        delete(storage, "large").await;

        assert!(tokio::fs::write(&file, &object).await.is_ok());
        assert_eq!(storage.put_file("large", &file).await, Ok(()), "{bytes}");
        assert!(
            storage.get("large").await.as_deref() == Ok(&object[..]),
            "{bytes}"
        );
        delete(storage, "large").await;
    }
    assert!(tokio::fs::remove_file(&file).await.is_ok());
    assert!(storage.put_file("large", &file).await.is_err());
    assert!(storage.size("large").await.is_err());
}

async fn odd_names_are_kept_and_bad_ones_refused(storage: &ObjectStorage) {
    let odd = ["n/team-a.*'()!_", "n/a b=c&d+e%20", "n/é/日本", "n/.hidden"];
    for path in odd {
        put(storage, path, b"x").await;
        assert_eq!(storage.get(path).await, Ok(Bytes::from("x")), "{path}");
    }
    let listed = storage.list("n").await.map(|listed| listed.len());
    assert_eq!(listed, Ok(odd.len()));
    for path in odd {
        delete(storage, path).await;
    }
    let long = "x".repeat(256);
    for path in [
        "", "/a", "a/", "a//b", ".", "a/../b", "a\\b", "a\nb", ".tmp/a", &long,
    ] {
        let refused = storage.put(path, Vec::new()).await;
        assert!(matches!(refused, Err(store::Error::Invalid(_))), "{path:?}");
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Different for each call in each process.
fn unique() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}-{next}", std::process::id())
}
