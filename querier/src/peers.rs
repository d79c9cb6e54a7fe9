//! The other queriers: who can be asked to do a share of a query.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use parking_lot::Mutex;
use rpc::{MemberState, MetaApi, Network, QueryApi};
use tokio::time::Instant;

/// For how long nobody asks a querier that failed or was slow, at first and at most; twice as long
/// each time that it does so again.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// The other queriers of a cluster: its members with that role. Clones are the same.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    meta: Arc<dyn MetaApi>,
    network: Arc<dyn Network>,
    own: NodeId,
    resting: Mutex<HashMap<NodeId, Rest>>,
}

/// One that failed.
#[derive(Clone, Copy, Debug)]
struct Rest {
    length: Duration,
    until: Instant,
}

/// One that may be asked.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) port: Arc<dyn QueryApi>,
}

impl Peers {
    /// The queriers among the members, but for this process.
    pub fn new(meta: Arc<dyn MetaApi>, network: Arc<dyn Network>, own: NodeId) -> Self {
        Peers {
            shared: Arc::new(Shared {
                meta,
                network,
                own,
                resting: Mutex::default(),
            }),
        }
    }

    /// The number of this process.
    pub(crate) fn own(&self) -> NodeId {
        self.shared.own
    }

    /// One of the members, whoever it is; `None` when it is none.
    pub(crate) fn port(&self, id: NodeId) -> Option<Arc<dyn QueryApi>> {
        let catalog = self.shared.meta.catalog();
        let member = catalog.cluster.members.get(&id)?;
        Some(self.shared.network.query(&member.address))
    }

    /// Those that may be asked now, by number.
    pub(crate) fn ready(&self, now: Instant) -> Vec<Peer> {
        let catalog = self.shared.meta.catalog();
        let mut resting = self.shared.resting.lock();
        resting.retain(|id, _| catalog.cluster.members.contains_key(id));
        let members = catalog.cluster.members.values();
        let queriers = members.filter(|member| {
            member.id != self.shared.own
                && member.roles.querier
                && member.state == MemberState::Active
                && resting.get(&member.id).is_none_or(|rest| rest.until <= now)
        });
        let peers = queriers.map(|member| Peer {
            id: member.id,
            port: self.shared.network.query(&member.address),
        });
        peers.collect()
    }

    /// It did what it was asked.
    pub(crate) fn did(&self, id: NodeId) {
        self.shared.resting.lock().remove(&id);
    }

    /// It did not, or not in time.
    pub(crate) fn failed(&self, id: NodeId, now: Instant) {
        let mut resting = self.shared.resting.lock();
        let length = match resting.get(&id) {
            // Several shares that fail together are one failure.
            Some(rest) if rest.until > now => return,
            Some(rest) => (rest.length * 2).min(REST_MAX),
            None => REST_MIN,
        };
        let until = now + length;
        resting.insert(id, Rest { length, until });
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("own", &self.shared.own)
            .finish_non_exhaustive()
    }
}
