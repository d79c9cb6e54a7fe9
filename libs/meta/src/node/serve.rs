//! Answers to other processes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rpc::{Changes, MetaCall, MetaPeerApi};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Core, Lead, Node, not_joined, voters_of};
use crate::peer::{self, Frame, Hello, Message, PROTOCOL, ProposeAnswer, ProposeAsk, StatusAsk};
use crate::raft::Raft;
use crate::replica::Next;
use crate::status::{Contact, Status};
use crate::wire;

/// Frames that wait for a slow follower.
const FRAMES_MAX: usize = 64;
/// A whole catalog is sent in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

#[async_trait]
impl MetaPeerApi for Node {
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, rpc::Error> {
        let core = &self.owner.core;
        match call {
            MetaCall::Status => core.answer_status(&peer::decode_question(&body)?).await,
            MetaCall::Propose | MetaCall::Join => {
                let ask: ProposeAsk = peer::decode_question(&body)?;
                core.check_cluster(&ask.cluster)?;
                if call == MetaCall::Join
                    && let Some(refused) = core.join_refused(&ask.proposal)
                {
                    return peer::encode(&ProposeAnswer::Applied(refused));
                }
                peer::encode(&core.write_here(ask.proposal).await?)
            }
            MetaCall::Raft => core.answer_raft(body).await,
        }
    }

    async fn watch(&self, after: u64) -> Result<Changes, rpc::Error> {
        let core = &self.owner.core;
        let cluster = core.cluster().ok_or_else(not_joined)?;
        core.check_takes_part()?;
        let (frames, stream) = mpsc::channel(FRAMES_MAX);
        core.spawn(|core| async move {
            if let Err(error) = core.send_changes(cluster, after, &frames).await {
                // Whoever followed may be gone.
                let _ = frames.send(Err(error)).await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(stream)))
    }
}

impl Core {
    async fn answer_status(self: &Arc<Self>, ask: &StatusAsk) -> Result<Bytes, rpc::Error> {
        let own = self.cluster();
        if ask.from.is_some() && ask.cluster == own {
            self.note_life(ask.from);
        }
        if ask.linear {
            let raft = self.raft.get().ok_or_else(not_joined)?;
            let sure = tokio::time::timeout(self.config.timings.call, raft.ensure_linearizable());
            match sure.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(rpc::Error::Unavailable(error.to_string())),
                Err(_) => {
                    let text = "a majority of voters does not answer the leader";
                    return Err(rpc::Error::Unavailable(text.to_owned()));
                }
            }
        }
        peer::encode(&self.status())
    }

    pub(super) fn status(&self) -> Status {
        let metrics = self.metrics();
        let leader = match self.leader() {
            Lead::Me => self.id().map(|id| Contact {
                node: id.0,
                address: self.config.address.to_string(),
            }),
            Lead::At(address) => {
                let from_log = metrics.as_ref().and_then(|m| m.current_leader);
                match from_log {
                    Some(node) if self.contacts.address_of(node).as_ref() == Some(&address) => {
                        Some(Contact {
                            node,
                            address: address.to_string(),
                        })
                    }
                    _ => self.contacts.leader(),
                }
            }
            Lead::Unknown => None,
        };
        let taking_part = metrics.as_ref().filter(|metrics| self.takes_part(metrics));
        let membership = taking_part.map(|m| m.membership_config.membership());
        let (term, voters) = match taking_part {
            Some(metrics) => (metrics.current_term, voters_of(metrics).collect()),
            None => self.contacts.electorate(),
        };
        let mut status = Status {
            protocol: PROTOCOL,
            cluster: self.cluster(),
            node: self.id().map(|id| id.0),
            address: self.config.address.to_string(),
            ingester: self.config.roles.ingester,
            leader,
            term,
            voters: voters.into_iter().collect(),
            learners: membership.map_or(Vec::new(), |m| m.learner_ids().collect()),
            last_log: metrics.as_ref().and_then(|m| m.last_log_index),
            applied: metrics.as_ref().and_then(|m| Some(m.last_applied?.index)),
            snapshot: metrics.as_ref().and_then(|m| Some(m.snapshot?.index)),
            // What the catalog tells is filled in below.
            ..Status::default()
        };
        let heard = self.heard().clone();
        status.describe(&self.catalog(), |node| {
            let at = heard.get(&node)?;
            u64::try_from(at.elapsed().as_millis()).ok()
        });
        status
    }

    async fn answer_raft(&self, body: Bytes) -> Result<Bytes, rpc::Error> {
        let ask = peer::decode_raft(body)?;
        self.check_cluster(&ask.cluster)?;
        let raft = self.raft.get().ok_or_else(not_joined)?;
        let own = self.id().map(|id| id.0);
        if own != Some(ask.to) {
            return Err(rpc::Error::Invalid(format!(
                "this is node {own:?}, and the message is for node {}",
                ask.to
            )));
        }
        answer_message(raft, ask.message).await
    }

    fn check_cluster(&self, asked: &str) -> Result<(), rpc::Error> {
        match self.cluster() {
            Some(own) if own == asked => Ok(()),
            Some(own) => Err(rpc::Error::Invalid(format!(
                "this process is in cluster {own}, not in {asked}"
            ))),
            None => Err(not_joined()),
        }
    }

    /// Only who hears of changes from the log may pass them on; otherwise two who hear of none could
    /// follow each other.
    fn check_takes_part(&self) -> Result<(), rpc::Error> {
        match self.metrics() {
            Some(metrics) if self.takes_part(&metrics) => Ok(()),
            _ => Err(rpc::Error::Unavailable(
                "this process does not vote, or hears of no leader: follow another".to_owned(),
            )),
        }
    }

    async fn send_changes(
        &self,
        cluster: String,
        mut after: u64,
        frames: &mpsc::Sender<Result<Bytes, rpc::Error>>,
    ) -> Result<(), rpc::Error> {
        let protocol = PROTOCOL;
        let hello = Frame::Hello(Hello { protocol, cluster });
        if frames.send(hello.encode().map(Ok)?).await.is_err() {
            return Ok(());
        }
        let mut catalog = self.replica.subscribe();
        loop {
            let mut out = Vec::new();
            match self.replica.after(after) {
                Next::Commands(commands) => {
                    for (version, bytes) in commands {
                        after = version;
                        out.push(Frame::Command { version, bytes });
                    }
                }
                Next::Whole(catalog) => {
                    after = catalog.version;
                    out = pieces(Bytes::from(wire::encode_catalog(&catalog)));
                }
            }
            for frame in out {
                if frames.send(frame.encode().map(Ok)?).await.is_err() {
                    return Ok(());
                }
            }
            let newer = catalog.wait_for(|now| now.version > after);
            let quiet = self.config.timings.report_every;
            if tokio::time::timeout(quiet, newer).await.is_err() {
                self.check_takes_part()?;
                let alive = Frame::Alive { version: after };
                if frames.send(alive.encode().map(Ok)?).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn pieces(mut catalog: Bytes) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let bytes = catalog.split_to(catalog.len().min(PIECE_BYTES));
        let last = catalog.is_empty();
        frames.push(Frame::Catalog { last, bytes });
        if last {
            return frames;
        }
    }
}

async fn answer_message(raft: &Raft, message: Message) -> Result<Bytes, rpc::Error> {
    let failed = |error: &dyn std::fmt::Display| {
        rpc::Error::Unavailable(format!("the replicated log did not take it: {error}"))
    };
    match message {
        Message::Append(request) => {
            let answer = raft.append_entries(request).await;
            peer::encode(&answer.map_err(|error| failed(&error))?)
        }
        Message::Vote(request) => {
            let answer = raft.vote(request).await;
            peer::encode(&answer.map_err(|error| failed(&error))?)
        }
        Message::Snapshot(request) => {
            let answer = raft.install_snapshot(request).await;
            peer::encode(&answer.map_err(|error| failed(&error))?)
        }
    }
}

/// The port of a process that does not exist.
pub(super) struct Unreachable(pub(super) String);

#[async_trait]
impl MetaPeerApi for Unreachable {
    async fn call(&self, _: MetaCall, _: Bytes) -> Result<Bytes, rpc::Error> {
        Err(self.error())
    }

    async fn watch(&self, _: u64) -> Result<Changes, rpc::Error> {
        Err(self.error())
    }
}

impl Unreachable {
    fn error(&self) -> rpc::Error {
        rpc::Error::Unavailable(format!("a lone process cannot reach {}", self.0))
    }
}
