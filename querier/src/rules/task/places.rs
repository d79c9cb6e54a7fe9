//! Where alerts and samples go.

use std::time::Duration;

use model::TenantId;

use super::super::decide::{Decision, Written};
use super::super::evaluate::external_url;
use super::super::outbox::Outbox;
use super::super::wire;
use crate::run::Shared;

/// Alerts are worth sending for so long at least.
const ALERTS_FRESH_FOR_MIN: Duration = Duration::from_secs(30);

/// Where alerts and samples go.
#[derive(Debug, Default)]
pub(in super::super) struct Places {
    pub(in super::super) alertmanagers: Vec<Outbox>,
    pub(in super::super) remote_write: Option<Outbox>,
}

impl Places {
    pub(super) fn send(&self, shared: &Shared, tenant: &TenantId, decision: &Decision) {
        let url = external_url(&shared.config.rules_external_url);
        // After two tellings a newer one is in the line.
        let fresh_for = shared.config.rules_resend_delay.saturating_mul(2);
        let fresh_for = fresh_for.max(ALERTS_FRESH_FOR_MIN);
        if !self.alertmanagers.is_empty() {
            for post in wire::alerts(tenant, &decision.notices, url, fresh_for) {
                for alertmanager in &self.alertmanagers {
                    alertmanager.put(post.clone());
                }
            }
        }
        self.write(tenant, &decision.samples);
    }

    pub(super) fn write(&self, tenant: &TenantId, samples: &[Written]) {
        if let Some(remote) = &self.remote_write {
            for post in wire::samples(tenant, samples) {
                remote.put(post);
            }
        }
    }
}
