//! The ports between roles: [`IngestApi`], [`SearchApi`], [`OwnerApi`], [`QueryApi`] and [`MetaApi`].
//!
//! What it is: the traits with the words that cross them, and in [`remote`] their way over gRPC. A
//! role holds an `Arc<dyn …>` and cannot tell whether the other side is in this process or in
//! another. What it is *not*: no policy, no storage.
//!
//! Invariants:
//! - Errors are the domain's ([`Error`]), never a transport's; [`Error::kind`] says what to do.
//! - [`MetaApi::catalog`] is a local read of an immutable snapshot; only [`MetaApi::propose`] talks
//!   to the coordinator.
//! - A reader asks [`SearchApi::recent`] *before* it takes a catalog snapshot. Data moves from heads
//!   to the catalog only, so in this order nothing can slip between the two; what is seen on both
//!   sides is left out by [`Catalog::covers`].
#![warn(missing_docs)]

mod catalog;
mod cluster;
mod deletes;
mod error;
mod network;
mod ports;
pub mod remote;
mod rules;
mod share;
mod tail;

pub use catalog::{
    Catalog, Command, CoveredHeads, FlushCommit, Outcome, SegmentId, SegmentMeta, SwapCommit,
    TenantSegment, TenantSettings,
};
pub use cluster::{
    Cluster, ClusterShape, Lease, Member, MemberState, NextRing, PastRing, Ring, RoleSet,
};
pub use deletes::{ActiveDelete, DeleteId, DeleteRequest};
pub use error::Error;
pub use network::{Changes, MetaCall, MetaPeerApi, Network};
pub use ports::{
    HeadBatches, HeldBatch, IngestApi, IngestRequest, MetaApi, OwnerApi, Recent, RecentRequest,
    ReconcileRequest, Reconciled, SealedHead, SearchApi,
};
pub use rules::{RuleGroup, RuleGroupId, RuleProgress};
pub use share::{QueryApi, ShareRequest, ShareSegment};
pub use tail::{TailError, TailReceiver, TailSender};
