//! Which build this is, and how its coordinator is at the moment of the question.

use std::time::Duration;

use meta::{Node, Status, Timings};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

/// Registers `pharos_build_info`.
///
/// # Errors
/// When the registry already has it.
pub(crate) fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    let opts = Opts::new("pharos_build_info", "1, with the version of this process");
    let info = IntGaugeVec::new(opts, &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))
}

/// Registers the gauges of a coordinator.
///
/// # Errors
/// When the registry already has one of them.
pub(crate) fn register_coordinator(
    registry: &Registry,
    node: Node,
) -> Result<(), prometheus::Error> {
    let gauges = Gauges::new()?;
    registry.register(Box::new(Coordinator { node, gauges }))
}

struct Coordinator {
    node: Node,
    gauges: Gauges,
}

struct Gauges {
    leader_known: IntGauge,
    leads: IntGauge,
    term: IntGauge,
    version: IntGauge,
    voters: IntGauge,
    /// Told by the leader only: others hear of nobody.
    voters_heard: IntGauge,
}

impl Gauges {
    fn new() -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str| IntGauge::new(format!("pharos_coordinator_{name}"), help);
        Ok(Gauges {
            leader_known: gauge(
                "leader_known",
                "1 when this process knows who leads, else 0",
            )?,
            leads: gauge("leads", "1 when this process leads, else 0")?,
            term: gauge("term", "The newest election that this process knows of")?,
            version: gauge("catalog_version", "Version of the catalog of this process")?,
            voters: gauge(
                "voters",
                "Ingesters that vote, as far as this process knows",
            )?,
            voters_heard: gauge(
                "voters_heard",
                "Voters that were heard of within ten seconds, at the one that leads",
            )?,
        })
    }

    /// Sets those that are to be told, and gives them.
    fn set(&self, status: &Status) -> Vec<&IntGauge> {
        let leads = status.node.is_some()
            && status.leader.as_ref().map(|leader| leader.node) == status.node;
        let within = Timings::default().live_within;
        let members = status.members.iter().filter(|member| member.voter);
        let heard = members.filter(|member| {
            let silent = member.silent_millis.map(Duration::from_millis);
            silent.is_some_and(|silent| silent < within)
        });
        let mut values = vec![
            (&self.leader_known, i64::from(status.leader.is_some())),
            (&self.leads, i64::from(leads)),
            (&self.term, status.term as i64),
            (&self.version, status.version as i64),
            (&self.voters, status.voters.len() as i64),
        ];
        if leads {
            values.push((&self.voters_heard, heard.count() as i64));
        }
        let set = |(gauge, value): (_, i64)| {
            IntGauge::set(gauge, value);
            gauge
        };
        values.into_iter().map(set).collect()
    }
}

impl Collector for Coordinator {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = &self.gauges;
        let all = [
            &gauges.leader_known,
            &gauges.leads,
            &gauges.term,
            &gauges.version,
            &gauges.voters,
            &gauges.voters_heard,
        ];
        all.into_iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let told = self.gauges.set(&self.node.status());
        told.into_iter().flat_map(|gauge| gauge.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_tells_how_many_voters_it_hears_and_others_do_not() {
        let member = |node: u64, silent: u64| {
            format!(
                r#"{{"node":{node},"address":"a:1","zone":"x","roles":["ingester"],"state":"active","voter":true,
                "silent_millis":{silent}}}"#
            )
        };
        let text = format!(
            r#"{{"protocol":1,"cluster":"00","node":1,"address":"a:1","ingester":true,
            "leader":{{"node":1,"address":"a:1"}},"term":3,"voters":[1,2,3],"learners":[],"last_log":9,"applied":9,
            "snapshot":null,"version":7,"last_node":3,"segments":5,"ring":4,"past_rings":[],"members":[{},{},{}]}}"#,
            member(1, 0),
            member(2, 9_999),
            member(3, 10_000)
        );
        let mut status: Status = serde_json::from_str(&text).unwrap();
        let gauges = Gauges::new().unwrap();
        let told = |status: &Status| -> Vec<i64> {
            gauges.set(status).into_iter().map(IntGauge::get).collect()
        };
        assert_eq!(told(&status), [1, 1, 3, 7, 3, 2]);
        status.node = Some(2);
        assert_eq!(told(&status), [1, 0, 3, 7, 3]);
        status.leader = None;
        assert_eq!(told(&status), [0, 0, 3, 7, 3]);
    }
}
