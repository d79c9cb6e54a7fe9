//! Goal: a role cannot tell whether the other side is in its process. Method: every port of a fake
//! node over loopback, what arrives there and comes back, and every way in which a call can fail.

mod refusals;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    BatchId, HeadId, HeadKey, LabelMatcher, Labels, LogBatchBuilder, RingVersion, Selector, Shard,
    Signal, Slot, StreamId, TenantId, TimeRange,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use segment::wal::StreamCache;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::StreamExt;

use super::*;
use crate::{
    Changes, CoveredHeads, DeleteId, HeadBatches, HeldBatch, IngestApi, IngestRequest, MetaCall,
    MetaPeerApi, Network, OwnerApi, QueryApi, Recent, RecentRequest, ReconcileRequest, Reconciled,
    SealedHead, SearchApi, SegmentId, ShareRequest, ShareSegment, TailError, TailReceiver,
    TailSender,
};

const KEY: HeadKey = HeadKey {
    shard: Shard(3),
    slot: Slot(-7),
    ring: RingVersion(u64::MAX),
};

fn held(number: u64, lines: usize) -> HeldBatch {
    let tenant = TenantId::new("team-a").unwrap();
    let labels = Arc::new(Labels::new([("app", "é"), ("n", &number.to_string())]).unwrap());
    let mut builder = LogBatchBuilder::new(tenant.clone());
    builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
    for line in 0..lines {
        let text = format!("line {line} of {number}");
        builder.push(line as i64, text.as_bytes(), &mut [("k", b"v")]);
    }
    HeldBatch {
        id: BatchId(u128::from(number) << 70),
        batch: Arc::new(builder.finish()),
    }
}

fn request(number: u64) -> IngestRequest {
    let held = held(number, 3);
    IngestRequest {
        batch_id: held.id,
        shard: KEY.shard,
        slot: KEY.slot,
        ring: KEY.ring,
        batch: held.batch,
    }
}

/// A node that notes what it is asked, and answers what the test wants.
struct Fake {
    ingested: Mutex<Vec<IngestRequest>>,
    refusal: Mutex<Option<Error>>,
    asked: Mutex<Option<RecentRequest>>,
    heads: Vec<HeadBatches>,
    tail: TailSender,
    /// Flushes that began and did not end, and a sign that one began.
    flushing: AtomicUsize,
    began: Notify,
}

impl Fake {
    fn new() -> Arc<Self> {
        let head = |sequence, batches| HeadBatches {
            head: HeadId {
                ingester: 5,
                sequence,
            },
            key: KEY,
            batches,
        };
        Fake::with(vec![
            head(1, vec![held(1, 2), held(2, 1)]),
            head(2, vec![held(3, 5)]),
        ])
    }

    fn with(heads: Vec<HeadBatches>) -> Arc<Self> {
        Arc::new(Fake {
            ingested: Mutex::default(),
            refusal: Mutex::default(),
            asked: Mutex::default(),
            heads,
            tail: TailSender::new(8, 1 << 20),
            flushing: AtomicUsize::new(0),
            began: Notify::new(),
        })
    }
}

#[async_trait]
impl IngestApi for Fake {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        self.ingested.lock().extend(requests);
        self.refusal.lock().clone().map_or(Ok(()), Err)
    }

    /// Never ends; whoever gives up is noticed.
    async fn flush(&self) -> Result<(), Error> {
        struct Left<'a>(&'a Fake);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.flushing.fetch_sub(1, Ordering::SeqCst);
                self.0.began.notify_one();
            }
        }
        self.flushing.fetch_add(1, Ordering::SeqCst);
        let _left = Left(self);
        self.began.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl SearchApi for Fake {
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        *self.asked.lock() = Some(request);
        Ok(Recent {
            heads: self.heads.clone(),
            version: 9,
        })
    }

    fn tail(&self) -> TailReceiver {
        self.tail.subscribe()
    }
}

#[async_trait]
impl OwnerApi for Fake {
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error> {
        assert_eq!(request.key, KEY);
        let head = HeadId {
            ingester: 5,
            sequence: 8,
        };
        let heads = vec![SealedHead {
            head,
            ids: vec![BatchId(1), BatchId(u128::MAX)],
        }];
        let flushed = request.ids;
        Ok(Reconciled { heads, flushed })
    }

    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error> {
        assert_eq!(key, KEY);
        let held = self.heads.iter().flat_map(|head| head.batches.clone());
        Ok(held.filter(|held| ids.contains(&held.id)).collect())
    }
}

#[async_trait]
impl MetaPeerApi for Fake {
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, Error> {
        Ok(format!("{call:?} {}", String::from_utf8_lossy(&body)).into())
    }

    async fn watch(&self, after: u64) -> Result<Changes, Error> {
        let changes = [
            Ok(Bytes::from(after.to_string())),
            Err(Error::Unavailable("no leader".to_owned())),
        ];
        if after == 0 {
            let [first, _] = changes;
            let quiet = tokio_stream::once(first).chain(tokio_stream::pending());
            return Ok(Box::pin(quiet));
        }
        Ok(Box::pin(tokio_stream::iter(changes)))
    }
}

/// Serves the fake; returns its address.
async fn serve_fake(fake: &Arc<Fake>, config: &RemoteConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = Arc::new(Ports::default());
    ports.set_ingester(fake);
    ports.set_patterns(prefix);
    ports.set_meta(Arc::clone(fake) as Arc<dyn MetaPeerApi>);
    let config = config.clone();
    tokio::spawn(async move { serve(listener, ports, &config, std::future::pending()).await });
    address
}

async fn connected(config: RemoteConfig) -> (Arc<Fake>, Remote, String) {
    let fake = Fake::new();
    let address = serve_fake(&fake, &config).await;
    (fake, Remote::new(config).unwrap(), address)
}

#[tokio::test]
async fn batches_arrive_as_they_were_sent_compressed_or_not() {
    for compress in [false, true] {
        let config = RemoteConfig {
            compress,
            ..RemoteConfig::default()
        };
        let (fake, remote, address) = connected(config).await;
        let sent = vec![request(1), request(2)];
        remote.ingest(&address).ingest(sent.clone()).await.unwrap();
        let arrived = fake.ingested.lock();
        let as_text = |requests: &[IngestRequest]| format!("{requests:?}");
        assert_eq!(as_text(&arrived), as_text(&sent));
    }
}

#[tokio::test]
async fn the_errors_of_the_other_side_arrive_as_they_were() {
    let (fake, remote, address) = connected(RemoteConfig::default()).await;
    let full = Error::Exhausted {
        reason: "memory".to_owned(),
        retry_after_seconds: 4,
    };
    *fake.refusal.lock() = Some(full.clone());
    let refused = remote.ingest(&address).ingest(vec![request(1)]).await;
    assert_eq!(refused, Err(full));
}

/// Matches the texts that begin like it.
#[derive(Debug)]
struct Prefix(String);

impl model::ValuePattern for Prefix {
    fn is_match(&self, value: &str) -> bool {
        value.starts_with(&self.0)
    }
}

fn prefix(text: &str) -> Option<Arc<dyn model::ValuePattern>> {
    Some(Arc::new(Prefix(text.to_owned())))
}

#[tokio::test]
async fn the_question_for_recent_records_arrives_as_it_was_asked_and_whole_heads_come_back() {
    let (fake, remote, address) = connected(RemoteConfig::default()).await;
    let none = Selector {
        matchers: vec![LabelMatcher::text("app", false, "é")],
    };
    let regex = LabelMatcher::regex("n", false, "x", prefix("x").unwrap());
    let not = LabelMatcher::regex("app", true, "y", prefix("y").unwrap());
    let request = RecentRequest {
        tenant: TenantId::new("team-a").unwrap(),
        selectors: vec![
            none,
            Selector {
                matchers: vec![regex, not],
            },
            Selector::default(),
        ],
        range: TimeRange::ALL,
        covered: CoveredHeads {
            below: 7,
            also: [9, 12].into(),
        },
    };
    let search = remote.search(&address);
    let recent = search.recent(request.clone()).await.unwrap();
    assert_eq!(recent.version, 9);
    assert_eq!(format!("{:?}", recent.heads), format!("{:?}", fake.heads));
    assert_eq!(fake.asked.lock().take(), Some(request));
}

/// Two heads of batches with two streams, `app="a0"` and so on, a record of each second.
fn two_streams_in_each() -> Vec<HeadBatches> {
    let batch = |number: u32| {
        let mut builder = LogBatchBuilder::new(TenantId::default());
        for app in [number, number + 1] {
            let labels = Labels::new([("app", format!("a{app}").as_str())]).unwrap();
            let id = StreamId::of(&TenantId::default(), Signal::Logs, &labels);
            builder.stream(id, &Arc::new(labels));
            for second in 0..10 {
                let line = format!("{app} {second}");
                builder.push(second, line.as_bytes(), &mut [("k", b"v")]);
            }
        }
        HeldBatch {
            id: BatchId(u128::from(number)),
            batch: Arc::new(builder.finish()),
        }
    };
    let head = |sequence: u64, batches| HeadBatches {
        head: HeadId {
            ingester: 5,
            sequence,
        },
        key: KEY,
        batches,
    };
    vec![
        head(1, vec![batch(0), batch(1)]),
        head(2, vec![batch(2), batch(3)]),
    ]
}

#[tokio::test]
async fn nothing_but_the_records_asked_for_crosses_the_wire() {
    let fake = Fake::with(two_streams_in_each());
    let config = RemoteConfig::default();
    let address = serve_fake(&fake, &config).await;
    let remote = Remote::new(config).unwrap();
    let select = |matcher| Selector {
        matchers: vec![matcher],
    };
    let rows = async |selectors: Vec<Selector>, range| {
        let request = RecentRequest {
            selectors,
            ..RecentRequest::all(TenantId::default(), range)
        };
        let recent = remote.search(&address).recent(request).await.unwrap();
        let batches = recent.heads.iter().flat_map(|head| &head.batches);
        let (mut rows, mut apps) = (Vec::new(), BTreeSet::new());
        for held in batches {
            rows.push(held.batch.len());
            apps.extend(held.batch.streams.iter().map(|s| s.labels.to_string()));
        }
        (rows, apps.into_iter().collect::<Vec<_>>().join(" "))
    };
    let one = || select(LabelMatcher::text("app", false, "a2"));
    let five = TimeRange::new(3, 8);
    let found = rows(vec![one()], five).await;
    assert_eq!(found, (vec![5, 5], "{app=\"a2\"}".to_owned()));
    let two = select(LabelMatcher::text("app", false, "a4"));
    let found = rows(vec![one(), two], TimeRange::ALL).await;
    assert_eq!(found.0, [10, 10, 10]);
    let regex = select(LabelMatcher::regex(
        "app",
        false,
        "a0",
        prefix("a0").unwrap(),
    ));
    assert_eq!(rows(vec![regex], five).await.0, [5]);
    let none = rows(vec![one()], TimeRange::new(90, 99)).await.0;
    assert!(none.is_empty());
}

/// A querier whose answer is longer than a message, and ends with how many segments it was asked for.
struct Sharer(Mutex<Option<ShareRequest>>);

#[async_trait]
impl QueryApi for Sharer {
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error> {
        let mut answer = vec![7; (2 << 20) + 5];
        answer.push(request.segments.len() as u8);
        *self.0.lock() = Some(request);
        Ok(answer.into())
    }

    async fn rules(&self, tenant: TenantId) -> Result<Bytes, Error> {
        Ok(format!("rules of {tenant}").into())
    }
}

#[tokio::test]
async fn a_share_of_a_query_arrives_as_it_was_asked_and_so_does_a_long_answer() {
    let config = RemoteConfig::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = Arc::new(Ports::default());
    let sharer = Arc::new(Sharer(Mutex::default()));
    ports.set_querier(Arc::clone(&sharer) as Arc<dyn QueryApi>);
    let serving = config.clone();
    tokio::spawn(async move { serve(listener, ports, &serving, std::future::pending()).await });
    let query = Remote::new(config).unwrap().query(&address);
    let segment = |id| ShareSegment {
        id: SegmentId(id),
        path: format!("segments/é{id}").into(),
        object_bytes: id << 40,
        first: -1,
        last: i64::MAX,
    };
    let request = ShareRequest {
        tenant: TenantId::new("team-a").unwrap(),
        share: Bytes::from_static(b"\0share"),
        range: TimeRange::new(-3, 9),
        segments: vec![segment(1), segment(2)],
        deletes: vec![(DeleteId(4), TimeRange::ALL, "{a=\"b\"}".into())],
        rows_max: 0,
        memory_bytes_max: 4 << 20,
        time: Duration::from_millis(59_999),
    };
    let answer = query.share(request.clone()).await.unwrap();
    assert_eq!((answer.len(), answer[answer.len() - 1]), ((2 << 20) + 6, 2));
    assert_eq!(sharer.0.lock().take(), Some(request.clone()));
    let small = ShareRequest {
        memory_bytes_max: 1 << 20,
        ..request
    };
    let refused = query.share(small).await.unwrap_err();
    assert!(matches!(refused, Error::Exhausted { .. }), "{refused}");
    let rules = query.rules(TenantId::new("team-a").unwrap()).await;
    assert_eq!(rules, Ok(Bytes::from_static(b"rules of team-a")));
}

#[tokio::test]
async fn owners_reconcile_and_pull() {
    let (_fake, remote, address) = connected(RemoteConfig::default()).await;
    let owner = remote.owner(&address);
    let request = ReconcileRequest {
        key: KEY,
        ids: vec![BatchId(7), BatchId(8)],
    };
    let answer = owner.reconcile(request).await.unwrap();
    assert_eq!(answer.flushed, [BatchId(7), BatchId(8)]);
    assert_eq!(answer.heads[0].ids, [BatchId(1), BatchId(u128::MAX)]);
    assert_eq!(answer.heads[0].head.sequence, 8);
    let wanted = vec![held(2, 1).id, held(3, 5).id, BatchId(0)];
    let pulled = owner.pull(KEY, wanted).await.unwrap();
    assert_eq!(pulled, [held(2, 1), held(3, 5)]);
}

#[tokio::test]
async fn a_tail_hands_on_batches_and_how_many_were_missed_and_ends_with_its_reader() {
    let (fake, remote, address) = connected(RemoteConfig::default()).await;
    let mut tail = remote.search(&address).tail();
    while fake.tail.receivers() == 0 {
        tokio::task::yield_now().await;
    }
    fake.tail.send(held(1, 1));
    assert_eq!(tail.recv().await, Ok(held(1, 1)));
    fake.tail.missed(5);
    assert_eq!(tail.recv().await, Err(TailError::Missed(5)));
    fake.tail.send(held(2, 1));
    assert_eq!(tail.recv().await, Ok(held(2, 1)));
    drop(tail);
    while fake.tail.receivers() > 0 {
        // The other side learns of it with the next message.
        fake.tail.send(held(3, 1));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tail_of_a_node_that_is_gone_ends() {
    let remote = Remote::new(RemoteConfig::default()).unwrap();
    let mut tail = remote.search("127.0.0.1:1").tail();
    assert_eq!(tail.recv().await, Err(TailError::Ended));
}

#[tokio::test]
async fn coordinators_call_and_watch() {
    let (_fake, remote, address) = connected(RemoteConfig::default()).await;
    let meta = remote.meta(&address);
    for (call, expected) in [
        (MetaCall::Raft, "Raft x"),
        (MetaCall::Propose, "Propose x"),
        (MetaCall::Status, "Status x"),
        (MetaCall::Join, "Join x"),
    ] {
        let answer = meta.call(call, Bytes::from("x")).await.unwrap();
        assert_eq!(answer, expected);
    }
    let mut changes = meta.watch(41).await.unwrap();
    assert_eq!(changes.next().await, Some(Ok(Bytes::from("41"))));
    let lost = Error::Unavailable("no leader".to_owned());
    assert_eq!(changes.next().await, Some(Err(lost)));
}

fn batches() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..40_u64, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_another_node_are_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut cache = StreamCache::default();
        let _ = wire::decode_ingest(&bytes, &mut cache);
        let _ = wire::decode_filed(&bytes, &mut cache);
        let _ = wire::decode_recent(&bytes, prefix);
        let _ = wire::decode_share(&Bytes::copy_from_slice(&bytes));
        let _ = wire::decode_reconcile(&bytes);
        let _ = wire::decode_reconciled(&bytes);
        let _ = wire::decode_call(&Bytes::from(bytes.clone()));
        let _ = wire::decode_number(&bytes);
    }

    #[test]
    fn a_cut_message_is_an_error_and_a_whole_one_what_was_sent(numbers in batches(), cut in 1..60_usize) {
        let sent: Vec<IngestRequest> = numbers.iter().map(|number| request(*number)).collect();
        let bytes = wire::encode_ingest(&sent);
        let mut cache = StreamCache::default();
        let arrived = wire::decode_ingest(&bytes, &mut cache).unwrap();
        prop_assert_eq!(format!("{arrived:?}"), format!("{sent:?}"));
        if bytes.len() > cut {
            prop_assert!(wire::decode_ingest(&bytes[..bytes.len() - cut], &mut cache).is_err());
        }
        let ids: Vec<BatchId> = sent.iter().map(|request| request.batch_id).collect();
        let request = ReconcileRequest { key: KEY, ids };
        let bytes = wire::encode_reconcile(&request);
        prop_assert_eq!(wire::decode_reconcile(&bytes), Ok(request));
        prop_assert!(wire::decode_reconcile(&bytes[..bytes.len() - 1]).is_err());
    }
}
