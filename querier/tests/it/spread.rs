//! Goal: a query that several queriers do together is answered as by one, whatever the others do.
//! Method: queriers over the same heads and segments, of which one is asked; the others work, refuse,
//! hang or answer nonsense.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use model::{NodeId, Timestamp};
use parking_lot::Mutex;
use prometheus::Registry;
use proptest::prelude::*;
use querier::{Config, Metrics, Peers, Querier, Sources, http_router};
use rpc::{
    Error, IngestApi, MetaApi, MetaPeerApi, Network, OwnerApi, QueryApi, SearchApi, ShareRequest,
};
use tokio::sync::Notify;

use crate::once::{QUERIES, answered, expected, records, sorted};
use crate::world::{NOW, Record, SECOND, World, block_on, escape, record};

/// What the other queriers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Works,
    Refuses,
    /// It never answers.
    Hangs,
    /// It works, and the end of its answer is missing.
    Garbles,
}

const MANNERS: [Manner; 3] = [Manner::Works, Manner::Refuses, Manner::Garbles];

/// The ports of all queriers, by address.
#[derive(Default)]
struct Ports {
    queriers: Mutex<BTreeMap<String, Arc<Other>>>,
}

/// Another querier.
struct Other {
    querier: Querier,
    manner: Manner,
    asked: AtomicUsize,
    /// Questions that it works on.
    at_work: AtomicUsize,
    changed: Notify,
}

#[async_trait]
impl QueryApi for Other {
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error> {
        struct Left<'a>(&'a Other);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.at_work.fetch_sub(1, Ordering::SeqCst);
                self.0.changed.notify_waiters();
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.at_work.fetch_add(1, Ordering::SeqCst);
        let _left = Left(self);
        self.changed.notify_waiters();
        match self.manner {
            Manner::Works => self.querier.share(request).await,
            Manner::Refuses => Err(Error::Unavailable("it is down".to_owned())),
            Manner::Hangs => std::future::pending().await,
            Manner::Garbles => {
                let answer = self.querier.share(request).await?;
                Ok(answer.slice(..answer.len().saturating_sub(3)))
            }
        }
    }
}

impl Network for Ports {
    fn ingest(&self, _: &str) -> Arc<dyn IngestApi> {
        unreachable!("queriers send nothing")
    }
    fn search(&self, _: &str) -> Arc<dyn SearchApi> {
        unreachable!("the search of the world is asked")
    }
    fn owner(&self, _: &str) -> Arc<dyn OwnerApi> {
        unreachable!("queriers own nothing")
    }
    fn meta(&self, _: &str) -> Arc<dyn MetaPeerApi> {
        unreachable!("the catalog of the world is read")
    }
    fn query(&self, address: &str) -> Arc<dyn QueryApi> {
        Arc::clone(&self.queriers.lock()[address]) as Arc<dyn QueryApi>
    }
}

/// The world as seen by a querier that has others to help it.
struct Together {
    world: World,
    others: Vec<Arc<Other>>,
    registry: Registry,
}

impl Together {
    fn new(world: &World, manners: &[Manner], config: &Config) -> Self {
        let config = Config {
            query_spread_bytes: 1,
            ..config.clone()
        };
        let querier = |registry: &Registry| {
            let sources = Sources {
                search: Arc::clone(&world.search) as Arc<dyn SearchApi>,
                meta: Arc::clone(&world.meta) as Arc<dyn MetaApi>,
                storage: world.storage.clone(),
                retention: std::time::Duration::ZERO,
            };
            let metrics = Metrics::new(registry).unwrap();
            Querier::new(config.clone(), sources, metrics, Arc::new(|| NOW))
        };
        let ports = Arc::new(Ports::default());
        let mut others = Vec::new();
        for (number, manner) in (2..).zip(manners) {
            let other = Arc::new(Other {
                querier: querier(&Registry::new()),
                manner: *manner,
                asked: AtomicUsize::new(0),
                at_work: AtomicUsize::new(0),
                changed: Notify::new(),
            });
            let address = format!("node-{number}");
            ports.queriers.lock().insert(address, Arc::clone(&other));
            others.push(other);
        }
        world.queriers(1 + manners.len() as u64);
        let registry = Registry::new();
        let own = querier(&registry);
        let meta = Arc::clone(&world.meta) as Arc<dyn MetaApi>;
        own.share_with(Peers::new(meta, ports, NodeId(1)));
        let world = World {
            search: Arc::clone(&world.search),
            meta: Arc::clone(&world.meta),
            storage: world.storage.clone(),
            router: http_router(own),
        };
        Together {
            world,
            others,
            registry,
        }
    }

    /// Slices that were done in a way.
    fn slices(&self, done: &str) -> u64 {
        let families = self.registry.gather();
        let slices = families
            .iter()
            .find(|f| f.name() == "pharos_querier_slices_total");
        let of = slices.into_iter().flat_map(|family| family.get_metric());
        let of = of.filter(|metric| metric.get_label()[0].value() == done);
        of.map(|metric| metric.get_counter().get_value() as u64)
            .sum()
    }
}

/// Records of an hour, in a segment for each five minutes, and a few copies in other places.
async fn hour(world: &World) -> Vec<Record> {
    let mut all = Vec::new();
    for part in 0..12 {
        let of_part: Vec<Record> = (0..60)
            .map(|n| {
                let app = ["a", "b", "c"][n as usize % 3];
                let ago = 3599 - part * 300 - n * 5;
                record(app, ago, &format!("error {n} of {part} took={n}ms"))
            })
            .collect();
        world.segment(&of_part).await;
        all.extend(of_part);
    }
    // Twice: what was stored again after a crash, and what is in a head as well.
    world.segment(&all[5..9]).await;
    world.head(&all[700..705]);
    all
}

fn config() -> Config {
    Config {
        query_workers: 2,
        ..Config::default()
    }
}

/// Queries whose parts are put together in all the ways that there are.
const ALL_WAYS: [&str; 16] = [
    "sum by (app) (rate({app=~\".+\"}[7m]))",
    "count_over_time({app=\"a\"} |= \"error\" [20s])",
    "bytes_rate({app=~\"a|b\"}[1m])",
    "avg_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m]) by (app)",
    "sum(sum_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m]))",
    "stddev_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [9m]) by (app)",
    "max by (app) (max_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m]))",
    "min_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m])",
    "first_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m]) by (app)",
    "last_over_time({app=~\".+\"} | logfmt | unwrap duration(took) [3m]) by (app)",
    "quantile_over_time(0.9, {app=~\".+\"} | logfmt | unwrap duration(took) [3m]) by (app)",
    "absent_over_time({app=\"a\"}[20s])",
    "topk(2, sum by (app) (rate({app=~\".+\"}[7m])))",
    "max_over_time(sum(count_over_time({app=~\".+\"}[30s]))[10m:1m])",
    "sum(rate({app=\"a\"}[7m])) / sum(rate({app=~\".+\"}[7m]))",
    "{app=~\".+\"} | logfmt | took > 30ms | line_format \"{{.took}} {{.app}}\"",
];

#[tokio::test]
async fn a_query_over_several_queriers_is_answered_as_by_one() {
    let world = World::new();
    hour(&world).await;
    for manner in MANNERS {
        let together = Together::new(&world, &[manner, Manner::Works], &config());
        for query in ALL_WAYS {
            for (forward, limit) in [(false, 7), (true, 7), (true, 5000)] {
                let alone = answered(&world, query, forward, limit).await;
                let spread = answered(&together.world, query, forward, limit).await;
                assert_eq!(spread, alone, "{query} forward={forward} limit={limit}");
            }
        }
        assert!(together.slices("here") > 0, "{manner:?}");
        assert!(together.slices("there") > 0, "{manner:?}");
        let failed = together.slices("failed");
        assert_eq!(failed > 0, manner != Manner::Works, "{manner:?}: {failed}");
    }
}

#[tokio::test]
async fn recent_records_are_seen_by_the_querier_that_is_asked() {
    let world = World::new();
    let all = hour(&world).await;
    world.head(&[record("a", 2, "error new")]);
    world.head(&all[..1]);
    let together = Together::new(&world, &[Manner::Works; 2], &config());
    let query = "sum(count_over_time({app=~\".+\"}[2h]))";
    let ask = format!("/loki/api/v1/query?query={}", escape(query));
    let body = together.world.get(&ask).await.body;
    assert!(body.contains(r#"[1700000000,"721"]"#), "{body}");
    assert!(together.slices("there") > 0);
}

#[tokio::test]
async fn a_query_that_is_small_stays_where_it_is() {
    let world = World::new();
    hour(&world).await;
    let together = Together::new(&world, &[Manner::Works; 2], &config());
    let rows = answered(&together.world, "{app=\"a\"} |= \"of 7 \"", true, 5000).await;
    assert_eq!(rows.values().map(Vec::len).sum::<usize>(), 20);
    let asked = |together: &Together| -> usize {
        let others = together.others.iter();
        others.map(|other| other.asked.load(Ordering::SeqCst)).sum()
    };
    assert!(asked(&together) > 0);
    let before = asked(&together);
    let at = NOW - 100 * SECOND;
    let path = format!(
        "/loki/api/v1/query_range?query={}&start={}&end={at}",
        escape("{app=\"a\"}"),
        at - 60 * SECOND
    );
    assert_eq!(together.world.get(&path).await.status, 200);
    assert_eq!(asked(&together), before, "one slice is not spread");
}

#[tokio::test]
async fn limits_hold_for_all_queriers_together() {
    let world = World::new();
    hour(&world).await;
    let config = Config {
        query_rows_max: 600,
        ..config()
    };
    let together = Together::new(&world, &[Manner::Works; 2], &config);
    let query = "sum(count_over_time({app=~\".+\"} |= \"took\" [2h]))";
    let ask = format!("/loki/api/v1/query?query={}", escape(query));
    let refused = together.world.get(&ask).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(
        refused.body.contains("more than 600 rows"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn deleted_records_are_hidden_by_other_queriers_too() {
    let world = World::new();
    hour(&world).await;
    let together = Together::new(&world, &[Manner::Works; 2], &config());
    let path = format!(
        "/loki/api/v1/delete?query={}&start={}&end={}",
        escape("{app=\"a\"} |= \"error 3 \""),
        (NOW - 7200 * SECOND) / SECOND,
        NOW / SECOND
    );
    let request = axum::http::Request::post(&path).body(axum::body::Body::empty());
    assert_eq!(world.send(request.unwrap()).await.status, 204);
    let query = "{app=~\".+\"} |= \"error 3 \"";
    assert!(
        answered(&together.world, query, true, 5000)
            .await
            .is_empty()
    );
    assert!(together.slices("there") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_querier_that_hangs_is_not_waited_for_and_is_left_alone_then() {
    let world = World::new();
    hour(&world).await;
    // Time runs much faster than work here.
    let config = Config {
        query_timeout: std::time::Duration::from_secs(1_000_000_000),
        ..config()
    };
    let together = Together::new(&world, &[Manner::Hangs], &config);
    let query = "sum(count_over_time({app=~\".+\"}[2h]))";
    let ask = format!("/loki/api/v1/query?query={}", escape(query));
    let other = &together.others[0];
    let mut answer = Box::pin(together.world.get(&ask));
    let body = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer.body,
            () = async {
                // As soon as it was found to be slow, its rest must not pass.
                match together.slices("slow") {
                    0 => tokio::time::advance(std::time::Duration::from_millis(50)).await,
                    _ => tokio::task::yield_now().await,
                }
            } => {}
        }
    };
    assert!(body.contains(r#"[1700000000,"720"]"#), "{body}");
    assert!(together.slices("slow") > 0);
    while other.at_work.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    let asked = other.asked.load(Ordering::SeqCst);
    assert!(together.world.get(&ask).await.body.contains("720"));
    assert_eq!(other.asked.load(Ordering::SeqCst), asked, "it rests");
}

#[tokio::test]
async fn what_others_do_for_a_client_that_left_ends() {
    let world = World::new();
    hour(&world).await;
    let together = Together::new(&world, &[Manner::Hangs], &config());
    let query = "sum(count_over_time({app=~\".+\"}[2h]))";
    let ask = format!("/loki/api/v1/query?query={}", escape(query));
    let other = &together.others[0];
    tokio::select! {
        biased;
        answer = together.world.get(&ask) => panic!("answered too soon: {}", answer.body),
        () = async {
            let changed = other.changed.notified();
            if other.at_work.load(Ordering::SeqCst) == 0 {
                changed.await;
            }
        } => {}
    }
    while other.at_work.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

/// Where each record is stored: the segment of its time, and perhaps another one or a head too.
fn copies() -> impl Strategy<Value = Vec<Option<u8>>> {
    prop::collection::vec(prop::option::weighted(0.3, 0u8..8), 60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_do_not_depend_on_who_does_what(
        records in records(),
        copies in copies(),
        manners in prop::collection::vec(prop::sample::select(MANNERS.to_vec()), 1..4),
    ) {
        block_on(async {
            let world = World::new();
            let home = |at: Timestamp| ((NOW - at) / (12 * SECOND)).clamp(0, 5) as u8;
            for place in 0..8 {
                let here = records.iter().zip(&copies).filter(|(record, copy)| {
                    home(record.at) == place || **copy == Some(place)
                });
                let here: Vec<Record> = here.map(|(record, _)| record.clone()).collect();
                match place {
                    _ if here.is_empty() => {}
                    7 => drop(world.head(&here)),
                    _ => drop(world.segment(&here).await),
                }
            }
            let together = Together::new(&world, &manners, &config());
            for query in QUERIES {
                for forward in [false, true] {
                    let want = expected(&records, query, forward, 1000);
                    let got = answered(&together.world, query, forward, 1000).await;
                    assert_eq!(sorted(got), sorted(want), "{query} forward={forward}");
                }
            }
        });
    }
}
