//! How often, and how much, a query reads from object storage.

use axum::body::Body;
use axum::http::Request;
use querier::Config;
use testkit::FaultyBackend;
use tower::ServiceExt;

use crate::world::{NOW, World, escape, record};

#[tokio::test]
async fn a_segment_is_opened_with_one_read_and_then_remembered() {
    let world = World::new();
    for at in 0..20 {
        world.segment(&[record("a", 60 - at, "line")]).await;
    }
    let path = format!(
        "/loki/api/v1/query?query={}",
        escape("sum(count_over_time({app=\"a\"}[1h]))")
    );
    let before = world.storage.counts();
    assert!(world.get(&path).await.body.contains("\"20\""));
    let opened = world.storage.counts();
    assert_eq!(opened.reads - before.reads, 20);
    // All rows are in the range and nothing of them is looked at: the footers know the answer.
    assert!(world.get(&path).await.body.contains("\"20\""));
    assert_eq!(world.storage.counts().reads, opened.reads);
}

#[tokio::test]
async fn the_newest_lines_are_found_without_reading_old_chunks() {
    let world = World::new();
    let records: Vec<_> = (0..1000)
        .map(|at| record("a", 1000 - at, &format!("line number {at} of many")))
        .collect();
    world.segment(&records).await;
    let path = format!(
        "/loki/api/v1/query_range?query={}&limit=5&end={NOW}",
        escape("{app=\"a\"}")
    );
    // The first query opens the segment.
    world.get(&path).await;
    let before = world.storage.counts();
    let answer = world.get(&path).await;
    assert!(answer.body.contains("line number 999 of many"));
    let reads = world.storage.counts().reads - before.reads;
    // One chunk has the answer; as many as there are threads, twice, are read ahead.
    assert!(reads <= 8, "{reads}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_segments_cost_two_reads_each_side_by_side_and_none_the_second_time() {
    let backend = FaultyBackend::in_memory();
    let config = Config {
        query_workers: 2,
        query_reads_max: 32,
        ..Config::default()
    };
    let world = World::over(config, backend.storage());
    for segment in 0..100 {
        let id = |at: i64| format!("request {:016x} done", segment * 1000 + at);
        let records: Vec<_> = (0..50).map(|at| record("a", 60 + at, &id(at))).collect();
        world.segment_in_chunks(1 << 20, &records).await;
    }
    let path = |needle: &str| {
        let query = format!("{{app=\"a\"}} |= \"{needle}\"");
        format!(
            "/loki/api/v1/query_range?query={}&end={NOW}",
            escape(&query)
        )
    };
    let nowhere = path("f1e2d3c4b5a69788");
    let before = backend.counts().gets;
    backend.hold();
    let router = world.router.clone();
    let request = Request::get(&nowhere).body(Body::empty()).unwrap();
    let cold = tokio::spawn(router.oneshot(request));
    // As many reads as may be under way wait at once: a store that takes long costs that once for
    // all of them. Were they fewer, this would wait for ever.
    while backend.counts().gets < before + 32 {
        tokio::task::yield_now().await;
    }
    backend.release();
    assert_eq!(cold.await.unwrap().unwrap().status(), 200);
    let opened = backend.counts().gets;
    assert!(opened - before <= 200, "{}", opened - before);

    world.get(&nowhere).await;
    assert_eq!(backend.counts().gets, opened, "all was known");
    // Another needle: one read of its place in the filters, and the chunks of the one segment.
    let found = world.get(&path(&format!("{:016x}", 42_007))).await;
    assert!(
        found.body.contains("request 000000000000a417 done"),
        "{}",
        found.body
    );
    let reads = backend.counts().gets - opened;
    assert!(reads <= 100 + 4, "{reads}");
}
