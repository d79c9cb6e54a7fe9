//! Delete requests, one pending segment at a time.

use std::sync::Arc;

use model::Kind;
use rpc::{Catalog, Command, DeleteRequest, HeadBatches, Lease, RecentRequest, SegmentMeta};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Worker;
use crate::Error;
use crate::deletes::Deletes;
use crate::task::Message;

/// The lease of ending delete requests.
const FINISH_LEASE: &str = "finish deletes";

impl Worker {
    /// Searches one pending segment, and rewrites it if need be; `false` when there is none.
    ///
    /// # Errors
    /// What stopped it; the segment stays pending.
    pub(super) async fn delete_one(&mut self, urgent: bool) -> Result<bool, Error> {
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
            Ok(None) => Ok(false),
            Ok(Some(())) => Ok(true),
            // The catalog has moved on: look again.
            Err(error) if error.kind() == Kind::Conflict => Ok(true),
            Err(error) => {
                self.failed(&error, &[segment]);
                Err(error)
            }
        }
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
    pub(super) async fn finish_deletes(&self) -> Result<(), Error> {
        let catalog = self.meta.catalog();
        let mut deletes = catalog.deletes.values();
        if !deletes.any(|delete| delete.pending.is_empty()) {
            return Ok(());
        }
        drop(catalog);
        let finished = self.leases.hold(FINISH_LEASE, self.finish_all()).await;
        finished.map(drop)
    }

    async fn finish_all(&self) -> Result<(), Error> {
        let catalog = self.meta.catalog();
        for (id, delete) in &catalog.deletes {
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
