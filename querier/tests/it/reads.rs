//! How often, and how much, a query reads from object storage.

use axum::body::Body;
use axum::http::Request;
use model::TimeRange;
use querier::Config;
use rpc::{Command, MetaApi};
use testkit::FaultyBackend;
use tower::ServiceExt;

use crate::deletes::delete;
use crate::world::{NOW, Record, SECOND, World, escape, record};

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

/// A query for lines with this text, from the beginning.
fn seek(needle: &str) -> String {
    let query = format!("{{app=\"a\"}} |= \"{needle}\"");
    let start = NOW - 100_000 * SECOND;
    format!(
        "/loki/api/v1/query_range?query={}&start={start}&end={NOW}",
        escape(&query)
    )
}

/// An id that looks random: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), twice.
fn id(number: i64) -> String {
    let half = |number: i64| {
        let state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    };
    format!("{:016x}{:016x}", half(number * 2), half(number * 2 + 1))
}

/// Lines of which one in eight has an id of its own.
fn served(count: i64, first: i64) -> Vec<Record> {
    let line = |at: i64| match at % 8 {
        0 => format!("request {} done in {at} ms", id(first + at)),
        _ => format!("worker {} was idle, {at} in the queue", at % 5),
    };
    let records = (0..count).map(|at| record("a", 90_000 - at, &line(at)));
    records.collect()
}

#[tokio::test]
async fn a_needle_asks_an_open_segment_once_however_large_it_is() {
    for (count, chunk_bytes) in [(50, 1 << 20), (3_000, 16 << 10), (40_000, 64 << 10)] {
        let backend = FaultyBackend::in_memory();
        let config = Config {
            query_workers: 2,
            ..Config::default()
        };
        let world = World::over(config, backend.storage());
        world
            .segment_in_chunks(chunk_bytes, &served(count, 0))
            .await;
        let before = backend.counts().gets;
        world.get(&seek("no such words")).await;
        let opened = backend.counts().gets - before;
        assert!(opened <= 2, "{count} lines: {opened}");
        let mut asked = Vec::new();
        for absent in (1..=40).map(|at| id(-at)) {
            let before = backend.counts().gets;
            world.get(&seek(&absent)).await;
            asked.push(backend.counts().gets - before);
        }
        // Places in the filters that were read before are remembered. Now and then a chunk is left,
        // and asked for more or read in vain.
        assert!(asked.iter().all(|reads| *reads <= 3), "{count}: {asked:?}");
        let more: u64 = asked.iter().map(|reads| reads.saturating_sub(1)).sum();
        assert!(more <= 4, "{count} lines: {asked:?}");
        for part in [&id(16)[..], &id(24)[3..21], &id(32)[20..]] {
            let before = backend.counts().gets;
            let answer = world.get(&seek(part)).await;
            assert!(answer.body.contains(part), "{}", answer.body);
            let reads = backend.counts().gets - before;
            assert!((1..=6).contains(&reads), "{count} lines, {part}: {reads}");
        }
    }
}

#[tokio::test]
async fn a_needle_costs_two_reads_of_a_segment_that_was_not_opened_before() {
    for (count, chunk_bytes) in [(50, 1 << 20), (40_000, 64 << 10)] {
        let backend = FaultyBackend::in_memory();
        let world = World::over(Config::default(), backend.storage());
        world
            .segment_in_chunks(chunk_bytes, &served(count, 0))
            .await;
        let before = backend.counts().gets;
        world.get(&seek(&id(-1))).await;
        assert_eq!(backend.counts().gets - before, 2, "{count} lines");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_segments_are_searched_in_two_rounds_of_reads() {
    let backend = FaultyBackend::in_memory();
    let config = Config {
        query_workers: 2,
        query_reads_max: 100,
        ..Config::default()
    };
    let world = World::over(config, backend.storage());
    for segment in 0..100 {
        let records = served(80, segment * 100);
        world.segment_in_chunks(1 << 20, &records).await;
    }
    let before = backend.counts().gets;
    backend.hold();
    let router = world.router.clone();
    let request = Request::get(seek(&id(-1))).body(Body::empty()).unwrap();
    let asked = tokio::spawn(router.oneshot(request));
    // Footers, then filters. No read of a round ends before all have begun: were there fewer at once,
    // this would wait for ever.
    for round in 1..=2 {
        while backend.counts().gets < before + round * 100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(backend.counts().gets, before + round * 100);
        backend.pass(100);
    }
    // What is left are chunks that are read in vain.
    backend.release();
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    let vain = backend.counts().gets - before - 200;
    assert!(vain <= 4, "{vain}");
}

#[tokio::test]
async fn a_delete_of_many_lines_does_not_make_labels_and_counts_read_whole_chunks() {
    let backend = FaultyBackend::in_memory();
    let world = World::over(Config::default(), backend.storage());
    let records = served(20_000, 0);
    world.segment_in_chunks(16 << 10, &records).await;
    let range = TimeRange::new(0, NOW);
    let part = TimeRange::new(NOW - 80_000 * SECOND, NOW - 75_000 * SECOND);
    let start = NOW - 100_000 * SECOND;
    let ask = async |path: &str| {
        let before = world.storage.counts().bytes_read;
        let joined = if path.contains('?') { '&' } else { '?' };
        let path = format!("/loki/api/v1/{path}{joined}start={start}&end={NOW}");
        let answer = world.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let read = world.storage.counts().bytes_read - before;
        (answer.body, read as usize)
    };
    let stats = format!("index/stats?query={}", escape("{app=\"a\"}"));
    let all = escape("sum(count_over_time({app=\"a\"} |~ \"[e-q].*[0-9]\" [2d]))");
    let all = format!("query?query={all}&time={NOW}");
    ask(&stats).await;
    let (_, lines) = ask(&all).await;
    // How many records are left, and what is read at most of what all lines take, percent.
    let seldom = |line| format!("{{app=\"a\"}} |= \"{}\"", id(line));
    for (queries, range, entries, most) in [
        (&["{app=\"a\"} |= \"was idle\""][..], range, 2_500, 15),
        (
            &["{app=\"a\"} |= \"was idle\" != \"worker 1\""],
            range,
            6_000,
            100,
        ),
        (&["{app=\"a\"} |= \"no such words\""], range, 20_000, 0),
        (&["{app=\"a\"}"], range, 0, 0),
        (&["{app=\"a\"}"], part, 15_000, 5),
        (&["{app=\"a\"} |= \"worker \""], part, 15_625, 25),
        (
            &[&seldom(16), &seldom(8_000), &seldom(16_000)],
            range,
            19_997,
            25,
        ),
    ] {
        for query in queries {
            delete(&world, query, range).await;
        }
        let (labels, of_labels) = ask("label/app/values").await;
        assert_eq!(
            labels.contains("\"a\""),
            entries > 0,
            "{queries:?}: {labels}"
        );
        assert!(
            of_labels * 50 <= lines,
            "{queries:?}: {of_labels} of {lines}"
        );
        let (counted, of_stats) = ask(&stats).await;
        let entries = format!("\"entries\":{entries}");
        assert!(counted.contains(&entries), "{queries:?}: {counted}");
        assert!(
            of_stats * 100 <= lines * most,
            "{queries:?}: {of_stats} of {lines}"
        );
        for id in world.meta.catalog().deletes.keys() {
            let cancel = Command::CancelDelete(*id);
            world.meta.propose(cancel).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_deletes_hide_is_read_in_as_many_rounds_as_what_one_hides() {
    const DAY: i64 = 86_400;
    const LINES: i64 = 80;
    for days in [1, 20] {
        let backend = FaultyBackend::in_memory();
        let config = Config {
            query_workers: 2,
            query_reads_max: 100,
            ..Config::default()
        };
        let world = World::over(config, backend.storage());
        for day in 0..days {
            let mut records = served(LINES, day * LINES);
            for record in &mut records {
                record.at -= day * DAY * SECOND;
            }
            world.segment_in_chunks(1 << 20, &records).await;
        }
        let stats = format!(
            "/loki/api/v1/index/stats?query={}&start={}&end={NOW}",
            escape("{app=\"a\"}"),
            NOW - 30 * DAY * SECOND
        );
        let all = world.get(&stats).await.body;
        let entries = |count: i64| format!("\"entries\":{count}");
        assert!(all.contains(&entries(days * LINES)), "{all}");
        for day in 0..days {
            let end = NOW - (day * DAY + 80_000) * SECOND;
            let query = format!("{{app=\"a\"}} |= \"{}\"", id(day * LINES + 16));
            delete(&world, &query, TimeRange::new(end - DAY * SECOND, end)).await;
        }
        let before = backend.counts().gets;
        backend.hold();
        let router = world.router.clone();
        let request = Request::get(&stats).body(Body::empty()).unwrap();
        let asked = tokio::spawn(router.oneshot(request));
        // Filters, then chunks, one read of each delete. Were those of a round not under way together,
        // this would wait for ever.
        for round in 1..=2 {
            while backend.counts().gets < before + round * days as u64 {
                tokio::task::yield_now().await;
            }
            backend.pass(days as usize);
        }
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
        assert_eq!(backend.counts().gets, before + 2 * days as u64);
        backend.release();
        let left = world.get(&stats).await.body;
        assert!(left.contains(&entries(days * (LINES - 1))), "{left}");
    }
}
