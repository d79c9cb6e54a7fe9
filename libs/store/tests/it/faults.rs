//! What a caller sees when the backend fails.

use bytes::Bytes;
use model::Kind;
use testkit::{FaultyBackend, Operation};

#[tokio::test]
async fn a_failing_backend_is_unavailable_and_then_works_again() {
    let backend = FaultyBackend::in_memory();
    let storage = backend.storage();
    let parts = || vec![Bytes::from("x")];
    backend.fail(Operation::Put, 1);
    let failed = storage.put("a", parts()).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Unavailable);
    storage.put("a", parts()).await.unwrap();
    // The second request asks for the size, to tell a short object from a failing backend.
    backend.fail(Operation::Get, 2);
    let failed = storage.range("a", 0..1).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Unavailable);
    assert_eq!(storage.range("a", 0..1).await.unwrap(), "x");
    backend.fail(Operation::Delete, 1);
    assert!(storage.delete("a").await.is_err());
    backend.fail(Operation::List, 1);
    assert!(storage.list("").await.is_err());
    storage.delete("a").await.unwrap();
    assert_eq!(storage.list("").await.unwrap(), []);
}

#[tokio::test]
async fn a_full_backend_is_out_of_space() {
    let backend = FaultyBackend::in_memory();
    let storage = backend.storage();
    backend.set_out_of_space(true);
    for bytes in [1, 20 * 1024 * 1024] {
        let parts = vec![Bytes::from(vec![0; bytes])];
        let failed = storage.put("a", parts).await.unwrap_err();
        assert_eq!(failed.kind(), Kind::OutOfSpace, "{failed}");
    }
    assert!(storage.size("a").await.is_err());
}

#[tokio::test]
async fn near_ranges_share_a_request_and_far_ones_do_not() {
    let backend = FaultyBackend::in_memory();
    let storage = backend.storage();
    let object = vec![7; 1_000_000];
    storage.put("a", vec![Bytes::from(object)]).await.unwrap();
    let before = backend.counts().gets;
    storage
        .ranges("a", &[0..10, 60_000..60_010, 900_000..900_001])
        .await
        .unwrap();
    assert_eq!(backend.counts().gets - before, 2);
}
