//! Signs of life, and the catalog of those who do not vote.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rpc::{Catalog, Changes, MemberState};
use tokio_stream::StreamExt;

use super::{Core, Lead};
use crate::peer::{self, Frame, PROTOCOL, StatusAsk};
use crate::{StateMachine, wire};

/// The longest pause before voters are tried again.
const SEARCH_PAUSE: Duration = Duration::from_millis(1000);

impl Core {
    /// Tells the leader that this process lives; looks for the leader when it does not know it.
    pub(super) async fn report(self: Arc<Self>) {
        loop {
            let timings = &self.config.timings;
            let (id, cluster) = (self.id().map(|id| id.0), self.cluster());
            match self.leader() {
                Lead::Me => self.note_life(id),
                Lead::At(address) => {
                    let ask = StatusAsk {
                        protocol: PROTOCOL,
                        from: id,
                        cluster,
                        linear: false,
                    };
                    match self.contacts.ask(&address, &ask, timings.call).await {
                        Ok(status) if status.leader.is_some() => {}
                        Ok(_) => self.contacts.doubt_leader(&address),
                        Err(error) => {
                            tracing::debug!(%address, %error, "the leader does not answer");
                            self.contacts.doubt_leader(&address);
                        }
                    }
                }
                Lead::Unknown => {
                    self.contacts
                        .ask_all(id, cluster.as_deref(), timings.call)
                        .await;
                }
            }
            let pause = match self.leader() {
                Lead::Unknown => timings.report_every / 4,
                Lead::Me | Lead::At(_) => timings.report_every,
            };
            self.pause(pause).await;
        }
    }

    /// Watches voters as long as this process does not vote itself.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            self.until_needed().await;
            for address in self.peers() {
                if let Err(error) = self.watch_one(&address).await {
                    tracing::debug!(%address, %error, "no changes from there any more");
                }
                if !self.needs_watch() {
                    break;
                }
            }
            self.pause(SEARCH_PAUSE).await;
        }
    }

    /// Voters in any order, then everybody else: those who vote may have changed.
    fn peers(&self) -> Vec<Arc<str>> {
        let mut voters = self.contacts.voters();
        let mut peers = Vec::new();
        while !voters.is_empty() {
            let at = usize::try_from(self.roll(voters.len() as u64)).unwrap_or(0);
            peers.push(voters.swap_remove(at));
        }
        let others = self.contacts.addresses().into_iter();
        let others: Vec<_> = others.filter(|address| !peers.contains(address)).collect();
        peers.extend(others);
        peers
    }

    fn needs_watch(&self) -> bool {
        let metrics = self.metrics();
        !metrics.is_some_and(|metrics| self.takes_part(&metrics))
    }

    async fn until_needed(&self) {
        let Some(raft) = self.raft.get() else {
            return;
        };
        let mut metrics = raft.metrics();
        // When the log has stopped, the failure is told elsewhere.
        let _ = metrics.wait_for(|now| !self.takes_part(now)).await;
    }

    async fn watch_one(&self, address: &str) -> Result<(), rpc::Error> {
        let after = self.catalog().version;
        let silence = self.config.timings.report_every * 3;
        let peer = self.contacts.dial(address);
        let call = self.config.timings.call;
        let connected = tokio::time::timeout(call, peer.watch(after)).await;
        let changes = connected.map_err(|_| silent(address, call))??;
        self.consume(address, changes, silence).await
    }

    /// Follows until the stream ends, the other side is silent, or this process votes.
    async fn consume(
        &self,
        address: &str,
        mut changes: Changes,
        silence: Duration,
    ) -> Result<(), rpc::Error> {
        let mut follower = Follower {
            machine: StateMachine::new(self.catalog()),
            pieces: BytesMut::new(),
        };
        let mut greeted = false;
        while self.needs_watch() {
            let next = tokio::time::timeout(silence, changes.next()).await;
            let Some(frame) = next.map_err(|_| silent(address, silence))? else {
                return Ok(());
            };
            match Frame::decode(frame?)? {
                Frame::Hello(hello) => {
                    peer::check(hello.protocol)?;
                    if Some(&hello.cluster) != self.cluster().as_ref() {
                        return Err(rpc::Error::Invalid("it is in another cluster".to_owned()));
                    }
                    greeted = true;
                }
                _ if !greeted => {
                    return Err(rpc::Error::Invalid("it did not say who it is".to_owned()));
                }
                Frame::Alive { version } => tracing::trace!(version, "alive"),
                Frame::Catalog { last, bytes } => {
                    follower.pieces.extend_from_slice(&bytes);
                    if last {
                        self.replica.replace(&follower.whole()?);
                    }
                }
                Frame::Command { version, bytes } => {
                    follower.catch_up(&self.catalog());
                    if let Some(catalog) = follower.apply(version, &bytes)? {
                        self.replica.advance(&catalog, &bytes);
                    }
                }
            }
        }
        Ok(())
    }

    /// A member that is not in the catalog any more: one with data must not go on, another takes a
    /// new number.
    pub(super) async fn guard_membership(self: &Arc<Self>) {
        let mut catalog = self.replica.subscribe();
        let mut leaving = false;
        loop {
            // A number that was given is in the catalog from then on, until it is forgotten.
            let gone = |now: &Arc<Catalog>| {
                let Some(id) = self.id() else { return false };
                match now.cluster.members.get(&id) {
                    Some(member) => leaving = member.state == MemberState::Leaving,
                    None => return now.last_node >= id.0,
                }
                false
            };
            if catalog.wait_for(gone).await.is_err() {
                return;
            }
            let Some(id) = self.id() else { continue };
            if leaving {
                tracing::info!(node = id.0, "this process has left the cluster");
                self.failed.send_replace(Some(self.forgotten(id)));
                return;
            }
            if self.config.roles.ingester {
                self.fail(self.forgotten(id));
                return;
            }
            tracing::warn!(node = id.0, "this process was forgotten; it joins anew");
            if let Err(error) = Arc::clone(self).rejoin().await {
                self.fail(error);
                return;
            }
        }
    }
}

/// The state machine of one who follows.
struct Follower {
    machine: StateMachine,
    /// Of a whole catalog that is under way.
    pieces: BytesMut,
}

impl Follower {
    /// Goes on from a newer catalog that came another way.
    fn catch_up(&mut self, shown: &Arc<Catalog>) {
        if shown.version > self.machine.catalog().version {
            self.machine = StateMachine::new(Arc::clone(shown));
        }
    }

    fn whole(&mut self) -> Result<Arc<Catalog>, rpc::Error> {
        let bytes = self.pieces.split();
        let catalog = wire::decode_catalog(&bytes).map_err(unreadable)?;
        self.machine = StateMachine::new(catalog);
        Ok(Arc::clone(self.machine.catalog()))
    }

    /// The catalog after the command; `None` when it is known already.
    fn apply(&mut self, version: u64, bytes: &Bytes) -> Result<Option<Arc<Catalog>>, rpc::Error> {
        let known = self.machine.catalog().version;
        if version <= known {
            return Ok(None);
        }
        if version != known + 1 {
            let text = format!("a change is missing: version {version} came after {known}");
            return Err(rpc::Error::Internal(text));
        }
        let command = wire::decode_command(bytes).map_err(unreadable)?;
        let applied = self.machine.apply(&command);
        applied.map_err(|rejected| {
            rpc::Error::Internal(format!("version {version} is refused here: {rejected}"))
        })?;
        Ok(Some(Arc::clone(self.machine.catalog())))
    }
}

fn unreadable(error: wire::WireError) -> rpc::Error {
    rpc::Error::Invalid(format!("a change cannot be read: {error}"))
}

fn silent(address: &str, patience: Duration) -> rpc::Error {
    rpc::Error::Unavailable(format!("{address} was silent for {patience:?}"))
}
