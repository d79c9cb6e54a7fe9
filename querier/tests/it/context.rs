//! The lines around a line.

use serde_json::Value;

use crate::world::{NOW, Record, SECOND, World, escape, record};

/// Times, in seconds before now, and lines, in the order of the answer.
async fn around(world: &World, ago: i64, rest: &str) -> Vec<(i64, String)> {
    let path = format!(
        "/loki/api/v1/context?query={}&ts={}&{rest}",
        escape("{app=\"a\"}"),
        NOW - ago * SECOND
    );
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let mut entries = Vec::new();
    for stream in body["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let at: i64 = value[0].as_str().unwrap().parse().unwrap();
            let line = value[1].as_str().unwrap().to_owned();
            entries.push(((NOW - at) / SECOND, line));
        }
    }
    entries
}

#[tokio::test]
async fn neighbours_are_found_near_and_far_in_segments_and_heads() {
    let world = World::new();
    let hour = 3600;
    let old: Vec<Record> = [40_000 * hour, 500 * hour, 20 * hour, 100, 90]
        .map(|ago| record("a", ago, "line"))
        .into();
    world.segment(&old).await;
    let new = [80, 70, 60].map(|ago| record("a", ago, "line"));
    world.head(&new);
    let times = |entries: Vec<(i64, String)>| entries.into_iter().map(|e| e.0).collect::<Vec<_>>();
    let found = around(&world, 90, "before=2&after=2").await;
    assert_eq!(times(found), [20 * hour, 100, 90, 80, 70]);
    let found = around(&world, 90, "").await;
    assert_eq!(
        times(found),
        [40_000 * hour, 500 * hour, 20 * hour, 100, 90, 80, 70, 60]
    );
    let found = around(&world, 40_000 * hour, "before=3&after=4").await;
    assert_eq!(
        times(found),
        [40_000 * hour, 500 * hour, 20 * hour, 100, 90]
    );
}

#[tokio::test]
async fn lines_of_one_time_are_told_apart_by_their_text() {
    let world = World::new();
    let lines = ["b", "d", "c", "a"].map(|line| record("a", 10, line));
    world.head(&lines);
    world.head(&[record("a", 11, "earlier"), record("a", 9, "later")]);
    let texts = |entries: Vec<(i64, String)>| entries.into_iter().map(|e| e.1).collect::<Vec<_>>();
    let found = around(&world, 10, "line=c&before=1&after=1").await;
    assert_eq!(texts(found), ["b", "c", "d"]);
    let found = around(&world, 10, "line=a&before=1&after=0").await;
    assert_eq!(texts(found), ["earlier", "a"]);
    let found = around(&world, 10, "line=d&before=9&after=9").await;
    assert_eq!(texts(found), ["earlier", "a", "b", "c", "d", "later"]);
}
