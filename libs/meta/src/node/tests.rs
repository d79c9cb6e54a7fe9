//! Clusters in one process, on tokio's paused clock: everything that takes time takes none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rpc::{Changes, MetaCall, MetaPeerApi, Outcome};
use tempfile::TempDir;
use tokio_stream::StreamExt;

use super::*;
use crate::store::MemoryStore;
use crate::testing::{SHAPE, flush, form};

mod alone;
mod chaos;
mod faults;
mod followers;
mod growth;

const INGESTER: RoleSet = RoleSet {
    distributor: false,
    ingester: true,
    querier: false,
};
const QUERIER: RoleSet = RoleSet {
    distributor: false,
    ingester: false,
    querier: true,
};

/// Processes by address, and who cannot reach whom.
#[derive(Default)]
struct Wires {
    nodes: Mutex<BTreeMap<String, Node>>,
    cut: Mutex<BTreeSet<(String, String)>>,
    /// Messages reach the other side, and answers to proposals are lost.
    lose_answers: AtomicBool,
    /// When not 0, messages are lost, late or doubled by the numbers that follow from this one.
    trouble: AtomicU64,
}

impl Wires {
    /// A number below this, if there is to be trouble.
    fn roll(&self, below: u64) -> Option<u64> {
        let state = self.trouble.load(Ordering::SeqCst);
        if state == 0 {
            return None;
        }
        // Knuth's MMIX generator.
        let next = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.trouble.store(next.max(1), Ordering::SeqCst);
        Some((next >> 33) % below)
    }
}

/// The way from one address to another.
struct Wire {
    wires: Arc<Wires>,
    from: String,
    to: String,
}

impl Wire {
    fn other(&self) -> Result<Node, rpc::Error> {
        let ways = [(&self.from, &self.to), (&self.to, &self.from)];
        let cut = self.wires.cut.lock().unwrap();
        if ways
            .iter()
            .any(|(a, b)| cut.contains(&((*a).clone(), (*b).clone())))
        {
            return Err(rpc::Error::Unavailable("the wire is cut".to_owned()));
        }
        let nodes = self.wires.nodes.lock().unwrap();
        let node = nodes.get(&self.to).cloned();
        node.ok_or_else(|| rpc::Error::Unavailable("nobody is there".to_owned()))
    }
}

#[async_trait]
impl MetaPeerApi for Wire {
    async fn call(&self, call: MetaCall, body: Bytes) -> Result<Bytes, rpc::Error> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let other = self.other()?;
        if self.wires.roll(16) == Some(0) {
            return Err(rpc::Error::Unavailable("it is lost".to_owned()));
        }
        if self.wires.roll(8) == Some(0) {
            let late = self.wires.roll(900).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(late)).await;
        }
        if self.wires.roll(16) == Some(0) {
            // It comes once more, when the first has long been answered.
            let (other, body) = (other.clone(), body.clone());
            let late = self.wires.roll(9000).unwrap_or(0);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(late)).await;
                other.call(call, body).await
            });
        }
        let answer = other.call(call, body).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.other()?;
        if self.wires.roll(16) == Some(0) {
            return Err(rpc::Error::Unavailable("the answer is lost".to_owned()));
        }
        let proposal = matches!(call, MetaCall::Propose | MetaCall::Join);
        if proposal && self.wires.lose_answers.swap(false, Ordering::SeqCst) {
            return Err(rpc::Error::Unavailable("the answer was lost".to_owned()));
        }
        answer
    }

    async fn watch(&self, after: u64) -> Result<Changes, rpc::Error> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut changes = self.other()?.watch(after).await?;
        let (frames, stream) = tokio::sync::mpsc::channel(8);
        let wire = Wire {
            wires: Arc::clone(&self.wires),
            from: self.from.clone(),
            to: self.to.clone(),
        };
        tokio::spawn(async move {
            while let Some(frame) = changes.next().await {
                let frame = wire.other().and(frame);
                if frame.is_err() || frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(
            stream,
        )))
    }
}

/// A cluster, with the disks that outlive its processes.
#[derive(Default)]
struct World {
    wires: Arc<Wires>,
    disks: BTreeMap<String, MemoryStore>,
    join: Vec<Arc<str>>,
    snapshot_commands: Option<u64>,
    seed: u64,
}

impl World {
    fn new(join: &[&str]) -> Self {
        World {
            join: join.iter().map(|address| Arc::from(*address)).collect(),
            ..World::default()
        }
    }

    fn config(&self, address: &str, roles: RoleSet) -> Config {
        let mut timings = Timings::default();
        if let Some(commands) = self.snapshot_commands {
            timings.snapshot_commands = commands;
        }
        Config {
            address: address.into(),
            zone: address.into(),
            roles,
            shape: SHAPE,
            join: self.join.clone(),
            voters: 3,
            timings,
            seed: address
                .bytes()
                .fold(7 + self.seed, |sum, byte| sum * 31 + u64::from(byte)),
        }
    }

    /// Starts a process on its disk, which is new unless it had one.
    async fn open(&mut self, address: &str, roles: RoleSet) -> Node {
        let store = match self.disks.get(address) {
            Some(disk) => disk.reopen(),
            None => MemoryStore::new(Duration::from_millis(1)),
        };
        let handle = store.clone();
        let wires = Arc::clone(&self.wires);
        let from = address.to_owned();
        let dial: Dial = Arc::new(move |to: &str| {
            Arc::new(Wire {
                wires: Arc::clone(&wires),
                from: from.clone(),
                to: to.to_owned(),
            }) as _
        });
        let config = self.config(address, roles);
        let node = Node::open(config, dial, Arc::new(store)).await.unwrap();
        self.disks.insert(address.to_owned(), handle);
        let mut nodes = self.wires.nodes.lock().unwrap();
        nodes.insert(address.to_owned(), node.clone());
        node
    }

    async fn start(&mut self, address: &str, roles: RoleSet) -> Node {
        let node = self.open(address, roles).await;
        node.join().await.unwrap();
        node.set_active().await.unwrap();
        node
    }

    /// As by kill -9: whatever was not on disk is gone.
    fn kill(&self, address: &str) {
        self.disks[address].close();
        let node = self.wires.nodes.lock().unwrap().remove(address);
        if let Some(node) = node {
            node.owner.core.stopping.send_replace(true);
        }
    }

    fn lose_disk(&mut self, address: &str) {
        self.disks.remove(address);
    }

    fn cut(&self, from: &str, to: &str) {
        let mut cut = self.wires.cut.lock().unwrap();
        cut.insert((from.to_owned(), to.to_owned()));
    }

    fn heal(&self) {
        self.wires.cut.lock().unwrap().clear();
    }

    /// Three ingesters that vote.
    async fn three(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for address in ["a", "b", "c"] {
            nodes.push(self.open(address, INGESTER).await);
        }
        let joining: Vec<_> = nodes
            .iter()
            .map(|node| {
                let node = node.clone();
                tokio::spawn(async move {
                    node.join().await.unwrap();
                    node.set_active().await.unwrap();
                })
            })
            .collect();
        for joined in joining {
            joined.await.unwrap();
        }
        for node in &nodes {
            until(node, |status| status.voters.len() == 3).await;
        }
        nodes
    }
}

/// Waits until a process sees this.
async fn until(node: &Node, seen: impl Fn(&Status) -> bool) -> Status {
    let patience = Instant::now() + Duration::from_secs(1200);
    loop {
        let status = node.status();
        if seen(&status) {
            return status;
        }
        assert!(Instant::now() < patience, "it never comes: {status:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn leader_of(nodes: &[Node]) -> Node {
    let leads = |node: &&Node| matches!(node.owner.core.leader(), Lead::Me);
    nodes.iter().find(leads).cloned().expect("somebody leads")
}

fn address(node: &Node) -> String {
    node.owner.core.config.address.to_string()
}

/// Proposes until it is made, as those who propose do.
async fn insist(node: &Node, command: Command) -> u64 {
    let mut last = None;
    for _ in 0..600 {
        match node.propose(command.clone()).await {
            Ok(Outcome::Done { version }) => return version,
            Ok(other) => panic!("{other:?}"),
            Err(rpc::Error::Conflict(_)) => return node.catalog().version,
            Err(rpc::Error::Unavailable(text)) => {
                last = Some(text);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it is never made: {last:?}, {:#?}", node.status());
}

/// Waits until a process that leaves may go.
async fn released(node: &Node) {
    let patience = Duration::from_secs(1200);
    let released = tokio::time::timeout(patience, node.released()).await;
    assert!(released.is_ok(), "it votes for ever: {:#?}", node.status());
}

async fn same_catalogs(nodes: &[Node]) {
    let newest = nodes.iter().map(|node| node.catalog().version).max();
    for node in nodes {
        until(node, |status| Some(status.version) == newest).await;
    }
    for pair in nodes.windows(2) {
        assert_eq!(pair[0].catalog(), pair[1].catalog());
    }
}
