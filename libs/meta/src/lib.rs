//! The coordinator's state: a pure state machine, its wire form, and a store for one process.
//!
//! What it is: [`StateMachine`] applies [`rpc::Command`]s to an [`rpc::Catalog`]; [`wire`] gives
//! commands and catalogs a stable form in bytes; [`LocalMeta`] keeps a log of commands on disk and
//! serves [`rpc::MetaApi`]. What it is *not*: it does not agree with other processes (a replicated
//! log can take the place of [`LocalMeta`]'s without touching the state machine), and it knows
//! nothing of objects, heads or queries. Called by every role, through `MetaApi`.
//!
//! ```text
//! propose ──▶ bounded queue ──▶ one thread: apply ─▶ append to log ─▶ fsync ─▶ publish ─▶ answer
//! catalog ◀── newest published snapshot, immutable
//! ```
//!
//! Invariants:
//! - What has been answered with `Ok`, and what [`rpc::MetaApi::catalog`] shows, survives a power
//!   cut: publication comes after the fsync.
//! - The version grows by exactly one with every command applied. A refused command changes
//!   nothing and is *not* logged, so that replaying the log never refuses anything.
//! - The state depends on the sequence of commands alone: no clock, no randomness.
//! - Segment and ingester numbers are never used again.
//!
//! Memory: the catalog, about 300 bytes for a segment of one tenant and 100 for each tenant more,
//! twice while a command is applied that a reader's snapshot must not see.
#![warn(missing_docs)]

mod contacts;
mod error;
mod memory;
mod node;
mod peer;
mod raft;
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
pub use state::{Rejected, StateMachine};
pub use status::{Contact, MemberStatus, PastRingStatus, Status};
pub use voters::{Candidate, Electorate, VoterChange, VoterRules, plan_voters};
