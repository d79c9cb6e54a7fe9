//! Disks that are lost, and somebody who says that what was on them is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meta::store::MemoryStore;
use model::NodeId;
use rpc::{Catalog, Command, MetaApi};
use segment::wal::{Reader, StreamCache};
use testkit::sim_disk::SimDisk;

use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::process::{Run, Site};
use crate::questions::number_in;
use crate::world::{STORE_WRITE, World};

/// That of a voter is among them this often, and then also that of another, in a thousand.
const VOTER: u64 = 700;
const TWO: u64 = 300;
/// How often it is looked whether the cluster waits for somebody to accept a loss.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Fewer ingesters than this are not made fewer.
const INGESTERS_MIN: usize = 3;

/// Records that were on a disk.
pub(crate) type Lost = BTreeMap<NodeId, BTreeSet<RecordNumber>>;

impl World {
    /// The disks of one ingester, or of two, are gone, with all that coordinator and log had on them. Only
    /// when nothing is left of the loss before: all that was acknowledged until then is stored again as
    /// often as promised, and everybody who votes is alive.
    pub(crate) fn lose_disks(self: &Arc<Self>, ingesters: &[Arc<Site>], dice: &Dice) {
        let Some((voters, others)) = self.that_may_be_lost(ingesters) else {
            return;
        };
        // At most one voter: the others have what the catalog is made of.
        let voter = dice.pick(&voters).filter(|_| dice.chance(VOTER));
        let other = dice
            .pick(&others)
            .filter(|_| voter.is_none() || dice.chance(TWO));
        for site in voter.into_iter().chain(other).cloned() {
            self.lose_disk(&site);
            let world = Arc::clone(self);
            let down = dice.between(Duration::from_millis(100), Duration::from_secs(12));
            tokio::spawn(async move {
                tokio::time::sleep(down).await;
                world.start(&site.placed.address);
            });
        }
    }

    /// Ingesters that vote, and those that do not, if all are well.
    #[expect(clippy::type_complexity, reason = "two lists of the same")]
    fn that_may_be_lost(
        &self,
        ingesters: &[Arc<Site>],
    ) -> Option<(Vec<Arc<Site>>, Vec<Arc<Site>>)> {
        let led = self.leading()?;
        let catalog = self.newest_catalog()?;
        let cluster = &catalog.cluster;
        let mut alive = BTreeSet::new();
        for site in ingesters {
            let run = self.run_of(&site.placed.address).filter(|run| run.ready)?;
            alive.insert(run.node?.id()?);
            if site.is_to_leave.load(Ordering::Relaxed) {
                return None;
            }
        }
        let members = cluster.ring.members.keys();
        let whole = members.copied().eq(alive.iter().copied())
            && cluster.past_rings.is_empty()
            && cluster.ingesters().all(|member| alive.contains(&member.id))
            && led.voters.iter().all(|id| alive.contains(&NodeId(*id)))
            && led.voters.len() >= INGESTERS_MIN;
        if !whole || alive.len() < INGESTERS_MIN {
            return None;
        }
        Some(ingesters.iter().cloned().partition(|site| {
            let run = self.run_of(&site.placed.address);
            let id = run.and_then(|run| run.node?.id());
            id.is_some_and(|id| led.voters.contains(&id.0))
        }))
    }

    /// How the coordinator is that leads, if any.
    fn leading(&self) -> Option<meta::Status> {
        self.runs().iter().find_map(|run| {
            let status = run.node.as_ref()?.status();
            (status.leader.as_ref()?.node == status.node?).then_some(status)
        })
    }

    /// Whether there are as many voters as ever, all alive: one of them may die.
    pub(crate) fn voters_are_well(&self) -> bool {
        let runs = self.runs().into_iter().filter(|run| run.ready);
        let alive: BTreeSet<u64> = runs.filter_map(|run| Some(run.node?.id()?.0)).collect();
        self.leading().is_some_and(|led| {
            led.voters.len() >= INGESTERS_MIN && led.voters.iter().all(|id| alive.contains(id))
        })
    }

    fn lose_disk(&self, site: &Site) {
        let run = self.run_of(&site.placed.address);
        let Some(id) = run.and_then(|run| run.node?.id()) else {
            return;
        };
        let records = records_on(&site.disk.lock());
        let (address, count) = (&site.placed.address, records.len());
        self.trace.tell(format_args!(
            "{address}, node {}, loses its disk with {count} records",
            id.0
        ));
        self.lost.lock().insert(id, records);
        self.crash(address);
        *site.disk.lock() = SimDisk::new();
        *site.store.lock() = MemoryStore::new(STORE_WRITE);
    }

    /// Never returns. Accepts a loss as an operator does who sees that queries fail: when everybody who
    /// is left has stored what he had.
    pub(crate) async fn accept_losses(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(catalog) = self.newest_catalog() else {
                continue;
            };
            let past = || catalog.cluster.past_rings.values();
            let waits = |id: &NodeId| {
                past().any(|past| past.lost.contains(id) && past.undrained.is_empty())
            };
            let lost = self.lost.lock().clone();
            for (id, records) in lost.into_iter().filter(|(id, _)| waits(id)) {
                self.checks.see(&Event::LossAccepted(records));
                for Run { node, life, .. } in self.runs() {
                    let Some(node) = node else { continue };
                    let told = life.live(node.propose(Command::AcceptLoss(id))).await;
                    self.trace
                        .tell(format_args!("the loss of {} is accepted: {told:?}", id.0));
                    if matches!(told, Some(Ok(_))) {
                        break;
                    }
                }
            }
        }
    }

    /// The newest catalog that any run knows.
    pub(crate) fn newest_catalog(&self) -> Option<Arc<Catalog>> {
        let nodes = self.runs().into_iter().filter_map(|run| run.node);
        let catalogs = nodes.map(|node| node.catalog());
        catalogs.max_by_key(|catalog| catalog.version)
    }
}

/// Everything that a log had in its files for certain.
fn records_on(disk: &SimDisk) -> BTreeSet<RecordNumber> {
    let mut records = BTreeSet::new();
    for name in disk.list() {
        let Ok(bytes) = disk.read_durable(&name) else {
            continue;
        };
        let mut streams = StreamCache::default();
        if let Ok(mut reader) = Reader::new(Cursor::new(&bytes[..]), bytes.len() as u64) {
            while let Ok(Some(entry)) = reader.next_entry() {
                let Ok(batch) = entry.batch(&mut streams) else {
                    break;
                };
                let lines = (0..batch.len()).map(|row| batch.row(row).line());
                let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
                records.extend(lines.filter_map(|line| number_in(line).ok()));
            }
        }
    }
    records
}
