//! Delete requests, one pending segment at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Kind;
use rpc::{
    Catalog, Command, DeleteId, DeleteRequest, HeadBatches, Lease, RecentRequest, SegmentMeta,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Worker;
use crate::Error;
use crate::deletes::Deletes;
use crate::task::Message;

/// The lease of ending delete requests.
const FINISH_LEASE: &str = "finish deletes";

impl Worker {
    /// Searches one pending segment, and rewrites it if need be; `false` when there is none. Segments
    /// that cannot be read are passed over.
    ///
    /// # Errors
    /// What stopped it; the segment stays pending.
    pub(super) async fn delete_one(&mut self, urgent: bool) -> Result<bool, Error> {
        while !self.stop.load(Ordering::Relaxed) {
            let catalog = self.meta.catalog();
            let Some(segment) = self.next_pending(&catalog) else {
                return Ok(false);
            };
            let now = self.clock.now().await?;
            let lease = Lease::of_delete(segment.id);
            let delete = self
                .merger
                .delete(Arc::clone(&segment), &catalog, now, urgent);
            match self.leases.hold(&lease, delete).await {
                // Another ingester is at this one.
                Ok(None) => return Ok(false),
                Ok(Some(())) => return Ok(true),
                // The catalog has moved on: look again.
                Err(error) if error.kind() == Kind::Conflict => return Ok(true),
                Err(_) if self.stop.load(Ordering::Relaxed) => {}
                Err(error) => self.failed(error, &[segment])?,
            }
        }
        Ok(false)
    }

    /// Oldest requests first.
    fn next_pending(&self, catalog: &Catalog) -> Option<Arc<SegmentMeta>> {
        catalog.deletes.iter().find_map(|(id, delete)| {
            let mut pending = delete.pending.iter();
            let segment = pending.find(|segment| !self.options.skip.contains(segment))?;
            let understood = !Deletes::one(*id, &delete.request).is_empty();
            understood.then(|| catalog.segments.get(segment).cloned())?
        })
    }

    /// Finishes the requests of which no segment and no head holds records any more.
    ///
    /// # Errors
    /// What the coordinator answered.
    pub(super) async fn finish_deletes(&mut self) -> Result<(), Error> {
        let ripe = self.ripe_deletes(Instant::now());
        if ripe.is_empty() {
            return Ok(());
        }
        let finish = self.finish_all(&ripe);
        self.leases.hold(FINISH_LEASE, finish).await.map(drop)
    }

    /// Requests that are pending for nothing and known here for so long that no copy is on its way.
    fn ripe_deletes(&mut self, now: Instant) -> BTreeSet<DeleteId> {
        let catalog = self.meta.catalog();
        let mut others = catalog.cluster.ingesters().filter(|m| m.id != self.node);
        let wait = match others.next() {
            Some(_) => self.late_copies,
            None => Duration::ZERO,
        };
        self.deletes_since
            .retain(|id, _| catalog.deletes.contains_key(id));
        let mut ripe = BTreeSet::new();
        for (id, delete) in &catalog.deletes {
            let since = *self.deletes_since.entry(*id).or_insert(now);
            if delete.pending.is_empty() && now.duration_since(since) >= wait {
                ripe.insert(*id);
            }
        }
        ripe
    }

    async fn finish_all(&self, ripe: &BTreeSet<DeleteId>) -> Result<(), Error> {
        let catalog = self.meta.catalog();
        let deletes = catalog.deletes.iter();
        for (id, delete) in deletes.filter(|(id, _)| ripe.contains(*id)) {
            let compiled = Deletes::one(*id, &delete.request);
            if !delete.pending.is_empty() || compiled.is_empty() {
                continue;
            }
            // What moves from a head to a segment meanwhile is pending then, and the coordinator
            // refuses.
            let Some(heads) = self.recent(&delete.request).await else {
                return Ok(());
            };
            let search = self.blocking.run(move || {
                let mut heads = heads.iter();
                heads.any(|head| compiled.are_in_batches(&head.batches))
            });
            let held = search.await.map_err(|error| {
                Error::Stopped(format!(
                    "searching heads for deleted records ended early: {error}"
                ))
            })?;
            if held {
                continue;
            }
            match self.meta.propose(Command::FinishDelete(*id)).await {
                Ok(_) => tracing::info!(delete = id.0, "deleted records are gone"),
                Err(rpc::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What the heads of all ingesters hold; `None` when one of them does not tell: what it holds
    /// would be stored after the request is finished.
    async fn recent(&self, request: &DeleteRequest) -> Option<Vec<HeadBatches>> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Recent {
            tenant: request.tenant.clone(),
            range: request.range,
            reply,
        };
        self.heads.upgrade()?.send(message).await.ok()?;
        let mut heads = answer.await.ok()?;
        let catalog = self.meta.catalog();
        for other in catalog.cluster.ingesters().filter(|m| m.id != self.node) {
            let recent = RecentRequest::all(request.tenant.clone(), request.range);
            let search = self.network.as_ref()?.search(&other.address);
            let recent = timeout(self.owner_timeout, search.recent(recent)).await;
            match recent {
                Ok(Ok(recent)) => heads.extend(recent.heads),
                _ => {
                    tracing::info!(
                        node = other.id.0,
                        "delete requests wait for an ingester that does not answer"
                    );
                    return None;
                }
            }
        }
        Some(heads)
    }
}
