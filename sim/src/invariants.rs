//! What must be true at every moment of every run. One file for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{HeadId, HeadKey, TenantId, Timestamp};
use parking_lot::Mutex;
use rpc::Catalog;

use crate::deletes::Asked;
use crate::records::Sent;
use crate::trace::Trace;

mod acknowledged_is_found;
mod deleted_is_not_shown;
mod every_head_is_stored;
mod expired_is_not_shown;
mod never_twice;
mod one_catalog_version;
mod one_leader_per_term;
mod released_wal_is_covered;
mod requests;
mod rings_only_grow;
mod tails_show_once;
mod tails_tell_gaps;
mod tenants_are_apart;

/// The number of a record; its line says it.
pub(crate) type RecordNumber = u64;

/// Something that an invariant speaks of.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Somebody tries to store these records.
    Sent(Vec<(RecordNumber, Sent)>),
    /// A distributor has said that they are stored.
    Acknowledged(Vec<RecordNumber>),
    /// Somebody asks that these be deleted, and what comes that the request names: from now on they
    /// may be gone.
    DeleteAsked {
        asked: Arc<Asked>,
        records: BTreeSet<RecordNumber>,
    },
    /// Those that were asked for last are deleted, to whoever knows this version of the catalog.
    Deleted {
        records: BTreeSet<RecordNumber>,
        version: u64,
    },
    /// Somebody accepts that these may be lost.
    LossAccepted(BTreeSet<RecordNumber>),
    /// A query begins, for the records of these tenants, at a run that knows this version of the
    /// catalog.
    QueryBegins {
        tenants: BTreeSet<u64>,
        life: u64,
        version: u64,
        /// Nothing else that runs there reads objects.
        alone: bool,
    },
    /// Something else than the query begins to read at a run: a view its history, or the run its
    /// share of another's query.
    ReadsForOthers { life: u64 },
    /// The query since [`QueryBegins`](Event::QueryBegins) was answered with these records, in the
    /// order of the answer.
    Found {
        records: Vec<RecordNumber>,
        kept: Kept,
    },
    /// The query was answered with a number of records, asked for twice.
    Counted { once: u64, again: u64, kept: Kept },
    /// The query got no answer.
    QueryFailed,
    /// A run has read from an object for a query, or has told another to.
    Read { life: u64, path: String },
    /// An ingester that was asked for heads of one tenant tells of batches of these.
    Told {
        asked: TenantId,
        told: BTreeSet<TenantId>,
    },
    /// A live view of one tenant's records has shown its first frame, or would have.
    TailBegins { tail: u64, tenant: u64 },
    /// It has shown these.
    TailShows {
        tail: u64,
        records: Vec<RecordNumber>,
    },
    /// It says that others were dropped.
    TailDropped { tail: u64 },
    /// Its client has waited longer than anything takes to be shown, and leaves.
    TailEnds { tail: u64 },
    /// A process shows this catalog, for the first time in its life.
    Shows {
        life: u64,
        address: Arc<str>,
        catalog: Arc<Catalog>,
    },
    /// A coordinator leads.
    Leads { term: u64, node: u64 },
    /// A file of a log is gone, with what had been synced of these heads, at a time when the
    /// process showed this catalog.
    Released {
        file: String,
        heads: BTreeSet<HeadId>,
        catalog: Arc<Catalog>,
    },
    /// Heads of this key became an object that the catalog names.
    Flushed(HeadKey),
    /// Faults are over since long, and all that can be stored should be; these heads are held.
    Settled { held: Vec<HeadId> },
}

/// What an answer shows of what may have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// All records of this time and later.
    pub(crate) must_from: Timestamp,
    /// No records of an earlier time.
    pub(crate) may_from: Timestamp,
}

impl Kept {
    /// Nothing expires.
    pub(crate) const ALL: Kept = Kept {
        must_from: Timestamp::MIN,
        may_from: Timestamp::MIN,
    };
    /// All may have expired.
    pub(crate) const ANY: Kept = Kept {
        must_from: Timestamp::MAX,
        may_from: Timestamp::MIN,
    };
}

/// What must be true.
pub(crate) trait Invariant: Send {
    /// As its file is named.
    fn name(&self) -> &'static str;

    /// # Errors
    /// How it is broken.
    fn see(&mut self, event: &Event) -> Result<(), String>;
}

/// The first invariant that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) how: String,
}

/// Shows everything that happens to all invariants.
pub(crate) struct Checks {
    trace: Arc<Trace>,
    invariants: Mutex<Vec<Box<dyn Invariant>>>,
    broken: Mutex<Option<Broken>>,
    uploads: Mutex<BTreeMap<HeadKey, u64>>,
}

impl Checks {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::<acknowledged_is_found::AcknowledgedIsFound>::default(),
            Box::<never_twice::NeverTwice>::default(),
            Box::<one_catalog_version::OneCatalogVersion>::default(),
            Box::<rings_only_grow::RingsOnlyGrow>::default(),
            Box::<one_leader_per_term::OneLeaderPerTerm>::default(),
            Box::<every_head_is_stored::EveryHeadIsStored>::default(),
            Box::<released_wal_is_covered::ReleasedWalIsCovered>::default(),
            Box::<deleted_is_not_shown::DeletedIsNotShown>::default(),
            Box::<expired_is_not_shown::ExpiredIsNotShown>::default(),
            Box::<tenants_are_apart::TenantsAreApart>::default(),
            Box::<tails_show_once::TailsShowOnce>::default(),
            Box::<tails_tell_gaps::TailsTellGaps>::default(),
        ];
        Checks {
            trace,
            invariants: Mutex::new(invariants),
            broken: Mutex::new(None),
            uploads: Mutex::default(),
        }
    }

    pub(crate) fn see(&self, event: &Event) {
        if let Event::Flushed(key) = event {
            *self.uploads.lock().entry(*key).or_default() += 1;
        }
        for invariant in &mut *self.invariants.lock() {
            if let Err(how) = invariant.see(event) {
                self.fail(invariant.name(), how);
            }
        }
    }

    /// Something else went wrong that must not.
    pub(crate) fn fail(&self, invariant: &'static str, how: String) {
        self.trace.tell(format_args!("BROKEN {invariant}: {how}"));
        let broken = Broken { invariant, how };
        self.broken.lock().get_or_insert(broken);
    }

    /// How often each key was uploaded and committed.
    pub(crate) fn uploads(&self) -> BTreeMap<HeadKey, u64> {
        self.uploads.lock().clone()
    }

    pub(crate) fn broken(&self) -> Option<Broken> {
        self.broken.lock().clone()
    }
}
