//! Limits, failures and cancellation: each has its own status and text.

use std::time::Duration;

use futures::FutureExt;
use querier::Config;

use crate::world::{Failure, World, escape, record};

fn range(query: &str) -> String {
    format!("/loki/api/v1/query_range?query={}", escape(query))
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_answered_504() {
    let world = World::with(Config {
        query_timeout: Duration::from_millis(1),
        ..Config::default()
    });
    world.fail(Some(Failure::Hangs));
    let answer = world.get(&range("{app=\"a\"}")).await;
    assert_eq!(answer.status, 504);
    assert!(
        answer.body.starts_with("request timed out"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn an_ingester_that_is_down_fails_the_query() {
    let world = World::new();
    world.segment(&[record("a", 1, "x")]).await;
    world.fail(Some(Failure::Unavailable));
    let answer = world.get(&range("{app=\"a\"}")).await;
    assert_eq!((answer.status, &*answer.body), (503, "ingester 1 is down"));
}

#[tokio::test]
async fn memory_and_rows_are_bounded() {
    let records: Vec<_> = (0..100).map(|at| record("a", at, "some line")).collect();
    for (config, setting) in [
        (
            Config {
                query_rows_max: 99,
                ..Config::default()
            },
            "max_query_rows",
        ),
        (
            Config {
                query_memory_bytes_max: 500,
                ..Config::default()
            },
            "max_query_memory_bytes",
        ),
    ] {
        let world = World::with(config);
        world.head(&records);
        let answer = world.get(&range("{app=\"a\"}")).await;
        assert_eq!(answer.status, 422);
        assert!(answer.body.contains(setting), "{}", answer.body);
    }
}

#[tokio::test]
async fn too_many_series_are_refused() {
    let world = World::with(Config {
        series_max: 1,
        ..Config::default()
    });
    world.head(&[record("a", 1, "x"), record("b", 1, "x")]);
    let query = escape("count_over_time({app=~\".+\"}[1m])");
    let answer = world
        .get(&format!("/loki/api/v1/query?query={query}"))
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("maximum number of series (1)"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_longer_range_than_allowed_is_refused_wherever_it_is_written() {
    let world = World::with(Config {
        query_length_max: Duration::from_secs(600),
        ..Config::default()
    });
    world.head(&[record("a", 1, "x")]);
    let instant = |query: &str| format!("/loki/api/v1/query?query={}", escape(query));
    for (path, length) in [
        (range("{app=\"a\"}") + "&since=11m", "11m0s"),
        (instant("rate({app=\"a\"}[20m])"), "20m0s"),
        (range("rate({app=\"a\"}[2m]) / 2") + "&since=9m", "11m0s"),
        (
            instant("sum(max_over_time(rate({app=\"a\"}[1m])[10m:1m]))"),
            "11m0s",
        ),
    ] {
        let answer = world.get(&path).await;
        let text =
            format!("the query time range exceeds the limit (query length: {length}, limit: 10m)");
        assert_eq!((answer.status, answer.body), (400, text), "{path}");
    }
    for path in [
        range("{app=\"a\"}") + "&since=10m",
        instant("rate({app=\"a\"}[10m] offset 1h)"),
    ] {
        assert_eq!(world.get(&path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_line_that_is_full_refuses_more() {
    let world = World::with(Config {
        queries_max: 1,
        queries_waiting_max: 0,
        ..Config::default()
    });
    world.fail(Some(Failure::Hangs));
    let path = range("{app=\"a\"}");
    let mut first = Box::pin(world.get(&path));
    assert!((&mut first).now_or_never().is_none());
    let answer = world.get(&path).await;
    assert_eq!(
        (answer.status, &*answer.body),
        (429, "too many outstanding requests")
    );
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let world = World::with(Config {
        queries_max: 1,
        ..Config::default()
    });
    world.head(&[record("a", 1, "x")]);
    world.fail(Some(Failure::Hangs));
    let path = range("{app=\"a\"}");
    let mut gone = Box::pin(world.get(&path));
    assert!((&mut gone).now_or_never().is_none());
    world.fail(None);
    drop(gone);
    // Waits until the thread of the first query has noticed.
    assert_eq!(world.get(&path).await.status, 200);
}

#[tokio::test]
async fn damage_is_named_and_never_passed_over() {
    let world = World::new();
    let path = world
        .segment(&[record("a", 1, "a line that will be damaged")])
        .await;
    let mut object = world.storage.get(&path).await.unwrap().to_vec();
    let query = range("{app=\"a\"} |= \"line\"");
    for at in [10, object.len() - 1] {
        object[at] ^= 1;
        let parts = vec![object.clone().into()];
        world.storage.put(&path, parts).await.unwrap();
        let answer = world.get(&query).await;
        object[at] ^= 1;
        if answer.status == 200 {
            // A byte that this query does not read.
            assert!(answer.body.contains("will be damaged"), "{}", answer.body);
            continue;
        }
        assert_eq!(answer.status, 500, "{}", answer.body);
        assert!(answer.body.contains(&*path), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_missing_object_is_an_error() {
    let world = World::new();
    let path = world.segment(&[record("a", 1, "x")]).await;
    world.storage.delete(&path).await.unwrap();
    let answer = world.get(&range("{app=\"a\"}")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(&*path), "{}", answer.body);
}
