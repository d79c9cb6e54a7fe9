//! Batches that are not answered for while a delete request is closed, which names records of their
//! tenant and times: whoever closed it looks for such records in all heads, and what were acknowledged
//! after that look and before the end of the request would be shown again, though it was named.
//!
//! The batches are in their heads by then. A look at these heads that comes later finds them, and the
//! request stays active. Before one that came earlier, this ingester had said that it knows of the
//! closing: so they wait, and are acknowledged as records that came after the request.

use std::sync::Arc;
use std::time::Duration;

use model::LogBatch;
use rpc::{Catalog, Command, DeleteId, DeleteRequest, Error, MetaApi};
use tokio::time::{Instant, timeout_at};

/// How long a request may stay closed while somebody waits, at most. Well below what a distributor
/// gives a call (5 s): it would give up and begin anew, and nobody would ever open the request.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// Waits until no closed request names records of the batches. Closing takes a few round trips: one
/// that lasts longer than `patience`, or two seconds, is opened, for whoever closed it may be dead.
///
/// # Errors
/// The coordinator's, when the request cannot be opened.
pub(crate) async fn wait(
    meta: &dyn MetaApi,
    batches: &[Arc<LogBatch>],
    patience: Duration,
) -> Result<(), Error> {
    let mut catalog = meta.catalog();
    let mut waits: Option<(DeleteId, u64, Instant)> = None;
    while let Some((id, closed)) = closed_for(&catalog, batches) {
        let until = match waits {
            Some((of, at, until)) if (of, at) == (id, closed) => until,
            _ => Instant::now() + patience.min(PATIENCE_MAX),
        };
        waits = Some((id, closed, until));
        match timeout_at(until, meta.changed(catalog.version)).await {
            Ok(newer) => catalog = newer,
            Err(_) => {
                tracing::info!(delete = id.0, "opening a delete request that stays closed");
                meta.propose(Command::ReopenDelete(id, closed)).await?;
                catalog = meta.catalog();
            }
        }
    }
    Ok(())
}

/// A closed request that may name records of the batches, and its closing.
fn closed_for(catalog: &Catalog, batches: &[Arc<LogBatch>]) -> Option<(DeleteId, u64)> {
    catalog.deletes.iter().find_map(|(id, delete)| {
        let closed = delete.closed?;
        let mut batches = batches.iter();
        batches
            .any(|batch| names(&delete.request, batch))
            .then_some((*id, closed))
    })
}

fn names(request: &DeleteRequest, batch: &LogBatch) -> bool {
    let mut times = batch.timestamps.iter();
    request.tenant == batch.tenant && times.any(|at| request.range.contains(*at))
}
