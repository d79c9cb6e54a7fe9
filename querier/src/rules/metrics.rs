use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::outbox::OutboxMetrics;

/// What became of rules and of what they gave.
#[derive(Clone, Debug)]
pub(crate) struct RuleMetrics {
    pub(crate) groups: IntGauge,
    pub(crate) unsaved: IntGauge,
    pub(crate) evaluations: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) missed: IntCounter,
    alerts: [IntCounterVec; 3],
    pub(crate) remote_write: OutboxMetrics,
}

impl RuleMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let by_alertmanager = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["alertmanager"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(RuleMetrics {
            groups: gauge(
                "pharos_querier_rule_groups",
                "Rule groups that this process evaluates",
            )?,
            unsaved: gauge(
                "pharos_querier_rule_states_unsaved",
                "States of rule groups that another process would not know yet",
            )?,
            evaluations: counter(
                "pharos_querier_rule_evaluations_total",
                "Evaluations of rules",
            )?,
            failures: counter(
                "pharos_querier_rule_failures_total",
                "Evaluations of rules that failed",
            )?,
            missed: counter(
                "pharos_querier_rule_missed_total",
                "Times for which a rule group was not evaluated, since the one before took too long",
            )?,
            alerts: [
                by_alertmanager(
                    "pharos_querier_alerts_sent_total",
                    "Alerts that an Alertmanager took",
                )?,
                by_alertmanager(
                    "pharos_querier_alerts_lost_total",
                    "Alerts that an Alertmanager refused or could not be sent",
                )?,
                by_alertmanager(
                    "pharos_querier_alerts_retries_total",
                    "Requests to an Alertmanager that were tried again",
                )?,
            ],
            remote_write: OutboxMetrics {
                sent: counter(
                    "pharos_querier_rule_samples_sent_total",
                    "Samples that the remote write endpoint took",
                )?,
                lost: counter(
                    "pharos_querier_rule_samples_lost_total",
                    "Samples that the remote write endpoint refused or could not be sent",
                )?,
                again: counter(
                    "pharos_querier_rule_samples_retries_total",
                    "Requests of remote write that were tried again",
                )?,
            },
        })
    }

    /// Of one Alertmanager, by host and port.
    pub(crate) fn of_alertmanager(&self, name: &str) -> OutboxMetrics {
        let [sent, lost, again] = &self.alerts;
        OutboxMetrics {
            sent: sent.with_label_values(&[name]),
            lost: lost.with_label_values(&[name]),
            again: again.with_label_values(&[name]),
        }
    }
}
