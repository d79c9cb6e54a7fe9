//! How often, and how much, a query reads from object storage.

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
