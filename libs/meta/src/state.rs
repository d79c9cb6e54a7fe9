//! The rules by which commands change the catalog: pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpc::{
    Catalog, Command, CoveredHeads, FlushCommit, Outcome, SegmentId, SegmentMeta, SwapCommit,
    TenantSettings,
};

/// The catalog and the rules of its change.
///
/// `apply` is all or nothing: every check comes before the first change. A snapshot that
/// [`catalog`](Self::catalog) handed out never changes; while one is held, the next command copies
/// the maps (not the segments in them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMachine {
    catalog: Arc<Catalog>,
}

/// Why a command was refused; it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The state has moved on since the caller read it.
    #[error("{0}")]
    Conflict(String),
    /// The command can never be applied.
    #[error("{0}")]
    Invalid(String),
}

impl From<Rejected> for rpc::Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Conflict(text) => rpc::Error::Conflict(text),
            Rejected::Invalid(text) => rpc::Error::Invalid(text),
        }
    }
}

impl StateMachine {
    /// A state machine that goes on from this catalog.
    pub fn new(catalog: Catalog) -> Self {
        StateMachine {
            catalog: Arc::new(catalog),
        }
    }

    /// The state as it is now.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Applies one command; the version grows by one.
    ///
    /// # Errors
    /// `Conflict`: the head is covered already, or a segment to be removed is not live. `Invalid`:
    /// a head that cannot exist (sequence 0), a segment without path or tenants, with tenants out
    /// of order or times reversed, with a path that is in use, or a negative retention.
    pub fn apply(&mut self, command: &Command) -> Result<Outcome, Rejected> {
        check(&self.catalog, command)?;
        let catalog = Arc::make_mut(&mut self.catalog);
        catalog.version += 1;
        let version = catalog.version;
        match command {
            Command::RegisterIngester => {
                catalog.last_ingester += 1;
                let id = catalog.last_ingester;
                return Ok(Outcome::Ingester { id, version });
            }
            Command::CommitFlush(commit) => {
                let covered = catalog.covered.entry(commit.head.ingester).or_default();
                cover(covered, commit.head.sequence);
                add_segments(catalog, &commit.segments);
            }
            Command::SwapSegments(commit) => {
                for id in &commit.remove {
                    if let Some(segment) = catalog.segments.remove(id) {
                        let path = Arc::clone(&segment.path);
                        catalog.condemned.insert(path, commit.delete_after);
                    }
                }
                add_segments(catalog, &commit.add);
            }
            Command::ForgetObjects(paths) => {
                for path in paths {
                    catalog.condemned.remove(path);
                }
            }
            Command::SetTenant(tenant, settings) => {
                catalog.tenants.insert(tenant.clone(), settings.clone());
            }
        }
        Ok(Outcome::Done { version })
    }
}

fn add_segments(catalog: &mut Catalog, segments: &[SegmentMeta]) {
    for segment in segments {
        catalog.last_segment += 1;
        let id = SegmentId(catalog.last_segment);
        let segment = SegmentMeta {
            id,
            ..segment.clone()
        };
        catalog.segments.insert(id, Arc::new(segment));
    }
}

/// Adds a head and moves `below` over what is then without a gap. Sequences count from 1, so that
/// `below` may start there.
fn cover(covered: &mut CoveredHeads, sequence: u64) {
    covered.also.insert(sequence);
    covered.below = covered.below.max(1);
    while covered.also.remove(&covered.below) {
        covered.below += 1;
    }
}

fn check(catalog: &Catalog, command: &Command) -> Result<(), Rejected> {
    match command {
        Command::RegisterIngester | Command::ForgetObjects(_) => Ok(()),
        Command::CommitFlush(commit) => check_flush(catalog, commit),
        Command::SwapSegments(commit) => check_swap(catalog, commit),
        Command::SetTenant(tenant, settings) => check_settings(tenant, settings),
    }
}

fn check_flush(catalog: &Catalog, commit: &FlushCommit) -> Result<(), Rejected> {
    let head = commit.head;
    let named = format!("head {} of ingester {}", head.sequence, head.ingester);
    if head.sequence == 0 || head.sequence == u64::MAX {
        return Err(Rejected::Invalid(format!(
            "{named} cannot exist: heads count from 1 and end before {}",
            u64::MAX
        )));
    }
    if catalog.covers(head) {
        return Err(Rejected::Conflict(format!("{named} is covered already")));
    }
    check_segments(catalog, &commit.segments)
}

fn check_swap(catalog: &Catalog, commit: &SwapCommit) -> Result<(), Rejected> {
    let mut removed = BTreeSet::new();
    for id in &commit.remove {
        if !catalog.segments.contains_key(id) {
            let text = format!("segment {} is not live any more", id.0);
            return Err(Rejected::Conflict(text));
        }
        if !removed.insert(id) {
            let text = format!("segment {} is to be removed twice", id.0);
            return Err(Rejected::Invalid(text));
        }
    }
    check_segments(catalog, &commit.add)
}

fn check_segments(catalog: &Catalog, segments: &[SegmentMeta]) -> Result<(), Rejected> {
    if segments.is_empty() {
        return Ok(());
    }
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for segment in segments {
        let path = &*segment.path;
        let refuse = |what: &str| Err(Rejected::Invalid(format!("segment {path:?} {what}")));
        if path.is_empty() {
            return refuse("has no path");
        }
        // Were it taken again, deleting the condemned object would delete live records.
        if catalog.condemned.contains_key(path) || !paths.insert(path) {
            return refuse("has the path of another object");
        }
        if segment.tenants.is_empty() {
            return refuse("holds no tenant");
        }
        let mut before = None;
        for entry in &segment.tenants {
            if before.is_some_and(|before| before >= &entry.tenant) {
                return refuse("has its tenants out of order");
            }
            if entry.first > entry.last {
                return refuse("has a tenant whose first record is later than its last");
            }
            before = Some(&entry.tenant);
        }
    }
    let live = catalog.segments.values();
    match live
        .map(|segment| &*segment.path)
        .find(|path| paths.contains(path))
    {
        None => Ok(()),
        Some(path) => Err(Rejected::Invalid(format!(
            "segment {path:?} has the path of another object"
        ))),
    }
}

fn check_settings(tenant: &model::TenantId, settings: &TenantSettings) -> Result<(), Rejected> {
    match settings.retention_nanos {
        Some(nanos) if nanos < 0 => Err(Rejected::Invalid(format!(
            "retention of tenant {tenant} is negative: use 0 to keep for ever"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
