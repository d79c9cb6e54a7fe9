//! The records of one tenant, wherever they are: heads of ingesters and segments of the catalog.
//!
//! ```text
//! recent() ─▶ catalog() ─▶ open segments ─▶ plan ─▶ read filters ─▶ contest ─▶ chunks ─▶ sinks
//!    heads not covered ──▶ search, sort, drop copies ────────────────┘
//! ```
//! Every arrow between reads is a barrier at which all reads of a kind are under way together, so
//! that a slow object store costs three round trips and not one for each segment.

mod batches;
mod contest;
mod filters;
mod head_outcomes;
mod heads;
mod hidden;
mod patterns;
mod refine;
mod rows;
mod scan;
mod search;
mod slices;
mod snapshot;
mod spread;
mod streams;
mod workers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::{StreamExt, TryStreamExt};
use model::{Selector, TenantId, TimeRange, Timestamp};
use parking_lot::Mutex;
use query::{
    Budget, Reach, ScanOrder, ScanRequest, ScanStats, ShareSink, Sink, Source, SourceError,
};
use rpc::{MetaApi, SearchApi, SegmentMeta};
use runtime::Blocking;
use segment::{Plan, ScanSpec, Segment};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::ShareMetrics;
use crate::peers::Peers;
use crate::segments::Segments;
pub(crate) use batches::BatchSource;
use heads::Heads;
pub(crate) use hidden::{Hidden, Hiding};
pub(crate) use patterns::Counts;
use scan::Form;
pub(crate) use scan::TemplateSink;
pub(crate) use snapshot::Snapshot;
pub(crate) use streams::{Volumes, Wanted};

/// The start of the step that a time is in; steps begin at multiples of their length.
pub(crate) fn step_of(at: Timestamp, step: i64) -> Timestamp {
    at.saturating_sub(at.rem_euclid(step))
}

/// What all queries of a querier share.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) search: Arc<dyn SearchApi>,
    pub(crate) meta: Arc<dyn MetaApi>,
    pub(crate) segments: Segments,
    pub(crate) filters: store::RangeCache,
    pub(crate) runtime: Handle,
    pub(crate) blocking: Blocking,
    /// Threads of one scan, at least 1.
    pub(crate) workers: usize,
    /// Reads of one scan under way at once, at least 1.
    pub(crate) reads_max: usize,
    pub(crate) clock: crate::Clock,
    pub(crate) hiding: Hiding,
    /// Others that may do a share of a scan, once they are known.
    pub(crate) peers: Arc<OnceLock<Peers>>,
    /// Stored bytes from which on a scan is spread over queriers; 0 for never.
    pub(crate) spread_bytes: u64,
    pub(crate) shares: ShareMetrics,
}

/// The records of one tenant, for one query: all its scans see one [`Snapshot`], and those of its other
/// tenants the same version of the catalog.
pub(crate) struct SnapshotSource {
    pub(crate) backend: Backend,
    pub(crate) tenant: TenantId,
    /// Ends waiting for reads when the query is over, whatever the reason.
    pub(crate) cancelled: CancellationToken,
    pub(crate) tally: Arc<Tally>,
    /// Taken by the first scan; that of all tenants.
    pub(crate) seen: Arc<Seen>,
    /// When the query must be done.
    pub(crate) ends: Instant,
}

/// What a query sees, by tenant.
pub(crate) struct Seen(Mutex<BTreeMap<TenantId, Sight>>);

/// What it sees of one tenant.
#[derive(Default)]
struct Sight {
    snapshot: Option<Arc<Snapshot>>,
    /// What its scans will ask for, when that is known.
    foreseen: Option<Reach>,
}

impl Seen {
    /// Of these tenants nothing yet.
    pub(crate) fn by<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> Arc<Self> {
        let tenants = tenants.into_iter().cloned();
        let sights = tenants.map(|tenant| (tenant, Sight::default()));
        Arc::new(Seen(Mutex::new(sights.collect())))
    }

    /// This, and no more.
    pub(crate) fn of(tenant: &TenantId, snapshot: Snapshot) -> Arc<Self> {
        let sight = Sight {
            snapshot: Some(Arc::new(snapshot)),
            foreseen: None,
        };
        Arc::new(Seen(Mutex::new([(tenant.clone(), sight)].into())))
    }
}

/// Where the records of a query came from; for the `stats` of its answer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) head_batches: AtomicU64,
    pub(crate) head_rows: AtomicU64,
    pub(crate) head_bytes: AtomicU64,
    pub(crate) head_rows_matched: AtomicU64,
    pub(crate) chunks: AtomicU64,
    pub(crate) chunk_rows: AtomicU64,
    pub(crate) chunk_bytes: AtomicU64,
    pub(crate) read_nanos: AtomicU64,
    /// What of this other queriers looked at.
    pub(crate) share_chunks: AtomicU64,
    pub(crate) share_rows: AtomicU64,
    pub(crate) share_bytes: AtomicU64,
}

/// A segment that may hold matching records, and where.
pub(crate) struct Planned {
    pub(crate) meta: Arc<SegmentMeta>,
    pub(crate) segment: Segment,
    pub(crate) plan: Plan,
}

impl Backend {
    /// Opens segments side by side; the answer is in the same order.
    pub(crate) async fn open(
        &self,
        metas: &[Arc<SegmentMeta>],
    ) -> Result<Vec<Segment>, SourceError> {
        futures::stream::iter(metas.iter().cloned())
            .map(|meta| async move { self.segments.open(&meta).await })
            .buffered(self.reads_max)
            .try_collect()
            .await
    }
}

impl SnapshotSource {
    /// What this query sees, with all that a scan of these streams and times asks for.
    ///
    /// # Errors
    /// When the heads cannot be asked, or when the query is over.
    pub(crate) fn snapshot(
        &self,
        selector: &Selector,
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Arc<Snapshot>, SourceError> {
        let mut seen = self.seen.0.lock();
        let own = seen.get(&self.tenant);
        if let Some(snapshot) = own.and_then(|sight| sight.snapshot.as_ref())
            && snapshot.covers(selector, range)
        {
            return Ok(Arc::clone(snapshot));
        }
        let is_foreseen = seen.values().any(|sight| sight.foreseen.is_some());
        let mut reaches = Vec::new();
        for (tenant, sight) in &mut *seen {
            let (is_own, foreseen) = (*tenant == self.tenant, sight.foreseen.take());
            let reach = match foreseen {
                Some(reach) if !is_own || reach.covers(selector, range) => reach,
                // What was not foreseen may be followed by anything.
                Some(_) => Reach::everything(),
                None if is_own || !is_foreseen => Reach::everything(),
                None => continue,
            };
            reaches.push((tenant.clone(), reach));
        }
        let taking = Snapshot::take(&self.backend, reaches);
        for snapshot in self.wait(budget, taking)? {
            let sight = seen.entry(snapshot.tenant().clone()).or_default();
            sight.snapshot = Some(Arc::new(snapshot));
        }
        let own = seen
            .get(&self.tenant)
            .and_then(|sight| sight.snapshot.clone());
        own.ok_or_else(|| {
            let text = "a query was given no snapshot of its tenant, a defect";
            SourceError::Unavailable(text.to_owned())
        })
    }

    /// Runs reads to their end, unless the query ends first.
    pub(crate) fn wait<T>(
        &self,
        budget: &Budget,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        self.backend.blocking.wait(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => {
                    budget.check()?;
                    Err(query::BudgetError::Cancelled.into())
                }
                done = work => done,
            }
        })
    }

    /// The segments of a snapshot with what a scan in this order is to read of them; those without are
    /// left out.
    pub(crate) fn plan(
        &self,
        metas: &[Arc<SegmentMeta>],
        spec: &ScanSpec<'_>,
        order: ScanOrder,
        budget: &Budget,
        stats: &mut ScanStats,
    ) -> Result<Vec<Planned>, SourceError> {
        stats.segments += metas.len() as u64;
        let segments = self.wait(budget, self.backend.open(metas))?;
        let workers = self.backend.workers;
        let mut planned: Vec<Planned> = workers::map(workers, &segments, |at, segment| {
            budget.check()?;
            let meta = Arc::clone(&metas[at]);
            let plan = segment.plan(spec);
            let segment = segment.clone();
            Ok::<_, SourceError>(Planned {
                meta,
                segment,
                plan,
            })
        })?;
        self.filter(&mut planned, order, budget, stats)?;
        Ok(planned)
    }

    fn spec<'a>(&'a self, request: &'a ScanRequest) -> ScanSpec<'a> {
        ScanSpec {
            tenant: &self.tenant,
            selector: &request.selector,
            range: request.range,
            line_filter: &request.line_filter,
        }
    }

    /// As [`scan`](Source::scan); in blocks of the other form, lines are their patterns.
    pub(crate) fn scan_as<K: Sink>(
        &self,
        form: Form,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.scan_by(
            request,
            budget,
            new_sink,
            |request, planned, heads, hidden| {
                let scan = scan::Scan::new(self, form, request, budget, planned, heads)?;
                scan.without(hidden).run(new_sink)
            },
        )
    }

    /// A scan of what recent batches and planned chunks hold; `work` makes sinks of them. Its request
    /// has the range that is left when what is hidden as a whole is taken off.
    fn scan_by<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
        work: impl FnOnce(&ScanRequest, &[Planned], &Heads, &Hidden) -> Scanned<K>,
    ) -> Scanned<K> {
        let mut stats = ScanStats::default();
        if request.range.is_empty() {
            return Ok((vec![new_sink()], stats));
        }
        let snapshot = self.snapshot(&request.selector, request.range, budget)?;
        let kept = snapshot.hidden().kept(request.range);
        if kept.is_empty() {
            return Ok((vec![new_sink()], stats));
        }
        let request = &ScanRequest {
            range: kept,
            ..request.clone()
        };
        let search = heads::Search {
            tenant: &self.tenant,
            request,
            hidden: snapshot.hidden(),
            budget,
            workers: self.backend.workers,
        };
        let heads = search.run(snapshot.recent(request.range), &mut stats)?;
        self.tally.add_heads(&heads, &stats);
        let spec = self.spec(request);
        let segments = snapshot.segments(request.range);
        let mut planned = self.plan(&segments, &spec, request.order, budget, &mut stats)?;
        for Planned { plan, .. } in &mut planned {
            plan.retain(|chunk| !snapshot.hidden().hides_all(chunk, request.range));
            if let Some(outcomes) = &request.outcomes {
                plan.ask(outcomes);
            }
        }
        let (sinks, scanned) = work(request, &planned, &heads, snapshot.hidden())?;
        stats.add(&scanned);
        Ok((sinks, stats))
    }
}

/// The sinks of a scan, and what was read for them.
type Scanned<K> = Result<(Vec<K>, ScanStats), SourceError>;

impl Source for SnapshotSource {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        self.scan_as(Form::Lines, request, budget, new_sink)
    }

    fn scan_share<K: ShareSink>(
        &self,
        request: &ScanRequest,
        share: &dyn Fn() -> Option<Vec<u8>>,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        match self.spread(request, share, budget, new_sink)? {
            Some(done) => Ok(done),
            None => self.scan(request, budget, new_sink),
        }
    }

    fn foresee(&self, reach: &Reach) {
        let mut seen = self.seen.0.lock();
        let sight = seen.entry(self.tenant.clone()).or_default();
        if sight.snapshot.is_none() {
            let foreseen = sight.foreseen.get_or_insert_default();
            for selector in &reach.selectors {
                foreseen.add(selector.clone(), reach.range);
            }
        }
    }
}

impl Tally {
    /// Counts what another querier did.
    pub(crate) fn add_share(&self, stats: &ScanStats) {
        for (total, more) in [
            (&self.chunks, stats.chunks),
            (&self.chunk_rows, stats.rows_processed),
            (&self.chunk_bytes, stats.bytes_processed),
            (&self.share_chunks, stats.chunks),
            (&self.share_rows, stats.rows_processed),
            (&self.share_bytes, stats.bytes_processed),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn add_heads(&self, heads: &Heads, stats: &ScanStats) {
        let matched: usize = heads.streams.iter().map(|stream| stream.rows.len()).sum();
        for (total, more) in [
            (&self.head_batches, stats.chunks),
            (&self.head_rows, stats.rows_processed),
            (&self.head_bytes, stats.bytes_processed),
            (&self.head_rows_matched, matched as u64),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
    }
}
