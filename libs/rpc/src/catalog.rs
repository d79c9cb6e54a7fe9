use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Digest, HeadId, HeadKey, NodeId, RingVersion, Signal, TenantId, TimeRange, Timestamp};

use crate::{
    ActiveDelete, Cluster, ClusterShape, DeleteId, DeleteRequest, Member, MemberState, RuleGroup,
    RuleGroupId, RuleProgress,
};

/// A segment, by the number that the catalog gave it; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

/// What one tenant has in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSegment {
    /// The tenant.
    pub tenant: TenantId,
    /// Records, copies removed.
    pub records: u64,
    /// Bytes of lines and metadata values, as received.
    pub content_bytes: u64,
    /// Earliest record, included.
    pub first: Timestamp,
    /// Latest record, included.
    pub last: Timestamp,
}

/// One live segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its number; 0 in a command (the state machine assigns it).
    pub id: SegmentId,
    /// Its kind of data.
    pub signal: Signal,
    /// Path of the object below the bucket's root.
    pub path: Arc<str>,
    /// Size of the object.
    pub object_bytes: u64,
    /// When it was written, nanoseconds; for choosing what to merge.
    pub created: Timestamp,
    /// How many times its records have been merged; 0 = as flushed.
    pub level: u32,
    /// What it holds, by tenant; never empty, in order of tenant.
    pub tenants: Vec<TenantSegment>,
}

/// Limits and lifetimes of one tenant; `None` means the configured default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Records older than this are gone, nanoseconds; `Some(0)` keeps for ever.
    pub retention_nanos: Option<i64>,
}

/// The heads of one ingester that the catalog covers: all below `below`, and those in `also`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoveredHeads {
    /// Every head with a smaller sequence is covered.
    pub below: u64,
    /// Covered heads at or above `below`.
    pub also: BTreeSet<u64>,
}

/// Everything that the coordinator knows, at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Grows by one with every command applied.
    pub version: u64,
    /// Number of the last segment assigned.
    pub last_segment: u64,
    /// Number of the last process that joined.
    pub last_node: u64,
    /// Who is in the cluster.
    pub cluster: Cluster,
    /// Live segments.
    pub segments: BTreeMap<SegmentId, Arc<SegmentMeta>>,
    /// Objects that are no longer live, with the time from which they may be deleted.
    pub condemned: BTreeMap<Arc<str>, Timestamp>,
    /// Per ingester, the heads whose records are in segments.
    pub covered: BTreeMap<u64, CoveredHeads>,
    /// Settings by tenant.
    pub tenants: BTreeMap<TenantId, TenantSettings>,
    /// Number of the last delete request assigned.
    pub last_delete: u64,
    /// Delete requests whose records may still be stored.
    pub deletes: BTreeMap<DeleteId, Arc<ActiveDelete>>,
    /// Delete requests whose records are gone: the last ones of each tenant, for its list.
    pub past_deletes: BTreeMap<DeleteId, Arc<DeleteRequest>>,
    /// Rule groups of all tenants.
    pub rules: BTreeMap<RuleGroupId, Arc<RuleGroup>>,
}

/// Heads of one key became a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushCommit {
    /// What the heads' batches are filed under.
    pub key: HeadKey,
    /// The heads that are now covered, of one owner or several: every batch of theirs is in these
    /// segments or in those of an earlier commit. Never empty.
    pub heads: Vec<HeadId>,
    /// Sum of the batch ids that went into the segments.
    pub digest: Digest,
    /// What was written; empty when nothing was left to write.
    pub segments: Vec<SegmentMeta>,
}

/// Some segments are replaced by others, atomically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapCommit {
    /// Segments that must all be live still; they are removed.
    pub remove: Vec<SegmentId>,
    /// Segments that hold the same records (less what expired or was deleted); may be empty.
    pub add: Vec<SegmentMeta>,
    /// Delete requests whose records were left out. Those that are pending for a removed segment
    /// and are not named here are pending for the added ones. Where nothing is removed, all active
    /// ones that touch the added segments are, as after a flush.
    pub deleted: BTreeSet<DeleteId>,
    /// From when the removed objects may be deleted: later than any query that still reads them.
    pub delete_after: Timestamp,
}

/// A change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Fixes the shape of the cluster. Refused as a conflict when it is formed with another one;
    /// forming it again alike changes nothing but the version.
    FormCluster(ClusterShape),
    /// From the next ring on the stream-hash space is cut into so many ranges. Refused as a conflict when
    /// there are more already; asking for what is so changes nothing but the version. Invalid beyond
    /// [`ClusterShape::SHARDS_MAX`].
    RaiseShards(u32),
    /// A process wants in: it gets a number (its `id` and `state` are ignored: it is joining). A
    /// member with the same address is forgotten: its disk is gone, or the process would have known
    /// its number.
    Join(Member),
    /// A known process has another address, zone or set of roles since its restart; its `state` is
    /// ignored. Refused as a conflict when there is no such member or another has the address.
    Update(Member),
    /// How far a member is. An ingester that becomes active or ceases to be makes a next ring. Refused
    /// as a conflict when there is no such member, or when it was further already: what leaves never
    /// becomes active again.
    SetState(NodeId, MemberState),
    /// The member's catalog has this ring, and it tells nobody of an older catalog any more, after a
    /// restart either. When enough members of the current ring know the next one, that becomes the
    /// current one; of any other ring this says nothing.
    Knows(NodeId, RingVersion),
    /// The member holds no uncovered head of this ring version or an older one, and takes no batch
    /// for them any more.
    Drained(NodeId, RingVersion),
    /// The member is gone: it has left, or somebody says that it will not come back. For one that is
    /// gone already, nothing changes but the version. Refused as a conflict when there never was one.
    Forget(NodeId),
    /// What this node, which was forgotten, had not stored under past rings of which all others have
    /// stored theirs is gone as well: nobody waits for it any more. Refused as a conflict when it is a
    /// member still, when no ring waits for what it had, and when others may have that.
    AcceptLoss(NodeId),
    /// Takes or renews a lease. Refused as a conflict while another holds it, unless that one's
    /// `until` is `run_out`. No clock decides: the proposer says which lease it saw unrenewed for as
    /// long as leases last, and each renewal has another `until`.
    TakeLease {
        /// Which job.
        name: Arc<str>,
        /// Who wants to do it.
        holder: NodeId,
        /// The `until` of another's lease that may be taken over; of no meaning where there is none.
        run_out: Timestamp,
        /// When the lease ends by the holder's clock, if it is not renewed; raised where it is not
        /// later than that of the lease before.
        until: Timestamp,
    },
    /// Gives a lease back; ignored when it is not the holder's.
    ReleaseLease {
        /// Which job.
        name: Arc<str>,
        /// Who did it.
        holder: NodeId,
    },
    /// Records a flush. Refused as a conflict when one of the heads is covered already.
    CommitFlush(FlushCommit),
    /// Records a merge or a rewrite. Refused as a conflict when a segment is not live, or when a
    /// delete request whose records were left out has been cancelled.
    SwapSegments(SwapCommit),
    /// The objects are deleted: forget them.
    ForgetObjects(Vec<Arc<str>>),
    /// Replaces a tenant's settings.
    SetTenant(TenantId, TenantSettings),
    /// Records that must go. Pending for all live segments that its tenant and times touch, and for
    /// those that are flushed until it is finished.
    RequestDelete(DeleteRequest),
    /// Takes a request back: what is still stored is shown again. Refused as a conflict when it is
    /// not active.
    CancelDelete(DeleteId),
    /// These segments hold none of the requests' records: they are not pending any more. What is
    /// not active or not pending is ignored.
    PassDeletes {
        /// Requests.
        deletes: BTreeSet<DeleteId>,
        /// Segments that were searched.
        segments: BTreeSet<SegmentId>,
    },
    /// Closes a request, to find out whether any head holds its records while none is acknowledged; the
    /// version at which that happens is said of the closing from then on. Refused as a conflict when it
    /// is not active or a segment is still pending.
    CloseDelete(DeleteId),
    /// Opens a request that was closed at this version again; of another or none, changes nothing.
    ReopenDelete(DeleteId, u64),
    /// No head holds records of the request any more, as was found out after it was closed at this
    /// version. Refused as a conflict when it is not active, a segment is still pending, or it was
    /// opened or closed again since. Without a version only in logs of older programs, which did not close.
    FinishDelete(DeleteId, Option<u64>),
    /// Adds a rule group, or replaces the one of that name; what its evaluation left stays. Changes nothing
    /// when the group is there and equal. Refused as a conflict when the tenant has `groups_max` others already.
    SetRules {
        /// Its names.
        group: RuleGroupId,
        /// Its rules.
        definition: Arc<str>,
        /// Most groups of the tenant, this one counted; 0 means no limit.
        groups_max: u64,
    },
    /// Removes a rule group, or all of a namespace. Refused as a conflict when there is none.
    DeleteRules {
        /// Whose rules.
        tenant: TenantId,
        /// The namespace.
        namespace: Arc<str>,
        /// The group; `None` for all of the namespace.
        name: Option<Arc<str>>,
    },
    /// What evaluations left, for whoever goes on. Refused as a conflict when another has the lease
    /// of rules, or nobody where there are several queriers; groups that are gone are left out.
    SaveRuleStates {
        /// Who evaluated them.
        holder: NodeId,
        /// Groups whose state is another than before.
        groups: Vec<RuleProgress>,
    },
}

/// What a command brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to say but the version at which it is in force.
    Done {
        /// Catalog version after the command.
        version: u64,
    },
    /// The number of the new member.
    Node {
        /// Never used before.
        id: NodeId,
        /// Catalog version after the command.
        version: u64,
    },
    /// The number of the new delete request.
    Delete {
        /// Never used before.
        id: DeleteId,
        /// Catalog version after the command.
        version: u64,
    },
}

impl CoveredHeads {
    /// Whether the head is covered.
    pub fn contains(&self, sequence: u64) -> bool {
        sequence < self.below || self.also.contains(&sequence)
    }
}

impl Catalog {
    /// Whether the records of this head are in the catalog's segments.
    pub fn covers(&self, head: HeadId) -> bool {
        self.covered
            .get(&head.ingester)
            .is_some_and(|covered| covered.contains(head.sequence))
    }

    /// The times of the tenant's records that have not expired, by its setting or the default,
    /// nanoseconds; 0 keeps for ever.
    pub fn kept(&self, tenant: &TenantId, now: Timestamp, default_nanos: i64) -> TimeRange {
        let settings = self.tenants.get(tenant);
        let nanos = settings
            .and_then(|settings| settings.retention_nanos)
            .unwrap_or(default_nanos);
        match nanos {
            ..=0 => TimeRange::ALL,
            nanos => TimeRange::new(now.saturating_sub(nanos), Timestamp::MAX),
        }
    }

    /// Live segments that may hold records of the tenant in the range.
    pub fn segments_of(&self, tenant: &TenantId, range: TimeRange) -> Vec<Arc<SegmentMeta>> {
        self.segments
            .values()
            .filter(|segment| segment.touches(tenant, range))
            .cloned()
            .collect()
    }
}

impl SegmentMeta {
    /// What the tenant has in this segment.
    pub fn of_tenant(&self, tenant: &TenantId) -> Option<&TenantSegment> {
        self.tenants
            .binary_search_by(|entry| entry.tenant.cmp(tenant))
            .ok()
            .map(|at| &self.tenants[at])
    }

    /// Records of all tenants.
    pub fn records(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.records).sum()
    }

    /// Earliest and latest record of all tenants, both included.
    pub fn time_bounds(&self) -> (Timestamp, Timestamp) {
        let first = self.tenants.iter().map(|t| t.first).min();
        let last = self.tenants.iter().map(|t| t.last).max();
        (first.unwrap_or(0), last.unwrap_or(0))
    }

    fn touches(&self, tenant: &TenantId, range: TimeRange) -> bool {
        self.of_tenant(tenant)
            .is_some_and(|entry| range.touches(entry.first, entry.last))
    }
}
