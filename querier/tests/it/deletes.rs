//! What is hidden: records of delete requests and expired ones, in heads and in segments. Method:
//! every answer is compared with the engine's over a list without those records.

use std::time::Duration;

use model::{TenantId, TimeRange};
use proptest::prelude::*;
use querier::Config;
use rpc::{Command, DeleteRequest, MetaApi, TenantSettings};
use store::ObjectStorage;

use crate::once::{QUERIES, answered, expected, places, records, sorted};
use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

pub(crate) type Meaning = fn(&Record) -> bool;

/// Queries of delete requests, each with what it means.
pub(crate) const DELETES: [(&str, Meaning); 7] = [
    ("{app=\"a\"}", |r| is(r, "a")),
    ("{app=~\"a|b\"} |= \"error\"", |r| {
        !is(r, "c") && r.line.contains("error")
    }),
    ("{app=~\".+\"} != \"ok\"", |r| !r.line.contains("ok")),
    ("{app=\"b\"} | m=\"1\"", |r| is(r, "b") && meta(r, "1")),
    ("{app=~\".+\"} | m!=\"\" |~ \"r{2}\"", |r| {
        !r.metadata.is_empty() && r.line.contains("rr")
    }),
    ("{app=\"c\"} | json", |_| false),
    ("{app=\"none\"}", |_| false),
];

fn is(record: &Record, app: &str) -> bool {
    record.labels[0].1 == app
}

fn meta(record: &Record, value: &str) -> bool {
    record.metadata.iter().any(|(_, v)| v == value)
}

pub(crate) async fn delete(world: &World, query: &str, range: TimeRange) {
    let request = DeleteRequest {
        tenant: TenantId::default(),
        query: query.into(),
        range,
        created: NOW,
    };
    let command = Command::RequestDelete(request);
    world.meta.propose(command).await.unwrap();
}

/// Which delete, and from when to when, seconds before now.
pub(crate) fn deletes() -> impl Strategy<Value = Vec<(usize, i64, i64)>> {
    let one = (0..DELETES.len(), 0i64..60, 1i64..60);
    let one = one.prop_map(|(delete, end, length)| (delete, end + length, end));
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_are_those_of_a_list_without_what_is_hidden(
        records in records(),
        places in places(),
        deletes in deletes(),
        retention in prop::option::of(1u64..70),
    ) {
        block_on(async {
            let config = Config { query_workers: 2, ..Config::default() };
            let kept = Duration::from_secs(retention.unwrap_or(0));
            let world = World::keeping(config, ObjectStorage::in_memory(), kept);
            let placed = records.iter().zip(places.iter().copied());
            world.place(2, 5, placed).await;
            let mut shown = records.clone();
            if let Some(seconds) = retention {
                shown.retain(|record| record.at >= NOW - seconds as i64 * SECOND);
            }
            for (at, start, end) in deletes {
                let range = TimeRange::new(NOW - start * SECOND, NOW - end * SECOND);
                let (query, is_deleted) = DELETES[at];
                delete(&world, query, range).await;
                shown.retain(|record| !range.contains(record.at) || !is_deleted(record));
            }
            for query in QUERIES {
                for forward in [false, true] {
                    let want = expected(&shown, query, forward, 1000);
                    let got = answered(&world, query, forward, 1000).await;
                    assert_eq!(sorted(got), sorted(want), "{query} forward={forward}");
                }
            }
        });
    }
}

#[tokio::test]
async fn a_tenant_may_keep_records_longer_or_shorter_than_the_default() {
    for (own, expected) in [(None, 2), (Some(0), 3), (Some(25), 1)] {
        let storage = ObjectStorage::in_memory();
        let world = World::keeping(Config::default(), storage, Duration::from_secs(45));
        world
            .segment(&[record("a", 50, "old"), record("a", 40, "middle")])
            .await;
        world.head(&[record("a", 20, "new")]);
        let settings = TenantSettings {
            retention_nanos: own.map(|seconds: i64| seconds * SECOND),
        };
        let command = Command::SetTenant(TenantId::default(), settings);
        world.meta.propose(command).await.unwrap();
        let rows = answered(&world, "{app=\"a\"}", true, 100).await;
        let lines: usize = rows.values().map(Vec::len).sum();
        assert_eq!(lines, expected, "{own:?}");
    }
}

#[tokio::test]
async fn labels_and_volumes_of_expired_records_are_not_shown() {
    let storage = ObjectStorage::in_memory();
    let world = World::keeping(Config::default(), storage, Duration::from_secs(30));
    world
        .segment(&[record("old", 50, "x"), record("new", 20, "y")])
        .await;
    world.head(&[record("late", 40, "z")]);
    for path in [
        "/loki/api/v1/label/app/values".to_owned(),
        format!("/loki/api/v1/series?match[]={}", escape("{app=~\".+\"}")),
        format!(
            "/loki/api/v1/index/volume?query={}",
            escape("{app=~\".+\"}")
        ),
        format!(
            "/loki/api/v1/index/volume_range?query={}&step=10",
            escape("{app=~\".+\"}")
        ),
    ] {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        let shows = |app: &str| answer.body.contains(app);
        let shown = (shows("\"new\""), shows("\"old\""), shows("\"late\""));
        assert_eq!(shown, (true, false, false), "{path}: {}", answer.body);
    }
    let stats = format!("/loki/api/v1/index/stats?query={}", escape("{app=~\".+\"}"));
    let answer = world.get(&stats).await;
    assert!(answer.body.contains("\"entries\":1"), "{}", answer.body);
}
