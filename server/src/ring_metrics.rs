//! How the rings are, as the catalog of this process says at the moment of the question.

use meta::Node;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};
use rpc::{Catalog, MetaApi};

/// Gauges over a coordinator's catalog.
struct RingMetrics {
    node: Node,
    gauges: Gauges,
}

#[derive(Clone)]
struct Gauges {
    version: IntGauge,
    shards: IntGauge,
    next: IntGauge,
    unaware: IntGauge,
    past: IntGauge,
    stuck: IntGauge,
}

/// Registers them.
///
/// # Errors
/// When the registry already has one of them.
pub(crate) fn register(registry: &Registry, node: Node) -> Result<(), prometheus::Error> {
    let gauges = Gauges::new()?;
    registry.register(Box::new(RingMetrics { node, gauges }))
}

impl Gauges {
    fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::new(format!("pharos_ring_{name}"), help);
        Ok(Gauges {
            version: gauge("version", "Version of the ring in use")?,
            shards: gauge("shards", "Into how many shards it cuts streams")?,
            next: gauge(
                "next_version",
                "Version of the ring that is to come into use; 0 when there is none",
            )?,
            unaware: gauge(
                "unaware",
                "Ingesters that have not said that they know the next ring",
            )?,
            past: gauge("past", "Replaced rings of which not all is stored")?,
            stuck: gauge(
                "stuck",
                "Replaced rings that wait for somebody to accept a loss; queries fail",
            )?,
        })
    }

    fn all(&self) -> [&IntGauge; 6] {
        [
            &self.version,
            &self.shards,
            &self.next,
            &self.unaware,
            &self.past,
            &self.stuck,
        ]
    }

    fn set(&self, catalog: &Catalog) {
        let cluster = &catalog.cluster;
        let next = cluster.next_ring.as_ref();
        let next = next.map_or(0, |next| next.ring.version.0);
        let past = cluster.past_rings.values();
        let stuck = past.filter(|past| past.undrained.is_empty()).count();
        let values = [
            cluster.ring.version.0 as i64,
            i64::from(cluster.ring.shards),
            next as i64,
            cluster.unaware().count() as i64,
            cluster.past_rings.len() as i64,
            stuck as i64,
        ];
        for (gauge, value) in self.all().into_iter().zip(values) {
            gauge.set(value);
        }
    }
}

impl Collector for RingMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges
            .all()
            .into_iter()
            .flat_map(|gauge| gauge.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauges.set(&self.node.catalog());
        self.gauges
            .all()
            .into_iter()
            .flat_map(|gauge| gauge.collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::{NodeId, RingVersion};
    use rpc::{NextRing, PastRing, Ring};

    use super::*;

    #[test]
    fn the_gauges_say_which_ring_waits_for_how_many_and_which_for_a_person() {
        let ring = |version, shards| Ring {
            version: RingVersion(version),
            shards,
            members: BTreeMap::from([(NodeId(1), "a".into()), (NodeId(2), "b".into())]),
        };
        let past = |version, undrained: &[u64]| PastRing {
            ring: ring(version, 4),
            undrained: undrained.iter().copied().map(NodeId).collect(),
            lost: BTreeSet::from([NodeId(2)]),
        };
        let mut catalog = Catalog::default();
        let cluster = &mut catalog.cluster;
        cluster.ring = ring(5, 4);
        cluster.next_ring = Some(NextRing {
            ring: ring(7, 16),
            known: BTreeSet::from([NodeId(2)]),
        });
        let member = rpc::Member {
            id: NodeId(1),
            address: "a:1".into(),
            zone: "a".into(),
            roles: rpc::RoleSet {
                ingester: true,
                ..rpc::RoleSet::default()
            },
            state: rpc::MemberState::Active,
        };
        cluster.members.insert(NodeId(1), member);
        for past in [past(3, &[1]), past(4, &[])] {
            cluster.past_rings.insert(past.ring.version, past);
        }
        let gauges = Gauges::new().unwrap();
        gauges.set(&catalog);
        assert_eq!(gauges.all().map(IntGauge::get), [5, 4, 7, 1, 2, 1]);
        catalog.cluster.next_ring = None;
        catalog.cluster.past_rings.clear();
        gauges.set(&catalog);
        assert_eq!(gauges.all().map(IntGauge::get), [5, 4, 0, 0, 0, 0]);
    }
}
