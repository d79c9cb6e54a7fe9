//! A process of the cluster: what it keeps over its crashes, and how one run of it starts.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use ingester::Ingester;
use meta::Node;
use meta::store::MemoryStore;
use model::HeadId;
use parking_lot::Mutex;
use rpc::{Catalog, Command, Error, MetaApi, Outcome};
use segment::wal::Reader;
use testkit::sim_disk::SimDisk;

use crate::cost::Processor;
use crate::disk::DiskPace;
use crate::invariants::{Checks, Event};
use crate::life::{Life, SkewedClock};
use crate::mutants::Mutant;
use crate::plan::Placed;

/// What stays when a process crashes.
pub(crate) struct Site {
    pub(crate) placed: Placed,
    pub(crate) clock: Arc<SkewedClock>,
    /// Of the log.
    pub(crate) disk: Mutex<SimDisk>,
    /// Of the coordinator.
    pub(crate) store: Mutex<MemoryStore>,
    pub(crate) pace: Arc<Mutex<DiskPace>>,
    pub(crate) folder: PathBuf,
    pub(crate) processor: Arc<Processor>,
    /// Somebody has told it to leave.
    pub(crate) is_to_leave: AtomicBool,
    /// It has left for good.
    pub(crate) has_left: AtomicBool,
}

/// One run of a process.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) life: Arc<Life>,
    pub(crate) node: Option<Node>,
    pub(crate) ingester: Option<Ingester>,
    pub(crate) pushes: Option<Router>,
    pub(crate) queries: Option<Router>,
    /// Its roles are at work.
    pub(crate) ready: bool,
}

impl Run {
    pub(crate) fn new(life: Arc<Life>) -> Self {
        Run {
            life,
            node: None,
            ingester: None,
            pushes: None,
            queries: None,
            ready: false,
        }
    }
}

impl Site {
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }
}

/// The coordinator as the roles of its process see it; it tells what is flushed.
pub(crate) struct Coordinator {
    pub(crate) life: Arc<Life>,
    pub(crate) node: Node,
    pub(crate) checks: Arc<Checks>,
    pub(crate) mutant: Option<Mutant>,
}

impl Coordinator {
    /// A role takes this catalog: the checks see each, in the order in which they are taken, so that
    /// none that is older than one before it gets away.
    fn shown(&self, catalog: Arc<Catalog>) -> Arc<Catalog> {
        self.checks.see(&Event::Shows {
            life: self.life.number,
            address: Arc::clone(&self.life.address),
            catalog: Arc::clone(&catalog),
        });
        match self.mutant {
            Some(mutant) => mutant.catalog(catalog),
            None => catalog,
        }
    }
}

#[async_trait]
impl MetaApi for Coordinator {
    fn catalog(&self) -> Arc<Catalog> {
        self.shown(self.node.catalog())
    }

    async fn changed(&self, version: u64) -> Arc<Catalog> {
        let changed = self.shown(self.node.changed(version).await);
        self.life.halt_if_over().await;
        changed
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        self.life.halt_if_over().await;
        if self.mutant.is_some_and(|mutant| mutant.swallows(&command)) {
            return Err(Error::Unavailable("nobody answers".to_owned()));
        }
        let key = match &command {
            Command::CommitFlush(commit) if !commit.segments.is_empty() => Some(commit.key),
            _ => None,
        };
        let outcome = self.node.propose(command).await;
        self.life.halt_if_over().await;
        if let (Some(key), Ok(_)) = (key, &outcome) {
            self.checks.see(&Event::Flushed(key));
        }
        outcome
    }
}

/// Heads of which records stand in these bytes of a log file.
pub(crate) fn heads_in(bytes: &[u8]) -> BTreeSet<HeadId> {
    let mut heads = BTreeSet::new();
    if let Ok(mut reader) = Reader::new(Cursor::new(bytes), bytes.len() as u64) {
        while let Ok(Some(entry)) = reader.next_entry() {
            heads.insert(entry.filing.head);
        }
    }
    heads
}
