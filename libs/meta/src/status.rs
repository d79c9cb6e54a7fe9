//! What a coordinator says of itself and of the cluster.

use model::NodeId;
use rpc::{Catalog, MemberState, RoleSet};
use serde::{Deserialize, Serialize};

/// A process that can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its number.
    pub node: u64,
    /// `host:port` of its port for other processes.
    pub address: String,
}

/// The state of a coordinator, as it sees it. Serialised, this is what processes tell each other and
/// what `pharos ring --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the words that coordinators exchange; those of unequal versions do not talk.
    pub protocol: u32,
    /// The random number of the cluster, hexadecimal; `None` as long as it belongs to none.
    pub cluster: Option<String>,
    /// Its own number.
    pub node: Option<u64>,
    /// Its own address.
    pub address: String,
    /// Whether it is an ingester.
    pub ingester: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<Contact>,
    /// The newest term that it has heard of.
    pub term: u64,
    /// Those who vote, as far as it knows.
    pub voters: Vec<u64>,
    /// Those who are about to vote.
    pub learners: Vec<u64>,
    /// Index of the last entry of its log.
    pub last_log: Option<u64>,
    /// Index of the last entry that is in its catalog.
    pub applied: Option<u64>,
    /// Index of the last entry in its snapshot.
    pub snapshot: Option<u64>,
    /// The version of its catalog.
    pub version: u64,
    /// The last number given to a process.
    pub last_node: u64,
    /// Live segments.
    pub segments: u64,
    /// The version of the ring.
    pub ring: u64,
    /// Into how many shards it cuts streams.
    #[serde(default)]
    pub shards: u32,
    /// The ring that is to replace it, where members have come, gone or moved, or shards were raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ring: Option<NextRingStatus>,
    /// Replaced rings that may have uncovered heads, oldest first.
    pub past_rings: Vec<PastRingStatus>,
    /// All members, by number.
    pub members: Vec<MemberStatus>,
}

/// A ring that is to come into use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRingStatus {
    /// Its version.
    pub version: u64,
    /// Into how many shards it cuts streams.
    #[serde(default)]
    pub shards: u32,
    /// Members of the current ring that have not said that they know it: it waits until they are few.
    pub unaware: Vec<u64>,
    /// Members of the current ring that were forgotten before they had drained it.
    pub lost: Vec<u64>,
}

/// A replaced ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRingStatus {
    /// Its version.
    pub version: u64,
    /// Members that may still hold heads of it.
    pub undrained: Vec<u64>,
    /// Members that were forgotten before they had drained.
    pub lost: Vec<u64>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub node: u64,
    /// `host:port` of its port for other processes.
    pub address: String,
    /// Where it runs.
    pub zone: String,
    /// `distributor`, `ingester`, `querier`.
    pub roles: Vec<String>,
    /// `joining`, `active` or `leaving`.
    pub state: String,
    /// Whether it votes.
    pub voter: bool,
    /// For how long the process that answers has not heard of it, milliseconds; only a leader hears
    /// of all. `None` when it never has.
    pub silent_millis: Option<u64>,
}

impl Status {
    /// The part that the catalog tells.
    pub(crate) fn describe(&mut self, catalog: &Catalog, silent: impl Fn(u64) -> Option<u64>) {
        let cluster = &catalog.cluster;
        self.version = catalog.version;
        self.last_node = catalog.last_node;
        self.segments = catalog.segments.len() as u64;
        self.ring = cluster.ring.version.0;
        self.shards = cluster.ring.shards;
        let is_lost = |id: &&NodeId| !cluster.members.contains_key(id);
        self.next_ring = cluster.next_ring.as_ref().map(|next| NextRingStatus {
            version: next.ring.version.0,
            shards: next.ring.shards,
            unaware: cluster.unaware().map(|(id, _)| id.0).collect(),
            lost: cluster
                .ring
                .members
                .keys()
                .filter(is_lost)
                .map(|id| id.0)
                .collect(),
        });
        let past = cluster.past_rings.values().map(|past| PastRingStatus {
            version: past.ring.version.0,
            undrained: past.undrained.iter().map(|id| id.0).collect(),
            lost: past.lost.iter().map(|id| id.0).collect(),
        });
        self.past_rings = past.collect();
        let members = cluster.members.values().map(|member| MemberStatus {
            node: member.id.0,
            address: member.address.to_string(),
            zone: member.zone.to_string(),
            roles: roles(member.roles),
            state: state(member.state).to_owned(),
            voter: self.voters.contains(&member.id.0),
            silent_millis: silent(member.id.0),
        });
        self.members = members.collect();
    }
}

fn roles(roles: RoleSet) -> Vec<String> {
    let named = [
        ("distributor", roles.distributor),
        ("ingester", roles.ingester),
        ("querier", roles.querier),
    ];
    let has = named.into_iter().filter(|(_, has)| *has);
    has.map(|(name, _)| name.to_owned()).collect()
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "joining",
        MemberState::Active => "active",
        MemberState::Leaving => "leaving",
    }
}
