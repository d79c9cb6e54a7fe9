//! The rules by which commands change the catalog: pure.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rpc::{
    Catalog, Command, CoveredHeads, FlushCommit, Outcome, SegmentId, SegmentMeta, SwapCommit,
    TenantSettings,
};

mod cluster;
mod deletes;
mod rings;
mod rules;

pub use deletes::{ACTIVE_DELETES_MAX, PAST_DELETES_MAX};

/// The catalog and the rules of its change.
///
/// `apply` is all or nothing: every check comes before the first change. A snapshot that
/// [`catalog`](Self::catalog) handed out never changes; while one is held, the next command copies
/// the maps (not the segments in them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMachine {
    catalog: Arc<Catalog>,
    /// Paths of the live segments, so that a command need not look at all of them.
    live_paths: HashSet<Arc<str>>,
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
    pub fn new(catalog: impl Into<Arc<Catalog>>) -> Self {
        let catalog = catalog.into();
        let live = catalog.segments.values();
        StateMachine {
            live_paths: live.map(|segment| Arc::clone(&segment.path)).collect(),
            catalog,
        }
    }

    /// The state as it is now.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Applies one command; the version grows by one.
    ///
    /// # Errors
    /// `Conflict`: the head is covered already, a segment to be removed is not live, or a delete
    /// request is not in the state that the command needs, there is no such rule group, or another has
    /// the lease of rules. `Invalid`: a head that cannot exist
    /// (sequence 0), a segment without path or tenants, with tenants out of order or times
    /// reversed, with a path that is in use, a negative retention, or a delete request without
    /// times or over its tenant's limit.
    pub fn apply(&mut self, command: &Command) -> Result<Outcome, Rejected> {
        // tidy: long because it is one arm for each command
        self.check(command)?;
        let catalog = Arc::make_mut(&mut self.catalog);
        catalog.version += 1;
        let version = catalog.version;
        match command {
            Command::FormCluster(shape) => cluster::form(&mut catalog.cluster, shape),
            Command::RaiseShards(shards) => cluster::raise_shards(&mut catalog.cluster, *shards),
            Command::Join(member) => {
                let id = cluster::join(catalog, member);
                return Ok(Outcome::Node { id, version });
            }
            Command::Update(member) => cluster::update(&mut catalog.cluster, member),
            Command::SetState(id, state) => {
                cluster::set_state(&mut catalog.cluster, *id, *state);
            }
            Command::Knows(id, ring) => cluster::knows(&mut catalog.cluster, *id, *ring),
            Command::Drained(id, ring) => cluster::drained(&mut catalog.cluster, *id, *ring),
            Command::Forget(id) => cluster::forget(&mut catalog.cluster, *id),
            Command::AcceptLoss(id) => cluster::accept_loss(&mut catalog.cluster, *id),
            Command::TakeLease {
                name,
                holder,
                run_out: _,
                until,
            } => cluster::take_lease(&mut catalog.cluster, name, *holder, *until),
            Command::ReleaseLease { name, holder } => {
                cluster::release_lease(&mut catalog.cluster, name, *holder);
            }
            Command::CommitFlush(commit) => {
                for head in &commit.heads {
                    let covered = catalog.covered.entry(head.ingester).or_default();
                    cover(covered, head.sequence);
                }
                let added = add_segments(catalog, &mut self.live_paths, &commit.segments);
                deletes::flushed(catalog, &added, version);
            }
            Command::SwapSegments(commit) => {
                for id in &commit.remove {
                    if let Some(segment) = catalog.segments.remove(id) {
                        let path = Arc::clone(&segment.path);
                        self.live_paths.remove(&path);
                        catalog.condemned.insert(path, commit.delete_after);
                    }
                }
                cluster::drop_leases(&mut catalog.cluster, &commit.remove);
                let added = add_segments(catalog, &mut self.live_paths, &commit.add);
                deletes::swapped(catalog, commit, &added, version);
            }
            Command::ForgetObjects(paths) => {
                for path in paths {
                    catalog.condemned.remove(path);
                }
            }
            Command::SetTenant(tenant, settings) => {
                catalog.tenants.insert(tenant.clone(), settings.clone());
            }
            Command::RequestDelete(request) => {
                let id = deletes::request(catalog, request);
                return Ok(Outcome::Delete { id, version });
            }
            Command::CancelDelete(id) => drop(catalog.deletes.remove(id)),
            Command::PassDeletes { deletes, segments } => {
                deletes::pass(catalog, deletes, segments);
            }
            Command::CloseDelete(id) => deletes::close(catalog, *id, version),
            Command::ReopenDelete(id, closed) => deletes::reopen(catalog, *id, *closed),
            Command::FinishDelete(id, _) => deletes::finish(catalog, *id),
            Command::SetRules {
                group, definition, ..
            } => rules::set(catalog, group, definition),
            Command::DeleteRules {
                tenant,
                namespace,
                name,
            } => rules::delete(catalog, tenant, namespace, name.as_deref()),
            Command::SaveRuleStates { holder: _, groups } => rules::progress(catalog, groups),
        }
        Ok(Outcome::Done { version })
    }

    fn check(&self, command: &Command) -> Result<(), Rejected> {
        match command {
            Command::FormCluster(shape) => cluster::check_form(&self.catalog.cluster, shape),
            Command::RaiseShards(shards) => cluster::check_raise(&self.catalog.cluster, *shards),
            Command::Join(_) => cluster::check_join(&self.catalog.cluster),
            Command::Update(member) => cluster::check_update(&self.catalog.cluster, member),
            Command::SetState(id, state) => {
                cluster::check_state(&self.catalog.cluster, *id, *state)
            }
            Command::Forget(id) => cluster::check_forget(&self.catalog, *id),
            Command::AcceptLoss(id) => cluster::check_accept_loss(&self.catalog.cluster, *id),
            Command::TakeLease {
                name,
                holder,
                run_out,
                until: _,
            } => cluster::check_lease(&self.catalog.cluster, name, *holder, *run_out),
            Command::Knows(..)
            | Command::Drained(..)
            | Command::ReleaseLease { .. }
            | Command::ForgetObjects(_) => Ok(()),
            Command::CommitFlush(commit) => self.check_flush(commit),
            Command::SwapSegments(commit) => self.check_swap(commit),
            Command::SetTenant(tenant, settings) => check_settings(tenant, settings),
            Command::RequestDelete(request) => deletes::check_request(&self.catalog, request),
            Command::CancelDelete(id) => deletes::check_active(&self.catalog, *id).map(drop),
            Command::PassDeletes { .. } => Ok(()),
            Command::CloseDelete(id) => deletes::check_done(&self.catalog, *id).map(drop),
            Command::ReopenDelete(..) => Ok(()),
            Command::FinishDelete(id, closed) => deletes::check_finish(&self.catalog, *id, *closed),
            Command::SetRules {
                group, groups_max, ..
            } => rules::check_set(&self.catalog, group, *groups_max),
            Command::DeleteRules {
                tenant,
                namespace,
                name,
            } => rules::check_delete(&self.catalog, tenant, namespace, name.as_deref()),
            Command::SaveRuleStates { holder, .. } => rules::check_progress(&self.catalog, *holder),
        }
    }

    fn check_flush(&self, commit: &FlushCommit) -> Result<(), Rejected> {
        if commit.heads.is_empty() {
            let text = "a flush that covers no head says nothing".to_owned();
            return Err(Rejected::Invalid(text));
        }
        for head in &commit.heads {
            let named = format!("head {} of ingester {}", head.sequence, head.ingester);
            if head.sequence == 0 || head.sequence == u64::MAX {
                return Err(Rejected::Invalid(format!(
                    "{named} cannot exist: heads count from 1 and end before {}",
                    u64::MAX
                )));
            }
            if self.catalog.covers(*head) {
                return Err(Rejected::Conflict(format!("{named} is covered already")));
            }
        }
        self.check_segments(&commit.segments)
    }

    fn check_swap(&self, commit: &SwapCommit) -> Result<(), Rejected> {
        let mut removed = BTreeSet::new();
        for id in &commit.remove {
            if !self.catalog.segments.contains_key(id) {
                let text = format!("segment {} is not live any more", id.0);
                return Err(Rejected::Conflict(text));
            }
            if !removed.insert(id) {
                let text = format!("segment {} is to be removed twice", id.0);
                return Err(Rejected::Invalid(text));
            }
        }
        deletes::check_swap(&self.catalog, commit)?;
        self.check_segments(&commit.add)
    }

    fn check_segments(&self, segments: &[SegmentMeta]) -> Result<(), Rejected> {
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        for segment in segments {
            let path = &*segment.path;
            // Were a condemned path taken again, its deletion would delete live records.
            let taken = self.live_paths.contains(path)
                || self.catalog.condemned.contains_key(path)
                || !paths.insert(path);
            let fault = match taken {
                true => Some("has the path of another object"),
                false => fault_of(segment),
            };
            if let Some(fault) = fault {
                return Err(Rejected::Invalid(format!("segment {path:?} {fault}")));
            }
        }
        Ok(())
    }
}

/// Why this cannot be a segment, if it cannot.
pub(crate) fn fault_of(segment: &SegmentMeta) -> Option<&'static str> {
    if segment.path.is_empty() {
        return Some("has no path");
    }
    if segment.tenants.is_empty() {
        return Some("holds no tenant");
    }
    if !segment.tenants.is_sorted_by(|a, b| a.tenant < b.tenant) {
        return Some("has its tenants out of order");
    }
    if segment.tenants.iter().any(|entry| entry.first > entry.last) {
        return Some("has a tenant whose first record is later than its last");
    }
    None
}

fn add_segments(
    catalog: &mut Catalog,
    live_paths: &mut HashSet<Arc<str>>,
    segments: &[SegmentMeta],
) -> Vec<Arc<SegmentMeta>> {
    let mut added = Vec::with_capacity(segments.len());
    for segment in segments {
        catalog.last_segment += 1;
        let id = SegmentId(catalog.last_segment);
        let segment = SegmentMeta {
            id,
            ..segment.clone()
        };
        live_paths.insert(Arc::clone(&segment.path));
        let segment = Arc::new(segment);
        added.push(Arc::clone(&segment));
        catalog.segments.insert(id, segment);
    }
    added
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
