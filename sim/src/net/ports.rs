//! The ports of other processes, as one run of a process sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{BatchId, HeadKey, TenantId};
use rpc::{
    Changes, Error, HeldBatch, IngestApi, IngestRequest, MetaCall, MetaPeerApi, Network, OwnerApi,
    QueryApi, Recent, RecentRequest, ReconcileRequest, Reconciled, SearchApi, ShareRequest,
    TailReceiver,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Call, Door, Net, broken};
use crate::cost::{Costs, Processor};
use crate::invariants::Event;
use crate::life::Life;
use crate::mutants::Mutant;
use crate::records::{TENANTS_MAX, tenant};

/// Changes of a catalog that are on their way.
const CHANGES_MAX: usize = 8;

/// The way from one run of a process to all others.
pub(crate) struct Wires {
    pub(crate) net: Arc<Net>,
    pub(crate) from: Arc<Life>,
    pub(crate) mutant: Option<Mutant>,
    /// An ingester asks.
    pub(crate) among_ingesters: bool,
}

/// The ingester of a distributor's own process: no message is sent, and the work costs the same.
pub(crate) struct Within {
    pub(crate) ingester: ingester::Ingester,
    pub(crate) processor: Arc<Processor>,
    pub(crate) costs: Costs,
}

/// The way to one address.
struct Wire {
    net: Arc<Net>,
    from: Arc<Life>,
    to: Arc<str>,
    mutant: Option<Mutant>,
    among_ingesters: bool,
}

impl Wires {
    fn to(&self, address: &str) -> Arc<Wire> {
        Arc::new(Wire {
            net: Arc::clone(&self.net),
            from: Arc::clone(&self.from),
            to: address.into(),
            mutant: self.mutant,
            among_ingesters: self.among_ingesters,
        })
    }
}

impl Network for Wires {
    fn ingest(&self, address: &str) -> Arc<dyn IngestApi> {
        self.to(address)
    }
    fn search(&self, address: &str) -> Arc<dyn SearchApi> {
        self.to(address)
    }
    fn owner(&self, address: &str) -> Arc<dyn OwnerApi> {
        self.to(address)
    }
    fn query(&self, address: &str) -> Arc<dyn QueryApi> {
        self.to(address)
    }
    fn meta(&self, address: &str) -> Arc<dyn MetaPeerApi> {
        self.to(address)
    }
}

#[async_trait]
impl IngestApi for Within {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        let bytes = requests.iter().map(|r| r.batch.memory_bytes()).sum();
        self.processor.work(self.costs.of_filing(bytes)).await;
        self.ingester.ingest(requests).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.ingester.flush().await
    }
}

impl Wire {
    /// Calls the ingester at the other end.
    async fn ingester<T: Send + 'static, F>(
        &self,
        what: &'static str,
        bytes: usize,
        serve: impl Fn(ingester::Ingester) -> F + Send + Sync + 'static,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let to = Arc::clone(&self.to);
        let serve = move |door: Door| match door.ingester {
            Some(ingester) => serve(ingester).boxed(),
            None => {
                let starting = broken(&to, "its ingester has not started");
                async move { Err(starting) }.boxed()
            }
        };
        self.call(what, bytes, serve).await
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        bytes: usize,
        serve: impl Fn(Door) -> BoxFuture<'static, Result<T, Error>> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let call = Call {
            from: Arc::clone(&self.from),
            to: Arc::clone(&self.to),
            what,
            bytes,
        };
        self.net.call(call, Arc::new(serve)).await
    }

    fn coordinator(&self, door: Door) -> Result<meta::Node, Error> {
        let node = door.meta;
        node.ok_or_else(|| broken(&self.to, "its coordinator has not started"))
    }
}

#[async_trait]
impl IngestApi for Wire {
    async fn ingest(&self, requests: Vec<IngestRequest>) -> Result<(), Error> {
        let bytes = requests.iter().map(|r| r.batch.memory_bytes()).sum();
        self.ingester("ingest", bytes, move |ingester| {
            let requests = requests.clone();
            async move { ingester.ingest(requests).await }
        })
        .await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.ingester("flush", 0, |ingester| async move { ingester.flush().await })
            .await
    }
}

fn tenants_in(recent: &Recent) -> BTreeSet<TenantId> {
    let batches = recent.heads.iter().flat_map(|head| &head.batches);
    batches.map(|held| held.batch.tenant.clone()).collect()
}

/// Adds what the ingester holds of other tenants.
async fn with_others(
    ingester: &ingester::Ingester,
    request: RecentRequest,
    mut recent: Recent,
) -> Result<Recent, Error> {
    for other in (0..TENANTS_MAX).map(tenant) {
        if other != request.tenant {
            let of_other = RecentRequest {
                tenant: other,
                ..request.clone()
            };
            recent.heads.extend(ingester.recent(of_other).await?.heads);
        }
    }
    Ok(recent)
}

#[async_trait]
impl SearchApi for Wire {
    async fn recent(&self, request: RecentRequest) -> Result<Recent, Error> {
        let (checks, mutant) = (Arc::clone(&self.net.checks), self.mutant);
        let recent = self.ingester("recent", 0, move |ingester| {
            let (request, checks) = (request.clone(), Arc::clone(&checks));
            async move {
                let mut recent = ingester.recent(request.clone()).await?;
                let asked = request.tenant.clone();
                if mutant == Some(Mutant::ForeignHeads) {
                    recent = with_others(&ingester, request, recent).await?;
                }
                let told = tenants_in(&recent);
                checks.see(&Event::Told { asked, told });
                Ok(recent)
            }
        });
        let recent = recent.await?;
        Ok(match mutant {
            Some(mutant) if self.among_ingesters => mutant.between_ingesters(recent),
            _ => recent,
        })
    }

    fn tail(&self) -> TailReceiver {
        super::tail::follow(&self.net, &self.from, &self.to)
    }
}

#[async_trait]
impl OwnerApi for Wire {
    async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciled, Error> {
        self.ingester("reconcile", 0, move |ingester| {
            let request = request.clone();
            async move { ingester.reconcile(request).await }
        })
        .await
    }

    async fn pull(&self, key: HeadKey, ids: Vec<BatchId>) -> Result<Vec<HeldBatch>, Error> {
        self.ingester("pull", 0, move |ingester| {
            let ids = ids.clone();
            async move { ingester.pull(key, ids).await }
        })
        .await
    }
}

#[async_trait]
impl QueryApi for Wire {
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error> {
        for segment in &request.segments {
            self.net.checks.see(&Event::Read {
                life: self.from.number,
                path: segment.path.to_string(),
            });
        }
        let (to, net) = (Arc::clone(&self.to), Arc::clone(&self.net));
        let serve = move |door: Door| {
            let (to, net, request) = (Arc::clone(&to), Arc::clone(&net), request.clone());
            async move {
                let _doing = net.doing(door.life.number);
                match door.querier {
                    Some(querier) => querier.share(request).await,
                    None => Err(broken(&to, "its querier has not started")),
                }
            }
            .boxed()
        };
        Wire::call(self, "share", 0, serve).await
    }
}

#[async_trait]
impl MetaPeerApi for Wire {
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, Error> {
        let what = match call {
            MetaCall::Raft => "raft",
            MetaCall::Propose => "propose",
            MetaCall::Status => "status",
            MetaCall::Join => "join",
        };
        let (to, bytes) = (Arc::clone(&self.to), body.len());
        let serve = move |door: Door| {
            let (to, body) = (Arc::clone(&to), body.clone());
            async move {
                match door.meta {
                    Some(node) => node.call(call, body).await,
                    None => Err(broken(&to, "its coordinator has not started")),
                }
            }
            .boxed()
        };
        Wire::call(self, what, bytes, serve).await
    }

    async fn watch(&self, after: u64) -> Result<Changes, Error> {
        self.from.halt_if_over().await;
        let fate = self.net.fate();
        self.from.pause(fate.there).await;
        if fate.lost_there || !self.net.passes(&self.from.address, &self.to) {
            return Err(broken(&self.to, "the connection was lost"));
        }
        let door = self.net.door(&self.to)?;
        let life = Arc::clone(&door.life);
        let mut changes = self.coordinator(door)?.watch(after).await?;
        let (frames, stream) = mpsc::channel(CHANGES_MAX);
        let (net, from) = (Arc::clone(&self.net), Arc::clone(&self.from));
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    () = from.over() => return,
                    next = life.live(changes.next()) => next,
                };
                let fate = net.fate();
                from.pause(fate.back).await;
                let frame = match next {
                    Some(Some(frame)) if net.passes(&life.address, &from.address) => frame,
                    Some(None) => return,
                    _ => Err(broken(&life.address, "the connection was lost")),
                };
                if frame.is_err() {
                    drop(frames.send(frame).await);
                    return;
                }
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(stream)))
    }
}
