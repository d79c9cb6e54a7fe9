//! Shares of other queriers' queries: done here, over nothing but what the request names.

use std::sync::Arc;

use crate::Querier;
use crate::run::{Guard, Shared, after, scopeguard};
use crate::source::{Hidden, Seen, Snapshot, SnapshotSource, Tally};
use async_trait::async_trait;
use bytes::Bytes;
use model::{Kind, TenantId};
use query::logql::engine::{EngineError, run_share};
use query::{Budget, BudgetError, ScanStats, SourceError};
use rpc::{Error, QueryApi, ShareRequest};

/// A share that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) stats: ScanStats,
    /// Rows that count against the query's limit.
    pub(crate) rows_taken: u64,
    /// What its sinks hold.
    pub(crate) saved: Bytes,
}

const FIGURES: usize = 9;

impl Done {
    /// Figures of eight bytes each, then what was saved.
    pub(crate) fn encode(&self) -> Bytes {
        let stats = &self.stats;
        let figures: [u64; FIGURES] = [
            stats.segments,
            stats.chunks,
            stats.chunks_skipped,
            stats.bytes_read,
            stats.bytes_processed,
            stats.rows_processed,
            stats.rows_matched,
            stats.duplicates,
            self.rows_taken,
        ];
        let mut out = Vec::with_capacity(FIGURES * 8 + self.saved.len());
        for figure in figures {
            out.extend_from_slice(&figure.to_le_bytes());
        }
        out.extend_from_slice(&self.saved);
        out.into()
    }

    /// # Errors
    /// `Unavailable` for what is none.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Done, SourceError> {
        let Some((figures, _)) = bytes.split_first_chunk::<{ FIGURES * 8 }>() else {
            let text = "the answer to a share of a query is too short";
            return Err(SourceError::Unavailable(text.into()));
        };
        let mut figures = figures.as_chunks::<8>().0.iter();
        let mut next = || figures.next().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(Done {
            stats: ScanStats {
                segments: next(),
                chunks: next(),
                chunks_skipped: next(),
                bytes_read: next(),
                bytes_processed: next(),
                rows_processed: next(),
                rows_matched: next(),
                duplicates: next(),
            },
            rows_taken: next(),
            saved: bytes.slice(FIGURES * 8..),
        })
    }
}

#[async_trait]
impl QueryApi for Querier {
    #[tracing::instrument(skip_all, fields(tenant = %request.tenant, segments = request.segments.len() as i64))]
    async fn share(&self, request: ShareRequest) -> Result<Bytes, Error> {
        let budget = Arc::new(Budget::new(request.memory_bytes_max, request.rows_max));
        let guard = Guard::new(&budget);
        let time = request.time;
        let done = self.shared.share(request, &guard);
        match tokio::time::timeout(time, done).await {
            Ok(done) => done,
            Err(_) => Err(Error::Unavailable(
                "a share of a query took longer than the query may".to_owned(),
            )),
        }
    }

    async fn rules(&self, tenant: TenantId) -> Result<Bytes, Error> {
        self.shared.told_rules(&tenant).await
    }
}

impl Shared {
    /// Shares wait for each other and not for queries, which wait for shares: so none waits for ever.
    async fn share(&self, request: ShareRequest, guard: &Guard) -> Result<Bytes, Error> {
        let permit = self.shares.enter(&request.tenant).await;
        let permit = permit.map_err(|_| Error::Exhausted {
            reason: "too many shares of queries wait".to_owned(),
            retry_after_seconds: 1,
        })?;
        let hidden = Hidden::of_share(request.range, &request.deletes).map_err(refusal)?;
        let snapshot = Snapshot::of_share(&request.tenant, &request.segments, hidden);
        let tally = Arc::new(Tally::default());
        let source = SnapshotSource {
            backend: self.backend.clone(),
            seen: Seen::of(&request.tenant, snapshot),
            tenant: request.tenant,
            cancelled: guard.cancelled.clone(),
            tally: Arc::clone(&tally),
            ends: after(request.time),
        };
        let budget = Arc::clone(&guard.budget);
        let (running, span) = (self.metrics.running.clone(), tracing::Span::current());
        let done = self.backend.blocking.run(move || {
            let _permit = permit;
            running.inc();
            let _ended = scopeguard(|| running.dec());
            let done = span.in_scope(|| run_share(&request.share, &source, &budget));
            done.map(|(saved, stats)| Done {
                stats,
                rows_taken: budget.rows_taken(),
                saved: saved.into(),
            })
        });
        let done = done.await;
        self.count(&tally);
        let done = done.map_err(|error| {
            Error::Internal(format!(
                "a share of a query ended without an answer: {error}"
            ))
        })?;
        self.metrics.shares_done.inc();
        done.map(|done| done.encode()).map_err(failure)
    }
}

fn failure(error: EngineError) -> Error {
    match error {
        EngineError::Source(error) => refusal(error),
        EngineError::Budget(error) => refusal(error.into()),
        error => match error.kind() {
            Kind::Invalid => Error::Invalid(error.to_string()),
            _ => Error::Internal(error.to_string()),
        },
    }
}

fn refusal(error: SourceError) -> Error {
    let text = error.to_string();
    match error {
        SourceError::Budget(BudgetError::Memory { .. } | BudgetError::Rows { .. }) => {
            Error::Exhausted {
                reason: text,
                retry_after_seconds: 0,
            }
        }
        SourceError::Budget(_) | SourceError::Unavailable(_) => Error::Unavailable(text),
        SourceError::Corrupt(_) => Error::Corrupt(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_arrives_as_it_was_and_less_than_that_is_refused() {
        let done = Done {
            stats: ScanStats {
                segments: 1,
                chunks: 2,
                chunks_skipped: 3,
                bytes_read: 4,
                bytes_processed: 5,
                rows_processed: 6,
                rows_matched: 7,
                duplicates: 8,
            },
            rows_taken: u64::MAX,
            saved: Bytes::from_static(b"saved"),
        };
        let bytes = done.encode();
        assert_eq!(Done::decode(&bytes), Ok(done));
        assert!(Done::decode(&bytes.slice(..FIGURES * 8 - 1)).is_err());
    }
}
