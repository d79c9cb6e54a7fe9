use std::collections::BTreeMap;

use model::RingVersion;
use rpc::Ring;

use super::{Event, Invariant};

/// To a process the versions of catalog and ring never go back, a version of the ring has the same
/// members and shards wherever it is seen, and a newer one no fewer shards.
#[derive(Debug, Default)]
pub(crate) struct RingsOnlyGrow {
    /// By the run of a process: the newest it has shown.
    shown: BTreeMap<u64, (u64, RingVersion)>,
    rings: BTreeMap<RingVersion, Ring>,
}

impl Invariant for RingsOnlyGrow {
    fn name(&self) -> &'static str {
        "rings_only_grow"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        let Event::Shows {
            life,
            address,
            catalog,
        } = event
        else {
            return Ok(());
        };
        let ring = &catalog.cluster.ring;
        let now = (catalog.version, ring.version);
        if let Some(before) = self.shown.insert(*life, now)
            && (before.0 > now.0 || before.1 > now.1)
        {
            return Err(format!(
                "{address} showed catalog {} with ring {}, and then {} with ring {}",
                before.0, before.1.0, now.0, now.1.0
            ));
        }
        let next = catalog.cluster.next_ring.as_ref().map(|next| &next.ring);
        if let Some(next) = next.filter(|next| next.version <= ring.version) {
            return Err(format!(
                "ring {} is to come at {address}, where ring {} is current",
                next.version.0, ring.version.0
            ));
        }
        for ring in next.into_iter().chain([ring]) {
            let first = self.rings.entry(ring.version);
            let first = first.or_insert_with(|| ring.clone());
            if first != ring {
                return Err(format!("there is {first:?}, and at {address} {ring:?}"));
            }
        }
        let mut rings = self.rings.values().zip(self.rings.values().skip(1));
        if let Some((before, after)) = rings.find(|(before, after)| before.shards > after.shards) {
            return Err(format!("{after:?} has fewer shards than {before:?}"));
        }
        let mut past = catalog.cluster.past_rings.keys();
        match past.find(|version| **version >= ring.version) {
            Some(past) => Err(format!(
                "ring {} is past at {address}, and ring {} is current",
                past.0, ring.version.0
            )),
            None => Ok(()),
        }
    }
}
