use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use model::{HeadKey, NodeId, RingVersion, Shard};
use rpc::{Cluster, ClusterShape, Ring};

/// Who owns each shard under one ring, the one that flushes first.
pub(crate) trait Owners: Send + Sync {
    fn owners(&self, shard: Shard) -> &[NodeId];
}

/// What an ingester has to know of the cluster: the rings of which it may hold heads.
#[derive(Clone)]
pub(crate) struct Rings {
    node: NodeId,
    /// `None` as long as no cluster is formed: then everything is its own.
    current: Option<RingVersion>,
    /// Whether it is in the current ring, and whether anybody else is.
    member: bool,
    alone: bool,
    placements: BTreeMap<RingVersion, Arc<dyn Owners>>,
    /// Past rings whose heads it has not announced as drained, and who has not: only those may still
    /// flush some, not who has drained and not who was forgotten.
    undrained: BTreeMap<RingVersion, BTreeSet<NodeId>>,
    /// Members of the current ring that were forgotten.
    gone: BTreeSet<NodeId>,
    /// A next ring of which the coordinator does not know that it is known here.
    untold: Option<RingVersion>,
}

/// What to do with a batch that was sent to an owner of some ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// The ring is newer than any that is known here: the catalog will tell.
    Later,
    /// It must go to owners of a newer ring.
    Refuse,
}

impl Rings {
    /// No cluster is formed.
    pub(crate) fn none(node: NodeId) -> Self {
        Rings {
            node,
            current: None,
            member: true,
            alone: true,
            placements: BTreeMap::new(),
            undrained: BTreeMap::new(),
            gone: BTreeSet::new(),
            untold: None,
        }
    }

    /// What the cluster says; `None` when that is what `self` says already. Placements of rings that
    /// are known are kept.
    pub(crate) fn changed(
        &self,
        cluster: &Cluster,
        place: impl Fn(&Ring, &ClusterShape) -> Arc<dyn Owners>,
    ) -> Option<Rings> {
        let shape = cluster.shape?;
        let past = cluster.past_rings.values();
        let undrained = past.filter(|past| past.undrained.contains(&self.node));
        let undrained = undrained.map(|past| (past.ring.version, past.undrained.clone()));
        let undrained: BTreeMap<_, _> = undrained.collect();
        let is_untold = cluster.unaware().any(|(id, _)| id == self.node);
        let next = cluster.next_ring.as_ref().filter(|_| is_untold);
        let untold = next.map(|next| next.ring.version);
        let members = cluster.ring.members.keys();
        let gone = members.filter(|id| !cluster.members.contains_key(id));
        let gone: BTreeSet<NodeId> = gone.copied().collect();
        let known = cluster.readable_rings().map(|ring| ring.version);
        if self.current == Some(cluster.ring.version)
            && self.undrained == undrained
            && self.gone == gone
            && self.untold == untold
            && known.eq(self.placements.keys().copied())
        {
            return None;
        }
        let placements = cluster.readable_rings().map(|ring| {
            let known = self.placements.get(&ring.version).cloned();
            (ring.version, known.unwrap_or_else(|| place(ring, &shape)))
        });
        let members = &cluster.ring.members;
        let member = members.contains_key(&self.node);
        Some(Rings {
            node: self.node,
            current: Some(cluster.ring.version),
            member,
            alone: members.len() == usize::from(member),
            placements: placements.collect(),
            undrained,
            gone,
            untold,
        })
    }

    pub(crate) fn current(&self) -> RingVersion {
        self.current.unwrap_or_default()
    }

    pub(crate) fn is_member(&self) -> bool {
        self.member
    }

    pub(crate) fn undrained(&self) -> impl DoubleEndedIterator<Item = RingVersion> + '_ {
        self.undrained.keys().copied()
    }

    /// A next ring that waits for this ingester, among others, to say that it knows it.
    pub(crate) fn untold(&self) -> Option<RingVersion> {
        self.untold
    }

    /// Whether a batch for this ring may be taken, when all rings up to `fenced` are closed here. A
    /// sender that has chosen no owner says ring 0: fine where there is no other.
    pub(crate) fn judge(&self, ring: RingVersion, fenced: RingVersion) -> Verdict {
        let Some(current) = self.current else {
            return Verdict::Take;
        };
        let open = match ring {
            RingVersion(0) => self.alone && self.member,
            ring if ring > current => return Verdict::Later,
            ring if ring == current => self.member && ring > fenced,
            ring => self.undrained.contains_key(&ring) && ring > fenced,
        };
        match open {
            true => Verdict::Take,
            false => Verdict::Refuse,
        }
    }

    /// Whether owners of the key are known: not while the catalog here is behind.
    pub(crate) fn knows(&self, key: &HeadKey) -> bool {
        self.current.is_none_or(|current| key.ring <= current)
    }

    /// The other owners of the key; none where it is the only one, or where the ring is forgotten
    /// because nobody else has heads of it.
    pub(crate) fn others(&self, key: &HeadKey) -> impl Iterator<Item = NodeId> + '_ {
        let owners = self.owners(key).iter().copied();
        owners.filter(|owner| *owner != self.node)
    }

    /// How many owners of the key are to flush it before this one does.
    pub(crate) fn position(&self, key: &HeadKey) -> usize {
        let left = self.undrained.get(&key.ring);
        let flushes = |owner: &&NodeId| match left {
            Some(left) => left.contains(owner),
            None => !self.gone.contains(owner),
        };
        let owners = self.owners(key).iter();
        let before = owners.take_while(|owner| **owner != self.node);
        before.filter(flushes).count()
    }

    fn owners(&self, key: &HeadKey) -> &[NodeId] {
        let placement = self.placements.get(&key.ring);
        placement.map_or(&[], |placement| placement.owners(key.shard))
    }
}

impl fmt::Debug for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rings")
            .field("node", &self.node)
            .field("current", &self.current)
            .field("undrained", &self.undrained)
            .field("untold", &self.untold)
            .finish_non_exhaustive()
    }
}
