//! Delete requests, one pending segment at a time.

use std::sync::Arc;

use model::Kind;
use rpc::{Catalog, Command, DeleteRequest, HeadBatches, SegmentMeta};
use tokio::sync::oneshot;

use super::Worker;
use crate::Error;
use crate::deletes::Deletes;
use crate::task::Message;

impl Worker {
    /// Searches one pending segment, and rewrites it if need be; `false` when there is none.
    ///
    /// # Errors
    /// What stopped it; the segment stays pending.
    pub(super) async fn delete_one(&mut self, urgent: bool) -> Result<bool, Error> {
        let (catalog, now) = (self.meta.catalog(), (self.clock)());
        let Some(segment) = self.next_pending(&catalog) else {
            return Ok(false);
        };
        let done = self
            .merger
            .delete(Arc::clone(&segment), &catalog, now, urgent)
            .await;
        match done {
            Ok(()) => Ok(true),
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
            let search = tokio::task::spawn_blocking(move || {
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

    /// What the heads hold; `None` when the ingester has stopped.
    async fn recent(&self, request: &DeleteRequest) -> Option<Vec<HeadBatches>> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Recent {
            tenant: request.tenant.clone(),
            range: request.range,
            reply,
        };
        self.heads.upgrade()?.send(message).await.ok()?;
        answer.await.ok()
    }
}
