//! Who owns what, while nodes join one after another.
//!
//! A node takes a shard from an owner when it is nearer to it: that is rendezvous hashing, which
//! forgets in which order nodes came. By chance alone, some nodes would own far more than others,
//! so that limits stand around it, as in "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup,
//! Zadimoghaddam, 2016): nobody may own much more or much less than its fair share.

use model::NodeId;

use crate::share::fair_shares;
use crate::token::Tokens;

/// How far a node may be from its fair share: 10 %, for 15 % is what is promised, and a share is a
/// whole number.
const LEEWAY: f64 = 0.1;

/// A node that has joined, by its place in [`Table::nodes`].
type Index = usize;

struct Node {
    id: NodeId,
    /// Its zone, by number.
    zone: usize,
    /// How many shards it owns.
    owned: Share,
    /// Of how many of them it is the first owner.
    first: Share,
}

/// How much a node has of something, and how much it may have.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: usize,
    least: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    node: Index,
    /// From the shard to the node.
    distance: u64,
}

/// A shard that the joining node may take, and from whom.
struct Offer {
    /// How much nearer the joining node is: its distance divided by the owner's.
    ratio: f64,
    shard: usize,
    from: Index,
}

/// The owners of all shards.
pub(crate) struct Table {
    replicas: usize,
    nodes: Vec<Node>,
    zones: Vec<Box<str>>,
    /// By shard; the first owner first.
    shards: Vec<Vec<Owner>>,
}

impl Table {
    pub(crate) fn new(shards: usize, replicas: usize) -> Self {
        Table {
            replicas,
            nodes: Vec::new(),
            zones: Vec::new(),
            shards: vec![Vec::with_capacity(replicas.min(16)); shards],
        }
    }

    /// Adds a node and gives it its share.
    pub(crate) fn join(&mut self, id: NodeId, zone: &str) {
        let known = self.zones.iter().position(|known| **known == *zone);
        let zone = known.unwrap_or_else(|| {
            self.zones.push(zone.into());
            self.zones.len() - 1
        });
        let new = self.nodes.len();
        self.nodes.push(Node {
            id,
            zone,
            owned: Share::default(),
            first: Share::default(),
        });
        self.set_limits();
        let tokens = Tokens::of(id);
        let distances = (0..self.shards.len()).map(|shard| tokens.distance(shard));
        let distances: Vec<u64> = distances.collect();
        if new < self.replicas {
            self.take_all(new, &distances);
        } else {
            self.spread_to_zone(new, &distances);
            self.take_share(new, &distances);
        }
        self.level_firsts();
    }

    /// All owners, shard by shard.
    pub(crate) fn owners(&self) -> Vec<NodeId> {
        let owners = self.shards.iter().flatten();
        owners.map(|owner| self.nodes[owner.node].id).collect()
    }

    fn set_limits(&mut self) {
        let mut sizes = vec![0; self.zones.len()];
        for node in &self.nodes {
            sizes[node.zone] += 1;
        }
        let shares = fair_shares(self.shards.len(), self.replicas, &sizes);
        let firsts = self.shards.len() as f64 / self.nodes.len() as f64;
        for node in &mut self.nodes {
            node.owned.limit(shares[node.zone]);
            node.first.limit(firsts);
        }
    }

    fn take_all(&mut self, new: Index, distances: &[u64]) {
        for (owners, distance) in self.shards.iter_mut().zip(distances) {
            owners.push(Owner {
                node: new,
                distance: *distance,
            });
            if owners.len() == 1 {
                self.nodes[new].first.count += 1;
            }
        }
        self.nodes[new].owned.count += self.shards.len();
        for shard in 0..self.shards.len() {
            self.prefer_nearest(shard, new);
        }
    }

    /// Makes the node an owner of every shard that has two owners in one zone and none in the
    /// node's, whatever its fair share is.
    fn spread_to_zone(&mut self, new: Index, distances: &[u64]) {
        for (shard, distance) in distances.iter().enumerate() {
            if self.has_zone(shard, self.nodes[new].zone) {
                continue;
            }
            let owners = self.shards[shard].iter().map(|owner| owner.node);
            let spare = owners.filter(|owner| self.shares_zone(shard, *owner));
            if let Some(from) = spare.max_by_key(|owner| self.nodes[*owner].owned.count) {
                self.replace(shard, from, new, *distance);
            }
        }
    }

    /// Moves shards to the node: from those that have too many now, then all that are nearer to it,
    /// and more until it has enough.
    fn take_share(&mut self, new: Index, distances: &[u64]) {
        let mut offers = Vec::with_capacity(self.shards.len() * self.replicas);
        for (shard, owners) in self.shards.iter().enumerate() {
            let distance = distances[shard];
            offers.extend(owners.iter().map(|owner| Offer {
                ratio: distance as f64 / owner.distance.max(1) as f64,
                shard,
                from: owner.node,
            }));
        }
        offers.sort_by(|a, b| a.ratio.total_cmp(&b.ratio).then(a.shard.cmp(&b.shard)));
        type Wanted = fn(&Offer, &Share, &Share) -> bool;
        let turns: [Wanted; 4] = [
            |_, from, _| from.count > from.most,
            |offer, from, _| offer.ratio < 1.0 && from.count > from.least,
            |_, from, new| new.count < new.least && from.count > from.least,
            |_, from, new| new.count < new.least && from.count >= new.count + 2,
        ];
        for wanted in turns {
            for offer in &offers {
                let (from, to) = (&self.nodes[offer.from].owned, &self.nodes[new].owned);
                if to.count >= to.most {
                    return;
                }
                if wanted(offer, from, to) && self.may_replace(offer.shard, offer.from, new) {
                    self.replace(offer.shard, offer.from, new, distances[offer.shard]);
                }
            }
        }
    }

    /// Whether one may give way to the other without the owners standing in fewer zones.
    fn may_replace(&self, shard: usize, from: Index, new: Index) -> bool {
        let owners = &self.shards[shard];
        let (old_zone, new_zone) = (self.nodes[from].zone, self.nodes[new].zone);
        owners.iter().any(|owner| owner.node == from)
            && owners.iter().all(|owner| owner.node != new)
            && (old_zone == new_zone
                || !self.has_zone(shard, new_zone)
                || self.shares_zone(shard, from))
    }

    fn has_zone(&self, shard: usize, zone: usize) -> bool {
        let mut owners = self.shards[shard].iter();
        owners.any(|owner| self.nodes[owner.node].zone == zone)
    }

    /// Whether another owner of the shard is in the zone of this one.
    fn shares_zone(&self, shard: usize, node: Index) -> bool {
        let zone = self.nodes[node].zone;
        let mut others = self.shards[shard].iter().filter(|o| o.node != node);
        others.any(|other| self.nodes[other.node].zone == zone)
    }

    fn replace(&mut self, shard: usize, from: Index, new: Index, distance: u64) {
        let owners = &mut self.shards[shard];
        let Some(at) = owners.iter().position(|owner| owner.node == from) else {
            return;
        };
        owners[at] = Owner {
            node: new,
            distance,
        };
        self.nodes[from].owned.count -= 1;
        self.nodes[new].owned.count += 1;
        if at == 0 {
            self.nodes[from].first.count -= 1;
            self.nodes[new].first.count += 1;
        }
        self.prefer_nearest(shard, new);
    }

    /// Lets the nearest owner be the first, if that is the new one, or the new one is now.
    fn prefer_nearest(&mut self, shard: usize, new: Index) {
        let owners = &self.shards[shard];
        let nearest = (0..owners.len()).min_by_key(|at| (owners[*at].distance, *at));
        let Some(nearest) = nearest else { return };
        if owners[0].node == new || owners[nearest].node == new {
            self.make_first(shard, nearest);
        }
    }

    fn make_first(&mut self, shard: usize, at: usize) {
        let owners = &mut self.shards[shard];
        self.nodes[owners[0].node].first.count -= 1;
        self.nodes[owners[at].node].first.count += 1;
        owners.swap(0, at);
    }

    /// Where an owner is the first too often, or another too rarely, the other becomes it. Ends,
    /// because each change brings two counts nearer to each other.
    fn level_firsts(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for shard in 0..self.shards.len() {
                let owners = &self.shards[shard];
                let first = |at: usize| &self.nodes[owners[at].node].first;
                let rarest = (1..owners.len()).min_by_key(|at| first(*at).count);
                let Some(rarest) = rarest else { continue };
                let (now, then) = (first(0), first(rarest));
                let uneven = now.count > now.most || then.count < then.least;
                if uneven && now.count >= then.count + 2 {
                    self.make_first(shard, rarest);
                    changed = true;
                }
            }
        }
    }
}

impl Share {
    fn limit(&mut self, fair: f64) {
        self.least = ((fair * (1.0 - LEEWAY)).ceil() as usize).min(fair as usize);
        self.most = ((fair * (1.0 + LEEWAY)) as usize).max(fair.ceil() as usize);
    }
}
