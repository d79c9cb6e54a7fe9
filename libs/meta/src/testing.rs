//! Words for the tests of this crate.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Digest, HeadId, HeadKey, NodeId, RingVersion, Shard, Signal, Slot, TenantId, TimeRange,
};
use rpc::{
    ClusterShape, Command, DeleteId, DeleteRequest, FlushCommit, Member, MemberState, RoleSet,
    SegmentId, SegmentMeta, SwapCommit, TenantSegment,
};

pub(crate) const SHAPE: ClusterShape = ClusterShape {
    shards: 8,
    replicas: 3,
    slot_nanos: 120_000_000_000,
};

/// An ingester that wants in.
pub(crate) fn member(address: &str, zone: &str) -> Member {
    Member {
        id: NodeId(0),
        address: address.into(),
        zone: zone.into(),
        roles: RoleSet {
            ingester: true,
            ..RoleSet::default()
        },
        state: MemberState::Joining,
    }
}

pub(crate) fn form() -> Command {
    Command::FormCluster(SHAPE)
}

pub(crate) fn join(address: &str) -> Command {
    Command::Join(member(address, "z"))
}

pub(crate) fn segment(path: &str, tenants: &[&str]) -> SegmentMeta {
    let entry = |tenant: &&str| TenantSegment {
        tenant: TenantId::new(tenant).unwrap(),
        records: 10,
        content_bytes: 1000,
        first: -5,
        last: 100,
    };
    SegmentMeta {
        id: SegmentId(0),
        signal: Signal::Logs,
        path: Arc::from(path),
        object_bytes: 300,
        created: 1_700_000_000_000_000_000,
        level: 0,
        tenants: tenants.iter().map(entry).collect(),
    }
}

pub(crate) fn flush(ingester: u64, sequence: u64, paths: &[&str]) -> Command {
    Command::CommitFlush(FlushCommit {
        key: HeadKey {
            shard: Shard(3),
            slot: Slot(-7),
            ring: RingVersion(2),
        },
        heads: vec![HeadId { ingester, sequence }],
        digest: Digest(u128::MAX / 3),
        segments: paths.iter().map(|path| segment(path, &["a"])).collect(),
    })
}

pub(crate) fn swap(remove: &[u64], add: &[&str], delete_after: i64) -> Command {
    Command::SwapSegments(SwapCommit {
        remove: remove.iter().map(|id| SegmentId(*id)).collect(),
        add: add.iter().map(|path| segment(path, &["a"])).collect(),
        delete_after,
        deleted: BTreeSet::new(),
    })
}

pub(crate) fn forget(paths: &[&str]) -> Command {
    Command::ForgetObjects(paths.iter().map(|path| Arc::from(*path)).collect())
}

/// The segments of these tests hold times from -5 to 100.
pub(crate) fn delete(tenant: &str, start: i64, end: i64) -> Command {
    Command::RequestDelete(DeleteRequest {
        tenant: TenantId::new(tenant).unwrap(),
        query: "{app=\"x\"}".into(),
        range: TimeRange::new(start, end),
        created: 7,
    })
}

/// A swap whose output lacks the records of these requests.
pub(crate) fn swap_deleted(remove: &[u64], add: &[&str], deleted: &[u64]) -> Command {
    let Command::SwapSegments(mut commit) = swap(remove, add, 5) else {
        unreachable!("swap makes a swap");
    };
    commit.deleted = deleted.iter().map(|id| DeleteId(*id)).collect();
    Command::SwapSegments(commit)
}

pub(crate) fn pass(deletes: &[u64], segments: &[u64]) -> Command {
    Command::PassDeletes {
        deletes: deletes.iter().map(|id| DeleteId(*id)).collect(),
        segments: segments.iter().map(|id| SegmentId(*id)).collect(),
    }
}
