//! A reader is cut off together with as many old owners as it needs, and the ring changes on the other
//! side: what is acknowledged there must not be missed here
//! (`docs/adr/0016-when-a-new-ring-may-be-used.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use rpc::MetaApi;

use crate::dice::Dice;
use crate::process::Site;
use crate::world::World;

/// The two sides.
pub(crate) struct Split {
    pub(crate) here: Vec<Arc<Site>>,
    pub(crate) there: Vec<Arc<Site>>,
}

impl World {
    /// Cuts a querier and a read quorum of ingesters of the newest ring off from everybody else, both
    /// ways.
    pub(crate) fn cut_off_reader(&self, dice: &Dice) -> Split {
        let nodes = self.runs().into_iter().filter_map(|run| run.node);
        let newest = nodes.map(|node| node.catalog());
        let newest = newest.max_by_key(|catalog| catalog.version);
        let newest = newest.unwrap_or_default();
        let sites = self.sites();
        let readers = sites.iter().filter(|site| site.placed.roles.querier);
        let readers: Vec<&Arc<Site>> = readers.collect();
        let reader = dice.pick(&readers).map(|site| &site.placed.address);
        let mut cut_off: BTreeSet<&Arc<str>> = reader.into_iter().collect();
        let cluster = &newest.cluster;
        let owners = cluster.ring.members.keys();
        let owners = owners.filter_map(|id| cluster.members.get(id));
        let mut owners: Vec<&Arc<str>> = owners.map(|member| &member.address).collect();
        if let Some(shape) = cluster.shape {
            let of_a_shard = shape.owners_among(owners.len());
            for _ in 0..shape.read_quorum(of_a_shard).min(owners.len()) {
                let at = dice.below(owners.len() as u64) as usize;
                cut_off.insert(owners.swap_remove(at));
            }
        }
        self.trace
            .tell(format_args!("cut off from the others: {cut_off:?}"));
        let is_here = |site: &Arc<Site>| cut_off.contains(&site.placed.address);
        let (here, there) = sites.iter().cloned().partition(is_here);
        let split = Split { here, there };
        for site in &split.there {
            split.keep_apart(self, &site.placed.address);
        }
        split
    }
}

impl Split {
    /// Cuts somebody of the other side off from this one.
    pub(crate) fn keep_apart(&self, world: &World, other: &Arc<str>) {
        for site in &self.here {
            world.net.cut(&site.placed.address, other);
            world.net.cut(other, &site.placed.address);
        }
    }
}
