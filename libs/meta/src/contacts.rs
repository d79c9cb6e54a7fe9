//! Whom this process knows, and at which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use rpc::{MetaCall, MetaPeerApi};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::peer::{self, PROTOCOL, StatusAsk};
use crate::replica::Replica;
use crate::status::{Contact, Status};

/// After so long, what was known of a voter that was not asked since is no news.
const AWAY_KNOWN: Duration = Duration::from_secs(60);

/// Gives the coordinator's port at an address, as `rpc::Network::meta` does.
pub type Dial = Arc<dyn Fn(&str) -> Arc<dyn MetaPeerApi> + Send + Sync>;

pub(crate) struct Contacts {
    dial: Dial,
    own: Arc<str>,
    join: Vec<Arc<str>>,
    replica: Arc<Replica>,
    known: Mutex<Known>,
    away: Mutex<Away>,
}

/// Voters that did not answer when they were last asked, and when that was. Only who leads, or wants
/// to, asks them.
#[derive(Debug, Default)]
struct Away(BTreeMap<u64, Instant>);

impl Away {
    /// Whether it is news that a voter answered, or did not.
    fn heard(&mut self, voter: u64, answered: bool, now: Instant) -> Option<bool> {
        let recent = |at: Instant| now.duration_since(at) < AWAY_KNOWN;
        if answered {
            let known = self.0.remove(&voter).is_some_and(recent);
            return known.then_some(true);
        }
        let known = self.0.insert(voter, now).is_some_and(recent);
        (!known).then_some(false)
    }
}

/// What others said last.
#[derive(Debug, Default)]
struct Known {
    leader: Option<Contact>,
    /// The newest term that somebody knew.
    term: u64,
    voters: BTreeSet<u64>,
    /// Node -> its address by its own word, and the one in the catalog at that time.
    heard: BTreeMap<u64, (Arc<str>, Option<Arc<str>>)>,
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts")
            .field("own", &self.own)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Contacts {
    pub(crate) fn new(
        dial: Dial,
        own: Arc<str>,
        join: Vec<Arc<str>>,
        replica: Arc<Replica>,
    ) -> Self {
        Contacts {
            dial,
            own,
            join,
            replica,
            known: Mutex::default(),
            away: Mutex::default(),
        }
    }

    pub(crate) fn dial(&self, address: &str) -> Arc<dyn MetaPeerApi> {
        (self.dial)(address)
    }

    /// Asks, and waits for no longer than this.
    pub(crate) async fn call(
        &self,
        address: &str,
        call: MetaCall,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, rpc::Error> {
        let peer = self.dial(address);
        let answer = tokio::time::timeout(patience, peer.call(call, body)).await;
        answer.unwrap_or_else(|_| {
            let text = format!("{address} did not answer within {patience:?}");
            Err(rpc::Error::Unavailable(text))
        })
    }

    /// A voter was sent a message of the replicated log. Tells whether it is news that it answers
    /// (`true`), or does not.
    pub(crate) fn voter_answered(&self, voter: u64, answered: bool) -> Option<bool> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.heard(voter, answered, Instant::now())
    }

    /// Asks one for its status, and remembers what it says.
    pub(crate) async fn ask(
        &self,
        address: &str,
        ask: &StatusAsk,
        patience: Duration,
    ) -> Result<Status, rpc::Error> {
        let body = peer::encode(ask)?;
        let answer = self.call(address, MetaCall::Status, body, patience).await?;
        let status: Status = peer::decode(&answer)?;
        peer::check(status.protocol)?;
        if ask.cluster.is_none() || ask.cluster == status.cluster {
            self.learn(&status);
        }
        Ok(status)
    }

    /// Asks all at once; gives what each answered, in order of address.
    pub(crate) async fn ask_all(
        self: &Arc<Self>,
        from: Option<u64>,
        cluster: Option<&str>,
        patience: Duration,
    ) -> Vec<(Arc<str>, Result<Status, rpc::Error>)> {
        let mut asked = JoinSet::new();
        for address in self.addresses() {
            let contacts = Arc::clone(self);
            let cluster = cluster.map(str::to_owned);
            asked.spawn(async move {
                let ask = StatusAsk {
                    protocol: PROTOCOL,
                    from,
                    cluster,
                    linear: false,
                };
                let answer = contacts.ask(&address, &ask, patience).await;
                (address, answer)
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        answers
    }

    /// All addresses but the own: those that were given, those in the catalog, those heard of.
    pub(crate) fn addresses(&self) -> BTreeSet<Arc<str>> {
        let catalog = self.replica.catalog();
        let mut addresses: BTreeSet<Arc<str>> = self.join.iter().cloned().collect();
        let ingesters = catalog.cluster.ingesters();
        let ids: BTreeSet<u64> = {
            let known = self.known();
            let heard = known.heard.keys().copied();
            heard.chain(ingesters.map(|member| member.id.0)).collect()
        };
        addresses.extend(ids.into_iter().filter_map(|id| self.address_of(id)));
        addresses.remove(&self.own);
        addresses
    }

    /// The address of a node: by its own word, unless the catalog has learned of another since.
    pub(crate) fn address_of(&self, node: u64) -> Option<Arc<str>> {
        let in_catalog = self.in_catalog(node);
        match self.known().heard.get(&node) {
            Some((address, then)) if *then == in_catalog => Some(Arc::clone(address)),
            _ => in_catalog,
        }
    }

    /// Who is said to lead.
    pub(crate) fn leader(&self) -> Option<Contact> {
        self.known().leader.clone()
    }

    /// The said leader did not answer, or does not lead.
    pub(crate) fn doubt_leader(&self, address: &str) {
        let mut known = self.known();
        if known.leader.as_ref().is_some_and(|l| l.address == address) {
            known.leader = None;
        }
    }

    pub(crate) fn trust_leader(&self, leader: Contact) {
        self.known().leader = Some(leader);
    }

    /// Addresses of those who vote, as was said last.
    pub(crate) fn voters(&self) -> Vec<Arc<str>> {
        let voters = self.known().voters.clone();
        let addresses = voters.into_iter().filter_map(|id| self.address_of(id));
        addresses.filter(|address| *address != self.own).collect()
    }

    /// The newest term that was heard of, and those who vote in it.
    pub(crate) fn electorate(&self) -> (u64, BTreeSet<u64>) {
        let known = self.known();
        (known.term, known.voters.clone())
    }

    fn learn(&self, status: &Status) {
        let node = status.node.map(|node| (node, self.in_catalog(node)));
        let mut known = self.known();
        if let Some((node, in_catalog)) = node {
            let address = Arc::from(status.address.as_str());
            known.heard.insert(node, (address, in_catalog));
        }
        // Who does not take part may repeat what is long past.
        let news = status.term >= known.term;
        if news && !status.voters.is_empty() {
            known.voters = status.voters.iter().copied().collect();
        }
        if let Some(leader) = &status.leader
            && (known.leader.is_none() || news)
        {
            known.leader = Some(leader.clone());
        }
        known.term = known.term.max(status.term);
    }

    fn in_catalog(&self, node: u64) -> Option<Arc<str>> {
        let catalog = self.replica.catalog();
        let member = catalog.cluster.members.get(&NodeId(node));
        member.map(|member| Arc::clone(&member.address))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_that_goes_or_comes_is_told_once() {
        let (mut away, start) = (Away::default(), Instant::now());
        let mut heard = |voter, answered, seconds| {
            away.heard(voter, answered, start + Duration::from_secs(seconds))
        };
        assert_eq!(heard(1, true, 0), None);
        assert_eq!(heard(1, false, 0), Some(false));
        assert_eq!(heard(1, false, 50), None);
        assert_eq!(heard(2, false, 51), Some(false));
        assert_eq!(heard(1, false, 100), None);
        assert_eq!(heard(1, true, 101), Some(true));
        assert_eq!(heard(1, true, 102), None);
        assert_eq!(heard(2, true, 200), None, "it was not asked for long");
    }
}
