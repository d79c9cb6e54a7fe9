//! A querier over records that a test puts where it wants them: heads, segments, or both.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use model::{
    BatchId, HeadId, HeadKey, Labels, LogBatch, LogBatchBuilder, NodeId, RingVersion, Shard,
    Signal, Slot, StreamId, TenantId, Timestamp,
};
use parking_lot::Mutex;
use prometheus::Registry;
use querier::{Config, Metrics, Querier, Sources, http_router};
use rpc::{
    Catalog, Command, CoveredHeads, Error, HeadBatches, HeldBatch, Member, MemberState, MetaApi,
    Outcome, Recent, RecentRequest, RoleSet, SearchApi, SegmentId, SegmentMeta, TailReceiver,
    TailSender, TenantSegment,
};
use store::ObjectStorage;
use tower::ServiceExt;

/// 2023-11-14T22:13:20Z
pub(crate) const NOW: Timestamp = 1_700_000_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Runs one case of a property on a runtime of its own.
pub(crate) fn block_on<F: Future>(case: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(case)
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) tenant: &'static str,
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    pub(crate) at: Timestamp,
    pub(crate) line: String,
    pub(crate) metadata: Vec<(&'static str, String)>,
}

/// A record of the default tenant, so many seconds before [`NOW`].
pub(crate) fn record(app: &'static str, seconds_ago: i64, line: &str) -> Record {
    Record {
        tenant: TenantId::DEFAULT,
        labels: vec![("app", app)],
        at: NOW - seconds_ago * SECOND,
        line: line.to_owned(),
        metadata: Vec::new(),
    }
}

impl Record {
    pub(crate) fn of(mut self, tenant: &'static str) -> Record {
        self.tenant = tenant;
        self
    }

    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Record {
        self.metadata.push((key, value.to_owned()));
        self
    }

    pub(crate) fn label(mut self, name: &'static str, value: &'static str) -> Record {
        self.labels.push((name, value));
        self
    }
}

fn head_of(head: HeadId, batches: Vec<Arc<LogBatch>>) -> HeadBatches {
    let held = |(at, batch)| HeldBatch {
        id: BatchId(u128::from(head.ingester) << 96 | u128::from(head.sequence) << 64 | at as u128),
        batch,
    };
    HeadBatches {
        head,
        key: HeadKey {
            shard: Shard(0),
            slot: Slot(0),
            ring: RingVersion(1),
        },
        batches: batches.into_iter().enumerate().map(held).collect(),
    }
}

/// The records as batches, one for each tenant, streams side by side, otherwise in this order.
pub(crate) fn batches(records: &[Record]) -> Vec<Arc<LogBatch>> {
    let mut tenants: BTreeMap<&str, BTreeMap<Labels, Vec<&Record>>> = BTreeMap::new();
    for record in records {
        let labels = Labels::new(record.labels.iter().copied()).unwrap();
        let streams = tenants.entry(record.tenant).or_default();
        streams.entry(labels).or_default().push(record);
    }
    let mut batches = Vec::new();
    for (tenant, streams) in tenants {
        let tenant = TenantId::new(tenant).unwrap();
        let mut builder = LogBatchBuilder::new(tenant.clone());
        for (labels, records) in streams {
            let id = StreamId::of(&tenant, Signal::Logs, &labels);
            builder.stream(id, &Arc::new(labels));
            for record in records {
                let mut pairs: Vec<(&str, &[u8])> = record
                    .metadata
                    .iter()
                    .map(|(key, value)| (*key, value.as_bytes()))
                    .collect();
                builder.push(record.at, record.line.as_bytes(), &mut pairs);
            }
        }
        batches.push(Arc::new(builder.finish()));
    }
    batches
}

pub(crate) struct FakeSearch {
    heads: Mutex<Vec<HeadBatches>>,
    pub(crate) tail: TailSender,
    /// What `recent` answers instead.
    failure: Mutex<Option<Failure>>,
    /// Joins the heads as soon as `recent` was asked the next time.
    later: Mutex<Vec<HeadBatches>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Unavailable,
    /// It never answers.
    Hangs,
}

#[async_trait]
impl SearchApi for FakeSearch {
    async fn recent(&self, _: RecentRequest) -> Result<Recent, Error> {
        let failure = *self.failure.lock();
        match failure {
            None => {
                let mut heads = self.heads.lock();
                let seen = heads.clone();
                heads.append(&mut self.later.lock());
                Ok(Recent {
                    heads: seen,
                    version: 0,
                })
            }
            Some(Failure::Unavailable) => Err(Error::Unavailable("ingester 1 is down".into())),
            Some(Failure::Hangs) => std::future::pending().await,
        }
    }

    fn tail(&self) -> TailReceiver {
        self.tail.subscribe()
    }
}

#[derive(Default)]
pub(crate) struct FakeMeta {
    catalog: Mutex<Arc<Catalog>>,
}

#[async_trait]
impl MetaApi for FakeMeta {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.lock())
    }

    async fn changed(&self, _: u64) -> Arc<Catalog> {
        std::future::pending().await
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let mut catalog = self.catalog.lock();
        let mut machine = meta::StateMachine::new(Arc::clone(&*catalog));
        let outcome = machine.apply(&command)?;
        *catalog = Arc::clone(machine.catalog());
        Ok(outcome)
    }
}

pub(crate) struct World {
    pub(crate) search: Arc<FakeSearch>,
    pub(crate) meta: Arc<FakeMeta>,
    pub(crate) storage: ObjectStorage,
    pub(crate) router: Router,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Config {
            query_workers: 2,
            ..Config::default()
        })
    }

    pub(crate) fn with(config: Config) -> World {
        World::over(config, ObjectStorage::in_memory())
    }

    pub(crate) fn over(config: Config, storage: ObjectStorage) -> World {
        World::keeping(config, storage, std::time::Duration::ZERO)
    }

    /// Records older than `retention` have expired.
    pub(crate) fn keeping(
        config: Config,
        storage: ObjectStorage,
        retention: std::time::Duration,
    ) -> World {
        let search = Arc::new(FakeSearch {
            heads: Mutex::default(),
            tail: TailSender::new(64, 32 << 20),
            failure: Mutex::default(),
            later: Mutex::default(),
        });
        let meta = Arc::new(FakeMeta::default());
        let sources = Sources {
            search: Arc::clone(&search) as Arc<dyn SearchApi>,
            meta: Arc::clone(&meta) as Arc<dyn MetaApi>,
            storage: storage.clone(),
            retention,
        };
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let querier = Querier::new(config, sources, metrics, Arc::new(|| NOW));
        World {
            search,
            meta,
            storage,
            router: http_router(querier),
        }
    }

    pub(crate) fn fail(&self, failure: Option<Failure>) {
        *self.search.failure.lock() = failure;
    }

    /// Makes so many queriers known, number 1 at `node-1` and so on.
    pub(crate) fn queriers(&self, count: u64) {
        let mut catalog = self.meta.catalog.lock();
        let members = &mut Arc::make_mut(&mut *catalog).cluster.members;
        for id in (1..=count).map(NodeId) {
            let roles = RoleSet {
                querier: true,
                ..RoleSet::default()
            };
            let member = Member {
                id,
                address: format!("node-{}", id.0).into(),
                zone: "".into(),
                roles,
                state: MemberState::Active,
            };
            members.insert(id, member);
        }
    }

    /// Puts records into a head of their own.
    pub(crate) fn head(&self, records: &[Record]) -> HeadId {
        let mut heads = self.search.heads.lock();
        let head = HeadId {
            ingester: 1,
            sequence: heads.len() as u64 + 1,
        };
        // Small batches, as they come from clients.
        let batches = records.chunks(3).flat_map(batches).collect();
        heads.push(head_of(head, batches));
        head
    }

    /// Records that arrive just after the next look at the heads.
    pub(crate) fn head_later(&self, records: &[Record]) {
        let head = HeadId {
            ingester: 2,
            sequence: 1,
        };
        let head = head_of(head, batches(records));
        self.search.later.lock().push(head);
    }

    /// Says that the records of a head are in segments.
    pub(crate) fn cover(&self, head: HeadId) {
        let mut catalog = self.meta.catalog.lock();
        let covered = &mut Arc::make_mut(&mut *catalog).covered;
        let entry: &mut CoveredHeads = covered.entry(head.ingester).or_default();
        entry.also.insert(head.sequence);
    }

    /// Puts each record where its bits say: the lowest `heads` of them are heads, the others of
    /// `places` are segments.
    pub(crate) async fn place<'a>(
        &self,
        heads: u32,
        places: u32,
        records: impl Iterator<Item = (&'a Record, u8)> + Clone,
    ) {
        for place in 0..places {
            let here = records.clone().filter(|(_, bits)| bits >> place & 1 != 0);
            let here: Vec<Record> = here.map(|(record, _)| record.clone()).collect();
            if here.is_empty() {
                continue;
            }
            if place < heads {
                self.head(&here);
            } else {
                self.segment(&here).await;
            }
        }
    }

    /// Writes records as a segment of small chunks; returns its path.
    pub(crate) async fn segment(&self, records: &[Record]) -> Arc<str> {
        self.segment_in_chunks(200, records).await
    }

    /// Writes records as a segment of chunks of so many bytes; returns its path.
    pub(crate) async fn segment_in_chunks(&self, bytes: usize, records: &[Record]) -> Arc<str> {
        let options = segment::EncodeOptions {
            chunk_bytes: bytes,
            ..segment::EncodeOptions::default()
        };
        let mut object = Vec::new();
        let encoded = segment::encode(&batches(records), &options, &mut object).unwrap();
        let number = self.meta.catalog().last_segment + 1;
        let path: Arc<str> = format!("segments/{number}").into();
        self.storage
            .put(&path, vec![Bytes::from(object)])
            .await
            .unwrap();
        self.adopt(&path, &encoded);
        path
    }

    /// Puts a segment that is stored already into the catalog.
    pub(crate) fn adopt(&self, path: &Arc<str>, encoded: &segment::Encoded) {
        let mut next = Catalog::clone(&self.meta.catalog());
        next.version += 1;
        next.last_segment += 1;
        let id = SegmentId(next.last_segment);
        let meta = SegmentMeta {
            id,
            signal: Signal::Logs,
            path: Arc::clone(path),
            object_bytes: encoded.object_bytes,
            created: NOW,
            level: 0,
            tenants: encoded
                .tenants
                .iter()
                .map(|tenant| TenantSegment {
                    tenant: tenant.tenant.clone(),
                    records: tenant.records,
                    content_bytes: tenant.content_bytes,
                    first: tenant.first,
                    last: tenant.last,
                })
                .collect(),
        };
        next.segments.insert(id, Arc::new(meta));
        *self.meta.catalog.lock() = Arc::new(next);
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            status,
            kind,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

/// Percent-encodes a parameter.
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => (byte as char).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
