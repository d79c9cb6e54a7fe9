//! Delete requests, one pending segment at a time; and their end.
//!
//! A request that is pending for nothing is closed first, so that nobody acknowledges its records
//! (`closed_deletes`), and all heads are looked at when every ingester has said that it knows. Records
//! that a query hid because of the request are then gone: what is acknowledged later is shown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Kind, TenantId, TimeRange};
use rpc::{
    Catalog, Command, DeleteId, DeleteRequest, HeadBatches, Lease, Outcome, RecentRequest,
    SegmentId, SegmentMeta,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::Worker;
use crate::Error;
use crate::deletes::Deletes;
use crate::merge::Removal;
use crate::task::Message;

/// The lease of ending delete requests.
const FINISH_LEASE: &str = "finish deletes";
/// A follower of the coordinator hears of a change within a few milliseconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Requests that somebody has closed, and the version at which.
fn closed(catalog: &Catalog) -> impl Iterator<Item = (DeleteId, u64)> {
    let deletes = catalog.deletes.iter();
    deletes.filter_map(|(id, delete)| Some((*id, delete.closed?)))
}

/// Whether a request is pending for the segment.
fn is_pending(catalog: &Catalog, segment: SegmentId) -> impl Fn(&DeleteId) -> bool {
    move |request| {
        let delete = catalog.deletes.get(request);
        delete.is_some_and(|delete| delete.pending.contains(&segment))
    }
}

/// What came of looking for a pending segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One is rewritten or passed, or the catalog has moved on; there may be more.
    Done,
    /// One was searched and waits for room on the disk; there may be more.
    Waits,
    /// There is none that can be worked on now.
    Nothing,
}

impl Worker {
    /// Searches one pending segment, and rewrites it if need be. Segments that cannot be read are passed
    /// over, and those that are known to need more room than the disk has.
    ///
    /// # Errors
    /// What stopped it; the segment stays pending.
    pub(super) async fn delete_one(&mut self, urgent: bool) -> Result<Step, Error> {
        while !self.stop.load(Ordering::Relaxed) {
            let catalog = self.meta.catalog();
            // Without one of them nothing is known of it.
            self.rewrites_waiting
                .retain(|segment, requests| requests.iter().all(is_pending(&catalog, *segment)));
            let Some(segment) = self.next_pending(&catalog) else {
                return Ok(Step::Nothing);
            };
            let known = self.rewrites_waiting.contains_key(&segment.id);
            if known && !self.make_sure_of_room(&[Arc::clone(&segment)]) {
                // Until the others are done.
                self.options.skip.insert(segment.id);
                continue;
            }
            let now = self.clock.now().await?;
            let lease = Lease::of_delete(segment.id);
            let delete = self
                .merger
                .delete(Arc::clone(&segment), &catalog, now, urgent);
            match self.leases.hold(&lease, delete).await {
                // Another ingester is at this one.
                Ok(None) => return Ok(Step::Nothing),
                Ok(Some(Removal::Done)) => {
                    self.rewrites_waiting.remove(&segment.id);
                    return Ok(Step::Done);
                }
                // Its search need not be done again before there is room.
                Ok(Some(Removal::NoRoom(requests))) => {
                    self.rewrites_waiting.insert(segment.id, requests);
                    return Ok(Step::Waits);
                }
                // The catalog has moved on: look again.
                Err(error) if error.kind() == Kind::Conflict => return Ok(Step::Done),
                Err(_) if self.stop.load(Ordering::Relaxed) => {}
                Err(error) => self.failed(error, &[segment])?,
            }
        }
        Ok(Step::Nothing)
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
        if ripe.is_empty() && closed(&self.meta.catalog()).next().is_none() {
            return Ok(());
        }
        let finish = self.finish_all(&ripe);
        self.leases.hold(FINISH_LEASE, finish).await.map(drop)
    }

    /// Requests that are pending for nothing, and whose records were last stored so long ago that no copy
    /// is on its way.
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
            let (fed, since) = self.deletes_since.entry(*id).or_insert((delete.fed, now));
            if *fed != delete.fed {
                (*fed, *since) = (delete.fed, now);
            }
            if delete.pending.is_empty() && now.duration_since(*since) >= wait {
                ripe.insert(*id);
            }
        }
        ripe
    }

    async fn finish_all(&self, ripe: &BTreeSet<DeleteId>) -> Result<(), Error> {
        let catalog = self.meta.catalog();
        // Whoever closed them has ended, or lost its lease.
        self.reopen(|_| true).await?;
        let deletes = catalog.deletes.iter();
        for (id, delete) in deletes.filter(|(id, _)| ripe.contains(*id)) {
            let compiled = Deletes::one(*id, &delete.request);
            if !delete.pending.is_empty() || compiled.is_empty() {
                continue;
            }
            // Nobody's answers wait for what this finds mostly.
            match self.is_gone(&compiled, &delete.request).await? {
                // Somebody who is behind would keep each of them closed for a while, in vain.
                Some(true) if !self.all_know(catalog.version, &delete.request.tenant).await => {
                    return Ok(());
                }
                Some(true) => self.finish_one(*id, &compiled, &delete.request).await?,
                Some(false) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Finishes a request, unless somebody has its records by now.
    async fn finish_one(
        &self,
        id: DeleteId,
        compiled: &Deletes,
        request: &DeleteRequest,
    ) -> Result<(), Error> {
        let closed = match self.meta.propose(Command::CloseDelete(id)).await {
            Ok(Outcome::Done { version }) => version,
            Ok(_) | Err(rpc::Error::Conflict(_)) => return Ok(()),
            Err(error) => {
                // The command may have come through all the same.
                self.reopen(|of| of == id).await?;
                return Err(error.into());
            }
        };
        let finished = self.finish_closed(id, closed, compiled, request).await;
        // One that is finished is not there any more.
        self.reopen(|of| of == id).await?;
        finished
    }

    /// Finishes a request that was closed at this version, if nobody has its records.
    async fn finish_closed(
        &self,
        id: DeleteId,
        closed: u64,
        compiled: &Deletes,
        request: &DeleteRequest,
    ) -> Result<(), Error> {
        if !self.all_know(closed, &request.tenant).await
            || self.is_gone(compiled, request).await? != Some(true)
        {
            return Ok(());
        }
        let finish = Command::FinishDelete(id, Some(closed));
        match self.meta.propose(finish).await {
            Ok(_) => {
                tracing::info!(delete = id.0, "deleted records are gone");
                Ok(())
            }
            // What moved from a head to a segment before is pending now.
            Err(rpc::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens those of these requests that are closed, so that what they name is acknowledged again.
    ///
    /// # Errors
    /// What the coordinator answered.
    async fn reopen(&self, those: impl Fn(DeleteId) -> bool) -> Result<(), Error> {
        let catalog = self.meta.catalog();
        for (id, version) in closed(&catalog).filter(|(id, _)| those(*id)) {
            let reopen = Command::ReopenDelete(id, version);
            self.meta.propose(reopen).await?;
        }
        Ok(())
    }

    /// Whether every ingester says in time that its catalog has this version. This one's has.
    async fn all_know(&self, version: u64, tenant: &TenantId) -> bool {
        let catalog = self.meta.catalog();
        let mut others = catalog.cluster.ingesters().filter(|m| m.id != self.node);
        let Some(network) = &self.network else {
            return others.next().is_none();
        };
        let until = Instant::now() + self.owner_timeout;
        for other in others {
            let search = network.search(&other.address);
            let knows = async {
                loop {
                    let nothing = RecentRequest::all(tenant.clone(), TimeRange::new(0, 0));
                    match search.recent(nothing).await {
                        Ok(recent) if recent.version >= version => return true,
                        Ok(_) => tokio::time::sleep(ASK_AGAIN_AFTER).await,
                        Err(_) => return false,
                    }
                }
            };
            if !timeout_at(until, knows).await.unwrap_or(false) {
                tracing::info!(
                    node = other.id.0,
                    "delete requests wait for an ingester that does not follow"
                );
                return false;
            }
        }
        true
    }

    /// Whether no head of any ingester holds such records; `None` when one does not tell.
    async fn is_gone(
        &self,
        compiled: &Deletes,
        request: &DeleteRequest,
    ) -> Result<Option<bool>, Error> {
        let Some(heads) = self.recent(request).await else {
            return Ok(None);
        };
        let compiled = compiled.clone();
        let search = self.blocking.run(move || {
            let mut heads = heads.iter();
            heads.any(|head| compiled.are_in_batches(&head.batches))
        });
        let held = search.await.map_err(|error| {
            Error::Stopped(format!(
                "searching heads for deleted records ended early: {error}"
            ))
        })?;
        Ok(Some(!held))
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
