//! What a process brings into the cluster, and how patient it is.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use rpc::{ClusterShape, RoleSet};

use crate::Error;

/// What a process brings into the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` at which others reach this process.
    pub address: Arc<str>,
    /// Where it runs.
    pub zone: Arc<str>,
    /// What it does.
    pub roles: RoleSet,
    /// The shape of a cluster that this process makes. An ingester refuses to join one with other
    /// replicas or slots; shards are those of the cluster.
    pub shape: ClusterShape,
    /// Addresses of some ingesters of the cluster, maybe the own. When the list is empty, this
    /// process is a cluster of its own. When the cluster is yet to be made, the ingester with the
    /// least address of the list makes it, after all of the list have said that there is none.
    pub join: Vec<Arc<str>>,
    /// How many ingesters are to vote: 1, 3 or 5.
    pub voters: usize,
    /// Patience of all kinds.
    pub timings: Timings,
    /// A random number: makes the cluster's number, spreads elections and retries.
    pub seed: u64,
}

/// Patience of all kinds, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// How often a leader tells voters that it leads.
    pub heartbeat: Duration,
    /// Without a leader for so long, a voter wants to lead; drawn between this, included ...
    pub election_min: Duration,
    /// ... and this, excluded.
    pub election_max: Duration,
    /// How often every process tells the leader that it lives, and a watch that nothing changed.
    pub report_every: Duration,
    /// Who was heard of within this time is alive.
    pub live_within: Duration,
    /// A process without data that was silent for so long is forgotten.
    pub forget_after: Duration,
    /// A voter that was silent for so long loses its vote to one that is alive.
    pub replace_voter_after: Duration,
    /// How long a question may take.
    pub call: Duration,
    /// How long a proposal may take.
    pub propose: Duration,
    /// Commands after which a snapshot is taken and older ones are dropped.
    pub snapshot_commands: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(2000),
            report_every: Duration::from_secs(2),
            live_within: Duration::from_secs(10),
            forget_after: Duration::from_secs(30),
            replace_voter_after: Duration::from_secs(300),
            call: Duration::from_secs(2),
            propose: Duration::from_secs(10),
            snapshot_commands: 2000,
        }
    }
}

/// A random number for [`Config::seed`].
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Config {
    /// # Errors
    /// `Setting` names what cannot work.
    pub(super) fn check(&self) -> Result<(), Error> {
        if ![1, 3, 5].contains(&self.voters) {
            let text = format!("{} voters are not possible: set 1, 3 or 5", self.voters);
            return Err(Error::Setting(text));
        }
        if !(1..=ClusterShape::SHARDS_MAX).contains(&self.shape.shards) {
            let text = format!(
                "{} shards are not possible: set 1 to {}",
                self.shape.shards,
                ClusterShape::SHARDS_MAX
            );
            return Err(Error::Setting(text));
        }
        let timings = &self.timings;
        if timings.election_min <= timings.heartbeat || timings.election_max <= timings.election_min
        {
            let text = format!(
                "elections between {:?} and {:?} are not possible with heartbeats every {:?}: each \
                 must be longer than the one before",
                timings.election_min, timings.election_max, timings.heartbeat
            );
            return Err(Error::Setting(text));
        }
        Ok(())
    }
}
