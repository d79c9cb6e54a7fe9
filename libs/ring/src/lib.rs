//! Placement: which ingesters own which shard.
//!
//! What it is: a pure function of (members with zones, shards, replicas), the same on every node
//! and in every release. What it is *not*: it knows no addresses, no states and no versions; who
//! is a member is the coordinator's business ([`Placement`] is made once per ring version).
//!
//! ```text
//! node ─ xxh3 ─▶ tokens of the node ─▶ HashRing ─ nearest(shard) ─▶ who is near ─▶ Table ─▶ owners
//!                                                                (token.rs)      (table.rs)
//! ```
//!
//! Nodes join the table one after another in order of their numbers, each taking its fair share
//! from those that have the most, the shards nearest to it first. Numbers only grow, so a node that
//! joins the cluster is the last to join the table, and nothing moves but what it takes.
//!
//! Invariants:
//! - Every shard has `min(replicas, members)` distinct owners.
//! - The owners of a shard are in as many zones as there are, or in distinct ones.
//! - A member more changes owners only in favour of the new one, if its number is the highest.
#![warn(missing_docs)]

mod cache;
mod share;
mod table;
mod token;

use model::{NodeId, Shard};

pub use cache::Placements;
use table::Table;

/// The owners of every shard under one ring version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Those of shard 0, of shard 1, and so on: `per_shard` each.
    owners: Vec<NodeId>,
    per_shard: usize,
}

impl Placement {
    /// Places `shards` shards on the members, given with their zones in any order; `replicas`
    /// owners each, or all members when there are fewer. A member named twice counts once.
    pub fn new<Z: AsRef<str>>(
        members: impl IntoIterator<Item = (NodeId, Z)>,
        shards: u32,
        replicas: u32,
    ) -> Placement {
        let mut members: Vec<(NodeId, Z)> = members.into_iter().collect();
        members.sort_by(|a, b| (a.0, a.1.as_ref()).cmp(&(b.0, b.1.as_ref())));
        members.dedup_by_key(|member| member.0);
        let mut table = Table::new(shards as usize, replicas as usize);
        for (id, zone) in &members {
            table.join(*id, zone.as_ref());
        }
        let owners = table.owners();
        Placement {
            per_shard: owners.len() / (shards as usize).max(1),
            owners,
        }
    }

    /// The owners of a shard in ring order: the first is the one that flushes, the next ones take
    /// over from it. Empty when there are no members, or no such shard.
    pub fn owners(&self, shard: Shard) -> &[NodeId] {
        let from = (shard.0 as usize).saturating_mul(self.per_shard);
        let to = from.saturating_add(self.per_shard);
        self.owners.get(from..to).unwrap_or_default()
    }

    /// How many owners each shard has.
    pub fn owners_per_shard(&self) -> usize {
        self.per_shard
    }

    /// Every shard with its owners.
    pub fn shards(&self) -> impl Iterator<Item = (Shard, &[NodeId])> {
        let owners = self.owners.chunks_exact(self.per_shard.max(1));
        (0..).map(Shard).zip(owners)
    }
}
