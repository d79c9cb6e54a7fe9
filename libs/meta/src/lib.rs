//! The coordinator: a pure state machine, its wire form, and the replicated log that feeds it.
//!
//! What it is: [`StateMachine`] applies [`rpc::Command`]s to an [`rpc::Catalog`]; [`wire`] gives
//! commands and catalogs a stable form in bytes; [`Node`] is one process' part in the cluster: it
//! makes the cluster or joins it, and serves [`rpc::MetaApi`] to its own process and
//! [`rpc::MetaPeerApi`] to others. What it is *not*: it knows nothing of objects, heads or queries,
//! and nothing of transports. openraft and sled are not seen outside.
//!
//! ```text
//! propose ──▶ leader ──▶ log of a quorum of voters, fsync ──▶ StateMachine ──▶ catalog, answer
//!                                                                  │
//! catalog of everybody else ◀── watch: commands, or a whole catalog ◀┘
//! ```
//!
//! Invariants:
//! - What has been answered with `Ok`, and what [`rpc::MetaApi::catalog`] shows, is on the disks of
//!   a majority of voters: both come after the fsync.
//! - The version grows by exactly one with every command applied. A refused command changes
//!   nothing, though it stands in the log.
//! - The state depends on the sequence of commands alone: no clock, no randomness. So every process
//!   that shows a version shows the same catalog.
//! - Numbers of segments and processes are never used again: a process whose disk is gone joins as
//!   another. Signs of life do not go through the log.
//! - A process that comes back shows no catalog older than what was answered before it came.
//!
//! Memory: the catalog, about 300 bytes for a segment of one tenant and 100 for each tenant more,
//! twice while a command is applied that a reader's snapshot must not see; 8 MiB of newest commands
//! for those who follow.
#![warn(missing_docs)]

mod contacts;
mod error;
mod memory;
mod node;
mod peer;
#[expect(
    clippy::result_large_err,
    reason = "openraft's traits fix the type of their errors"
)]
mod raft;
mod rebuild;
mod replica;
pub mod state;
mod status;
pub mod store;
#[cfg(test)]
mod testing;
mod voters;
pub mod wire;

pub use contacts::Dial;
pub use error::Error;
pub use memory::MemoryMeta;
pub use node::{Config, Node, Timings, random_seed};
pub use rebuild::{Rebuilt, rebuild};
pub use state::{Rejected, StateMachine};
pub use status::{Contact, MemberStatus, NextRingStatus, PastRingStatus, Status};
pub use voters::{Candidate, Electorate, VoterChange, VoterRules, plan_voters};
